//! A network's outputs for a window and its mirror images, turned into probabilities and summed in one pass.

use multiversion::multiversion;
use ndarray::parallel::prelude::*;
use ndarray::{ArrayView1, ArrayView3, ArrayView5, ArrayViewMut1, ArrayViewMut3, ArrayViewMut5, Axis};

use crate::error::{KernelError, Result};

/// Voxels of a row that all classes are held of at a time.
pub(crate) const LANES: usize = 64;

/// One class of such a piece.
pub(crate) type Lane = [f32; LANES];

/// What becomes of an output before it is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: logits are summed.
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
            _ => Err(KernelError::argument("activation", "be \"none\", \"softmax\" or \"sigmoid\"", name)),
        }
    }
}

/// Adds the activated `logits` (b, c, z, y, x) to `total`, of the same shape, or replaces it where this is the `first`.
///
/// `mirrored` tells along which of z, y, x the network saw the window mirrored: its outputs are turned back. NaN and
/// infinite logits become NaN probabilities.
///
/// # Errors
/// Shapes that differ.
pub fn add_scores(
    mut total: ArrayViewMut5<'_, f32>,
    logits: ArrayView5<'_, f32>,
    activation: Activation,
    mirrored: [bool; 3],
    first: bool,
) -> Result<()> {
    if total.shape() != logits.shape() {
        return Err(KernelError::argument("logits", format!("have total's shape {:?}", total.shape()), logits.shape()));
    }
    let mut source = logits;
    for axis in [0, 1].into_iter().filter(|&axis| mirrored[axis]) {
        source.invert_axis(Axis(axis + 2));
    }
    for (mut total, source) in total.outer_iter_mut().zip(source.outer_iter()) {
        let planes = total.axis_iter_mut(Axis(1)).into_par_iter().zip(source.axis_iter(Axis(1)));
        planes.for_each(|(total, source)| add_plane(total, source, activation, mirrored[2], first));
    }
    Ok(())
}

/// Adds a plane (c, y, x), a piece of a row with all classes at a time.
fn add_plane(
    mut total: ArrayViewMut3<'_, f32>,
    logits: ArrayView3<'_, f32>,
    activation: Activation,
    mirrored: bool,
    first: bool,
) {
    let (classes, _, width) = logits.dim();
    let mut lanes = vec![[0.0; LANES]; classes];
    for (mut total, logits) in total.axis_iter_mut(Axis(1)).zip(logits.axis_iter(Axis(1))) {
        for start in (0..width).step_by(LANES) {
            let count = LANES.min(width - start);
            for (lane, row) in lanes.iter_mut().zip(logits.outer_iter()) {
                load(row, start, &mut lane[..count]);
            }
            activate(&mut lanes, activation);
            let place = if mirrored { width - start - count } else { start };
            for (lane, row) in lanes.iter().zip(total.outer_iter_mut()) {
                store(row, place, &lane[..count], mirrored, first);
            }
        }
    }
}

pub(crate) fn load(row: ArrayView1<'_, f32>, start: usize, lane: &mut [f32]) {
    match row.as_slice() {
        Some(row) => lane.copy_from_slice(&row[start..start + lane.len()]),
        None => lane.iter_mut().zip(row.iter().skip(start)).for_each(|(to, from)| *to = *from),
    }
}

fn store(mut row: ArrayViewMut1<'_, f32>, start: usize, lane: &[f32], mirrored: bool, first: bool) {
    let (stop, mut turned) = (start + lane.len(), [0.0; LANES]);
    let lane = if mirrored {
        turned.iter_mut().zip(lane.iter().rev()).for_each(|(to, from)| *to = *from);
        &turned[..lane.len()]
    } else {
        lane
    };
    match (row.as_slice_mut(), first) {
        (Some(row), true) => row[start..stop].copy_from_slice(lane),
        (Some(row), false) => row[start..stop].iter_mut().zip(lane).for_each(|(to, value)| *to += value),
        (None, true) => row.iter_mut().skip(start).zip(lane).for_each(|(to, value)| *to = *value),
        (None, false) => row.iter_mut().skip(start).zip(lane).for_each(|(to, value)| *to += value),
    }
}

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

/// The exponential function to 2e-7 of its value, in operations that vectorise; arguments beyond ±87 count as ±87, NaN
/// stays NaN.
///
/// exp(x) = 2^n exp(r) with n = round(x / ln 2) and |r| <= ln 2 / 2; the polynomial is that of Cephes' expf.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer, which is then the last bits
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 87.0 { 87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4; // ln 2 in two parts
    let tail = 1.987_569_2e-4;
    let tail = tail * r + 1.398_199_9e-3;
    let tail = tail * r + 8.333_452e-3;
    let tail = tail * r + 4.166_579_6e-2;
    let tail = tail * r + 1.666_666_5e-1;
    let tail = tail * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23)); // 2^n
    (tail * r * r + r + 1.0) * power
}

#[cfg(test)]
mod tests {
    use ndarray::{Array5, Slice};

    use super::*;
    use crate::naive::scores as naive;

    fn noise(shape: [usize; 5], seed: u64) -> Array5<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Array5::from_shape_simple_fn(shape, || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 40.0
        })
    }

    #[test]
    fn agrees_with_the_naive_version() {
        let shapes = [[1, 1, 1, 1, 1], [2, 3, 4, 5, 6], [1, 2, 3, 2, 64], [1, 5, 2, 3, 65], [2, 4, 1, 3, 131]];
        for (seed, shape) in shapes.into_iter().enumerate() {
            for activation in [Activation::None, Activation::Softmax, Activation::Sigmoid] {
                for mirrored in [[false; 3], [true, false, true], [false, true, false], [true; 3]] {
                    let logits = noise(shape, seed as u64);
                    let mut total = noise(shape, 99);
                    let mut expected = total.clone();
                    naive::add_scores(expected.view_mut(), logits.view(), activation, mirrored);
                    add_scores(total.view_mut(), logits.view(), activation, mirrored, false).unwrap();
                    let apart = (&total - &expected).mapv(f32::abs).fold(0.0, |a: f32, &b| a.max(b));
                    assert!(apart < 4e-6, "{shape:?} {activation:?} {mirrored:?}: {apart}");
                }
            }
        }
    }

    #[test]
    fn the_first_replaces_and_strides_do_not_matter() {
        let logits = noise([1, 3, 8, 5, 140], 3);
        let steps = [1, -1, 2, 1, 2];
        let view = logits.slice_each_axis(|axis| Slice::new(0, None, steps[axis.axis.index()]));
        let mut total = Array5::from_elem((1, 3, 4, 5, 70), f32::NAN);
        add_scores(total.view_mut(), view, Activation::Softmax, [false, false, true], true).unwrap();
        let mut expected = Array5::zeros(total.raw_dim());
        naive::add_scores(expected.view_mut(), view, Activation::Softmax, [false, false, true]);
        assert!((&total - &expected).iter().all(|apart| apart.abs() < 1e-6));
    }

    #[test]
    fn exponentials_are_accurate() {
        let worst = (-8700..=8700).map(|i| i as f32 / 100.0).map(|x| {
            let exact = f64::from(x).exp();
            ((f64::from(exp(x)) - exact) / exact).abs()
        });
        assert!(worst.fold(0.0, f64::max) < 2e-7);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn what_is_not_finite_shows() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut logits = Array5::zeros((1, 3, 1, 1, 2));
            logits[(0, 1, 0, 0, 1)] = bad;
            let mut total = Array5::zeros(logits.raw_dim());
            add_scores(total.view_mut(), logits.view(), Activation::Softmax, [false; 3], true).unwrap();
            assert!((0..3).any(|class| total[(0, class, 0, 0, 1)].is_nan()));
            assert!((0..3).all(|class| (total[(0, class, 0, 0, 0)] - 1.0 / 3.0).abs() < 1e-6));
        }
    }

    #[test]
    fn shapes_must_agree() {
        let mut total = Array5::zeros((1, 2, 3, 4, 5));
        let logits = Array5::zeros((1, 2, 3, 4, 4));
        let error = add_scores(total.view_mut(), logits.view(), Activation::None, [false; 3], true).unwrap_err();
        assert!(error.to_string().contains("[1, 2, 3, 4, 4]"));
    }
}
