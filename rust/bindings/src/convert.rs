//! From Python's values to Rust's and from Rust's errors to Python's.

use nnunet_kernels::error::KernelError;
use nnunet_kernels::pool;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Python's exception for a kernel's refusal.
pub fn to_python(error: KernelError) -> PyErr {
    match error {
        KernelError::Argument { .. } => PyValueError::new_err(error.to_string()),
        KernelError::Memory { .. } => PyMemoryError::new_err(error.to_string()),
    }
}

/// Runs a kernel on `threads` threads with the interpreter released.
pub fn detached<R: Send>(
    py: Python<'_>,
    threads: Option<Count>,
    work: impl FnOnce() -> Result<R, KernelError> + Send,
) -> PyResult<R> {
    let threads = threads.map(|Count(n)| n);
    py.detach(|| pool::with_threads(threads, work).and_then(|result| result)).map_err(to_python)
}

/// A non-negative Python integer. Negative or huge ones are a `ValueError`, other things a `TypeError`.
#[derive(Clone, Copy)]
pub struct Count(pub usize);

impl<'a, 'py> FromPyObject<'a, 'py> for Count {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        value.extract::<usize>().map(Self).map_err(|error| {
            if error.is_instance_of::<PyOverflowError>(value.py()) {
                PyValueError::new_err(format!("sizes and counts must be between 0 and 2^64 - 1; got {value:?}"))
            } else {
                PyTypeError::new_err(format!("sizes and counts must be integers; got {value:?}"))
            }
        })
    }
}

/// A sequence of [`Count`]: a shape.
pub struct Counts(pub Vec<usize>);

impl<'a, 'py> FromPyObject<'a, 'py> for Counts {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        value.try_iter()?.map(|item| item?.extract::<Count>().map(|Count(n)| n)).collect::<PyResult<_>>().map(Self)
    }
}

/// One number for each of z, y and x.
pub fn three(name: &'static str, numbers: &[usize]) -> Result<[usize; 3], KernelError> {
    numbers.try_into().map_err(|_| KernelError::argument(name, "hold three numbers, of z, y and x", numbers))
}

/// Which of z, y and x are among `axes`, the numbers of 0 to `count` - 1; without z, 0 is y.
pub fn turns(name: &'static str, axes: &[usize], count: usize) -> Result<[bool; 3], KernelError> {
    let mut turns = [false; 3];
    for &axis in axes {
        if axis >= count {
            return Err(KernelError::argument(name, format!("name axes between 0 and {}", count - 1), axis));
        }
        turns[axis + 3 - count] = true;
    }
    Ok(turns)
}
