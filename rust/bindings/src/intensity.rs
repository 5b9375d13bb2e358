//! Changes of intensities.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nnunet_kernels::{self as kernels, Change, Ndim, memory};
use pyo3::prelude::*;

use crate::convert::{Count, Counts, Number, detached, three, to_python};
use crate::dtypes::{ImageInPlace, on_image_in_place};

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
    fn noise(&self, channel: Count, std: Number<f32>, seed: Count) -> PyResult<()> {
        self.push(channel, Change::Noise { std: std.0, seed: seed.0 as u64 })
    }

    #[doc = docstring!("IntensityChanges.blur")]
    fn blur(&self, channel: Count, sigma: Number<f64>) -> PyResult<()> {
        self.push(channel, Change::Blur { sigma: sigma.0 })
    }

    #[doc = docstring!("IntensityChanges.scale")]
    fn scale(&self, channel: Count, factor: Number<f32>) -> PyResult<()> {
        self.push(channel, Change::Scale { factor: factor.0 })
    }

    #[doc = docstring!("IntensityChanges.contrast")]
    fn contrast(&self, channel: Count, factor: Number<f32>) -> PyResult<()> {
        self.push(channel, Change::Contrast { factor: factor.0 })
    }

    #[doc = docstring!("IntensityChanges.simulate_low_resolution")]
    fn simulate_low_resolution(&self, channel: Count, shape: Counts) -> PyResult<()> {
        self.push(channel, Change::SimulateLowResolution { shape: three("shape", &shape.0).map_err(to_python)? })
    }

    #[doc = docstring!("IntensityChanges.gamma")]
    #[pyo3(signature = (channel, exponent, *, invert = false))]
    fn gamma(&self, channel: Count, exponent: Number<f32>, invert: bool) -> PyResult<()> {
        self.push(channel, Change::Gamma { exponent: exponent.0, invert })
    }

    #[doc = docstring!("IntensityChanges.apply")]
    #[pyo3(signature = (image, *, threads = None))]
    fn apply(&self, image: &Bound<'_, PyAny>, threads: Option<Count>) -> PyResult<()> {
        let py = image.py();
        let mut image = ImageInPlace::borrow("image", image)?;
        let ndim = Ndim::new("image", image.shape(), 1, image.shape().get(1..).unwrap_or_default(), None)
            .map_err(to_python)?;
        let changes = self.copied()?;
        on_image_in_place!(&mut image, target => detached(py, threads, || kernels::change(ndim.lift_mut(target)?, &changes)))
    }
}
