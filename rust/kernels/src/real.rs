//! The number types that logits, probabilities and labels come in.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// A number that logits or probabilities are stored as; computed with in float32.
pub trait Real: Copy + Default + Send + Sync {
    /// `row` in float32; where it is of another type, in `room`.
    fn single<'a>(row: &'a [Self], room: &'a mut Vec<f32>) -> &'a [f32];
    /// Writes float32 `values` to `row`, rounded to nearest.
    fn store(values: &[f32], row: &mut [Self]);
}

impl Real for f32 {
    fn single<'a>(row: &'a [Self], _: &'a mut Vec<f32>) -> &'a [f32] {
        row
    }

    fn store(values: &[f32], row: &mut [Self]) {
        row.copy_from_slice(values);
    }
}

impl Real for f16 {
    fn single<'a>(row: &'a [Self], room: &'a mut Vec<f32>) -> &'a [f32] {
        room.resize(row.len(), 0.0);
        row.convert_to_f32_slice(room);
        room
    }

    fn store(values: &[f32], row: &mut [Self]) {
        row.convert_from_f32_slice(values);
    }
}

/// An unsigned integer that holds labels.
pub trait Label: Copy + Default + Send + Sync {
    /// From an index that fits.
    fn from_index(index: u32) -> Self;
}

impl Label for u8 {
    fn from_index(index: u32) -> Self {
        index as Self
    }
}

impl Label for u16 {
    fn from_index(index: u32) -> Self {
        index as Self
    }
}
