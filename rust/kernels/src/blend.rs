//! Weighted accumulation of overlapping windows, whole or streamed in planes.
//!
//! The sums live in a ring of planes along one axis. A whole-volume blend has as many planes as the volume; a streamed
//! one as many as the tile, because windows arrive in order and planes before the newest start are finished:
//!
//! ```text
//! planes    0 1 2 3 4 5 6 7 …        position: the first plane that is not handed out yet
//!           └ out ┘└ ring ┘          plane p lives in slot p % depth
//! ```

use std::marker::PhantomData;

use ndarray::{
    Array2, Array3, ArrayView2, ArrayView3, ArrayView4, ArrayViewD, ArrayViewMut1, ArrayViewMut2, ArrayViewMut3,
    ArrayViewMut4, Axis, Ix4, Slice,
};
use rayon::prelude::*;

use crate::dtype::Float;
use crate::error::{KernelError, Kind, Result};
use crate::memory::{self, contiguous_row};
use crate::tiles::gaussian_importance;
use crate::window_accumulator::{add, add_weighted, divide};

/// How windows are blended over a volume of 2 or 3 axes, and how far it is; `S` is the type of the sums and of the result.
///
/// The sums themselves are the caller's, who may have them from whom he likes: where the system hands out memory in small
/// pages, taking those takes longer than the sums, and two threads wait for each other.
pub struct Blend<S> {
    layout: Layout,
    classes: usize,
    size: [usize; 3],
    tile: [usize; 3],
    importance: Array3<f32>, // (tile)
    position: usize,
    streamed: bool,
    finished: bool,
    kind: PhantomData<S>,
}

const PURPOSE: &str = "the sums of a blend";

/// Memory of a blend: as large as [`Blend::shape`] says, zeros at first, and the same in every call.
pub struct Memory<'a, S> {
    /// (classes, depth, ·, ·)
    pub sums: ArrayViewMut4<'a, S>,
    /// (depth, ·, ·)
    pub weights: ArrayViewMut3<'a, f32>,
}

impl<S: Float> Blend<S> {
    /// A blend of the whole volume, whose windows come in any order; or, with a `stream_axis`, one that needs a tile's
    /// planes along that axis only and takes windows whose starts along it do not fall.
    ///
    /// # Errors
    /// `classes` is 0, `size` or `tile` has not 2 or 3 axes, a tile is empty or larger than the size, the axis is not
    /// one of the volume, or the system would refuse memory for the sums.
    pub fn new(classes: usize, size: &[usize], tile: &[usize], stream_axis: Option<usize>) -> Result<Self> {
        let (axis, streamed) = (stream_axis.unwrap_or(0), stream_axis.is_some());
        check_shapes(classes, size, tile, axis)?;
        let layout = Layout { dims: size.len(), axis };
        let importance = gaussian_importance(tile)?.mapv_into(S::weight).insert_axis(Axis(0));
        let stored = layout.stored(importance.view()).index_axis_move(Axis(0), 0);
        let importance = memory::owned(stored, "the importance of a tile")?;
        let (size, tile) = (layout.stored_lengths(size), layout.stored_lengths(tile));
        let kind = PhantomData;
        let blend = Self { layout, classes, size, tile, importance, position: 0, streamed, finished: false, kind };
        memory::affordable::<S>(&blend.shape(), PURPOSE)?;
        Ok(blend)
    }

    /// The shape of the sums; that of the weights is the same without the classes.
    pub fn shape(&self) -> [usize; 4] {
        let depth = if self.streamed { self.tile[0] } else { self.size[0] };
        [self.classes, depth, self.size[1], self.size[2]]
    }

    /// What has the shape of the sums but for its planes, with the caller's axes: first without this axis, if there is
    /// one, and then in this order.
    pub fn restored_axes(&self) -> (Option<usize>, Vec<usize>) {
        let mut axes = vec![0; self.layout.dims + 1];
        self.layout.order().into_iter().enumerate().for_each(|(stored, axis)| axes[axis + 1] = stored + 1);
        ((self.layout.dims == 2).then_some(2), axes)
    }

    /// The shape of what [`Blend::add`] hands out for a window at `start`; `None` if it hands out nothing.
    ///
    /// # Errors
    /// As [`Blend::add`] for such a window.
    pub fn done_before(&self, start: &[usize]) -> Result<Option<[usize; 4]>> {
        self.check_open()?;
        self.check_start(start)?;
        let stop = self.layout.stored_lengths_from(start, 0)[0];
        let planes = if self.streamed { stop - self.position } else { 0 };
        Ok((planes > 0).then_some([self.classes, planes, self.size[1], self.size[2]]))
    }

    /// Adds a window's values (classes, *tile) at `start`. A streamed blend writes to `out`, of the shape that
    /// [`Blend::done_before`] tells, the means of the planes before `start` that were not handed out yet.
    ///
    /// # Errors
    /// The patch has another shape, the window leaves the volume, a streamed window starts before an earlier one or
    /// leaves a gap behind it, a plane to be handed out has voxels that no window covered, the blend is finished, or memory
    /// is refused; nothing is added then.
    pub fn add<P: Float>(
        &mut self,
        mut memory: Memory<'_, S>,
        patch: ArrayViewD<'_, P>,
        start: &[usize],
        out: Option<ArrayViewMut4<'_, S>>,
    ) -> Result<()> {
        let expected: Vec<usize> =
            std::iter::once(self.classes).chain(self.layout.restored_lengths(self.tile)).collect();
        if patch.shape() != expected {
            let hint = (patch.shape() == &expected[1..]).then(|| "for one class give patch[None]".into());
            let rule = format!("have shape {expected:?} (classes, *tile)");
            return Err(KernelError::argument("patch", rule, patch.shape()).with_hint(hint));
        }
        let done = self.done_before(start)?;
        self.check_memory(&memory, done, out.as_ref())?;
        let (patch, start) = (self.layout.stored(patch), self.layout.stored_lengths_from(start, 0));
        let rooms = self.rooms(&patch, start[0])?;
        if let Some(out) = out {
            self.hand_out(&mut memory, out)?;
        }
        self.accumulate(&mut memory, patch, start, rooms);
        Ok(())
    }

    /// The shape of what [`Blend::finish`] hands out; `None` if the sums themselves become the means.
    pub fn rest(&self) -> Option<[usize; 4]> {
        self.streamed.then_some([self.classes, self.size[0] - self.position, self.size[1], self.size[2]])
    }

    /// Makes means of the sums that were not handed out yet: in `out`, of the shape that [`Blend::rest`] tells, or in
    /// their place.
    ///
    /// # Errors
    /// A voxel that no window covered, or the blend is finished already.
    pub fn finish(&mut self, mut memory: Memory<'_, S>, out: Option<ArrayViewMut4<'_, S>>) -> Result<()> {
        self.check_open()?;
        self.check_memory(&memory, self.rest(), out.as_ref())?;
        match out {
            Some(out) => self.hand_out(&mut memory, out)?,
            None => whole_mean(&mut memory)?,
        }
        self.finished = true;
        Ok(())
    }

    /// The means of as many planes as `out` has, from `position` on, whose slots are cleared.
    fn hand_out(&mut self, memory: &mut Memory<'_, S>, mut out: ArrayViewMut4<'_, S>) -> Result<()> {
        let count = out.len_of(Axis(1));
        let depth = memory.weights.len_of(Axis(0));
        // Planes beyond the ring have seen no window.
        check_covered(count.saturating_sub(depth) * self.size[1] * self.size[2])?;
        let slots = (0..count).map(|plane| (self.position + plane) % depth);
        let slots = memory::collected(slots, PURPOSE)?;
        check_covered(slots.iter().map(|&slot| count_zeros(memory.weights.index_axis(Axis(0), slot))).sum())?;
        let weights = memory.weights.view();
        let mut rooms = rooms::<S>(self.classes, self.size[2])?;
        let classes = (memory.sums.outer_iter_mut(), out.outer_iter_mut(), rooms.outer_iter_mut());
        classes.into_par_iter().for_each(|(mut sums, mut out, mut room)| {
            for (mut plane, &slot) in out.outer_iter_mut().zip(&slots) {
                let mut sums = sums.index_axis_mut(Axis(0), slot);
                plane.assign(&sums);
                sums.fill(S::default());
                divide_plane(plane, weights.index_axis(Axis(0), slot), values_of(&mut room));
            }
        });
        slots.iter().for_each(|&slot| memory.weights.index_axis_mut(Axis(0), slot).fill(0.0));
        self.position += count;
        Ok(())
    }

    fn rooms<P: Float>(&self, patch: &ArrayView4<'_, P>, start: usize) -> Result<Slots<P>> {
        let depth = self.shape()[1];
        // The inverse of slot = (start + plane) % depth.
        let plane_of = |slot: usize| Some((slot + depth - start % depth) % depth).filter(|&plane| plane < self.tile[0]);
        let room = |slot| plane_of(slot).map(|plane| Ok((plane, Room::new::<S>(patch)?))).transpose();
        memory::collected_results((0..depth).map(room), PURPOSE)
    }

    fn accumulate<P: Float>(
        &self,
        memory: &mut Memory<'_, S>,
        patch: ArrayView4<'_, P>,
        start: [usize; 3],
        rooms: Slots<P>,
    ) {
        let importance = &self.importance;
        let window = [1, 2].map(|axis| Slice::from(start[axis]..start[axis] + self.tile[axis]));
        let planes = memory.sums.axis_iter_mut(Axis(1)).into_par_iter();
        let planes = planes.zip(memory.weights.axis_iter_mut(Axis(0)).into_par_iter());
        planes.zip(rooms).for_each(|((mut sums, mut weights), room)| {
            let Some((plane, mut room)) = room else { return };
            let importance = importance.index_axis(Axis(0), plane);
            let mut weights = weights.slice_each_axis_mut(|axis| window[axis.axis.index()]);
            for (mut weights, importance) in weights.outer_iter_mut().zip(importance.outer_iter()) {
                let weights = weights.as_slice_mut().expect("rows of the weights are contiguous");
                add(weights, importance.to_slice().expect("rows of the importance are contiguous"));
            }
            for (mut sums, patch) in sums.outer_iter_mut().zip(patch.outer_iter()) {
                let sums = sums.slice_each_axis_mut(|axis| window[axis.axis.index()]);
                room.add_plane(sums, patch.index_axis(Axis(0), plane), importance);
            }
        });
    }

    fn check_open(&self) -> Result<()> {
        if self.finished {
            return Err(
                KernelError::argument("blend", "not be used after finish()", "a finished blend").of(Kind::State)
            );
        }
        Ok(())
    }

    fn check_memory(
        &self,
        memory: &Memory<'_, S>,
        done: Option<[usize; 4]>,
        out: Option<&ArrayViewMut4<'_, S>>,
    ) -> Result<()> {
        let shape = self.shape();
        if memory.sums.shape() != shape || memory.weights.shape() != &shape[1..] {
            return Err(KernelError::argument("sums", format!("have the shape {shape:?}"), memory.sums.shape()));
        }
        if out.map(|out| out.shape()) != done.as_ref().map(|shape| &shape[..]) {
            return Err(KernelError::argument("out", format!("have the shape {done:?}"), out.map(|out| out.shape())));
        }
        let rows = |strides: &[isize], width: usize| width == 1 || strides.last() == Some(&1);
        let written = [Some(memory.sums.strides()), Some(memory.weights.strides()), out.map(|out| out.strides())];
        if !written.into_iter().flatten().all(|strides| rows(strides, shape[3])) {
            return Err(KernelError::argument("sums", "have contiguous rows", memory.sums.strides()));
        }
        Ok(())
    }

    fn check_start(&self, start: &[usize]) -> Result<()> {
        let (size, tile) = (self.layout.restored_lengths(self.size), self.layout.restored_lengths(self.tile));
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
            return Err(KernelError::argument("start", rule, start).of(Kind::State));
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
        return Err(KernelError::argument("windows", "cover every voxel", format!("{uncovered} voxels left out"))
            .of(Kind::State));
    }
    Ok(())
}

fn whole_mean<S: Float>(memory: &mut Memory<'_, S>) -> Result<()> {
    check_covered(memory.weights.axis_iter(Axis(0)).into_par_iter().map(count_zeros).sum())?;
    let weights: ArrayView3<'_, f32> = memory.weights.view();
    let (depth, _, width) = weights.dim();
    let mut rooms = rooms::<S>(depth, width)?;
    for mut class in memory.sums.outer_iter_mut() {
        let planes = (class.outer_iter_mut(), weights.outer_iter(), rooms.outer_iter_mut());
        planes
            .into_par_iter()
            .for_each(|(plane, weights, mut room)| divide_plane(plane, weights, values_of(&mut room)));
    }
    Ok(())
}

/// Voxels that no window covered.
fn count_zeros(weights: ArrayView2<'_, f32>) -> usize {
    let zeros = |row: &[f32]| row.iter().map(|weight| u32::from(*weight == 0.0)).sum::<u32>() as usize;
    weights.outer_iter().filter_map(|row| row.to_slice()).map(zeros).sum()
}

/// For each slot of the ring the plane of the tile that goes there, if any, and room to add it.
type Slots<P> = Vec<Option<(usize, Room<P>)>>;

/// What a thread that adds a plane needs beside it; made beforehand, so that a window is added whole or not at all.
struct Room<P> {
    strided: Vec<P>,  // a row whose values do not lie together
    values: Vec<f32>, // the same in float32
    sums: Vec<f32>,   // a row of sums in float32
}

impl<P: Float> Room<P> {
    /// For a plane of `patch`, (c, plane, ·, x), that is added to sums of `S`.
    fn new<S: Float>(patch: &ArrayView4<'_, P>) -> Result<Self> {
        let width = patch.len_of(Axis(3));
        let room = |length| memory::vector(length, 0.0, PURPOSE);
        let strided = memory::reserved(memory::row_room(patch.stride_of(Axis(3)), width), PURPOSE)?;
        Ok(Self { strided, values: room(P::room(width))?, sums: room(S::room(width))? })
    }

    fn add_plane<S: Float>(
        &mut self,
        mut sums: ArrayViewMut2<'_, S>,
        patch: ArrayView2<'_, P>,
        weights: ArrayView2<'_, f32>,
    ) {
        for ((mut sums, patch), weights) in sums.outer_iter_mut().zip(patch.outer_iter()).zip(weights.outer_iter()) {
            let values = P::single(contiguous_row(patch, &mut self.strided), &mut self.values);
            let weights = weights.to_slice().expect("rows of the weights are contiguous");
            let sums = sums.as_slice_mut().expect("rows of the sums are contiguous");
            S::change(sums, &mut self.sums, |sums| add_weighted(sums, values, weights));
        }
    }
}

/// Room for a row of `width` sums for each of `count` threads.
fn rooms<S: Float>(count: usize, width: usize) -> Result<Array2<f32>> {
    memory::filled((count, S::room(width)), 0.0, PURPOSE)
}

fn values_of<'a>(room: &'a mut ArrayViewMut1<'_, f32>) -> &'a mut [f32] {
    room.as_slice_mut().expect("new arrays are contiguous")
}

fn divide_plane<S: Float>(mut sums: ArrayViewMut2<'_, S>, weights: ArrayView2<'_, f32>, room: &mut [f32]) {
    for (mut sums, weights) in sums.outer_iter_mut().zip(weights.outer_iter()) {
        let weights = weights.to_slice().expect("rows of the weights are contiguous");
        let sums = sums.as_slice_mut().expect("rows of the sums are contiguous");
        S::change(sums, room, |sums| divide(sums, weights));
    }
}
