//! Cubic B-spline coefficients of the part of an image that a patch can reach, mirrored at the image's edges.
//!
//! Equal to `scipy.ndimage.spline_filter(order=3, mode="mirror")`, but for the gain of 6 an axis, which the weights
//! carry, and for the cut edges of the part: what lies beyond them fades with |z|^k, below 1e-7 after [`MARGIN`] voxels.

use std::ops::Range;

use multiversion::multiversion;
use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, ArrayViewMut2, Axis, Slice};

use crate::error::Result;
use crate::memory;
use crate::separable::{LANES, Row, load, store};
use crate::transpose::{one_by_one, side_by_side};

/// The cubic B-spline's pole, sqrt(3) - 2.
pub const POLE: f32 = -0.267_949_2;

/// Voxels around what is read that still matter to its coefficients.
pub const MARGIN: usize = 12;

/// Terms of the sums that start the recursion.
const TERMS: usize = 16;

/// Coefficients over 6 an axis of `image` within `region`; in a `plane`, z is not filtered.
///
/// # Errors
/// The system refuses the memory.
pub fn coefficients(image: ArrayView3<'_, f32>, region: &[Range<usize>; 3], plane: bool) -> Result<Array3<f32>> {
    let source = image.slice_each_axis(|axis| Slice::from(region[axis.axis.index()].clone()));
    let mut part = memory::filled(source.raw_dim(), 0.0, "the spline coefficients of an image")?;
    part.assign(&source);
    part.axis_iter_mut(Axis(0)).into_par_iter().for_each_init(Vec::new, |room, mut slice| {
        rows(slice.view_mut(), room);
        columns(slice, room);
    });
    if !plane {
        part.axis_iter_mut(Axis(1)).into_par_iter().for_each_init(Vec::new, |room, slice| columns(slice, room));
    }
    Ok(part)
}

/// The index that `index`, up to a period outside, is mirrored to; the outermost voxels are not repeated.
pub fn mirrored(index: i64, length: usize) -> usize {
    let period = (2 * length as i64 - 2).max(1);
    let index = index.rem_euclid(period);
    index.min(period - index) as usize
}

/// Filters along the first axis.
fn columns(mut slice: ArrayViewMut2<'_, f32>, room: &mut Vec<Row>) {
    let width = slice.len_of(Axis(1));
    let mut rows: Vec<&mut [f32]> = slice.outer_iter_mut().filter_map(|row| row.into_slice()).collect();
    room.resize(rows.len(), [0.0; LANES]);
    for x in (0..width).step_by(LANES) {
        filter_columns(&mut rows, x, room);
    }
}

#[multiversion(targets = "simd")]
fn filter_columns(rows: &mut [&mut [f32]], x: usize, room: &mut [Row]) {
    for (lanes, row) in room.iter_mut().zip(rows.iter()) {
        *lanes = load(row, x);
    }
    filter(room);
    for (lanes, row) in room.iter().zip(rows) {
        store(row, x, *lanes);
    }
}

/// Filters along the second axis.
fn rows(slice: ArrayViewMut2<'_, f32>, room: &mut Vec<Row>) {
    let width = slice.len_of(Axis(1));
    room.resize(width, [0.0; LANES]);
    for block in slice.into_slice().unwrap_or(&mut []).chunks_mut(LANES * width) {
        side_by_side(&block.chunks_exact(width).collect::<Vec<_>>(), room);
        filter_rows(room);
        one_by_one(room, block);
    }
}

#[multiversion(targets = "simd")]
fn filter_rows(room: &mut [Row]) {
    filter(room);
}

/// Turns [`LANES`] lanes of samples into coefficients over 6.
///
/// ```text
/// causal      c+[k] = s[k] + z c+[k-1]           c+[0] = sum of z^k s[mirrored k]
/// anticausal  c-[k] = z (c-[k+1] - c+[k])        c-[n-1] = z (c+[n-1] + z c+[n-2]) / (z^2 - 1)
/// ```
#[inline(always)]
fn filter(lane: &mut [Row]) {
    let last = lane.len() - 1;
    if last == 0 {
        lane[0].iter_mut().for_each(|value| *value /= 6.0);
        return;
    }
    let mut state = [0.0; LANES];
    for k in (0..TERMS as i64).rev() {
        let samples = &lane[mirrored(k, last + 1)];
        for (state, sample) in state.iter_mut().zip(samples) {
            *state = sample + POLE * *state;
        }
    }
    lane[0] = state;
    for row in &mut lane[1..] {
        for (value, state) in row.iter_mut().zip(&mut state) {
            *state = *value + POLE * *state;
            *value = *state;
        }
    }
    let before = lane[last - 1];
    for (state, before) in state.iter_mut().zip(before) {
        *state = POLE / (POLE * POLE - 1.0) * (*state + POLE * before);
    }
    lane[last] = state;
    for row in lane[..last].iter_mut().rev() {
        for (value, state) in row.iter_mut().zip(&mut state) {
            *state = POLE * (*state - *value);
            *value = *state;
        }
    }
}
