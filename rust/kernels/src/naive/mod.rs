//! The obvious version of every kernel: the oracle of the property tests, never the way to do the work.

pub mod blend;
pub mod scores;
pub mod tiles;
