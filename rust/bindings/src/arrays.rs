//! Arrays in and out: which dtypes a kernel takes, and where its result is allocated.

use nnunet_kernels::error::KernelError;
use numpy::{
    BorrowError, Element, PyArrayDescr, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn,
    PyReadwriteArrayDyn, PyUntypedArray, PyUntypedArrayMethods, dtype,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// `value` as an array of any dtype, named `name` in errors. Elements that do not lie where the processor wants them
/// (packed records) are copied; other strides, negative ones too, are taken as they are.
pub fn array<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let Ok(array) = value.cast::<PyUntypedArray>() else {
        return Err(PyTypeError::new_err(format!("{name} must be a numpy array; got {}", value.get_type())));
    };
    let size = array.dtype().itemsize().max(1) as isize;
    if array.is_aligned() && array.strides().iter().all(|stride| stride % size == 0) {
        return Ok(array.clone());
    }
    Ok(array.call_method0("copy")?.cast_into()?)
}

/// As [`array`], of one that is changed where it lies: nothing is copied.
pub fn array_in_place<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let found = array(name, value)?;
    if found.is(value) {
        return Ok(found);
    }
    Err(PyValueError::new_err(format!("{name} must have its elements where the processor wants them")))
}

/// The error of an array whose dtype is none of `accepted`.
pub fn wrong_dtype(name: &str, accepted: &str, got: &Bound<'_, PyArrayDescr>) -> PyErr {
    PyTypeError::new_err(format!("{name} must be {accepted}, in the processor's byte order; got {got}"))
}

/// Borrows `array` where its elements are `T`s.
pub fn borrow<'py, T: Element>(array: &Bound<'py, PyUntypedArray>) -> Option<PyResult<PyReadonlyArrayDyn<'py, T>>> {
    let array = array.cast::<PyArrayDyn<T>>().ok()?;
    let busy = |_| PyValueError::new_err("an array must not be written to by one kernel while another reads it");
    Some(array.try_readonly().map_err(busy))
}

/// Borrows `array` to write to it.
pub fn writable<'py, T: Element>(array: &Bound<'py, PyArrayDyn<T>>) -> PyResult<PyReadwriteArrayDyn<'py, T>> {
    array.try_readwrite().map_err(|error| match error {
        BorrowError::NotWriteable => PyValueError::new_err("an array that is written to must not be read-only"),
        _ => PyValueError::new_err("an array must not be written to by one kernel while another uses it"),
    })
}

/// A new array of zeros, allocated by numpy, which asks for huge pages and raises `MemoryError` itself.
pub fn zeros<'py, T: Element>(py: Python<'py>, shape: &[usize]) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let shape = PyTuple::new(py, shape)?;
    Ok(py.import("numpy")?.call_method1("zeros", (shape, dtype::<T>(py)))?.cast_into()?)
}

/// `array`'s shape with the axes after the first `leading` replaced by `shape`.
pub fn regrid(array: &[usize], leading: usize, shape: &[usize]) -> Vec<usize> {
    array.iter().take(leading).chain(shape).copied().collect()
}

/// Refuses classes beyond what 16-bit labels can name.
pub fn paint_value(value: usize) -> Result<u16, KernelError> {
    u16::try_from(value).map_err(|_| KernelError::argument("paint", "hold values between 0 and 65535", value))
}

/// An enum of borrowed arrays of several dtypes, and a macro that runs an expression on the view of whichever it is.
macro_rules! any_array {
    ($name:ident, $bind:ident, $accepted:literal, $($variant:ident: $type:ty),+) => {
        enum $name<'py> {
            $($variant(numpy::PyReadonlyArrayDyn<'py, $type>)),+
        }

        impl<'py> $name<'py> {
            fn borrow(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Self> {
                let array = crate::arrays::array(name, value)?;
                $(if let Some(borrowed) = crate::arrays::borrow::<$type>(&array) {
                    return Ok(Self::$variant(borrowed?));
                })+
                Err(crate::arrays::wrong_dtype(name, $accepted, &numpy::PyUntypedArrayMethods::dtype(&array)))
            }
        }

        macro_rules! $bind {
            ($array:expr, $view:ident => $work:expr) => {
                match $array {
                    $($name::$variant(array) => {
                        let $view = array.as_array();
                        $work
                    })+
                }
            };
        }
    };
}

pub(crate) use any_array;
