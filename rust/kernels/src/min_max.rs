//! The range of an image, to which splines that overshoot are clipped.

use multiversion::multiversion;

use crate::separable::LANES;

/// Smallest and largest value; NaN does not count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinMax {
    /// The smallest.
    pub lowest: f32,
    /// The largest.
    pub highest: f32,
}

impl MinMax {
    /// Of no values.
    pub const NONE: Self = Self { lowest: f32::INFINITY, highest: f32::NEG_INFINITY };
    /// Of everything.
    pub const ALL: Self = Self { lowest: f32::NEG_INFINITY, highest: f32::INFINITY };

    /// Of the values of `rows`.
    pub fn of(rows: &[&[f32]]) -> Self {
        range_of(rows)
    }

    /// Of both together.
    #[inline(always)]
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self { lowest: self.with(other.lowest).lowest, highest: self.with(other.highest).highest }
    }

    #[inline(always)]
    fn with(self, v: f32) -> Self {
        Self {
            lowest: if v < self.lowest { v } else { self.lowest },
            highest: if v > self.highest { v } else { self.highest },
        }
    }

    /// `v` within the range; NaN stays.
    #[inline(always)]
    pub fn clip(self, v: f32) -> f32 {
        let v = if v < self.lowest { self.lowest } else { v };
        if v > self.highest { self.highest } else { v }
    }

    /// A row's values within the range.
    pub fn copy(self, from: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = self.clip(*from));
    }
}

#[multiversion(targets = "simd")]
fn range_of(rows: &[&[f32]]) -> MinMax {
    let mut lanes = [MinMax::NONE; LANES];
    for row in rows {
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane = lane.with(*v));
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, v)| *lane = lane.with(*v));
    }
    lanes.into_iter().fold(MinMax::NONE, MinMax::join)
}
