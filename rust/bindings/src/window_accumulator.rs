//! Weighted sums of overlapping windows that take memory only where they grow.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ndarray::Ix4;
use nnunet_kernels::{self as kernels, Activation, KernelError};
use numpy::{IntoPyArray, PyArray4};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;

use crate::convert::{Count, Counts, detached, three, to_python, turns};
use crate::dtypes::{Image, on_image};

/// Adds this file's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WindowAccumulator>()
}

#[doc = docstring!("WindowAccumulator")]
#[pyclass(module = "nnunet_rs._kernels", frozen)]
struct WindowAccumulator {
    sums: Mutex<kernels::WindowAccumulator>,
    threads: Option<Count>,
}

impl WindowAccumulator {
    /// The sums, for one caller at a time; who waits lets the interpreter go.
    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, kernels::WindowAccumulator> {
        self.sums.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl WindowAccumulator {
    #[new]
    #[pyo3(signature = (classes, size, tile, *, threads = None))]
    fn new(py: Python<'_>, classes: Count, size: Counts, tile: Counts, threads: Option<Count>) -> PyResult<Self> {
        let (size, tile) = (three("size", &size.0).map_err(to_python)?, three("tile", &tile.0).map_err(to_python)?);
        let sums = detached(py, threads, || kernels::WindowAccumulator::new(classes.0, size, tile))?;
        Ok(Self { sums: Mutex::new(sums), threads })
    }

    #[doc = docstring!("WindowAccumulator.add")]
    #[pyo3(
        signature = (output, start, *, activation="none", mirrored=Counts(Vec::new())),
        text_signature = "(self, output, start, *, activation='none', mirrored=())"
    )]
    fn add(&self, output: &Bound<'_, PyAny>, start: Counts, activation: &str, mirrored: Counts) -> PyResult<()> {
        let py = output.py();
        let output = Image::borrow("output", output)?;
        let hint = (output.shape().len() == 3).then(|| "for one class give output[None]".into());
        let wrong = KernelError::shape("output", "have the axes (c, z, y, x)", output.shape()).with_hint(hint);
        let view = on_image!(&output, view => view.into_dimensionality::<Ix4>().map_err(|_| to_python(wrong))?);
        let activation = Activation::from_name(activation).map_err(to_python)?;
        let (start, mirrored) =
            (three("start", &start.0).map_err(to_python)?, turns("mirrored", &mirrored.0, 3).map_err(to_python)?);
        let mut sums = self.lock(py);
        let sums = &mut *sums;
        detached(py, self.threads, move || sums.add(view, start, activation, mirrored))
    }

    #[doc = docstring!("WindowAccumulator.mean")]
    fn mean<'py>(&self, py: Python<'py>, start: Counts, stop: Counts) -> PyResult<Bound<'py, PyArray4<f32>>> {
        let (start, stop) = (three("start", &start.0), three("stop", &stop.0));
        let (start, stop) = (start.map_err(to_python)?, stop.map_err(to_python)?);
        let sums = self.lock(py);
        let sums = &*sums;
        let part = detached(py, self.threads, || sums.mean(start, stop))?;
        Ok(part.into_pyarray(py))
    }

    #[doc = docstring!("WindowAccumulator.forget")]
    fn forget(&self, py: Python<'_>, plane: Count, row: Count) {
        self.lock(py).forget(plane.0, row.0);
    }
}
