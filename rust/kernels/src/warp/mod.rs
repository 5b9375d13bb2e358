//! Rotation, scaling and elastic deformation, sampled on the output patch only.
//!
//! An output voxel `o` reads the input at `centre + matrix · (o - (shape - 1) / 2 + displacement(o))`. Reference:
//! batchgenerators 0.25 `augment_spatial` with `border_mode="constant"`, that is `scipy.ndimage.map_coordinates` with
//! `mode="constant"` for images (positions beyond the outermost voxels' centres take the border value; the spline's
//! coefficients are those of the mirrored image) and one linear interpolation a label for label maps.

mod coordinates;
mod elastic;
mod motion;
mod prefilter;
mod samplers;
mod sources;
mod votes;

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis};

use crate::coefficients::{Order, check_axes};
use crate::error::{KernelError, Result, counted};
use crate::label::Keyed;
use coordinates::{CoordinateBuffers, Grid, Line};
use elastic::{DisplacedPlane, Field};
use prefilter::MARGIN;
use sources::{ImageSource, LabelSource};
use votes::Ballot;

pub use elastic::Elastic;
pub use motion::Motion;

/// Voxels that are sampled as one task and located at once: as many whole rows as come nearest.
const BLOCK: usize = 2048;

/// Offsets are 32 bits wide.
const MOST_VOXELS: usize = 1 << 31;

/// Longest side of a patch; beyond it a shape is a mistake.
const LONGEST_SIDE: usize = 1 << 16;

/// Voxels of a volume, where offsets can tell them apart.
fn voxels(shape: &[usize]) -> Option<usize> {
    let product = shape.iter().try_fold(1_usize, |all, &length| all.checked_mul(length));
    product.filter(|&all| all < MOST_VOXELS)
}

/// A [`Motion`] with its displacements, for one shape of patches.
pub struct Warp {
    motion: Motion,
    shape: [usize; 3],
    field: Option<Field>,
}

/// An image (c, z, y, x) to sample, and where to.
pub struct Image<'a> {
    /// What is sampled.
    pub from: ArrayView4<'a, f32>,
    /// (c, *shape of the warp), contiguous.
    pub to: ArrayViewMut4<'a, f32>,
    /// How values between voxels are made.
    pub order: Order,
    /// The value of positions outside.
    pub border: f32,
}

/// Label maps (c, z, y, x) to sample by vote, and where to.
pub struct Labels<'a, L> {
    /// What is sampled.
    pub from: ArrayView4<'a, L>,
    /// (c, *shape of the warp), contiguous.
    pub to: ArrayViewMut4<'a, L>,
    /// The label of positions outside.
    pub border: i64,
}

/// What a task keeps between blocks of rows.
#[derive(Default)]
struct Scratch {
    displaced: DisplacedPlane,
    displacements: [Vec<f32>; 3],
    coordinates: CoordinateBuffers,
    ballot: Ballot,
}

impl Warp {
    /// Prepares a motion for patches of `shape` (z, y, x).
    ///
    /// # Errors
    /// Parameters that are not finite or beyond all measure; a shape without voxels, or of more than one plane where the
    /// motion is in a plane.
    pub fn new(motion: Motion, shape: [usize; 3]) -> Result<Self> {
        if shape.iter().any(|length| !(1..=LONGEST_SIDE).contains(length)) || voxels(&shape).is_none() {
            let rule = format!("have 1 to {LONGEST_SIDE} voxels along every axis and fewer than {MOST_VOXELS} in all");
            return Err(KernelError::shape("shape", rule, shape));
        }
        if motion.plane && shape[0] != 1 {
            return Err(KernelError::shape("shape", "have a single plane", shape));
        }
        let bounded = |values: &[f64], limit: f64| values.iter().all(|value| value.abs() <= limit);
        if !bounded(motion.matrix.as_flattened(), 1e6) {
            return Err(KernelError::value("matrix", "hold finite numbers of at most a million", motion.matrix));
        }
        if !bounded(&motion.centre, 1e9) {
            return Err(KernelError::value("centre", "hold finite numbers of at most 1e9 voxels", motion.centre));
        }
        let mut motion = motion;
        if motion.plane {
            (motion.matrix[0], motion.centre[0]) = ([0.0; 3], 0.0);
        }
        let field = motion.elastic.map(|elastic| Field::new(elastic, shape, motion.plane)).transpose()?;
        Ok(Self { motion, shape, field })
    }

    /// Samples every channel of an image.
    ///
    /// # Errors
    /// Numbers of channels that differ, an output of another shape or not contiguous, an image without voxels or with
    /// 2^31 of them, more than one plane where the motion is in a plane; memory refused.
    pub fn image(&self, image: Image<'_>) -> Result<()> {
        self.both::<u8>(Some(image), None)
    }

    /// Samples every channel of label maps by vote.
    ///
    /// # Errors
    /// As [`Warp::image`], or the labels' type has no such border.
    pub fn labels<L: Keyed>(&self, labels: Labels<'_, L>) -> Result<()> {
        self.both(None, Some(labels))
    }

    /// Samples an image and its labels, which have the same size, at coordinates that are located once.
    ///
    /// # Errors
    /// As each by itself, or they differ in size.
    pub fn both<L: Keyed>(&self, image: Option<Image<'_>>, labels: Option<Labels<'_, L>>) -> Result<()> {
        let size = self.check_both(image.as_ref(), labels.as_ref())?;
        let (number, plane) = (labels.as_ref().map_or(0, |labels| labels.border), self.motion.plane);
        let border = L::from_number(number)
            .ok_or_else(|| KernelError::value("label_border", "be a value of the labels' dtype", number))?;
        let Some(region) = self.reach(size) else {
            image.into_iter().for_each(|Image { mut to, border, .. }| to.fill(border));
            labels.into_iter().for_each(|Labels { mut to, .. }| to.fill(border));
            return Ok(());
        };
        let voxels =
            image.as_ref().map(|i| ImageSource::new(i.from, (i.order, i.border), &region, plane)).transpose()?;
        let maps = labels.as_ref().map(|labels| LabelSource::new(labels.from, border, plane)).transpose()?;
        let two = voxels.as_ref().is_some_and(ImageSource::is_spline);
        let grids = (voxels.as_ref().map(|voxels| &voxels.grid), maps.as_ref().map(|maps| &maps.grid));
        let grids = (grids.0.or(grids.1), grids.1.filter(|_| two));
        let blocks = (self.rows(image.map(|image| image.to)), self.rows(labels.map(|labels| labels.to)));
        self.by_blocks(blocks, |scratch, first, (mut image, mut labels)| {
            self.locate(size, grids, first..first + image.len_of(Axis(1)), scratch)?;
            let Scratch { coordinates, ballot, .. } = scratch;
            for (channel, mut out) in image.outer_iter_mut().enumerate() {
                voxels.iter().for_each(|voxels| voxels.sample(channel, coordinates.view(), slice_of(&mut out)));
            }
            let coordinates = if two { coordinates.other_view() } else { coordinates.view() };
            for (channel, mut out) in labels.outer_iter_mut().enumerate() {
                maps.iter().for_each(|maps| maps.sample(channel, coordinates, ballot, slice_of(&mut out)));
            }
            Ok(())
        })
    }

    fn check_both<L>(&self, image: Option<&Image<'_>>, labels: Option<&Labels<'_, L>>) -> Result<[usize; 3]> {
        let image = image.map(|image| self.check("image", image.from.shape(), image.to.view())).transpose()?;
        let labels = labels.map(|labels| self.check("labels", labels.from.shape(), labels.to.view())).transpose()?;
        match (image, labels) {
            (Some(image), Some(labels)) if image != labels => {
                Err(KernelError::shape("labels", format!("have the image's size {image:?}"), labels))
            }
            _ => Ok(image.or(labels).unwrap_or([1; 3])),
        }
    }

    fn check<T>(&self, name: &'static str, input: &[usize], out: ArrayView4<'_, T>) -> Result<[usize; 3]> {
        check_axes(name, &input[1..])?;
        if out.shape() != [input[0], self.shape[0], self.shape[1], self.shape[2]] || !out.is_standard_layout() {
            let rule =
                format!("be contiguous, with {} and the warp's shape {:?}", counted(input[0], "channel"), self.shape);
            return Err(KernelError::shape("out", rule, out.shape()));
        }
        if self.motion.plane && input[1] != 1 {
            return Err(KernelError::shape(name, "have a single plane", input));
        }
        if voxels(&input[1..]).is_none() {
            return Err(KernelError::shape(name, format!("have fewer than {MOST_VOXELS} voxels a channel"), input));
        }
        Ok([input[1], input[2], input[3]])
    }

    /// The part of an image of `size` that positions can lie in and splines need; `None` if all are outside.
    fn reach(&self, size: [usize; 3]) -> Option<[Range<usize>; 3]> {
        let Motion { matrix, centre, plane, .. } = self.motion;
        let displaced = self.field.as_ref().map_or([0.0; 3], Field::bound);
        let mut region = [0..1, 0..1, 0..1];
        for axis in usize::from(plane)..3 {
            let from =
                |other: usize| ((self.shape[other] - 1) as f64 / 2.0 + displaced[other]) * matrix[axis][other].abs();
            let reach: f64 = (usize::from(plane)..3).map(from).sum();
            let (low, high) = (centre[axis] - reach, centre[axis] + reach);
            if high < 0.0 || low > (size[axis] - 1) as f64 {
                return None;
            }
            // Conversions saturate: 0 below, and the image's end above.
            let first = (low as usize).saturating_sub(MARGIN);
            region[axis] = first..(high as usize).saturating_add(MARGIN).min(size[axis]);
        }
        Some(region)
    }

    /// An output as rows of voxels, (c, z y, x); one without channels, where there is none.
    fn rows<'a, T>(&self, out: Option<ArrayViewMut4<'a, T>>) -> ArrayViewMut3<'a, T> {
        let [z, y, x] = self.shape;
        let rows = match out {
            Some(out) => {
                let channels = out.len_of(Axis(0));
                out.into_shape_with_order((channels, z * y, x))
            }
            None => ArrayViewMut3::from_shape((0, z * y, x), &mut []),
        };
        rows.expect("outputs are contiguous")
    }

    /// Has `work` fill some rows at a time of both outputs.
    fn by_blocks<L: Send + Sync>(
        &self,
        (mut image, mut labels): (ArrayViewMut3<'_, f32>, ArrayViewMut3<'_, L>),
        work: impl Fn(&mut Scratch, usize, (ArrayViewMut3<'_, f32>, ArrayViewMut3<'_, L>)) -> Result<()> + Sync,
    ) -> Result<()> {
        let rows = (BLOCK / self.shape[2]).max(1);
        let labels = labels.axis_chunks_iter_mut(Axis(1), rows).into_par_iter();
        let blocks = image.axis_chunks_iter_mut(Axis(1), rows).into_par_iter().zip(labels).enumerate();
        blocks.try_for_each_init(Scratch::default, |scratch, (block, parts)| work(scratch, block * rows, parts))
    }

    /// Locates what some rows of the output read.
    fn locate(
        &self,
        size: [usize; 3],
        grids: (Option<&Grid>, Option<&Grid>),
        rows: Range<usize>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let (Some(grid), width) = (grids.0, self.shape[2]) else { return Ok(()) };
        let Scratch { displaced, displacements, coordinates, .. } = scratch;
        coordinates.resize(rows.len() * width)?;
        let half = self.shape.map(|length| (length - 1) as f64 / 2.0);
        let matrix = self.motion.matrix;
        for (place, row) in rows.enumerate() {
            let (z, y) = (row / self.shape[1], row % self.shape[1]);
            let offset = [z as f64 - half[0], y as f64 - half[1], -half[2]];
            let start = |axis: usize| {
                self.motion.centre[axis] + (0..3).map(|other| matrix[axis][other] * offset[other]).sum::<f64>()
            };
            if let Some(field) = &self.field {
                field.row(z, y, displaced, displacements)?;
            }
            let displacements = self.field.as_ref().map(|_| displacements.each_ref().map(|row| &row[..]));
            let turn = matrix.map(|row| row.map(|value| value as f32));
            let line = Line { start: [0, 1, 2].map(start), step: matrix.map(|row| row[2]), turn, displacements };
            coordinates.locate(size, (grid, grids.1), &line, place * width..(place + 1) * width);
        }
        Ok(())
    }
}

/// The values of contiguous rows.
fn slice_of<'a, T>(rows: &'a mut ArrayViewMut2<'_, T>) -> &'a mut [T] {
    rows.as_slice_mut().expect("rows of one channel lie together")
}
