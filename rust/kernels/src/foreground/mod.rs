//! Exact statistics of the voxels under a mask.
//!
//! Every sum is a sum of integers, so it does not depend on the order of voxels, pieces, threads or cases; only the last
//! step, from integers to a mean, rounds. References: `numpy.mean`, `numpy.std` (population) and `numpy.percentile`
//! (linear interpolation) of the foreground as float64, NumPy 2.
//!
//! ```text
//! 8 and 16 bits    a count per value                                      one pass
//! 32 bits          a bucket per upper half, with counts and moments of    one pass for the moments, a second one over
//!                  the lower halves                                       the few buckets that hold a percentile
//! 64 bits          sorted                                                 holds the foreground
//! ```

mod accumulator;
mod by_order;
mod census;
mod codec;
mod counts;
mod halves;
mod lows;
mod ranks;
mod scan;
mod sorted;
mod sum;
mod word;

use half::f16;
use ndarray::ArrayViewD;

use crate::error::{KernelError, Result, counted};
use crate::memory;

pub use accumulator::{Accumulator, Outline, Single};
pub use scan::{Mask, Scan};

const PURPOSE: &str = "the statistics of a foreground";

/// What the intensities of one channel's foreground are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelStats {
    /// Arithmetic mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Middle value, or mean of the two middle ones.
    pub median: f64,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// 0.5 percentile, linear between neighbours.
    pub percentile_00_5: f64,
    /// 99.5 percentile, linear between neighbours.
    pub percentile_99_5: f64,
}

/// An intensity type, and the way to its statistics.
pub trait Intensity: Copy + Default + PartialOrd + Send + Sync + 'static {
    /// Statistics of the foreground of one channel.
    ///
    /// # Errors
    /// There is no foreground, or it is not finite; memory refused.
    fn statistics(scan: &Scan<'_, Self>) -> Result<ChannelStats>;
}

macro_rules! intensity {
    ($($way:expr, $($type:ty),+;)+) => {
        $($(impl Intensity for $type {
            fn statistics(scan: &Scan<'_, Self>) -> Result<ChannelStats> {
                $way(scan)
            }
        })+)+
    };
}

intensity! {
    counts::statistics, u8, i8, u16, i16;
    census::statistics::<u32, _>, u32;
    census::statistics::<i32, _>, i32;
    census::statistics::<f32, _>, f16, f32;
    sorted::statistics, u64, i64, f64;
}

/// Statistics of each channel of `image` (c, …) over the foreground of `mask` (…).
///
/// # Errors
/// The shapes differ, no voxel is foreground, or a foreground voxel is NaN or infinite; memory refused.
pub fn statistics<T: Intensity>(image: ArrayViewD<'_, T>, mask: &Mask<'_>) -> Result<Vec<ChannelStats>> {
    let channels = mask.channels(image)?;
    let one = |(index, scan)| T::statistics(scan).map_err(|error| in_channel(error, index));
    memory::collected_results(channels.iter().enumerate().map(one), PURPOSE)
}

fn in_channel(mut error: KernelError, index: usize) -> KernelError {
    if let Some(refusal) = error.refusal_mut().filter(|refusal| refusal.name == "image") {
        refusal.got.push_str(&format!(" in channel {index}"));
    }
    error
}

fn no_foreground() -> KernelError {
    KernelError::content("labels", "mark at least one foreground voxel (label above 0)", "0")
}

fn not_finite(count: u64) -> KernelError {
    let got = counted(usize::try_from(count).unwrap_or(usize::MAX), "NaN or infinite voxel");
    KernelError::content("image", "be finite in the foreground", got)
}
