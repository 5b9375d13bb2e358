//! Rows of one class between two planes, resampled along x, each made once for the rows of the result that need it.

use std::ops::Range;

use multiversion::multiversion;
use ndarray::{ArrayView2, ArrayView4, Axis};

use crate::dtype::Float;
use crate::error::Result;
use crate::grid::Between;
use crate::memory::{contiguous_row, reserved, row_room, vector};
use crate::stretch::{GROUP, Stretch, mix};

const PURPOSE: &str = "rows in work";

/// Two rows and how far from the first to the second.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// Both rows, of one length.
    pub rows: [&'a [f32]; 2],
    /// Weight of the second.
    pub t: f32,
}

impl<'a> Pair<'a> {
    /// One row as it is.
    pub const fn single(row: &'a [f32]) -> Self {
        Self { rows: [row; 2], t: 0.0 }
    }

    /// Between `a` and `b`, by this pair's weight.
    #[inline(always)]
    pub fn mix(self, a: f32, b: f32) -> f32 {
        mix(a, b, self.t)
    }
}

/// Makes the rows of one class and plane of the result.
pub struct Interpolator<'a, R> {
    source: ArrayView4<'a, R>,
    columns: &'a Stretch,
    groups: Range<usize>,
    planes: Option<[ArrayView2<'a, R>; 2]>,
    t: f32,
    /// Row y of the source rests in slot y % 2: the rows that a row of the result lies between are neighbours.
    slots: [Slot; 2],
    rooms: Rooms<R>,
}

struct Slot {
    y: Option<usize>,
    row: Vec<f32>,
}

/// Room for rows as long as any can be, so that none of them takes memory.
struct Rooms<R> {
    strided: [Vec<R>; 2],
    single: [Vec<f32>; 2],
    mixed: Vec<f32>,
}

impl<'a, R: Float> Interpolator<'a, R> {
    /// For rows of `source` (c, z, y, x) resampled along `columns`.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn new(source: ArrayView4<'a, R>, columns: &'a Stretch) -> Result<Self> {
        let width = columns.length();
        let floats = |length| vector(length, 0.0, PURPOSE);
        let slot = || Ok(Slot { y: None, row: floats(columns.groups() * GROUP)? });
        let strided = || reserved(row_room(source.stride_of(Axis(3)), width), PURPOSE);
        let rooms = Rooms {
            strided: [strided()?, strided()?],
            single: [floats(R::room(width))?, floats(R::room(width))?],
            mixed: floats(columns.padded())?,
        };
        Ok(Self { source, columns, groups: 0..0, planes: None, t: 0.0, slots: [slot()?, slot()?], rooms })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.source.len_of(Axis(0))
    }

    /// The columns' resampling.
    pub const fn columns(&self) -> &'a Stretch {
        self.columns
    }

    /// Row `y` of plane `z` of `class` as it is.
    pub fn source_row(&mut self, class: usize, z: usize, y: usize) -> &[f32] {
        let Rooms { strided: [room, _], single: [single, _], .. } = &mut self.rooms;
        R::single(contiguous_row(plane(&self.source, class, z).index_axis_move(Axis(0), y), room), single)
    }

    /// Turns to `class`, between the planes `z`, for `groups` of columns.
    pub fn begin(&mut self, class: usize, z: Between, groups: Range<usize>) {
        (self.planes, self.t) = (Some(z.at.map(|at| plane(&self.source, class, at))), z.t);
        self.groups = groups;
        self.slots.iter_mut().for_each(|slot| slot.y = None);
    }

    /// The two rows that row `y` of the result lies between.
    pub fn pair(&mut self, y: Between) -> Pair<'_> {
        y.at.iter().for_each(|at| self.make(*at));
        let ([even, odd], length) = (&self.slots, self.groups.len() * GROUP);
        let row = |at: usize| if at.is_multiple_of(2) { &even.row[..length] } else { &odd.row[..length] };
        Pair { rows: y.at.map(row), t: y.t }
    }

    fn make(&mut self, y: usize) {
        let (slot, Some(planes)) = (&mut self.slots[y % 2], &self.planes) else { return };
        if slot.y == Some(y) {
            return;
        }
        slot.y = Some(y);
        let Rooms { strided: [room_a, room_b], single: [single_a, single_b], mixed } = &mut self.rooms;
        let span = self.columns.reads(&self.groups);
        let rows =
            planes.each_ref().map(|plane| plane.index_axis(Axis(0), y).slice_axis_move(Axis(0), span.clone().into()));
        let [first, second] = rows;
        let first = R::single(contiguous_row(first, room_a), single_a);
        let rows = [first, R::single(contiguous_row(second, room_b), single_b)];
        match self.t {
            0.0 => mixed[span].copy_from_slice(rows[0]),
            t => mix_rows(Pair { rows, t }, &mut mixed[span]),
        }
        self.columns.run(self.groups.clone(), mixed, &mut slot.row[..self.groups.len() * GROUP]);
    }
}

fn plane<'a, R>(source: &ArrayView4<'a, R>, class: usize, z: usize) -> ArrayView2<'a, R> {
    (*source).index_axis_move(Axis(0), class).index_axis_move(Axis(0), z)
}

/// The pair's values.
#[multiversion(targets = "simd")]
pub fn mix_rows(pair: Pair<'_>, out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(pair.rows[0]).zip(pair.rows[1]) {
        *out = pair.mix(*a, *b);
    }
}
