//! Random numbers that are a function of a seed and a place alone, whoever asks first.

use multiversion::multiversion;

use crate::elementary::{cos_sin, log2};

/// Numbers of one key that are drawn side by side.
const LANES: usize = 16;

/// What tells the numbers of one row, (a, b, c), from those of all others.
#[derive(Debug, Clone, Copy)]
pub struct Key(u32, u32);

impl Key {
    /// The key of a row under a seed.
    pub fn new(seed: u64, row: [usize; 3]) -> Self {
        let place = row.into_iter().fold(0, |place: u64, index| (place << 28) ^ index as u64);
        let key = scrambled(seed ^ scrambled(place));
        Self(key as u32, (key >> 32) as u32)
    }

    /// 24 random bits of place `x`.
    #[inline(always)]
    const fn bits(self, x: u32) -> i32 {
        (hashed(x.wrapping_mul(0x9e37_79b9) ^ self.0).wrapping_add(self.1) >> 8) as i32
    }
}

/// Uniform noise in [-1, 1) of the row (a, b, c).
#[multiversion(targets = "simd")]
pub fn noise_row(seed: u64, row: [usize; 3], out: &mut [f32]) {
    let key = Key::new(seed, row);
    for (x, value) in (0_u32..).zip(out) {
        *value = key.bits(x) as f32 * (1.0 / (1 << 23) as f32) - 1.0;
    }
}

/// Adds Gaussian noise of a row, `std` times numbers between -5.9 and 5.9 (Box and Muller 1958).
#[multiversion(targets = "simd")]
pub fn add_gaussian(key: Key, std: f32, row: &mut [f32]) {
    for (first, part) in (0..).step_by(LANES).zip(row.chunks_mut(2 * LANES)) {
        let (mut near, mut far) = ([0.0; LANES], [0.0; LANES]);
        for (lane, (near, far)) in (first..).zip(near.iter_mut().zip(&mut far)) {
            (*near, *far) = gaussian_pair(key, lane);
        }
        for (value, noise) in part.iter_mut().zip(near.iter().chain(&far)) {
            *value += std * noise;
        }
    }
}

/// Two normal numbers, of place `x`.
#[inline(always)]
pub(crate) fn gaussian_pair(key: Key, x: u32) -> (f32, f32) {
    let uniform = |bits: i32| (bits as f32 + 0.5) * (1.0 / (1 << 24) as f32);
    let radius = (-2.0 * std::f32::consts::LN_2 * log2(uniform(key.bits(2 * x)))).max(0.0).sqrt();
    let (cos, sin) = cos_sin(uniform(key.bits(2 * x + 1)));
    (radius * cos, radius * sin)
}

/// SplitMix64's step (Steele, Lea, Flood 2014).
const fn scrambled(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A permutation of 32-bit words with low bias (Wellons' `lowbias32`).
#[inline(always)]
const fn hashed(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
