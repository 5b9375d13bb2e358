//! Smooth random displacements.
//!
//! Reference: batchgenerators' `elastic_deform_coordinates`: uniform noise in [-1, 1) a voxel and axis, smoothed by
//! `scipy.ndimage.gaussian_filter(sigma, mode="constant")` and multiplied by alpha. What is smoothed with `sigma` needs
//! no voxel grid: the smoothed noise is computed at every `sigma / 2`th voxel only, as coefficients of a cubic B-spline
//! that passes through it, and the spline is evaluated where it is asked for. The two agree within a thousandth of the
//! field's deviation.

use multiversion::multiversion;
use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, ArrayViewMut2, Axis, Zip};

use super::coefficients::POLE;
use crate::error::{KernelError, Result};
use crate::memory;

/// SciPy's `gaussian_filter` cuts its kernel off here, in standard deviations.
const TRUNCATE: f64 = 4.0;

/// Smoothest field; beyond it a parameter is a mistake.
const WIDEST: f64 = 1000.0;

/// Coarse neighbours at either side that the spline's coefficients are made of: the next ones weigh below 1e-4.
const NEIGHBOURS: i64 = 7;

/// An elastic deformation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elastic {
    /// What the smoothed noise is multiplied by; in a volume its deviation is about `0.086 alpha / sigma^1.5` voxels.
    pub alpha: f64,
    /// Standard deviation of the smoothing, voxels.
    pub sigma: f64,
    /// Where the noise comes from.
    pub seed: u64,
}

/// Displacements along each axis, as spline coefficients on a coarse grid.
pub struct Field {
    coarse: Vec<Array3<f32>>, // per axis: (y, z, x); none for z in a plane
    axes: [Spread; 3],
}

impl Field {
    /// The displacements of a patch of `shape`; in a `plane`, along y and x only.
    ///
    /// # Errors
    /// A strength that is not finite, or a smoothness that is not between 0 and 1000 voxels.
    pub fn new(elastic: Elastic, shape: [usize; 3], plane: bool) -> Result<Self> {
        let Elastic { alpha, sigma, seed } = elastic;
        if alpha.is_nan() || alpha.abs() > 1e9 {
            return Err(KernelError::argument("alpha", "be a finite number of at most 1e9", alpha));
        }
        if !(sigma > 0.0 && sigma <= WIDEST) {
            return Err(KernelError::argument("sigma", format!("be above 0 and at most {WIDEST} voxels"), sigma));
        }
        let smooth = Smoothing::new(sigma);
        let z = if plane { Spread::single() } else { smooth.spread(shape[0]) };
        let axes = [z, smooth.spread(shape[1]), smooth.spread(shape[2])];
        let first = usize::from(plane);
        let coarse = (first..3).into_par_iter().map(|axis| smoothed_noise(seed, axis, alpha as f32, shape, &axes));
        let coarse = coarse.collect::<Result<_>>()?;
        Ok(Self { coarse, axes })
    }

    /// An upper bound of the displacements' size, z, y, x: a spline stays within its coefficients.
    pub fn bound(&self) -> [f64; 3] {
        let largest = |field: &Array3<f32>| f64::from(field.iter().fold(0.0, |most: f32, value| most.max(value.abs())));
        let mut bound = [0.0; 3];
        bound.iter_mut().rev().zip(self.coarse.iter().rev()).for_each(|(bound, field)| *bound = largest(field));
        bound
    }

    /// Displacements of the row (z, y), along z, y and x.
    pub fn row(&self, z: usize, y: usize, room: &mut Vec<f32>, out: &mut [Vec<f32>; 3]) {
        for (field, out) in self.coarse.iter().rev().zip(out.iter_mut().rev()) {
            room.clear();
            room.resize(field.len_of(Axis(2)), 0.0);
            self.across(field.view(), z, y, room);
            along(&self.axes[2], room, out);
        }
    }

    fn across(&self, field: ArrayView3<'_, f32>, z: usize, y: usize, sum: &mut [f32]) {
        let ((z, z_weights), (y, y_weights)) = (self.axes[0].taps(z), self.axes[1].taps(y));
        for (plane, &wy) in field.outer_iter().skip(y).zip(y_weights) {
            for (row, &wz) in plane.outer_iter().skip(z).zip(z_weights) {
                add_scaled(sum, wy * wz, row.to_slice().unwrap_or(&[]));
            }
        }
    }
}

/// Between voxels and coarse coefficients along one axis.
struct Spread {
    step: usize,                  // voxels between coefficients
    into: Vec<(usize, Vec<f32>)>, // per voxel: the first coefficient that its noise counts in, and the weights
    from: Vec<[f32; 4]>,          // per voxel within a step: weights of four coefficients
    coefficients: usize,
}

impl Spread {
    /// Of an axis with one voxel that nothing is smoothed along.
    fn single() -> Self {
        Self { step: 1, into: vec![(0, vec![1.0])], from: vec![[1.0, 0.0, 0.0, 0.0]], coefficients: 1 }
    }

    /// The first of the four coefficients that voxel `index` lies between, and their weights.
    fn taps(&self, index: usize) -> (usize, &[f32; 4]) {
        (index / self.step, &self.from[index % self.step])
    }
}

/// The Gaussian, and the same behind the spline's inverse filter.
struct Smoothing {
    step: usize,
    kernel: Vec<f64>, // odd length, the middle is 0
}

impl Smoothing {
    fn new(sigma: f64) -> Self {
        let step = ((sigma / 2.0) as usize).max(1);
        let gaussian = gaussian(sigma);
        let (radius, reach) = (gaussian.len() / 2, NEIGHBOURS * step as i64);
        let mut kernel = vec![0.0; 2 * (radius + reach as usize) + 1];
        // Coefficients of the spline through samples: their convolution with sqrt(3) POLE^|k|.
        for k in -NEIGHBOURS..=NEIGHBOURS {
            let weight = 3_f64.sqrt() * f64::from(POLE).powi(k.abs() as i32);
            let first = (reach + k * step as i64) as usize;
            kernel[first..].iter_mut().zip(&gaussian).for_each(|(sum, value)| *sum += weight * value);
        }
        Self { step, kernel }
    }

    /// Coefficient j stands at voxel `(j - 1) step`: the first and the last two lie outside the axis.
    fn spread(&self, length: usize) -> Spread {
        let coefficients = (length - 1) / self.step + 4;
        let reach = self.kernel.len() / 2;
        let into = |voxel: usize| {
            let place = |j: usize| (voxel + self.step + reach).wrapping_sub(j * self.step);
            let inside = |j: &usize| place(*j) < self.kernel.len();
            let first = (0..coefficients).find(inside).unwrap_or(0);
            (first, (first..coefficients).take_while(inside).map(|j| self.kernel[place(j)] as f32).collect())
        };
        let from = (0..self.step).map(|phase| b_spline(phase as f64 / self.step as f64)).collect();
        Spread { step: self.step, into: (0..length).map(into).collect(), from, coefficients }
    }
}

/// SciPy's sampled and normalised Gaussian.
pub fn gaussian(sigma: f64) -> Vec<f64> {
    let radius = (TRUNCATE * sigma + 0.5) as i64;
    let bell = |distance: i64| (-0.5 * (distance * distance) as f64 / (sigma * sigma)).exp();
    let total: f64 = (-radius..=radius).map(bell).sum();
    (-radius..=radius).map(|distance| bell(distance) / total).collect()
}

/// The cubic B-spline at distances 1 + t, t, 1 - t, 2 - t.
fn b_spline(t: f64) -> [f32; 4] {
    let s = 1.0 - t;
    [s * s * s, 4.0 + t * t * (3.0 * t - 6.0), 4.0 + s * s * (3.0 * s - 6.0), t * t * t].map(|w| (w / 6.0) as f32)
}

/// Coefficients (y, z, x) of the noise of one axis, smoothed and multiplied by `alpha`.
fn smoothed_noise(
    seed: u64,
    axis: usize,
    alpha: f32,
    shape: [usize; 3],
    [z, y, x]: &[Spread; 3],
) -> Result<Array3<f32>> {
    const PURPOSE: &str = "an elastic deformation";
    let mut slabs = memory::filled((shape[1], z.coefficients, x.coefficients), 0.0, PURPOSE)?;
    let slab = |(row, mut slab): (usize, ArrayViewMut2<'_, f32>)| {
        let mut along_z = memory::filled(z.coefficients * shape[2], 0.0, PURPOSE)?.into_raw_vec_and_offset().0;
        let mut noise = vec![0.0; shape[2]];
        for (plane, (first, weights)) in z.into.iter().enumerate() {
            noise_row(seed, [axis, plane, row], &mut noise);
            spread_row(&mut along_z[first * shape[2]..], weights, &noise);
        }
        for (mut sums, line) in slab.outer_iter_mut().zip(along_z.chunks_exact(shape[2])) {
            shrink_row(sums.as_slice_mut().unwrap_or(&mut []), &x.into, line, alpha);
        }
        Ok(())
    };
    slabs.axis_iter_mut(Axis(0)).into_par_iter().enumerate().try_for_each(slab)?;
    let mut coarse: Array3<f32> = memory::filled((y.coefficients, z.coefficients, x.coefficients), 0.0, PURPOSE)?;
    for (slab, (first, weights)) in slabs.outer_iter().zip(&y.into) {
        for (mut sums, &weight) in coarse.outer_iter_mut().skip(*first).zip(weights) {
            Zip::from(&mut sums).and(&slab).for_each(|sum, &value| *sum += weight * value);
        }
    }
    Ok(coarse)
}

/// Uniform noise in [-1, 1) of the row (axis, z, y): a function of seed and place alone, whoever asks first.
#[multiversion(targets = "simd")]
pub fn noise_row(seed: u64, [axis, z, y]: [usize; 3], row: &mut [f32]) {
    let place = [axis, z, y].into_iter().fold(0, |place: u64, index| (place << 28) ^ index as u64);
    let key = scrambled(seed ^ scrambled(place));
    let (low, high) = (key as u32, (key >> 32) as u32);
    for (x, value) in (0_u32..).zip(row) {
        let bits = hashed(x.wrapping_mul(0x9e37_79b9) ^ low).wrapping_add(high);
        *value = (bits >> 8) as f32 * (1.0 / (1 << 23) as f32) - 1.0;
    }
}

/// SplitMix64's step (Steele, Lea, Flood 2014).
fn scrambled(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A permutation of 32-bit words with low bias (Wellons' `lowbias32`).
#[inline(always)]
fn hashed(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// Adds `row` to the lines that follow one another in `lines`, times each line's weight.
#[multiversion(targets = "simd")]
fn spread_row(lines: &mut [f32], weights: &[f32], row: &[f32]) {
    for (line, &weight) in lines.chunks_exact_mut(row.len()).zip(weights) {
        line.iter_mut().zip(row).for_each(|(sum, &value)| *sum += weight * value);
    }
}

/// Adds every value of `line` to the sums that it counts in.
#[multiversion(targets = "simd")]
fn shrink_row(sums: &mut [f32], into: &[(usize, Vec<f32>)], line: &[f32], alpha: f32) {
    for (&value, (first, weights)) in line.iter().zip(into) {
        let value = value * alpha;
        sums[*first..].iter_mut().zip(weights).for_each(|(sum, &weight)| *sum += weight * value);
    }
}

#[multiversion(targets = "simd")]
fn add_scaled(sums: &mut [f32], weight: f32, row: &[f32]) {
    sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += weight * value);
}

/// The spline along a row, from its coefficients.
#[multiversion(targets = "simd")]
fn along(axis: &Spread, coefficients: &[f32], out: &mut [f32]) {
    for (four, part) in coefficients.windows(4).zip(out.chunks_mut(axis.step)) {
        for (value, weights) in part.iter_mut().zip(&axis.from) {
            *value = (four[0] * weights[0] + four[1] * weights[1]) + (four[2] * weights[2] + four[3] * weights[3]);
        }
    }
}
