//! Statistics of a whole dataset, case by case, in bounded memory.
//!
//! Beside the census of all cases an accumulator keeps the lower halves of every bucket: then a percentile needs no
//! second look. Integer-valued images, CT above all, never hold more than a few thousand of them. Where true floats
//! outgrow the memory, buckets far from the percentiles go first, and a percentile that falls into one of those after
//! all asks for a second pass over the cases ([`Outline::again`]). Either way the result is exact, and the same
//! for any order of cases and merges.

use ndarray::ArrayViewD;
use rayon::prelude::*;

use super::by_order::ByOrder;
use super::census::Census;
use super::lows::Lows;
use super::scan::{MOST_CHANNELS, Mask, Scan};
use super::word::Word;
use super::{ChannelStats, PURPOSE, halves, in_channel, ranks};
use crate::error::{KernelError, Result, counted};
use crate::memory::{self, Table};

/// A type whose values are `f32`s.
pub trait Single: Copy + Default + Into<f32> + Send + Sync + 'static {}

impl<T: Copy + Default + Into<f32> + Send + Sync + 'static> Single for T {}

/// Foreground statistics in the making.
#[derive(Debug, PartialEq)]
pub struct Accumulator {
    /// Bytes that the lower halves of a channel may take.
    pub(super) memory: usize,
    pub(super) channels: Vec<Channel>,
}

/// What is known of one channel.
#[derive(Debug, PartialEq)]
pub(super) struct Channel {
    pub census: Census<f32>,
    /// Lower halves by order of the bucket; a bucket of the census that is missing here was dropped.
    pub lows: ByOrder<Lows>,
    /// Counts of lower halves in dropped buckets, from the second pass.
    pub again: ByOrder<Vec<u64>>,
}

/// What a case needs to know of the accumulator that it will be merged into.
pub struct Outline {
    memory: usize,
    dropped: Vec<Vec<u16>>, // buckets whose lower halves are not kept, ascending, by channel
    needed: Vec<Vec<u16>>,  // those of them that hold a percentile
}

impl Accumulator {
    /// An accumulator of no cases, whose lower halves may take `memory` bytes in all.
    ///
    /// # Errors
    /// `channels` is 0 or beyond 65535; memory refused.
    pub fn new(channels: usize, memory: usize) -> Result<Self> {
        if !(1..=MOST_CHANNELS).contains(&channels) {
            return Err(KernelError::value("channels", format!("be between 1 and {MOST_CHANNELS}"), channels));
        }
        let memory = memory / channels;
        Ok(Self { memory, channels: memory::collected((0..channels).map(|_| Channel::new()), PURPOSE)? })
    }

    /// A copy.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn copied(&self) -> Result<Self> {
        let channels = memory::collected_results(self.channels.iter().map(Channel::copied), PURPOSE)?;
        Ok(Self { memory: self.memory, channels })
    }

    /// What [`Outline::case`] and [`Outline::again`] need.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn outline(&self) -> Result<Outline> {
        let dropped = memory::collected_results(self.channels.iter().map(Channel::dropped), PURPOSE)?;
        let needed = memory::collected(self.channels.iter().map(Channel::needed_again), PURPOSE)?;
        Ok(Outline { memory: self.memory, dropped, needed })
    }

    /// Adds all cases of `other`.
    ///
    /// # Errors
    /// The numbers of channels differ, or memory is refused; nothing is added then.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        if self.channels.len() != other.channels.len() {
            let rule = format!("have {}", counted(self.channels.len(), "channel"));
            return Err(KernelError::value("other", rule, other.channels.len()));
        }
        let memory = self.memory;
        self.channels.iter_mut().zip(&other.channels).try_for_each(|(channel, other)| channel.reserve(other))?;
        self.channels.iter_mut().zip(other.channels).for_each(|(channel, other)| channel.merge(other, memory));
        Ok(())
    }

    /// Whether a percentile needs a second pass: [`Outline::again`] with every case, merged.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.channels.iter().any(|channel| !channel.open_buckets().is_empty())
    }

    /// Exact statistics of all cases, a row a channel.
    ///
    /// # Errors
    /// There was no foreground, or a second pass is needed and has not seen every case exactly once.
    pub fn finish(&self) -> Result<Vec<ChannelStats>> {
        memory::collected_results(self.channels.iter().map(Channel::finish), PURPOSE)
    }
}

impl Outline {
    /// One case as an accumulator of its own, without the buckets that were dropped already. A case without foreground
    /// adds nothing.
    ///
    /// # Errors
    /// The shapes differ, the image has another number of channels, or a foreground voxel is NaN or infinite; memory
    /// refused.
    pub fn case<T: Single>(&self, image: ArrayViewD<'_, T>, mask: &Mask<'_>) -> Result<Accumulator> {
        let scans = scans(image, mask, self.dropped.len())?;
        let mut channels = memory::collected(scans.iter().map(|_| Ok(Channel::new())), PURPOSE)?;
        let work = channels.par_iter_mut().zip(&scans).zip(&self.dropped).enumerate();
        work.for_each(|(index, ((channel, scan), dropped))| {
            *channel = Channel::of_case(scan, dropped, self.memory).map_err(|error| in_channel(error, index));
        });
        Ok(Accumulator { memory: self.memory, channels: memory::collected_results(channels.into_iter(), PURPOSE)? })
    }

    /// The second pass over one case: what percentiles still need, often nothing, to be merged as a case is.
    ///
    /// # Errors
    /// The shapes differ, or the image has another number of channels; memory refused.
    pub fn again<T: Single>(&self, image: ArrayViewD<'_, T>, mask: &Mask<'_>) -> Result<Accumulator> {
        let scans = scans(image, mask, self.needed.len())?;
        let channels = scans.iter().zip(&self.needed).map(|(scan, needed)| {
            let counts = halves::count::<f32, T>(scan, needed)?;
            let again = memory::collected(needed.iter().copied().zip(counts), PURPOSE)?;
            Ok(Channel { again: ByOrder::ascending(again), ..Channel::new() })
        });
        Ok(Accumulator { memory: self.memory, channels: memory::collected_results(channels, PURPOSE)? })
    }
}

fn scans<'a, T: Single>(image: ArrayViewD<'a, T>, mask: &'a Mask<'_>, channels: usize) -> Result<Vec<Scan<'a, T>>> {
    let scans = mask.channels(image)?;
    if scans.len() != channels {
        return Err(KernelError::shape("image", format!("have {}", counted(channels, "channel")), scans.len()));
    }
    Ok(scans)
}

impl Channel {
    fn new() -> Self {
        Self { census: Census::empty(), lows: ByOrder::default(), again: ByOrder::default() }
    }

    fn of_case<T: Single>(scan: &Scan<'_, T>, dropped: &[u16], memory: usize) -> Result<Self> {
        let census = Census::take(scan)?;
        census.check_finite()?;
        let sizes = census.buckets.iter().map(|&(order, moments)| (order, Lows::bytes_of(moments.count)));
        let mut kept = nearest_buckets(&census, &memory::collected(sizes, PURPOSE)?, memory)?;
        kept.retain(|order| dropped.binary_search(order).is_err());
        let lows = gather(scan, &census, kept)?;
        Ok(Self { census, lows, again: ByOrder::default() })
    }

    fn copied(&self) -> Result<Self> {
        let counts = |counts: &Vec<u64>| memory::collected(counts.iter().copied(), PURPOSE);
        let (lows, again) = (self.lows.copied(Lows::copied)?, self.again.copied(counts)?);
        Ok(Self { census: self.census.copied()?, lows, again })
    }

    /// Buckets of the census without lower halves, ascending.
    fn dropped(&self) -> Result<Vec<u16>> {
        let mut dropped = memory::reserved(self.census.buckets.len(), PURPOSE)?;
        dropped
            .extend(self.census.buckets.iter().map(|bucket| bucket.0).filter(|&order| self.lows.get(order).is_none()));
        Ok(dropped)
    }

    /// Makes room for what [`Self::merge`] adds.
    fn reserve(&mut self, other: &Self) -> Result<()> {
        self.census.reserve(&other.census)?;
        self.lows.reserve(&other.lows)?;
        self.again.reserve(&other.again)
    }

    /// Adds another channel, for which [`Self::reserve`] made room. Lower halves for which there is no memory are dropped.
    fn merge(&mut self, mut other: Self, memory: usize) {
        let Self { census, lows, again } = self;
        other.lows.retain(|order| !census.has(order) || lows.get(order).is_some());
        lows.retain(|order| !other.census.has(order) || other.lows.get(order).is_some());
        lows.merge(other.lows, Lows::merged);
        again.merge(other.again, |mut total, counts| {
            add_counts(&mut total, &counts);
            Some(total)
        });
        census.merge(other.census);
        self.forget(memory);
    }

    /// Drops buckets, the farthest from the percentiles first, until the rest takes at most `memory`.
    fn forget(&mut self, memory: usize) {
        if self.lows.iter().map(|(_, lows)| lows.bytes()).sum::<usize>() > memory {
            let sizes = memory::collected(self.lows.iter().map(|(order, lows)| (order, lows.bytes())), PURPOSE);
            // Where there is no memory to choose, all go.
            let kept = sizes.and_then(|sizes| nearest_buckets(&self.census, &sizes, memory)).unwrap_or_default();
            self.lows.retain(|order| kept.binary_search(&order).is_ok());
        }
    }

    /// Buckets that hold a percentile and were dropped.
    fn needed_again(&self) -> Vec<u16> {
        self.census.needed_buckets().into_iter().filter(|&order| self.lows.get(order).is_none()).collect()
    }

    /// Those that the second pass has not settled either.
    fn open_buckets(&self) -> Vec<u16> {
        let counted = |order: &u16| self.again.get(*order).map_or(0, |counts| counts.iter().sum::<u64>());
        self.needed_again().into_iter().filter(|order| counted(order) != self.census.moments(*order).count).collect()
    }

    fn finish(&self) -> Result<ChannelStats> {
        self.census.check()?;
        let open = self.open_buckets();
        if !open.is_empty() {
            let rule = "be shown to refine() once each before finish(): their values outgrew the memory";
            let got = counted(open.len(), "intensity range") + " still open";
            return Err(KernelError::state("cases", rule, got));
        }
        Ok(self.census.statistics(|order, rank| match self.lows.get(order) {
            Some(lows) => lows.nth(rank),
            None => halves::nth(self.again.get(order).into_iter().flatten().copied().enumerate(), rank),
        }))
    }
}

fn add_counts(total: &mut [u64], counts: &[u64]) {
    total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
}

/// The lower halves in the buckets of some orders.
fn gather<T: Single>(scan: &Scan<'_, T>, census: &Census<f32>, orders: Vec<u16>) -> Result<ByOrder<Lows>> {
    enum Place {
        List(Vec<u16>),
        Table(Table<u32>),
    }
    let place = |order: &u16| match census.moments(*order).count {
        count if Lows::fill_a_table(count) => Lows::table().map(Place::Table),
        count => memory::reserved(count as usize, PURPOSE).map(Place::List),
    };
    let mut slots = memory::vector(1 << 16, u32::MAX, PURPOSE)?;
    (0..).zip(&orders).for_each(|(slot, &order)| slots[usize::from(f32::upper(order))] = slot);
    let places = memory::collected_results(orders.iter().map(place), PURPOSE)?;
    let places = scan.fold_here(places, |places, values| {
        for &value in values {
            let bits = value.into().to_bits();
            match places.get_mut(slots[(bits >> 16) as usize] as usize) {
                Some(Place::List(halves)) => halves.push(bits as u16),
                Some(Place::Table(table)) => table[usize::from(bits as u16)] += 1,
                None => {}
            }
        }
        Ok(())
    })?;
    let lows = places.into_iter().map(|place| match place {
        Place::List(halves) => Lows::of(halves),
        Place::Table(table) => Ok(Lows::Table(table)),
    });
    let lows = orders.into_iter().zip(lows).map(|(order, lows)| Ok((order, lows?)));
    memory::collected_results(lows, PURPOSE).map(ByOrder::ascending)
}

/// As many of the buckets with these `sizes`, ascending, as `memory` holds, the nearest to a percentile first; ascending. Nearness is in
/// log-odds of the cumulative frequency, in which the tails are as wide as the middle.
fn nearest_buckets(census: &Census<f32>, sizes: &[(u16, usize)], memory: usize) -> Result<Vec<u16>> {
    let total = census.count() as f64;
    let log_odds = |below: f64| ((below + 0.5) / (total - below + 0.5)).ln();
    let distance = |(first, last): (f64, f64)| {
        let to = |target: f64| (log_odds(first) - target).max(target - log_odds(last)).max(0.0);
        ranks::INNER.map(|percent| to(log_odds(percent / 100.0 * total))).into_iter().fold(f64::INFINITY, f64::min)
    };
    let spans = census.spans().map(|(order, span)| (distance(span), order));
    let mut buckets = memory::gathered(spans, census.buckets.len(), PURPOSE)?;
    buckets.sort_unstable_by(|a, b| a.partial_cmp(b).expect("distances are numbers"));
    let mut used = 0;
    let mut fits = |&(_, order): &(f64, u16)| {
        used += sizes.binary_search_by_key(&order, |size| size.0).map_or(0, |at| sizes[at].1);
        used <= memory
    };
    let fitting = buckets.iter().take_while(|bucket| fits(bucket)).map(|&(_, order)| order);
    let mut kept = memory::gathered(fitting, buckets.len(), PURPOSE)?;
    kept.sort_unstable();
    Ok(kept)
}
