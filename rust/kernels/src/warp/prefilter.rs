//! Cubic B-spline coefficients of the part of an image that a patch can reach, mirrored at the image's edges.
//!
//! Equal to `scipy.ndimage.spline_filter(order=3, mode="mirror")`, but for the gain of 6 an axis, which the weights
//! carry, and for the cut edges of the part: what lies beyond them fades with |z|^k, below 1e-7 after [`MARGIN`] voxels.

use std::ops::Range;

use multiversion::multiversion;
use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, Slice};

use super::coordinates::{BEFORE, BEHIND, around};
use crate::edges::mirror;
use crate::error::Result;
use crate::memory;
use crate::separable::{LANES, Row};
use crate::spline::POLE;
use crate::transpose::{one_by_one, side_by_side};

/// Voxels around what is read that still matter to its coefficients.
pub const MARGIN: usize = 12;

/// Terms of the sums that start the recursion.
const TERMS: usize = 16;

const PURPOSE: &str = "the spline coefficients of an image";

/// Planes that one task filters, so that few of the groups of rows that lie side by side are not full.
const PLANES: usize = 4;

/// Coefficients over 6 an axis of `image` within `region`, and [`BEFORE`] and [`BEHIND`] voxels around them mirrored, in
/// an array of the shape [`around`] them; in a `plane`, nothing of this is done along z.
///
/// # Errors
/// The system refuses the memory.
pub fn coefficients(image: ArrayView3<'_, f32>, region: &[Range<usize>; 3], plane: bool) -> Result<Array3<f32>> {
    let source = image.slice_each_axis(|axis| Slice::from(region[axis.axis.index()].clone()));
    let source = match source.stride_of(Axis(2)) {
        1 => source.into(),
        _ => memory::contiguous(source, "a contiguous copy of a part of the image")?,
    };
    let first = if plane { 0 } else { BEFORE };
    let mut part = memory::filled(around(region, plane), 0.0, PURPOSE)?;
    let mut inner = part.slice_axis_mut(Axis(0), Slice::from(first..first + source.len_of(Axis(0))));
    let planes = inner.axis_chunks_iter_mut(Axis(0), PLANES).into_par_iter();
    let planes = planes.zip(source.axis_chunks_iter(Axis(0), PLANES));
    planes.try_for_each_init(Room::default, |room, (mut out, source)| {
        rows(source, &mut out, room)?;
        out.outer_iter_mut().try_for_each(|plane| columns(plane, &mut room.state))
    })?;
    if !plane {
        let slices = part.axis_iter_mut(Axis(1)).into_par_iter();
        slices.try_for_each_init(Vec::new, |room, slice| columns(slice, room))?;
    }
    Ok(part)
}

/// What a thread keeps from task to task.
#[derive(Default)]
struct Room {
    wide: Vec<Row>,
    block: Vec<f32>,
    state: Vec<f32>,
}

/// Filters the rows of `source` into the middle of `out`, mirrored at either end.
fn rows(source: ArrayView3<'_, f32>, out: &mut ArrayViewMut3<'_, f32>, room: &mut Room) -> Result<()> {
    let (count, width) = (source.len_of(Axis(1)), source.len_of(Axis(2)));
    let around = out.len_of(Axis(2));
    memory::resize(&mut room.wide, around, [0.0; LANES], PURPOSE)?;
    memory::resize(&mut room.block, LANES * around, 0.0, PURPOSE)?;
    let all = source.len_of(Axis(0)) * count;
    let mut sources = memory::reserved(all.next_multiple_of(LANES), PURPOSE)?;
    sources.extend(source.rows().into_iter().filter_map(|row| row.to_slice()));
    let planes = out.outer_iter_mut().filter_map(|plane| plane.into_slice());
    let targets = planes.flat_map(|plane| plane.chunks_exact_mut(around).skip(BEFORE).take(count));
    let mut targets = memory::gathered(targets, all, PURPOSE)?;
    // A last group that is not full is filled up with its last row.
    let last = sources[all - 1];
    sources.resize(all.next_multiple_of(LANES), last);
    for (sources, targets) in sources.chunks_exact(LANES).zip(targets.chunks_mut(LANES)) {
        side_by_side(sources, &mut room.wide[BEFORE..BEFORE + width]);
        filter_lanes(&mut room.wide[BEFORE..BEFORE + width]);
        for place in (0..BEFORE).chain(BEFORE + width..around.min(BEFORE + width + BEHIND)) {
            room.wide[place] = room.wide[BEFORE + mirror(place as i64 - BEFORE as i64, width)];
        }
        one_by_one(&room.wide, &mut room.block);
        for (target, row) in targets.iter_mut().zip(room.block.chunks_exact(around)) {
            target.copy_from_slice(row);
        }
    }
    Ok(())
}

/// Turns [`LANES`] lanes of samples into coefficients over 6.
///
/// ```text
/// causal      c+[k] = s[k] + z c+[k-1]           c+[0] = sum of z^k s[mirrored k]
/// anticausal  c-[k] = z (c-[k+1] - c+[k])        c-[n-1] = z (c+[n-1] + z c+[n-2]) / (z^2 - 1)
/// ```
#[multiversion(targets = "simd")]
fn filter_lanes(lane: &mut [Row]) {
    let last = lane.len() - 1;
    if last == 0 {
        lane[0].iter_mut().for_each(|value| *value /= 6.0);
        return;
    }
    let mut state = [0.0; LANES];
    for k in (0..TERMS as i64).rev() {
        add_scaled(&mut state, &lane[mirror(k, last + 1)]);
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

/// The same along the first axis, of what lies between the rows for mirrored coefficients; then fills these.
fn columns(mut slice: ArrayViewMut2<'_, f32>, state: &mut Vec<f32>) -> Result<()> {
    state.clear();
    memory::resize(state, slice.len_of(Axis(1)), 0.0, PURPOSE)?;
    let count = slice.len_of(Axis(0));
    let mut rows = memory::gathered(slice.outer_iter_mut().filter_map(|row| row.into_slice()), count, PURPOSE)?;
    let inner = BEFORE..rows.len() - BEHIND;
    filter_rows(&mut rows[inner.clone()], state);
    for place in (0..BEFORE).chain(inner.end..rows.len()) {
        let from = BEFORE + mirror(place as i64 - BEFORE as i64, inner.len());
        let [to, from] = rows.get_disjoint_mut([place, from]).expect("mirrored rows lie between the others");
        to.copy_from_slice(from);
    }
    Ok(())
}

#[multiversion(targets = "simd")]
fn filter_rows(rows: &mut [&mut [f32]], state: &mut [f32]) {
    let last = rows.len() - 1;
    if last == 0 {
        rows[0].iter_mut().for_each(|value| *value /= 6.0);
        return;
    }
    for k in (0..TERMS as i64).rev() {
        add_scaled(state, rows[mirror(k, last + 1)]);
    }
    rows[0].copy_from_slice(state);
    for k in 1..=last {
        let (before, here) = rows.split_at_mut(k);
        for (value, before) in here[0].iter_mut().zip(before[k - 1].iter()) {
            *value += POLE * before;
        }
    }
    let (before, here) = rows.split_at_mut(last);
    for (value, before) in here[0].iter_mut().zip(before[last - 1].iter()) {
        *value = POLE / (POLE * POLE - 1.0) * (*value + POLE * before);
    }
    for k in (0..last).rev() {
        let (here, after) = rows.split_at_mut(k + 1);
        for (value, after) in here[k].iter_mut().zip(after[0].iter()) {
            *value = POLE * (after - *value);
        }
    }
}

/// The next term of a sum of powers of the pole, from the last one on.
#[inline(always)]
fn add_scaled(state: &mut [f32], samples: &[f32]) {
    for (state, sample) in state.iter_mut().zip(samples) {
        *state = sample + POLE * *state;
    }
}
