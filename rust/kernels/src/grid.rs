//! The cells of a linear resampling along all three axes, of a whole volume or of a part of it.

use crate::coefficients::check_axes;
use crate::error::{KernelError, Result, counted};
use crate::labels::Cell;
use crate::memory;

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

/// What the planes of each axis of the result lie between.
pub struct Grid {
    /// z, y and x.
    pub axes: [Vec<Between>; 3],
}

/// Two voxels and how far from the first to the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Between {
    /// The two: neighbours, or the same voxel twice.
    pub at: [usize; 2],
    /// Weight of the second; 0 where the two are the same, so that a voxel without weight is never read.
    pub t: f32,
}

impl Grid {
    /// For `to` voxels made from `from` (c, z, y, x), both of which are parts of longer axes where a slab says so.
    ///
    /// # Errors
    /// As [`crate::logits::logits_to_labels`].
    pub fn new(
        name: &'static str,
        from: &[usize],
        to: &[usize],
        lowres_axis: Option<usize>,
        slabs: &[Slab],
    ) -> Result<Self> {
        check_axes(name, &from[1..])?;
        check_axes("shape", to)?;
        if !(1..=MOST_CLASSES).contains(&from[0]) {
            return Err(KernelError::shape(name, format!("have between 1 and {MOST_CLASSES} classes"), from));
        }
        if lowres_axis.is_some_and(|axis| axis > 2) {
            return Err(KernelError::value("lowres_axis", "be one of the volume's axes", lowres_axis));
        }
        if let Some(slab) = slabs.iter().find(|slab| slab.axis > 2) {
            return Err(KernelError::value("slab", "lie along one of the volume's axes", slab));
        }
        let along = |axis: usize| {
            let (n_in, n_out) = (from[axis + 1], to[axis]);
            let whole = Slab { axis, logits: (0, n_in), out: (0, n_out) };
            let part = slabs.iter().find(|slab| slab.axis == axis).unwrap_or(&whole);
            between(part, (n_in, n_out), lowres_axis == Some(axis))
        };
        Ok(Self { axes: [along(0)?, along(1)?, along(2)?] })
    }
}

/// Voxels of the source per voxel of the result, along an axis, beyond which most are never read.
const SPARSE: usize = 2;

impl Grid {
    /// Whether nearly all of the source is read.
    pub fn is_dense(&self) -> bool {
        let dense = |ends: (&Between, &Between), count: usize| ends.1.at[1] + 1 - ends.0.at[0] <= SPARSE * count + 1;
        self.axes.iter().all(|axis| axis.first().zip(axis.last()).is_some_and(|ends| dense(ends, axis.len())))
    }
}

/// What each of the `n_out` planes of the result at hand lies between, among the `n_in` planes of logits at hand.
fn between(slab: &Slab, (n_in, n_out): (usize, usize), take_nearest: bool) -> Result<Vec<Between>> {
    let (start, planes) = slab.logits;
    let (out_start, out_planes) = slab.out;
    let ends = [(start, n_in, planes), (out_start, n_out, out_planes)];
    if ends.iter().any(|&(start, count, all)| start.checked_add(count).is_none_or(|stop| stop > all)) {
        let rule = format!(
            "lie within its whole, with {} of logits and {n_out} of the result at hand",
            counted(n_in, "plane")
        );
        return Err(KernelError::value("slab", rule, slab));
    }
    check_axes("slab", &[planes, out_planes])?;
    let cell = |i| {
        let cell = Cell::new(out_start + i, planes, out_planes, take_nearest);
        let at = if cell.weight[1] == 0 { [cell.at[0]; 2] } else { cell.at };
        if at[0] < start || at[1] >= start + n_in {
            let rule = format!("hold the planes {at:?} of the logits, which plane {} needs", out_start + i);
            return Err(KernelError::value("slab", rule, slab));
        }
        let t = if at[0] == at[1] { 0.0 } else { cell.share[1] };
        Ok(Between { at: at.map(|plane| plane - start), t })
    };
    memory::collected_results((0..n_out).map(cell), "the places of a grid")
}
