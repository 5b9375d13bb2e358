//! Where to read and with what weight, for each output index along one axis.
//!
//! Output voxel `i` of an axis resampled from `n_in` to `n_out` voxels lies at `(i + 1/2) n_in / n_out - 1/2` of the
//! input's grid: voxels are boxes, and both grids span the same extent (`grid_mode=True` of `scipy.ndimage.zoom`).

use crate::error::{KernelError, Result};
use crate::memory;
use crate::spline::b_spline;

/// Longest axis: far beyond any scan, and short enough that the coefficients of one axis never exhaust memory.
pub const LONGEST_AXIS: usize = 1 << 24;

/// How values between voxels are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The nearest voxel; half-way positions take the later one.
    Nearest,
    /// Linear interpolation, edges repeated.
    Linear,
    /// Cubic B-spline through the voxels, edges repeated without end.
    Cubic,
}

impl Order {
    /// The order that Python calls 0, 1 or 3.
    ///
    /// # Errors
    /// Any other number.
    pub fn from_number(order: usize) -> Result<Self> {
        match order {
            0 => Ok(Self::Nearest),
            1 => Ok(Self::Linear),
            3 => Ok(Self::Cubic),
            _ => Err(KernelError::value("order", "be 0 (nearest), 1 (linear) or 3 (cubic spline)", order)),
        }
    }
}

/// The exact position of one output voxel: `floor + numerator / denominator` voxels of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Voxel at or before the position; -1 where the position lies before the first voxel's centre.
    pub floor: isize,
    /// Of the rest, which is in [0, 1).
    pub numerator: u64,
}

/// Where output voxel `index` lies; the fraction's denominator is `2 n_out`.
pub const fn position(index: usize, n_in: usize, n_out: usize) -> Position {
    let denominator = 2 * n_out as i64;
    let twice = (2 * index as i64 + 1) * n_in as i64 - n_out as i64;
    Position { floor: twice.div_euclid(denominator) as isize, numerator: twice.rem_euclid(denominator) as u64 }
}

/// The voxel nearest to output voxel `index`; half-way positions take the later one.
pub const fn nearest(index: usize, n_in: usize, n_out: usize) -> usize {
    ((2 * index as u64 + 1) * n_in as u64 / (2 * n_out as u64)) as usize
}

/// Voxels that a lane is extended by at either end, so that no tap leaves it.
pub const PAD: usize = 2;

/// Where to read, and with what weights, for every output index along one axis; 1, 2 or 4 each.
#[derive(Debug, Clone)]
pub struct Coefficients {
    /// Voxels of the input.
    pub n_in: usize,
    /// Voxels of the output.
    pub n_out: usize,
    /// What they interpolate with.
    pub order: Order,
    /// First tap of each output index, counted in the lane extended by [`PAD`] at either end.
    pub starts: Vec<usize>,
    /// Weights of each output index: [1], [1 - t, t], or the four of the cubic B-spline times 6.
    pub weights: Vec<[f32; 4]>,
}

impl Coefficients {
    /// The coefficients that resample `n_in` voxels to `n_out`; an axis that keeps its length keeps every value.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn new(order: Order, n_in: usize, n_out: usize) -> Result<Self> {
        const PURPOSE: &str = "the coefficients of a resampling";
        let order = if n_in == n_out { Order::Nearest } else { order };
        let (mut starts, mut weights) = (memory::reserved(n_out, PURPOSE)?, memory::reserved(n_out, PURPOSE)?);
        for (start, weight) in (0..n_out).map(|i| tap(order, i, n_in, n_out)) {
            starts.push(start);
            weights.push(weight);
        }
        Ok(Self { n_in, n_out, order, starts, weights })
    }
}

fn tap(order: Order, index: usize, n_in: usize, n_out: usize) -> (usize, [f32; 4]) {
    let Position { floor, numerator } = position(index, n_in, n_out);
    let t = numerator as f64 / (2 * n_out) as f64;
    let at = |shift: isize| (floor + shift + PAD as isize) as usize;
    match order {
        Order::Nearest => (nearest(index, n_in, n_out) + PAD, [1.0, 0.0, 0.0, 0.0]),
        Order::Linear => (at(0), [(1.0 - t) as f32, t as f32, 0.0, 0.0]),
        Order::Cubic => (at(-1), b_spline(t).map(|w| w as f32)), // the prefilter's gain of 6 is left out in return
    }
}

/// Refuses axes of no voxels and axes longer than [`LONGEST_AXIS`].
///
/// # Errors
/// Names the argument, the rule and the shape.
pub fn check_axes(name: &'static str, shape: &[usize]) -> Result<()> {
    if shape.iter().all(|n| (1..=LONGEST_AXIS).contains(n)) {
        return Ok(());
    }
    Err(KernelError::shape(name, format!("have between 1 and {LONGEST_AXIS} voxels along every axis"), shape))
}
