//! Statistics of the foreground.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ndarray::arr1;
use nnunet_kernels::foreground::{self, Accumulator, ChannelStats, Mask};
use nnunet_kernels::memory;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrays::list_of_tuples;
use crate::convert::{Count, detached, to_python};
use crate::dtypes::{Labels, Numbers, Singles, on_labels, on_numbers, on_singles};

/// Adds this file's functions and classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(foreground_statistics, module)?)?;
    module.add_class::<ForegroundAccumulator>()
}

/// A tuple a channel: mean, std, median, min, max, 0.5 and 99.5 percentile.
fn rows(py: Python<'_>, stats: Vec<ChannelStats>) -> PyResult<Bound<'_, PyAny>> {
    let mut table = memory::filled((stats.len(), 7), 0.0, "the statistics of a foreground").map_err(to_python)?;
    for (mut row, stats) in table.outer_iter_mut().zip(stats) {
        let ChannelStats { mean, std, median, min, max, percentile_00_5, percentile_99_5 } = stats;
        row.assign(&arr1(&[mean, std, median, min, max, percentile_00_5, percentile_99_5]));
    }
    list_of_tuples(py, table)
}

#[doc = docstring!("foreground_statistics")]
#[pyfunction]
#[pyo3(signature = (image, labels, *, threads = None))]
fn foreground_statistics<'py>(
    py: Python<'py>,
    image: &Bound<'_, PyAny>,
    labels: &Bound<'_, PyAny>,
    threads: Option<Count>,
) -> PyResult<Bound<'py, PyAny>> {
    let (image, labels) = (Numbers::borrow("image", image)?, Labels::borrow("labels", labels)?);
    let mask = on_labels!(&labels, labels => Mask::new(labels)).map_err(to_python)?;
    let stats = on_numbers!(&image, image => detached(py, threads, || foreground::statistics(image, &mask)))?;
    rows(py, stats)
}

/// What takes the lock at once runs on the calling thread.
const ONE: Option<Count> = Some(Count(1));

// Several Python threads may add at once: each counts its case by itself and takes the lock to merge it. Nothing runs
// in parallel under the lock, or a waiting worker could pick up the work of another thread that wants it.
#[doc = docstring!("ForegroundAccumulator")]
#[pyclass(module = "nnunet_rs._kernels", frozen)]
struct ForegroundAccumulator(Mutex<Accumulator>);

impl ForegroundAccumulator {
    fn lock(&self) -> MutexGuard<'_, Accumulator> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl ForegroundAccumulator {
    #[new]
    fn new(py: Python<'_>, channels: Count, memory: Count) -> PyResult<Self> {
        detached(py, ONE, || Accumulator::new(channels.0, memory.0)).map(Mutex::new).map(Self)
    }

    #[pyo3(signature = (image, labels, *, threads = None))]
    fn add(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
        threads: Option<Count>,
    ) -> PyResult<()> {
        let (image, labels) = (Singles::borrow("image", image)?, Labels::borrow("labels", labels)?);
        let mask = on_labels!(&labels, labels => Mask::new(labels)).map_err(to_python)?;
        on_singles!(&image, image => detached(py, threads, || {
            let outline = self.lock().outline()?;
            let case = outline.case(image, &mask)?;
            self.lock().merge(case)
        }))
    }

    #[pyo3(signature = (image, labels, *, threads = None))]
    fn refine(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
        threads: Option<Count>,
    ) -> PyResult<()> {
        let (image, labels) = (Singles::borrow("image", image)?, Labels::borrow("labels", labels)?);
        let mask = on_labels!(&labels, labels => Mask::new(labels)).map_err(to_python)?;
        on_singles!(&image, image => detached(py, threads, || {
            let outline = self.lock().outline()?;
            let counts = outline.again(image, &mask)?;
            self.lock().merge(counts)
        }))
    }

    fn merge(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        detached(py, ONE, || {
            let other = other.lock().copied()?;
            self.lock().merge(other)
        })
    }

    #[getter]
    fn pending(&self, py: Python<'_>) -> bool {
        py.detach(|| self.lock().is_pending())
    }

    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        rows(py, detached(py, ONE, || self.lock().finish())?)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = detached(py, ONE, || self.lock().to_bytes())?;
        PyBytes::new_with(py, bytes.len(), |out| {
            out.copy_from_slice(&bytes);
            Ok(())
        })
    }

    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        detached(py, ONE, || Accumulator::from_bytes(data)).map(Mutex::new).map(Self)
    }
}
