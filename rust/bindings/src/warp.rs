//! Rotation, scaling and elastic deformation.

use ndarray::ArrayViewD;
use nnunet_kernels::warp::{self, Motion};
use nnunet_kernels::{Keyed, Ndim, Order, Result};
use numpy::{Element, PyArrayDyn};
use pyo3::prelude::*;

use crate::arrays::{regrid, writable, zeros};
use crate::convert::{Count, Counts, Matrix, Number, Reals, detached, to_python};
use crate::dtypes::{Image, KeyedLabels, on_image, on_keyed_labels};

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

#[doc = docstring!("Warp")]
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
        matrix: Matrix,
        centre: Reals,
        elastic: Option<Elastic>,
        threads: Option<Count>,
    ) -> PyResult<Self> {
        let elastic = elastic.map(|Elastic { alpha, sigma, seed }| warp::Elastic { alpha, sigma, seed });
        let warp = detached(py, threads, || {
            let (motion, shape) = Motion::new(&shape.0, &matrix.0, &centre.0, elastic)?;
            warp::Warp::new(motion, shape)
        })?;
        Ok(Self { warp, shape: shape.0, threads })
    }

    #[pyo3(
        signature = (image, labels = None, *, order = Count(3), border = Number(0.0), label_border = Number(0)),
        text_signature = "($self, image, labels=None, *, order=3, border=0.0, label_border=0)"
    )]
    fn apply<'py>(
        &self,
        image: &Bound<'py, PyAny>,
        labels: Option<&Bound<'py, PyAny>>,
        order: Count,
        border: Number<f32>,
        label_border: Number<i64>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
        let (Number(border), Number(label_border)) = (border, label_border);
        let py = image.py();
        let image = Image::borrow("image", image)?;
        let order = Order::from_number(order.0).map_err(to_python)?;
        let moved = self.target::<f32>(py, "image", image.shape())?;
        let image = on_image!(&image, from => Moving { from, to: &moved, border });
        let Some(labels) = labels else {
            self.run::<u8>(image, order, None)?;
            return Ok((moved.into_any(), None));
        };
        on_keyed_labels!(KeyedLabels::borrow("labels", labels)?, view => {
            let marks = self.target(labels.py(), "labels", view.shape())?;
            self.run(image, order, Some(Moving { from: view, to: &marks, border: label_border }))?;
            Ok((moved.into_any(), Some(marks.into_any())))
        })
    }
}

/// What is sampled, where to, and the value of positions outside.
struct Moving<'a, 'py, T, B> {
    from: ArrayViewD<'a, T>,
    to: &'a Bound<'py, PyArrayDyn<T>>,
    border: B,
}

impl Warp {
    /// A new array for a result.
    fn target<'py, T: Element>(
        &self,
        py: Python<'py>,
        name: &'static str,
        input: &[usize],
    ) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
        Ndim::new(name, input, 1, &self.shape, None).map_err(to_python)?;
        zeros(py, &regrid(input, 1, &self.shape))
    }

    fn run<L: Keyed + Element>(
        &self,
        image: Moving<'_, '_, f32, f32>,
        order: Order,
        labels: Option<Moving<'_, '_, L, i64>>,
    ) -> PyResult<()> {
        let (py, mut to) = (image.to.py(), writable(image.to)?);
        let mut marks = labels.as_ref().map(|labels| writable(labels.to)).transpose()?;
        let (from, to, border) = (image.from, to.as_array_mut(), image.border);
        let labels = labels.zip(marks.as_mut()).map(|(labels, to)| (labels.from, to.as_array_mut(), labels.border));
        let ndim = Ndim { axes: self.shape.len(), lowres_axis: None };
        detached(py, self.threads, || {
            let image = warp::Image { from: ndim.lift(from)?, to: ndim.lift_mut(to)?, order, border };
            let labels = labels.map(|(from, to, border)| -> Result<_> {
                Ok(warp::Labels { from: ndim.lift(from)?, to: ndim.lift_mut(to)?, border })
            });
            self.warp.both(Some(image), labels.transpose()?)
        })
    }
}
