//! Arrays turned round in place.

use nnunet_kernels::{self as kernels, Ndim};
use numpy::{Element, PyArrayDescrMethods, PyArrayDyn, PyUntypedArray, PyUntypedArrayMethods, dtype};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::arrays::{array_in_place, writable};
use crate::convert::{Count, Counts, detached, to_python, turns};

/// Adds this file's function to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(mirror_in_place, module)?)
}

#[doc = docstring!("mirror")]
#[pyfunction(name = "mirror")]
#[pyo3(signature = (array, axes, *, threads = None))]
fn mirror_in_place(array: &Bound<'_, PyAny>, axes: Counts, threads: Option<Count>) -> PyResult<()> {
    let array = array_in_place("array", array)?;
    let number = b"biufc".contains(&array.dtype().kind());
    match array.dtype().itemsize() {
        1 if number => turn::<u8>(&array, &axes.0, threads),
        2 if number => turn::<u16>(&array, &axes.0, threads),
        4 if number => turn::<u32>(&array, &axes.0, threads),
        8 if number => turn::<u64>(&array, &axes.0, threads),
        _ => {
            let rule = "array must be of numbers of 8 to 64 bits (booleans, integers, floats, complex numbers)";
            Err(PyTypeError::new_err(format!("{rule}; got {}", array.dtype())))
        }
    }
}

/// Takes elements as the bits that they are.
fn turn<T: Element + Copy + Send + Sync>(
    array: &Bound<'_, PyUntypedArray>,
    axes: &[usize],
    threads: Option<Count>,
) -> PyResult<()> {
    let (py, shape) = (array.py(), array.shape());
    let ndim = Ndim::new("array", shape, 1, shape.get(1..).unwrap_or_default(), None).map_err(to_python)?;
    let turns = turns("axes", axes, ndim.axes).map_err(to_python)?;
    let bits = array.call_method1("view", (dtype::<T>(py),))?.cast_into::<PyArrayDyn<T>>()?;
    let mut target = writable(&bits)?;
    let target = target.as_array_mut();
    detached(py, threads, || kernels::mirror(ndim.lift_mut(target)?, turns))
}
