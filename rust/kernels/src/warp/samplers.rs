//! Images at places: nearest, linear, cubic spline. One call samples one row of one channel.

use multiversion::multiversion;
use wide::f32x4;

use super::coefficients::mirrored;
use super::places::{EDGE, Grid, OUTSIDE, Places, Positions};

/// The nearest voxel; half-way positions take the later one.
pub fn nearest_row(grid: &Grid, places: &Places, image: &[f32], border: f32, out: &mut [f32]) {
    for (x, (&offset, value)) in places.offset.iter().zip(out).enumerate() {
        *value = if offset == OUTSIDE { border } else { image[nearest(grid, places, x)] };
    }
}

/// Offset of the voxel nearest to the `x`th place.
#[inline(always)]
pub fn nearest(grid: &Grid, places: &Places, x: usize) -> usize {
    let step = |axis: usize| if places.fraction[axis][x] >= 0.5 { grid.hops[axis] } else { 0 };
    places.offset[x] as usize + step(0) + step(1) + step(2)
}

/// Linear interpolation.
#[multiversion(targets = "simd")]
pub fn linear_row(grid: &Grid, places: &Places, image: &[f32], border: f32, out: &mut [f32]) {
    let [z, y, x] = places.fractions(out.len());
    for (i, (&offset, value)) in places.offset.iter().zip(out).enumerate() {
        *value = match offset {
            OUTSIDE => border,
            _ if grid.plane => linear_in_plane(grid, image, offset as usize, [y[i], x[i]]),
            _ => {
                let near = linear_in_plane(grid, image, offset as usize, [y[i], x[i]]);
                let far = linear_in_plane(grid, image, offset as usize + grid.hops[0], [y[i], x[i]]);
                between(near, far, z[i])
            }
        };
    }
}

#[inline(always)]
fn linear_in_plane(grid: &Grid, image: &[f32], at: usize, [y, x]: [f32; 2]) -> f32 {
    let [_, hop_y, hop_x] = grid.hops;
    let upper = between(image[at], image[at + hop_x], x);
    let lower = between(image[at + hop_y], image[at + hop_y + hop_x], x);
    between(upper, lower, y)
}

#[inline(always)]
fn between(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// The cubic spline of some coefficients, each over 6 an axis.
#[multiversion(targets = "simd")]
pub fn cubic_row(grid: &Grid, positions: &Positions, places: &Places, spline: &[f32], border: f32, out: &mut [f32]) {
    let [z, y, x] = places.fractions(out.len());
    for (i, (&offset, value)) in places.offset.iter().zip(out).enumerate() {
        *value = match offset {
            OUTSIDE => border,
            EDGE => cubic_at_edge(grid, [0, 1, 2].map(|axis| positions.0[axis][i]), spline),
            _ if grid.plane => dot(lines(grid, spline, offset as usize, &cubic(y[i])), cubic(x[i])),
            _ => dot(planes(grid, spline, offset as usize, &cubic(z[i]), &cubic(y[i])), cubic(x[i])),
        };
    }
}

/// Six times the cubic B-spline at distances 1 + t, t, 1 - t, 2 - t.
#[inline(always)]
fn cubic(t: f32) -> [f32; 4] {
    let s = 1.0 - t;
    [s * s * s, 4.0 + t * t * (3.0 * t - 6.0), 4.0 + s * s * (3.0 * s - 6.0), t * t * t]
}

#[inline(always)]
fn dot(a: f32x4, b: [f32; 4]) -> f32 {
    let [p, q, r, s] = (a * f32x4::new(b)).to_array();
    (p + q) + (r + s)
}

/// Sums over z and y of the four taps along x.
#[inline(always)]
fn planes(grid: &Grid, spline: &[f32], at: usize, z: &[f32; 4], y: &[f32; 4]) -> f32x4 {
    let plane = |k: usize| lines(grid, spline, at + k * grid.hops[0], y) * f32x4::splat(z[k]);
    (plane(0) + plane(1)) + (plane(2) + plane(3))
}

#[inline(always)]
fn lines(grid: &Grid, spline: &[f32], at: usize, y: &[f32; 4]) -> f32x4 {
    let line = |k: usize| four(spline, at + k * grid.hops[1]) * f32x4::splat(y[k]);
    (line(0) + line(1)) + (line(2) + line(3))
}

#[inline(always)]
fn four(spline: &[f32], at: usize) -> f32x4 {
    f32x4::new(spline.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default())
}

/// As above where taps reach over the image's edge and are mirrored.
#[cold]
fn cubic_at_edge(grid: &Grid, position: [f64; 3], spline: &[f32]) -> f32 {
    let axis = |axis: usize| {
        let below = position[axis].floor();
        let tap = |k: i64| (mirrored(below as i64 - 1 + k, grid.size[axis]) - grid.origin[axis]) * grid.hops[axis];
        ([0, 1, 2, 3].map(tap), cubic((position[axis] - below) as f32))
    };
    let ((z, wz), (y, wy), (x, wx)) = (axis(0), axis(1), axis(2));
    let (z, wz) = if grid.plane { ([0; 4], [1.0, 0.0, 0.0, 0.0]) } else { (z, wz) };
    let mut sum = 0.0;
    for (z, wz) in z.into_iter().zip(wz) {
        for (y, wy) in y.into_iter().zip(wy) {
            sum += wz * wy * dot(f32x4::new(x.map(|x| spline[z + y + x])), wx);
        }
    }
    sum
}
