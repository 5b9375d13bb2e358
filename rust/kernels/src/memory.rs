//! Arrays whose memory may be refused: a request that is too large is an answer, not an abort.

use ndarray::{Array, ArrayView, CowArray, Dimension, IntoDimension};

use crate::error::{KernelError, Result};

/// An array of `shape` filled with `value`; `purpose` names it in the error.
///
/// # Errors
/// The size overflows, or the system refuses the memory.
pub fn filled<T: Clone, I: IntoDimension>(shape: I, value: T, purpose: &'static str) -> Result<Array<T, I::Dim>> {
    let shape = shape.into_dimension();
    let length = element_count(shape.slice(), size_of::<T>(), purpose)?;
    // Asked for first, because `vec!` aborts where memory is refused; taken by `vec!`, because the system's own zeros cost
    // nothing until they are touched, and then by the thread that works there.
    drop(reserved::<T>(length, purpose)?);
    Ok(Array::from_shape_vec(shape, vec![value; length]).expect("the length is the product of the shape"))
}

/// Whether the system would give memory for an array of `shape`, which somebody else then takes.
///
/// # Errors
/// The size overflows, or the system refuses the memory.
pub fn affordable<T>(shape: &[usize], purpose: &'static str) -> Result<()> {
    reserved::<T>(element_count(shape, size_of::<T>(), purpose)?, purpose).map(drop)
}

/// `view` in memory order: itself, or a copy.
///
/// # Errors
/// The system refuses the memory for the copy.
pub fn contiguous<'a, T: Copy, D: Dimension>(
    view: ArrayView<'a, T, D>,
    purpose: &'static str,
) -> Result<CowArray<'a, T, D>> {
    if view.is_standard_layout() {
        return Ok(view.into());
    }
    let mut values = reserved(view.len(), purpose)?;
    values.extend(view.iter().copied());
    Ok(Array::from_shape_vec(view.raw_dim(), values).expect("as many values as the view has").into())
}

/// An empty vector with room for `length` elements.
///
/// # Errors
/// The system refuses the memory.
pub fn reserved<T>(length: usize, purpose: &'static str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let bytes = length.checked_mul(size_of::<T>());
    values.try_reserve_exact(length).map_err(|_| KernelError::Memory { purpose, bytes })?;
    Ok(values)
}

/// Elements of an array of `shape`, where its bytes can be counted.
fn element_count(shape: &[usize], width: usize, purpose: &'static str) -> Result<usize> {
    // An array without elements still has strides: its other lengths must not overflow either.
    let bytes = shape.iter().try_fold(width.max(1), |bytes, &length| bytes.checked_mul(length.max(1)));
    bytes.filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or(KernelError::Memory { purpose, bytes: None })?;
    Ok(shape.iter().product())
}
