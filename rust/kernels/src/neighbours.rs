//! Who wins at the voxels of the source themselves, and where eight neighbours do not agree on it.

use std::ops::Range;

use multiversion::multiversion;

use crate::argmax::Rule;
use crate::dtype::Float;
use crate::error::Result;
use crate::grid::Between;
use crate::interpolate::{Interpolator, Pair};
use crate::memory::{product, push, resize};
use crate::stretch::{GROUP, Stretch};

/// Settled groups between two runs that cost less to compare than another start.
const GAP: usize = 2;

const PURPOSE: &str = "rows in work";

/// Winners at the source rows around some rows of the result, of the two planes last asked for.
pub struct Neighbours {
    rows: Range<usize>,
    /// Plane z rests in slot z % 2: the planes that a plane of the result lies between are neighbours.
    slots: [Slot; 2],
    values: Vec<f32>,
    marks: Vec<u8>,
}

#[derive(Default)]
struct Slot {
    z: Option<usize>,
    winners: Vec<u32>,
}

impl Neighbours {
    /// For the source rows around `rows` of the result; for no `rows`, there is nothing that neighbours could settle.
    pub fn new(rows: &[Between]) -> Self {
        let ends = rows.first().zip(rows.last());
        let rows = ends.map_or(0..0, |(first, last)| first.at[0]..last.at[1] + 1);
        Self { rows, slots: Default::default(), values: Vec::new(), marks: Vec::new() }
    }

    /// Decides the planes around `z`, where that has not been done.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn turn<R: Float, D: Rule>(&mut self, z: Between, source: &mut Interpolator<'_, R>, rule: &D) -> Result<()> {
        for at in z.at {
            let slot = &mut self.slots[at % 2];
            if slot.z == Some(at) || self.rows.is_empty() {
                continue;
            }
            slot.z = Some(at);
            let width = source.columns().length();
            let size = product(&[self.rows.len(), width], PURPOSE)?;
            self.values.clear();
            resize(&mut self.values, size, D::START, PURPOSE)?;
            slot.winners.clear();
            resize(&mut slot.winners, size, 0, PURPOSE)?;
            for class in 0..source.classes() {
                let rows = self.values.chunks_exact_mut(width).zip(slot.winners.chunks_exact_mut(width));
                for ((values, winners), y) in rows.zip(self.rows.clone()) {
                    rule.challenge(class, Pair::single(source.source_row(class, at, y)), values, winners);
                }
            }
        }
        Ok(())
    }

    /// Groups of columns, in runs, in which some voxel of the `rows` has neighbours that do not agree.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn contested(&mut self, z: Between, rows: &[Between], columns: &Stretch) -> Result<Vec<Range<usize>>> {
        if self.rows.is_empty() {
            return Ok(std::iter::once(0..columns.groups()).collect());
        }
        let mut marks = std::mem::take(&mut self.marks);
        marks.clear();
        resize(&mut marks, columns.length(), 0, PURPOSE)?;
        let mut last = None;
        for y in rows.iter().filter(|y| last.replace(y.at) != Some(y.at)) {
            mark(self.around(z, *y, columns), &mut marks);
        }
        let differs = |group: usize| columns.reads(&(group..group + 1)).any(|voxel| marks[voxel] != 0);
        let mut runs: Vec<Range<usize>> = Vec::new();
        for group in (0..columns.groups()).filter(|group| differs(*group)) {
            match runs.last_mut() {
                Some(run) if group - run.end <= GAP => run.end = group + 1,
                _ => push(&mut runs, group..group + 1, PURPOSE)?,
            }
        }
        self.marks = marks;
        Ok(runs)
    }

    /// Writes what the neighbours agree on to `groups` of the `rows`.
    pub fn copy(&self, z: Between, rows: &[Between], columns: &Stretch, groups: Range<usize>, out: &mut [u32]) {
        if groups.is_empty() {
            return;
        }
        for (out, y) in out.chunks_exact_mut(columns.groups() * GROUP).zip(rows) {
            let [winners, ..] = self.around(z, *y, columns);
            for (group, out) in groups.clone().zip(out[groups.start * GROUP..].as_chunks_mut::<GROUP>().0) {
                *out = columns.firsts(group).map(|voxel| winners[voxel]);
            }
        }
    }

    /// The four rows of winners around a row of the result.
    fn around(&self, z: Between, y: Between, columns: &Stretch) -> [&[u32]; 4] {
        let width = columns.length();
        let row = |z: usize, y: usize| &self.slots[z % 2].winners[(y - self.rows.start) * width..][..width];
        [row(z.at[0], y.at[0]), row(z.at[0], y.at[1]), row(z.at[1], y.at[0]), row(z.at[1], y.at[1])]
    }
}

/// Marks voxels at which the four rows differ among themselves or from their predecessors.
#[multiversion(targets = "simd")]
fn mark([a, b, c, d]: [&[u32]; 4], marks: &mut [u8]) {
    let n = marks.len();
    let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
    for (i, mark) in marks.iter_mut().enumerate() {
        *mark |= u8::from((a[i] != b[i]) | (a[i] != c[i]) | (a[i] != d[i]));
    }
    let steps = a.iter().zip(&a[1..]);
    for (mark, (before, after)) in marks[1..].iter_mut().zip(steps) {
        *mark |= u8::from(before != after);
    }
}
