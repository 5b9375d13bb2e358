//! The lower halves that occur in one bucket, with their counts, in little memory.

use super::{PURPOSE, halves};
use crate::error::Result;
use crate::memory::{self, Table, table};

/// Distinct halves beyond which a table takes less memory than a list.
const MOST_LISTED: usize = 1 << 15;

impl Default for Lows {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// How often each lower half occurs in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lows {
    /// Half and count, ascending.
    Listed(Vec<(u16, u32)>),
    /// A count for every half.
    Table(Table<u32>),
}

impl Lows {
    /// The halves of some voxels, in any order.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn of(mut halves: Vec<u16>) -> Result<Self> {
        halves.sort_unstable();
        let mut listed: Vec<(u16, u32)> = Vec::new();
        for half in halves {
            match listed.last_mut() {
                Some((last, count)) if *last == half => *count += 1,
                _ => memory::push(&mut listed, (half, 1), PURPOSE)?,
            }
        }
        listed.shrink_to_fit();
        Ok(Self::Listed(listed))
    }

    /// The halves of an ascending list.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn from_list(listed: Vec<(u16, u32)>) -> Result<Self> {
        if listed.len() <= MOST_LISTED {
            return Ok(Self::Listed(listed));
        }
        let mut counts = Self::table()?;
        listed.iter().for_each(|&(half, count)| counts[usize::from(half)] = count);
        Ok(Self::Table(counts))
    }

    /// No halves yet, as a table.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn table() -> Result<Table<u32>> {
        table(PURPOSE)
    }

    /// A copy.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn copied(&self) -> Result<Self> {
        match self {
            Self::Listed(listed) => memory::collected(listed.iter().copied(), PURPOSE).map(Self::Listed),
            Self::Table(counts) => {
                let mut copy = Self::table()?;
                copy.copy_from_slice(&counts[..]);
                Ok(Self::Table(copy))
            }
        }
    }

    /// Upper bound of the bytes that `count` voxels take.
    pub fn bytes_of(count: u64) -> usize {
        (count as usize).min(MOST_LISTED) * size_of::<(u16, u32)>()
    }

    /// Whether `count` voxels are better counted in a table from the start.
    pub const fn fill_a_table(count: u64) -> bool {
        count as usize > MOST_LISTED
    }

    /// Bytes in use.
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Listed(listed) => listed.len() * size_of::<(u16, u32)>(),
            Self::Table(_) => size_of::<[u32; 1 << 16]>(),
        }
    }

    /// Halves that occur, and their counts, ascending.
    pub fn iter(&self) -> Box<dyn Iterator<Item = (u16, u32)> + '_> {
        match self {
            Self::Listed(listed) => Box::new(listed.iter().copied()),
            Self::Table(table) => Box::new((0..=u16::MAX).zip(table.iter().copied()).filter(|&(_, count)| count > 0)),
        }
    }

    /// The `rank`th half.
    pub fn nth(&self, rank: u64) -> u16 {
        halves::nth(self.iter().map(|(half, count)| (half.into(), count.into())), rank)
    }

    /// Voxels.
    pub fn count(&self) -> u64 {
        self.iter().map(|(_, count)| u64::from(count)).sum()
    }

    /// Both together; `None` where a count outgrows its 32 bits, or memory is refused.
    pub fn merged(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Listed(a), Self::Listed(b)) => merge_lists(&a, &b).and_then(|both| Self::from_list(both).ok()),
            (Self::Table(mut table), other) | (other, Self::Table(mut table)) => {
                for (half, count) in other.iter() {
                    let cell = &mut table[usize::from(half)];
                    *cell = cell.checked_add(count)?;
                }
                Some(Self::Table(table))
            }
        }
    }
}

fn merge_lists(a: &[(u16, u32)], b: &[(u16, u32)]) -> Option<Vec<(u16, u32)>> {
    let mut both = memory::reserved(a.len() + b.len(), PURPOSE).ok()?;
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    while let (Some(&(left, m)), Some(&(right, n))) = (a.peek(), b.peek()) {
        if left == right {
            both.push((left, m.checked_add(n)?));
        } else {
            both.push(if left < right { (left, m) } else { (right, n) });
        }
        a.next_if(|_| left <= right);
        b.next_if(|_| right <= left);
    }
    both.extend(a.chain(b));
    both.shrink_to_fit();
    Some(both)
}
