//! Resampling along an axis whose neighbours lie whole rows apart: row after row, so that memory is read in its order.

use std::ops::Range as Columns;

use multiversion::multiversion;

use crate::coefficients::{Coefficients, Order, PAD};
use crate::error::Result;
use crate::memory;
use crate::min_max::MinMax;
use crate::spline::{POLE, anticausal_start, rest};

/// Values in work at a time: what a processor's own cache holds beside what is read and written meanwhile.
const ROOM: usize = 1 << 15;

/// Columns in work at a time are a multiple of these.
const STEP: usize = 16;

/// Rows of one length, and those that they are resampled to.
pub struct Rows<'a> {
    /// The input; where there is none, it lies in the first rows of the output.
    pub source: Vec<&'a [f32]>,
    /// The output.
    pub target: Vec<&'a mut [f32]>,
}

impl Rows<'_> {
    /// Resamples along `coefficients`, clipped to `clip`.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn resample(&mut self, coefficients: &Coefficients, room: &mut Vec<f32>, clip: MinMax) -> Result<()> {
        if !self.source.is_empty() && coefficients.order == Order::Nearest {
            let pairs = self.target.iter_mut().zip(&coefficients.starts);
            pairs.for_each(|(row, start)| clip.copy(self.source[start - PAD], row));
            return Ok(());
        }
        if coefficients.n_in == coefficients.n_out {
            self.target.iter_mut().for_each(|row| row.iter_mut().for_each(|value| *value = clip.clip(*value)));
            return Ok(());
        }
        let (width, height) = (self.target.first().map_or(0, |row| row.len()), coefficients.n_in + 2 * PAD);
        let strip = width.div_ceil((width * height).div_ceil(ROOM).max(1)).next_multiple_of(STEP);
        memory::resize(room, strip * height, 0.0, "resampling an image")?;
        for first in (0..width).step_by(strip) {
            let columns = first..(first + strip).min(width);
            let room = &mut room[..columns.len() * height];
            match coefficients.order {
                Order::Cubic => cubic(coefficients, self, columns, room, clip),
                _ => by_two(coefficients, self, columns, room, clip),
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn input(&self, index: usize, columns: &Columns<usize>) -> &[f32] {
        let row = if self.source.is_empty() { &*self.target[index] } else { self.source[index] };
        &row[columns.clone()]
    }
}

/// Two coefficients, or one of no second weight. Everything is loaded before anything is stored.
#[multiversion(targets = "simd")]
fn by_two(coefficients: &Coefficients, rows: &mut Rows<'_>, columns: Columns<usize>, room: &mut [f32], clip: MinMax) {
    let width = columns.len();
    for (k, row) in room.chunks_exact_mut(width).enumerate() {
        row.copy_from_slice(rows.input(k.saturating_sub(PAD).min(coefficients.n_in - 1), &columns));
    }
    for ((start, w), out) in coefficients.starts.iter().zip(&coefficients.weights).zip(&mut rows.target) {
        let (out, taken) = (&mut out[columns.clone()], &room[start * width..]);
        if coefficients.order == Order::Nearest {
            out.copy_from_slice(&taken[..width]);
            continue;
        }
        let (a, b) = taken.split_at(width);
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = clip.clip(a * w[0] + b * w[1]);
        }
    }
}

/// The spline: a causal sweep over the input, an anticausal one back, and behind it the output, last row first.
#[multiversion(targets = "simd")]
fn cubic(coefficients: &Coefficients, rows: &mut Rows<'_>, columns: Columns<usize>, room: &mut [f32], clip: MinMax) {
    let width = columns.len();
    causal(coefficients.n_in, rows, &columns, room);
    let mut next = coefficients.n_out;
    for k in (0..coefficients.n_in + 2 * PAD - 1).rev() {
        let (row, behind) = room[k * width..].split_at_mut(width);
        for (value, state) in row.iter_mut().zip(&*behind) {
            *value = POLE * (*state - *value);
        }
        let (b, behind) = behind.split_at(width);
        while next > 0 && coefficients.starts[next - 1] == k {
            next -= 1;
            let ((c, d), w) = (behind.split_at(width), coefficients.weights[next]);
            let taken = row.iter().zip(b).zip(c).zip(d);
            for (out, (((a, b), c), d)) in rows.target[next][columns.clone()].iter_mut().zip(taken) {
                *out = clip.clip((a * w[0] + b * w[1]) + (c * w[2] + d * w[3]));
            }
        }
    }
}

/// Fills `room` with the causal sums; its last row holds the spline's coefficients already, from which the anticausal
/// sweep starts.
#[inline(always)]
fn causal(n: usize, rows: &Rows<'_>, columns: &Columns<usize>, room: &mut [f32]) {
    let width = columns.len();
    for row in room.chunks_exact_mut(width).take(PAD) {
        row.iter_mut().zip(rows.input(0, columns)).for_each(|(value, head)| *value = rest(*head));
    }
    for k in PAD..n + 2 * PAD {
        let (before, row) = room[(k - 1) * width..].split_at_mut(width);
        let input = rows.input((k - PAD).min(n - 1), columns);
        for ((value, state), input) in row.iter_mut().zip(&*before).zip(input) {
            *value = input + POLE * *state;
        }
    }
    let last = &mut room[(n + 2 * PAD - 1) * width..];
    let tail = rows.input(n - 1, columns);
    last.iter_mut().zip(tail).for_each(|(state, tail)| *state = anticausal_start(*state, *tail));
}
