//! From positions in the input to voxels and the fractions between them.

use std::ops::Range;

use multiversion::multiversion;

/// Offsets that stand for positions outside the image, and for those whose taps reach over its edge.
pub const OUTSIDE: u32 = u32::MAX;
/// See [`OUTSIDE`].
pub const EDGE: u32 = u32::MAX - 1;

/// 2^52, from which on floating-point numbers are whole and follow one another bit by bit.
const WHOLE: f64 = 4_503_599_627_370_496.0;

/// How an image, or the part of it that is in memory, is read.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Voxels of the image, z, y, x.
    pub size: [usize; 3],
    /// The image voxel that the memory begins with.
    pub origin: [usize; 3],
    /// From a voxel to the next along each axis; 0 along an axis of a single voxel.
    pub hops: [usize; 3],
    /// Whether z has a single plane that nothing is interpolated along.
    pub plane: bool,
    most: [i32; 3],       // highest voxel below a position
    inner: [[i32; 2]; 3], // first and last voxel whose taps are all in memory
    first_tap: [i32; 3],  // voxel that offset 0 stands for
}

impl Grid {
    /// Two taps an axis, from the whole image.
    pub fn linear(size: [usize; 3], plane: bool) -> Self {
        let most = size.map(|n| n.saturating_sub(2) as i32);
        let hops = [size[1] * size[2], size[2], 1];
        let hops = std::array::from_fn(|axis| if size[axis] == 1 { 0 } else { hops[axis] });
        Self { size, origin: [0; 3], hops, plane, most, inner: most.map(|most| [0, most]), first_tap: [0; 3] }
    }

    /// Four taps an axis, from a `region` of the image; a plane has a single one along z.
    pub fn cubic(size: [usize; 3], region: &[Range<usize>; 3], plane: bool) -> Self {
        let origin = [0, 1, 2].map(|axis| region[axis].start);
        let hops = [region[1].len() * region[2].len(), region[2].len(), 1];
        let mut inner = region.clone().map(|part| [part.start as i32 + 1, part.end as i32 - 3]);
        let mut first_tap = origin.map(|origin| origin as i32 + 1);
        if plane {
            (inner[0], first_tap[0]) = ([0, 0], 0);
        }
        Self { size, origin, hops, plane, most: size.map(|n| n as i32 - 1), inner, first_tap }
    }
}

/// Positions of a row of output voxels, z, y, x.
#[derive(Debug, Default)]
pub struct Positions(pub [Vec<f64>; 3]);

/// The same as offsets in memory and fractions.
#[derive(Debug, Default)]
pub struct Places {
    /// Of the first tap; or [`OUTSIDE`] or [`EDGE`].
    pub offset: Vec<u32>,
    /// Between the voxel below and the one above, z, y, x.
    pub fraction: [Vec<f32>; 3],
}

impl Places {
    /// The fractions, as slices of a length that the compiler can see.
    #[inline(always)]
    pub fn fractions(&self, length: usize) -> [&[f32]; 3] {
        [0, 1, 2].map(|axis| &self.fraction[axis][..length])
    }

    /// Locates every position.
    pub fn locate(&mut self, grid: &Grid, positions: &Positions) {
        let length = positions.0[2].len();
        self.offset.clear();
        self.offset.resize(length, 0);
        let Self { offset, fraction } = self;
        for (axis, (fraction, positions)) in fraction.iter_mut().zip(&positions.0).enumerate() {
            fraction.resize(length, 0.0);
            locate_axis(grid, axis, positions, offset, fraction);
        }
    }
}

/// Adds one axis to the offsets. What is outside along one axis stays so.
#[multiversion(targets = "simd")]
fn locate_axis(grid: &Grid, axis: usize, positions: &[f64], offset: &mut [u32], fraction: &mut [f32]) {
    let last = (grid.size[axis] - 1) as f64;
    let ([first, end], most, hop) = (grid.inner[axis], f64::from(grid.most[axis]), grid.hops[axis] as u32);
    let first_tap = grid.first_tap[axis];
    for ((&position, offset), fraction) in positions.iter().zip(offset).zip(fraction) {
        let inside = position >= 0.0 && position <= last;
        // Positions outside are clamped for arithmetic's sake only.
        let clamped = if inside { position } else { 0.0 };
        let floor = clamped.floor().min(most);
        *fraction = (clamped - floor) as f32;
        // A conversion would saturate, which no wide register does; whole numbers are the last bits of a sum with 2^52.
        let below = (floor + WHOLE).to_bits() as i32;
        let whole = below >= first && below <= end;
        let here = ((below - first_tap) as u32).wrapping_mul(hop).wrapping_add(*offset);
        let here = if whole && *offset < EDGE { here } else { EDGE };
        *offset = if inside && *offset != OUTSIDE { here } else { OUTSIDE };
    }
}

/// Positions along one axis: from `start` on, a step of `matrix_row` along x each, and the displacements turned by it.
#[multiversion(targets = "simd")]
pub fn positions_row(start: f64, matrix_row: [f64; 3], displacements: &[Vec<f32>; 3], out: &mut [f64]) {
    let m = matrix_row.map(|value| value as f32);
    let [dz, dy, dx] = displacements;
    for (x, (((out, dz), dy), dx)) in out.iter_mut().zip(dz).zip(dy).zip(dx).enumerate() {
        *out = start + x as f64 * matrix_row[2] + f64::from(m[0] * dz + m[1] * dy + m[2] * dx);
    }
}
