//! Smooth random displacements.
//!
//! Reference: batchgenerators' `elastic_deform_coordinates`: uniform noise in [-1, 1) a voxel and axis, smoothed by
//! `scipy.ndimage.gaussian_filter(sigma, mode="constant")` and multiplied by alpha. What is smoothed with `sigma` needs
//! no voxel grid: the smoothed noise is computed at every `sigma / 2`th voxel only, as coefficients of a cubic B-spline
//! that passes through it, and the spline is evaluated where it is asked for. The two agree within a thousandth of the
//! field's standard deviation.

use multiversion::multiversion;
use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayViewMut3, Axis};

use crate::error::{KernelError, Result};
use crate::gaussian::Gaussian;
use crate::memory;
use crate::rng::noise_row;
use crate::spline::{POLE, b_spline};

/// Smoothest field; beyond it a parameter is a mistake.
const WIDEST: f64 = 1000.0;

/// Voxels of a plane whose noise is spread at once: it stays in the innermost cache.
const BLOCK: usize = 1024;

/// Coarse neighbours at either side that the spline's coefficients are made of: the next ones weigh below 1e-4.
const NEIGHBOURS: i64 = 7;

const PURPOSE: &str = "an elastic deformation";

/// An elastic deformation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elastic {
    /// What the smoothed noise is multiplied by; in a volume its standard deviation is about `0.086 alpha / sigma^1.5` voxels.
    pub alpha: f64,
    /// Standard deviation of the smoothing, voxels.
    pub sigma: f64,
    /// Where the noise comes from.
    pub seed: u64,
}

/// Displacements along each axis: along x at every voxel, along z and y as spline coefficients on a coarse grid.
pub struct Field {
    coarse: Vec<Array3<f32>>, // per axis: (z, y, x); none for z in a plane
    axes: [Spread; 3],
}

/// The displacements of a plane, along y still as coefficients.
#[derive(Default)]
pub struct DisplacedPlane {
    plane: Option<usize>,
    lines: [Vec<f32>; 3], // per axis: (y, x)
}

impl Field {
    /// The displacements of a patch of `shape`; in a `plane`, along y and x only.
    ///
    /// # Errors
    /// A strength that is not finite, or a smoothness that is not between 0 and 1000 voxels; memory refused.
    pub fn new(elastic: Elastic, shape: [usize; 3], plane: bool) -> Result<Self> {
        let Elastic { alpha, sigma, seed } = elastic;
        if alpha.is_nan() || alpha.abs() > 1e9 {
            return Err(KernelError::value("alpha", "be a finite number of at most 1e9", alpha));
        }
        if !(sigma > 0.0 && sigma <= WIDEST) {
            return Err(KernelError::value("sigma", format!("be above 0 and at most {WIDEST} voxels"), sigma));
        }
        let smooth = Smoothing::new(sigma)?;
        let z = if plane { Spread::single() } else { smooth.spread(shape[0])? };
        let axes = [z, smooth.spread(shape[1])?, smooth.spread(shape[2])?];
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

    /// Displacements of the row (z, y), along z, y and x. Rows of one plane should follow one another.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn row(&self, z: usize, y: usize, displaced: &mut DisplacedPlane, out: &mut [Vec<f32>; 3]) -> Result<()> {
        if displaced.plane != Some(z) {
            self.interpolate_plane(z, displaced)?;
        }
        let (y, weights) = self.axes[1].coefficients(y);
        for (lines, out) in displaced.lines.iter().zip(out) {
            memory::resize(out, self.width(), 0.0, PURPOSE)?;
            weighted(lines, y * self.width(), weights, out);
        }
        Ok(())
    }

    /// The plane z.
    fn interpolate_plane(&self, z: usize, displaced: &mut DisplacedPlane) -> Result<()> {
        let (first, weights) = self.axes[0].coefficients(z);
        let count = self.axes[1].coefficients * self.width();
        displaced.lines.iter_mut().try_for_each(|lines| memory::resize(lines, count, 0.0, PURPOSE))?;
        displaced.plane = Some(z);
        for (field, lines) in self.coarse.iter().rev().zip(displaced.lines.iter_mut().rev()) {
            weighted(field.as_slice().unwrap_or_default(), first * count, weights, lines);
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.coarse[0].len_of(Axis(2))
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

    /// Smooths a row: into its coefficients, and back to values.
    fn smooth(&self, row: &mut [f32], room: &mut Vec<f32>) -> Result<()> {
        room.clear();
        memory::resize(room, self.coefficients, 0.0, PURPOSE)?;
        shrink_row(room, &self.into, row);
        along(self, room, row);
        Ok(())
    }

    /// The first of the four coefficients that voxel `index` lies between, and their weights.
    fn coefficients(&self, index: usize) -> (usize, &[f32; 4]) {
        (index / self.step, &self.from[index % self.step])
    }
}

/// The Gaussian, and the same behind the spline's inverse filter.
struct Smoothing {
    step: usize,
    kernel: Vec<f64>, // odd length, the middle is 0
}

impl Smoothing {
    fn new(sigma: f64) -> Result<Self> {
        let step = ((sigma / 2.0) as usize).max(1);
        let gaussian = gaussian(sigma)?;
        let (radius, reach) = (gaussian.len() / 2, NEIGHBOURS * step as i64);
        let mut kernel = memory::vector(2 * (radius + reach as usize) + 1, 0.0, PURPOSE)?;
        // Coefficients of the spline through samples: their convolution with sqrt(3) POLE^|k|.
        for k in -NEIGHBOURS..=NEIGHBOURS {
            let weight = 3_f64.sqrt() * f64::from(POLE).powi(k.abs() as i32);
            let first = (reach + k * step as i64) as usize;
            kernel[first..].iter_mut().zip(&gaussian).for_each(|(sum, value)| *sum += weight * value);
        }
        Ok(Self { step, kernel })
    }

    /// Coefficient j stands at voxel `(j - 1) step`: the first and the last two lie outside the axis.
    fn spread(&self, length: usize) -> Result<Spread> {
        let coefficients = (length - 1) / self.step + 4;
        let reach = self.kernel.len() / 2;
        let into = |voxel: usize| {
            let place = |j: usize| voxel + self.step + reach - j * self.step;
            // The first and the last coefficient whose kernel reaches the voxel.
            let first = (voxel + self.step + reach + 1).saturating_sub(self.kernel.len()).div_ceil(self.step);
            let end = ((voxel + self.step + reach) / self.step + 1).min(coefficients);
            Ok((first, memory::collected((first..end).map(|j| self.kernel[place(j)] as f32), PURPOSE)?))
        };
        let from = (0..self.step).map(|phase| b_spline(phase as f64 / self.step as f64).map(|w| (w / 6.0) as f32));
        let from = memory::collected(from, PURPOSE)?;
        let into = memory::collected_results((0..length).map(into), PURPOSE)?;
        Ok(Spread { step: self.step, into, from, coefficients })
    }
}

/// The normalised Gaussian.
fn gaussian(sigma: f64) -> Result<Vec<f64>> {
    let bell = Gaussian::new(sigma);
    let (total, distances) = (bell.total(), -bell.radius..=bell.radius);
    memory::gathered(distances.map(|at| bell.at(at as f64) / total), 2 * bell.radius as usize + 1, PURPOSE)
}

/// The noise of one axis, smoothed and multiplied by `alpha`: coefficients along z and y, values along x.
fn smoothed_noise(
    seed: u64,
    axis: usize,
    alpha: f32,
    shape: [usize; 3],
    [z, y, x]: &[Spread; 3],
) -> Result<Array3<f32>> {
    let mut along_z = memory::filled((z.coefficients, shape[1], shape[2]), 0.0, PURPOSE)?;
    let rows = (BLOCK / shape[2]).max(1);
    let block = |noise: &mut Vec<f32>, (block, mut sums): (usize, ArrayViewMut3<'_, f32>)| {
        memory::resize(noise, sums.len_of(Axis(1)) * shape[2], 0.0, PURPOSE)?;
        for (plane, (first, weights)) in z.into.iter().enumerate() {
            for (row, noise) in (block * rows..).zip(noise.chunks_exact_mut(shape[2])) {
                noise_row(seed, [axis, plane, row], noise);
            }
            for (mut sums, &weight) in sums.outer_iter_mut().skip(*first).zip(weights) {
                add_scaled(sums.as_slice_mut().unwrap_or_default(), weight, noise);
            }
        }
        Ok(())
    };
    let blocks = along_z.axis_chunks_iter_mut(Axis(1), rows).into_par_iter().enumerate();
    blocks.try_for_each_init(Vec::new, block)?;
    let mut coarse = memory::filled((z.coefficients, y.coefficients, shape[2]), 0.0, PURPOSE)?;
    let planes = coarse.axis_iter_mut(Axis(0)).into_par_iter().zip(along_z.axis_iter(Axis(0)));
    planes.try_for_each_init(Vec::new, |room, (coarse, plane)| {
        let (coarse, plane) = (coarse.into_slice().unwrap_or_default(), plane.to_slice().unwrap_or_default());
        spread_rows(plane, &y.into, coarse, shape[2]);
        for line in coarse.chunks_exact_mut(shape[2]) {
            line.iter_mut().for_each(|value| *value *= alpha);
            x.smooth(line, room)?;
        }
        Ok(())
    })?;
    Ok(coarse)
}

/// Adds `row` to `sums`, times a weight.
#[multiversion(targets = "simd")]
fn add_scaled(sums: &mut [f32], weight: f32, row: &[f32]) {
    sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += weight * value);
}

/// Adds every row of `plane` to the rows of `sums` that it counts in.
#[multiversion(targets = "simd")]
fn spread_rows(plane: &[f32], into: &[(usize, Vec<f32>)], sums: &mut [f32], width: usize) {
    for (row, (first, weights)) in plane.chunks_exact(width).zip(into) {
        for (sums, &weight) in sums[first * width..].chunks_exact_mut(width).zip(weights) {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += weight * value);
        }
    }
}

/// The sum of what follows in `parts` from `first` on, as many parts as there are, times a weight each.
fn weighted(parts: &[f32], first: usize, weights: &[f32; 4], sums: &mut [f32]) {
    let mut parts = parts[first..].chunks_exact(sums.len()).take(weights.len());
    match [parts.next(), parts.next(), parts.next(), parts.next()] {
        [Some(a), Some(b), Some(c), Some(d)] => mix([a, b, c, d], weights, sums),
        // Of an axis that nothing is smoothed along there is one.
        [Some(only), ..] => sums.copy_from_slice(only),
        [None, ..] => {}
    }
}

#[multiversion(targets = "simd")]
fn mix([a, b, c, d]: [&[f32]; 4], weights: &[f32; 4], sums: &mut [f32]) {
    for ((((sum, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        *sum = (weights[0] * a + weights[1] * b) + (weights[2] * c + weights[3] * d);
    }
}

/// Adds every value of `line` to the sums that it counts in.
#[multiversion(targets = "simd")]
fn shrink_row(sums: &mut [f32], into: &[(usize, Vec<f32>)], line: &[f32]) {
    for (&value, (first, weights)) in line.iter().zip(into) {
        sums[*first..].iter_mut().zip(weights).for_each(|(sum, &weight)| *sum += weight * value);
    }
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
