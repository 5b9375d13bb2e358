//! Label maps at coordinates: every label's indicator interpolated linearly, the greatest weight wins.
//!
//! Only the labels of the eight voxels around a place have any weight, whatever their number. Most coordinates lie among
//! voxels of one label; the others are collected and voted on side by side. Ties go to the nearest voxel's label if it
//! is one of the tied, else to the smallest, as in batchgenerators' `seg_tiebreak="nearest"`.

use multiversion::multiversion;
use wide::bytemuck::cast;
use wide::{f32x4, u32x4};

use super::coordinates::{Coordinates, Grid, OUTSIDE};
use crate::label::Keyed;

/// CoordinateBuffers that are collected before they are voted on.
const MOST: usize = 128;

/// Those of them whose winners are found at once.
const TOGETHER: usize = 4;

/// CoordinateBuffers between different labels.
pub struct Ballot {
    count: usize,
    indices: [usize; MOST], // in the block
    keys: [[u32; MOST]; 8], // of the labels around
}

/// Labels at coordinates.
#[multiversion(targets = "simd")]
pub fn vote<L: Keyed>(
    grid: &Grid,
    coordinates: Coordinates<'_>,
    ballot: &mut Ballot,
    labels: &[L],
    border: L,
    out: &mut [L],
) {
    let out = &mut out[..coordinates.offset.len()];
    for (index, &offset) in coordinates.offset.iter().enumerate() {
        if offset == OUTSIDE {
            out[index] = border;
            continue;
        }
        let around = corners(grid, labels, offset as usize);
        out[index] = L::from_key(around[0]);
        if around.iter().fold(0, |differing, key| differing | (key ^ around[0])) != 0 {
            ballot.enter(index, around);
            if ballot.count == MOST {
                ballot.vote(coordinates, out);
            }
        }
    }
    ballot.vote(coordinates, out);
}

/// Keys of the labels around a place; each of a plane's twice.
#[inline(always)]
fn corners<L: Keyed>(grid: &Grid, labels: &[L], at: usize) -> [u32; 8] {
    let (z, y, x) = (grid.hop(0), grid.hop(1), grid.hop(2));
    // The farthest first: where that is in memory, all others are.
    let key = |hop: usize| labels[at + hop].key();
    let (h, g, f, e) = (key(z + y + x), key(z + y), key(z + x), key(z));
    let (d, c, b, a) = (key(y + x), key(y), key(x), key(0));
    [a, b, c, d, e, f, g, h]
}

impl Default for Ballot {
    fn default() -> Self {
        Self { count: 0, indices: [0; MOST], keys: [[0; MOST]; 8] }
    }
}

impl Ballot {
    #[inline(always)]
    fn enter(&mut self, index: usize, around: [u32; 8]) {
        let slot = self.count % MOST;
        self.indices[slot] = index;
        self.keys.iter_mut().zip(around).for_each(|(keys, key)| keys[slot] = key);
        self.count += 1;
    }

    /// Writes the winners and begins anew.
    #[inline(always)]
    fn vote<L: Keyed>(&mut self, coordinates: Coordinates<'_>, out: &mut [L]) {
        let count = std::mem::take(&mut self.count).min(MOST);
        let [z, y, x] = coordinates.fraction;
        for first in (0..count).step_by(TOGETHER) {
            let indices = &self.indices[first..count.min(first + TOGETHER)];
            let mut fractions = [[0.0; TOGETHER]; 3];
            for (lane, &index) in indices.iter().enumerate() {
                (fractions[0][lane], fractions[1][lane], fractions[2][lane]) = (z[index], y[index], x[index]);
            }
            let mut keys = [u32x4::ZERO; 8];
            for (side, keys) in keys.iter_mut().zip(&self.keys) {
                *side = u32x4::new(keys[first..].first_chunk().copied().unwrap_or_default());
            }
            let totals = totals(&keys, &weights(&fractions));
            let (winners, best, rivals) = elect(&keys, &totals);
            for (winner, &index) in winners.to_array().iter().zip(indices) {
                out[index] = L::from_key(*winner);
            }
            if rivals.any() {
                for (lane, &index) in indices.iter().enumerate() {
                    let near = fractions.map(|fractions| fractions[lane] >= 0.5);
                    out[index] = settle(lane, &keys, &totals, best, near);
                }
            }
        }
    }
}

/// Of the voxels around.
#[inline(always)]
fn weights(fractions: &[[f32; TOGETHER]; 3]) -> [f32x4; 8] {
    let after = (f32x4::new(fractions[0]), f32x4::new(fractions[1]), f32x4::new(fractions[2]));
    let before = (f32x4::ONE - after.0, f32x4::ONE - after.1, f32x4::ONE - after.2);
    let (p, q, r, s) = (before.1 * before.2, before.1 * after.2, after.1 * before.2, after.1 * after.2);
    let (z, above) = (before.0, after.0);
    [z * p, z * q, z * r, z * s, above * p, above * q, above * r, above * s]
}

/// Each corner's label gets the weights of all corners of its like, added up in the same order.
#[inline(always)]
fn totals(keys: &[u32x4; 8], weights: &[f32x4; 8]) -> [f32x4; 8] {
    let mut totals = [f32x4::ZERO; 8];
    for (total, candidate) in totals.iter_mut().zip(keys) {
        for (key, weight) in keys.iter().zip(weights) {
            *total += cast::<u32x4, f32x4>(key.simd_eq(*candidate)) & *weight;
        }
    }
    totals
}

/// The first winner of each place, its total, and bits where it has rivals.
#[inline(always)]
fn elect(keys: &[u32x4; 8], totals: &[f32x4; 8]) -> (u32x4, f32x4, u32x4) {
    let (mut winners, mut best, mut rivals) = (keys[0], totals[0], u32x4::ZERO);
    for (key, total) in keys[1..].iter().zip(&totals[1..]) {
        winners = cast::<f32x4, u32x4>(total.simd_gt(best)).bitselect(*key, winners);
        best = best.fast_max(*total);
    }
    for (key, total) in keys.iter().zip(totals) {
        rivals |= cast::<f32x4, u32x4>(total.simd_eq(best)) & !key.simd_eq(winners);
    }
    (winners, best, rivals)
}

/// The winner of one place, ties included; `near` says whether it is nearest to the later voxel, z, y, x (half-way it is).
#[cold]
fn settle<L: Keyed>(lane: usize, keys: &[u32x4; 8], totals: &[f32x4; 8], best: f32x4, near: [bool; 3]) -> L {
    let label = |key: &u32x4| L::from_key(key.to_array()[lane]);
    let nearest = label(&keys[near.iter().fold(0, |corner, &later| 2 * corner + usize::from(later))]);
    let leads = |total: &f32x4| total.to_array()[lane] == best.to_array()[lane];
    let mut tied = keys.iter().zip(totals).filter(|(_, total)| leads(total)).map(|(key, _)| label(key));
    let first = tied.next().unwrap_or(nearest);
    let (smallest, has_nearest) = tied.fold((first, first == nearest), |(smallest, found), label| {
        (if label < smallest { label } else { smallest }, found || label == nearest)
    });
    if has_nearest { nearest } else { smallest }
}
