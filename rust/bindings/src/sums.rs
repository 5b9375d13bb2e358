//! Sums of overlapping windows that take memory only where they grow.

use ndarray::Ix4;
use nnunet_kernels::error::{KernelError, Result};
use nnunet_kernels::scores::Activation;
use nnunet_kernels::sums;
use numpy::{IntoPyArray, PyArray4, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{array, borrow, wrong_dtype};
use crate::convert::{Count, Counts, detached, three, to_python, turns};

/// Adds this file's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WindowSums>()
}

/// Weighted sums over a volume whose windows come layer by layer and row by row.
#[pyclass(module = "nnunet_rs._kernels")]
struct WindowSums {
    sums: sums::WindowSums,
    threads: Option<Count>,
}

#[pymethods]
impl WindowSums {
    #[new]
    #[pyo3(signature = (classes, size, tile, *, threads = None))]
    fn new(classes: Count, size: Counts, tile: Counts, threads: Option<Count>) -> PyResult<Self> {
        let shapes = three("size", &size.0).and_then(|size| Ok((size, three("tile", &tile.0)?)));
        let sums = shapes.and_then(|(size, tile)| sums::WindowSums::new(classes.0, size, tile)).map_err(to_python)?;
        Ok(Self { sums, threads })
    }

    #[pyo3(
        signature = (output, start, *, activation="none", mirrored=Counts(Vec::new())),
        text_signature = "(self, output, start, *, activation='none', mirrored=())"
    )]
    fn add(&mut self, output: &Bound<'_, PyAny>, start: Counts, activation: &str, mirrored: Counts) -> PyResult<()> {
        let py = output.py();
        let output = array("output", output)?;
        let source = borrow::<f32>(&output).ok_or_else(|| wrong_dtype("output", "float32", &output.dtype()))??;
        let view = source
            .as_array()
            .into_dimensionality::<Ix4>()
            .map_err(|_| to_python(KernelError::argument("output", "have the axes (c, z, y, x)", output.shape())))?;
        let activation = Activation::from_name(activation).map_err(to_python)?;
        let (start, mirrored) =
            (three("start", &start.0).map_err(to_python)?, turns("mirrored", &mirrored.0, 3).map_err(to_python)?);
        let (sums, threads) = (&mut self.sums, self.threads);
        detached(py, threads, move || sums.add(view, start, activation, mirrored))
    }

    fn mean<'py>(&self, py: Python<'py>, start: Counts, stop: Counts) -> PyResult<Bound<'py, PyArray4<f32>>> {
        let (start, stop) = (three("start", &start.0), three("stop", &stop.0));
        let (start, stop) = (start.map_err(to_python)?, stop.map_err(to_python)?);
        let part = detached(py, self.threads, || self.sums.mean(start, stop))?;
        Ok(part.into_pyarray(py))
    }

    fn forget(&mut self, plane: Count, row: Count) {
        self.sums.forget(plane.0, row.0);
    }
}
