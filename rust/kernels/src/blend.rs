//! Weighted accumulation of overlapping windows, whole or streamed in planes.
//!
//! The sums live in a ring of planes along one axis. A whole-volume blend has as many planes as the volume; a streamed
//! one as many as the tile, because windows arrive in order and planes before the newest start are finished:
//!
//! ```text
//! planes    0 1 2 3 4 5 6 7 …        position: the first plane that is not handed out yet
//!           └ out ┘└ ring ┘          plane p lives in slot p % depth
//! ```

use ndarray::{Array3, Array4, ArrayD, ArrayView2, ArrayView4, ArrayViewD, ArrayViewMut2, Axis, Ix4, Slice};
use rayon::prelude::*;

use crate::error::{KernelError, Result};
use crate::interpolate::together;
use crate::memory;
use crate::real::Real;
use crate::sums::{add_weighted, divide};
use crate::tiles::gaussian_importance;

/// Sums of weighted windows over a volume of 2 or 3 axes; `S` is the type of the sums and of the result.
pub struct Blend<S> {
    layout: Layout,
    size: [usize; 3],
    tile: [usize; 3],
    importance: Array3<f32>, // (tile)
    sums: Array4<S>,         // (classes, depth, ·, ·)
    weights: Array3<f32>,    // (depth, ·, ·)
    position: usize,
    streamed: bool,
    finished: bool,
}

impl<S: Real> Blend<S> {
    /// A blend of the whole volume, whose windows come in any order; or, with a `stream_axis`, one that holds a tile's
    /// planes along that axis only and takes windows whose starts along it do not fall.
    ///
    /// # Errors
    /// `classes` is 0, `size` or `tile` has not 2 or 3 axes, a tile is empty or larger than the size, the axis is not
    /// one of the volume, or the memory for the sums is refused.
    pub fn new(classes: usize, size: &[usize], tile: &[usize], stream_axis: Option<usize>) -> Result<Self> {
        let (axis, streamed) = (stream_axis.unwrap_or(0), stream_axis.is_some());
        check_shapes(classes, size, tile, axis)?;
        let layout = Layout { dims: size.len(), axis };
        let importance = gaussian_importance(tile)?.mapv_into(S::weight).insert_axis(Axis(0));
        let importance = layout.stored(importance.view()).index_axis_move(Axis(0), 0).as_standard_layout().into_owned();
        let (size, tile) = (layout.stored_lengths(size), layout.stored_lengths(tile));
        let depth = if streamed { tile[0] } else { size[0] };
        let sums = memory::filled((classes, depth, size[1], size[2]), S::default(), "the sums of a blend")?;
        let weights = memory::filled((depth, size[1], size[2]), 0.0, "the weights of a blend")?;
        Ok(Self { layout, size, tile, importance, sums, weights, position: 0, streamed, finished: false })
    }

    /// Adds a window's values (classes, *tile) at `start`. A streamed blend returns the planes before `start` that
    /// were not handed out yet, (classes, planes, …) with the planes on the streamed axis.
    ///
    /// # Errors
    /// The patch has another shape, the window leaves the volume, a streamed window starts before an earlier one or
    /// leaves a gap behind it, a plane to be handed out has voxels that no window covered, or the blend is finished.
    pub fn add<P: Real>(&mut self, patch: ArrayViewD<'_, P>, start: &[usize]) -> Result<Option<ArrayD<S>>> {
        self.check_open()?;
        self.check_window(patch.shape(), start)?;
        let start = self.layout.stored_lengths_from(start, 0);
        let done = if self.streamed { self.hand_out(start[0])? } else { None };
        self.accumulate(self.layout.stored(patch), start);
        Ok(done)
    }

    /// The weighted means of the planes that were not handed out yet: all of them, where nothing was streamed.
    ///
    /// # Errors
    /// A voxel that no window covered, or the blend is finished already.
    pub fn finish(&mut self) -> Result<ArrayD<S>> {
        self.check_open()?;
        let rest = if self.streamed { self.hand_out(self.size[0])? } else { Some(self.whole_mean()?) };
        self.finished = true;
        (self.sums, self.weights) = (Array4::from_elem((0, 0, 0, 0), S::default()), Array3::zeros((0, 0, 0)));
        Ok(rest.expect("the last window ends at or before the last plane, so planes are left"))
    }

    fn whole_mean(&mut self) -> Result<ArrayD<S>> {
        check_covered(self.weights.axis_iter(Axis(0)).into_par_iter().map(count_zeros).sum())?;
        let mut sums = std::mem::take(&mut self.sums);
        let weights = &self.weights;
        sums.outer_iter_mut().into_par_iter().for_each(|mut class| {
            class
                .outer_iter_mut()
                .into_par_iter()
                .zip(weights.outer_iter())
                .for_each(|(plane, weights)| divide_plane(plane, weights));
        });
        Ok(self.layout.restored(sums))
    }

    /// The means of planes `position .. stop`, whose slots are cleared.
    fn hand_out(&mut self, stop: usize) -> Result<Option<ArrayD<S>>> {
        let count = stop - self.position;
        if count == 0 {
            return Ok(None);
        }
        let depth = self.weights.len_of(Axis(0));
        // Planes beyond the ring have seen no window.
        check_covered(count.saturating_sub(depth) * self.size[1] * self.size[2])?;
        let slots: Vec<usize> = (self.position..stop).map(|plane| plane % depth).collect();
        check_covered(slots.iter().map(|&slot| count_zeros(self.weights.index_axis(Axis(0), slot))).sum())?;
        let shape = (self.sums.len_of(Axis(0)), count, self.size[1], self.size[2]);
        let mut out = memory::filled(shape, S::default(), "the finished planes of a blend")?;
        let weights = &self.weights;
        (self.sums.outer_iter_mut().into_par_iter(), out.outer_iter_mut()).into_par_iter().for_each(
            |(mut sums, mut out)| {
                for (mut plane, &slot) in out.outer_iter_mut().zip(&slots) {
                    let mut sums = sums.index_axis_mut(Axis(0), slot);
                    plane.assign(&sums);
                    sums.fill(S::default());
                    divide_plane(plane, weights.index_axis(Axis(0), slot));
                }
            },
        );
        slots.iter().for_each(|&slot| self.weights.index_axis_mut(Axis(0), slot).fill(0.0));
        self.position = stop;
        Ok(Some(self.layout.restored(out)))
    }

    fn accumulate<P: Real>(&mut self, patch: ArrayView4<'_, P>, start: [usize; 3]) {
        let (depth, importance) = (self.weights.len_of(Axis(0)), &self.importance);
        let window = [1, 2].map(|axis| Slice::from(start[axis]..start[axis] + self.tile[axis]));
        // The tile's plane that goes to a slot, if any: the inverse of slot = (start + plane) % depth.
        let plane_of =
            |slot: usize| Some((slot + depth - start[0] % depth) % depth).filter(|&plane| plane < self.tile[0]);
        self.weights.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(slot, mut weights)| {
            if let Some(plane) = plane_of(slot) {
                let mut weights = weights.slice_each_axis_mut(|axis| window[axis.axis.index()]);
                weights += &importance.index_axis(Axis(0), plane);
            }
        });
        (self.sums.outer_iter_mut().into_par_iter(), patch.outer_iter()).into_par_iter().for_each(
            |(mut sums, patch)| {
                sums.outer_iter_mut().into_par_iter().enumerate().for_each(|(slot, mut sums)| {
                    if let Some(plane) = plane_of(slot) {
                        let sums = sums.slice_each_axis_mut(|axis| window[axis.axis.index()]);
                        add_plane(sums, patch.index_axis(Axis(0), plane), importance.index_axis(Axis(0), plane));
                    }
                });
            },
        );
    }

    fn check_open(&self) -> Result<()> {
        if self.finished {
            return Err(KernelError::argument("blend", "not be used after finish()", "a finished blend"));
        }
        Ok(())
    }

    fn check_window(&self, patch: &[usize], start: &[usize]) -> Result<()> {
        let (size, tile) = (self.layout.restored_lengths(self.size), self.layout.restored_lengths(self.tile));
        let expected: Vec<usize> = std::iter::once(self.sums.len_of(Axis(0))).chain(tile.iter().copied()).collect();
        if patch != expected {
            return Err(KernelError::argument("patch", format!("have shape {expected:?} (classes, *tile)"), patch));
        }
        let inside = |axis: usize| start[axis] <= size[axis] - tile[axis];
        if start.len() != size.len() || !(0..start.len()).all(inside) {
            let rule = format!("keep the tile {tile:?} inside the volume {size:?}");
            return Err(KernelError::argument("start", rule, start));
        }
        self.check_order(start[self.layout.axis])
    }

    fn check_order(&self, start: usize) -> Result<()> {
        let allowed = self.position..=self.position + self.tile[0];
        if self.streamed && !allowed.contains(&start) {
            let rule = format!(
                "arrive in order and leave no gap along axis {}: between {} and {} here",
                self.layout.axis,
                allowed.start(),
                allowed.end()
            );
            return Err(KernelError::argument("start", rule, start));
        }
        Ok(())
    }
}

/// How the caller's axes are stored: (classes, ring axis, another or 1, last).
#[derive(Clone, Copy)]
struct Layout {
    dims: usize,
    axis: usize,
}

impl Layout {
    /// The caller's spatial axes in the order they are stored in.
    fn order(self) -> Vec<usize> {
        std::iter::once(self.axis).chain((0..self.dims).filter(|&axis| axis != self.axis)).collect()
    }

    fn stored_lengths(self, lengths: &[usize]) -> [usize; 3] {
        self.stored_lengths_from(lengths, 1)
    }

    fn stored_lengths_from(self, lengths: &[usize], missing: usize) -> [usize; 3] {
        match *self.order() {
            [a, b, c] => [lengths[a], lengths[b], lengths[c]],
            [a, b] => [lengths[a], missing, lengths[b]],
            _ => unreachable!("volumes have 2 or 3 axes"),
        }
    }

    fn restored_lengths(self, lengths: [usize; 3]) -> Vec<usize> {
        let stored = if self.dims == 2 { vec![lengths[0], lengths[2]] } else { lengths.to_vec() };
        let mut restored = vec![0; self.dims];
        self.order().into_iter().zip(stored).for_each(|(axis, length)| restored[axis] = length);
        restored
    }

    fn stored<T>(self, view: ArrayViewD<'_, T>) -> ArrayView4<'_, T> {
        let axes: Vec<usize> = std::iter::once(0).chain(self.order().into_iter().map(|axis| axis + 1)).collect();
        let view = view.permuted_axes(axes);
        let view = if self.dims == 2 { view.insert_axis(Axis(2)) } else { view };
        view.into_dimensionality::<Ix4>().expect("a class axis and three others")
    }

    fn restored<T>(self, array: Array4<T>) -> ArrayD<T> {
        let array = array.into_dyn();
        let array = if self.dims == 2 { array.index_axis_move(Axis(2), 0) } else { array };
        let mut axes = vec![0; self.dims + 1];
        self.order().into_iter().enumerate().for_each(|(stored, axis)| axes[axis + 1] = stored + 1);
        array.permuted_axes(axes)
    }
}

fn check_shapes(classes: usize, size: &[usize], tile: &[usize], axis: usize) -> Result<()> {
    if classes == 0 {
        return Err(KernelError::argument("classes", "be at least 1", classes));
    }
    if !matches!(tile.len(), 2 | 3) || tile.contains(&0) {
        return Err(KernelError::argument("tile", "have 2 or 3 axes of at least 1 voxel", tile));
    }
    if size.len() != tile.len() || size.iter().zip(tile).any(|(size, tile)| size < tile) {
        let rule = format!("be at least the tile {tile:?} along every axis (pad the volume first)");
        return Err(KernelError::argument("size", rule, size));
    }
    if axis >= size.len() {
        return Err(KernelError::argument("stream_axis", format!("be one of the volume's {} axes", size.len()), axis));
    }
    Ok(())
}

fn check_covered(uncovered: usize) -> Result<()> {
    if uncovered > 0 {
        return Err(KernelError::argument("windows", "cover every voxel", format!("{uncovered} voxels left out")));
    }
    Ok(())
}

/// Voxels that no window covered.
fn count_zeros(weights: ArrayView2<'_, f32>) -> usize {
    let zeros = |row: &[f32]| row.iter().map(|weight| u32::from(*weight == 0.0)).sum::<u32>() as usize;
    weights.outer_iter().filter_map(|row| row.to_slice()).map(zeros).sum()
}

fn add_plane<S: Real, P: Real>(mut sums: ArrayViewMut2<'_, S>, patch: ArrayView2<'_, P>, weights: ArrayView2<'_, f32>) {
    let (mut strided, mut values, mut room) = (Vec::new(), Vec::new(), Vec::new());
    for ((mut sums, patch), weights) in sums.outer_iter_mut().zip(patch.outer_iter()).zip(weights.outer_iter()) {
        let values = P::single(together(patch, &mut strided), &mut values);
        let weights = weights.to_slice().expect("rows of the weights are contiguous");
        let sums = sums.as_slice_mut().expect("rows of the sums are contiguous");
        S::change(sums, &mut room, |sums| add_weighted(sums, values, weights));
    }
}

fn divide_plane<S: Real>(mut sums: ArrayViewMut2<'_, S>, weights: ArrayView2<'_, f32>) {
    let mut room = Vec::new();
    for (mut sums, weights) in sums.outer_iter_mut().zip(weights.outer_iter()) {
        let weights = weights.to_slice().expect("rows of the weights are contiguous");
        let sums = sums.as_slice_mut().expect("rows of the sums are contiguous");
        S::change(sums, &mut room, |sums| divide(sums, weights));
    }
}
