//! The obvious version of every kernel: the oracle of the property tests, never the way to do the work.

pub mod blend;
pub mod foreground;
pub mod image;
pub mod intensity;
pub mod labels;
pub mod logits;
pub mod scores;
pub mod tiles;
pub mod warp;

pub use crate::rng::noise_row;
