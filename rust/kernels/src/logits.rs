//! From a network's output on its own grid to labels on the image's: resampled linearly and decided tile by tile, so
//! that all classes never lie at the image's resolution in memory.

use multiversion::multiversion;
use ndarray::parallel::prelude::*;
use ndarray::{ArrayView4, ArrayViewMut3, ArrayViewMut4, Axis};
use rayon::slice::ParallelSlice;

use crate::argmax::{Rule, labels_by};
use crate::dtype::Float;
use crate::error::{KernelError, Result, counted};
use crate::grid::{Grid, Slab};
use crate::interpolate::{Interpolator, Pair, mix_rows};
use crate::label::Keyed;
use crate::memory;
use crate::stretch::Stretch;

/// The class with the greatest logit at every voxel of `out` (z', y', x'), from `logits` (c, z, y, x) resampled linearly.
///
/// Equal logits: the lowest class. NaN is never the greatest. With `lowres_axis` that axis takes the nearest slice, with
/// `slabs` both arrays are parts of longer ones.
///
/// # Errors
/// No classes or more than 65 536, an axis without voxels, an axis that is not one of the three, a slab whose result
/// lies beyond the whole or needs planes that are not at hand; memory refused.
pub fn logits_to_labels<R: Float, L: Keyed>(
    logits: ArrayView4<'_, R>,
    out: ArrayViewMut3<'_, L>,
    lowres_axis: Option<usize>,
    slabs: &[Slab],
) -> Result<()> {
    let grid = Grid::new("logits", logits.shape(), out.shape(), lowres_axis, slabs)?;
    labels_by(logits, &grid, out, &Greatest, |number| L::from_key(number - 1))
}

/// Regions painted in order: every voxel of `out` (z', y', x') gets `paint[r]` of the last region r whose resampled
/// logit is at least 0, that is whose sigmoid is at least 1/2; 0 where there is none.
///
/// # Errors
/// As [`logits_to_labels`], and `paint` not one value a region.
pub fn logits_to_regions<R: Float, L: Keyed>(
    logits: ArrayView4<'_, R>,
    out: ArrayViewMut3<'_, L>,
    paint: &[u16],
    lowres_axis: Option<usize>,
    slabs: &[Slab],
) -> Result<()> {
    let grid = Grid::new("logits", logits.shape(), out.shape(), lowres_axis, slabs)?;
    if paint.len() != logits.len_of(Axis(0)) {
        return Err(KernelError::value(
            "paint",
            format!("hold {}, one a region", counted(logits.shape()[0], "value")),
            paint,
        ));
    }
    let name = |last: u32| L::from_key(last.checked_sub(2).map_or(0, |region| u32::from(paint[region as usize])));
    labels_by(logits, &grid, out, &Covered, name)
}

/// Resamples `probabilities` (c, z, y, x) linearly to the grid of `out` (c, z', y', x'), for saving.
///
/// # Errors
/// As [`logits_to_labels`], and different numbers of classes.
pub fn resample_probabilities<R: Float, S: Float>(
    probabilities: ArrayView4<'_, R>,
    mut out: ArrayViewMut4<'_, S>,
    lowres_axis: Option<usize>,
    slabs: &[Slab],
) -> Result<()> {
    let grid = Grid::new("probabilities", probabilities.shape(), &out.shape()[1..], lowres_axis, slabs)?;
    if probabilities.len_of(Axis(0)) != out.len_of(Axis(0)) {
        let rule = format!("have {}", counted(out.shape()[0], "class"));
        return Err(KernelError::shape("probabilities", rule, probabilities.shape()));
    }
    let mut classes = out.outer_iter_mut().enumerate();
    classes.try_for_each(|(class, out)| spread(probabilities, class, &grid, out))
}

/// The class with the greatest value wins; the lowest of equal ones. NaN is not greater than anything, and class 0 wins
/// where nothing is.
struct Greatest;

impl Rule for Greatest {
    const START: f32 = f32::NEG_INFINITY;

    fn challenge(&self, class: usize, pair: Pair<'_>, values: &mut [f32], winners: &mut [u32]) {
        take_greater(pair, class as u32 + 1, values, winners);
    }
}

/// Classes come in ascending order, so the last to lead is the greatest of the numbers noted, which begin with 1: that of
/// class 0, noted wherever nothing leads. A plain choice between a new number and the old one, or with a least number of 0,
/// would be compiled into a masked store, which takes AMD's processors some twenty cycles.
#[multiversion(targets = "simd")]
fn take_greater(pair: Pair<'_>, number: u32, best: &mut [f32], winner: &mut [u32]) {
    for (((best, winner), a), b) in best.iter_mut().zip(winner).zip(pair.rows[0]).zip(pair.rows[1]) {
        let value = pair.mix(*a, *b);
        let later = if value > *best { number } else { 1 };
        *winner = later.max(*winner);
        *best = best.max(value);
    }
}

/// The last region whose value is at least 0 wins; its number is two more than its index, and 1 means none.
struct Covered;

impl Rule for Covered {
    const START: f32 = 0.0;

    fn challenge(&self, region: usize, pair: Pair<'_>, _: &mut [f32], winners: &mut [u32]) {
        take_non_negative(pair, region as u32 + 2, winners);
    }
}

#[multiversion(targets = "simd")]
fn take_non_negative(pair: Pair<'_>, number: u32, winner: &mut [u32]) {
    for ((winner, a), b) in winner.iter_mut().zip(pair.rows[0]).zip(pair.rows[1]) {
        let later = if pair.mix(*a, *b) >= 0.0 { number } else { 1 };
        *winner = later.max(*winner);
    }
}

/// Rows of the result that one task makes.
const ROWS: usize = 32;

/// One class, resampled to `out` (z', y', x').
fn spread<R: Float, S: Float>(
    source: ArrayView4<'_, R>,
    class: usize,
    grid: &Grid,
    mut out: ArrayViewMut3<'_, S>,
) -> Result<()> {
    const PURPOSE: &str = "rows in work";
    let [planes, rows, columns] = &grid.axes;
    let stretch = Stretch::new(columns, source.len_of(Axis(3)))?;
    out.axis_iter_mut(Axis(0)).into_par_iter().zip(planes).try_for_each(|(mut plane, z)| {
        let blocks = plane.axis_chunks_iter_mut(Axis(0), ROWS).into_par_iter().zip(rows.par_chunks(ROWS));
        blocks.try_for_each(|(mut block, rows)| {
            let mut interpolator = Interpolator::new(source, &stretch)?;
            let mut values = memory::vector(columns.len(), 0.0, PURPOSE)?;
            let mut stored = memory::vector(columns.len(), S::default(), PURPOSE)?;
            interpolator.begin(class, *z, 0..stretch.groups());
            for (mut row, y) in block.outer_iter_mut().zip(rows) {
                mix_rows(interpolator.pair(*y), &mut values);
                S::store(&values, &mut stored);
                row.iter_mut().zip(&stored).for_each(|(out, value)| *out = *value);
            }
            Ok(())
        })
    })
}
