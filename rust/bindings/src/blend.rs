//! Window starts, importance and blending.

use std::sync::{Mutex, MutexGuard, PoisonError};

use half::f16;
use ndarray::{ArrayViewD, ArrayViewMut4, Dimension, Ix4};
use nnunet_kernels::{self as kernels, Float, KernelError, Memory, Result};
use numpy::{Element, IntoPyArray, PyArray, PyArray3, PyArray4, PyArrayDyn, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyList;

use crate::arrays::zeros;
use crate::convert::{Count, Counts, Number, detached, to_python};
use crate::dtypes::{Floats, on_floats};

/// Registers this file's functions and classes.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(window_starts, module)?)?;
    module.add_function(wrap_pyfunction!(gaussian_importance, module)?)?;
    module.add_class::<Blend>()
}

#[doc = docstring!("window_starts")]
#[pyfunction]
#[pyo3(signature = (size, tile, step = Number(0.5)), text_signature = "(size, tile, step=0.5)")]
fn window_starts<'py>(py: Python<'py>, size: Counts, tile: Counts, step: Number<f64>) -> PyResult<Bound<'py, PyAny>> {
    let axes = detached(py, Some(Count(1)), || kernels::starts_by_axis(&size.0, &tile.0, step.0))?;
    // NumPy and Python make the lists, which raise `MemoryError` where there are too many; PyO3 would panic.
    let lists = PyList::empty(py);
    for starts in axes {
        lists.append(starts.into_pyarray(py).call_method0("tolist")?)?;
    }
    let every = py.import("itertools")?.getattr("product")?.call1(lists.to_tuple())?;
    py.import("builtins")?.getattr("list")?.call1((every,))
}

#[doc = docstring!("gaussian_importance")]
#[pyfunction]
fn gaussian_importance<'py>(py: Python<'py>, tile: Counts) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let importance = detached(py, Some(Count(1)), || kernels::gaussian_importance(&tile.0))?;
    Ok(importance.into_pyarray(py))
}

/// Sums and weights.
type Arrays<S> = (Py<PyArray4<S>>, Py<PyArray3<f32>>);

/// A blend whose sums are numpy's: it takes huge pages for them.
struct Sums<S: Element> {
    blend: kernels::Blend<S>,
    memory: Option<Arrays<S>>, // until it is finished
}

impl<S: Float + Element> Sums<S> {
    fn new(py: Python<'_>, blend: kernels::Blend<S>) -> PyResult<Self> {
        let shape = blend.shape();
        let memory = (zeros_of(py, &shape)?.unbind(), zeros_of(py, &shape[1..])?.unbind());
        Ok(Self { blend, memory: Some(memory) })
    }

    /// Allocates what `work` returns, of `shape`, and lends it the sums, without the interpreter.
    fn lend<'py>(
        &mut self,
        py: Python<'py>,
        threads: Option<Count>,
        shape: Option<[usize; 4]>,
        work: impl FnOnce(&mut kernels::Blend<S>, Memory<'_, S>, Option<ArrayViewMut4<'_, S>>) -> Result<()> + Send,
    ) -> PyResult<Option<Bound<'py, PyArray4<S>>>> {
        let (sums, weights) = self.memory.as_ref().map(|(sums, weights)| (sums.bind(py), weights.bind(py))).unzip();
        let (Some(sums), Some(weights)) = (sums, weights) else {
            let rule = "not be used after finish()";
            return Err(to_python(KernelError::state("blend", rule, "a finished blend")));
        };
        let (mut sums, mut weights) = (sums.try_readwrite()?, weights.try_readwrite()?);
        let memory = Memory { sums: sums.as_array_mut(), weights: weights.as_array_mut() };
        let out = shape.map(|shape| zeros_of::<S, Ix4>(py, &shape)).transpose()?;
        let mut borrowed = out.as_ref().map(|out| out.try_readwrite()).transpose()?;
        let view = borrowed.as_mut().map(|out| out.as_array_mut());
        let blend = &mut self.blend;
        detached(py, threads, || work(blend, memory, view))?;
        drop(borrowed);
        Ok(out)
    }

    fn add<'py, P: Float>(
        &mut self,
        py: Python<'py>,
        threads: Option<Count>,
        patch: ArrayViewD<'_, P>,
        start: &[usize],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let shape = self.blend.done_before(start).map_err(to_python)?;
        let done = self.lend(py, threads, shape, |blend, memory, out| blend.add(memory, patch, start, out))?;
        done.map(|done| self.restored(done)).transpose()
    }

    fn finish<'py>(&mut self, py: Python<'py>, threads: Option<Count>) -> PyResult<Bound<'py, PyAny>> {
        let shape = self.blend.rest();
        let rest = self.lend(py, threads, shape, |blend, memory, out| blend.finish(memory, out))?;
        let sums = self.memory.take().map(|(sums, _)| sums.into_bound(py));
        self.restored(rest.or(sums).expect("the sums were there to be lent"))
    }

    /// A result with the caller's axes.
    fn restored<'py>(&self, result: Bound<'py, PyArray4<S>>) -> PyResult<Bound<'py, PyAny>> {
        let (missing, axes) = self.blend.restored_axes();
        let result = match missing {
            Some(axis) => result.call_method1("squeeze", (axis,))?,
            None => result.into_any(),
        };
        result.call_method1("transpose", (axes,))
    }
}

/// As [`zeros`], of a known number of axes.
fn zeros_of<'py, T: Element, D: Dimension>(py: Python<'py>, shape: &[usize]) -> PyResult<Bound<'py, PyArray<T, D>>> {
    Ok(zeros::<T>(py, shape)?.into_any().cast_into()?)
}

/// Sums of either precision.
enum Precise {
    Single(Sums<f32>),
    Half(Sums<f16>),
}

#[doc = docstring!("Blend")]
#[pyclass(module = "nnunet_rs._kernels", frozen)]
struct Blend {
    sums: Mutex<Precise>,
    threads: Option<Count>,
}

impl Blend {
    /// The sums, for one caller at a time; who waits lets the interpreter go.
    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Precise> {
        self.sums.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Blend {
    #[new]
    #[pyo3(
        signature = (classes, size, tile, *, stream_axis = None, dtype = "float32", threads = None),
        text_signature = "(classes, size, tile, *, stream_axis=None, dtype='float32', threads=None)"
    )]
    fn new(
        py: Python<'_>,
        classes: Count,
        size: Counts,
        tile: Counts,
        stream_axis: Option<Count>,
        dtype: &str,
        threads: Option<Count>,
    ) -> PyResult<Self> {
        let axis = stream_axis.map(|Count(axis)| axis);
        let sums = match dtype {
            "float32" => {
                let blend = detached(py, threads, || kernels::Blend::new(classes.0, &size.0, &tile.0, axis))?;
                Precise::Single(Sums::new(py, blend)?)
            }
            "float16" => {
                let blend = detached(py, threads, || kernels::Blend::new(classes.0, &size.0, &tile.0, axis))?;
                Precise::Half(Sums::new(py, blend)?)
            }
            _ => return Err(PyValueError::new_err(format!("dtype must be 'float32' or 'float16'; got '{dtype}'"))),
        };
        Ok(Self { sums: Mutex::new(sums), threads })
    }

    #[doc = docstring!("Blend.add")]
    fn add<'py>(&self, patch: &Bound<'py, PyAny>, start: Counts) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, threads) = (patch.py(), self.threads);
        let patch = Floats::borrow("patch", patch)?;
        on_floats!(&patch, view => match &mut *self.lock(py) {
            Precise::Single(sums) => sums.add(py, threads, view, &start.0),
            Precise::Half(sums) => sums.add(py, threads, view, &start.0),
        })
    }

    #[doc = docstring!("Blend.finish")]
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &mut *self.lock(py) {
            Precise::Single(sums) => sums.finish(py, self.threads),
            Precise::Half(sums) => sums.finish(py, self.threads),
        }
    }
}
