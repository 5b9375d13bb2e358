//! Arrays in and out: which dtypes a kernel takes, and where its result is allocated.

use ndarray::Array2;
use nnunet_kernels::KernelError;
use numpy::{
    BorrowError, Element, IntoPyArray, PyArrayDescr, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods,
    PyReadonlyArrayDyn, PyReadwriteArrayDyn, PyUntypedArray, PyUntypedArrayMethods, dtype,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// `value` as an array of any dtype, named `name` in errors. Elements that do not lie where the processor wants them
/// (packed records) are copied; other strides, negative ones too, are taken as they are.
pub fn array<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let Ok(array) = value.cast::<PyUntypedArray>() else {
        let hint = hint(name, value);
        return Err(PyTypeError::new_err(format!("{name} must be a numpy array; got {}{hint}", value.get_type())));
    };
    if array.ndim() > MOST_AXES {
        let rule = format!("{name} must have at most {MOST_AXES} axes; got {}", array.ndim());
        return Err(PyValueError::new_err(rule));
    }
    let size = array.dtype().itemsize().max(1) as isize;
    if array.is_aligned() && array.strides().iter().all(|stride| stride % size == 0) {
        return Ok(array.clone());
    }
    Ok(array.call_method0("copy")?.cast_into()?)
}

/// Most axes that `rust-numpy` can see.
const MOST_AXES: usize = 32;

/// How to make an array of what is none.
fn hint(name: &str, value: &Bound<'_, PyAny>) -> String {
    let module = value.get_type().module().map(|module| module.to_string()).unwrap_or_default();
    let has = |attribute| value.hasattr(attribute).unwrap_or(false);
    match module.split('.').next() {
        Some("torch") => format!("; give {name}.detach().cpu().numpy()"),
        Some("SimpleITK") => format!("; give SimpleITK.GetArrayFromImage({name})"),
        _ if has("numpy") => format!("; give {name}.numpy()"),
        _ if has("dataobj") => format!("; give numpy.asarray({name}.dataobj), its axes reversed to z, y, x"),
        _ if has("__array__") || has("__len__") => format!("; give numpy.asarray({name})"),
        _ => String::new(),
    }
}

/// As [`array`], of one that is changed where it lies: nothing is copied.
pub fn array_in_place<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let found = array(name, value)?;
    if found.is(value) {
        return if overlaps(&found) && found.getattr("flags")?.getattr("writeable")?.extract()? {
            Err(PyValueError::new_err(format!("{name} must have memory of its own for every element (copy it)")))
        } else {
            Ok(found)
        };
    }
    Err(PyValueError::new_err(format!("{name} must have its elements where the processor wants them")))
}

/// Whether elements may share memory, as those of a broadcast array do: no step may be shorter than what lies within it.
fn overlaps(array: &Bound<'_, PyUntypedArray>) -> bool {
    let (shape, strides) = (array.shape(), array.strides());
    let mut axes: Vec<(usize, usize)> = shape.iter().zip(strides).map(|(&n, step)| (step.unsigned_abs(), n)).collect();
    axes.sort_unstable();
    let mut within = array.dtype().itemsize();
    let mut apart = |(step, n): (usize, usize)| {
        let fits = step >= within;
        within = within.saturating_add(step.saturating_mul(n - 1));
        fits
    };
    !shape.contains(&0) && !axes.into_iter().filter(|axis| axis.1 > 1).all(&mut apart)
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

/// Borrows `array`, to write to it, where its elements are `T`s.
pub fn borrow_mut<'py, T: Element>(
    array: &Bound<'py, PyUntypedArray>,
) -> Option<PyResult<PyReadwriteArrayDyn<'py, T>>> {
    array.cast::<PyArrayDyn<T>>().ok().map(writable)
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

/// The rows of a table as a list of tuples. NumPy and Python make it, which raise `MemoryError`; PyO3 would panic.
pub fn list_of_tuples<'py, T: Element>(py: Python<'py>, table: Array2<T>) -> PyResult<Bound<'py, PyAny>> {
    let builtins = py.import("builtins")?;
    let rows = table.into_pyarray(py).call_method0("tolist")?;
    let tuples = builtins.getattr("map")?.call1((builtins.getattr("tuple")?, rows))?;
    builtins.getattr("list")?.call1((tuples,))
}

/// `array`'s shape with the axes after the first `leading` replaced by `shape`.
pub fn regrid(array: &[usize], leading: usize, shape: &[usize]) -> Vec<usize> {
    array.iter().take(leading).chain(shape).copied().collect()
}

/// Refuses classes beyond what 16-bit labels can name.
pub fn paint_value(value: usize) -> Result<u16, KernelError> {
    u16::try_from(value).map_err(|_| KernelError::value("paint", "hold values between 0 and 65535", value))
}
