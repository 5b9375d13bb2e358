//! Resampling of images: nearest, linear or cubic spline, isotropic or slice by slice.

use multiversion::multiversion;
use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView2, ArrayView3, ArrayView4, ArrayViewMut3, ArrayViewMut4, Axis, Slice};

use crate::error::{KernelError, Result};
use crate::plane::{InPlane, Scratch};
use crate::separable::{LANES, Lane, Lanes, Row, load, store};
use crate::taps::{Order, PAD, Taps, check_axes};

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
#[derive(Clone, Copy)]
pub struct Range {
    lowest: f32,
    highest: f32,
}

impl Range {
    /// Of no values.
    pub const NONE: Self = Self { lowest: f32::INFINITY, highest: f32::NEG_INFINITY };
    /// Of everything.
    pub const ALL: Self = Self { lowest: f32::NEG_INFINITY, highest: f32::INFINITY };

    fn of(values: ArrayView2<'_, f32>) -> Self {
        values.outer_iter().fold(Self::NONE, |range, row| match row.as_slice() {
            Some(row) => range.join(range_of(row)),
            None => row.iter().fold(range, |range, v| range.join(Self { lowest: *v, highest: *v })),
        })
    }

    #[inline(always)]
    fn join(self, other: Self) -> Self {
        Self { lowest: self.lowest.min(other.lowest), highest: self.highest.max(other.highest) }
    }

    /// `v` within the range; NaN stays.
    #[inline(always)]
    pub fn clip(self, v: f32) -> f32 {
        let v = if v < self.lowest { self.lowest } else { v };
        if v > self.highest { self.highest } else { v }
    }
}

#[multiversion(targets = "simd")]
fn range_of(values: &[f32]) -> Range {
    let (mut lowest, mut highest) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for ((lowest, highest), v) in lowest.iter_mut().zip(&mut highest).zip(chunk) {
            *lowest = if *v < *lowest { *v } else { *lowest };
            *highest = if *v > *highest { *v } else { *highest };
        }
    }
    let all = lowest.iter().zip(&highest).map(|(lowest, highest)| Range { lowest: *lowest, highest: *highest });
    let rest = rest.iter().map(|v| Range { lowest: *v, highest: *v });
    all.chain(rest).fold(Range::NONE, Range::join)
}

fn slices(source: ArrayView3<'_, f32>, mut target: ArrayViewMut3<'_, f32>, order: Order) {
    let along = Taps::new(Order::Nearest, source.len_of(Axis(0)), target.len_of(Axis(0)));
    let planes = InPlane::new(order, source.shape(), target.shape());
    target.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each_init(Scratch::default, |scratch, (i, slice)| {
        let source = source.index_axis(Axis(0), along.starts[i] - PAD);
        planes.run(scratch, source, slice, Range::of(source));
    });
}

fn volume(source: ArrayView3<'_, f32>, mut target: ArrayViewMut3<'_, f32>, order: Order) {
    let (z_in, z_out) = (source.len_of(Axis(0)), target.len_of(Axis(0)));
    let planes = InPlane::new(order, source.shape(), target.shape());
    let along = Taps::new(order, z_in, z_out);
    let in_plane = |mut middle: ArrayViewMut3<'_, f32>| {
        let pairs = middle.axis_iter_mut(Axis(0)).into_par_iter().zip(source.axis_iter(Axis(0)));
        let ranges = pairs.map_init(Scratch::default, |scratch, (slice, source)| {
            planes.run(scratch, source, slice, Range::ALL);
            Range::of(source)
        });
        ranges.reduce(|| Range::NONE, Range::join)
    };
    if z_in <= z_out {
        // The planes' results wait in the first planes of the output itself.
        let range = in_plane(target.slice_axis_mut(Axis(0), Slice::from(..z_in)));
        across(None, target, &along, range);
    } else {
        let mut middle = Array3::zeros((z_in, target.shape()[1], target.shape()[2]));
        let range = in_plane(middle.view_mut());
        across(Some(middle.view()), target, &along, range);
    }
}

/// z: from `source`, or from the first planes of `target` itself, to `target`.
fn across(source: Option<ArrayView3<'_, f32>>, mut target: ArrayViewMut3<'_, f32>, taps: &Taps, range: Range) {
    let rows = target.axis_iter_mut(Axis(1)).into_par_iter().enumerate();
    rows.for_each_init(Lanes::default, |lanes, (y, mut target)| {
        let width = target.len_of(Axis(1));
        let source = source.as_ref().map(|source| source.index_axis(Axis(1), y));
        let mut column = Column {
            source: source.iter().flat_map(|s| s.outer_iter()).filter_map(|row| row.to_slice()).collect(),
            target: target.outer_iter_mut().filter_map(|row| row.into_slice()).collect(),
            x: 0,
            range,
        };
        across_row(lanes, taps, &mut column, width);
    });
}

#[multiversion(targets = "simd")]
fn across_row(lanes: &mut Lanes, taps: &Taps, column: &mut Column<'_>, width: usize) {
    for x in (0..width).step_by(LANES) {
        column.x = x;
        lanes.resample(taps, column);
    }
}

/// The rows of one y at every z, [`LANES`] columns of which are in work.
struct Column<'a> {
    source: Vec<&'a [f32]>,
    target: Vec<&'a mut [f32]>,
    x: usize,
    range: Range,
}

impl Lane for Column<'_> {
    #[inline(always)]
    fn load(&self, z: usize) -> Row {
        let row = if self.source.is_empty() { &*self.target[z] } else { self.source[z] };
        load(row, self.x)
    }

    #[inline(always)]
    fn store(&mut self, z: usize, row: Row) {
        store(self.target[z], self.x, row.map(|v| self.range.clip(v)));
    }
}
