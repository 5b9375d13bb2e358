//! Sums of overlapping windows: how one window is added, and how means are made, wherever the sums are kept.

use std::ops::Range;

use multiversion::multiversion;
use ndarray::{Array3, ArrayView2, ArrayView3, ArrayView4, ArrayViewMut3, Axis};
use rayon::prelude::*;

use crate::dtype::Float;
use crate::error::{KernelError, Result};
use crate::memory::{self, contiguous_row};
use crate::scores::{Activation, LANES, Lane, activate};
use crate::tiles::gaussian_importance;

/// Where the sums of one plane of a volume are kept, all its classes, and the sums of the weights.
pub trait Plane<S>: Send {
    /// A row of sums of a class, and the row of weights.
    fn row(&self, class: usize, row: usize) -> (&[S], &[f32]);
    /// The same, to be changed.
    fn row_mut(&mut self, class: usize, row: usize) -> (&mut [S], &mut [f32]);
}

impl<S, T: Plane<S>> Plane<S> for &mut T {
    #[inline]
    fn row(&self, class: usize, row: usize) -> (&[S], &[f32]) {
        (**self).row(class, row)
    }

    #[inline]
    fn row_mut(&mut self, class: usize, row: usize) -> (&mut [S], &mut [f32]) {
        (**self).row_mut(class, row)
    }
}

/// What all windows of a volume have in common; lengths are (z, y, x).
pub struct Windows {
    pub classes: usize,
    pub size: [usize; 3],
    pub tile: [usize; 3],
    importance: Array3<f32>,
}

/// One window of a network's outputs, (classes, *tile).
pub struct Window<'a, P> {
    pub output: ArrayView4<'a, P>,
    pub start: [usize; 3],
    pub activation: Activation,
    /// Axes along which the network saw the window mirrored.
    pub mirrored: [bool; 3],
}

impl Windows {
    /// Windows whose weighted sums are of `S`.
    ///
    /// # Errors
    /// No classes, a tile that is empty or larger than the size; memory refused.
    pub fn new<S: Float>(classes: usize, size: [usize; 3], tile: [usize; 3]) -> Result<Self> {
        if classes == 0 {
            return Err(KernelError::value("classes", "be at least 1", classes));
        }
        if size.iter().zip(tile).any(|(&size, tile)| size < tile) {
            let rule = format!("be at least the tile {tile:?} along every axis (pad the volume first)");
            return Err(KernelError::shape("size", rule, size));
        }
        let importance = gaussian_importance(&tile)?.mapv_into(S::weight);
        let importance = importance.into_dimensionality().expect("a tile has three axes");
        Ok(Self { classes, size, tile, importance })
    }

    /// Refuses windows of another shape, or outside the volume.
    ///
    /// # Errors
    /// Such a window.
    pub fn check<P>(&self, window: &Window<'_, P>) -> Result<()> {
        let (size, tile, start) = (self.size, self.tile, window.start);
        let expected = [self.classes, tile[0], tile[1], tile[2]];
        if window.output.shape() != expected {
            let rule = format!("have shape {expected:?} (classes, *tile)");
            return Err(KernelError::shape("output", rule, window.output.shape()));
        }
        if (0..3).any(|axis| start[axis] > size[axis] - tile[axis]) {
            let rule = format!("keep the tile {tile:?} inside the volume {size:?}");
            return Err(KernelError::value("start", rule, start));
        }
        Ok(())
    }

    /// What adding `window` to sums of `S` needs besides, a plane each. It is made before, so that a window is added
    /// whole or not at all.
    ///
    /// # Errors
    /// Memory refused.
    pub fn rooms<S: Float, P: Float>(&self, window: &Window<'_, P>) -> Result<Vec<Room<P>>> {
        memory::collected_results((0..self.tile[0]).map(|_| Room::new::<S>(window)), PURPOSE)
    }

    /// Adds a window that was checked to `planes`, its own, activated and turned back, weighted by the importance.
    pub fn add<S: Float, P: Float>(
        &self,
        mut window: Window<'_, P>,
        rooms: Vec<Room<P>>,
        planes: impl IndexedParallelIterator<Item = impl Plane<S>>,
    ) {
        for axis in [0, 1].into_iter().filter(|&axis| window.mirrored[axis]) {
            window.output.invert_axis(Axis(axis + 1));
        }
        let sources = window.output.axis_iter(Axis(1)).into_par_iter();
        let sources = sources.zip(self.importance.outer_iter().into_par_iter()).zip(rooms);
        planes.zip(sources).for_each(|(mut plane, ((output, weights), mut room))| {
            for (row, weights) in weights.outer_iter().enumerate() {
                let sums = plane.row_mut(0, window.start[1] + row).1;
                add(&mut sums[window.columns()], weights.to_slice().expect(CONTIGUOUS));
            }
            if window.is_plain() {
                window.add_values(&mut plane, output, weights, &mut room);
            } else {
                window.add_scores(&mut plane, output, weights, &mut room);
            }
        });
    }
}

const PURPOSE: &str = "a window that is added";

const CONTIGUOUS: &str = "the importance is contiguous";

/// What a thread that adds a plane needs beside it.
pub struct Room<P> {
    strided: Vec<P>,  // values of a row that do not lie together
    values: Vec<f32>, // the same in float32
    sums: Vec<f32>,   // a row of sums in float32
    lanes: Vec<Lane>, // a piece of a row of all classes
}

impl<P: Float> Room<P> {
    fn new<S: Float>(window: &Window<'_, P>) -> Result<Self> {
        let (classes, width) = (window.output.len_of(Axis(0)), window.output.len_of(Axis(3)));
        let floats = |length| memory::vector(length, 0.0, PURPOSE);
        let strided = memory::reserved(memory::row_room(window.output.stride_of(Axis(3)), width), PURPOSE)?;
        let lanes = memory::vector(if window.is_plain() { 0 } else { classes }, [0.0; LANES], PURPOSE)?;
        Ok(Self { strided, values: floats(P::room(width))?, sums: floats(S::room(width))?, lanes })
    }
}

impl<P: Float> Window<'_, P> {
    /// Whether values are added as they are.
    fn is_plain(&self) -> bool {
        self.activation == Activation::None && !self.mirrored[2]
    }

    /// The window's voxels in a row of the volume.
    fn columns(&self) -> Range<usize> {
        self.start[2]..self.start[2] + self.output.len_of(Axis(3))
    }

    /// Adds a plane of values, (classes, y, x).
    fn add_values<S: Float>(
        &self,
        plane: &mut impl Plane<S>,
        output: ArrayView3<'_, P>,
        weights: ArrayView2<'_, f32>,
        room: &mut Room<P>,
    ) {
        for (class, output) in output.outer_iter().enumerate() {
            for (row, (values, weights)) in output.outer_iter().zip(weights.outer_iter()).enumerate() {
                let values = P::single(contiguous_row(values, &mut room.strided), &mut room.values);
                let sums = &mut plane.row_mut(class, self.start[1] + row).0[self.columns()];
                let weights = weights.to_slice().expect(CONTIGUOUS);
                S::change(sums, &mut room.sums, |sums| add_weighted(sums, values, weights));
            }
        }
    }

    /// The same, activated and turned back, a piece of a row with all classes at a time.
    fn add_scores<S: Float>(
        &self,
        plane: &mut impl Plane<S>,
        output: ArrayView3<'_, P>,
        weights: ArrayView2<'_, f32>,
        Room { strided, values: floats, sums: room, lanes }: &mut Room<P>,
    ) {
        for (row, (output, weights)) in output.axis_iter(Axis(1)).zip(weights.outer_iter()).enumerate() {
            let weights = weights.to_slice().expect(CONTIGUOUS);
            for first in (0..weights.len()).step_by(LANES) {
                let last = weights.len().min(first + LANES);
                for (lane, values) in lanes.iter_mut().zip(output.outer_iter()) {
                    let values = values.slice_axis_move(Axis(0), (first..last).into());
                    let values = P::single(contiguous_row(values, strided), floats);
                    lane[..values.len()].copy_from_slice(values);
                }
                activate(lanes, self.activation);
                let to = if self.mirrored[2] { weights.len() - last..weights.len() - first } else { first..last };
                for (class, lane) in lanes.iter_mut().enumerate() {
                    let lane = &mut lane[..to.len()];
                    if self.mirrored[2] {
                        lane.reverse();
                    }
                    let sums = &mut plane.row_mut(class, self.start[1] + row).0[self.columns()][to.clone()];
                    S::change(sums, room, |sums| add_weighted(sums, lane, &weights[to.clone()]));
                }
            }
        }
    }
}

/// Voxels of a plane's part that no window covered.
pub fn uncovered<S>(plane: &impl Plane<S>, rows: Range<usize>, columns: &Range<usize>) -> usize {
    rows.map(|row| count_zeros(&plane.row(0, row).1[columns.clone()])).sum()
}

/// Writes the means of a plane's part, (classes, y, x), to `out`; `room` is for one row of sums in float32.
pub fn means<S: Float>(
    mut out: ArrayViewMut3<'_, S>,
    plane: &impl Plane<S>,
    rows: &Range<usize>,
    columns: &Range<usize>,
    room: &mut [f32],
) {
    for (class, mut out) in out.outer_iter_mut().enumerate() {
        for (row, mut out) in rows.clone().zip(out.axis_iter_mut(Axis(0))) {
            let out = out.as_slice_mut().expect("rows of the means are contiguous");
            let (sums, weights) = plane.row(class, row);
            out.copy_from_slice(&sums[columns.clone()]);
            S::change(out, room, |sums| divide(sums, &weights[columns.clone()]));
        }
    }
}

/// Makes means of a plane's sums, in their place.
pub fn means_in_place<S: Float>(plane: &mut impl Plane<S>, classes: usize, rows: usize, room: &mut [f32]) {
    for class in 0..classes {
        for row in 0..rows {
            let (sums, weights) = plane.row_mut(class, row);
            S::change(sums, room, |sums| divide(sums, weights));
        }
    }
}

fn count_zeros(weights: &[f32]) -> usize {
    weights.iter().map(|weight| u32::from(*weight == 0.0)).sum::<u32>() as usize
}

/// Adds to a row.
#[multiversion(targets = "simd")]
fn add(sums: &mut [f32], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

/// Adds to a row, voxel by voxel as much as its weight says.
#[multiversion(targets = "simd")]
fn add_weighted(sums: &mut [f32], values: &[f32], weights: &[f32]) {
    sums.iter_mut().zip(values).zip(weights).for_each(|((sum, value), weight)| *sum += value * weight);
}

/// Makes a row of means of its sums.
#[multiversion(targets = "simd")]
fn divide(sums: &mut [f32], weights: &[f32]) {
    sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum /= weight);
}
