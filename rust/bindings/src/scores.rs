//! Summing a network's outputs.

use ndarray::{ArrayView5, ArrayViewD, ArrayViewMut5, ArrayViewMutD, Axis, Ix5};
use nnunet_kernels::error::{KernelError, Result};
use nnunet_kernels::scores::{self, Activation};
use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{array, borrow, wrong_dtype};
use crate::convert::{Count, Counts, detached, to_python};

/// Adds this file's function to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(add_scores, module)?)
}

/// Add a network's outputs to `total`, activated and turned back, in one pass.
///
/// Parameters
/// ----------
/// total : ndarray of float32, (b, c, z, y, x) or (b, c, y, x)
///     Changed in place.
/// logits : ndarray of float32, same shape
/// activation : {"none", "softmax", "sigmoid"}
///     What is summed. Softmax is taken over the classes c; NaN and infinite logits give NaN.
/// mirrored : sequence of int
///     Axes among (z, y, x) or (y, x) along which the network saw the window mirrored.
/// first : bool
///     Overwrite `total` instead of adding to it.
/// threads : int, optional
///     All processors of this process if not given.
///
/// Raises
/// ------
/// ValueError
///     Shapes that differ, an axis or activation that there is not.
/// TypeError
///     Arrays of other types.
#[pyfunction]
#[pyo3(
    signature = (total, logits, *, activation="none", mirrored=Counts(Vec::new()), first=false, threads=None),
    text_signature = "(total, logits, *, activation='none', mirrored=(), first=False, threads=None)"
)]
fn add_scores(
    total: &Bound<'_, PyAny>,
    logits: &Bound<'_, PyAny>,
    activation: &str,
    mirrored: Counts,
    first: bool,
    threads: Option<Count>,
) -> PyResult<()> {
    let py = total.py();
    let activation = Activation::from_name(activation).map_err(to_python)?;
    let (total, logits) = (array("total", total)?, array("logits", logits)?);
    let source = borrow::<f32>(&logits).ok_or_else(|| wrong_dtype("logits", "float32", &logits.dtype()))??;
    let target = total.cast::<PyArrayDyn<f32>>().map_err(|_| wrong_dtype("total", "float32", &total.dtype()))?;
    let busy =
        |error: numpy::BorrowError| PyValueError::new_err(format!("total must be writable and not in use: {error}"));
    let mut target = target.try_readwrite().map_err(busy)?;
    let mirrored = turns(&mirrored.0, logits.shape().len()).map_err(to_python)?;
    let (source, target) = (source.as_array(), target.as_array_mut());
    detached(py, threads, move || scores::add_scores(lift_mut(target)?, lift(source)?, activation, mirrored, first))
}

/// Which of z, y, x are mirrored; the caller counts the axes after the classes.
fn turns(axes: &[usize], dimensions: usize) -> Result<[bool; 3]> {
    let spatial = dimensions.saturating_sub(2);
    if let Some(axis) = axes.iter().find(|&&axis| axis >= spatial) {
        let rule = format!("name axes between 0 and {}, counted after the classes", spatial.saturating_sub(1));
        return Err(KernelError::argument("mirrored", rule, axis));
    }
    // In 2-D the rows take z's place, so that threads share them.
    let place = |axis: usize| if spatial == 2 { 2 * axis } else { axis };
    let mut turns = [false; 3];
    axes.iter().for_each(|&axis| turns[place(axis)] = true);
    Ok(turns)
}

fn lift(view: ArrayViewD<'_, f32>) -> Result<ArrayView5<'_, f32>> {
    let shape = view.shape().to_vec();
    let view = if shape.len() == 4 { view.insert_axis(Axis(3)) } else { view };
    view.into_dimensionality::<Ix5>().map_err(|_| wrong_rank("logits", &shape))
}

fn lift_mut(view: ArrayViewMutD<'_, f32>) -> Result<ArrayViewMut5<'_, f32>> {
    let shape = view.shape().to_vec();
    let view = if shape.len() == 4 { view.insert_axis(Axis(3)) } else { view };
    view.into_dimensionality::<Ix5>().map_err(|_| wrong_rank("total", &shape))
}

fn wrong_rank(name: &'static str, shape: &[usize]) -> KernelError {
    KernelError::argument(name, "have the axes (b, c, z, y, x) or (b, c, y, x)", shape)
}
