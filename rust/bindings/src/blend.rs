//! Window starts, importance and blending.

use half::f16;
use ndarray::{ArrayD, ArrayViewD};
use nnunet_kernels::blend;
use nnunet_kernels::error::Result;
use nnunet_kernels::real::Real;
use nnunet_kernels::tiles;
use numpy::{Element, IntoPyArray, PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{array, borrow, wrong_dtype};
use crate::convert::{Count, Counts, detached, to_python};

/// Registers this file's functions and classes.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(window_starts, module)?)?;
    module.add_function(wrap_pyfunction!(gaussian_importance, module)?)?;
    module.add_class::<Blend>()
}

#[doc = docstring!("window_starts")]
#[pyfunction]
#[pyo3(signature = (size, tile, step = 0.5))]
fn window_starts<'py>(py: Python<'py>, size: Counts, tile: Counts, step: f64) -> PyResult<Vec<Bound<'py, PyTuple>>> {
    let starts = py.detach(|| tiles::window_starts(&size.0, &tile.0, step)).map_err(to_python)?;
    starts.into_iter().map(|start| PyTuple::new(py, start)).collect()
}

#[doc = docstring!("gaussian_importance")]
#[pyfunction]
fn gaussian_importance<'py>(py: Python<'py>, tile: Counts) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let importance = py.detach(|| tiles::gaussian_importance(&tile.0)).map_err(to_python)?;
    Ok(importance.into_pyarray(py))
}

/// What `dtype` says the sums are kept in.
enum Precision {
    Single,
    Half,
}

impl<'a, 'py> FromPyObject<'a, 'py> for Precision {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match value.extract::<&str>() {
            Ok("float32") => Ok(Self::Single),
            Ok("float16") => Ok(Self::Half),
            _ => Err(PyValueError::new_err(format!("dtype must be 'float32' or 'float16'; got {value:?}"))),
        }
    }
}

/// Sums of either precision.
enum Sums {
    Single(blend::Blend<f32>),
    Half(blend::Blend<f16>),
}

/// A result of either precision.
enum Planes {
    Single(ArrayD<f32>),
    Half(ArrayD<f16>),
}

impl Sums {
    fn add<P: Real>(&mut self, patch: ArrayViewD<'_, P>, start: &[usize]) -> Result<Option<Planes>> {
        match self {
            Self::Single(sums) => Ok(sums.add(patch, start)?.map(Planes::Single)),
            Self::Half(sums) => Ok(sums.add(patch, start)?.map(Planes::Half)),
        }
    }

    /// Adds `patch` where its elements are `P`s; `None` where they are not.
    fn borrow_and_add<P: Real + Element>(
        &mut self,
        patch: &Bound<'_, PyUntypedArray>,
        start: &Counts,
        threads: Option<Count>,
    ) -> Option<PyResult<Option<Planes>>> {
        let py = patch.py();
        let mut add = |patch: PyReadonlyArrayDyn<'_, P>| {
            let view = patch.as_array();
            detached(py, threads, || self.add(view, &start.0))
        };
        borrow::<P>(patch).map(|patch| add(patch?))
    }

    fn add_any<'py>(
        &mut self,
        patch: &Bound<'py, PyAny>,
        start: &Counts,
        threads: Option<Count>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = patch.py();
        let patch = array("patch", patch)?;
        let planes = self
            .borrow_and_add::<f32>(&patch, start, threads)
            .or_else(|| self.borrow_and_add::<f16>(&patch, start, threads))
            .ok_or_else(|| wrong_dtype("patch", "float32 or float16", &patch.dtype()))??;
        Ok(planes.map(|planes| planes.into_python(py)))
    }

    fn finish<'py>(&mut self, py: Python<'py>, threads: Option<Count>) -> PyResult<Bound<'py, PyAny>> {
        let planes = detached(py, threads, || match self {
            Self::Single(sums) => sums.finish().map(Planes::Single),
            Self::Half(sums) => sums.finish().map(Planes::Half),
        })?;
        Ok(planes.into_python(py))
    }
}

impl Planes {
    fn into_python(self, py: Python<'_>) -> Bound<'_, PyAny> {
        match self {
            Self::Single(array) => array.into_pyarray(py).into_any(),
            Self::Half(array) => array.into_pyarray(py).into_any(),
        }
    }
}

#[doc = docstring!("Blend")]
#[pyclass(module = "nnunet_rs._kernels")]
struct Blend {
    sums: Sums,
    threads: Option<Count>,
}

#[pymethods]
impl Blend {
    #[new]
    #[pyo3(
        signature = (classes, size, tile, *, stream_axis = None, dtype = Precision::Single, threads = None),
        text_signature = "(classes, size, tile, *, stream_axis=None, dtype='float32', threads=None)"
    )]
    fn new(
        py: Python<'_>,
        classes: Count,
        size: Counts,
        tile: Counts,
        stream_axis: Option<Count>,
        dtype: Precision,
        threads: Option<Count>,
    ) -> PyResult<Self> {
        let axis = stream_axis.map(|Count(axis)| axis);
        let sums = detached(py, threads, || match dtype {
            Precision::Single => blend::Blend::new(classes.0, &size.0, &tile.0, axis).map(Sums::Single),
            Precision::Half => blend::Blend::new(classes.0, &size.0, &tile.0, axis).map(Sums::Half),
        })?;
        Ok(Self { sums, threads })
    }

    #[doc = docstring!("Blend.add")]
    fn add<'py>(&mut self, patch: &Bound<'py, PyAny>, start: Counts) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.sums.add_any(patch, &start, self.threads)
    }

    #[doc = docstring!("Blend.finish")]
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.sums.finish(py, self.threads)
    }
}
