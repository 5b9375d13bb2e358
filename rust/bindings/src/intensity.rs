//! Changes of intensities.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nnunet_kernels::{self as kernels, Change, Ndim, memory};
use numpy::{PyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{array_in_place, writable, wrong_dtype};
use crate::convert::{Count, Counts, Number, detached, three, to_python};

/// Adds this file's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<IntensityChanges>()
}

#[doc = docstring!("IntensityChanges")]
#[pyclass(module = "nnunet_rs._kernels", frozen)]
struct IntensityChanges(Mutex<Vec<(usize, Change)>>);

impl IntensityChanges {
    /// The list. Nobody holds it for long: what is applied is a copy.
    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Change)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, channel: Count, change: Change) -> PyResult<()> {
        change.check().map_err(to_python)?;
        memory::push(&mut self.lock(), (channel.0, change), PURPOSE).map_err(to_python)
    }

    fn copied(&self) -> PyResult<Vec<(usize, Change)>> {
        memory::collected(self.lock().iter().copied(), PURPOSE).map_err(to_python)
    }
}

const PURPOSE: &str = "a list of changes";

#[pymethods]
impl IntensityChanges {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn __len__(&self) -> usize {
        self.lock().len()
    }

    #[doc = docstring!("IntensityChanges.noise")]
    fn noise(&self, channel: Count, deviation: Number<f32>, seed: Count) -> PyResult<()> {
        self.push(channel, Change::Noise { deviation: deviation.0, seed: seed.0 as u64 })
    }

    #[doc = docstring!("IntensityChanges.blur")]
    fn blur(&self, channel: Count, sigma: Number<f64>) -> PyResult<()> {
        self.push(channel, Change::Blur { sigma: sigma.0 })
    }

    #[doc = docstring!("IntensityChanges.scale")]
    fn scale(&self, channel: Count, factor: Number<f32>) -> PyResult<()> {
        self.push(channel, Change::Scale { factor: factor.0 })
    }

    #[doc = docstring!("IntensityChanges.stretch")]
    fn stretch(&self, channel: Count, factor: Number<f32>) -> PyResult<()> {
        self.push(channel, Change::Stretch { factor: factor.0 })
    }

    #[doc = docstring!("IntensityChanges.coarsen")]
    fn coarsen(&self, channel: Count, shape: Counts) -> PyResult<()> {
        self.push(channel, Change::Coarsen { shape: three("shape", &shape.0).map_err(to_python)? })
    }

    #[doc = docstring!("IntensityChanges.gamma")]
    #[pyo3(signature = (channel, exponent, *, invert = false))]
    fn gamma(&self, channel: Count, exponent: Number<f32>, invert: bool) -> PyResult<()> {
        self.push(channel, Change::Gamma { exponent: exponent.0, invert })
    }

    #[doc = docstring!("IntensityChanges.apply")]
    #[pyo3(signature = (image, *, threads = None))]
    fn apply(&self, image: &Bound<'_, PyAny>, threads: Option<Count>) -> PyResult<()> {
        let image = array_in_place("image", image)?;
        let ndim = Ndim::new("image", image.shape(), 1, image.shape().get(1..).unwrap_or_default(), None)
            .map_err(to_python)?;
        let floats = image.cast::<PyArrayDyn<f32>>().map_err(|_| wrong_dtype("image", "float32", &image.dtype()))?;
        let mut target = writable(floats)?;
        let (target, changes) = (target.as_array_mut(), self.copied()?);
        detached(image.py(), threads, || kernels::change(ndim.lift_mut(target)?, &changes))
    }
}
