//! Resampling of label maps: each label's indicator is resampled linearly and the label with the greatest weight wins.
//!
//! One vote among the (at most eight) neighbours of each output voxel gives the same as one resampling per label.

use ndarray::parallel::prelude::*;
use ndarray::{ArrayView3, ArrayViewMut3, Axis};

use crate::error::{KernelError, Result};
use crate::taps::{check_axes, nearest, position};

/// Resamples `labels` (z, y, x) to the grid of `out` (z', y', x').
///
/// With `lowres_axis` (0, 1 or 2) that axis takes the nearest slice. Labels of equal weight: the nearest voxel's wins;
/// where that is none of them, the one whose own nearest voxel is nearest.
///
/// # Errors
/// An axis without voxels, an axis that is not one of the three.
pub fn resample_labels<T: Copy + PartialEq + Send + Sync>(
    labels: ArrayView3<'_, T>,
    mut out: ArrayViewMut3<'_, T>,
    lowres_axis: Option<usize>,
) -> Result<()> {
    check_axes("labels", labels.shape())?;
    check_axes("shape", out.shape())?;
    if lowres_axis.is_some_and(|axis| axis > 2) {
        return Err(KernelError::argument("lowres_axis", "be one of the labels' axes", lowres_axis));
    }
    let axes: [Vec<Cell>; 3] = std::array::from_fn(|axis| {
        let (n_in, n_out) = (labels.shape()[axis], out.shape()[axis]);
        (0..n_out).map(|i| Cell::new(i, n_in, n_out, lowres_axis == Some(axis))).collect()
    });
    out.axis_iter_mut(Axis(0)).into_par_iter().zip(&axes[0]).for_each(|(mut plane, z)| {
        for (mut row, y) in plane.outer_iter_mut().zip(&axes[1]) {
            for (out, x) in row.iter_mut().zip(&axes[2]) {
                *out = vote(&labels, [z, y, x]);
            }
        }
    });
    Ok(())
}

/// The two voxels along one axis that an output voxel lies between, and how much each counts.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// The two voxels; the same one twice at the edges.
    pub at: [usize; 2],
    /// Their weights in units of 1 / (2 n_out).
    pub weight: [u64; 2],
    /// Which of the two is nearer.
    pub nearer: usize,
}

impl Cell {
    /// The cell of output voxel `index`.
    pub fn new(index: usize, n_in: usize, n_out: usize, take_nearest: bool) -> Self {
        let denominator = 2 * n_out as u64;
        if take_nearest {
            return Self { at: [nearest(index, n_in, n_out); 2], weight: [denominator, 0], nearer: 0 };
        }
        let place = position(index, n_in, n_out);
        let clamp = |i: isize| i.clamp(0, n_in as isize - 1) as usize;
        let t = place.numerator;
        Self {
            at: [clamp(place.floor), clamp(place.floor + 1)],
            weight: [denominator - t, t],
            nearer: usize::from(2 * t >= denominator),
        }
    }
}

fn vote<T: Copy + PartialEq>(labels: &ArrayView3<'_, T>, cell: [&Cell; 3]) -> T {
    let corner = |i: usize| {
        let side = [i >> 2 & 1, i >> 1 & 1, i & 1];
        (labels[[cell[0].at[side[0]], cell[1].at[side[1]], cell[2].at[side[2]]]], side)
    };
    let values: [T; 8] = std::array::from_fn(|i| corner(i).0);
    if values.iter().all(|v| *v == values[0]) {
        return values[0];
    }
    let weights: [u128; 8] =
        std::array::from_fn(|i| corner(i).1.iter().zip(cell).map(|(s, c)| u128::from(c.weight[*s])).product());
    let nearest = cell[0].nearer << 2 | cell[1].nearer << 1 | cell[2].nearer;
    let total = |v: T| values.iter().zip(weights).filter(|(u, _)| **u == v).map(|(_, w)| w).sum::<u128>();
    let mut best = (total(values[nearest]), u128::MAX, values[nearest]);
    for (&value, weight) in values.iter().zip(weights) {
        let sum = total(value);
        if (sum, weight) > (best.0, best.1) {
            best = (sum, weight, value);
        }
    }
    best.2
}
