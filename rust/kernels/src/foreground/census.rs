//! 32-bit numbers counted by their upper half, with the moments of the lower halves.
//!
//! A voxel adds `1, low` to one 64-bit cell and `low²` to the next: count, sum and sum of squares of a channel are exact
//! and cost two additions a voxel. A second look at the few buckets that hold a percentile finds its lower half
//! ([`super::halves`]).

use std::marker::PhantomData;

use multiversion::multiversion;

use super::halves;
use super::scan::Scan;
use super::sum::Sum;
use super::word::{Bucket, Word};
use super::{ChannelStats, PURPOSE, no_foreground, not_finite, ranks};
use crate::error::Result;
use crate::memory;

/// Count and moments of the lower halves in one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moments {
    /// Voxels.
    pub count: u64,
    /// Sum of lower halves.
    pub first: u64,
    /// Sum of their squares.
    pub second: u128,
}

impl Moments {
    const fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.first += other.first;
        self.second += other.second;
    }

    /// Sum of squared deviations from the bucket's own mean; exact up to the last division.
    fn spread(&self) -> f64 {
        let (count, first) = (u128::from(self.count), u128::from(self.first));
        (count * self.second - first * first) as f64 / self.count as f64
    }
}

/// Moments of every bucket that holds a voxel, and the extremes.
#[derive(Debug, Clone, PartialEq)]
pub struct Census<W> {
    /// Buckets by their order among values.
    pub buckets: Vec<(u16, Moments)>,
    /// Least and greatest value.
    pub extremes: (f64, f64),
    word: PhantomData<W>,
}

/// Statistics in two passes: the census, then the lower halves in the buckets that hold a percentile.
pub fn statistics<W: Word, T: Copy + Default + Into<W> + Send + Sync>(scan: &Scan<'_, T>) -> Result<ChannelStats> {
    let census = Census::<W>::take(scan)?;
    census.check()?;
    let wanted = census.needed_buckets();
    let counts = halves::count::<W, T>(scan, &wanted)?;
    Ok(census.statistics(|order, rank| {
        let slot = wanted.binary_search(&order).expect("every needed bucket was counted");
        halves::nth(counts[slot].iter().copied().enumerate(), rank)
    }))
}

impl<W: Word> Census<W> {
    /// A census of no voxels.
    pub fn empty() -> Self {
        Self::new(Vec::new(), (f64::INFINITY, f64::NEG_INFINITY))
    }

    /// A census of the given buckets, in any order.
    pub fn new(buckets: Vec<(u16, Moments)>, extremes: (f64, f64)) -> Self {
        let mut census = Self { buckets, extremes, word: PhantomData };
        census.collapse();
        census
    }

    /// The census of one channel's foreground.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn take<T: Copy + Default + Into<W> + Send + Sync>(scan: &Scan<'_, T>) -> Result<Self> {
        let pieces = scan.fold(Tally::<W>::new, |tally, values: &[T]| tally.add(values), Tally::census)?;
        let mut census = Self::empty();
        for piece in pieces {
            census.extremes = widest(census.extremes, piece.extremes);
            memory::append(&mut census.buckets, piece.buckets.into_iter(), PURPOSE)?;
        }
        census.collapse();
        Ok(census)
    }

    /// A copy.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn copied(&self) -> Result<Self> {
        let buckets = memory::collected(self.buckets.iter().copied(), PURPOSE)?;
        Ok(Self { buckets, extremes: self.extremes, word: PhantomData })
    }

    /// Makes room for what [`Self::merge`] adds.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn reserve(&mut self, other: &Self) -> Result<()> {
        memory::reserve(&mut self.buckets, other.buckets.len(), PURPOSE)
    }

    /// Adds another census, for which [`Self::reserve`] made room.
    pub fn merge(&mut self, other: Self) {
        self.extremes = widest(self.extremes, other.extremes);
        self.buckets.extend(other.buckets);
        self.collapse();
    }

    /// Orders the buckets and adds those of the same order.
    fn collapse(&mut self) {
        self.buckets.sort_unstable_by_key(|&(order, _)| order);
        self.buckets.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1.add(&next.1);
            }
            same
        });
    }

    /// Voxels.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, moments)| moments.count).sum()
    }

    /// Refuses a foreground that is empty or has values that are no numbers.
    pub fn check(&self) -> Result<()> {
        if self.buckets.is_empty() { Err(no_foreground()) } else { self.check_finite() }
    }

    /// Refuses values that are no numbers.
    pub fn check_finite(&self) -> Result<()> {
        let bad = self.buckets.iter().filter(|(order, _)| !bucket::<W>(*order).finite);
        match bad.map(|(_, moments)| moments.count).sum() {
            0 => Ok(()),
            bad => Err(not_finite(bad)),
        }
    }

    /// Each bucket's order, and how many voxels lie below it and below its end.
    pub fn spans(&self) -> impl Iterator<Item = (u16, (f64, f64))> {
        self.buckets.iter().scan(0, |below, &(order, moments)| {
            let first = *below;
            *below += moments.count;
            Some((order, (first as f64, *below as f64)))
        })
    }

    /// Orders of the buckets whose lower halves the percentiles need, ascending. The extremes are known without.
    pub fn needed_buckets(&self) -> Vec<u16> {
        let Some(last) = self.count().checked_sub(1) else { return Vec::new() };
        let inner = ranks::needed(last + 1).filter(|&rank| rank != 0 && rank != last);
        let mut orders: Vec<u16> = inner.map(|rank| self.locate(rank).0).collect();
        orders.sort_unstable();
        orders.dedup();
        orders
    }

    /// The bucket that holds a rank, and the rank within it.
    fn locate(&self, mut rank: u64) -> (u16, u64) {
        for &(order, moments) in &self.buckets {
            if rank < moments.count {
                return (order, rank);
            }
            rank -= moments.count;
        }
        unreachable!("ranks are below the number of voxels")
    }

    /// The statistics, given a look-up of the lower half at a rank among those of the bucket of some order.
    pub fn statistics(&self, lower_half: impl Fn(u16, u64) -> u16) -> ChannelStats {
        let (count, (mean, std)) = (self.count(), self.mean_and_deviation());
        ranks::statistics(count, mean, std, |rank| match rank {
            0 => self.extremes.0,
            _ if rank == count - 1 => self.extremes.1,
            _ => {
                let (order, rank) = self.locate(rank);
                let bucket = bucket::<W>(order);
                let last = self.moments(order).count - 1;
                bucket.value(lower_half(order, if bucket.falls() { last - rank } else { rank }))
            }
        })
    }

    /// Whether a bucket holds a voxel.
    pub fn has(&self, order: u16) -> bool {
        self.buckets.binary_search_by_key(&order, |&(order, _)| order).is_ok()
    }

    /// The moments of a bucket; nothing where it is empty.
    pub fn moments(&self, order: u16) -> Moments {
        let found = self.buckets.binary_search_by_key(&order, |&(order, _)| order);
        found.map(|at| self.buckets[at].1).unwrap_or_default()
    }

    /// The mean of all voxels is that of the buckets; their squared deviations are those within buckets and those of
    /// the buckets' means. All terms of the latter are positive: nothing cancels.
    fn mean_and_deviation(&self) -> (f64, f64) {
        let (count, mut total, mut squares) = (self.count() as f64, Sum::default(), Sum::default());
        for &(order, moments) in &self.buckets {
            let Bucket { start, unit, .. } = bucket::<W>(order);
            total.add_scaled(i128::from(moments.count) * i128::from(start) + i128::from(moments.first), unit);
        }
        let (mean, rest) = total.divided(count);
        for &(order, moments) in &self.buckets {
            let (Bucket { start, unit, .. }, voxels) = (bucket::<W>(order), moments.count as f64);
            let offset = (start as f64 + moments.first as f64 / voxels) * unit - mean - rest;
            squares.add(moments.spread() * unit * unit);
            squares.add(voxels * offset * offset);
        }
        (mean, squares.divided(count).0.sqrt())
    }
}

fn bucket<W: Word>(order: u16) -> Bucket {
    W::bucket(W::upper(order))
}

/// The least and the greatest value.
#[multiversion(targets = "simd")]
fn extremes<W: Word, T: Copy + Into<W>>(values: &[T]) -> (f64, f64) {
    const LANES: usize = 32;
    let (mut least, mut greatest): ([W; LANES], [W; LANES]) = ([values[0].into(); LANES], [values[0].into(); LANES]);
    let (groups, rest) = values.as_chunks::<LANES>();
    for group in groups {
        let group = group.map(Into::into);
        least = std::array::from_fn(|i| if group[i] < least[i] { group[i] } else { least[i] });
        greatest = std::array::from_fn(|i| if group[i] > greatest[i] { group[i] } else { greatest[i] });
    }
    let rest = rest.iter().map(|value| (*value).into());
    let pairs = least.into_iter().zip(greatest).chain(rest.map(|value| (value, value)));
    pairs.map(|(least, greatest)| (least.into(), greatest.into())).fold((f64::INFINITY, f64::NEG_INFINITY), widest)
}

const fn widest(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    (a.0.min(b.0), a.1.max(b.1))
}

/// Bits of a cell below the count: room for 2^24 lower halves.
const COUNT_SHIFT: u32 = 40;

/// Voxels after which the cells are emptied, lest they overflow.
const MOST_PENDING: usize = 1 << 23;

/// The table in which a piece of a volume is counted, by upper half.
struct Tally<W> {
    cells: memory::Table<[u64; 2]>,
    pending: usize,
    census: Census<W>,
}

impl<W: Word> Tally<W> {
    fn new() -> Result<Self> {
        Ok(Self { cells: memory::table(PURPOSE)?, pending: 0, census: Census::empty() })
    }

    /// Counts some values.
    ///
    /// # Errors
    /// The system refuses the memory.
    fn add<T: Copy + Into<W>>(&mut self, values: &[T]) -> Result<()> {
        if self.pending + values.len() > MOST_PENDING {
            self.empty()?;
        }
        self.pending += values.len();
        self.census.extremes = widest(self.census.extremes, extremes::<W, T>(values));
        let cells = &mut *self.cells;
        for &value in values {
            let bits = value.into().bits();
            let (upper, low) = ((bits >> 16) as usize, u64::from(bits & 0xffff));
            cells[upper][0] += 1 << COUNT_SHIFT | low;
            cells[upper][1] += low * low;
        }
        Ok(())
    }

    /// Moves the cells' contents into the census.
    fn empty(&mut self) -> Result<()> {
        for order in 0..=u16::MAX {
            let [counts, squares] = std::mem::take(&mut self.cells[usize::from(W::upper(order))]);
            if counts != 0 {
                let first = counts & ((1 << COUNT_SHIFT) - 1);
                let moments = Moments { count: counts >> COUNT_SHIFT, first, second: squares.into() };
                memory::push(&mut self.census.buckets, (order, moments), PURPOSE)?;
            }
        }
        self.census.collapse();
        self.pending = 0;
        Ok(())
    }

    fn census(mut self) -> Result<Census<W>> {
        self.empty()?;
        Ok(self.census)
    }
}
