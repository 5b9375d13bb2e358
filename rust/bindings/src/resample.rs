//! Images, label maps, logits and probabilities to another grid.

use half::f16;
use ndarray::{ArrayViewD, ArrayViewMutD};
use nnunet_kernels::error::Result;
use nnunet_kernels::grid::Slab;
use nnunet_kernels::image;
use nnunet_kernels::labels;
use nnunet_kernels::logits;
use nnunet_kernels::memory;
use nnunet_kernels::rank::Rank;
use nnunet_kernels::real::{Label, Real};
use nnunet_kernels::taps::Order;
use numpy::{Element, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{array, borrow, paint_value, regrid, wrong_dtype, zeros};
use crate::convert::{Count, Counts, detached, to_python};

type Array<'py> = Bound<'py, PyAny>;

/// Adds this file's functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(resample_image, module)?)?;
    module.add_function(wrap_pyfunction!(resample_labels, module)?)?;
    module.add_function(wrap_pyfunction!(logits_to_labels, module)?)?;
    module.add_function(wrap_pyfunction!(logits_to_regions, module)?)?;
    module.add_function(wrap_pyfunction!(resample_probabilities, module)?)
}

/// What every resampling is asked besides its array.
struct Request {
    rank: Rank,
    shape: Vec<usize>,
    slabs: Vec<Slab>,
    threads: Option<Count>,
}

impl Request {
    fn new(
        name: &'static str,
        (array, leading): (&Bound<'_, PyUntypedArray>, usize),
        Counts(shape): Counts,
        lowres_axis: Option<Count>,
        threads: Option<Count>,
    ) -> PyResult<Self> {
        let lowres_axis = lowres_axis.map(|Count(axis)| axis);
        let rank = Rank::new(name, array.shape(), leading, &shape, lowres_axis).map_err(to_python)?;
        Ok(Self { rank, shape: regrid(array.shape(), leading, &shape), slabs: Vec::new(), threads })
    }

    /// The same for parts of longer axes, five numbers each: (axis, first plane, planes in all, first plane of the
    /// result, all of them).
    fn within(self, slab: Option<Counts>) -> PyResult<Self> {
        match slab {
            None => Ok(self),
            Some(Counts(numbers)) => Ok(Self { slabs: self.rank.slabs(&numbers).map_err(to_python)?, ..self }),
        }
    }

    /// Allocates the result and has `work` fill it from `source`, without the interpreter.
    fn fill<'py, S: Element + Sync, T: Element + Send>(
        &self,
        py: Python<'py>,
        source: numpy::PyReadonlyArrayDyn<'py, S>,
        shape: &[usize],
        work: impl FnOnce(ArrayViewD<'_, S>, ArrayViewMutD<'_, T>) -> Result<()> + Send,
    ) -> PyResult<Array<'py>> {
        let out = zeros::<T>(py, shape)?;
        {
            let mut target = out.try_readwrite()?;
            let (source, target) = (source.as_array(), target.as_array_mut());
            detached(py, self.threads, move || work(source, target))?;
        }
        Ok(out.into_any())
    }
}

#[doc = docstring!("resample_image")]
#[pyfunction]
#[pyo3(
    signature = (image, shape, *, order=Count(3), lowres_axis=None, threads=None),
    text_signature = "(image, shape, *, order=3, lowres_axis=None, threads=None)"
)]
fn resample_image<'py>(
    py: Python<'py>,
    image: &Array<'py>,
    shape: Counts,
    order: Count,
    lowres_axis: Option<Count>,
    threads: Option<Count>,
) -> PyResult<Array<'py>> {
    let image = array("image", image)?;
    let source = borrow::<f32>(&image).ok_or_else(|| wrong_dtype("image", "float32", &image.dtype()))??;
    let order = Order::from_number(order.0).map_err(to_python)?;
    let request = Request::new("image", (&image, 1), shape, lowres_axis, threads)?;
    let rank = request.rank;
    request.fill(py, source, &request.shape, move |source, target| {
        image::resample_image(rank.lift(source)?, rank.lift_mut(target)?, order, rank.lowres_axis())
    })
}

#[doc = docstring!("resample_labels")]
#[pyfunction]
#[pyo3(signature = (labels, shape, *, lowres_axis=None, threads=None))]
fn resample_labels<'py>(
    py: Python<'py>,
    labels: &Array<'py>,
    shape: Counts,
    lowres_axis: Option<Count>,
    threads: Option<Count>,
) -> PyResult<Array<'py>> {
    let labels = array("labels", labels)?;
    let request = Request::new("labels", (&labels, 0), shape, lowres_axis, threads)?;
    let kinds = [
        vote::<u8>,
        vote::<i8>,
        vote::<u16>,
        vote::<i16>,
        vote::<u32>,
        vote::<i32>,
        vote::<u64>,
        vote::<i64>,
        vote::<bool>,
    ];
    let out = kinds.into_iter().find_map(|vote| vote(py, &labels, &request));
    out.ok_or_else(|| wrong_dtype("labels", "of an integer dtype", &labels.dtype()))?
}

/// Labels of `T` resampled; `None`: they are not `T`.
fn vote<'py, T: Element + Copy + Default + Ord + Send + Sync>(
    py: Python<'py>,
    labels: &Bound<'py, PyUntypedArray>,
    request: &Request,
) -> Option<PyResult<Array<'py>>> {
    let rank = request.rank;
    let run = |source: PyResult<_>| {
        request.fill::<T, T>(py, source?, &request.shape, move |source, target| {
            labels::resample_labels(rank.lift(source)?, rank.lift_mut(target)?, rank.lowres_axis())
        })
    };
    borrow::<T>(labels).map(run)
}

#[doc = docstring!("logits_to_labels")]
#[pyfunction]
#[pyo3(signature = (logits, shape, *, lowres_axis=None, slab=None, threads=None))]
fn logits_to_labels<'py>(
    py: Python<'py>,
    logits: &Array<'py>,
    shape: Counts,
    lowres_axis: Option<Count>,
    slab: Option<Counts>,
    threads: Option<Count>,
) -> PyResult<Array<'py>> {
    let logits = array("logits", logits)?;
    let request = Request::new("logits", (&logits, 1), shape, lowres_axis, threads)?.within(slab)?;
    let small = logits.shape()[0] <= 1 << 8;
    let single = if small { decide::<f32, u8> } else { decide::<f32, u16> };
    let half = if small { decide::<f16, u8> } else { decide::<f16, u16> };
    single(py, &logits, &request, None)
        .or_else(|| half(py, &logits, &request, None))
        .ok_or_else(|| wrong_dtype("logits", "float32 or float16", &logits.dtype()))?
}

#[doc = docstring!("logits_to_regions")]
#[pyfunction]
#[pyo3(signature = (logits, shape, paint, *, lowres_axis=None, slab=None, threads=None))]
fn logits_to_regions<'py>(
    py: Python<'py>,
    logits: &Array<'py>,
    shape: Counts,
    paint: Counts,
    lowres_axis: Option<Count>,
    slab: Option<Counts>,
    threads: Option<Count>,
) -> PyResult<Array<'py>> {
    let logits = array("logits", logits)?;
    let request = Request::new("logits", (&logits, 1), shape, lowres_axis, threads)?.within(slab)?;
    let paint =
        memory::collected_results(paint.0.into_iter().map(paint_value), "a list of labels").map_err(to_python)?;
    let small = paint.iter().all(|value| *value < 1 << 8);
    let single = if small { decide::<f32, u8> } else { decide::<f32, u16> };
    let half = if small { decide::<f16, u8> } else { decide::<f16, u16> };
    single(py, &logits, &request, Some(&paint))
        .or_else(|| half(py, &logits, &request, Some(&paint)))
        .ok_or_else(|| wrong_dtype("logits", "float32 or float16", &logits.dtype()))?
}

/// Labels of `L` from logits of `R`: the greatest, or painted where `paint` is given. `None`: the logits are not `R`.
fn decide<'py, R: Real + Element, L: Label + Element>(
    py: Python<'py>,
    logits: &Bound<'py, PyUntypedArray>,
    request: &Request,
    paint: Option<&[u16]>,
) -> Option<PyResult<Array<'py>>> {
    let (rank, slabs) = (request.rank, &request.slabs);
    let run = |source: PyResult<_>| {
        request.fill::<R, L>(py, source?, &request.shape[1..], move |source, target| {
            let (source, target, lowres_axis) = (rank.lift(source)?, rank.lift_mut(target)?, rank.lowres_axis());
            match paint {
                None => logits::logits_to_labels(source, target, lowres_axis, slabs),
                Some(paint) => logits::logits_to_regions(source, target, paint, lowres_axis, slabs),
            }
        })
    };
    borrow::<R>(logits).map(run)
}

#[doc = docstring!("resample_probabilities")]
#[pyfunction]
#[pyo3(signature = (probabilities, shape, *, half=false, lowres_axis=None, slab=None, threads=None))]
fn resample_probabilities<'py>(
    py: Python<'py>,
    probabilities: &Array<'py>,
    shape: Counts,
    half: bool,
    lowres_axis: Option<Count>,
    slab: Option<Counts>,
    threads: Option<Count>,
) -> PyResult<Array<'py>> {
    let probabilities = array("probabilities", probabilities)?;
    let request = Request::new("probabilities", (&probabilities, 1), shape, lowres_axis, threads)?.within(slab)?;
    let from_single = if half { spread::<f32, f16> } else { spread::<f32, f32> };
    let from_half = if half { spread::<f16, f16> } else { spread::<f16, f32> };
    from_single(py, &probabilities, &request)
        .or_else(|| from_half(py, &probabilities, &request))
        .ok_or_else(|| wrong_dtype("probabilities", "float32 or float16", &probabilities.dtype()))?
}

/// Probabilities of `R` resampled to `S`; `None`: they are not `R`.
fn spread<'py, R: Real + Element, S: Real + Element>(
    py: Python<'py>,
    probabilities: &Bound<'py, PyUntypedArray>,
    request: &Request,
) -> Option<PyResult<Array<'py>>> {
    let (rank, slabs) = (request.rank, &request.slabs);
    let run = |source: PyResult<_>| {
        request.fill::<R, S>(py, source?, &request.shape, move |source, target| {
            logits::resample_probabilities(rank.lift(source)?, rank.lift_mut(target)?, rank.lowres_axis(), slabs)
        })
    };
    borrow::<R>(probabilities).map(run)
}
