//! Changes of intensities.

use nnunet_kernels::intensity::{self, Change};
use nnunet_kernels::rank::Rank;
use numpy::{PyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{array_in_place, writable, wrong_dtype};
use crate::convert::{Count, Counts, detached, three, to_python};

/// Adds this file's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<IntensityChanges>()
}

#[doc = docstring!("IntensityChanges")]
#[pyclass(module = "nnunet_rs._kernels")]
struct IntensityChanges {
    changes: Vec<(usize, Change)>,
}

impl IntensityChanges {
    fn push(&mut self, channel: Count, change: Change) -> PyResult<()> {
        change.check().map_err(to_python)?;
        self.changes.push((channel.0, change));
        Ok(())
    }
}

#[pymethods]
impl IntensityChanges {
    #[new]
    fn new() -> Self {
        Self { changes: Vec::new() }
    }

    fn __len__(&self) -> usize {
        self.changes.len()
    }

    #[doc = docstring!("IntensityChanges.noise")]
    fn noise(&mut self, channel: Count, deviation: f32, seed: Count) -> PyResult<()> {
        self.push(channel, Change::Noise { deviation, seed: seed.0 as u64 })
    }

    #[doc = docstring!("IntensityChanges.blur")]
    fn blur(&mut self, channel: Count, sigma: f64) -> PyResult<()> {
        self.push(channel, Change::Blur { sigma })
    }

    #[doc = docstring!("IntensityChanges.scale")]
    fn scale(&mut self, channel: Count, factor: f32) -> PyResult<()> {
        self.push(channel, Change::Scale { factor })
    }

    #[doc = docstring!("IntensityChanges.stretch")]
    fn stretch(&mut self, channel: Count, factor: f32) -> PyResult<()> {
        self.push(channel, Change::Stretch { factor })
    }

    #[doc = docstring!("IntensityChanges.coarsen")]
    fn coarsen(&mut self, channel: Count, shape: Counts) -> PyResult<()> {
        self.push(channel, Change::Coarsen { shape: three("shape", &shape.0).map_err(to_python)? })
    }

    #[doc = docstring!("IntensityChanges.gamma")]
    #[pyo3(signature = (channel, exponent, *, invert = false))]
    fn gamma(&mut self, channel: Count, exponent: f32, invert: bool) -> PyResult<()> {
        self.push(channel, Change::Gamma { exponent, invert })
    }

    #[doc = docstring!("IntensityChanges.apply")]
    #[pyo3(signature = (image, *, threads = None))]
    fn apply(&self, image: &Bound<'_, PyAny>, threads: Option<Count>) -> PyResult<()> {
        let image = array_in_place("image", image)?;
        let rank = Rank::new("image", image.shape(), 1, image.shape().get(1..).unwrap_or_default(), None)
            .map_err(to_python)?;
        let floats = image.cast::<PyArrayDyn<f32>>().map_err(|_| wrong_dtype("image", "float32", &image.dtype()))?;
        let mut target = writable(floats)?;
        let target = target.as_array_mut();
        detached(image.py(), threads, || intensity::change(rank.lift_mut(target)?, &self.changes))
    }
}
