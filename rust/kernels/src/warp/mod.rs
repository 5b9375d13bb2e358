//! Rotation, scaling and elastic deformation, sampled on the output patch only.
//!
//! An output voxel `o` reads the input at `centre + matrix · (o - (shape - 1) / 2 + displacement(o))`. Reference:
//! batchgenerators 0.25 `augment_spatial` with `border_mode="constant"`, that is `scipy.ndimage.map_coordinates` with
//! `mode="constant"` for images (positions beyond the outermost voxels' centres take the border value; the spline's
//! coefficients are those of the mirrored image) and one linear interpolation a label for label maps.

mod coefficients;
mod elastic;
mod places;
mod samplers;
mod votes;

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView4, ArrayViewMut3, ArrayViewMut4, Axis};

use crate::error::{KernelError, Result};
use crate::memory;
use crate::taps::{Order, check_axes};
use coefficients::{MARGIN, coefficients};
use elastic::Field;
use places::{Grid, Places, Positions};
use votes::Ballot;

pub use elastic::{Elastic, noise_row};

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

/// Where output voxels read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Motion {
    /// Input voxels an output voxel and axis, z, y, x; in a plane, row and column z are not looked at.
    pub matrix: [[f64; 3]; 3],
    /// The input position of the output's centre.
    pub centre: [f64; 3],
    /// Displacements, before the matrix is applied.
    pub elastic: Option<Elastic>,
    /// Whether everything happens within a plane: input and output have one along z.
    pub plane: bool,
}

impl Motion {
    /// A motion of 2 or 3 axes, and the shape of its patches with all three.
    ///
    /// # Errors
    /// Parameters of different numbers of axes.
    pub fn new(
        shape: &[usize],
        matrix: &[Vec<f64>],
        centre: &[f64],
        elastic: Option<Elastic>,
    ) -> Result<(Self, [usize; 3])> {
        let axes = shape.len();
        if !(2..=3).contains(&axes) {
            return Err(KernelError::argument("shape", "have 2 or 3 axes", shape));
        }
        if matrix.len() != axes || matrix.iter().any(|row| row.len() != axes) {
            return Err(KernelError::argument("matrix", format!("have {axes} rows of {axes} numbers"), matrix));
        }
        if centre.len() != axes {
            return Err(KernelError::argument("centre", format!("have {axes} numbers"), centre));
        }
        let first = 3 - axes;
        let mut motion = Self { matrix: [[0.0; 3]; 3], centre: [0.0; 3], elastic, plane: axes == 2 };
        let mut full = [1; 3];
        full[first..].copy_from_slice(shape);
        motion.centre[first..].copy_from_slice(centre);
        motion.matrix[first..].iter_mut().zip(matrix).for_each(|(to, from)| to[first..].copy_from_slice(from));
        Ok((motion, full))
    }
}

/// A [`Motion`] with its displacements, for one shape of patches.
pub struct Warp {
    motion: Motion,
    shape: [usize; 3],
    field: Option<Field>,
}

/// A value that labels take.
pub trait Label: Copy + PartialOrd + Send + Sync {
    /// The label of this number, where the type has one.
    fn from_number(number: i64) -> Option<Self>;
    /// Bits that tell labels apart.
    fn key(self) -> u32;
    /// The label of a key.
    fn from_key(key: u32) -> Self;
}

macro_rules! label {
    ($($type:ty),+) => {
        $(impl Label for $type {
            fn from_number(number: i64) -> Option<Self> {
                Self::try_from(number).ok()
            }
            fn key(self) -> u32 {
                self as u32
            }
            fn from_key(key: u32) -> Self {
                key as Self
            }
        })+
    };
}

label!(u8, i8, u16, i16, u32, i32);

/// Label maps as batchgenerators has them.
impl Label for f32 {
    fn from_number(number: i64) -> Option<Self> {
        Some(number as Self)
    }
    fn key(self) -> u32 {
        // -0.0 is 0.0.
        (self + 0.0).to_bits()
    }
    fn from_key(key: u32) -> Self {
        Self::from_bits(key)
    }
}

/// What a task keeps between rows.
#[derive(Default)]
struct Scratch {
    displacements: [Vec<f32>; 3],
    room: Vec<f32>,
    positions: Positions,
    places: Places,
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
            return Err(KernelError::argument("shape", rule, shape));
        }
        if motion.plane && shape[0] != 1 {
            return Err(KernelError::argument("shape", "have a single plane", shape));
        }
        let bounded = |values: &[f64], limit: f64| values.iter().all(|value| value.abs() <= limit);
        if !bounded(motion.matrix.as_flattened(), 1e6) {
            return Err(KernelError::argument("matrix", "hold finite numbers of at most a million", motion.matrix));
        }
        if !bounded(&motion.centre, 1e9) {
            return Err(KernelError::argument("centre", "hold finite numbers of at most 1e9 voxels", motion.centre));
        }
        let field = motion.elastic.map(|elastic| Field::new(elastic, shape, motion.plane)).transpose()?;
        Ok(Self { motion, shape, field })
    }

    /// Samples every channel of `image` (c, z, y, x) into `out` (c, *shape). Positions outside take `border`.
    ///
    /// # Errors
    /// Numbers of channels that differ, an output of another shape or without contiguous rows, an image without voxels
    /// or with 2^31 of them, more than one plane where the motion is in a plane.
    pub fn image(
        &self,
        image: ArrayView4<'_, f32>,
        mut out: ArrayViewMut4<'_, f32>,
        order: Order,
        border: f32,
    ) -> Result<()> {
        let size = self.check("image", image.shape(), out.view())?;
        if order == Order::Cubic {
            let Some(region) = self.reach(size) else {
                out.fill(border);
                return Ok(());
            };
            let plane = self.motion.plane;
            let splines = image.outer_iter().map(|channel| coefficients(channel, &region, plane));
            let splines: Vec<Array3<f32>> = splines.collect::<Result<_>>()?;
            let splines: Vec<&[f32]> = splines.iter().filter_map(|spline| spline.as_slice()).collect();
            let grid = Grid::cubic(size, &region, plane);
            self.fill(&grid, out, |scratch, channel, row| {
                samplers::cubic_row(&grid, &scratch.positions, &scratch.places, splines[channel], border, row);
            });
            return Ok(());
        }
        let image = memory::contiguous(image, "a contiguous copy of the image")?;
        let channels: Vec<_> = image.outer_iter().collect();
        let channels: Vec<&[f32]> = channels.iter().filter_map(|channel| channel.as_slice()).collect();
        let grid = Grid::linear(size, self.motion.plane);
        let sample = if order == Order::Nearest { samplers::nearest_row } else { samplers::linear_row };
        self.fill(&grid, out, |scratch, channel, row| sample(&grid, &scratch.places, channels[channel], border, row));
        Ok(())
    }

    /// Samples every channel of `labels` (c, z, y, x) into `out` (c, *shape) by vote. Positions outside take `border`.
    ///
    /// # Errors
    /// As [`Warp::image`], or the labels' type has no such border.
    pub fn labels<L: Label>(&self, labels: ArrayView4<'_, L>, out: ArrayViewMut4<'_, L>, border: i64) -> Result<()> {
        let border = L::from_number(border)
            .ok_or_else(|| KernelError::argument("label_border", "be a value of the labels' dtype", border))?;
        let size = self.check("labels", labels.shape(), out.view())?;
        let labels = memory::contiguous(labels, "a contiguous copy of the labels")?;
        let channels: Vec<_> = labels.outer_iter().collect();
        let channels: Vec<&[L]> = channels.iter().filter_map(|channel| channel.as_slice()).collect();
        let grid = Grid::linear(size, self.motion.plane);
        self.fill(&grid, out, |scratch, channel, row| {
            votes::vote_row(&grid, &scratch.places, &mut scratch.ballot, channels[channel], border, row);
        });
        Ok(())
    }

    fn check<T>(&self, name: &'static str, input: &[usize], out: ArrayView4<'_, T>) -> Result<[usize; 3]> {
        check_axes(name, &input[1..])?;
        if out.shape() != [input[0], self.shape[0], self.shape[1], self.shape[2]] || !out.is_standard_layout() {
            let rule = format!("be contiguous, with {} channels and the warp's shape {:?}", input[0], self.shape);
            return Err(KernelError::argument("out", rule, out.shape()));
        }
        if self.motion.plane && input[1] != 1 {
            return Err(KernelError::argument(name, "have a single plane", input));
        }
        if voxels(&input[1..]).is_none() {
            return Err(KernelError::argument(name, format!("have fewer than {MOST_VOXELS} voxels a channel"), input));
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

    /// Has `sample` fill every row of every channel, after locating what it reads.
    fn fill<T: Send + Sync>(
        &self,
        grid: &Grid,
        mut out: ArrayViewMut4<'_, T>,
        sample: impl Fn(&mut Scratch, usize, &mut [T]) + Sync,
    ) {
        let rows = (BLOCK / self.shape[2]).max(1);
        let block = |scratch: &mut Scratch, z: usize, first: usize, mut part: ArrayViewMut3<'_, T>| {
            let count = part.len_of(Axis(1));
            scratch.positions.0.iter_mut().for_each(|row| row.resize(count * self.shape[2], 0.0));
            (0..count).for_each(|y| self.positions(z, first + y, y, scratch));
            scratch.places.locate(grid, &scratch.positions);
            for (channel, rows) in part.outer_iter_mut().enumerate() {
                sample(scratch, channel, rows.into_slice().unwrap_or(&mut []));
            }
        };
        out.axis_iter_mut(Axis(1)).into_par_iter().enumerate().for_each_init(
            Scratch::default,
            |scratch, (z, mut plane)| {
                if plane.len_of(Axis(1)) <= rows {
                    return block(scratch, z, 0, plane);
                }
                let blocks = plane.axis_chunks_iter_mut(Axis(1), rows).into_par_iter().enumerate();
                blocks.for_each_init(Scratch::default, |scratch, (k, part)| block(scratch, z, k * rows, part));
            },
        );
    }

    /// Where the row (z, y) of the output reads; they are those of the `place`th row of the block.
    fn positions(&self, z: usize, y: usize, place: usize, scratch: &mut Scratch) {
        let Motion { matrix, centre, plane, .. } = self.motion;
        let Scratch { displacements, room, positions, .. } = scratch;
        displacements.iter_mut().for_each(|row| row.resize(self.shape[2], 0.0));
        if let Some(field) = &self.field {
            field.row(z, y, room, displacements);
        }
        let half = self.shape.map(|length| (length - 1) as f64 / 2.0);
        let offset = [z as f64 - half[0], y as f64 - half[1], -half[2]];
        for (axis, block) in positions.0.iter_mut().enumerate() {
            let row = &mut block[place * self.shape[2]..][..self.shape[2]];
            if axis >= usize::from(plane) {
                let m = matrix[axis];
                let start = centre[axis] + (0..3).map(|other| m[other] * offset[other]).sum::<f64>();
                places::positions_row(start, m, displacements, row);
            }
        }
    }
}
