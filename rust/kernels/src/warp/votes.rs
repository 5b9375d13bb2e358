//! Label maps at places: every label's indicator interpolated linearly, the greatest weight wins.
//!
//! Only the labels of the eight voxels around a place have any weight, whatever their number. Ties go to the nearest
//! voxel's label if it is one of the tied, else to the smallest, as in batchgenerators' `seg_tiebreak="nearest"`.

use multiversion::multiversion;

use super::Label;
use super::places::{Grid, OUTSIDE, Places};

/// Labels of a row.
#[multiversion(targets = "simd")]
pub fn vote_row<L: Label>(grid: &Grid, places: &Places, labels: &[L], border: L, out: &mut [L]) {
    let [z, y, x] = places.fractions(out.len());
    for (i, (&offset, winner)) in places.offset.iter().zip(out).enumerate() {
        *winner = border;
        if offset == OUTSIDE {
            continue;
        }
        let around = corners(grid, labels, offset as usize);
        *winner = around[0];
        if around.iter().fold(0, |differing, &label| differing | (label.key() ^ around[0].key())) != 0 {
            let fractions = [z[i], y[i], x[i]];
            *winner = vote(&around, &weights(fractions), nearest_corner(fractions));
        }
    }
}

/// Half-way positions take the later voxel.
#[inline(always)]
fn nearest_corner([z, y, x]: [f32; 3]) -> usize {
    4 * usize::from(z >= 0.5) + 2 * usize::from(y >= 0.5) + usize::from(x >= 0.5)
}

/// The labels around a place; each of a plane's twice.
#[inline(always)]
fn corners<L: Label>(grid: &Grid, labels: &[L], at: usize) -> [L; 8] {
    let [z, y, x] = grid.hops;
    [0, x, y, y + x, z, z + x, z + y, z + y + x].map(|hop| labels[at + hop])
}

#[inline(always)]
fn weights([tz, ty, tx]: [f32; 3]) -> [f32; 8] {
    let (sz, sy, sx) = (1.0 - tz, 1.0 - ty, 1.0 - tx);
    let (ss, st, ts, tt) = (sy * sx, sy * tx, ty * sx, ty * tx);
    [sz * ss, sz * st, sz * ts, sz * tt, tz * ss, tz * st, tz * ts, tz * tt]
}

#[inline(always)]
fn vote<L: Label>(around: &[L; 8], weights: &[f32; 8], nearest: usize) -> L {
    let keys = around.map(L::key);
    let mut totals = [0.0; 8];
    for (key, &weight) in keys.iter().zip(weights) {
        for (total, candidate) in totals.iter_mut().zip(&keys) {
            *total += if candidate == key { weight } else { 0.0 };
        }
    }
    let higher = |a: f32, b: f32| if a > b { a } else { b };
    let [a, b, c, d, e, f, g, h] = totals;
    let best = higher(higher(higher(a, b), higher(c, d)), higher(higher(e, f), higher(g, h)));
    if totals[nearest] == best { around[nearest] } else { smallest_of_best(around, &totals, best) }
}

#[inline(always)]
fn smallest_of_best<L: Label>(around: &[L; 8], totals: &[f32; 8], best: f32) -> L {
    let mut smallest = None;
    for (&label, &total) in around.iter().zip(totals) {
        if total == best && smallest.is_none_or(|smallest| label < smallest) {
            smallest = Some(label);
        }
    }
    smallest.unwrap_or(around[0])
}
