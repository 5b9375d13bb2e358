//! Memory that may be refused: a request that is too large is an answer, not an abort.
//!
//! Rust ends the process where an ordinary `vec!` or `collect` gets no memory. So whatever has a length that depends on an
//! argument is allocated here. What is left are pieces of some hundred bytes (rayon's jobs, the text of an error): for
//! these each large request leaves a [`MARGIN`].

use std::collections::TryReserveError;
use std::sync::{Mutex, PoisonError};

use ndarray::{Array, ArrayView, ArrayView1, CowArray, Dimension, IntoDimension};

use crate::error::{KernelError, Result};

/// What must be left for small allocations that cannot be refused politely.
const MARGIN: usize = 1 << 20;

/// Requests below this come out of the margin.
const SMALL: usize = 1 << 16;

/// From here on zeros are taken from the system, which has them for nothing.
const LARGE: usize = 1 << 22;

/// What must be left where these are: as much as glibc takes at once for a thread that begins to allocate meanwhile.
const LARGE_MARGIN: usize = 1 << 27;

/// Held while memory is asked for, so that two threads are not promised the same.
static TAKING: Mutex<()> = Mutex::new(());

/// A table with a place for each number of 16 bits.
pub type Table<T> = Box<[T; 1 << 16]>;

/// An array of `shape` filled with `value`; `purpose` names it in the error.
///
/// # Errors
/// The size overflows, or the system refuses the memory.
#[expect(clippy::missing_panics_doc, reason = "the length is the product of the shape")]
pub fn filled<T: Clone, I: IntoDimension>(shape: I, value: T, purpose: &'static str) -> Result<Array<T, I::Dim>> {
    let shape = shape.into_dimension();
    let values = vector(element_count(shape.slice(), size_of::<T>(), purpose)?, value, purpose)?;
    Ok(Array::from_shape_vec(shape, values).expect("the length is the product of the shape"))
}

/// A vector of `length` elements that are `value`.
///
/// # Errors
/// The system refuses the memory.
#[inline]
pub fn vector<T: Clone>(length: usize, value: T, purpose: &'static str) -> Result<Vec<T>> {
    if length.saturating_mul(size_of::<T>()) >= LARGE {
        return large_vector(length, value, purpose);
    }
    let mut values = reserved(length, purpose)?;
    values.resize(length, value);
    Ok(values)
}

/// Asked for first, because `vec!` aborts where memory is refused; taken by `vec!`, because the system's own zeros cost
/// nothing until they are touched, and then by the thread that works there.
fn large_vector<T: Clone>(length: usize, value: T, purpose: &'static str) -> Result<Vec<T>> {
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let all = probe::<T>(length, purpose)?;
    drop((probe::<u8>(LARGE_MARGIN, purpose)?, all));
    Ok(vec![value; length])
}

/// A [`Table`] of zeros.
///
/// # Errors
/// The system refuses the memory.
pub fn table<T: Clone + Default>(purpose: &'static str) -> Result<Table<T>> {
    let values = vector(1 << 16, T::default(), purpose)?.into_boxed_slice();
    Ok(values.try_into().unwrap_or_else(|_| unreachable!("the length is 2^16")))
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
    owned(view, purpose).map(Into::into)
}

/// A copy of `view` in memory order.
///
/// # Errors
/// The system refuses the memory.
#[expect(clippy::missing_panics_doc, reason = "there are as many values as the view has")]
pub fn owned<T: Copy, D: Dimension>(view: ArrayView<'_, T, D>, purpose: &'static str) -> Result<Array<T, D>> {
    let mut values = reserved(view.len(), purpose)?;
    values.extend(view.iter().copied());
    Ok(Array::from_shape_vec(view.raw_dim(), values).expect("as many values as the view has"))
}

/// The row's values; copied to `room` where they do not lie together. Rows are many, so the room is [`reserve`]d before.
#[inline(always)]
pub fn contiguous_row<'a, T: Copy>(row: ArrayView1<'a, T>, room: &'a mut Vec<T>) -> &'a [T] {
    match row.to_slice() {
        Some(row) => row,
        None => {
            room.clear();
            room.extend(row);
            room
        }
    }
}

/// Elements that [`contiguous_row`] copies of rows of `width`, `stride` apart.
#[must_use]
pub const fn row_room(stride: isize, width: usize) -> usize {
    if stride == 1 { 0 } else { width }
}

/// An empty vector with room for `length` elements.
///
/// # Errors
/// The system refuses the memory.
#[inline]
pub fn reserved<T>(length: usize, purpose: &'static str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    reserve(&mut values, length, purpose)?;
    Ok(values)
}

/// What `values` yields, whose number it must know.
///
/// # Errors
/// The system refuses the memory.
pub fn collected<T>(values: impl ExactSizeIterator<Item = T>, purpose: &'static str) -> Result<Vec<T>> {
    let mut all = reserved(values.len(), purpose)?;
    all.extend(values);
    Ok(all)
}

/// What `values` yields, at most `most` of them.
///
/// # Errors
/// The system refuses the memory.
pub fn gathered<T>(values: impl Iterator<Item = T>, most: usize, purpose: &'static str) -> Result<Vec<T>> {
    let mut all = reserved(most, purpose)?;
    all.extend(values.take(most));
    Ok(all)
}

/// As [`collected`], of what may fail.
///
/// # Errors
/// The first error of `values`; the system refuses the memory.
pub fn collected_results<T>(
    mut values: impl ExactSizeIterator<Item = Result<T>>,
    purpose: &'static str,
) -> Result<Vec<T>> {
    let mut all = reserved(values.len(), purpose)?;
    values.try_for_each(|value| value.map(|value| all.push(value)))?;
    Ok(all)
}

/// Gives `values` this length; new ones are `value`.
///
/// # Errors
/// The system refuses the memory.
#[inline]
pub fn resize<T: Clone>(values: &mut Vec<T>, length: usize, value: T, purpose: &'static str) -> Result<()> {
    reserve(values, length.saturating_sub(values.len()), purpose)?;
    values.resize(length, value);
    Ok(())
}

/// Puts what `items` yields in the place of `values`.
///
/// # Errors
/// The system refuses the memory.
#[inline]
pub fn refill<T>(values: &mut Vec<T>, items: impl ExactSizeIterator<Item = T>, purpose: &'static str) -> Result<()> {
    values.clear();
    append(values, items, purpose)
}

/// Appends what `items` yields.
///
/// # Errors
/// The system refuses the memory.
#[inline]
pub fn append<T>(values: &mut Vec<T>, items: impl ExactSizeIterator<Item = T>, purpose: &'static str) -> Result<()> {
    grow(values, items.len(), purpose)?;
    values.extend(items);
    Ok(())
}

/// Appends one value.
///
/// # Errors
/// The system refuses the memory.
#[inline]
pub fn push<T>(values: &mut Vec<T>, value: T, purpose: &'static str) -> Result<()> {
    grow(values, 1, purpose)?;
    values.push(value);
    Ok(())
}

/// The product of `lengths`, where an address can count so many bytes.
///
/// # Errors
/// It cannot.
pub fn product(lengths: &[usize], purpose: &'static str) -> Result<usize> {
    element_count(lengths, 1, purpose)
}

/// Refuses work that small allocations could end: see [`MARGIN`].
///
/// # Errors
/// The system has less to give.
pub fn check_margin(purpose: &'static str) -> Result<()> {
    check_available(MARGIN, purpose)
}

/// Refuses work that takes so many bytes which cannot be refused politely.
///
/// # Errors
/// The system has less to give.
pub fn check_available(bytes: usize, purpose: &'static str) -> Result<()> {
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    probe::<u8>(bytes, purpose).map(drop)
}

/// Memory as the system gives it.
fn probe<T>(length: usize, purpose: &'static str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let bytes = length.checked_mul(size_of::<T>());
    values.try_reserve_exact(length).map_err(|_| KernelError::Memory { purpose, bytes })?;
    Ok(values)
}

/// Room for so many more elements and no others.
///
/// # Errors
/// The system refuses the memory.
#[inline]
pub fn reserve<T>(values: &mut Vec<T>, more: usize, purpose: &'static str) -> Result<()> {
    if values.capacity() - values.len() >= more {
        return Ok(());
    }
    let bytes = more.checked_mul(size_of::<T>());
    leaving_margin(bytes, purpose, || values.try_reserve_exact(more))
}

/// Room for so many more elements, and for as many again as there are: for vectors that grow piece by piece.
#[inline]
fn grow<T>(values: &mut Vec<T>, more: usize, purpose: &'static str) -> Result<()> {
    if values.capacity() - values.len() >= more {
        return Ok(());
    }
    let bytes = values.len().saturating_add(more).checked_mul(size_of::<T>());
    leaving_margin(bytes, purpose, || values.try_reserve(more))
}

/// Takes memory, and where that is not little sees that the [`MARGIN`] is left.
fn leaving_margin(
    bytes: Option<usize>,
    purpose: &'static str,
    take: impl FnOnce() -> std::result::Result<(), TryReserveError>,
) -> Result<()> {
    let refused = |_| KernelError::Memory { purpose, bytes };
    if bytes.is_some_and(|bytes| bytes < SMALL) {
        return take().map_err(refused);
    }
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    take().map_err(refused)?;
    probe::<u8>(MARGIN, purpose).map(drop)
}

/// Elements of an array of `shape`, where its bytes can be counted.
fn element_count(shape: &[usize], width: usize, purpose: &'static str) -> Result<usize> {
    // An array without elements still has strides: its other lengths must not overflow either.
    let bytes = shape.iter().try_fold(width.max(1), |bytes, &length| bytes.checked_mul(length.max(1)));
    bytes.filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or(KernelError::Memory { purpose, bytes: None })?;
    Ok(shape.iter().product())
}
