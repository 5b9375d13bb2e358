//! Rows that lie one after the other, laid side by side, and back.

use wide::f32x4;

use crate::separable::{LANES, Row};

/// Values of a square that is transposed in registers.
const TILE: usize = 4;

/// Puts position x of up to [`LANES`] rows, which lie one after the other in `block`, into `wide[x]`.
pub fn side_by_side(block: &[f32], wide: &mut [Row]) {
    let width = wide.len();
    let tiled = if block.len() == LANES * width { width / TILE * TILE } else { 0 };
    for (x, columns) in wide[..tiled].as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
        for lane in (0..LANES).step_by(TILE) {
            let tile = std::array::from_fn(|i| tile_row(&block[(lane + i) * width..], TILE * x));
            for (column, values) in columns.iter_mut().zip(f32x4::transpose(tile)) {
                column[lane..][..TILE].copy_from_slice(values.as_array());
            }
        }
    }
    for (lane, values) in block.chunks_exact(width).enumerate() {
        for (column, value) in wide[tiled..].iter_mut().zip(&values[tiled..]) {
            column[lane] = *value;
        }
    }
}

/// The way back: writes up to [`LANES`] rows one after the other to `block`.
pub fn one_by_one(wide: &[Row], block: &mut [f32]) {
    let width = wide.len();
    let tiled = if block.len() == LANES * width { width / TILE * TILE } else { 0 };
    for (x, columns) in wide[..tiled].as_chunks::<TILE>().0.iter().enumerate() {
        for lane in (0..LANES).step_by(TILE) {
            let tile = std::array::from_fn(|i| tile_row(&columns[i], lane));
            for (i, values) in f32x4::transpose(tile).iter().enumerate() {
                block[(lane + i) * width + TILE * x..][..TILE].copy_from_slice(values.as_array());
            }
        }
    }
    for (lane, values) in block.chunks_exact_mut(width).enumerate() {
        for (column, value) in wide[tiled..].iter().zip(&mut values[tiled..]) {
            *value = column[lane];
        }
    }
}

#[inline(always)]
fn tile_row(row: &[f32], x: usize) -> f32x4 {
    f32x4::new(row[x..].first_chunk().copied().unwrap_or([0.0; TILE]))
}
