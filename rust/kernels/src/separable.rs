//! Resampling along one axis, many lanes side by side.

use crate::spline::prefilter;
use crate::taps::{Order, PAD, Taps};

/// Lanes that are worked on together: a few vectors wide, so that one lane's waiting is another's work.
pub const LANES: usize = 32;

/// The same position of [`LANES`] neighbouring lanes.
pub type Row = [f32; LANES];

/// Room for the lanes in work.
#[derive(Debug, Default)]
pub struct Lanes {
    rows: Vec<Row>,
}

impl Lanes {
    /// The rows of lanes that are `n` long, to be filled by the caller before [`Self::extend`].
    pub fn rows(&mut self, n: usize) -> &mut [Row] {
        self.rows.resize(n + 2 * PAD, [0.0; LANES]);
        &mut self.rows[PAD..PAD + n]
    }

    /// Repeats the edges, and prefilters where `taps` are a spline's.
    #[inline(always)]
    pub fn extend(&mut self, taps: &Taps) {
        let last = self.rows.len() - PAD - 1;
        self.rows[..PAD].fill([0.0; LANES]);
        let (head, tail) = (self.rows[PAD], self.rows[last]);
        self.rows[..PAD].fill(head);
        self.rows[last + 1..].fill(tail);
        if taps.order == Order::Cubic && !taps.is_identity() {
            prefilter(&mut self.rows);
        }
    }

    /// Output row `index`.
    #[inline(always)]
    pub fn sample(&self, taps: &Taps, index: usize) -> Row {
        let (start, w) = (taps.starts[index], &taps.weights[index]);
        if taps.is_identity() {
            return self.rows[index + PAD];
        }
        match taps.order {
            Order::Nearest => self.rows[start],
            Order::Linear => {
                let rows = &self.rows[start..start + 2];
                std::array::from_fn(|i| rows[0][i] * w[0] + rows[1][i] * w[1])
            }
            Order::Cubic => {
                let rows = &self.rows[start..start + 4];
                std::array::from_fn(|i| rows[0][i] * w[0] + rows[1][i] * w[1] + rows[2][i] * w[2] + rows[3][i] * w[3])
            }
        }
    }
}
