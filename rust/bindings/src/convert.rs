//! From Python's values to Rust's and from Rust's errors to Python's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nnunet_kernels::KernelError;
use nnunet_kernels::{memory, with_threads};
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Python's exception for a kernel's refusal.
pub fn to_python(error: KernelError) -> PyErr {
    match error {
        KernelError::Memory { .. } | KernelError::Threads { .. } => PyMemoryError::new_err(error.to_string()),
        KernelError::Shape(_)
        | KernelError::Value(_)
        | KernelError::Content(_)
        | KernelError::State(_)
        | KernelError::Damaged(_) => PyValueError::new_err(error.to_string()),
    }
}

/// Runs a kernel on `threads` threads with the interpreter released. A panic, a bug of ours, becomes an ordinary exception:
/// `except Exception` would not see PyO3's own, and one case would end a whole series.
pub fn detached<R: Send>(
    py: Python<'_>,
    threads: Option<Count>,
    work: impl FnOnce() -> Result<R, KernelError> + Send,
) -> PyResult<R> {
    let threads = threads.map(|Count(n)| n);
    let run = || with_threads(threads, work).and_then(|result| result).map_err(to_python);
    py.detach(|| catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(PyRuntimeError::new_err(BUG))))
}

const BUG: &str = "a kernel failed in a way that it should not (its message is above); please report the call";

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
        some_of(value, MOST_NUMBERS, |item| item.extract().map(|Count(n)| n)).map(Self)
    }
}

/// A number of a type that holds fewer than Python's: too large a one is a `ValueError`, where Python says `OverflowError`.
#[derive(Clone, Copy)]
pub struct Number<T>(pub T);

impl<'a, 'py, T: FromPyObject<'a, 'py, Error = PyErr>> FromPyObject<'a, 'py> for Number<T> {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        value.extract::<T>().map(Self).map_err(|error| {
            if error.is_instance_of::<PyOverflowError>(value.py()) {
                PyValueError::new_err(format!("a number is out of its range ({})", error.value(value.py())))
            } else {
                error
            }
        })
    }
}

/// Most numbers of a list: as many as there are labels.
const MOST_NUMBERS: usize = 1 << 16;

/// Most numbers that say something an axis each.
const MOST_AXES: usize = 32;

/// What an iterable yields. PyO3's own conversions believe the length that an object gives itself, and abort.
fn some_of<T>(
    value: Borrowed<'_, '_, PyAny>,
    most: usize,
    item: impl Fn(Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    let mut items = Vec::new();
    for found in value.try_iter()? {
        if items.len() == most {
            return Err(PyValueError::new_err(format!("a list must have at most {most} entries here")));
        }
        memory::push(&mut items, item(found?)?, "a list of numbers").map_err(to_python)?;
    }
    Ok(items)
}

/// A sequence of real numbers, one an axis.
pub struct Reals(pub Vec<f64>);

impl<'a, 'py> FromPyObject<'a, 'py> for Reals {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        some_of(value, MOST_AXES, |item| item.extract().map(|Number(number)| number)).map(Self)
    }
}

/// A sequence of [`Reals`]: a matrix.
pub struct Matrix(pub Vec<Vec<f64>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Matrix {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        some_of(value, MOST_AXES, |row| row.extract().map(|Reals(row)| row)).map(Self)
    }
}

/// One number for each of z, y and x.
pub fn three(name: &'static str, numbers: &[usize]) -> Result<[usize; 3], KernelError> {
    numbers.try_into().map_err(|_| KernelError::shape(name, "hold three numbers, of z, y and x", numbers))
}

/// Which of z, y and x are among `axes`, the numbers of 0 to `count` - 1; without z, 0 is y.
pub fn turns(name: &'static str, axes: &[usize], count: usize) -> Result<[bool; 3], KernelError> {
    let mut turns = [false; 3];
    for &axis in axes {
        if axis >= count {
            let hint = "an array of 3 axes is read as (c, y, x); for one channel give array[None]";
            let rule = format!("name axes between 0 and {}", count - 1);
            return Err(KernelError::value(name, rule, axis).with_hint((axis == 2).then(|| hint.into())));
        }
        turns[axis + 3 - count] = true;
    }
    Ok(turns)
}
