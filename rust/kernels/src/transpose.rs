//! Rows laid side by side, and back.

use wide::f32x4;

use crate::separable::{LANES, Row};

/// Values of a square that is transposed in registers.
const TILE: usize = 4;

/// Columns of `wide` that are filled together: they stay in the innermost cache.
const TOGETHER: usize = 16 * TILE;

/// Puts position x of up to [`LANES`] rows of one length into `wide[x]`.
pub fn side_by_side(rows: &[&[f32]], wide: &mut [Row]) {
    let width = wide.len();
    let tiled = if rows.len() == LANES { width / TILE * TILE } else { 0 };
    for (first, columns) in (0..tiled).step_by(TOGETHER).zip(wide[..tiled].chunks_mut(TOGETHER)) {
        for (lane, rows) in (0..LANES).step_by(TILE).zip(rows.as_chunks::<TILE>().0) {
            turn(rows.map(|row| &row[first..first + columns.len()]), columns, lane);
        }
    }
    for (lane, values) in rows.iter().enumerate() {
        for (column, value) in wide[tiled..].iter_mut().zip(&values[tiled..]) {
            column[lane] = *value;
        }
    }
}

/// Puts four rows into the lanes of `columns` from `lane` on.
#[inline(always)]
fn turn(rows: [&[f32]; TILE], columns: &mut [Row], lane: usize) {
    let [a, b, c, d] = rows.map(|row| row.as_chunks::<TILE>().0);
    let tiles = a.iter().zip(b).zip(c).zip(d);
    for (columns, (((a, b), c), d)) in columns.as_chunks_mut::<TILE>().0.iter_mut().zip(tiles) {
        // Each by name: an iterator over the four would pass them through memory in halves, at many cycles each.
        let [a, b, c, d] = f32x4::transpose([f32x4::new(*a), f32x4::new(*b), f32x4::new(*c), f32x4::new(*d)]);
        columns[0][lane..][..TILE].copy_from_slice(a.as_array());
        columns[1][lane..][..TILE].copy_from_slice(b.as_array());
        columns[2][lane..][..TILE].copy_from_slice(c.as_array());
        columns[3][lane..][..TILE].copy_from_slice(d.as_array());
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
