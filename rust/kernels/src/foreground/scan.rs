//! Foreground voxels in dense chunks, whatever the strides of image and labels.

use std::ops::Range;

use multiversion::multiversion;
use ndarray::{ArrayView, ArrayView3, ArrayViewD, Axis, Dimension, Ix3, Ix4, Slice};
use rayon::prelude::*;

use crate::error::{KernelError, Result};
use crate::label::Label;
use crate::memory;

/// Voxels of a row when image and labels lie in one piece each: half of a processor's innermost cache.
const CHUNK: usize = 1 << 12;

/// More channels than any image has; beyond it an axis is mistaken for them.
pub(super) const MOST_CHANNELS: usize = u16::MAX as usize;

/// Least voxels that are worth a piece of their own.
const PIECE: usize = 1 << 19;

/// Least pieces that one state sees: states take time to make and to add up.
const TURNS: usize = 4;

const PURPOSE: &str = "the foreground of an image";

/// Labels of any type, as the foreground they mark.
pub struct Mask<'a> {
    shape: Vec<usize>,
    order: [(usize, bool); 3],
    rows: Box<dyn Marks + 'a>,
}

impl<'a> Mask<'a> {
    /// The foreground of `labels` of 1 to 3 axes.
    ///
    /// # Errors
    /// Another number of axes.
    pub fn new<L: Label>(labels: ArrayViewD<'a, L>) -> Result<Self> {
        let shape = labels.shape().to_vec();
        if !(1..=3).contains(&shape.len()) {
            return Err(KernelError::shape("labels", "have 1, 2 or 3 axes", shape));
        }
        let labels = lifted::<_, Ix3>(labels);
        let order = memory_order(&labels);
        Ok(Self { shape, order, rows: Box::new(Rows::new(reordered(labels, &order))) })
    }

    /// The channels of `image`, (c, *shape), to be walked along with the labels.
    ///
    /// # Errors
    /// The shapes differ; memory refused.
    pub fn channels<'b, T: Copy>(&'b self, image: ArrayViewD<'b, T>) -> Result<Vec<Scan<'b, T>>> {
        if image.ndim() != self.shape.len() + 1 || image.shape()[1..] != self.shape {
            let hint = (image.shape() == self.shape).then(|| "for one channel give image[None]".into());
            let rule = format!("have a channel axis before the axes of the labels, {:?}", self.shape);
            return Err(KernelError::shape("image", rule, image.shape()).with_hint(hint));
        }
        if image.shape()[0] > MOST_CHANNELS {
            let rule = format!("have at most {MOST_CHANNELS} channels");
            return Err(KernelError::shape("image", rule, image.shape()));
        }
        let image = lifted::<_, Ix4>(image);
        let scan = |channel| Scan { image: Rows::new(reordered(channel, &self.order)), mask: &*self.rows };
        let channels = 0..image.len_of(Axis(0));
        memory::collected(channels.map(|index| scan(image.index_axis_move(Axis(0), index))), PURPOSE)
    }
}

/// One channel and its labels, walked row by row in memory order.
pub struct Scan<'a, T> {
    image: Rows<'a, T>,
    mask: &'a dyn Marks,
}

impl<T: Copy + Default + Send + Sync> Scan<'_, T> {
    /// Shows all foreground voxels to `visit`, a chunk at a time. There are about as many states as threads, and which
    /// voxels each sees depends on the threads; `done` keeps what matters of them.
    ///
    /// # Errors
    /// Those of the three; memory refused.
    pub fn fold<A: Send, B: Send>(
        &self,
        state: impl Fn() -> Result<A> + Send + Sync,
        visit: impl Fn(&mut A, &[T]) -> Result<()> + Send + Sync,
        done: impl Fn(A) -> Result<B> + Send + Sync,
    ) -> Result<Vec<B>> {
        let pieces = self.pieces()?.into_par_iter().with_min_len(TURNS);
        let states = pieces.fold(&state, |state, rows| self.fold_rows(rows, state?, &visit));
        states.map(|state| state.and_then(&done)).collect()
    }

    /// As [`Self::fold`], on this thread with a single state.
    ///
    /// # Errors
    /// Those of `visit`; memory refused.
    pub fn fold_here<A>(&self, state: A, visit: impl Fn(&mut A, &[T]) -> Result<()>) -> Result<A> {
        self.fold_rows(0..self.image.count(self.flat()), state, &visit)
    }

    fn fold_rows<A>(&self, rows: Range<usize>, mut state: A, visit: &impl Fn(&mut A, &[T]) -> Result<()>) -> Result<A> {
        let (flat, mut copy, mut dense, mut mask) = (self.flat(), Vec::new(), Vec::new(), Vec::new());
        for index in rows {
            let values = self.image.row(index, flat, &mut copy)?;
            match self.mask.mark(index, flat, &mut mask)? {
                0 => {}
                count if count == values.len() => visit(&mut state, values)?,
                _ => visit(&mut state, compress(values, &mask, &mut dense)?)?,
            }
        }
        Ok(state)
    }

    /// Whether image and labels lie in one piece each.
    fn flat(&self) -> bool {
        self.image.flat.is_some() && self.mask.is_flat()
    }

    fn pieces(&self) -> Result<Vec<Range<usize>>> {
        let wanted = (self.image.view.len() / PIECE).clamp(1, 2 * TURNS * rayon::current_num_threads());
        let count = self.image.count(self.flat());
        let rows = count.div_ceil(wanted).max(1);
        memory::collected((0..count).step_by(rows).map(|first| first..(first + rows).min(count)), PURPOSE)
    }
}

/// Labels of any type, row by row.
trait Marks: Sync {
    /// Fills `mask` with 1 where row `index` is foreground, else 0, and counts the ones.
    fn mark(&self, index: usize, flat: bool, mask: &mut Vec<u8>) -> Result<usize>;
    /// Whether the labels lie in one piece.
    fn is_flat(&self) -> bool;
}

impl<L: Label> Marks for Rows<'_, L> {
    fn mark(&self, index: usize, flat: bool, mask: &mut Vec<u8>) -> Result<usize> {
        let mut copy = Vec::new();
        let row = self.row(index, flat, &mut copy)?;
        memory::resize(mask, row.len(), 0, PURPOSE)?;
        Ok(mark_row(row, mask))
    }

    fn is_flat(&self) -> bool {
        self.flat.is_some()
    }
}

/// Writes 1 where a label is above 0, else 0, and counts the ones.
#[multiversion(targets = "simd")]
fn mark_row<L: Label>(row: &[L], mask: &mut [u8]) -> usize {
    const COUNTED: usize = 128; // what a byte can count
    let mut count = 0;
    for (labels, mask) in row.chunks(COUNTED).zip(mask.chunks_mut(COUNTED)) {
        let mut ones = 0;
        for (mask, label) in mask.iter_mut().zip(labels) {
            *mask = u8::from(*label > L::default());
            ones += *mask;
        }
        count += usize::from(ones);
    }
    count
}

/// An array cut into rows: chunks where it and its partner lie in one piece, lanes of the last axis elsewhere.
struct Rows<'a, T> {
    view: ArrayView3<'a, T>,
    flat: Option<&'a [T]>,
}

impl<'a, T: Copy> Rows<'a, T> {
    fn new(view: ArrayView3<'a, T>) -> Self {
        let flat = if view.is_standard_layout() { view.to_slice() } else { None };
        Self { view, flat }
    }

    fn count(&self, flat: bool) -> usize {
        match self.view.dim() {
            _ if self.view.is_empty() => 0,
            _ if flat => self.view.len().div_ceil(CHUNK),
            (planes, lanes, _) => planes * lanes,
        }
    }

    fn row<'b>(&'b self, index: usize, flat: bool, copy: &'b mut Vec<T>) -> Result<&'b [T]> {
        if let Some(values) = self.flat.filter(|_| flat) {
            return Ok(&values[index * CHUNK..((index + 1) * CHUNK).min(values.len())]);
        }
        let lanes = self.view.len_of(Axis(1));
        let lane = self.view.index_axis_move(Axis(0), index / lanes).index_axis_move(Axis(0), index % lanes);
        copy.clear();
        memory::reserve(copy, memory::row_room(lane.stride_of(Axis(0)), lane.len()), PURPOSE)?;
        Ok(memory::contiguous_row(lane, copy))
    }
}

/// The view with new axes of length 1 before its last ones.
fn lifted<T, D: Dimension>(view: ArrayViewD<'_, T>) -> ArrayView<'_, T, D> {
    let axes = D::NDIM.expect("a fixed number of axes");
    let mut view = view;
    while view.ndim() < axes {
        view = view.insert_axis(Axis(axes - 3));
    }
    view.into_dimensionality().expect("the axes were counted")
}

/// Axes from the widest stride to the narrowest, and whether each runs backwards.
fn memory_order<L>(labels: &ArrayView3<'_, L>) -> [(usize, bool); 3] {
    let strides = labels.strides();
    let mut axes = [0, 1, 2];
    axes.sort_by_key(|&axis| std::cmp::Reverse(strides[axis].unsigned_abs()));
    axes.map(|axis| (axis, strides[axis] < 0))
}

/// Statistics know no order, so the walk follows memory.
fn reordered<'a, T>(view: ArrayView3<'a, T>, order: &[(usize, bool); 3]) -> ArrayView3<'a, T> {
    let mut view = view.permuted_axes(order.map(|(axis, _)| axis));
    for (axis, &(_, backwards)) in order.iter().enumerate() {
        if backwards {
            view.slice_axis_inplace(Axis(axis), Slice::new(0, None, -1));
        }
    }
    view
}

/// The values whose mask is 1.
fn compress<'a, T: Copy + Default>(values: &[T], mask: &[u8], dense: &'a mut Vec<T>) -> Result<&'a [T]> {
    memory::resize(dense, values.len().max(dense.len()), T::default(), PURPOSE)?;
    let mut count = 0;
    for (&value, &keep) in values.iter().zip(mask) {
        dense[count] = value;
        count += usize::from(keep);
    }
    Ok(&dense[..count])
}
