//! The number types that logits, probabilities and labels come in.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// A number that logits or probabilities are stored as; computed with in float32.
pub trait Float: Copy + Default + Send + Sync + 'static {
    /// Numbers of float32 that a row of `length` needs as room to be computed with; none where it is of that type.
    fn room(length: usize) -> usize;
    /// `row` in float32; where it is of another type, in `room`, which has as many numbers as [`Self::room`] says.
    fn single<'a>(row: &'a [Self], room: &'a mut [f32]) -> &'a [f32];
    /// Writes float32 `values` to `row`, rounded to nearest.
    fn store(values: &[f32], row: &mut [Self]);
    /// Has `work` change `row` in float32: in place, or in `room` and rounded to nearest.
    fn change(row: &mut [Self], room: &mut [f32], work: impl FnOnce(&mut [f32]));
    /// A window's weight, where weighted sums are of this type.
    fn weight(importance: f32) -> f32;
}

impl Float for f32 {
    fn room(_: usize) -> usize {
        0
    }

    fn single<'a>(row: &'a [Self], _: &'a mut [f32]) -> &'a [f32] {
        row
    }

    fn store(values: &[f32], row: &mut [Self]) {
        row.copy_from_slice(values);
    }

    fn change(row: &mut [Self], _: &mut [f32], work: impl FnOnce(&mut [f32])) {
        work(row);
    }

    fn weight(importance: f32) -> f32 {
        importance
    }
}

impl Float for f16 {
    fn room(length: usize) -> usize {
        length
    }

    fn single<'a>(row: &'a [Self], room: &'a mut [f32]) -> &'a [f32] {
        let room = &mut room[..row.len()];
        row.convert_to_f32_slice(room);
        room
    }

    fn store(values: &[f32], row: &mut [Self]) {
        row.convert_from_f32_slice(values);
    }

    fn change(row: &mut [Self], room: &mut [f32], work: impl FnOnce(&mut [f32])) {
        let room = &mut room[..row.len()];
        row.convert_to_f32_slice(room);
        work(room);
        row.convert_from_f32_slice(room);
    }

    /// A Gaussian's tails times a small value vanish in half precision: weights below a thousandth of the highest are
    /// raised to it, and all are scaled towards the middle of the type's range, which holds values of up to 500.
    fn weight(importance: f32) -> f32 {
        (16.0 * importance).max(1.0 / 64.0)
    }
}
