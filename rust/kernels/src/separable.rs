//! Resampling along one axis, many lanes side by side.

use crate::spline::{POLE, anticausal_start, rest};
use crate::taps::{Order, PAD, Taps};

/// Lanes that are worked on together: a few vectors wide, so that one lane's waiting is another's work.
pub const LANES: usize = 32;

/// The same position of [`LANES`] neighbouring lanes.
pub type Row = [f32; LANES];

/// Where lanes come from and where their results go.
pub trait Lane {
    /// Position `index` of the input.
    fn load(&self, index: usize) -> Row;
    /// Takes position `index` of the output.
    fn store(&mut self, index: usize, row: Row);
}

/// Room for lanes in work, extended by [`PAD`] at either end.
#[derive(Debug, Default)]
pub struct Lanes {
    rows: Vec<Row>,
}

impl Lanes {
    /// Resamples lanes along `taps`. Everything is loaded before anything is stored; storing goes from the last position
    /// to the first.
    #[inline(always)]
    pub fn resample(&mut self, taps: &Taps, lane: &mut impl Lane) {
        if taps.order == Order::Cubic {
            return self.cubic(taps, lane);
        }
        self.repeat_edges(taps.n_in, lane);
        if taps.order == Order::Nearest {
            return taps.starts.iter().enumerate().rev().for_each(|(i, start)| lane.store(i, self.rows[*start]));
        }
        for (i, (start, w)) in taps.starts.iter().zip(&taps.weights).enumerate().rev() {
            let [a, b] = self.window(*start);
            lane.store(i, std::array::from_fn(|l| a[l] * w[0] + b[l] * w[1]));
        }
    }

    #[inline(always)]
    fn window<const N: usize>(&self, start: usize) -> &[Row; N] {
        self.rows[start..].first_chunk().unwrap_or(&[[0.0; LANES]; N])
    }

    #[inline(always)]
    fn repeat_edges(&mut self, n: usize, lane: &impl Lane) {
        self.rows.resize(n + 2 * PAD, [0.0; LANES]);
        for (k, row) in self.rows[PAD..PAD + n].iter_mut().enumerate() {
            *row = lane.load(k);
        }
        let (head, tail) = (self.rows[PAD], self.rows[PAD + n - 1]);
        self.rows[..PAD].fill(head);
        self.rows[PAD + n..].fill(tail);
    }

    #[inline(always)]
    fn cubic(&mut self, taps: &Taps, lane: &mut impl Lane) {
        let mut state = self.causal(taps.n_in, lane);
        let mut next = taps.n_out;
        for k in (0..taps.n_in + 2 * PAD - 1).rev() {
            let row = &mut self.rows[k];
            for (value, state) in row.iter_mut().zip(&mut state) {
                *state = POLE * (*state - *value);
                *value = *state;
            }
            while next > 0 && taps.starts[next - 1] == k {
                next -= 1;
                let ([a, b, c, d], w) = (self.window(k), taps.weights[next]);
                lane.store(next, std::array::from_fn(|l| (a[l] * w[0] + b[l] * w[1]) + (c[l] * w[2] + d[l] * w[3])));
            }
        }
    }

    /// The causal sweep; its results are in `rows`, the last of which already holds the spline's coefficient, the state
    /// that the anticausal sweep starts from.
    #[inline(always)]
    fn causal(&mut self, n: usize, lane: &impl Lane) -> Row {
        self.rows.resize(n + 2 * PAD, [0.0; LANES]);
        let tail = lane.load(n - 1);
        let mut state = lane.load(0).map(rest);
        let (before, behind) = self.rows.split_at_mut(PAD);
        before.fill(state);
        let (inside, behind) = behind.split_at_mut(n);
        for (k, row) in inside.iter_mut().enumerate() {
            let values = lane.load(k);
            for (state, value) in state.iter_mut().zip(values) {
                *state = value + POLE * *state;
            }
            *row = state;
        }
        for row in behind {
            for (state, value) in state.iter_mut().zip(tail) {
                *state = value + POLE * *state;
            }
            *row = state;
        }
        for (state, tail) in state.iter_mut().zip(tail) {
            *state = anticausal_start(*state, tail);
        }
        if let Some(row) = self.rows.last_mut() {
            *row = state;
        }
        state
    }
}

/// [`LANES`] values of `row` from `x` on; zeros behind its end.
#[inline(always)]
pub fn load(row: &[f32], x: usize) -> Row {
    let row = &row[x..];
    row.first_chunk().copied().unwrap_or_else(|| load_partly(row))
}

#[cold]
fn load_partly(row: &[f32]) -> Row {
    let mut out = [0.0; LANES];
    out.iter_mut().zip(row).for_each(|(out, value)| *out = *value);
    out
}

/// Writes `values` to `row` from `x` on, as many as it holds.
#[inline(always)]
pub fn store(row: &mut [f32], x: usize, values: Row) {
    let row = &mut row[x..];
    match row.first_chunk_mut() {
        Some(row) => *row = values,
        None => store_partly(row, &values),
    }
}

#[cold]
fn store_partly(row: &mut [f32], values: &Row) {
    row.iter_mut().zip(values).for_each(|(out, value)| *out = *value);
}
