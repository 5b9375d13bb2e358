//! Label maps at places: every label's indicator interpolated linearly, the greatest weight wins.
//!
//! Only the labels of the eight voxels around a place have any weight, whatever their number. Most places lie among
//! voxels of one label; the others are collected and voted on side by side. Ties go to the nearest voxel's label if it
//! is one of the tied, else to the smallest, as in batchgenerators' `seg_tiebreak="nearest"`.

use multiversion::multiversion;

use super::Label;
use super::places::{Grid, OUTSIDE, Places};

/// Places that are voted on together.
const MOST: usize = 128;

/// Those of them whose winners are found at once.
const TOGETHER: usize = 8;

/// Places between different labels, and how the vote stands.
pub struct Ballot {
    count: usize,
    indices: [usize; MOST],      // in the row
    keys: [[u32; MOST]; 8],      // of the labels around
    fractions: [[f32; MOST]; 3], // between the voxels around, z, y, x
    weights: [[f32; MOST]; 8],   // of the voxels around
    totals: [[f32; MOST]; 8],    // of their labels
    winners: [u32; MOST],
    best: [f32; MOST],
}

/// Labels of a row.
#[multiversion(targets = "simd")]
pub fn vote_row<L: Label>(grid: &Grid, places: &Places, ballot: &mut Ballot, labels: &[L], border: L, out: &mut [L]) {
    for (index, &offset) in places.offset.iter().enumerate() {
        if offset == OUTSIDE {
            out[index] = border;
            continue;
        }
        let around = corners(grid, labels, offset as usize);
        out[index] = L::from_key(around[0]);
        if around.iter().fold(0, |differing, key| differing | (key ^ around[0])) != 0 {
            ballot.enter(index, around);
        }
        if ballot.count == MOST {
            ballot.decide(places, out);
        }
    }
    ballot.decide(places, out);
}

/// Keys of the labels around a place; each of a plane's twice.
#[inline(always)]
fn corners<L: Label>(grid: &Grid, labels: &[L], at: usize) -> [u32; 8] {
    let [z, y, x] = grid.hops;
    [0, x, y, y + x, z, z + x, z + y, z + y + x].map(|hop| labels[at + hop].key())
}

impl Default for Ballot {
    fn default() -> Self {
        Self {
            count: 0,
            indices: [0; MOST],
            keys: [[0; MOST]; 8],
            fractions: [[0.0; MOST]; 3],
            weights: [[0.0; MOST]; 8],
            totals: [[0.0; MOST]; 8],
            winners: [0; MOST],
            best: [0.0; MOST],
        }
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
    fn decide<L: Label>(&mut self, places: &Places, out: &mut [L]) {
        let count = std::mem::take(&mut self.count).min(MOST);
        if count == 0 {
            return;
        }
        for (fractions, of) in self.fractions.iter_mut().zip(&places.fraction) {
            fractions.iter_mut().zip(&self.indices[..count]).for_each(|(fraction, &index)| *fraction = of[index]);
        }
        self.weigh(count);
        self.add_up(count);
        let tied = self.elect(count);
        for slot in 0..count {
            out[self.indices[slot]] = L::from_key(self.winners[slot]);
        }
        if tied {
            (0..count).for_each(|slot| out[self.indices[slot]] = self.settle(slot));
        }
    }

    #[inline(always)]
    fn weigh(&mut self, count: usize) {
        let [z, y, x] = &self.fractions;
        for (corner, weights) in self.weights.iter_mut().enumerate() {
            let side = |bit: usize, t: f32| if corner & bit == 0 { 1.0 - t } else { t };
            for (((weight, &z), &y), &x) in weights[..count].iter_mut().zip(z).zip(y).zip(x) {
                *weight = side(4, z) * (side(2, y) * side(1, x));
            }
        }
    }

    /// Gives each corner's label the weights of all corners of its like, added up in the same order.
    #[inline(always)]
    fn add_up(&mut self, count: usize) {
        for (totals, candidates) in self.totals.iter_mut().zip(&self.keys) {
            totals[..count].fill(0.0);
            for (keys, weights) in self.keys.iter().zip(&self.weights) {
                let pairs = totals[..count].iter_mut().zip(candidates).zip(keys.iter().zip(weights));
                for ((total, candidate), (key, weight)) in pairs {
                    *total += if key == candidate { *weight } else { 0.0 };
                }
            }
        }
    }

    /// Finds the first winner of each place, and whether any place has several. Eight places at a time are held in
    /// registers: a choice between a new value and the one in memory would become a masked store, which is slow.
    #[inline(always)]
    fn elect(&mut self, count: usize) -> bool {
        let mut tied = false;
        for first in (0..count).step_by(TOGETHER) {
            let keys: [[u32; TOGETHER]; 8] = std::array::from_fn(|corner| eight(&self.keys[corner], first));
            let totals: [[f32; TOGETHER]; 8] = std::array::from_fn(|corner| eight(&self.totals[corner], first));
            let (mut winners, mut best) = (keys[0], totals[0]);
            for (keys, totals) in keys[1..].iter().zip(&totals[1..]) {
                for lane in 0..TOGETHER {
                    winners[lane] = if totals[lane] > best[lane] { keys[lane] } else { winners[lane] };
                    best[lane] = best[lane].max(totals[lane]);
                }
            }
            let mut rivals = [0; TOGETHER];
            for (keys, totals) in keys.iter().zip(&totals) {
                for lane in 0..TOGETHER {
                    rivals[lane] |= if totals[lane] == best[lane] { keys[lane] ^ winners[lane] } else { 0 };
                }
            }
            self.winners[first..first + TOGETHER].copy_from_slice(&winners);
            self.best[first..first + TOGETHER].copy_from_slice(&best);
            tied |= rivals.iter().zip(first..count).any(|(rival, _)| *rival != 0);
        }
        tied
    }

    /// The winner of one place, ties included.
    #[cold]
    fn settle<L: Label>(&self, slot: usize) -> L {
        let nearest = nearest_corner([0, 1, 2].map(|axis| self.fractions[axis][slot]));
        let standing = self.keys.iter().zip(&self.totals).map(|(keys, totals)| (keys[slot], totals[slot]));
        let mut tied = standing.filter(|(_, total)| *total == self.best[slot]).map(|(key, _)| L::from_key(key));
        let nearest = L::from_key(self.keys[nearest][slot]);
        let first = tied.next().unwrap_or(nearest);
        let (smallest, has_nearest) = tied.fold((first, first == nearest), |(smallest, found), label| {
            (if label < smallest { label } else { smallest }, found || label == nearest)
        });
        if has_nearest { nearest } else { smallest }
    }
}

#[inline(always)]
fn eight<T: Copy + Default>(values: &[T; MOST], first: usize) -> [T; TOGETHER] {
    values[first..].first_chunk().copied().unwrap_or_default()
}

/// Half-way positions take the later voxel.
fn nearest_corner([z, y, x]: [f32; 3]) -> usize {
    4 * usize::from(z >= 0.5) + 2 * usize::from(y >= 0.5) + usize::from(x >= 0.5)
}
