//! Warping voxel by voxel, with the noise smoothed at every voxel and every tap looked up by itself.

use ndarray::{Array3, ArrayView3, Axis, Ix3};

use crate::coefficients::Order;
use crate::rng::noise_row;
use crate::warp::{Elastic, Motion};

/// Where each output voxel reads, z, y, x.
#[must_use]
pub fn positions(motion: &Motion, shape: [usize; 3]) -> [Array3<f64>; 3] {
    let displacements =
        motion.elastic.map_or_else(|| vec![Array3::zeros(shape); 3], |e| smoothed(e, shape, motion.plane));
    let position = |axis: usize, (z, y, x): (usize, usize, usize)| {
        let index = [z, y, x];
        let moved = |other: usize| {
            let centred = index[other] as f64 - (shape[other] - 1) as f64 / 2.0;
            motion.matrix[axis][other] * (centred + displacements[other][(z, y, x)])
        };
        let axes = usize::from(motion.plane)..3;
        if axes.contains(&axis) { motion.centre[axis] + axes.map(moved).sum::<f64>() } else { 0.0 }
    };
    [0, 1, 2].map(|axis| Array3::from_shape_fn(shape, |index| position(axis, index)))
}

/// The noise of every axis behind the Gaussian, times alpha.
fn smoothed(elastic: Elastic, shape: [usize; 3], plane: bool) -> Vec<Array3<f64>> {
    let Elastic { alpha, sigma, seed } = elastic;
    let radius = (4.0 * sigma + 0.5) as i64;
    let bell = |distance: i64| (-0.5 * (distance * distance) as f64 / (sigma * sigma)).exp();
    let total: f64 = (-radius..=radius).map(bell).sum();
    let noise = |axis: usize| {
        let mut noise = Array3::zeros(shape);
        for z in 0..shape[0] {
            for y in 0..shape[1] {
                let mut row = vec![0.0; shape[2]];
                noise_row(seed, [axis, z, y], &mut row);
                row.iter().enumerate().for_each(|(x, value)| noise[(z, y, x)] = alpha * f64::from(*value));
            }
        }
        noise
    };
    let smooth = |mut field: Array3<f64>| {
        for axis in usize::from(plane)..3 {
            for mut lane in field.lanes_mut(Axis(axis)) {
                let old = lane.to_vec();
                for (i, value) in lane.iter_mut().enumerate() {
                    let weighted = |(j, old): (usize, &f64)| {
                        let distance = i as i64 - j as i64;
                        if distance.abs() <= radius { bell(distance) / total * old } else { 0.0 }
                    };
                    *value = old.iter().enumerate().map(weighted).sum();
                }
            }
        }
        field
    };
    let still = |axis: usize| plane && axis == 0;
    (0..3).map(|axis| if still(axis) { Array3::zeros(shape) } else { smooth(noise(axis)) }).collect()
}

/// One channel of an image at `positions`; outside it, `border`.
pub fn image(image: ArrayView3<'_, f32>, positions: &[Array3<f64>; 3], order: Order, border: f32) -> Array3<f64> {
    let spline = spline(image.mapv(f64::from));
    let values = image.mapv(f64::from);
    sample(positions, image.dim().into(), |position| match position {
        None => f64::from(border),
        Some(position) => match order {
            Order::Nearest => values[position.map(|p| (p + 0.5).floor() as usize)],
            Order::Linear => taps(position, image.dim().into(), 2).map(|(at, weight)| values[at] * weight).sum(),
            Order::Cubic => taps(position, image.dim().into(), 4).map(|(at, weight)| spline[at] * weight).sum(),
        },
    })
}

/// Labels at `positions`; outside, `border`. The second array holds how much the winner leads.
#[must_use]
pub fn labels(labels: ArrayView3<'_, i32>, positions: &[Array3<f64>; 3], border: i32) -> (Array3<i32>, Array3<f64>) {
    let size: [usize; 3] = labels.dim().into();
    let votes = sample(positions, size, |position| {
        let Some(position) = position else { return (border, 1.0) };
        let mut totals: Vec<(i32, f64)> = Vec::new();
        for (at, weight) in taps(position, size, 2) {
            match totals.iter_mut().find(|(label, _)| *label == labels[at]) {
                Some((_, total)) => *total += weight,
                None => totals.push((labels[at], weight)),
            }
        }
        totals.sort_by(|a, b| b.1.total_cmp(&a.1));
        (totals[0].0, totals[0].1 - totals.get(1).map_or(0.0, |second| second.1))
    });
    (votes.mapv(|vote| vote.0), votes.mapv(|vote| vote.1))
}

fn sample<T>(positions: &[Array3<f64>; 3], size: [usize; 3], value: impl Fn(Option<[f64; 3]>) -> T) -> Array3<T> {
    Array3::from_shape_fn(positions[0].raw_dim(), |index: <Ix3 as ndarray::Dimension>::Pattern| {
        let position = [0, 1, 2].map(|axis| positions[axis][index]);
        let inside = (0..3).all(|axis| position[axis] >= 0.0 && position[axis] <= (size[axis] - 1) as f64);
        value(inside.then_some(position))
    })
}

/// Voxels and weights around a position, 2 or 4 an axis, mirrored at the edges.
fn taps(position: [f64; 3], size: [usize; 3], count: i64) -> impl Iterator<Item = ([usize; 3], f64)> {
    let axis = move |axis: usize| {
        let below = position[axis].floor() as i64;
        (below + 1 - count / 2..below + 1 + count / 2).map(move |index| {
            let distance = (position[axis] - index as f64).abs();
            (mirrored(index, size[axis]), if count == 2 { 1.0 - distance } else { b_spline(distance) })
        })
    };
    axis(0).flat_map(move |z| axis(1).flat_map(move |y| axis(2).map(move |x| ([z.0, y.0, x.0], z.1 * y.1 * x.1))))
}

fn b_spline(distance: f64) -> f64 {
    match distance {
        d if d < 1.0 => (4.0 - 6.0 * d * d + 3.0 * d * d * d) / 6.0,
        d if d < 2.0 => (2.0 - d).powi(3) / 6.0,
        _ => 0.0,
    }
}

fn mirrored(index: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    if last == 0 {
        return 0;
    }
    let index = index.rem_euclid(2 * last);
    index.min(2 * last - index) as usize
}

/// Coefficients of the spline through an image that is mirrored without end: the inverse of (1, 4, 1) / 6 is
/// sqrt(3) z^|k|.
fn spline(mut image: Array3<f64>) -> Array3<f64> {
    let pole = 3_f64.sqrt() - 2.0;
    for axis in 0..3 {
        for mut lane in image.lanes_mut(Axis(axis)) {
            let old = lane.to_vec();
            for (i, value) in lane.iter_mut().enumerate() {
                let term = |k: i64| 3_f64.sqrt() * pole.powi(k.abs() as i32) * old[mirrored(i as i64 + k, old.len())];
                *value = (-30..=30).map(term).sum();
            }
        }
    }
    image
}
