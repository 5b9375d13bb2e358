//! Resampling of one plane along both its axes, in a processor's own cache.

use multiversion::multiversion;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use crate::coefficients::{Coefficients, Order, PAD};
use crate::error::Result;
use crate::memory;
use crate::min_max::MinMax;
use crate::rows::Rows;
use crate::separable::{LANES, Lanes, Row};
use crate::transpose::{one_by_one, side_by_side};

const PURPOSE: &str = "resampling an image";

/// Coefficients along the rows' axis (y) and along the columns' (x).
pub struct InPlane {
    rows: Coefficients,
    columns: Coefficients,
}

/// What a thread needs to resample a plane.
#[derive(Default)]
pub struct Scratch {
    lanes: Lanes,
    source: Vec<f32>,
    middle: Vec<f32>,
    wide: Vec<Row>,
    room: Vec<f32>,
    target: Vec<f32>,
}

impl InPlane {
    /// For planes of volumes whose shapes are `from` and `to`.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn new(order: Order, from: &[usize], to: &[usize]) -> Result<Self> {
        Ok(Self { rows: Coefficients::new(order, from[1], to[1])?, columns: Coefficients::new(order, from[2], to[2])? })
    }

    /// Resamples `source` (y, x) to `target` (y', x'), clipped to `clip` or to the source's own range, which is returned.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn run(
        &self,
        scratch: &mut Scratch,
        source: ArrayView2<'_, f32>,
        mut target: ArrayViewMut2<'_, f32>,
        clip: Option<MinMax>,
    ) -> Result<MinMax> {
        let Scratch { lanes, source: copy, middle, wide, room, target: result } = scratch;
        let width = self.columns.n_out;
        memory::resize(middle, memory::product(&[self.rows.n_in, width], PURPOSE)?, 0.0, PURPOSE)?;
        let mut source = rows_of(&source, copy)?;
        let range = self.along_columns(lanes, wide, &source, middle)?;
        if self.columns.n_in != width {
            source = memory::collected(middle.chunks_exact(width), PURPOSE)?;
        }
        let clip = clip.unwrap_or(range);
        match target.as_slice_mut() {
            Some(target) => {
                let target = memory::collected(target.chunks_exact_mut(width), PURPOSE)?;
                Rows { source, target }.resample(&self.rows, room, clip)?;
            }
            None => {
                memory::resize(result, target.len(), 0.0, PURPOSE)?;
                let rows = memory::collected(result.chunks_exact_mut(width), PURPOSE)?;
                Rows { source, target: rows }.resample(&self.rows, room, clip)?;
                target.iter_mut().zip(result).for_each(|(target, value)| *target = *value);
            }
        }
        Ok(range)
    }

    /// x: source (y, x) → middle (y, x'), where that changes anything; the source's range.
    fn along_columns(
        &self,
        lanes: &mut Lanes,
        wide: &mut Vec<Row>,
        source: &[&[f32]],
        middle: &mut [f32],
    ) -> Result<MinMax> {
        let Coefficients { n_in, n_out, order, ref starts, .. } = self.columns;
        if order != Order::Nearest {
            lanes.reserve(n_in)?;
            memory::resize(wide, n_in.max(n_out), [0.0; LANES], PURPOSE)?;
        }
        let blocks = source.chunks(LANES).zip(middle.chunks_mut(LANES * n_out));
        let ranges = blocks.map(|(block, middle)| {
            // Reads the rows in the order of memory, which brings them into the cache for the transposition.
            let range = MinMax::of(block);
            if order != Order::Nearest {
                side_by_side(block, &mut wide[..n_in]);
                along_lanes(&self.columns, lanes, wide);
                one_by_one(&wide[..n_out], middle);
            } else if n_in != n_out {
                for (row, out) in block.iter().zip(middle.chunks_exact_mut(n_out)) {
                    out.iter_mut().zip(starts).for_each(|(out, start)| *out = row[start - PAD]);
                }
            }
            range
        });
        Ok(ranges.fold(MinMax::NONE, MinMax::join))
    }
}

#[multiversion(targets = "simd")]
fn along_lanes(coefficients: &Coefficients, lanes: &mut Lanes, wide: &mut [Row]) {
    lanes.resample(coefficients, wide);
}

/// The rows of `plane`, copied to `room` where their values do not lie together.
///
/// # Errors
/// The system refuses the memory.
pub fn rows_of<'a>(plane: &'a ArrayView2<'_, f32>, room: &'a mut Vec<f32>) -> Result<Vec<&'a [f32]>> {
    let width = plane.len_of(Axis(1));
    if plane.stride_of(Axis(1)) == 1 || width == 1 {
        return memory::gathered(plane.outer_iter().filter_map(|row| row.to_slice()), plane.len_of(Axis(0)), PURPOSE);
    }
    memory::refill(room, plane.iter().copied(), PURPOSE)?;
    memory::collected(room.chunks_exact(width), PURPOSE)
}
