//! Two-dimensional grids as three-dimensional ones of a single slice, so that kernels know three axes only.

use ndarray::{ArrayView, ArrayViewD, ArrayViewMut, ArrayViewMutD, Axis, Dimension};

use crate::error::{KernelError, Result};
use crate::grid::Slab;

/// How many axes a grid has in the caller's eyes, and which of them is the coarse one.
#[derive(Debug, Clone, Copy)]
pub struct Ndim {
    /// 2 or 3.
    pub axes: usize,
    /// The coarse axis among these.
    pub lowres_axis: Option<usize>,
}

impl Ndim {
    /// The axes of a grid of `shape` in an array that has `leading` axes before it.
    ///
    /// # Errors
    /// Arrays and shapes that do not agree in their number of axes; a coarse axis that is none of them.
    pub fn new(
        name: &'static str,
        array: &[usize],
        leading: usize,
        shape: &[usize],
        lowres_axis: Option<usize>,
    ) -> Result<Self> {
        let axes = array.len().wrapping_sub(leading);
        let hint = || match (leading, array.len()) {
            (1, 2 | 3) if array.len() == shape.len() => {
                let read = if axes == 2 { "is read as (c, y, x)" } else { "has no channel axis" };
                Some(format!("{name} {read}; for one channel give {name}[None]"))
            }
            (0, 3 | 4) if axes == shape.len() + 1 => Some(format!("{name} has no channel axis; give {name}[0]")),
            _ => None,
        };
        if !(2..=3).contains(&axes) {
            let rule = format!("have {} or {} axes", leading + 2, leading + 3);
            return Err(KernelError::shape(name, rule, array).with_hint(hint()));
        }
        if shape.len() != axes {
            let rule = format!("have {axes} axes, as {name} has");
            return Err(KernelError::shape("shape", rule, shape).with_hint(hint()));
        }
        if let Some(axis) = lowres_axis.filter(|axis| *axis >= axes) {
            return Err(KernelError::value("lowres_axis", format!("be an axis between 0 and {}", axes - 1), axis));
        }
        Ok(Self { axes, lowres_axis })
    }

    /// The coarse axis among z, y, x.
    #[must_use]
    pub fn lowres_axis(self) -> Option<usize> {
        self.lowres_axis.map(|axis| axis + 3 - self.axes)
    }

    /// The slabs that the caller names by (axis, first plane, planes, first plane of the result, planes of it) each, one
    /// behind the other.
    ///
    /// # Errors
    /// Not five numbers a slab, or none; an axis that is none of the grid's, or is named twice.
    pub fn slabs(self, numbers: &[usize]) -> Result<Vec<Slab>> {
        let slab = |numbers: &[usize]| match *numbers {
            [axis, start, planes, out_start, out_planes] if axis < self.axes => {
                Ok(Slab { axis: axis + 3 - self.axes, logits: (start, planes), out: (out_start, out_planes) })
            }
            _ => {
                let rule = format!("be (axis, start, planes, out_start, out_planes) with an axis below {}", self.axes);
                Err(KernelError::value("slab", rule, numbers))
            }
        };
        if numbers.is_empty() || numbers.len() > 5 * self.axes {
            let rule = format!("hold five numbers for one, or for each of up to {} axes", self.axes);
            return Err(KernelError::value("slab", rule, numbers));
        }
        let slabs = numbers.chunks(5).map(slab).collect::<Result<Vec<_>>>()?;
        let twice = |(index, slab): (usize, &Slab)| slabs[..index].iter().any(|other| other.axis == slab.axis);
        if slabs.iter().enumerate().any(twice) {
            return Err(KernelError::value("slab", "name every axis once", numbers));
        }
        Ok(slabs)
    }

    /// The view with all three axes; the last ones are z, y, x.
    ///
    /// # Errors
    /// A view of other axes than the grid and `D` say.
    pub fn lift<T, D: Dimension>(self, view: ArrayViewD<'_, T>) -> Result<ArrayView<'_, T, D>> {
        let last = Axis(view.ndim() - 2);
        let view = if self.axes == 2 { view.insert_axis(last) } else { view };
        let shape = view.shape().to_vec();
        view.into_dimensionality().map_err(|_| KernelError::shape("array", "have the axes of its grid", shape))
    }

    /// As [`Self::lift`], to write to.
    ///
    /// # Errors
    /// As [`Self::lift`].
    pub fn lift_mut<T, D: Dimension>(self, view: ArrayViewMutD<'_, T>) -> Result<ArrayViewMut<'_, T, D>> {
        let last = Axis(view.ndim() - 2);
        let view = if self.axes == 2 { view.insert_axis(last) } else { view };
        let shape = view.shape().to_vec();
        view.into_dimensionality().map_err(|_| KernelError::shape("array", "have the axes of its grid", shape))
    }
}
