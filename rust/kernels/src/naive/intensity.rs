//! Changes of intensities in float64, value by value and tap by tap.

use ndarray::{Array3, ArrayView3, Axis};

use super::image::resample_volume;
use crate::coefficients::Order;
use crate::intensity::Change;

/// A channel after a change; of noise, whose values are random, nothing.
pub fn changed(channel: ArrayView3<'_, f32>, change: Change) -> Array3<f64> {
    let values = channel.mapv(f64::from);
    match change {
        Change::Noise { .. } => values,
        Change::Scale { factor } => values * f64::from(factor),
        Change::Contrast { factor } => {
            let (mean, _, low, high) = moments(&values);
            values.mapv(|value| ((value - mean) * f64::from(factor) + mean).max(low).min(high))
        }
        Change::Blur { sigma } => blurred(values, sigma),
        Change::SimulateLowResolution { shape } => {
            let small = resample_volume(channel, shape, Order::Nearest).mapv(|value| value as f32);
            resample_volume(small.view(), channel.dim().into(), Order::Linear)
        }
        Change::Gamma { exponent, invert } => {
            let sign = if invert { -1.0 } else { 1.0 };
            gamma(values * sign, exponent.into()) * sign
        }
    }
}

fn gamma(values: Array3<f64>, exponent: f64) -> Array3<f64> {
    let (mean, std, low, high) = moments(&values);
    let raised = values.mapv(|value| ((value - low) / (high - low + 1e-7)).powf(exponent));
    let after = moments(&raised);
    raised.mapv(|value| (value - after.0) * std / (after.1 + 1e-8) + mean)
}

/// Mean, standard deviation, least and greatest value.
fn moments(values: &Array3<f64>) -> (f64, f64, f64, f64) {
    let mean = values.sum() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    let (low, high) = (f64::INFINITY, f64::NEG_INFINITY);
    (mean, variance.sqrt(), values.iter().copied().fold(low, f64::min), values.iter().copied().fold(high, f64::max))
}

fn blurred(mut values: Array3<f64>, sigma: f64) -> Array3<f64> {
    let radius = (4.0 * sigma + 0.5) as i64;
    let bell = |distance: i64| if distance == 0 { 1.0 } else { (-0.5 * (distance as f64 / sigma).powi(2)).exp() };
    let total: f64 = (-radius..=radius).map(bell).sum();
    for axis in 0..3 {
        for mut lane in values.lanes_mut(Axis(axis)) {
            let old = lane.to_vec();
            let length = old.len() as i64;
            let at = |index: i64| {
                let index = index.rem_euclid(2 * length);
                old[index.min(2 * length - 1 - index) as usize]
            };
            for (i, value) in lane.iter_mut().enumerate() {
                *value = (-radius..=radius).map(|distance| bell(distance) / total * at(i as i64 + distance)).sum();
            }
        }
    }
    values
}
