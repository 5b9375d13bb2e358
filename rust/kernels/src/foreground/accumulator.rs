//! Statistics of a whole dataset, case by case, in bounded memory.
//!
//! Beside the census of all cases an accumulator keeps the lower halves of every bucket: then a percentile needs no
//! second look. Integer-valued images, CT above all, never hold more than a few thousand of them. Where true floats
//! outgrow the memory, buckets far from the percentiles go first, and a percentile that falls into one of those after
//! all asks for a second pass over the cases ([`Outline::again`]). Either way the result is exact, and the same
//! for any order of cases and merges.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::ArrayViewD;
use rayon::prelude::*;

use super::census::Census;
use super::lows::Lows;
use super::scan::{Mask, Scan};
use super::word::Word;
use super::{ChannelStats, halves, in_channel, ranks};
use crate::error::{KernelError, Result};

/// A type whose values are `f32`s.
pub trait Single: Copy + Default + Into<f32> + Send + Sync + 'static {}

impl<T: Copy + Default + Into<f32> + Send + Sync + 'static> Single for T {}

/// Foreground statistics in the making.
#[derive(Debug, Clone, PartialEq)]
pub struct Accumulator {
    /// Bytes that the lower halves of a channel may take.
    pub(super) memory: usize,
    pub(super) channels: Vec<Channel>,
}

/// What is known of one channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Channel {
    pub census: Census<f32>,
    /// Lower halves by order of the bucket; a bucket of the census that is missing here was dropped.
    pub lows: BTreeMap<u16, Lows>,
    /// Counts of lower halves in dropped buckets, from the second pass.
    pub again: BTreeMap<u16, Vec<u64>>,
}

/// What a case needs to know of the accumulator that it will be merged into.
pub struct Outline {
    memory: usize,
    dropped: Vec<BTreeSet<u16>>, // buckets whose lower halves are not kept, by channel
    needed: Vec<Vec<u16>>,       // those of them that hold a percentile
}

impl Accumulator {
    /// An accumulator of no cases, whose lower halves may take `memory` bytes in all.
    ///
    /// # Errors
    /// `channels` is 0 or beyond 65535.
    pub fn new(channels: usize, memory: usize) -> Result<Self> {
        if !(1..=usize::from(u16::MAX)).contains(&channels) {
            return Err(KernelError::argument("channels", format!("be between 1 and {}", u16::MAX), channels));
        }
        Ok(Self { memory: memory / channels, channels: (0..channels).map(|_| Channel::new()).collect() })
    }

    /// What [`Outline::case`] and [`Outline::again`] need.
    pub fn outline(&self) -> Outline {
        let dropped = self.channels.iter().map(|channel| channel.dropped().collect()).collect();
        let needed = self.channels.iter().map(Channel::needed_again).collect();
        Outline { memory: self.memory, dropped, needed }
    }

    /// Adds all cases of `other`.
    ///
    /// # Errors
    /// The numbers of channels differ.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        if self.channels.len() != other.channels.len() {
            let rule = format!("have {} channels", self.channels.len());
            return Err(KernelError::argument("other", rule, other.channels.len()));
        }
        let memory = self.memory;
        self.channels.iter_mut().zip(other.channels).for_each(|(channel, other)| channel.merge(other, memory));
        Ok(())
    }

    /// Whether a percentile needs a second pass: [`Outline::again`] with every case, merged.
    pub fn is_pending(&self) -> bool {
        self.channels.iter().any(|channel| !channel.open_buckets().is_empty())
    }

    /// Exact statistics of all cases, a row a channel.
    ///
    /// # Errors
    /// There was no foreground, or a second pass is needed and has not seen every case exactly once.
    pub fn finish(&self) -> Result<Vec<ChannelStats>> {
        self.channels.iter().map(Channel::finish).collect()
    }
}

impl Outline {
    /// One case as an accumulator of its own, without the buckets that were dropped already. A case without foreground
    /// adds nothing.
    ///
    /// # Errors
    /// The shapes differ, the image has another number of channels, or a foreground voxel is NaN or infinite.
    pub fn case<T: Single>(&self, image: ArrayViewD<'_, T>, mask: &Mask<'_>) -> Result<Accumulator> {
        let scans = scans(image, mask, self.dropped.len())?;
        let channels = scans.par_iter().zip(&self.dropped).enumerate().map(|(index, (scan, dropped))| {
            Channel::of_case(scan, dropped, self.memory).map_err(|error| in_channel(error, index))
        });
        Ok(Accumulator { memory: self.memory, channels: channels.collect::<Result<_>>()? })
    }

    /// The second pass over one case: what percentiles still need, often nothing, to be merged as a case is.
    ///
    /// # Errors
    /// The shapes differ, or the image has another number of channels.
    pub fn again<T: Single>(&self, image: ArrayViewD<'_, T>, mask: &Mask<'_>) -> Result<Accumulator> {
        let scans = scans(image, mask, self.needed.len())?;
        let channels = scans.iter().zip(&self.needed).map(|(scan, needed)| {
            let counts = halves::count::<f32, T>(scan, needed);
            Channel { again: needed.iter().copied().zip(counts).collect(), ..Channel::new() }
        });
        Ok(Accumulator { memory: self.memory, channels: channels.collect() })
    }
}

fn scans<'a, T: Single>(image: ArrayViewD<'a, T>, mask: &'a Mask<'_>, channels: usize) -> Result<Vec<Scan<'a, T>>> {
    let scans = mask.channels(image)?;
    if scans.len() != channels {
        return Err(KernelError::argument("image", format!("have {channels} channels"), scans.len()));
    }
    Ok(scans)
}

impl Channel {
    fn new() -> Self {
        Self { census: Census::empty(), lows: BTreeMap::new(), again: BTreeMap::new() }
    }

    fn of_case<T: Single>(scan: &Scan<'_, T>, dropped: &BTreeSet<u16>, memory: usize) -> Result<Self> {
        let census = Census::take(scan);
        census.check_finite()?;
        let sizes = census.buckets.iter().map(|&(order, moments)| (order, Lows::bytes_of(moments.count)));
        let kept = nearest_buckets(&census, &sizes.collect(), memory);
        let lows = gather(scan, &census, kept.difference(dropped).copied().collect());
        Ok(Self { census, lows, again: BTreeMap::new() })
    }

    /// Buckets of the census without lower halves.
    fn dropped(&self) -> impl Iterator<Item = u16> {
        self.census.buckets.iter().map(|&(order, _)| order).filter(|order| !self.lows.contains_key(order))
    }

    fn merge(&mut self, mut other: Self, memory: usize) {
        for order in self.dropped().collect::<Vec<_>>() {
            other.lows.remove(&order);
        }
        for order in other.dropped() {
            self.lows.remove(&order);
        }
        for (order, theirs) in other.lows {
            let both = match self.lows.remove(&order) {
                Some(ours) => ours.merged(theirs),
                None => Some(theirs),
            };
            both.and_then(|both| self.lows.insert(order, both));
        }
        for (order, counts) in other.again {
            add_counts(self.again.entry(order).or_insert_with(|| vec![0; 1 << 16]), &counts);
        }
        self.census.merge(other.census);
        self.forget(memory);
    }

    /// Drops buckets, the farthest from the percentiles first, until the rest takes at most `memory`.
    fn forget(&mut self, memory: usize) {
        let sizes: BTreeMap<u16, usize> = self.lows.iter().map(|(&order, lows)| (order, lows.bytes())).collect();
        if sizes.values().sum::<usize>() > memory {
            let kept = nearest_buckets(&self.census, &sizes, memory);
            self.lows.retain(|order, _| kept.contains(order));
        }
    }

    /// Buckets that hold a percentile and were dropped.
    fn needed_again(&self) -> Vec<u16> {
        self.census.needed_buckets().into_iter().filter(|order| !self.lows.contains_key(order)).collect()
    }

    /// Those that the second pass has not settled either.
    fn open_buckets(&self) -> Vec<u16> {
        let counted = |order: &u16| self.again.get(order).map_or(0, |counts| counts.iter().sum::<u64>());
        self.needed_again().into_iter().filter(|order| counted(order) != self.census.moments(*order).count).collect()
    }

    fn finish(&self) -> Result<ChannelStats> {
        self.census.check()?;
        let open = self.open_buckets();
        if !open.is_empty() {
            let rule = "be shown to refine() once each before finish(): their values outgrew the memory";
            return Err(KernelError::argument("cases", rule, format!("{} intensity ranges still open", open.len())));
        }
        Ok(self.census.statistics(|order, rank| match self.lows.get(&order) {
            Some(lows) => lows.nth(rank),
            None => halves::nth(self.again[&order].iter().copied().enumerate(), rank),
        }))
    }
}

fn add_counts(total: &mut [u64], counts: &[u64]) {
    total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
}

/// The lower halves in the buckets of some orders.
fn gather<T: Single>(scan: &Scan<'_, T>, census: &Census<f32>, orders: Vec<u16>) -> BTreeMap<u16, Lows> {
    enum Place {
        List(Vec<u16>),
        Table(Box<[u32; 1 << 16]>),
    }
    let place = |order: &u16| match census.moments(*order).count {
        count if Lows::fill_a_table(count) => Place::Table(Lows::table()),
        count => Place::List(Vec::with_capacity(count as usize)),
    };
    let mut slots = vec![u32::MAX; 1 << 16];
    (0..).zip(&orders).for_each(|(slot, &order)| slots[usize::from(f32::upper(order))] = slot);
    let places = scan.fold_here(orders.iter().map(place).collect::<Vec<_>>(), |places, values| {
        for &value in values {
            let bits = value.into().to_bits();
            match places.get_mut(slots[(bits >> 16) as usize] as usize) {
                Some(Place::List(halves)) => halves.push(bits as u16),
                Some(Place::Table(table)) => table[usize::from(bits as u16)] += 1,
                None => {}
            }
        }
    });
    let lows = places.into_iter().map(|place| match place {
        Place::List(halves) => Lows::of(halves),
        Place::Table(table) => Lows::Table(table),
    });
    orders.into_iter().zip(lows).collect()
}

/// As many of the buckets with these `sizes` as `memory` holds, the nearest to a percentile first. Nearness is in
/// log-odds of the cumulative frequency, in which the tails are as wide as the middle.
fn nearest_buckets(census: &Census<f32>, sizes: &BTreeMap<u16, usize>, memory: usize) -> BTreeSet<u16> {
    let total = census.count() as f64;
    let log_odds = |below: f64| ((below + 0.5) / (total - below + 0.5)).ln();
    let distance = |(first, last): (f64, f64)| {
        let to = |target: f64| (log_odds(first) - target).max(target - log_odds(last)).max(0.0);
        ranks::INNER.map(|percent| to(log_odds(percent / 100.0 * total))).into_iter().fold(f64::INFINITY, f64::min)
    };
    let mut buckets: Vec<(f64, u16)> = census.spans().map(|(order, span)| (distance(span), order)).collect();
    buckets.sort_unstable_by(|a, b| a.partial_cmp(b).expect("distances are numbers"));
    let mut used = 0;
    let fits = |&(_, order): &(f64, u16)| {
        used += sizes.get(&order).copied().unwrap_or(0);
        used <= memory
    };
    buckets.into_iter().take_while(fits).map(|(_, order)| order).collect()
}
