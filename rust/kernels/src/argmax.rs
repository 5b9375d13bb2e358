//! Decisions from interpolated classes, tile by tile, and only where the neighbours do not agree.
//!
//! Interpolation weights are not negative and sum to 1, so what holds at all eight neighbours of a voxel holds between
//! them: a class that leads at all of them leads there too. The classes are interpolated where that does not settle it.

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{ArrayView4, ArrayViewMut2, ArrayViewMut3, Axis};
use rayon::slice::ParallelSlice;

use crate::dtype::Float;
use crate::error::Result;
use crate::grid::{Between, Grid};
use crate::interpolate::{Interpolator, Pair};
use crate::memory;
use crate::neighbours::Neighbours;
use crate::stretch::{GROUP, Stretch};

/// Rows and planes of the result that one task makes.
const ROWS: usize = 16;
const PLANES: usize = 16;

/// How a voxel is decided, class after class.
pub trait Rule: Sync {
    /// The value that the first class is held against.
    const START: f32;
    /// Holds the values of `class` against the best `values` so far and writes its number where it wins. Classes come in
    /// ascending order.
    fn challenge(&self, class: usize, pair: Pair<'_>, values: &mut [f32], winners: &mut [u32]);
}

/// Decides every voxel of `out` by `rule`; `name` makes a label of the winner's number.
///
/// # Errors
/// The system refuses the memory.
pub fn labels_by<R: Float, L: Send + Sync>(
    logits: ArrayView4<'_, R>,
    grid: &Grid,
    mut out: ArrayViewMut3<'_, L>,
    rule: &impl Rule,
    name: impl Fn(u32) -> L + Sync,
) -> Result<()> {
    let [planes, rows, columns] = &grid.axes;
    let stretch = Stretch::new(columns, logits.len_of(Axis(3)))?;
    let slabs = out.axis_chunks_iter_mut(Axis(0), PLANES).into_par_iter().zip(planes.par_chunks(PLANES));
    slabs.try_for_each(|(mut slab, planes)| {
        let blocks = slab.axis_chunks_iter_mut(Axis(1), ROWS).into_par_iter().zip(rows.par_chunks(ROWS));
        blocks.try_for_each(|(mut block, rows)| {
            let mut tile = Tile::new(Interpolator::new(logits, &stretch)?, rows, grid.is_dense())?;
            for (plane, z) in block.outer_iter_mut().zip(planes) {
                tile.label(*z, rule)?;
                tile.write(plane, &name);
            }
            Ok(())
        })
    })
}

/// Some rows of one plane of the result in work.
struct Tile<'a, R> {
    interpolator: Interpolator<'a, R>,
    rows: &'a [Between],
    neighbours: Neighbours,
    values: Vec<f32>,
    winners: Vec<u32>,
}

impl<'a, R: Float> Tile<'a, R> {
    /// Looks at neighbours first where the source is dense; elsewhere that costs more than it saves.
    fn new(interpolator: Interpolator<'a, R>, rows: &'a [Between], dense: bool) -> Result<Self> {
        const PURPOSE: &str = "rows in work";
        let size = rows.len() * interpolator.columns().groups() * GROUP;
        let (values, winners) = (memory::vector(size, 0.0, PURPOSE)?, memory::vector(size, 0, PURPOSE)?);
        let neighbours = Neighbours::new(if dense { rows } else { &[] });
        Ok(Self { interpolator, rows, neighbours, values, winners })
    }

    fn label<D: Rule>(&mut self, z: Between, rule: &D) -> Result<()> {
        self.neighbours.turn(z, &mut self.interpolator, rule)?;
        let columns = self.interpolator.columns();
        let contested = self.neighbours.contested(z, self.rows, columns)?;
        let mut settled = 0;
        for groups in contested {
            self.neighbours.copy(z, self.rows, columns, settled..groups.start, &mut self.winners);
            settled = groups.end;
            self.compare(z, rule, groups);
        }
        self.neighbours.copy(z, self.rows, columns, settled..columns.groups(), &mut self.winners);
        Ok(())
    }

    /// Interpolates every class in `groups` of columns.
    fn compare<D: Rule>(&mut self, z: Between, rule: &D, groups: Range<usize>) {
        let width = self.interpolator.columns().groups() * GROUP;
        let span = groups.start * GROUP..groups.end * GROUP;
        for row in self.values.chunks_exact_mut(width) {
            row[span.clone()].fill(D::START);
        }
        for row in self.winners.chunks_exact_mut(width) {
            row[span.clone()].fill(0);
        }
        for class in 0..self.interpolator.classes() {
            self.interpolator.begin(class, z, groups.clone());
            let rows = self.values.chunks_exact_mut(width).zip(self.winners.chunks_exact_mut(width));
            for ((values, winners), y) in rows.zip(self.rows) {
                let pair = self.interpolator.pair(*y);
                rule.challenge(class, pair, &mut values[span.clone()], &mut winners[span.clone()]);
            }
        }
    }

    fn write<L>(&self, mut out: ArrayViewMut2<'_, L>, name: impl Fn(u32) -> L) {
        let width = self.interpolator.columns().groups() * GROUP;
        for (mut out, winners) in out.outer_iter_mut().zip(self.winners.chunks_exact(width)) {
            match out.as_slice_mut() {
                Some(out) => out.iter_mut().zip(winners).for_each(|(out, winner)| *out = name(*winner)),
                None => out.iter_mut().zip(winners).for_each(|(out, winner)| *out = name(*winner)),
            }
        }
    }
}
