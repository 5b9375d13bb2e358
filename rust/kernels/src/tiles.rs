//! Where sliding windows start, and how much each voxel of a window counts.
//!
//! Reference: nnU-Net's `compute_steps_for_sliding_window` and `compute_gaussian` (release 2.8.1, float32).

use ndarray::{ArrayD, Dimension, indices};

use crate::error::{KernelError, Result};
use crate::gaussian::Gaussian;
use crate::memory;

/// More windows than any image needs; beyond it a size is a mistake.
const MOST_WINDOWS: f64 = (1 << 22) as f64;

/// Most axes, those that `rust-numpy` can see in an array.
const MOST_AXES: usize = 32;

const PURPOSE: &str = "the starts of windows";

/// Starts of the windows that cover `size` in steps of at most `step · tile`, evenly spread; the last axis runs
/// fastest.
///
/// Each axis gets `ceil((size - tile) / (tile · step)) + 1` starts, rounded half to even as `numpy.round` does.
///
/// # Errors
/// `size` and `tile` differ in dimensions or have none or more than 32, a tile is empty or larger than the size, `step` is
/// outside (0, 1], or there would be more than 2^22 windows; memory refused.
pub fn window_starts(size: &[usize], tile: &[usize], step: f64) -> Result<Vec<Vec<usize>>> {
    let axes = starts_by_axis(size, tile, step)?;
    let count = axes.iter().map(Vec::len).product();
    let start = |number: usize| {
        let (mut rest, mut span) = (number, count);
        let place = axes.iter().map(|starts| {
            span /= starts.len();
            let at = starts[rest / span];
            rest %= span;
            at
        });
        memory::collected(place, PURPOSE)
    };
    memory::collected_results((0..count).map(start), PURPOSE)
}

/// The starts along each axis, of which [`window_starts`] makes every combination.
///
/// # Errors
/// As [`window_starts`].
pub fn starts_by_axis(size: &[usize], tile: &[usize], step: f64) -> Result<Vec<Vec<usize>>> {
    check_tile(tile)?;
    if size.len() != tile.len() || size.iter().zip(tile).any(|(size, tile)| size < tile) {
        let rule = format!("be at least the tile {tile:?} along every axis (pad the volume first)");
        return Err(KernelError::shape("size", rule, size));
    }
    if !(step > 0.0 && step <= 1.0) {
        return Err(KernelError::value("step", "be above 0 and at most 1, a fraction of the tile", step));
    }
    let counts: Vec<f64> = size.iter().zip(tile).map(|(&size, &tile)| window_count(size, tile, step)).collect();
    let total: f64 = counts.iter().product();
    if total > MOST_WINDOWS {
        let rule =
            format!("need at most {MOST_WINDOWS} windows; {total} of tile {tile:?} at step {step:?} are too many");
        return Err(KernelError::shape("size", rule, size));
    }
    (0..size.len()).map(|axis| axis_starts(size[axis] - tile[axis], counts[axis])).collect()
}

fn window_count(size: usize, tile: usize, step: f64) -> f64 {
    ((size - tile) as f64 / (tile as f64 * step)).ceil() + 1.0
}

fn axis_starts(last: usize, count: f64) -> Result<Vec<usize>> {
    let stride = last as f64 / (count - 1.0).max(1.0);
    // Beyond 2^53 a product may round to a number behind the last start.
    let start = |i: usize| ((stride * i as f64).round_ties_even() as usize).min(last);
    memory::collected((0..count as usize).map(start), PURPOSE)
}

/// The weight of each voxel of a window: a Gaussian around `tile / 2` with a standard deviation of an eighth of the
/// tile, at most 1.
///
/// SciPy cuts the Gaussian off at four standard deviations, half a tile, which just reaches every voxel: no weight is
/// zero, and nothing has to be replaced as in half precision.
///
/// # Errors
/// `tile` has no axes or more than 32, an empty one, or more voxels than memory holds.
#[expect(clippy::missing_panics_doc, reason = "a tile that was checked has an axis")]
pub fn gaussian_importance(tile: &[usize]) -> Result<ArrayD<f32>> {
    check_tile(tile)?;
    const PURPOSE: &str = "the importance of a tile";
    let mut weights = memory::filled(tile, 0.0_f32, PURPOSE)?;
    let profiles = tile.iter().map(|&length| axis_profile(length, PURPOSE)).collect::<Result<Vec<_>>>()?;
    // The greatest product is that of the greatest factors, rounding included.
    let highest = profiles.iter().fold(1.0, |highest, profile| highest * profile.iter().copied().fold(0.0, f64::max));
    let (last, others) = profiles.split_last().expect("a tile has an axis");
    for (index, mut row) in indices(&tile[..others.len()]).into_iter().zip(weights.rows_mut()) {
        let before = others.iter().zip(index.slice()).fold(1.0, |product, (profile, &at)| product * profile[at]);
        row.iter_mut().zip(last).for_each(|(weight, along)| *weight = (before * along / highest) as f32);
    }
    Ok(weights)
}

/// One line through the filtered unit impulse.
fn axis_profile(length: usize, purpose: &'static str) -> Result<Vec<f64>> {
    let mut profile = memory::reserved(length, purpose)?;
    let bell = Gaussian::new(length as f64 / 8.0);
    let total = bell.total();
    profile.extend((0..length).map(|i| bell.at(i as f64 - (length / 2) as f64) / total));
    Ok(profile)
}

pub(crate) fn check_tile(tile: &[usize]) -> Result<()> {
    if tile.is_empty() || tile.contains(&0) {
        return Err(KernelError::shape("tile", "have at least one axis and at least 1 voxel along each", tile));
    }
    if tile.len() > MOST_AXES {
        return Err(KernelError::shape("tile", format!("have at most {MOST_AXES} axes"), tile));
    }
    Ok(())
}
