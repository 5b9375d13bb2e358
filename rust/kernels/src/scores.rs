//! A network's outputs turned into the scores that are averaged: probabilities, or logits as they are.

use multiversion::multiversion;

use crate::elementary::exp;
use crate::error::{KernelError, Result};

/// Voxels of a row that all classes are held of at a time.
pub(crate) const LANES: usize = 64;

/// One class of such a piece.
pub(crate) type Lane = [f32; LANES];

/// What becomes of an output before it is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: logits are averaged.
    None,
    /// Probabilities of classes that exclude each other.
    Softmax,
    /// Probabilities of regions, each by itself.
    Sigmoid,
}

impl Activation {
    /// The activation of a name.
    ///
    /// # Errors
    /// Any other name than none, softmax, sigmoid.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "softmax" => Ok(Self::Softmax),
            "sigmoid" => Ok(Self::Sigmoid),
            _ => Err(KernelError::value("activation", "be \"none\", \"softmax\" or \"sigmoid\"", name)),
        }
    }
}

/// Activates a piece of a row, one lane per class. NaN and infinite logits become NaN probabilities.
#[multiversion(targets = "simd")]
pub(crate) fn activate(lanes: &mut [Lane], activation: Activation) {
    match activation {
        Activation::None => {}
        Activation::Softmax => softmax(lanes),
        Activation::Sigmoid => {
            for lane in lanes {
                lane.iter_mut().for_each(|value| *value = 1.0 / (1.0 + exp(-*value)));
            }
        }
    }
}

#[inline(always)]
fn softmax(lanes: &mut [Lane]) {
    let mut highest = [f32::NEG_INFINITY; LANES];
    for lane in lanes.iter() {
        highest.iter_mut().zip(lane).for_each(|(high, &value)| *high = if value > *high { value } else { *high });
    }
    let mut sum = [0.0; LANES];
    for lane in lanes.iter_mut() {
        for ((value, high), sum) in lane.iter_mut().zip(&highest).zip(&mut sum) {
            *value = exp(*value - high);
            *sum += *value;
        }
    }
    sum.iter_mut().for_each(|sum| *sum = 1.0 / *sum);
    for lane in lanes {
        lane.iter_mut().zip(&sum).for_each(|(value, inverse)| *value *= inverse);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::scores as naive;

    fn noise(classes: usize) -> Vec<Lane> {
        let value = |i: usize| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 60.0;
        (0..classes).map(|class| std::array::from_fn(|lane| value(class * LANES + lane))).collect()
    }

    #[test]
    fn agrees_with_the_naive_version() {
        for activation in [Activation::None, Activation::Softmax, Activation::Sigmoid] {
            for classes in [1, 2, 5, 105] {
                let mut lanes = noise(classes);
                activate(&mut lanes, activation);
                for voxel in 0..LANES {
                    let logits: Vec<f32> = noise(classes).iter().map(|lane| lane[voxel]).collect();
                    for (lane, exact) in lanes.iter().zip(naive::activated(&logits, activation)) {
                        let apart = (f64::from(lane[voxel]) - exact).abs();
                        assert!(apart < 1e-6 * exact.abs().max(1.0), "{activation:?} of {classes}, voxel {voxel}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut lanes = vec![[0.0; LANES]; 3];
            lanes[1][7] = bad;
            activate(&mut lanes, Activation::Softmax);
            assert!(lanes.iter().any(|lane| lane[7].is_nan()));
            assert!(lanes.iter().all(|lane| (lane[6] - 1.0 / 3.0).abs() < 1e-6));
        }
    }
}
