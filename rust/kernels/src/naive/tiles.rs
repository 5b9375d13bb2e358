//! Window starts and importance, one formula at a time.

use ndarray::{ArrayD, Dimension, IxDyn};

/// Starts along one axis, by nnU-Net's formula.
#[must_use]
pub fn axis_starts(size: usize, tile: usize, step: f64) -> Vec<usize> {
    let count = ((size - tile) as f64 / (tile as f64 * step)).ceil() as usize + 1;
    let stride = if count > 1 { (size - tile) as f64 / (count - 1) as f64 } else { 0.0 };
    (0..count).map(|i| (stride * i as f64).round_ties_even() as usize).collect()
}

/// A Gaussian of an eighth of the tile around `tile / 2`, straight from its formula.
#[must_use]
pub fn gaussian_importance(tile: &[usize]) -> ArrayD<f32> {
    ArrayD::from_shape_fn(IxDyn(tile), |index| {
        let square = |(&i, &length): (&usize, &usize)| {
            let distance = (i as f64 - (length / 2) as f64) / (length as f64 / 8.0);
            distance * distance
        };
        (-0.5 * index.slice().iter().zip(tile).map(square).sum::<f64>()).exp() as f32
    })
}
