//! Resampling of one plane along both its axes, in a processor's own cache.

use multiversion::multiversion;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use crate::range::Range;
use crate::separable::{LANES, Lane, Lanes, Row, load, store};
use crate::taps::{Order, Taps};
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
        let Scratch { lanes, source: copy, middle, wide, target: result } = scratch;
        middle.resize(self.rows.n_out * self.columns.n_in, 0.0);
        wide.resize(self.columns.n_in.max(self.columns.n_out), [0.0; LANES]);
        let source = rows_of(&source, copy);
        // Reads the plane in the order of its memory, which brings it into the cache for the strips that follow.
        let range = Range::of(&source);
        along_rows(&self.rows, lanes, &source, middle, self.columns.n_in);
        match target.as_slice_mut() {
            Some(target) => self.along_columns(lanes, wide, middle, target, clip.unwrap_or(range)),
            None => {
                result.resize(target.len(), 0.0);
                self.along_columns(lanes, wide, middle, result, clip.unwrap_or(range));
                target.iter_mut().zip(result).for_each(|(target, value)| *target = *value);
            }
        }
        range
    }

    /// x: middle (y', x) → target (y', x').
    fn along_columns(&self, lanes: &mut Lanes, wide: &mut [Row], middle: &[f32], target: &mut [f32], clip: Range) {
        let (n_in, n_out) = (self.columns.n_in, self.columns.n_out);
        for (block, target) in middle.chunks(LANES * n_in).zip(target.chunks_mut(LANES * n_out)) {
            side_by_side(block, &mut wide[..n_in]);
            along_columns(&self.columns, lanes, wide, clip);
            one_by_one(&wide[..n_out], target);
        }
    }
}

/// y: source (y, x) → middle (y', x).
#[multiversion(targets = "simd")]
fn along_rows(taps: &Taps, lanes: &mut Lanes, source: &[&[f32]], middle: &mut [f32], width: usize) {
    let mut column = Rows { source, target: middle, width, x: 0 };
    for x in (0..width).step_by(LANES) {
        column.x = x;
        lanes.resample(taps, &mut column);
    }
}

#[multiversion(targets = "simd")]
fn along_columns(taps: &Taps, lanes: &mut Lanes, wide: &mut [Row], clip: Range) {
    lanes.resample(taps, &mut Wide { rows: wide, clip });
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

struct Rows<'a> {
    source: &'a [&'a [f32]],
    target: &'a mut [f32],
    width: usize,
    x: usize,
}

impl Lane for Rows<'_> {
    #[inline(always)]
    fn load(&self, y: usize) -> Row {
        load(self.source[y], self.x)
    }

    #[inline(always)]
    fn store(&mut self, y: usize, row: Row) {
        store(&mut self.target[y * self.width..][..self.width], self.x, row);
    }
}

struct Wide<'a> {
    rows: &'a mut [Row],
    clip: Range,
}

impl Lane for Wide<'_> {
    #[inline(always)]
    fn load(&self, x: usize) -> Row {
        self.rows[x]
    }

    #[inline(always)]
    fn store(&mut self, x: usize, row: Row) {
        self.rows[x] = row.map(|v| self.clip.clip(v));
    }
}
