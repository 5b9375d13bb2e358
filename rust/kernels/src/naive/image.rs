//! Image resampling in float64, lane by lane, the spline's coefficients from its defining equations.

use ndarray::{Array3, ArrayView3, Axis};

use crate::coefficients::Order;

/// Voxels by which a lane's edges are repeated: what lies behind them weighs 0.27^40.
const EDGE: usize = 40;

/// `image` (z, y, x) on a grid of `shape`, clipped to the image's range.
pub fn resample_volume(image: ArrayView3<'_, f32>, shape: [usize; 3], order: Order) -> Array3<f64> {
    let mut volume = image.mapv(f64::from);
    let (lowest, highest) = volume.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
    for (axis, n_out) in shape.into_iter().enumerate() {
        let mut size = [volume.dim().0, volume.dim().1, volume.dim().2];
        size[axis] = n_out;
        let mut next = Array3::zeros(size);
        for (from, mut to) in volume.lanes(Axis(axis)).into_iter().zip(next.lanes_mut(Axis(axis))) {
            let lane = resample_lane(&from.to_vec(), n_out, order);
            to.iter_mut().zip(lane).for_each(|(to, value)| *to = value);
        }
        volume = next;
    }
    volume.mapv(|v| v.clamp(lowest, highest))
}

/// The same, each slice along `axis` by itself, each slice of the result from the nearest one.
#[must_use]
pub fn resample_slices(image: ArrayView3<'_, f32>, shape: [usize; 3], order: Order, axis: usize) -> Array3<f64> {
    let mut out = Array3::zeros(shape);
    let n_in = image.len_of(Axis(axis));
    for (i, mut slice) in out.axis_iter_mut(Axis(axis)).enumerate() {
        let nearest = ((i as f64 + 0.5) * n_in as f64 / shape[axis] as f64).floor() as usize;
        let mut size = shape;
        size[axis] = 1;
        let from = image.slice_axis(Axis(axis), (nearest..=nearest).into());
        slice.assign(&resample_volume(from, size, order).index_axis(Axis(axis), 0));
    }
    out
}

fn resample_lane(lane: &[f64], n_out: usize, order: Order) -> Vec<f64> {
    let at = |i: isize| lane[i.clamp(0, lane.len() as isize - 1) as usize];
    let extended: Vec<f64> = (0..lane.len() + 2 * EDGE).map(|i| at(i as isize - EDGE as isize)).collect();
    let coefficients = if order == Order::Cubic { spline_coefficients(&extended) } else { extended };
    let sample = |i: usize| {
        let position = (i as f64 + 0.5) * lane.len() as f64 / n_out as f64 - 0.5 + EDGE as f64;
        match order {
            Order::Nearest => coefficients[(position + 0.5).floor() as usize],
            Order::Linear => weighted(&coefficients, |k| 1.0 - (position - k as f64).abs()),
            Order::Cubic => weighted(&coefficients, |k| cubic_spline((position - k as f64).abs())),
        }
    };
    (0..n_out).map(sample).collect()
}

fn weighted(values: &[f64], weight: impl Fn(usize) -> f64) -> f64 {
    values.iter().enumerate().map(|(k, value)| value * weight(k).max(0.0)).sum()
}

/// The cubic B-spline at distance `x` from its centre.
fn cubic_spline(x: f64) -> f64 {
    match x {
        x if x < 1.0 => 2.0 / 3.0 - x * x + x * x * x / 2.0,
        x if x < 2.0 => (2.0 - x).powi(3) / 6.0,
        _ => 0.0,
    }
}

/// Solves c[i-1] / 6 + 4 c[i] / 6 + c[i+1] / 6 = s[i], with constant continuation, by elimination.
fn spline_coefficients(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    let mut upper = vec![0.0; n];
    let mut solution = vec![0.0; n];
    for i in 0..n {
        let ends = f64::from(u8::from(i == 0)) + f64::from(u8::from(i == n - 1));
        let (before, done) = if i == 0 { (0.0, 0.0) } else { (upper[i - 1], solution[i - 1]) };
        let pivot = 4.0 + ends - before;
        upper[i] = 1.0 / pivot;
        solution[i] = (6.0 * values[i] - done) / pivot;
    }
    for i in (0..n - 1).rev() {
        solution[i] -= upper[i] * solution[i + 1];
    }
    solution
}
