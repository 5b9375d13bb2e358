//! The CPU kernels of nnunet_rs: resampling, statistics, blending, warping and intensities on `ndarray` views, in parallel.
//!
//! Every fast function has an obvious twin in [`naive`] and a property test that they agree.

pub mod blend;
pub mod chance;
pub mod decide;
mod elementary;
pub mod error;
pub mod foreground;
pub mod grid;
pub mod image;
pub mod intensity;
pub mod interpolate;
pub mod labels;
pub mod logits;
pub mod memory;
pub mod mirror;
pub mod naive;
pub mod neighbours;
pub mod plane;
pub mod pool;
pub mod range;
pub mod rank;
pub mod real;
pub mod rows;
pub mod scores;
pub mod separable;
pub mod spline;
pub mod stretch;
pub mod sums;
pub mod taps;
pub mod tiles;
pub mod transpose;
pub mod warp;
