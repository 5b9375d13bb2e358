//! Images at coordinates: nearest, linear, cubic spline. One call samples some rows of one channel.

use multiversion::multiversion;
use wide::f32x4;

use super::coordinates::{Coordinates, Grid, OUTSIDE};
use crate::spline::b_spline;

/// CoordinateBuffers whose voxels are collected before the arithmetic is done on all of them.
const LANES: usize = 64;

/// The nearest voxel; half-way positions take the later one.
#[multiversion(targets = "simd")]
pub fn nearest(grid: &Grid, coordinates: Coordinates<'_>, image: &[f32], border: f32, out: &mut [f32]) {
    let (count, hop_z, hop_y, hop_x) = (out.len(), grid.hop(0), grid.hop(1), grid.hop(2));
    let Coordinates { offset, fraction: [z, y, x] } = coordinates.part(0, count);
    let step = |fraction: f32, hop: usize| if fraction >= 0.5 { hop } else { 0 };
    for (i, value) in out.iter_mut().enumerate() {
        let at = inside(offset[i]) + step(z[i], hop_z) + step(y[i], hop_y) + step(x[i], hop_x);
        *value = if offset[i] == OUTSIDE { border } else { image[at] };
    }
}

/// Linear interpolation.
pub fn linear(grid: &Grid, coordinates: Coordinates<'_>, image: &[f32], border: f32, out: &mut [f32]) {
    if grid.plane {
        linear_rows::<4>(grid, coordinates, image, border, out);
    } else {
        linear_rows::<8>(grid, coordinates, image, border, out);
    }
}

/// `CORNERS` of a place: four in a plane, eight in space.
#[multiversion(targets = "simd")]
fn linear_rows<const CORNERS: usize>(
    grid: &Grid,
    coordinates: Coordinates<'_>,
    image: &[f32],
    border: f32,
    out: &mut [f32],
) {
    let (hop_z, hop_y, hop_x) = (grid.hop(0), grid.hop(1), grid.hop(2));
    let mut corners = [[0.0; LANES]; CORNERS];
    for (part, out) in out.chunks_mut(LANES).enumerate() {
        let Coordinates { offset, fraction: [z, y, x] } = coordinates.part(part * LANES, out.len());
        for (lane, &offset) in offset.iter().enumerate() {
            let at = inside(offset);
            // The farthest first: where that is in memory, all others are.
            for corner in (0..CORNERS).rev() {
                let hop = |bit: usize, hop: usize| if corner & bit == 0 { 0 } else { hop };
                corners[corner][lane] = image[at + hop(4, hop_z) + hop(2, hop_y) + hop(1, hop_x)];
            }
        }
        for (lane, value) in out.iter_mut().enumerate() {
            let row = |corner: usize| between(corners[corner][lane], corners[corner + 1][lane], x[lane]);
            let near = between(row(0), row(2), y[lane]);
            let mean = if CORNERS == 4 { near } else { between(near, between(row(4), row(6), y[lane]), z[lane]) };
            *value = if offset[lane] == OUTSIDE { border } else { mean };
        }
    }
}

/// An offset that is in memory: coordinates outside are computed as well, and overwritten.
#[inline(always)]
const fn inside(offset: u32) -> usize {
    if offset == OUTSIDE { 0 } else { offset as usize }
}

#[inline(always)]
fn between(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// The cubic spline of some coefficients, each over 6 an axis.
pub fn cubic(grid: &Grid, coordinates: Coordinates<'_>, spline: &[f32], border: f32, out: &mut [f32]) {
    if grid.plane {
        cubic_rows::<1>(grid, coordinates, spline, border, out);
    } else {
        cubic_rows::<4>(grid, coordinates, spline, border, out);
    }
}

/// `PLANES` of taps along z.
#[multiversion(targets = "simd")]
fn cubic_rows<const PLANES: usize>(
    grid: &Grid,
    coordinates: Coordinates<'_>,
    spline: &[f32],
    border: f32,
    out: &mut [f32],
) {
    let (hop_z, hop_y) = (grid.hop(0), grid.hop(1));
    let (mut along_z, mut along_y, mut along_x) = ([[0.0; 4]; LANES], [[0.0; 4]; LANES], [[0.0; 4]; LANES]);
    for (part, out) in out.chunks_mut(LANES).enumerate() {
        let Coordinates { offset, fraction: [z, y, x] } = coordinates.part(part * LANES, out.len());
        weigh(z, &mut along_z);
        weigh(y, &mut along_y);
        weigh(x, &mut along_x);
        for (lane, value) in out.iter_mut().enumerate() {
            let (at, y) = (inside(offset[lane]), along_y[lane]);
            let mut sum = f32x4::ZERO;
            for plane in (0..PLANES).rev() {
                let line = |tap: usize| four(spline, at + plane * hop_z + tap * hop_y) * f32x4::splat(y[tap]);
                let lines = (line(3) + line(2)) + (line(1) + line(0));
                sum += if PLANES == 4 { lines * f32x4::splat(along_z[lane][plane]) } else { lines };
            }
            let [p, q, r, s] = (sum * f32x4::new(along_x[lane])).to_array();
            *value = if offset[lane] == OUTSIDE { border } else { (p + q) + (r + s) };
        }
    }
}

#[inline(always)]
fn four(spline: &[f32], at: usize) -> f32x4 {
    f32x4::new(spline[at..at + 4].first_chunk().copied().unwrap_or_default())
}

/// Weights of the taps of each position, times 6.
#[inline(always)]
fn weigh(fraction: &[f32], weights: &mut [[f32; 4]; LANES]) {
    for (&t, weights) in fraction.iter().zip(weights) {
        *weights = b_spline(t);
    }
}
