//! Resampling of one plane along both its axes, in a processor's own cache.

use multiversion::multiversion;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use crate::range::Range;
use crate::rows::Rows;
use crate::separable::{LANES, Lanes, Row};
use crate::taps::{Order, PAD, Taps};
use crate::transpose::{one_by_one, side_by_side};

/// Taps along the rows' axis (y) and along the columns' (x).
pub struct InPlane {
    rows: Taps,
    columns: Taps,
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
    pub fn new(order: Order, from: &[usize], to: &[usize]) -> Self {
        Self { rows: Taps::new(order, from[1], to[1]), columns: Taps::new(order, from[2], to[2]) }
    }

    /// Resamples `source` (y, x) to `target` (y', x'), clipped to `clip` or to the source's own range, which is returned.
    pub fn run(
        &self,
        scratch: &mut Scratch,
        source: ArrayView2<'_, f32>,
        mut target: ArrayViewMut2<'_, f32>,
        clip: Option<Range>,
    ) -> Range {
        let Scratch { lanes, source: copy, middle, wide, room, target: result } = scratch;
        let width = self.columns.n_out;
        middle.resize(self.rows.n_in * width, 0.0);
        let mut source = rows_of(&source, copy);
        let range = self.along_columns(lanes, wide, &source, middle);
        if self.columns.n_in != width {
            source = middle.chunks_exact(width).collect();
        }
        let clip = clip.unwrap_or(range);
        match target.as_slice_mut() {
            Some(target) => {
                Rows { source, target: target.chunks_exact_mut(width).collect() }.resample(&self.rows, room, clip);
            }
            None => {
                result.resize(target.len(), 0.0);
                Rows { source, target: result.chunks_exact_mut(width).collect() }.resample(&self.rows, room, clip);
                target.iter_mut().zip(result).for_each(|(target, value)| *target = *value);
            }
        }
        range
    }

    /// x: source (y, x) → middle (y, x'), where that changes anything; the source's range.
    fn along_columns(&self, lanes: &mut Lanes, wide: &mut Vec<Row>, source: &[&[f32]], middle: &mut [f32]) -> Range {
        let Taps { n_in, n_out, order, ref starts, .. } = self.columns;
        let blocks = source.chunks(LANES).zip(middle.chunks_mut(LANES * n_out));
        let ranges = blocks.map(|(block, middle)| {
            // Reads the rows in the order of memory, which brings them into the cache for the transposition.
            let range = Range::of(block);
            if order != Order::Nearest {
                wide.resize(n_in.max(n_out), [0.0; LANES]);
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
        ranges.fold(Range::NONE, Range::join)
    }
}

#[multiversion(targets = "simd")]
fn along_lanes(taps: &Taps, lanes: &mut Lanes, wide: &mut [Row]) {
    lanes.resample(taps, wide);
}

/// The rows of `plane`, copied to `room` where their values do not lie together.
pub fn rows_of<'a>(plane: &'a ArrayView2<'_, f32>, room: &'a mut Vec<f32>) -> Vec<&'a [f32]> {
    let width = plane.len_of(Axis(1));
    if plane.stride_of(Axis(1)) == 1 || width == 1 {
        return plane.outer_iter().filter_map(|row| row.to_slice()).collect();
    }
    room.clear();
    room.extend(plane.iter());
    room.chunks_exact(width).collect()
}
