//! Images and label maps as they lie in memory to be sampled.

use std::ops::Range;

use ndarray::{Array3, ArrayView4, Axis, CowArray, Ix4};

use super::coordinates::{Coordinates, Grid};
use super::prefilter::coefficients;
use super::samplers;
use super::votes::{Ballot, vote};
use crate::coefficients::Order;
use crate::error::Result;
use crate::label::Keyed;
use crate::memory;

/// An image, and how it is sampled.
pub struct ImageSource<'a> {
    /// How a channel lies in memory.
    pub grid: Grid,
    memory: Memory<'a>,
    order: Order,
    border: f32,
}

/// What samplers read.
enum Memory<'a> {
    Voxels(CowArray<'a, f32, Ix4>),
    Splines(Vec<Array3<f32>>), // one a channel
}

impl<'a> ImageSource<'a> {
    /// Brings an image into order; under order 3 only a `region` of it is at hand then.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn new(
        image: ArrayView4<'a, f32>,
        (order, border): (Order, f32),
        region: &[Range<usize>; 3],
        plane: bool,
    ) -> Result<Self> {
        if order == Order::Cubic {
            let splines = image.outer_iter().map(|channel| coefficients(channel, region, plane));
            let splines = memory::collected_results(splines, "the spline coefficients of an image")?;
            let memory = Memory::Splines(splines);
            return Ok(Self { grid: Grid::cubic(region, plane), memory, order, border });
        }
        let size = [1, 2, 3].map(|axis| image.len_of(Axis(axis)));
        let memory = Memory::Voxels(memory::contiguous(image, "a contiguous copy of the image")?);
        Ok(Self { grid: Grid::linear(size, plane), memory, order, border })
    }

    /// Whether its coordinates are others than those of voxels.
    pub fn is_spline(&self) -> bool {
        self.order == Order::Cubic
    }

    /// Samples a channel.
    pub fn sample(&self, channel: usize, coordinates: Coordinates<'_>, out: &mut [f32]) {
        let values = match &self.memory {
            Memory::Voxels(voxels) => channel_of(voxels, channel),
            Memory::Splines(splines) => splines[channel].as_slice().expect("new arrays are contiguous"),
        };
        match self.order {
            Order::Nearest => samplers::nearest(&self.grid, coordinates, values, self.border, out),
            Order::Linear => samplers::linear(&self.grid, coordinates, values, self.border, out),
            Order::Cubic => samplers::cubic(&self.grid, coordinates, values, self.border, out),
        }
    }
}

/// Label maps, and how they are sampled.
pub struct LabelSource<'a, L> {
    /// How a channel lies in memory.
    pub grid: Grid,
    voxels: CowArray<'a, L, Ix4>,
    border: L,
}

impl<'a, L: Keyed> LabelSource<'a, L> {
    /// Brings label maps into order.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn new(labels: ArrayView4<'a, L>, border: L, plane: bool) -> Result<Self> {
        let size = [1, 2, 3].map(|axis| labels.len_of(Axis(axis)));
        let voxels = memory::contiguous(labels, "a contiguous copy of the labels")?;
        Ok(Self { grid: Grid::linear(size, plane), voxels, border })
    }

    /// Samples a channel.
    pub fn sample(&self, channel: usize, coordinates: Coordinates<'_>, ballot: &mut Ballot, out: &mut [L]) {
        vote(&self.grid, coordinates, ballot, channel_of(&self.voxels, channel), self.border, out);
    }
}

fn channel_of<'a, T>(voxels: &'a CowArray<'_, T, Ix4>, channel: usize) -> &'a [T] {
    let all = voxels.as_slice().expect("the array was made contiguous");
    let count = all.len() / voxels.len_of(Axis(0));
    &all[channel * count..][..count]
}
