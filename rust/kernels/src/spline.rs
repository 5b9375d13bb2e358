//! The cubic B-spline prefilter along lanes: from voxels to the coefficients of the spline that passes through them.
//!
//! Reference: M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 16(6),
//! 1999; equal to `scipy.ndimage.spline_filter1d` on a lane whose edges are repeated (checked against SciPy 1.15: its
//! `zoom(mode="nearest")` repeats them 12 times, here they are repeated without end; the two differ by |z|^24 = 2e-14).

use crate::taps::PAD;

/// The cubic B-spline's pole, sqrt(3) - 2.
const POLE: f64 = -0.267_949_192_431_122_7;

/// Turns `lane[PAD..PAD + n]`, L lanes side by side, into spline coefficients over 6, and the padding with them.
///
/// ```text
/// causal      c+[k] = s[k] + z c+[k-1]          s repeats s[0] before and s[n-1] behind
/// anticausal  c-[k] = z (c-[k+1] - c+[k])
/// ```
/// A NaN or infinite value reaches every coefficient of its lane, for the recursion has no end.
#[inline(always)]
pub fn prefilter<const L: usize>(lane: &mut [[f32; L]]) {
    let z = POLE as f32;
    let (first, last) = (PAD, lane.len() - PAD - 1);
    let (head, tail) = (lane[first], lane[last]);
    // Before the lane the causal recursion rests at s[0] / (1 - z).
    let rest = (1.0 / (1.0 - POLE)) as f32;
    let mut state = head.map(|s| s * rest);
    lane[..first].fill(state);
    for values in &mut lane[first..=last] {
        for (value, state) in values.iter_mut().zip(&mut state) {
            *state = *value + z * *state;
            *value = *state;
        }
    }
    for values in &mut lane[last + 1..] {
        for ((value, state), s) in values.iter_mut().zip(&mut state).zip(&tail) {
            *state = *s + z * *state;
            *value = *state;
        }
    }
    // Behind the lane c+ = r + d z^j with r = s / (1 - z); the anticausal sum over it is closed.
    let (settled, decaying) = ((-POLE / (1.0 - POLE)) as f32, (-POLE / (1.0 - POLE * POLE)) as f32);
    for ((value, state), s) in lane.last_mut().into_iter().flatten().zip(&mut state).zip(&tail) {
        let r = s * rest;
        *state = r * settled + (*state - r) * decaying;
        *value = *state;
    }
    let end = lane.len() - 1;
    for values in lane[..end].iter_mut().rev() {
        for (value, state) in values.iter_mut().zip(&mut state) {
            *state = z * (*state - *value);
            *value = *state;
        }
    }
}
