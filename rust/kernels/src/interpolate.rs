//! Rows of one class between two planes, resampled along x, each made once for the rows of the result that need it.

use multiversion::multiversion;
use ndarray::{ArrayView1, ArrayView2, ArrayView4, Axis};

use crate::grid::Between;
use crate::real::Real;
use crate::stretch::Stretch;

/// Two rows and how far from the first to the second.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// Both rows, at the result's columns.
    pub rows: [&'a [f32]; 2],
    /// Weight of the second.
    pub t: f32,
}

impl Pair<'_> {
    /// Between `a` and `b`: exactly `a` where the second has no weight, and where the two are equal.
    #[inline(always)]
    pub fn mix(self, a: f32, b: f32) -> f32 {
        if self.t == 0.0 { a } else { a + self.t * (b - a) }
    }
}

/// Makes the rows of one class and plane of the result.
pub struct Interpolator<'a, R> {
    source: ArrayView4<'a, R>,
    columns: &'a Stretch,
    planes: Option<[ArrayView2<'a, R>; 2]>,
    t: f32,
    /// Row y of the source rests in slot y % 2: the rows that a row of the result lies between are neighbours.
    slots: [Slot; 2],
    rooms: Rooms<R>,
}

#[derive(Default)]
struct Slot {
    y: Option<usize>,
    row: Vec<f32>,
}

#[derive(Default)]
struct Rooms<R> {
    together: [Vec<R>; 2],
    single: [Vec<f32>; 2],
    mixed: Vec<f32>,
}

impl<'a, R: Real> Interpolator<'a, R> {
    /// For rows of `source` (c, z, y, x) resampled along `columns`.
    pub fn new(source: ArrayView4<'a, R>, columns: &'a Stretch) -> Self {
        Self { source, columns, planes: None, t: 0.0, slots: Default::default(), rooms: Rooms::default() }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.source.len_of(Axis(0))
    }

    /// Turns to `class`, between the planes `z`.
    pub fn begin(&mut self, class: usize, z: Between) {
        let plane = |at: usize| self.source.clone().index_axis_move(Axis(0), class).index_axis_move(Axis(0), at);
        (self.planes, self.t) = (Some(z.at.map(plane)), z.t);
        self.slots.iter_mut().for_each(|slot| slot.y = None);
    }

    /// The two rows that row `y` of the result lies between.
    pub fn pair(&mut self, y: Between) -> Pair<'_> {
        y.at.iter().for_each(|at| self.make(*at));
        let [even, odd] = &self.slots;
        let row = |at: usize| if at % 2 == 0 { &*even.row } else { &*odd.row };
        Pair { rows: y.at.map(row), t: y.t }
    }

    fn make(&mut self, y: usize) {
        let (slot, Some(planes)) = (&mut self.slots[y % 2], &self.planes) else { return };
        if slot.y == Some(y) {
            return;
        }
        slot.y = Some(y);
        let Rooms { together: [room_a, room_b], single: [single_a, single_b], mixed } = &mut self.rooms;
        let rows = [
            R::single(together(planes[0].index_axis(Axis(0), y), room_a), single_a),
            R::single(together(planes[1].index_axis(Axis(0), y), room_b), single_b),
        ];
        mixed.resize(self.columns.padded(), 0.0);
        if self.t == 0.0 {
            mixed[..rows[0].len()].copy_from_slice(rows[0]);
        } else {
            between(Pair { rows, t: self.t }, mixed);
        }
        self.columns.run(mixed, &mut slot.row);
    }
}

fn together<'a, T: Copy>(row: ArrayView1<'a, T>, room: &'a mut Vec<T>) -> &'a [T] {
    match row.to_slice() {
        Some(row) => row,
        None => {
            room.clear();
            room.extend(row);
            room
        }
    }
}

#[multiversion(targets = "simd")]
fn between(pair: Pair<'_>, out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(pair.rows[0]).zip(pair.rows[1]) {
        *out = *a + pair.t * (*b - *a);
    }
}
