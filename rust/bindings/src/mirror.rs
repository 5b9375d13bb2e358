//! Arrays turned round in place.

use nnunet_kernels::{self as kernels, Ndim};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::arrays::array_in_place;
use crate::convert::{Count, Counts, detached, to_python, turns};
use crate::dtypes::{Bits, on_bits};

/// Adds this file's function to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(mirror_in_place, module)?)
}

#[doc = docstring!("mirror")]
#[pyfunction(name = "mirror")]
#[pyo3(signature = (array, axes, *, threads = None))]
fn mirror_in_place(array: &Bound<'_, PyAny>, axes: Counts, threads: Option<Count>) -> PyResult<()> {
    let array = array_in_place("array", array)?;
    let (shape, py) = (array.shape(), array.py());
    let mut bits = Bits::borrow("array", &bits(&array)?)?;
    let ndim = Ndim::new("array", shape, 1, shape.get(1..).unwrap_or_default(), None).map_err(to_python)?;
    let turns = turns("axes", &axes.0, ndim.axes).map_err(to_python)?;
    on_bits!(&mut bits, target => detached(py, threads, || kernels::mirror(ndim.lift_mut(target)?, turns)))
}

/// The same elements as unsigned integers of their size.
fn bits<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyAny>> {
    let (number, size) = (b"biufc".contains(&array.dtype().kind()), array.dtype().itemsize());
    if !number || !matches!(size, 1 | 2 | 4 | 8) {
        let rule = "array must be of numbers of 8 to 64 bits (booleans, integers, floats, complex numbers)";
        return Err(PyTypeError::new_err(format!("{rule}; got {}", array.dtype())));
    }
    array.call_method1("view", (format!("u{size}"),))
}
