//! Changes of an image's intensities that leave every voxel in its place: a drawn list of them, done in place.
//!
//! References: batchgenerators 0.25 `augment_gamma` (with `retain_stats`), `augment_contrast` (with `preserve_range`),
//! SciPy 1.17 `gaussian_filter` (`mode="reflect"`), and this crate's own resampling. A NaN reaches the whole channel
//! where a change rests on the channel's mean, else what its taps reach.

mod blur;
mod curves;

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, ArrayViewMut3, ArrayViewMut4, Axis};

use crate::coefficients::{Order, check_axes};
use crate::error::{KernelError, Result, counted};
use crate::image::resample_image;
use crate::memory;
use crate::rng::{Key, add_gaussian};

/// Voxels whose noise comes from one key.
const NOISE_ROW: usize = 1 << 16;

/// Widest Gaussian, in voxels; beyond it a parameter is a mistake.
const WIDEST: f64 = 1000.0;

/// One change of one channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Adds Gaussian noise.
    Noise {
        /// Its standard deviation.
        std: f32,
        /// Where it comes from.
        seed: u64,
    },
    /// Smooths by a Gaussian, cut off at four standard deviations; what lies beyond the edges is mirrored there.
    Blur {
        /// Its standard deviation, voxels.
        sigma: f64,
    },
    /// Multiplies.
    Scale {
        /// By this.
        factor: f32,
    },
    /// Multiplies the differences from the mean; values stay within the channel's range.
    Contrast {
        /// By this.
        factor: f32,
    },
    /// Resamples to a coarser grid by the nearest voxel, and back linearly.
    SimulateLowResolution {
        /// The coarser grid, z, y, x.
        shape: [usize; 3],
    },
    /// Raises values, scaled to 0 … 1, to a power; mean and standard deviation are kept.
    Gamma {
        /// The power.
        exponent: f32,
        /// Whether this is done to the negative.
        invert: bool,
    },
}

impl Change {
    /// Refuses parameters that cannot be.
    ///
    /// # Errors
    /// One that is not finite, or outside its range.
    pub fn check(&self) -> Result<()> {
        let refused = |name, rule: &str, got: f64| Err(KernelError::value(name, rule, got));
        match *self {
            Self::Noise { std, .. } if !(0.0..=1e30).contains(&std) => {
                refused("std", "be between 0 and 1e30", std.into())
            }
            Self::Blur { sigma } if !(0.0..=WIDEST).contains(&sigma) => {
                refused("sigma", "be between 0 and 1000 voxels", sigma)
            }
            Self::Scale { factor } | Self::Contrast { factor } if !factor.is_finite() => {
                refused("factor", "be a finite number", factor.into())
            }
            Self::SimulateLowResolution { shape } => check_axes("shape", &shape),
            Self::Gamma { exponent, .. } if !(exponent > 0.0 && exponent <= 100.0) => {
                refused("exponent", "be above 0 and at most 100", exponent.into())
            }
            _ => Ok(()),
        }
    }

    fn apply(self, channel: &mut [f32], shape: [usize; 3]) -> Result<()> {
        match self {
            Self::Noise { std, seed } => {
                for (row, part) in channel.chunks_mut(NOISE_ROW).enumerate() {
                    add_gaussian(Key::new(seed, [0, 0, row]), std, part);
                }
            }
            Self::Blur { sigma } => blur::smooth(channel, shape, sigma)?,
            Self::Scale { factor } => curves::scale(channel, factor),
            Self::Contrast { factor } => curves::contrast(channel, factor),
            Self::SimulateLowResolution { shape: coarse } => simulate_low_resolution(channel, shape, coarse)?,
            Self::Gamma { exponent, invert } => curves::gamma(channel, exponent, invert),
        }
        Ok(())
    }
}

/// Makes the changes of (channel, change) to an image (c, z, y, x), in their order; channels side by side.
///
/// # Errors
/// A channel that there is not, an image without voxels, a change that cannot be, or memory is refused; the image then is
/// as it was, unless memory was refused on the way.
pub fn change(mut image: ArrayViewMut4<'_, f32>, changes: &[(usize, Change)]) -> Result<()> {
    check_axes("image", &image.shape()[1..])?;
    for (channel, change) in changes {
        if *channel >= image.len_of(Axis(0)) {
            let rule = format!("be below the image's {}", counted(image.len_of(Axis(0)), "channel"));
            return Err(KernelError::value("channel", rule, channel));
        }
        change.check()?;
    }
    image.outer_iter_mut().into_par_iter().enumerate().try_for_each(|(index, channel)| {
        let mine = changes.iter().filter(|(channel, _)| *channel == index).map(|(_, change)| *change);
        change_channel(channel, mine)
    })
}

fn change_channel(mut channel: ArrayViewMut3<'_, f32>, mut changes: impl Iterator<Item = Change>) -> Result<()> {
    let shape = [0, 1, 2].map(|axis| channel.len_of(Axis(axis)));
    if let Some(voxels) = channel.as_slice_mut() {
        return changes.try_for_each(|change| change.apply(voxels, shape));
    }
    let copy = memory::owned(channel.view(), "a contiguous copy of a channel")?;
    let mut voxels = copy.into_raw_vec_and_offset().0;
    changes.try_for_each(|change| change.apply(&mut voxels, shape))?;
    channel.iter_mut().zip(voxels).for_each(|(to, from)| *to = from);
    Ok(())
}

fn simulate_low_resolution(channel: &mut [f32], shape: [usize; 3], coarse: [usize; 3]) -> Result<()> {
    let mut small: Array3<f32> = memory::filled(coarse, 0.0, "a coarser image")?;
    let fine = ArrayView3::from_shape(shape, channel).expect("a channel has the image's shape");
    resample_image(fine.insert_axis(Axis(0)), small.view_mut().insert_axis(Axis(0)), Order::Nearest, None)?;
    let fine = ArrayViewMut3::from_shape(shape, channel).expect("a channel has the image's shape");
    resample_image(small.view().insert_axis(Axis(0)), fine.insert_axis(Axis(0)), Order::Linear, None)
}
