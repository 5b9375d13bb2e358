//! From output voxels to the input's voxels around them and the fractions between these.

use std::ops::Range;

use multiversion::multiversion;

use crate::error::Result;
use crate::memory;

/// The offset that stands for positions outside the image.
pub const OUTSIDE: u32 = u32::MAX;

/// 2^52, from which on floating-point numbers are whole and follow one another bit by bit.
const WHOLE: f64 = 4_503_599_627_370_496.0;

/// Voxels of mirrored coefficients before an image's first and behind its last one: the taps that reach over its edges.
pub const BEFORE: usize = 1;
/// See [`BEFORE`].
pub const BEHIND: usize = 2;

/// Numbers of 32 bits in the widest register.
const REGISTER: usize = 16;

/// The shape of a region with mirrored coefficients around it; rows are as long as whole registers.
pub fn around(region: &[Range<usize>; 3], plane: bool) -> [usize; 3] {
    let [z, y, x] = region.clone().map(|part| part.len() + BEFORE + BEHIND);
    [if plane { region[0].len() } else { z }, y, x.next_multiple_of(REGISTER)]
}

/// How an image, or the part of it that is in memory, is read.
#[derive(Debug, Clone)]
pub struct Grid {
    /// From a voxel to the next along each axis; 0 along an axis of a single voxel.
    hops: [u32; 3],
    /// Whether z has a single plane that nothing is interpolated along.
    pub plane: bool,
    first: u32, // what is subtracted from the offset of the voxel below a position to get that of its first tap
}

impl Grid {
    /// Two taps an axis, from the whole image.
    pub fn linear(size: [usize; 3], plane: bool) -> Self {
        let hops = [size[1] * size[2], size[2], 1];
        let hops = std::array::from_fn(|axis| if size[axis] == 1 { 0 } else { hops[axis] as u32 });
        Self { hops, plane, first: 0 }
    }

    /// Four taps an axis, from the coefficients of a `region` of the image; a plane has a single tap along z.
    pub fn cubic(region: &[Range<usize>; 3], plane: bool) -> Self {
        let [_, rows, width] = around(region, plane);
        let hops = [rows * width, width, 1].map(|hop| hop as u32);
        let first =
            (0..3).fold(0_u32, |sum, axis| sum.wrapping_add((region[axis].start as u32).wrapping_mul(hops[axis])));
        Self { hops, plane, first }
    }

    /// From a voxel to the next along an axis; what an offset is added to without a thought of its size.
    #[inline(always)]
    pub const fn hop(&self, axis: usize) -> usize {
        self.hops[axis] as usize
    }

    /// Offset of the first tap at the voxel below a position.
    #[inline(always)]
    const fn offset(&self, [z, y, x]: [u32; 3]) -> u32 {
        let (z, y, x) = (z.wrapping_mul(self.hops[0]), y.wrapping_mul(self.hops[1]), x.wrapping_mul(self.hops[2]));
        z.wrapping_add(y).wrapping_add(x).wrapping_sub(self.first)
    }
}

/// Where a row of output voxels reads: `start` and a `step` along x, each z, y, x; and displacements, turned by `turn`.
pub struct Line<'a> {
    /// Position of the first voxel.
    pub start: [f64; 3],
    /// From voxel to voxel.
    pub step: [f64; 3],
    /// What displacements are multiplied by, one row an axis of the position.
    pub turn: [[f32; 3]; 3],
    /// Along z, y and x; or none.
    pub displacements: Option<[&'a [f32]; 3]>,
}

/// CoordinateBuffers of a block of output rows.
#[derive(Debug, Default)]
pub struct CoordinateBuffers {
    offset: Vec<u32>,        // of the first tap in memory, or OUTSIDE
    other: Vec<u32>,         // the same in the memory of the second grid
    fraction: [Vec<f32>; 3], // between the voxel below and the one above, z, y, x
}

/// CoordinateBuffers as samplers read them, slices of one length.
#[derive(Debug, Clone, Copy)]
pub struct Coordinates<'a> {
    /// Of the first tap in memory, or [`OUTSIDE`].
    pub offset: &'a [u32],
    /// Between the voxel below and the one above, z, y, x.
    pub fraction: [&'a [f32]; 3],
}

impl Coordinates<'_> {
    /// Some of the coordinates.
    #[inline(always)]
    pub fn part(&self, first: usize, count: usize) -> Self {
        let [z, y, x] = self.fraction;
        let (z, y, x) = (&z[first..][..count], &y[first..][..count], &x[first..][..count]);
        Self { offset: &self.offset[first..][..count], fraction: [z, y, x] }
    }
}

impl CoordinateBuffers {
    /// Makes room for `count` coordinates; what they were before is left.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn resize(&mut self, count: usize) -> Result<()> {
        const PURPOSE: &str = "the coordinates of voxels";
        memory::resize(&mut self.offset, count, 0, PURPOSE)?;
        memory::resize(&mut self.other, count, 0, PURPOSE)?;
        self.fraction.iter_mut().try_for_each(|fraction| memory::resize(fraction, count, 0.0, PURPOSE))
    }

    /// CoordinateBuffers of the first grid.
    pub fn view(&self) -> Coordinates<'_> {
        Coordinates { offset: &self.offset, fraction: self.fraction.each_ref().map(|fraction| &fraction[..]) }
    }

    /// CoordinateBuffers of the second grid.
    pub fn other_view(&self) -> Coordinates<'_> {
        Coordinates { offset: &self.other, ..self.view() }
    }

    /// Locates the voxels of a line, from place `at` on, in an image of `size` that lies in memory as one grid, or two.
    pub fn locate(&mut self, size: [usize; 3], grids: (&Grid, Option<&Grid>), line: &Line<'_>, at: Range<usize>) {
        let fraction = self.fraction.each_mut().map(|fraction| &mut fraction[at.clone()]);
        let (offset, other) = (&mut self.offset[at.clone()], &mut self.other[at]);
        match (grids.1, line.displacements) {
            (None, None) => locate_row::<false, false>(size, (grids.0, grids.0), line, (offset, other), fraction),
            (None, Some(_)) => locate_row::<false, true>(size, (grids.0, grids.0), line, (offset, other), fraction),
            (Some(grid), None) => locate_row::<true, false>(size, (grids.0, grid), line, (offset, other), fraction),
            (Some(grid), Some(_)) => locate_row::<true, true>(size, (grids.0, grid), line, (offset, other), fraction),
        }
    }
}

#[multiversion(targets = "simd")]
fn locate_row<const TWO: bool, const MOVED: bool>(
    size: [usize; 3],
    (one, two): (&Grid, &Grid),
    line: &Line<'_>,
    (offset, other): (&mut [u32], &mut [u32]),
    [z, y, x]: [&mut [f32]; 3],
) {
    let count = offset.len();
    let (other, z, y, x) = (&mut other[..count], &mut z[..count], &mut y[..count], &mut x[..count]);
    let [dz, dy, dx] = line.displacements.unwrap_or([&[]; 3]);
    let (dz, dy, dx) = if MOVED { (&dz[..count], &dy[..count], &dx[..count]) } else { (dz, dy, dx) };
    let (first, second, third) = (Axis::new(size, line, 0), Axis::new(size, line, 1), Axis::new(size, line, 2));
    for i in 0..count {
        let moved = if MOVED { [dz[i], dy[i], dx[i]] } else { [0.0; 3] };
        let (z_in, z_below, z_above) = first.locate::<MOVED>(i, moved);
        let (y_in, y_below, y_above) = second.locate::<MOVED>(i, moved);
        let (x_in, x_below, x_above) = third.locate::<MOVED>(i, moved);
        (z[i], y[i], x[i]) = (z_above, y_above, x_above);
        let inside = z_in & y_in & x_in;
        let below = [z_below, y_below, x_below];
        offset[i] = if inside { one.offset(below) } else { OUTSIDE };
        if TWO {
            other[i] = if inside { two.offset(below) } else { OUTSIDE };
        }
    }
}

/// One axis of a line.
struct Axis {
    start: f64,
    step: f64,
    turn: [f32; 3],
    last: f64, // position inside the image
    most: f64, // highest voxel below a position
}

impl Axis {
    const fn new(size: [usize; 3], line: &Line<'_>, axis: usize) -> Self {
        let (start, step, turn) = (line.start[axis], line.step[axis], line.turn[axis]);
        Self { start, step, turn, last: (size[axis] - 1) as f64, most: size[axis].saturating_sub(2) as f64 }
    }

    /// Whether place `index` is inside, the voxel below it, and how far it is above that.
    #[inline(always)]
    fn locate<const MOVED: bool>(&self, index: usize, moved: [f32; 3]) -> (bool, u32, f32) {
        let mut position = self.start + index as f64 * self.step;
        if MOVED {
            position += f64::from(self.turn[0] * moved[0] + self.turn[1] * moved[1] + self.turn[2] * moved[2]);
        }
        let inside = (position >= 0.0) & (position <= self.last);
        // Positions outside are clamped for arithmetic's sake only.
        let clamped = if inside { position } else { 0.0 };
        let floor = clamped.floor().min(self.most);
        // A conversion would saturate, which no wide register does; whole numbers are the last bits of a sum with 2^52.
        (inside, (floor + WHOLE).to_bits() as u32, (clamped - floor) as f32)
    }
}
