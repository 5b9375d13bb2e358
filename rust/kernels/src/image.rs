//! Resampling of images: nearest, linear or cubic spline, isotropic or slice by slice.

use ndarray::parallel::prelude::*;
use ndarray::{ArrayView2, ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis, Slice};

use crate::error::{KernelError, Result};
use crate::separable::{LANES, Lanes, Row};
use crate::taps::{Order, Taps, check_axes};

/// Resamples every channel of `image` (c, z, y, x) to the grid of `out` (c, z', y', x').
///
/// With `lowres_axis` (0, 1 or 2) that axis takes the nearest slice and the others `order`, slice by slice. Values are
/// clipped to the range of the input channel, or of the slice.
///
/// # Errors
/// Different numbers of channels, an axis without voxels, an axis that is not one of the three.
pub fn resample_image(
    image: ArrayView4<'_, f32>,
    mut out: ArrayViewMut4<'_, f32>,
    order: Order,
    lowres_axis: Option<usize>,
) -> Result<()> {
    check_axes("image", &image.shape()[1..])?;
    check_axes("shape", &out.shape()[1..])?;
    if image.len_of(Axis(0)) != out.len_of(Axis(0)) {
        return Err(KernelError::argument("image", format!("have {} channels", out.shape()[0]), image.shape()));
    }
    if lowres_axis.is_some_and(|axis| axis > 2) {
        return Err(KernelError::argument("lowres_axis", "be one of the image's axes", lowres_axis));
    }
    for (source, target) in image.outer_iter().zip(out.outer_iter_mut()) {
        channel(source, target, order, lowres_axis);
    }
    Ok(())
}

fn channel(mut source: ArrayView3<'_, f32>, mut target: ArrayViewMut3<'_, f32>, order: Order, lowres: Option<usize>) {
    if source.shape() == target.shape() {
        target.assign(&source);
        return;
    }
    match lowres {
        None => volume(source, target, order),
        Some(axis) => {
            source.swap_axes(0, axis);
            target.swap_axes(0, axis);
            slices(source, target, order);
        }
    }
}

/// Smallest and largest value; NaN does not count.
fn range(values: ArrayView3<'_, f32>) -> (f32, f32) {
    let fold = |(lo, hi): (f32, f32), &v: &f32| (if v < lo { v } else { lo }, if v > hi { v } else { hi });
    let join = |a: (f32, f32), b: (f32, f32)| (a.0.min(b.0), a.1.max(b.1));
    let none = (f32::INFINITY, f32::NEG_INFINITY);
    values.axis_iter(Axis(0)).into_par_iter().map(|plane| plane.iter().fold(none, fold)).reduce(|| none, join)
}

/// `v` within `range`; NaN stays.
#[inline(always)]
fn clip(v: f32, range: (f32, f32)) -> f32 {
    let v = if v < range.0 { range.0 } else { v };
    if v > range.1 { range.1 } else { v }
}

const UNBOUNDED: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

fn slices(source: ArrayView3<'_, f32>, mut target: ArrayViewMut3<'_, f32>, order: Order) {
    let along = Taps::new(Order::Nearest, source.len_of(Axis(0)), target.len_of(Axis(0)));
    let planes = InPlane::new(order, source.shape(), target.shape());
    target.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each_init(Scratch::default, |scratch, (i, slice)| {
        let from = along.starts[i] - crate::taps::PAD;
        let source = source.slice_axis(Axis(0), Slice::from(from..from + 1));
        planes.run(scratch, source.index_axis(Axis(0), 0), slice, range(source));
    });
}

fn volume(source: ArrayView3<'_, f32>, mut target: ArrayViewMut3<'_, f32>, order: Order) {
    let range = range(source);
    let (z_in, z_out) = (source.len_of(Axis(0)), target.len_of(Axis(0)));
    let planes = InPlane::new(order, source.shape(), target.shape());
    let along = Taps::new(order, z_in, z_out);
    let in_plane = |mut middle: ArrayViewMut3<'_, f32>| {
        let pairs = middle.axis_iter_mut(Axis(0)).into_par_iter().zip(source.axis_iter(Axis(0)));
        pairs.for_each_init(Scratch::default, |scratch, (slice, source)| planes.run(scratch, source, slice, UNBOUNDED));
    };
    if z_in <= z_out {
        // The planes' results wait in the first planes of the output itself.
        in_plane(target.slice_axis_mut(Axis(0), Slice::from(..z_in)));
        across(None, target, &along, range);
    } else {
        let mut middle = ndarray::Array3::zeros((z_in, target.shape()[1], target.shape()[2]));
        in_plane(middle.view_mut());
        across(Some(middle.view()), target, &along, range);
    }
}

/// Resamples the last axis but one and the last axis, plane by plane.
struct InPlane {
    rows: Taps,
    columns: Taps,
}

/// What a thread needs to resample a plane.
#[derive(Default)]
struct Scratch {
    lanes: Lanes,
    middle: Vec<f32>,
}

impl InPlane {
    fn new(order: Order, from: &[usize], to: &[usize]) -> Self {
        Self { rows: Taps::new(order, from[1], to[1]), columns: Taps::new(order, from[2], to[2]) }
    }

    fn run(
        &self,
        scratch: &mut Scratch,
        source: ArrayView2<'_, f32>,
        target: ArrayViewMut2<'_, f32>,
        clip: (f32, f32),
    ) {
        scratch.middle.resize(self.rows.n_out * self.columns.n_in, 0.0);
        self.along_rows(scratch, source);
        self.along_columns(scratch, target, clip);
    }

    /// y: source (y, x) → middle (y', x).
    fn along_rows(&self, Scratch { lanes, middle }: &mut Scratch, source: ArrayView2<'_, f32>) {
        let width = self.columns.n_in;
        for x in (0..width).step_by(LANES) {
            let count = LANES.min(width - x);
            for (row, values) in lanes.rows(self.rows.n_in).iter_mut().zip(source.outer_iter()) {
                for (lane, value) in row.iter_mut().zip(values.slice_axis(Axis(0), Slice::from(x..x + count))) {
                    *lane = *value;
                }
            }
            lanes.extend(&self.rows);
            for y in 0..self.rows.n_out {
                let row = lanes.sample(&self.rows, y);
                middle[y * width + x..][..count].copy_from_slice(&row[..count]);
            }
        }
    }

    /// x: middle (y', x) → target (y', x').
    fn along_columns(
        &self,
        Scratch { lanes, middle }: &mut Scratch,
        mut target: ArrayViewMut2<'_, f32>,
        range: (f32, f32),
    ) {
        let width = self.columns.n_in;
        for (block, mut target) in middle.chunks(LANES * width).zip(target.axis_chunks_iter_mut(Axis(0), LANES)) {
            let rows = lanes.rows(width);
            for (lane, values) in block.chunks_exact(width).enumerate() {
                for (row, value) in rows.iter_mut().zip(values) {
                    row[lane] = *value;
                }
            }
            lanes.extend(&self.columns);
            for (x, mut column) in target.axis_iter_mut(Axis(1)).enumerate() {
                let row = lanes.sample(&self.columns, x);
                for (value, lane) in column.iter_mut().zip(row) {
                    *value = clip(lane, range);
                }
            }
        }
    }
}

/// z: from `source`, or from the first planes of `target` itself, to `target`.
fn across(source: Option<ArrayView3<'_, f32>>, mut target: ArrayViewMut3<'_, f32>, taps: &Taps, range: (f32, f32)) {
    let rows = target.axis_iter_mut(Axis(1)).into_par_iter().enumerate();
    rows.for_each_init(Lanes::default, |lanes, (y, mut target)| {
        let width = target.len_of(Axis(1));
        for x in (0..width).step_by(LANES) {
            let span = Slice::from(x..width.min(x + LANES));
            let fill = |rows: &mut [Row], source: ArrayView2<'_, f32>| {
                for (row, values) in rows.iter_mut().zip(source.outer_iter()) {
                    row.iter_mut().zip(values).for_each(|(lane, value)| *lane = *value);
                }
            };
            match source {
                Some(source) => fill(lanes.rows(taps.n_in), source.index_axis(Axis(1), y).slice_axis(Axis(1), span)),
                None => fill(lanes.rows(taps.n_in), target.slice_axis(Axis(1), span)),
            }
            lanes.extend(taps);
            for (z, mut values) in target.slice_axis_mut(Axis(1), span).outer_iter_mut().enumerate() {
                let row = lanes.sample(taps, z);
                values.iter_mut().zip(row).for_each(|(value, lane)| *value = clip(lane, range));
            }
        }
    });
}
