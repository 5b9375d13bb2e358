//! Windows blended over a volume of two or three axes, whole or streamed in planes.
//!
//! The sums live in a ring of planes along one axis. A whole-volume blend has as many planes as the volume; a streamed
//! one as many as the tile, because windows arrive in order and planes before the newest start are finished:
//!
//! ```text
//! planes    0 1 2 3 4 5 6 7 …        position: the first plane that is not returned yet
//!           └ out ┘└ ring ┘          plane p lives in slot p % depth
//! ```

use std::marker::PhantomData;

use ndarray::{ArrayView4, ArrayViewD, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis, Ix4};
use rayon::prelude::*;

use crate::dtype::Float;
use crate::error::{KernelError, Result, counted};
use crate::memory;
use crate::scores::Activation;
use crate::window::{self, Plane, Window, Windows};

/// How windows are blended over a volume of 2 or 3 axes, and how far it is; `S` is the type of the sums and of the result.
///
/// The sums themselves lie in memory of the caller's: where the system hands it out in small pages, taking these takes
/// longer than the sums, and two threads wait for each other.
pub struct Blend<S> {
    layout: Layout,
    windows: Windows, // of the volume as it is stored
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
        let windows = Windows::new::<S>(classes, layout.stored_lengths(size, 1), layout.stored_lengths(tile, 1))?;
        let blend = Self { layout, windows, position: 0, streamed, finished: false, kind: PhantomData };
        memory::affordable::<S>(&blend.shape(), PURPOSE)?;
        Ok(blend)
    }

    /// The shape of the sums; that of the weights is the same without the classes.
    #[must_use]
    pub const fn shape(&self) -> [usize; 4] {
        let Windows { classes, size, tile, .. } = self.windows;
        [classes, if self.streamed { tile[0] } else { size[0] }, size[1], size[2]]
    }

    /// What has the shape of the sums but for its planes, with the caller's axes: first without this axis, if there is
    /// one, and then in this order.
    #[must_use]
    pub fn restored_axes(&self) -> (Option<usize>, Vec<usize>) {
        let mut axes = vec![0; self.layout.dims + 1];
        self.layout.order().into_iter().enumerate().for_each(|(stored, axis)| axes[axis + 1] = stored + 1);
        ((self.layout.dims == 2).then_some(2), axes)
    }

    /// The shape of what [`Blend::add`] returns for a window at `start`; `None` if it returns nothing.
    ///
    /// # Errors
    /// As [`Blend::add`] for such a window.
    pub fn done_before(&self, start: &[usize]) -> Result<Option<[usize; 4]>> {
        self.check_open()?;
        self.check_start(start)?;
        let stop = start[self.layout.axis];
        Ok((self.streamed && stop > self.position).then(|| self.before(stop)))
    }

    /// Adds a window's values (classes, *tile) at `start`. A streamed blend writes to `out`, of the shape that
    /// [`Blend::done_before`] tells, the means of the planes before `start` that were not returned yet.
    ///
    /// # Errors
    /// The patch has another shape, the window leaves the volume, a streamed window starts before an earlier one or
    /// leaves a gap behind it, a plane to be returned has voxels that no window covered, the blend is finished, or memory
    /// is refused; nothing is added then.
    pub fn add<P: Float>(
        &mut self,
        mut memory: Memory<'_, S>,
        patch: ArrayViewD<'_, P>,
        start: &[usize],
        out: Option<ArrayViewMut4<'_, S>>,
    ) -> Result<()> {
        self.check_patch(patch.shape())?;
        let done = self.done_before(start)?;
        self.check_memory(&memory, done, out.as_ref())?;
        let (output, start) = (self.layout.stored(patch), self.layout.stored_lengths(start, 0));
        let window = Window { output, start, activation: Activation::None, mirrored: [false; 3] };
        let (rooms, mut slots) = (self.windows.rooms::<S, P>(&window)?, self.slots(&mut memory)?);
        let to_start = (start[0] - self.position) % slots.len();
        if let Some(out) = out {
            self.take_means(&mut slots, out)?;
        }
        slots.rotate_left(to_start);
        slots.truncate(self.windows.tile[0]);
        self.windows.add(window, rooms, slots.into_par_iter());
        Ok(())
    }

    /// The shape of what [`Blend::finish`] returns; `None` if the sums themselves become the means.
    #[must_use]
    pub fn rest(&self) -> Option<[usize; 4]> {
        self.streamed.then(|| self.before(self.windows.size[0]))
    }

    /// Makes means of the sums that were not returned yet: in `out`, of the shape that [`Blend::rest`] tells, or in
    /// their place.
    ///
    /// # Errors
    /// A voxel that no window covered, or the blend is finished already.
    pub fn finish(&mut self, mut memory: Memory<'_, S>, out: Option<ArrayViewMut4<'_, S>>) -> Result<()> {
        self.check_open()?;
        self.check_memory(&memory, self.rest(), out.as_ref())?;
        let mut slots = self.slots(&mut memory)?;
        match out {
            Some(out) => self.take_means(&mut slots, out)?,
            None => self.make_means(&mut slots)?,
        }
        self.finished = true;
        Ok(())
    }

    /// The shape of the planes from `position` to before `stop`.
    const fn before(&self, stop: usize) -> [usize; 4] {
        let Windows { classes, size, .. } = self.windows;
        [classes, stop - self.position, size[1], size[2]]
    }

    /// The slots of the planes from `position` on.
    fn slots<'a>(&self, memory: &'a mut Memory<'_, S>) -> Result<Vec<Slot<'a, S>>> {
        let depth = memory.weights.len_of(Axis(0));
        let slots = memory.sums.axis_iter_mut(Axis(1)).zip(memory.weights.axis_iter_mut(Axis(0)));
        let mut slots = memory::collected(slots.map(|(sums, weights)| Slot { sums, weights }), PURPOSE)?;
        slots.rotate_left(self.position % depth);
        Ok(slots)
    }

    /// The means of as many planes as `out` has, the first of `slots`, which are cleared.
    fn take_means(&mut self, slots: &mut [Slot<'_, S>], mut out: ArrayViewMut4<'_, S>) -> Result<()> {
        let Windows { size, .. } = self.windows;
        let count = out.len_of(Axis(1));
        let held = count.min(slots.len());
        // Planes beyond the ring have seen no window.
        self.check_covered(&slots[..held], (count - held) * size[1] * size[2])?;
        let rooms = self.rooms(held)?;
        let parts = out.axis_iter_mut(Axis(1)).into_par_iter().zip(&mut slots[..held]).zip(rooms);
        parts.for_each(|((out, plane), mut room)| {
            window::means(out, plane, &(0..size[1]), &(0..size[2]), &mut room);
            plane.sums.fill(S::default());
            plane.weights.fill(0.0);
        });
        self.position += count;
        Ok(())
    }

    /// Makes means of all sums.
    fn make_means(&self, slots: &mut [Slot<'_, S>]) -> Result<()> {
        let Windows { classes, size, .. } = self.windows;
        self.check_covered(slots, 0)?;
        let rooms = self.rooms(slots.len())?;
        slots
            .into_par_iter()
            .zip(rooms)
            .for_each(|(plane, mut room)| window::means_in_place(plane, classes, size[1], &mut room));
        Ok(())
    }

    /// Room for a row of sums in float32 for each of `count` planes.
    fn rooms(&self, count: usize) -> Result<Vec<Vec<f32>>> {
        let room = |_| memory::vector(S::room(self.windows.size[2]), 0.0, PURPOSE);
        memory::collected_results((0..count).map(room), PURPOSE)
    }

    /// Refuses planes with voxels that no window covered, `more` of them elsewhere.
    fn check_covered(&self, planes: &[Slot<'_, S>], more: usize) -> Result<()> {
        let Windows { size, .. } = self.windows;
        let here = planes.par_iter().map(|plane| window::uncovered(plane, 0..size[1], &(0..size[2]))).sum::<usize>();
        match here + more {
            0 => Ok(()),
            count => Err(KernelError::state("windows", "cover every voxel", counted(count, "voxel") + " left out")),
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.finished {
            return Err(KernelError::state("blend", "not be used after finish()", "a finished blend"));
        }
        Ok(())
    }

    fn check_patch(&self, shape: &[usize]) -> Result<()> {
        let tile = self.layout.restored_lengths(self.windows.tile);
        let expected: Vec<usize> = std::iter::once(self.windows.classes).chain(tile).collect();
        if shape != expected {
            let hint = (shape == &expected[1..]).then(|| "for one class give patch[None]".into());
            let rule = format!("have shape {expected:?} (classes, *tile)");
            return Err(KernelError::shape("patch", rule, shape).with_hint(hint));
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
            return Err(KernelError::shape("sums", format!("have the shape {shape:?}"), memory.sums.shape()));
        }
        if out.map(|out| out.shape()) != done.as_ref().map(|shape| &shape[..]) {
            return Err(KernelError::shape("out", format!("have the shape {done:?}"), out.map(|out| out.shape())));
        }
        let rows = |strides: &[isize], width: usize| width == 1 || strides.last() == Some(&1);
        let written = [Some(memory.sums.strides()), Some(memory.weights.strides()), out.map(|out| out.strides())];
        if !written.into_iter().flatten().all(|strides| rows(strides, shape[3])) {
            return Err(KernelError::shape("sums", "have contiguous rows", memory.sums.strides()));
        }
        Ok(())
    }

    fn check_start(&self, start: &[usize]) -> Result<()> {
        let Windows { size, tile, .. } = self.windows;
        let (size, tile) = (self.layout.restored_lengths(size), self.layout.restored_lengths(tile));
        let inside = |axis: usize| start[axis] <= size[axis] - tile[axis];
        if start.len() != size.len() || !(0..start.len()).all(inside) {
            let rule = format!("keep the tile {tile:?} inside the volume {size:?}");
            return Err(KernelError::value("start", rule, start));
        }
        self.check_order(start[self.layout.axis])
    }

    fn check_order(&self, start: usize) -> Result<()> {
        let (first, last) = (self.position, self.position + self.windows.tile[0]);
        if self.streamed && !(first..=last).contains(&start) {
            let axis = self.layout.axis;
            let rule = format!("arrive in order and leave no gap along axis {axis}: between {first} and {last} here");
            return Err(KernelError::state("start", rule, start));
        }
        Ok(())
    }
}

/// A slot of the ring.
struct Slot<'a, S> {
    sums: ArrayViewMut3<'a, S>,      // (classes, ·, ·)
    weights: ArrayViewMut2<'a, f32>, // (·, ·)
}

impl<S: Float> Plane<S> for Slot<'_, S> {
    #[inline]
    fn row(&self, class: usize, row: usize) -> (&[S], &[f32]) {
        let sums = self.sums.index_axis(Axis(0), class).index_axis_move(Axis(0), row);
        let weights = self.weights.index_axis(Axis(0), row);
        (sums.to_slice().expect(CONTIGUOUS), weights.to_slice().expect(CONTIGUOUS))
    }

    #[inline]
    fn row_mut(&mut self, class: usize, row: usize) -> (&mut [S], &mut [f32]) {
        let sums = self.sums.index_axis_mut(Axis(0), class).index_axis_move(Axis(0), row);
        let weights = self.weights.index_axis_mut(Axis(0), row);
        (sums.into_slice().expect(CONTIGUOUS), weights.into_slice().expect(CONTIGUOUS))
    }
}

const CONTIGUOUS: &str = "rows of the sums are contiguous";

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

    /// One number an axis as stored; `missing` for the one that a plane has not.
    fn stored_lengths(self, lengths: &[usize], missing: usize) -> [usize; 3] {
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
        return Err(KernelError::value("classes", "be at least 1", classes));
    }
    if !matches!(tile.len(), 2 | 3) || tile.contains(&0) {
        return Err(KernelError::shape("tile", "have 2 or 3 axes of at least 1 voxel", tile));
    }
    if size.len() != tile.len() || size.iter().zip(tile).any(|(size, tile)| size < tile) {
        let rule = format!("be at least the tile {tile:?} along every axis (pad the volume first)");
        return Err(KernelError::shape("size", rule, size));
    }
    if axis >= size.len() {
        return Err(KernelError::value("stream_axis", format!("be one of the volume's {} axes", size.len()), axis));
    }
    Ok(())
}
