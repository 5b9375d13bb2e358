//! Activations of one voxel, in float64.

use crate::scores::Activation;

/// The scores of a voxel's logits.
#[must_use]
pub fn activated(logits: &[f32], activation: Activation) -> Vec<f64> {
    let score = |value: f64| match activation {
        Activation::None => value,
        Activation::Sigmoid => 1.0 / (1.0 + (-value).exp()),
        Activation::Softmax => 1.0 / logits.iter().map(|&other| (f64::from(other) - value).exp()).sum::<f64>(),
    };
    logits.iter().map(|&value| score(f64::from(value))).collect()
}
