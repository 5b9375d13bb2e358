//! A Gaussian along each axis, in place.
//!
//! A weighted mean is the middle value and weighted differences from it: so a constant image stays exactly constant. An
//! infinity becomes NaN where SciPy keeps it, within the taps' reach.

use multiversion::multiversion;

use crate::edges::reflect;
use crate::error::Result;
use crate::gaussian::Gaussian;
use crate::memory;

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
    let bell = Gaussian::new(sigma);
    let total = 1.0 + 2.0 * (1..=bell.radius).map(|distance| bell.at(distance as f64)).sum::<f64>();
    let weights = (1..=bell.radius).map(|distance| (bell.at(distance as f64) / total) as f32);
    memory::gathered(weights, bell.radius as usize, PURPOSE)
}

/// Smooths across `count` rows of `width`, which begin at `first` and lie `hop` apart.
#[multiversion(targets = "simd")]
fn across(voxels: &mut [f32], [first, hop]: [usize; 2], [count, width]: [usize; 2], weights: &[f32], room: &mut [f32]) {
    let starts = (first..).step_by(hop).take(count);
    for (start, copy) in starts.clone().zip(room.chunks_exact_mut(width)) {
        copy.copy_from_slice(&voxels[start..start + width]);
    }
    let row = |index: i64| &room[reflect(index, count) * width..][..width];
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
            room[outside] = row[reflect(outside as i64 - radius as i64, width)];
            room[radius + width + outside] = row[reflect((width + outside) as i64, width)];
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
