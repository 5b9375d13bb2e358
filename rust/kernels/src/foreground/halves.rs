//! Counts of lower halves in chosen buckets: what the census leaves open.

use multiversion::multiversion;

use super::scan::Scan;
use super::word::Word;
use super::{PURPOSE, ranks};
use crate::error::Result;
use crate::memory;

/// Most buckets that ranks can lie in: two neighbouring ones of each percentile, the extremes' neighbours among them.
const MOST: usize = 2 * ranks::PERCENTS.len();

/// Values that are asked for a bucket together.
const TOGETHER: usize = 32;

/// Values in the buckets that are remembered before they are counted.
const REMEMBERED: usize = 1 << 15;

/// How often each lower half occurs in the buckets of the given orders, at most [`MOST`].
///
/// # Errors
/// The system refuses the memory.
pub fn count<W: Word, T: Copy + Default + Into<W> + Send + Sync>(
    scan: &Scan<'_, T>,
    orders: &[u16],
) -> Result<Vec<Vec<u64>>> {
    let Some(first) = orders.first() else { return Ok(Vec::new()) };
    let upper = |order: &u16| u32::from(W::upper(*order));
    let uppers: [u32; MOST] = std::array::from_fn(|i| upper(orders.get(i).unwrap_or(first)));
    let pieces = scan.fold(
        || Ok(Found { hits: memory::reserved(REMEMBERED, PURPOSE)?, counts: Vec::new() }),
        |found, values: &[T]| {
            // No more than these are found: then the search takes no memory.
            memory::reserve(&mut found.hits, values.len(), PURPOSE)?;
            find::<W, T>(&mut found.hits, &uppers, values);
            if found.hits.len() > REMEMBERED { found.count(&uppers[..orders.len()]) } else { Ok(()) }
        },
        |mut found| {
            found.count(&uppers[..orders.len()])?;
            Ok(found.counts)
        },
    )?;
    let add = |mut all: Vec<Vec<u64>>, piece: Vec<Vec<u64>>| {
        for (all, piece) in all.iter_mut().zip(piece) {
            all.iter_mut().zip(piece).for_each(|(all, count)| *all += count);
        }
        all
    };
    pieces.into_iter().reduce(add).map_or_else(|| no_counts(orders.len()), Ok)
}

fn no_counts(buckets: usize) -> Result<Vec<Vec<u64>>> {
    memory::collected_results((0..buckets).map(|_| memory::vector(1 << 16, 0, PURPOSE)), PURPOSE)
}

/// What was found in the buckets.
struct Found {
    hits: Vec<u32>,        // whole words, in any order
    counts: Vec<Vec<u64>>, // per bucket and lower half; none while nothing was counted
}

impl Found {
    /// Counts the hits and forgets them.
    ///
    /// # Errors
    /// The system refuses the memory.
    fn count(&mut self, uppers: &[u32]) -> Result<()> {
        if self.counts.is_empty() {
            self.counts = no_counts(uppers.len())?;
        }
        for bits in self.hits.drain(..) {
            if let Some((counts, _)) = self.counts.iter_mut().zip(uppers).find(|(_, upper)| bits >> 16 == **upper) {
                counts[(bits & 0xffff) as usize] += 1;
            }
        }
        Ok(())
    }
}

/// Appends the values in the buckets. They are few: most groups are passed over after a comparison in registers.
#[multiversion(targets = "simd")]
fn find<W: Word, T: Copy + Into<W>>(hits: &mut Vec<u32>, uppers: &[u32; MOST], values: &[T]) {
    let (groups, rest) = values.as_chunks::<TOGETHER>();
    let is_wanted = |bits: u32| uppers.iter().fold(0, |hit, upper| hit | u32::from(bits >> 16 == *upper));
    for group in groups {
        let bits = group.map(|value| value.into().bits());
        if bits.iter().fold(0, |hit, bits| hit | is_wanted(*bits)) != 0 {
            hits.extend(bits.iter().filter(|bits| is_wanted(**bits) != 0));
        }
    }
    let bits = rest.iter().map(|value| (*value).into().bits());
    hits.extend(bits.filter(|bits| is_wanted(*bits) != 0));
}

/// The `rank`th lower half of those counted, in ascending order of halves.
pub fn nth(counts: impl IntoIterator<Item = (usize, u64)>, mut rank: u64) -> u16 {
    for (low, count) in counts {
        if rank < count {
            return low as u16;
        }
        rank -= count;
    }
    unreachable!("ranks are below the number of voxels in the bucket")
}
