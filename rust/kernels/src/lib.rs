//! The CPU kernels of nnunet_rs: resampling, statistics, blending, warping and intensities on `ndarray` views, in parallel.
//!
//! Every fast function has an obvious twin in `naive` (a feature, which this crate's own tests turn on) and a property test
//! that they agree.
//!
//! Modules are private but for three that name a topic of their own: `foreground`, `warp` and `memory`.
//!
//! Loops over slices are written plainly and compiled for several processors by `multiversion`, which is enough where the
//! compiler vectorises them; `wide` is for what it does not find, transpositions and selections in registers; `pulp` is for
//! single instructions that neither offers (a permutation by a vector of indices).

mod argmax;
mod blend;
mod coefficients;
mod dtype;
mod edges;
mod elementary;
mod error;
pub mod foreground;
mod gaussian;
mod grid;
mod image;
mod intensity;
mod interpolate;
mod label;
mod labels;
mod logits;
pub mod memory;
mod min_max;
mod mirror;
#[cfg(any(test, feature = "naive"))]
pub mod naive;
mod ndim;
mod neighbours;
mod plane;
mod pool;
mod rng;
mod rows;
mod scores;
mod separable;
mod spline;
mod stretch;
mod tiles;
mod transpose;
pub mod warp;
mod window;
mod window_accumulator;

pub use blend::{Blend, Memory};
pub use coefficients::Order;
pub use dtype::Float;
pub use error::{KernelError, Refusal, Result};
pub use grid::Slab;
pub use image::resample_image;
pub use intensity::{Change, change};
pub use label::{Keyed, Label};
pub use labels::resample_labels;
pub use logits::{logits_to_labels, logits_to_regions, resample_probabilities};
pub use mirror::mirror;
pub use ndim::Ndim;
pub use pool::with_threads;
pub use scores::Activation;
pub use tiles::{gaussian_importance, starts_by_axis, window_starts};
pub use window_accumulator::WindowAccumulator;
