//! A Gaussian along each axis, in place.
//!
//! A weighted mean is the middle value and weighted differences from it: so a constant image stays exactly constant. An
//! infinity becomes NaN where SciPy keeps it, within the taps' reach.

use multiversion::multiversion;

use crate::error::Result;
use crate::memory;

/// SciPy's `gaussian_filter` cuts its kernel off here, in standard deviations.
const TRUNCATE: f64 = 4.0;

const PURPOSE: &str = "smoothing an image";

/// Smooths a channel of `shape` (z, y, x); nothing is done along an axis of a single voxel.
///
/// # Errors
/// The system refuses the memory.
pub fn smooth(channel: &mut [f32], [planes, rows, width]: [usize; 3], sigma: f64) -> Result<()> {
    let weights = side(sigma)?;
    if weights.is_empty() {
        return Ok(());
    }
    let most = (width * planes.max(rows)).max(width + 2 * weights.len());
    let mut room = memory::vector(most, 0.0, PURPOSE)?;
    if planes > 1 {
        for y in 0..rows {
            across(channel, [y * width, rows * width], [planes, width], &weights, &mut room);
        }
    }
    for plane in channel.chunks_exact_mut(rows * width) {
        if rows > 1 {
            across(plane, [0, width], [rows, width], &weights, &mut room);
        }
        if width > 1 {
            along(plane, width, &weights, &mut room);
        }
    }
    Ok(())
}

/// The weights beside the middle one, nearest first; those of the other side are the same.
fn side(sigma: f64) -> Result<Vec<f32>> {
    let radius = (TRUNCATE * sigma + 0.5) as i32;
    let bell = |distance: i32| (-0.5 * f64::from(distance * distance) / (sigma * sigma)).exp();
    let total = 1.0 + 2.0 * (1..=radius).map(bell).sum::<f64>();
    memory::gathered((1..=radius).map(|distance| (bell(distance) / total) as f32), radius as usize, PURPOSE)
}

/// The index that `index` is mirrored to; the outermost voxels are repeated (d c b a | a b c d | d c b a).
fn mirrored(index: i64, length: usize) -> usize {
    let length = length as i64;
    let index = index.rem_euclid(2 * length);
    index.min(2 * length - 1 - index) as usize
}

/// Smooths across `count` rows of `width`, which begin at `first` and lie `hop` apart.
#[multiversion(targets = "simd")]
fn across(voxels: &mut [f32], [first, hop]: [usize; 2], [count, width]: [usize; 2], weights: &[f32], room: &mut [f32]) {
    let starts = (first..).step_by(hop).take(count);
    for (start, copy) in starts.clone().zip(room.chunks_exact_mut(width)) {
        copy.copy_from_slice(&voxels[start..start + width]);
    }
    let row = |index: i64| &room[mirrored(index, count) * width..][..width];
    for (index, start) in (0..).zip(starts) {
        let (out, middle) = (&mut voxels[start..start + width], row(index));
        for (distance, &weight) in (1..).zip(weights) {
            add_pair(out, middle, row(index - distance), row(index + distance), weight);
        }
    }
}

/// Smooths every row of `width`.
#[multiversion(targets = "simd")]
fn along(plane: &mut [f32], width: usize, weights: &[f32], room: &mut [f32]) {
    let radius = weights.len();
    let room = &mut room[..width + 2 * radius];
    for row in plane.chunks_exact_mut(width) {
        room[radius..radius + width].copy_from_slice(row);
        for outside in 0..radius {
            room[outside] = row[mirrored(outside as i64 - radius as i64, width)];
            room[radius + width + outside] = row[mirrored((width + outside) as i64, width)];
        }
        let part = |first: usize| &room[first..][..width];
        for (distance, &weight) in (1..).zip(weights) {
            add_pair(row, part(radius), part(radius - distance), part(radius + distance), weight);
        }
    }
}

#[inline(always)]
fn add_pair(out: &mut [f32], middle: &[f32], before: &[f32], after: &[f32], weight: f32) {
    for (((out, middle), before), after) in out.iter_mut().zip(middle).zip(before).zip(after) {
        *out += weight * ((before - middle) + (after - middle));
    }
}
