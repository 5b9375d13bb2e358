//! Resampling of images: nearest, linear or cubic spline, isotropic or slice by slice.
//!
//! Reference: `skimage.transform.resize(mode="edge", anti_aliasing=False)`, which is `scipy.ndimage.zoom(mode="nearest",
//! grid_mode=True)` clipped to the input's range; checked against scikit-image 0.26 and SciPy 1.17. What these compute as
//! one sum over 4 x 4 x 4 coefficients is linear and separable: here each axis is resampled by itself.
//!
//! A NaN or an infinity reaches what its taps reach. A spline's coefficients depend on all voxels of their lanes, so under
//! order 3 that is the whole channel (or slice), along every axis that changes its length; as in SciPy.

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, ArrayView4, ArrayViewMut3, ArrayViewMut4, Axis, Slice};

use crate::coefficients::{Coefficients, Order, PAD, check_axes};
use crate::error::{KernelError, Result, counted};
use crate::memory;
use crate::min_max::MinMax;
use crate::plane::{InPlane, Scratch, rows_of};
use crate::rows::Rows;

const PURPOSE: &str = "resampling an image";

/// Resamples every channel of `image` (c, z, y, x) to the grid of `out` (c, z', y', x').
///
/// With `lowres_axis` (0, 1 or 2) that axis takes the nearest slice and the others `order`, slice by slice. Values are
/// clipped to the range of the input channel, or of the slice. Besides the result one intermediate of at most the larger
/// of input and output is held, and none where z grows.
///
/// # Errors
/// Different numbers of channels, an axis without voxels, an axis that is not one of the three; memory refused.
pub fn resample_image(
    image: ArrayView4<'_, f32>,
    mut out: ArrayViewMut4<'_, f32>,
    order: Order,
    lowres_axis: Option<usize>,
) -> Result<()> {
    check_axes("image", &image.shape()[1..])?;
    check_axes("shape", &out.shape()[1..])?;
    if image.len_of(Axis(0)) != out.len_of(Axis(0)) {
        return Err(KernelError::shape("image", format!("have {}", counted(out.shape()[0], "channel")), image.shape()));
    }
    if lowres_axis.is_some_and(|axis| axis > 2) {
        return Err(KernelError::value("lowres_axis", "be one of the image's axes", lowres_axis));
    }
    image.outer_iter().zip(out.outer_iter_mut()).try_for_each(|(source, target)| {
        if source.shape() == target.shape() {
            copy(source, target);
            return Ok(());
        }
        match lowres_axis {
            None => volume(source, target, order),
            Some(axis) => slices(source, target, order, axis),
        }
    })
}

fn copy(source: ArrayView3<'_, f32>, mut target: ArrayViewMut3<'_, f32>) {
    target.axis_iter_mut(Axis(0)).into_par_iter().zip(source.axis_iter(Axis(0))).for_each(|(mut target, source)| {
        target.assign(&source);
    });
}

/// Slices across `axis` by themselves, each from the nearest one.
fn slices(
    mut source: ArrayView3<'_, f32>,
    mut target: ArrayViewMut3<'_, f32>,
    order: Order,
    axis: usize,
) -> Result<()> {
    source.swap_axes(0, axis);
    target.swap_axes(0, axis);
    let along = Coefficients::new(Order::Nearest, source.len_of(Axis(0)), target.len_of(Axis(0)))?;
    let planes = InPlane::new(order, source.shape(), target.shape())?;
    let slices = target.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
    slices.try_for_each_init(Scratch::default, |scratch, (i, slice)| {
        planes.run(scratch, source.index_axis(Axis(0), along.starts[i] - PAD), slice, None).map(drop)
    })
}

/// All three axes: in the planes first and then across them, or the other way, whichever has less to keep in between.
fn volume(source: ArrayView3<'_, f32>, mut target: ArrayViewMut3<'_, f32>, order: Order) -> Result<()> {
    if target.as_slice().is_none() {
        let mut result = room(target.dim())?;
        volume(source, result.view_mut(), order)?;
        target.assign(&result);
        return Ok(());
    }
    let (from, to) = (source.dim(), target.dim());
    let planes = InPlane::new(order, source.shape(), target.shape())?;
    let along = Coefficients::new(order, from.0, to.0)?;
    if from.0 <= to.0 {
        // The planes' results wait in the first planes of the result itself.
        let range = in_plane(source, target.slice_axis_mut(Axis(0), Slice::from(..from.0)), &planes, MinMax::ALL)?;
        across(None, target, &along, range)?;
    } else if from.0 * to.1 * to.2 <= to.0 * from.1 * from.2 {
        let mut middle = room((from.0, to.1, to.2))?;
        let range = in_plane(source, middle.view_mut(), &planes, MinMax::ALL)?;
        across(Some(middle.view()), target, &along, range)?;
    } else {
        let mut middle = room((to.0, from.1, from.2))?;
        let range = across(Some(source), middle.view_mut(), &along, MinMax::ALL)?;
        in_plane(middle.view(), target, &planes, range)?;
    }
    Ok(())
}

fn room(shape: (usize, usize, usize)) -> Result<Array3<f32>> {
    memory::filled(shape, 0.0, PURPOSE)
}

/// y and x: every plane of `source` to that of `target`, clipped to `clip`; the range of `source`.
fn in_plane(
    source: ArrayView3<'_, f32>,
    mut target: ArrayViewMut3<'_, f32>,
    planes: &InPlane,
    clip: MinMax,
) -> Result<MinMax> {
    let pairs = target.axis_iter_mut(Axis(0)).into_par_iter().zip(source.axis_iter(Axis(0)));
    let ranges = pairs.map_init(Scratch::default, |scratch, (to, from)| planes.run(scratch, from, to, Some(clip)));
    ranges.try_reduce(|| MinMax::NONE, |a, b| Ok(a.join(b)))
}

/// z: from `source`, or from the first planes of `target` itself, to `target`, clipped to `clip`; the range of `source`.
fn across(
    source: Option<ArrayView3<'_, f32>>,
    mut target: ArrayViewMut3<'_, f32>,
    coefficients: &Coefficients,
    clip: MinMax,
) -> Result<MinMax> {
    let rows = target.axis_iter_mut(Axis(1)).into_par_iter().enumerate();
    let ranges = rows.map_init(Default::default, |(copy, room): &mut (Vec<f32>, Vec<f32>), (y, mut target)| {
        let source = source.as_ref().map(|source| source.index_axis(Axis(1), y));
        let source = source.as_ref().map(|source| rows_of(source, copy)).transpose()?.unwrap_or_default();
        let range = MinMax::of(&source);
        let count = target.len_of(Axis(0));
        let target = memory::gathered(target.outer_iter_mut().filter_map(|row| row.into_slice()), count, PURPOSE)?;
        Rows { source, target }.resample(coefficients, room, clip)?;
        Ok(range)
    });
    ranges.try_reduce(|| MinMax::NONE, |a, b| Ok(a.join(b)))
}
