//! Changes of values by a function of the value alone, which the channel's mean and range may shape.

use multiversion::multiversion;

use crate::elementary::{exp2, log2};

/// Values that are worked on together.
const LANES: usize = 16;

/// Multiplies every value.
#[multiversion(targets = "simd")]
pub fn scale(channel: &mut [f32], factor: f32) {
    channel.iter_mut().for_each(|value| *value *= factor);
}

/// Multiplies the differences from the mean, and keeps the range.
pub fn contrast(channel: &mut [f32], factor: f32) {
    let Moments { mean, low, high, .. } = Moments::of(channel);
    stretch_about(channel, factor, [mean as f32, low, high]);
}

#[multiversion(targets = "simd")]
fn stretch_about(channel: &mut [f32], factor: f32, [mean, low, high]: [f32; 3]) {
    for value in channel {
        let stretched = (*value - mean) * factor + mean;
        // Comparisons, because a maximum would hide a NaN.
        let stretched = if stretched < low { low } else { stretched };
        *value = if stretched > high { high } else { stretched };
    }
}

/// Raises values, scaled to 0 … 1, to a power, and brings them back to the mean and the standard deviation that they had.
pub fn gamma(channel: &mut [f32], exponent: f32, invert: bool) {
    let before = Moments::of(channel);
    let scale = 1.0 / ((before.high - before.low) + 1e-7);
    let (origin, scale) = if invert { (before.high, -scale) } else { (before.low, scale) };
    raise(channel, exponent, origin, scale);
    let after = Moments::of(channel);
    let gain = before.std / (after.std + 1e-8) * f64::from(scale.signum());
    carry(channel, [after.mean as f32, gain as f32, before.mean as f32]);
}

#[multiversion(targets = "simd")]
fn raise(channel: &mut [f32], exponent: f32, origin: f32, scale: f32) {
    for value in channel {
        let unit = (*value - origin) * scale;
        let raised = exp2(exponent * log2(unit));
        *value = if unit < f32::MIN_POSITIVE { 0.0 } else { raised };
    }
}

#[multiversion(targets = "simd")]
fn carry(channel: &mut [f32], [from, gain, to]: [f32; 3]) {
    channel.iter_mut().for_each(|value| *value = (*value - from) * gain + to);
}

/// What a channel is like.
#[derive(Debug, Clone, Copy)]
struct Moments {
    mean: f64,
    std: f64,
    low: f32,
    high: f32,
}

impl Moments {
    fn of(channel: &[f32]) -> Self {
        let origin = channel.first().copied().unwrap_or_default();
        let (sum, squares, low, high) = sums(channel, origin);
        let count = channel.len().max(1) as f64;
        let mean = sum / count;
        Self { mean: f64::from(origin) + mean, std: (squares / count - mean * mean).max(0.0).sqrt(), low, high }
    }
}

/// Sum and sum of squares of the differences from `origin`, a value of the channel's own; least and greatest.
#[multiversion(targets = "simd")]
fn sums(channel: &[f32], origin: f32) -> (f64, f64, f32, f32) {
    let (mut sum, mut squares) = ([0.0; LANES], [0.0; LANES]);
    let (mut low, mut high) = ([origin; LANES], [origin; LANES]);
    let (whole, rest) = channel.as_chunks::<LANES>();
    for values in whole {
        for lane in 0..LANES {
            let value = values[lane];
            let apart = f64::from(value) - f64::from(origin);
            sum[lane] += apart;
            squares[lane] += apart * apart;
            low[lane] = if value < low[lane] { value } else { low[lane] };
            high[lane] = if value > high[lane] { value } else { high[lane] };
        }
    }
    let apart = |value: &f32| f64::from(*value) - f64::from(origin);
    (
        sum.iter().sum::<f64>() + rest.iter().map(apart).sum::<f64>(),
        squares.iter().sum::<f64>() + rest.iter().map(|value| apart(value) * apart(value)).sum::<f64>(),
        low.iter().chain(rest).copied().fold(origin, f32::min),
        high.iter().chain(rest).copied().fold(origin, f32::max),
    )
}
