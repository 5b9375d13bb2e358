//! From a network's output on its own grid to labels on the image's: resampled linearly and decided voxel by voxel, so
//! that all classes never lie at the image's resolution in memory.

use half::f16;
use ndarray::parallel::prelude::*;
use ndarray::{ArrayView1, ArrayView4, ArrayViewMut3, ArrayViewMut4, Axis};

use crate::error::{KernelError, Result};
use crate::labels::Cell;
use crate::taps::check_axes;

/// A number that logits or probabilities are stored as; computed with in float32.
pub trait Real: Copy + Send + Sync {
    /// To float32.
    fn to_f32(self) -> f32;
    /// From float32, rounded to nearest.
    fn from_f32(value: f32) -> Self;
}

impl Real for f32 {
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl Real for f16 {
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
}

/// An unsigned integer that holds labels.
pub trait Label: Copy + Send + Sync {
    /// From an index that fits.
    fn from_index(index: u16) -> Self;
}

impl Label for u8 {
    fn from_index(index: u16) -> Self {
        index as Self
    }
}

impl Label for u16 {
    fn from_index(index: u16) -> Self {
        index
    }
}

/// Most classes that a label can name.
pub const MOST_CLASSES: usize = 1 << 16;

/// The part of one axis that is at hand, so that a volume can be decided slab by slab: the same voxels from the same
/// neighbours as if all of it were there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slab {
    /// 0, 1 or 2, for z, y, x.
    pub axis: usize,
    /// The first plane of the logits at hand, of how many in all.
    pub logits: (usize, usize),
    /// The first plane of the result at hand, of how many in all.
    pub out: (usize, usize),
}

/// The class with the greatest logit at every voxel of `out` (z', y', x'), from `logits` (c, z, y, x) resampled linearly.
///
/// Equal logits: the lowest class. NaN is never the greatest. With `lowres_axis` that axis takes the nearest slice, with
/// `slab` both arrays are parts of longer ones.
///
/// # Errors
/// No classes or more than 65 536, an axis without voxels, an axis that is not one of the three, a slab whose result
/// lies beyond the whole or needs planes that are not at hand.
pub fn logits_to_labels<R: Real, L: Label>(
    logits: ArrayView4<'_, R>,
    mut out: ArrayViewMut3<'_, L>,
    lowres_axis: Option<usize>,
    slab: Option<Slab>,
) -> Result<()> {
    let grid = Grid::new("logits", logits.shape(), out.shape(), lowres_axis, slab)?;
    rows(&mut out, &grid, |line, mut out: ndarray::ArrayViewMut1<'_, L>, z, y| {
        line.best.fill(f32::NEG_INFINITY);
        out.fill(L::from_index(0));
        for class in 0..logits.len_of(Axis(0)) {
            line.load(&logits, class, [z, y]);
            for ((out, best), value) in out.iter_mut().zip(&mut line.best).zip(line.source.along(&grid.axes[2])) {
                if value > *best {
                    *best = value;
                    *out = L::from_index(class as u16);
                }
            }
        }
    });
    Ok(())
}

/// Regions painted in order: every voxel of `out` (z', y', x') gets `paint[r]` of the last region r whose resampled
/// logit is at least 0, that is whose sigmoid is at least 1/2; 0 where there is none.
///
/// # Errors
/// As [`logits_to_labels`], and `paint` not one value a region.
pub fn logits_to_regions<R: Real, L: Label>(
    logits: ArrayView4<'_, R>,
    mut out: ArrayViewMut3<'_, L>,
    paint: &[u16],
    lowres_axis: Option<usize>,
    slab: Option<Slab>,
) -> Result<()> {
    let grid = Grid::new("logits", logits.shape(), out.shape(), lowres_axis, slab)?;
    if paint.len() != logits.len_of(Axis(0)) {
        return Err(KernelError::argument("paint", format!("hold {} values, one a region", logits.shape()[0]), paint));
    }
    rows(&mut out, &grid, |line, mut out: ndarray::ArrayViewMut1<'_, L>, z, y| {
        out.fill(L::from_index(0));
        for (class, &label) in paint.iter().enumerate() {
            line.load(&logits, class, [z, y]);
            for (out, value) in out.iter_mut().zip(line.source.along(&grid.axes[2])) {
                if value >= 0.0 {
                    *out = L::from_index(label);
                }
            }
        }
    });
    Ok(())
}

/// Resamples `probabilities` (c, z, y, x) linearly to the grid of `out` (c, z', y', x'), for saving.
///
/// # Errors
/// As [`logits_to_labels`], and different numbers of classes.
pub fn resample_probabilities<R: Real, S: Real>(
    probabilities: ArrayView4<'_, R>,
    mut out: ArrayViewMut4<'_, S>,
    lowres_axis: Option<usize>,
    slab: Option<Slab>,
) -> Result<()> {
    let grid = Grid::new("probabilities", probabilities.shape(), &out.shape()[1..], lowres_axis, slab)?;
    if probabilities.len_of(Axis(0)) != out.len_of(Axis(0)) {
        let rule = format!("have {} classes", out.shape()[0]);
        return Err(KernelError::argument("probabilities", rule, probabilities.shape()));
    }
    for (class, mut out) in out.outer_iter_mut().enumerate() {
        rows(&mut out.view_mut(), &grid, |line, mut out: ndarray::ArrayViewMut1<'_, S>, z, y| {
            line.load(&probabilities, class, [z, y]);
            for (out, value) in out.iter_mut().zip(line.source.along(&grid.axes[2])) {
                *out = S::from_f32(value);
            }
        });
    }
    Ok(())
}

struct Grid {
    axes: [Vec<Between>; 3],
    width: [usize; 2],
}

/// Two voxels and how far from the first to the second.
#[derive(Clone, Copy)]
struct Between {
    at: [usize; 2],
    t: f32,
}

impl Grid {
    fn new(
        name: &'static str,
        from: &[usize],
        to: &[usize],
        lowres_axis: Option<usize>,
        slab: Option<Slab>,
    ) -> Result<Self> {
        check_axes(name, &from[1..])?;
        check_axes("shape", to)?;
        if !(1..=MOST_CLASSES).contains(&from[0]) {
            return Err(KernelError::argument(name, format!("have between 1 and {MOST_CLASSES} classes"), from));
        }
        if lowres_axis.is_some_and(|axis| axis > 2) {
            return Err(KernelError::argument("lowres_axis", "be one of the volume's axes", lowres_axis));
        }
        if slab.is_some_and(|slab| slab.axis > 2) {
            return Err(KernelError::argument("slab", "lie along one of the volume's axes", slab));
        }
        let along = |axis: usize| {
            let (n_in, n_out) = (from[axis + 1], to[axis]);
            let part = slab.filter(|slab| slab.axis == axis);
            let part = part.unwrap_or(Slab { axis, logits: (0, n_in), out: (0, n_out) });
            between(&part, (n_in, n_out), lowres_axis == Some(axis))
        };
        Ok(Self { axes: [along(0)?, along(1)?, along(2)?], width: [from[3], to[2]] })
    }
}

/// What each of the `n_out` planes of the result at hand lies between, among the `n_in` planes of logits at hand.
fn between(slab: &Slab, (n_in, n_out): (usize, usize), take_nearest: bool) -> Result<Vec<Between>> {
    let (start, planes) = slab.logits;
    let (out_start, out_planes) = slab.out;
    let ends = [(start, n_in, planes), (out_start, n_out, out_planes)];
    if ends.iter().any(|&(start, count, all)| start.checked_add(count).is_none_or(|stop| stop > all)) {
        let rule = format!("lie within its whole, with {n_in} planes of logits and {n_out} of the result at hand");
        return Err(KernelError::argument("slab", rule, slab));
    }
    check_axes("slab", &[planes, out_planes])?;
    let cell = |i| {
        let cell = Cell::new(out_start + i, planes, out_planes, take_nearest);
        let t = (cell.weight[1] as f64 / (2 * out_planes) as f64) as f32;
        let at = if cell.weight[1] == 0 { [cell.at[0]; 2] } else { cell.at };
        if at[0] < start || at[1] >= start + n_in {
            let rule = format!("hold the planes {at:?} of the logits, which plane {} needs", out_start + i);
            return Err(KernelError::argument("slab", rule, slab));
        }
        Ok(Between { at: at.map(|plane| plane - start), t })
    };
    (0..n_out).map(cell).collect()
}

#[derive(Default)]
struct Source(Vec<f32>);

impl Source {
    fn along(&self, axis: &[Between]) -> impl Iterator<Item = f32> {
        axis.iter().map(|b| mix(self.0[b.at[0]], self.0[b.at[1]], b.t))
    }
}

#[inline(always)]
fn mix(a: f32, b: f32, t: f32) -> f32 {
    if t == 0.0 { a } else { a + t * (b - a) }
}

struct Line {
    source: Source,
    best: Vec<f32>,
}

impl Line {
    fn load<R: Real>(&mut self, logits: &ArrayView4<'_, R>, class: usize, [z, y]: [Between; 2]) {
        let row = |i: usize, j: usize| -> ArrayView1<'_, R> {
            {
                let row = logits.index_axis(Axis(0), class);
                row.index_axis_move(Axis(0), z.at[i]).index_axis_move(Axis(0), y.at[j])
            }
        };
        let rows = [row(0, 0), row(0, 1), row(1, 0), row(1, 1)];
        for (x, out) in self.source.0.iter_mut().enumerate() {
            let v = |i: usize| rows[i][x].to_f32();
            *out = mix(mix(v(0), v(1), y.t), mix(v(2), v(3), y.t), z.t);
        }
    }
}

fn rows<T: Send + Sync>(
    out: &mut ArrayViewMut3<'_, T>,
    grid: &Grid,
    work: impl Fn(&mut Line, ndarray::ArrayViewMut1<'_, T>, Between, Between) + Sync,
) {
    out.axis_iter_mut(Axis(0)).into_par_iter().zip(&grid.axes[0]).for_each(|(mut plane, z)| {
        let mut line = Line { source: Source(vec![0.0; grid.width[0]]), best: vec![0.0; grid.width[1]] };
        for (row, y) in plane.outer_iter_mut().zip(&grid.axes[1]) {
            work(&mut line, row, *z, *y);
        }
    });
}
