//! The cubic B-spline: its weights, and the filter from voxels to the coefficients of the spline that passes through them.
//!
//! ```text
//! causal      c+[k] = s[k] + z c+[k-1]          s repeats s[0] before the lane and s[n-1] behind it
//! anticausal  c-[k] = z (c-[k+1] - c+[k])       6 c- are the coefficients
//! ```
//! Reference: M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 16(6),
//! 1999. `scipy.ndimage.zoom(mode="nearest")` repeats the edges 12 times and mirrors there; here they are repeated
//! without end. The two differ by z^24 = 2e-14.

use std::ops::{Add, Mul, Sub};

/// The cubic B-spline's pole, sqrt(3) - 2.
pub const POLE: f32 = POLE_EXACT as f32;

const POLE_EXACT: f64 = -0.267_949_192_431_122_7;

/// Six times the cubic B-spline at distances 1 + t, t, 1 - t, 2 - t.
#[inline(always)]
pub fn b_spline<T>(t: T) -> [T; 4]
where
    T: Copy + From<u8> + Add<Output = T> + Sub<Output = T> + Mul<Output = T>,
{
    let [three, four, six] = [3, 4, 6].map(T::from);
    let s = T::from(1) - t;
    [s * s * s, four + t * t * (three * t - six), four + s * s * (three * s - six), t * t * t]
}

/// Where the causal recursion rests before a lane that begins with `head`: `s / (1 - z)`.
#[inline(always)]
pub fn rest(head: f32) -> f32 {
    const GAIN: f32 = (1.0 / (1.0 - POLE_EXACT)) as f32;
    head * GAIN
}

/// Where the anticausal recursion starts: the coefficient at the place whose causal value is `causal` and behind which
/// the lane repeats `tail` without end.
///
/// There `c+ = r + d z^j` with `r = tail / (1 - z)` and `d = causal - r`, and the anticausal sum over j is closed.
#[inline(always)]
pub fn anticausal_start(causal: f32, tail: f32) -> f32 {
    const SETTLED: f32 = (-POLE_EXACT / (1.0 - POLE_EXACT)) as f32;
    const DECAYING: f32 = (-POLE_EXACT / (1.0 - POLE_EXACT * POLE_EXACT)) as f32;
    let settled = rest(tail);
    settled * SETTLED + (causal - settled) * DECAYING
}
