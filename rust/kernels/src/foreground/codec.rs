//! Accumulators as bytes, to be kept between runs or sent between machines.
//!
//! ```text
//! "nnunetfg" version:u32 memory:u64 channels:u32, then for each channel
//!     least:f64 greatest:f64
//!     buckets:u32  (order:u16 count:u64 first:u64 second:u128) each, orders ascending
//!     lows:u32     (order:u16 halves:u32 (half:u16 count:u32) each) each
//!     again:u32    (order:u16 halves:u32 (half:u16 count:u64) each) each
//! ```
//! All numbers are little-endian.

use super::PURPOSE;
use super::accumulator::{Accumulator, Channel};
use super::by_order::ByOrder;
use super::census::{Census, Moments};
use super::lows::Lows;
use crate::error::{KernelError, Result};
use crate::memory;

const MAGIC: &[u8; 8] = b"nnunetfg";
const VERSION: u32 = 1;

/// Counts beyond this could overflow a sum; no dataset has as many voxels.
const MOST_VOXELS: u64 = 1 << 40;

impl Accumulator {
    /// The accumulator as bytes.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut out = Writer(MAGIC.to_vec());
        out.number(VERSION.to_le_bytes())?;
        out.number((self.memory as u64).to_le_bytes())?;
        out.length(self.channels.len())?;
        self.channels.iter().try_for_each(|channel| out.channel(channel))?;
        Ok(out.0)
    }

    /// The accumulator that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// The bytes are none, of another version, cut short, or contradict themselves.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut input = Reader(bytes);
        if input.take(MAGIC.len())? != MAGIC {
            return Err(broken("begin with the mark of a foreground accumulator", "others"));
        }
        let version = u32::from_le_bytes(input.number()?);
        if version != VERSION {
            return Err(broken(&format!("be of version {VERSION}"), format!("version {version}")));
        }
        let memory = usize::try_from(u64::from_le_bytes(input.number()?)).unwrap_or(usize::MAX);
        let channels = input.list(Reader::channel)?;
        match input.0.len() {
            0 if !channels.is_empty() => Ok(Self { memory, channels }),
            rest => Err(broken("end after the last of at least one channel", format!("{rest} more bytes"))),
        }
    }
}

fn broken(rule: &str, got: impl Into<String>) -> KernelError {
    KernelError::damaged("bytes", rule, got)
}

struct Writer(Vec<u8>);

impl Writer {
    fn number<const N: usize>(&mut self, bytes: [u8; N]) -> Result<()> {
        memory::append(&mut self.0, bytes.into_iter(), PURPOSE)
    }

    fn length(&mut self, length: usize) -> Result<()> {
        self.number((length as u32).to_le_bytes())
    }

    fn channel(&mut self, channel: &Channel) -> Result<()> {
        let Channel { census, lows, again } = channel;
        self.number(census.extremes.0.to_le_bytes())?;
        self.number(census.extremes.1.to_le_bytes())?;
        self.length(census.buckets.len())?;
        for (order, moments) in &census.buckets {
            self.number(order.to_le_bytes())?;
            self.number(moments.count.to_le_bytes())?;
            self.number(moments.first.to_le_bytes())?;
            self.number(moments.second.to_le_bytes())?;
        }
        self.length(lows.len())?;
        for (order, lows) in lows.iter() {
            self.number(order.to_le_bytes())?;
            self.length(lows.iter().count())?;
            for (half, count) in lows.iter() {
                self.number(half.to_le_bytes())?;
                self.number(count.to_le_bytes())?;
            }
        }
        self.length(again.len())?;
        for (order, counts) in again.iter() {
            self.number(order.to_le_bytes())?;
            self.length(counts.iter().filter(|&&count| count > 0).count())?;
            for (half, count) in (0..=u16::MAX).zip(counts).filter(|&(_, &count)| count > 0) {
                self.number(half.to_le_bytes())?;
                self.number(count.to_le_bytes())?;
            }
        }
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length).ok_or_else(|| broken("not end early", "an early end"))?;
        self.0 = rest;
        Ok(head)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many bytes as were asked for"))
    }

    fn half(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.number()?))
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let length = u32::from_le_bytes(self.number()?);
        let mut items = Vec::new();
        for _ in 0..length {
            memory::push(&mut items, item(self)?, PURPOSE)?;
        }
        Ok(items)
    }

    fn channel(&mut self) -> Result<Channel> {
        let extremes = (f64::from_le_bytes(self.number()?), f64::from_le_bytes(self.number()?));
        let buckets = ascending(self.list(|input| Ok((input.half()?, input.moments()?)))?)?;
        let census = Census::new(buckets, extremes);
        let lows = ascending(self.list(|input| Ok((input.half()?, input.lows()?)))?)?;
        let again = ascending(self.list(|input| {
            let order = input.half()?;
            // A table is far larger than the bytes that ask for it, so only one that a bucket has use for is made.
            if !census.has(order) {
                return Err(broken("count halves of buckets that hold voxels", "another bucket"));
            }
            Ok((order, input.counts()?))
        })?)?;
        let channel = Channel { census, lows: ByOrder::ascending(lows), again: ByOrder::ascending(again) };
        check_counts(&channel)?;
        Ok(channel)
    }

    fn moments(&mut self) -> Result<Moments> {
        let (count, first) = (u64::from_le_bytes(self.number()?), u64::from_le_bytes(self.number()?));
        let second = u128::from_le_bytes(self.number()?);
        let possible = (1..=MOST_VOXELS).contains(&count)
            && first <= count << 16
            && second <= u128::from(count) << 32
            && u128::from(first).pow(2) <= u128::from(count) * second;
        if !possible {
            return Err(broken("hold moments that numbers can have", format!("{count}, {first}, {second}")));
        }
        Ok(Moments { count, first, second })
    }

    fn lows(&mut self) -> Result<Lows> {
        let listed = self.list(|input| Ok((input.half()?, u32::from_le_bytes(input.number()?))))?;
        Lows::from_list(ascending(listed)?)
    }

    fn counts(&mut self) -> Result<Vec<u64>> {
        let listed = ascending(self.list(|input| Ok((input.half()?, u64::from_le_bytes(input.number()?))))?)?;
        let mut counts = memory::vector(1 << 16, 0, PURPOSE)?;
        for (half, count) in listed {
            counts[usize::from(half)] = count.min(MOST_VOXELS);
        }
        Ok(counts)
    }
}

fn ascending<T>(list: Vec<(u16, T)>) -> Result<Vec<(u16, T)>> {
    if list.is_sorted_by(|a, b| a.0 < b.0) { Ok(list) } else { Err(broken("list in ascending order", "another order")) }
}

/// The halves of a bucket must be as many as the census says.
fn check_counts(channel: &Channel) -> Result<()> {
    let whole = |(order, lows): (u16, &Lows)| lows.count() == channel.census.moments(order).count;
    if channel.lows.iter().all(whole) {
        Ok(())
    } else {
        Err(broken("count each bucket alike throughout", "other counts"))
    }
}
