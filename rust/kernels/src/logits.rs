//! From a network's output on its own grid to labels on the image's: resampled linearly and decided tile by tile, so
//! that all classes never lie at the image's resolution in memory.

use multiversion::multiversion;
use ndarray::parallel::prelude::*;
use ndarray::{ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis};
use rayon::slice::ParallelSlice;

use crate::error::{KernelError, Result};
use crate::grid::{Between, Grid, Slab};
use crate::interpolate::{Interpolator, Pair};
use crate::real::{Label, Real};
use crate::stretch::Stretch;

/// Rows of the result that one task makes.
const ROWS: usize = 32;

/// The class with the greatest logit at every voxel of `out` (z', y', x'), from `logits` (c, z, y, x) resampled linearly.
///
/// Equal logits: the lowest class. NaN is never the greatest. With `lowres_axis` that axis takes the nearest slice, with
/// `slabs` both arrays are parts of longer ones.
///
/// # Errors
/// No classes or more than 65 536, an axis without voxels, an axis that is not one of the three, a slab whose result
/// lies beyond the whole or needs planes that are not at hand.
pub fn logits_to_labels<R: Real, L: Label>(
    logits: ArrayView4<'_, R>,
    out: ArrayViewMut3<'_, L>,
    lowres_axis: Option<usize>,
    slabs: &[Slab],
) -> Result<()> {
    let grid = Grid::new("logits", logits.shape(), out.shape(), lowres_axis, slabs)?;
    tiles(logits, &grid, out, |tile, out| {
        tile.start(f32::NEG_INFINITY);
        tile.each(|class, pair, best, winner| challenge(pair, class as u32, best, winner));
        tile.finish(out, L::from_index);
    });
    Ok(())
}

/// Regions painted in order: every voxel of `out` (z', y', x') gets `paint[r]` of the last region r whose resampled
/// logit is at least 0, that is whose sigmoid is at least 1/2; 0 where there is none.
///
/// # Errors
/// As [`logits_to_labels`], and `paint` not one value a region.
pub fn logits_to_regions<R: Real, L: Label>(
    logits: ArrayView4<'_, R>,
    out: ArrayViewMut3<'_, L>,
    paint: &[u16],
    lowres_axis: Option<usize>,
    slabs: &[Slab],
) -> Result<()> {
    let grid = Grid::new("logits", logits.shape(), out.shape(), lowres_axis, slabs)?;
    if paint.len() != logits.len_of(Axis(0)) {
        return Err(KernelError::argument("paint", format!("hold {} values, one a region", logits.shape()[0]), paint));
    }
    tiles(logits, &grid, out, |tile, out| {
        tile.start(0.0);
        tile.each(|region, pair, _, painted| cover(pair, u32::from(paint[region]), painted));
        tile.finish(out, L::from_index);
    });
    Ok(())
}

/// Resamples `probabilities` (c, z, y, x) linearly to the grid of `out` (c, z', y', x'), for saving.
///
/// # Errors
/// As [`logits_to_labels`], and different numbers of classes.
pub fn resample_probabilities<R: Real, S: Real>(
    probabilities: ArrayView4<'_, R>,
    mut out: ArrayViewMut4<'_, S>,
    lowres_axis: Option<usize>,
    slabs: &[Slab],
) -> Result<()> {
    let grid = Grid::new("probabilities", probabilities.shape(), &out.shape()[1..], lowres_axis, slabs)?;
    if probabilities.len_of(Axis(0)) != out.len_of(Axis(0)) {
        let rule = format!("have {} classes", out.shape()[0]);
        return Err(KernelError::argument("probabilities", rule, probabilities.shape()));
    }
    for (class, out) in probabilities.axis_chunks_iter(Axis(0), 1).zip(out.outer_iter_mut()) {
        tiles(class, &grid, out, |tile, out| {
            tile.start(0.0);
            tile.each(|_, pair, values, _| mix_rows(pair, values));
            tile.store(out);
        });
    }
    Ok(())
}

/// Some rows of one plane of the result in work.
struct Tile<'a, R> {
    interpolator: Interpolator<'a, R>,
    z: Between,
    rows: &'a [Between],
    width: usize,
    values: Vec<f32>,
    winners: Vec<u32>,
}

impl<R: Real> Tile<'_, R> {
    fn start(&mut self, value: f32) {
        let size = self.rows.len() * self.width;
        self.values.clear();
        self.values.resize(size, value);
        self.winners.clear();
        self.winners.resize(size, 0);
    }

    /// `work(class, pair, values, winners)` for every class and row.
    fn each(&mut self, work: impl Fn(usize, Pair<'_>, &mut [f32], &mut [u32])) {
        for class in 0..self.interpolator.classes() {
            self.interpolator.begin(class, self.z);
            let rows = self.values.chunks_exact_mut(self.width).zip(self.winners.chunks_exact_mut(self.width));
            for ((values, winners), y) in rows.zip(self.rows) {
                work(class, self.interpolator.pair(*y), values, winners);
            }
        }
    }

    fn finish<L>(&self, mut out: ArrayViewMut2<'_, L>, label: impl Fn(u32) -> L) {
        out.iter_mut().zip(&self.winners).for_each(|(out, winner)| *out = label(*winner));
    }

    fn store<S: Real>(&self, mut out: ArrayViewMut2<'_, S>) {
        let mut room = vec![S::default(); self.width];
        for (mut row, values) in out.outer_iter_mut().zip(self.values.chunks_exact(self.width)) {
            S::store(values, &mut room);
            row.iter_mut().zip(&room).for_each(|(out, value)| *out = *value);
        }
    }
}

/// Runs `work` on tiles of [`ROWS`] rows that together are `out`.
fn tiles<R: Real, T: Send + Sync>(
    source: ArrayView4<'_, R>,
    grid: &Grid,
    mut out: ArrayViewMut3<'_, T>,
    work: impl Fn(&mut Tile<'_, R>, ArrayViewMut2<'_, T>) + Sync,
) {
    let [planes, rows, columns] = &grid.axes;
    let columns = Stretch::new(columns, source.len_of(Axis(3)));
    let width = out.len_of(Axis(2));
    out.axis_iter_mut(Axis(0)).into_par_iter().zip(planes).for_each(|(mut plane, z)| {
        let blocks = plane.axis_chunks_iter_mut(Axis(0), ROWS).into_par_iter().zip(rows.par_chunks(ROWS));
        blocks.for_each(|(block, rows)| {
            let (values, winners) = (Vec::new(), Vec::new());
            let interpolator = Interpolator::new(source, &columns);
            let mut tile = Tile { interpolator, z: *z, rows, width, values, winners };
            work(&mut tile, block);
        });
    });
}

/// Where the pair's value is greater than the best so far, `class` takes its place. NaN is not greater.
#[multiversion(targets = "simd")]
fn challenge(pair: Pair<'_>, class: u32, best: &mut [f32], winner: &mut [u32]) {
    for (((best, winner), a), b) in best.iter_mut().zip(winner).zip(pair.rows[0]).zip(pair.rows[1]) {
        let value = pair.mix(*a, *b);
        let better = value > *best;
        *best = if better { value } else { *best };
        *winner = if better { class } else { *winner };
    }
}

/// Paints `value` where the pair's logit is at least 0.
#[multiversion(targets = "simd")]
fn cover(pair: Pair<'_>, value: u32, painted: &mut [u32]) {
    for ((painted, a), b) in painted.iter_mut().zip(pair.rows[0]).zip(pair.rows[1]) {
        *painted = if pair.mix(*a, *b) >= 0.0 { value } else { *painted };
    }
}

#[multiversion(targets = "simd")]
fn mix_rows(pair: Pair<'_>, out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(pair.rows[0]).zip(pair.rows[1]) {
        *out = pair.mix(*a, *b);
    }
}
