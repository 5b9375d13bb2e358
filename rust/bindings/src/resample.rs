//! Images, label maps, logits and probabilities to another grid.

use half::f16;
use ndarray::{ArrayViewD, ArrayViewMutD};
use nnunet_kernels::{self as kernels, Float, Keyed, Ndim, Order, Result, Slab, memory};
use numpy::{Element, PyArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{paint_value, regrid, zeros};
use crate::convert::{Count, Counts, detached, to_python};
use crate::dtypes::{Floats, Image, Labels, on_floats, on_image, on_labels};

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
    ndim: Ndim,
    shape: Vec<usize>,
    slabs: Vec<Slab>,
    threads: Option<Count>,
}

impl Request {
    fn new(
        name: &'static str,
        (array, leading): (&[usize], usize),
        Counts(shape): Counts,
        lowres_axis: Option<Count>,
        threads: Option<Count>,
    ) -> PyResult<Self> {
        let lowres_axis = lowres_axis.map(|Count(axis)| axis);
        let ndim = Ndim::new(name, array, leading, &shape, lowres_axis).map_err(to_python)?;
        Ok(Self { ndim, shape: regrid(array, leading, &shape), slabs: Vec::new(), threads })
    }

    /// The same for parts of longer axes, five numbers each: (axis, first plane, planes in all, first plane of the
    /// result, all of them).
    fn within(self, slab: Option<Counts>) -> PyResult<Self> {
        match slab {
            None => Ok(self),
            Some(Counts(numbers)) => Ok(Self { slabs: self.ndim.slabs(&numbers).map_err(to_python)?, ..self }),
        }
    }

    /// Allocates the result and has `work` fill it from `source`, without the interpreter.
    fn fill<'py, S: Sync, T: Element + Send>(
        &self,
        py: Python<'py>,
        source: ArrayViewD<'_, S>,
        shape: &[usize],
        work: impl FnOnce(ArrayViewD<'_, S>, ArrayViewMutD<'_, T>) -> Result<()> + Send,
    ) -> PyResult<Array<'py>> {
        let out = zeros::<T>(py, shape)?;
        {
            let mut target = out.try_readwrite()?;
            let target = target.as_array_mut();
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
    let image = Image::borrow("image", image)?;
    let order = Order::from_number(order.0).map_err(to_python)?;
    let request = Request::new("image", (image.shape(), 1), shape, lowres_axis, threads)?;
    let ndim = request.ndim;
    on_image!(&image, view => request.fill(py, view, &request.shape, move |source, target| {
        kernels::resample_image(ndim.lift(source)?, ndim.lift_mut(target)?, order, ndim.lowres_axis())
    }))
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
    let labels = Labels::borrow("labels", labels)?;
    let request = Request::new("labels", (labels.shape(), 0), shape, lowres_axis, threads)?;
    let ndim = request.ndim;
    on_labels!(&labels, view => request.fill(py, view, &request.shape, move |source, target| {
        kernels::resample_labels(ndim.lift(source)?, ndim.lift_mut(target)?, ndim.lowres_axis())
    }))
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
    let logits = Floats::borrow("logits", logits)?;
    let request = Request::new("logits", (logits.shape(), 1), shape, lowres_axis, threads)?.within(slab)?;
    let small = logits.shape()[0] <= 1 << 8;
    on_floats!(&logits, view => match small {
        true => to_labels::<_, u8>(py, view, &request, None),
        false => to_labels::<_, u16>(py, view, &request, None),
    })
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
    let logits = Floats::borrow("logits", logits)?;
    let request = Request::new("logits", (logits.shape(), 1), shape, lowres_axis, threads)?.within(slab)?;
    let paint =
        memory::collected_results(paint.0.into_iter().map(paint_value), "a list of labels").map_err(to_python)?;
    let small = paint.iter().all(|value| *value < 1 << 8);
    on_floats!(&logits, view => match small {
        true => to_labels::<_, u8>(py, view, &request, Some(&paint)),
        false => to_labels::<_, u16>(py, view, &request, Some(&paint)),
    })
}

/// Labels of `L` from logits: the greatest, or painted where `paint` is given.
fn to_labels<'py, R: Float, L: Keyed + Element>(
    py: Python<'py>,
    logits: ArrayViewD<'_, R>,
    request: &Request,
    paint: Option<&[u16]>,
) -> PyResult<Array<'py>> {
    let (ndim, slabs) = (request.ndim, &request.slabs);
    request.fill::<R, L>(py, logits, &request.shape[1..], move |source, target| {
        let (source, target, lowres_axis) = (ndim.lift(source)?, ndim.lift_mut(target)?, ndim.lowres_axis());
        match paint {
            None => kernels::logits_to_labels(source, target, lowres_axis, slabs),
            Some(paint) => kernels::logits_to_regions(source, target, paint, lowres_axis, slabs),
        }
    })
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
    let probabilities = Floats::borrow("probabilities", probabilities)?;
    let request =
        Request::new("probabilities", (probabilities.shape(), 1), shape, lowres_axis, threads)?.within(slab)?;
    on_floats!(&probabilities, view => match half {
        true => spread::<_, f16>(py, view, &request),
        false => spread::<_, f32>(py, view, &request),
    })
}

/// Probabilities resampled to `S`.
fn spread<'py, R: Float, S: Float + Element>(
    py: Python<'py>,
    probabilities: ArrayViewD<'_, R>,
    request: &Request,
) -> PyResult<Array<'py>> {
    let (ndim, slabs) = (request.ndim, &request.slabs);
    request.fill::<R, S>(py, probabilities, &request.shape, move |source, target| {
        kernels::resample_probabilities(ndim.lift(source)?, ndim.lift_mut(target)?, ndim.lowres_axis(), slabs)
    })
}
