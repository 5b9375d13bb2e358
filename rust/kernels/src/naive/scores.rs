//! Probabilities of outputs, mirrored back and summed, voxel by voxel in float64.

use ndarray::{ArrayView5, ArrayViewMut5};

use crate::scores::Activation;

/// Adds the activated `logits` (b, c, z, y, x), mirrored back, to `total`.
pub fn add_scores(
    mut total: ArrayViewMut5<'_, f32>,
    logits: ArrayView5<'_, f32>,
    activation: Activation,
    mirrored: [bool; 3],
) {
    let (_, classes, nz, ny, nx) = logits.dim();
    let turned = |i: usize, n: usize, mirrored: bool| if mirrored { n - 1 - i } else { i };
    for ((b, c, z, y, x), &value) in logits.indexed_iter() {
        let value = f64::from(value);
        let score = match activation {
            Activation::None => value,
            Activation::Sigmoid => 1.0 / (1.0 + (-value).exp()),
            Activation::Softmax => {
                1.0 / (0..classes).map(|k| (f64::from(logits[(b, k, z, y, x)]) - value).exp()).sum::<f64>()
            }
        };
        let place = (b, c, turned(z, nz, mirrored[0]), turned(y, ny, mirrored[1]), turned(x, nx, mirrored[2]));
        total[place] = (f64::from(total[place]) + score) as f32;
    }
}
