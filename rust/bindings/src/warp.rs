//! Rotation, scaling and elastic deformation.

use ndarray::{ArrayView4, ArrayViewD, ArrayViewMut4};
use nnunet_kernels::error::Result;
use nnunet_kernels::rank::Rank;
use nnunet_kernels::taps::Order;
use nnunet_kernels::warp::{self, Motion};
use numpy::{Element, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{any_array, array, borrow, regrid, wrong_dtype, zeros};
use crate::convert::{Count, Counts, detached, to_python};

/// Adds this file's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Warp>()
}

/// `nnunet_rs.core.kernels.Elastic`.
#[derive(FromPyObject)]
struct Elastic {
    alpha: f64,
    sigma: f64,
    seed: u64,
}

any_array!(Labels, on_labels, "of an integer dtype of up to 32 bits or float32",
    U8: u8, I16: i16, F32: f32, I32: i32, I8: i8, U16: u16, U32: u32);

#[pyclass(module = "nnunet_rs._kernels", frozen)]
struct Warp {
    warp: warp::Warp,
    shape: Vec<usize>,
    threads: Option<Count>,
}

#[pymethods]
impl Warp {
    #[new]
    #[pyo3(signature = (shape, matrix, centre, elastic = None, *, threads = None))]
    fn new(
        py: Python<'_>,
        shape: Counts,
        matrix: Vec<Vec<f64>>,
        centre: Vec<f64>,
        elastic: Option<Elastic>,
        threads: Option<Count>,
    ) -> PyResult<Self> {
        let elastic = elastic.map(|Elastic { alpha, sigma, seed }| warp::Elastic { alpha, sigma, seed });
        let warp = detached(py, threads, || {
            let (motion, shape) = Motion::new(&shape.0, &matrix, &centre, elastic)?;
            warp::Warp::new(motion, shape)
        })?;
        Ok(Self { warp, shape: shape.0, threads })
    }

    #[pyo3(signature = (image, *, order = Count(3), border = 0.0), text_signature = "($self, image, *, order=3, border=0.0)")]
    fn image<'py>(&self, image: &Bound<'py, PyAny>, order: Count, border: f32) -> PyResult<Bound<'py, PyAny>> {
        let image = array("image", image)?;
        let order = Order::from_number(order.0).map_err(to_python)?;
        let source = borrow::<f32>(&image).ok_or_else(|| wrong_dtype("image", "float32", &image.dtype()))??;
        self.fill(image.py(), "image", source.as_array(), |warp, source, target| {
            warp.image(source, target, order, border)
        })
    }

    #[pyo3(signature = (labels, *, border = 0))]
    fn labels<'py>(&self, labels: &Bound<'py, PyAny>, border: i64) -> PyResult<Bound<'py, PyAny>> {
        let py = labels.py();
        on_labels!(Labels::borrow("labels", labels)?, source => {
            self.fill(py, "labels", source, |warp, source, target| warp.labels(source, target, border))
        })
    }
}

impl Warp {
    /// Allocates the result and has `work` fill it from `source`, without the interpreter.
    fn fill<'py, T: Element + Send + Sync>(
        &self,
        py: Python<'py>,
        name: &'static str,
        source: ArrayViewD<'_, T>,
        work: impl FnOnce(&warp::Warp, ArrayView4<'_, T>, ArrayViewMut4<'_, T>) -> Result<()> + Send,
    ) -> PyResult<Bound<'py, PyAny>> {
        let rank = Rank::new(name, source.shape(), 1, &self.shape, None).map_err(to_python)?;
        let out = zeros::<T>(py, &regrid(source.shape(), 1, &self.shape))?;
        {
            let mut target = out.try_readwrite()?;
            let target = target.as_array_mut();
            detached(py, self.threads, || work(&self.warp, rank.lift(source)?, rank.lift_mut(target)?))?;
        }
        Ok(out.into_any())
    }
}
