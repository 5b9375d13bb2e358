//! Resampling of label maps: each label's indicator is resampled linearly and the label with the greatest weight wins.
//!
//! Reference: batchgenerators 0.25.5 `resize_segmentation`, ties included, except where float64 makes or breaks a tie: here
//! close votes are counted in whole numbers.
//!
//! One vote among the (at most eight) neighbours of each output voxel gives the same as one resampling per label, and
//! most voxels need no vote. Where a cell of eight neighbours is all one label, or is cut in two by a face, the nearest
//! voxel's label has the greatest weight:
//!
//! ```text
//! 1 1 1    nearest     1 1 2    nearest, for the     1 1 2    a vote
//! 1 1 1                1 1 2    cut is straight      1 2 2
//! ```

use multiversion::multiversion;
use ndarray::parallel::prelude::*;
use ndarray::{ArrayView3, ArrayViewMut1, ArrayViewMut3, Axis};
use rayon::slice::ParallelSlice;

use crate::coefficients::{check_axes, nearest, position};
use crate::error::{KernelError, Result};
use crate::label::Label;
use crate::memory::{self, contiguous_row};

const PURPOSE: &str = "resampling labels";

/// Rows of the output that one task makes.
const ROWS: usize = 16;

/// Resamples `labels` (z, y, x) to the grid of `out` (z', y', x').
///
/// With `lowres_axis` (0, 1 or 2) that axis takes the nearest slice. Labels of equal weight: the nearest voxel's wins;
/// where that is none of them, the smallest.
///
/// # Errors
/// An axis without voxels, an axis that is not one of the three; memory refused.
pub fn resample_labels<T: Label + Ord>(
    labels: ArrayView3<'_, T>,
    mut out: ArrayViewMut3<'_, T>,
    lowres_axis: Option<usize>,
) -> Result<()> {
    check_axes("labels", labels.shape())?;
    check_axes("shape", out.shape())?;
    if lowres_axis.is_some_and(|axis| axis > 2) {
        return Err(KernelError::value("lowres_axis", "be one of the labels' axes", lowres_axis));
    }
    let along = |axis: usize| {
        let (n_in, n_out) = (labels.shape()[axis], out.shape()[axis]);
        memory::collected((0..n_out).map(|i| Cell::new(i, n_in, n_out, lowres_axis == Some(axis))), PURPOSE)
    };
    let axes = [along(0)?, along(1)?, along(2)?];
    let columns = Columns::new(&axes[2], labels.len_of(Axis(2)))?;
    out.axis_iter_mut(Axis(0)).into_par_iter().zip(&axes[0]).try_for_each(|(mut plane, z)| {
        let blocks = plane.axis_chunks_iter_mut(Axis(0), ROWS).into_par_iter().zip(axes[1].par_chunks(ROWS));
        blocks.try_for_each_init(Room::default, |room, (mut block, cells)| {
            room.reserve(&labels, &columns, block.len_of(Axis(1)))?;
            block.outer_iter_mut().zip(cells).for_each(|(row, y)| room.row(&labels, [z, y], &columns, row));
            Ok(())
        })
    })
}

/// The two voxels along one axis that an output voxel lies between, and how much each counts.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// The two voxels; the same one twice at the edges.
    pub at: [usize; 2],
    /// Their weights in units of 1 / (2 n_out).
    pub weight: [u64; 2],
    /// Their weights; they sum to 1.
    pub share: [f32; 2],
    /// Which of the two is nearer.
    pub nearer: usize,
}

impl Cell {
    /// The cell of output voxel `index`.
    pub fn new(index: usize, n_in: usize, n_out: usize, take_nearest: bool) -> Self {
        let denominator = 2 * n_out as u64;
        if take_nearest {
            let at = [nearest(index, n_in, n_out); 2];
            return Self { at, weight: [denominator, 0], share: [1.0, 0.0], nearer: 0 };
        }
        let place = position(index, n_in, n_out);
        let clamp = |i: isize| i.clamp(0, n_in as isize - 1) as usize;
        let weight = [denominator - place.numerator, place.numerator];
        Self {
            at: [clamp(place.floor), clamp(place.floor + 1)],
            weight,
            share: weight.map(|w| (w as f64 / denominator as f64) as f32),
            nearer: usize::from(weight[1] >= weight[0]),
        }
    }
}

/// The cells of the row's axis.
struct Columns<'a> {
    cells: &'a [Cell],
    /// The nearest voxel of each output voxel.
    nearest: Vec<u32>,
    /// Output voxels that lie in the cell of input voxels c and c + 1 begin at `first[c]`; one more entry ends the last.
    first: Vec<usize>,
}

impl<'a> Columns<'a> {
    fn new(cells: &'a [Cell], n_in: usize) -> Result<Self> {
        let nearest = memory::collected(cells.iter().map(|cell| cell.at[cell.nearer] as u32), PURPOSE)?;
        let mut first = memory::reserved(n_in + 1, PURPOSE)?;
        first.extend((0..=n_in).map(|c| cells.partition_point(|cell| cell.at[0] < c)));
        Ok(Self { cells, nearest, first })
    }
}

/// A thread's room for the rows in work.
#[derive(Default)]
struct Room<T> {
    sources: [Vec<T>; 4],
    contested: Vec<u8>,
    result: Vec<T>,
}

impl<T: Copy + Default + Ord> Room<T> {
    /// Makes room for rows that result in `n_out` voxels, so that [`Self::row`] takes no memory.
    fn reserve(&mut self, labels: &ArrayView3<'_, T>, columns: &Columns<'_>, n_out: usize) -> Result<()> {
        let n_in = columns.first.len() - 1;
        for source in &mut self.sources {
            source.clear();
            memory::reserve(source, memory::row_room(labels.stride_of(Axis(2)), n_in), PURPOSE)?;
        }
        memory::resize(&mut self.contested, n_in, 0, PURPOSE)?;
        memory::resize(&mut self.result, n_out, T::default(), PURPOSE)
    }

    fn row(
        &mut self,
        labels: &ArrayView3<'_, T>,
        [z, y]: [&Cell; 2],
        columns: &Columns<'_>,
        mut out: ArrayViewMut1<'_, T>,
    ) {
        let row = |i: usize| labels.index_axis(Axis(0), z.at[i >> 1]).index_axis_move(Axis(0), y.at[i & 1]);
        let [first, second, third, fourth] = &mut self.sources;
        let rows = [
            contiguous_row(row(0), first),
            contiguous_row(row(1), second),
            contiguous_row(row(2), third),
            contiguous_row(row(3), fourth),
        ];
        let job = Row { rows, cells: [z, y], columns };
        if let Some(out) = out.as_slice_mut() {
            return vote_row(&job, &mut self.contested, out);
        }
        vote_row(&job, &mut self.contested, &mut self.result);
        out.iter_mut().zip(&self.result).for_each(|(out, label)| *out = *label);
    }
}

/// The four rows of the input around one row of the output: (z, y), (z, y + 1), (z + 1, y), (z + 1, y + 1).
struct Row<'a, T> {
    rows: [&'a [T]; 4],
    cells: [&'a Cell; 2],
    columns: &'a Columns<'a>,
}

/// One row of the output: the nearest labels, then a vote where the neighbours' labels ask for one.
#[multiversion(targets = "simd")]
fn vote_row<T: Copy + Ord>(job: &Row<'_, T>, contested: &mut [u8], out: &mut [T]) {
    let nearest = job.rows[job.cells[0].nearer << 1 | job.cells[1].nearer];
    for (out, column) in out.iter_mut().zip(&job.columns.nearest) {
        *out = nearest[*column as usize];
    }
    mark_contested(&job.rows, contested);
    const STRIDE: usize = 32;
    for (block, flags) in contested.chunks(STRIDE).enumerate() {
        if flags.iter().fold(0, |any, flag| any | flag) == 0 {
            continue;
        }
        for (column, _) in flags.iter().enumerate().filter(|(_, flag)| **flag != 0) {
            let column = block * STRIDE + column;
            let made = job.columns.first[column]..job.columns.first[column + 1];
            for (out, cell) in out[made.clone()].iter_mut().zip(&job.columns.cells[made]) {
                *out = vote(job, cell);
            }
        }
    }
}

/// Marks the cells between columns x and x + 1 that are neither all one label nor cut by one face.
#[inline(always)]
fn mark_contested<T: Copy + PartialEq>(rows: &[&[T]; 4], contested: &mut [u8]) {
    let last = contested.len() - 1;
    let [a, b, c, d] = rows.map(|row| &row[..last]);
    let [e, f, g, h] = rows.map(|row| &row[1..=last]);
    for (i, flag) in contested[..last].iter_mut().enumerate() {
        *flag = is_contested([a[i], b[i], c[i], d[i]], [e[i], f[i], g[i], h[i]]);
    }
    let end = rows.map(|row| row[last]);
    contested[last] = is_contested(end, end);
}

/// Eight labels are all one or cut by one face where they are equal along two of the three axes at least.
#[inline(always)]
fn is_contested<T: Copy + PartialEq>([a, b, c, d]: [T; 4], [e, f, g, h]: [T; 4]) -> u8 {
    let along_y = (a == b) & (c == d) & (e == f) & (g == h);
    let along_z = (a == c) & (b == d) & (e == g) & (f == h);
    let along_x = (a == e) & (b == f) & (c == g) & (d == h);
    u8::from(!((along_y & along_z) | (along_y & along_x) | (along_z & along_x)))
}

/// Weights closer than this are compared as exact fractions: far more than eight roundings of float32.
const CLOSE: f32 = 1e-5;

#[inline(always)]
fn vote<T: Copy + Ord>(job: &Row<'_, T>, x: &Cell) -> T {
    let [z, y] = job.cells;
    let labels: [T; 8] = std::array::from_fn(|i| job.rows[i >> 1][x.at[i & 1]]);
    let shares: [f32; 8] = std::array::from_fn(|i| z.share[i >> 2] * y.share[i >> 1 & 1] * x.share[i & 1]);
    let mut totals = [0.0; 8];
    for (label, share) in labels.iter().zip(shares) {
        for (total, other) in totals.iter_mut().zip(&labels) {
            *total += if other == label { share } else { 0.0 };
        }
    }
    let nearest = z.nearer << 2 | y.nearer << 1 | x.nearer;
    if totals[nearest] > 0.5 + CLOSE {
        return labels[nearest];
    }
    let (mut best, mut most) = (labels[0], totals[0]);
    for (label, total) in labels.iter().zip(totals) {
        if total > most {
            (best, most) = (*label, total);
        }
    }
    let close = labels.iter().zip(totals).any(|(label, total)| *label != best && total > most - CLOSE);
    if close { vote_exactly(labels, [z, y, x], nearest) } else { best }
}

/// The vote in whole numbers: weights in units of 1 / (8 n_z' n_y' n_x').
#[cold]
fn vote_exactly<T: Copy + Ord>(labels: [T; 8], cells: [&Cell; 3], nearest: usize) -> T {
    let weights: [u128; 8] = std::array::from_fn(|i| {
        let side = [i >> 2, i >> 1 & 1, i & 1];
        side.iter().zip(cells).map(|(side, cell)| u128::from(cell.weight[*side])).product()
    });
    let total = |label: T| labels.iter().zip(weights).filter(|(l, _)| **l == label).map(|(_, w)| w).sum::<u128>();
    let most = labels.iter().map(|label| total(*label)).max();
    if Some(total(labels[nearest])) == most {
        return labels[nearest];
    }
    let winners = labels.iter().filter(|label| Some(total(**label)) == most);
    winners.min().copied().unwrap_or(labels[nearest])
}
