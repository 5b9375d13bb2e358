//! Resampling along the rows themselves, many of them side by side.

use crate::coefficients::{Coefficients, Order, PAD};
use crate::error::Result;
use crate::memory;
use crate::spline::{POLE, anticausal_start, rest};

/// Lanes that are worked on together: a few vectors wide, so that one lane's waiting is another's work.
pub const LANES: usize = 32;

/// The same position of [`LANES`] neighbouring lanes.
pub type Row = [f32; LANES];

/// Room for lanes in work, extended by [`PAD`] at either end.
#[derive(Debug, Default)]
pub struct Lanes {
    rows: Vec<Row>,
}

impl Lanes {
    /// Makes room for lanes of `n` values, so that [`Self::resample`] takes no memory.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn reserve(&mut self, n: usize) -> Result<()> {
        memory::resize(&mut self.rows, n + 2 * PAD, [0.0; LANES], "resampling an image")
    }

    /// Resamples the lanes in the first positions of `wide` along `coefficients`, in place.
    #[inline(always)]
    pub fn resample(&mut self, coefficients: &Coefficients, wide: &mut [Row]) {
        if coefficients.order == Order::Cubic {
            return self.cubic(coefficients, wide);
        }
        self.repeat_edges(&wide[..coefficients.n_in]);
        if coefficients.order == Order::Nearest {
            return wide.iter_mut().zip(&coefficients.starts).for_each(|(row, start)| *row = self.rows[*start]);
        }
        for (row, (start, w)) in wide.iter_mut().zip(coefficients.starts.iter().zip(&coefficients.weights)) {
            let [a, b] = self.window(*start);
            *row = std::array::from_fn(|l| a[l] * w[0] + b[l] * w[1]);
        }
    }

    #[inline(always)]
    fn window<const N: usize>(&self, start: usize) -> &[Row; N] {
        self.rows[start..].first_chunk().unwrap_or(&[[0.0; LANES]; N])
    }

    #[inline(always)]
    fn repeat_edges(&mut self, wide: &[Row]) {
        let n = wide.len();
        self.rows.resize(n + 2 * PAD, [0.0; LANES]);
        self.rows[PAD..PAD + n].copy_from_slice(wide);
        let (head, tail) = (self.rows[PAD], self.rows[PAD + n - 1]);
        self.rows[..PAD].fill(head);
        self.rows[PAD + n..].fill(tail);
    }

    #[inline(always)]
    fn cubic(&mut self, coefficients: &Coefficients, wide: &mut [Row]) {
        let mut state = self.causal(&wide[..coefficients.n_in]);
        let mut next = coefficients.n_out;
        for k in (0..coefficients.n_in + 2 * PAD - 1).rev() {
            let row = &mut self.rows[k];
            for (value, state) in row.iter_mut().zip(&mut state) {
                *state = POLE * (*state - *value);
                *value = *state;
            }
            while next > 0 && coefficients.starts[next - 1] == k {
                next -= 1;
                let ([a, b, c, d], w) = (self.window(k), coefficients.weights[next]);
                wide[next] = std::array::from_fn(|l| (a[l] * w[0] + b[l] * w[1]) + (c[l] * w[2] + d[l] * w[3]));
            }
        }
    }

    /// The causal sweep; its results are in `rows`, the last of which already holds the spline's coefficient, the state
    /// that the anticausal sweep starts from.
    #[inline(always)]
    fn causal(&mut self, wide: &[Row]) -> Row {
        let n = wide.len();
        self.rows.resize(n + 2 * PAD, [0.0; LANES]);
        let tail = wide[n - 1];
        let mut state = wide[0].map(rest);
        let (before, behind) = self.rows.split_at_mut(PAD);
        before.fill(state);
        let (inside, behind) = behind.split_at_mut(n);
        for (row, values) in inside.iter_mut().zip(wide) {
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
