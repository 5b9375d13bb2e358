//! Weighted sums of overlapping windows, of which only the part that is still growing takes memory.
//!
//! Windows come layer by layer along the first axis, and within a layer row of windows by row of windows. Sums are kept
//! in blocks, a few rows of one plane each, that are made when the first window touches them and given back when the
//! caller has read them. Half-way through a layer this is held:
//!
//! ```text
//!           rows of windows:  done │ now  │ still to come
//! planes before the next layer   · │ held │ held, from the layer before
//! planes of the next layer    held │ held │ ·
//! ```

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{Array4, ArrayView4, Axis};

use crate::error::{KernelError, Result};
use crate::memory;
use crate::scores::Activation;
use crate::window::{self, Window, Windows};

/// Rows of a block.
const ROWS: usize = 8;

const PURPOSE: &str = "the sums of windows";

/// More blocks than any image has; beyond it a size is a mistake.
const MOST_BLOCKS: usize = 1 << 21;

/// Sums over a volume of `size`, of windows of `tile`, both (z, y, x).
pub struct WindowAccumulator {
    windows: Windows,
    planes: Vec<Plane>,
    spare: Vec<Block>,
}

/// The blocks of one plane, `None` where no window was or where all has been read.
type Plane = Vec<Option<Block>>;

/// Some rows of one plane.
struct Block {
    width: usize,
    sums: Vec<f32>,    // (classes, ROWS, width)
    weights: Vec<f32>, // (ROWS, width)
}

impl WindowAccumulator {
    /// Empty sums.
    ///
    /// # Errors
    /// No classes, a tile that is empty or larger than the size; memory refused.
    pub fn new(classes: usize, size: [usize; 3], tile: [usize; 3]) -> Result<Self> {
        if size[0].saturating_mul(size[1].div_ceil(ROWS)) > MOST_BLOCKS {
            let rule = format!("have at most {} rows in all its planes", ROWS * MOST_BLOCKS);
            return Err(KernelError::shape("size", rule, size));
        }
        let windows = Windows::new::<f32>(classes, size, tile)?;
        let plane = |_| memory::collected((0..size[1].div_ceil(ROWS)).map(|_| None), PURPOSE);
        let planes = memory::collected_results((0..size[0]).map(plane), PURPOSE)?;
        Ok(Self { windows, planes, spare: Vec::new() })
    }

    /// Adds a network's output for the window at `start`, (classes, *tile), activated and turned back along the
    /// `mirrored` axes, weighted by the window's importance.
    ///
    /// # Errors
    /// The output has another shape, the window leaves the volume, or memory is refused; nothing is added then.
    pub fn add(
        &mut self,
        output: ArrayView4<'_, f32>,
        start: [usize; 3],
        activation: Activation,
        mirrored: [bool; 3],
    ) -> Result<()> {
        let window = Window { output, start, activation, mirrored };
        self.windows.check(&window)?;
        let rooms = self.windows.rooms::<f32, f32>(&window)?;
        self.make_room(start)?;
        let planes = self.planes[start[0]..start[0] + self.windows.tile[0]].par_iter_mut();
        self.windows.add(window, rooms, planes);
        Ok(())
    }

    /// The weighted means of the voxels from `start` to before `stop`, (classes, z, y, x).
    ///
    /// # Errors
    /// The part is empty or leaves the volume, a voxel of it has no sums (no window was there, or they were
    /// forgotten), or memory is refused.
    pub fn mean(&self, start: [usize; 3], stop: [usize; 3]) -> Result<Array4<f32>> {
        let planes = self.part(start, stop)?;
        let (rows, columns) = (start[1]..stop[1], start[2]..stop[2]);
        if planes.par_iter().any(|plane| window::uncovered(plane, rows.clone(), &columns) > 0) {
            return Err(KernelError::state("windows", "cover every voxel that is read", (start, stop)));
        }
        let shape = (self.windows.classes, planes.len(), rows.len(), columns.len());
        let mut out = memory::filled(shape, 0.0, "the finished part of a volume")?;
        let parts = out.axis_iter_mut(Axis(1)).into_par_iter().zip(planes);
        parts.for_each(|(out, plane)| window::means(out, plane, &rows, &columns, &mut []));
        Ok(out)
    }

    /// Gives back the memory of rows before `row` in planes before `plane`.
    pub fn forget(&mut self, plane: usize, row: usize) {
        let blocks = if row >= self.windows.size[1] { usize::MAX } else { row / ROWS };
        for plane in self.planes.iter_mut().take(plane) {
            for block in plane.iter_mut().take(blocks).filter_map(Option::take) {
                // Where there is no memory to remember a block it is given back at once.
                drop(memory::push(&mut self.spare, block, PURPOSE));
            }
        }
    }

    /// The planes of a part, all of whose rows have sums.
    fn part(&self, start: [usize; 3], stop: [usize; 3]) -> Result<&[Plane]> {
        let size = self.windows.size;
        if (0..3).any(|axis| start[axis] >= stop[axis] || stop[axis] > size[axis]) {
            return Err(KernelError::value(
                "start and stop",
                format!("name a part of the volume {size:?}"),
                (start, stop),
            ));
        }
        let (planes, blocks) = (&self.planes[start[0]..stop[0]], start[1] / ROWS..stop[1].div_ceil(ROWS));
        if !planes.iter().all(|plane| plane[blocks.clone()].iter().all(Option::is_some)) {
            return Err(KernelError::state("start and stop", "name voxels that have sums", (start, stop)));
        }
        Ok(planes)
    }

    /// Has a block wherever the window is. Blocks that are used again are cleared, even where memory runs out on the way.
    fn make_room(&mut self, start: [usize; 3]) -> Result<()> {
        let Windows { classes, size, tile, .. } = self.windows;
        let blocks = start[1] / ROWS..(start[1] + tile[1]).div_ceil(ROWS);
        let wanted = self.planes[start[0]..start[0] + tile[0]].iter_mut().flat_map(|plane| &mut plane[blocks.clone()]);
        let mut again = memory::reserved(self.spare.len().min(tile[0] * blocks.len()), PURPOSE)?;
        let mut made = Ok(());
        for place in wanted.filter(|place| place.is_none()) {
            match self.spare.pop() {
                Some(block) => {
                    *place = Some(block);
                    again.push(place);
                }
                None => match Block::new(classes, size[2]) {
                    Ok(block) => *place = Some(block),
                    Err(refused) => {
                        made = Err(refused);
                        break;
                    }
                },
            }
        }
        again.into_par_iter().flatten().for_each(Block::clear);
        made
    }
}

impl Block {
    fn new(classes: usize, width: usize) -> Result<Self> {
        let zeros = |lengths: &[usize]| memory::vector(memory::product(lengths, PURPOSE)?, 0.0, PURPOSE);
        Ok(Self { width, sums: zeros(&[classes, ROWS, width])?, weights: zeros(&[ROWS, width])? })
    }

    fn clear(&mut self) {
        self.sums.fill(0.0);
        self.weights.fill(0.0);
    }

    /// Where a row of a class lies, and where one of the weights.
    fn places(&self, class: usize, row: usize) -> (Range<usize>, Range<usize>) {
        let place = |row: usize| row * self.width..(row + 1) * self.width;
        (place(class * ROWS + row % ROWS), place(row % ROWS))
    }
}

impl window::Plane<f32> for Plane {
    #[inline]
    fn row(&self, class: usize, row: usize) -> (&[f32], &[f32]) {
        let block = self[row / ROWS].as_ref().expect("the part has sums");
        let (sums, weights) = block.places(class, row);
        (&block.sums[sums], &block.weights[weights])
    }

    #[inline]
    fn row_mut(&mut self, class: usize, row: usize) -> (&mut [f32], &mut [f32]) {
        let block = self[row / ROWS].as_mut().expect("room was made for the window");
        let (sums, weights) = block.places(class, row);
        (&mut block.sums[sums], &mut block.weights[weights])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::blend::blend;
    use crate::naive::scores as naive;
    use crate::tiles::gaussian_importance;
    use ndarray::{ArrayView3, Slice};

    fn noise(shape: [usize; 4], seed: u64) -> Array4<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Array4::from_shape_simple_fn(shape, || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        })
    }

    fn activated(output: &Array4<f32>, mirrored: [bool; 3]) -> Array4<f32> {
        let mut scores = output.clone();
        for (mut scores, logits) in scores.lanes_mut(Axis(0)).into_iter().zip(output.lanes(Axis(0))) {
            let exact = naive::activated(&logits.to_vec(), Activation::Softmax);
            scores.iter_mut().zip(exact).for_each(|(score, exact)| *score = exact as f32);
        }
        (0..3).filter(|&axis| mirrored[axis]).for_each(|axis| scores.invert_axis(Axis(axis + 1)));
        scores
    }

    #[test]
    fn reading_and_forgetting_on_the_way_equals_the_whole() {
        let (size, tile, classes) = ([7, 21, 70], [4, 10, 66], 3);
        let importance = gaussian_importance(&tile).unwrap().into_dimensionality().unwrap();
        let (layers, rows, columns) = ([0, 1, 3], [0, 5, 11], [0, 4]);
        let mut windows = Vec::new();
        let mut sums = WindowAccumulator::new(classes, size, tile).unwrap();
        let mut streamed = Array4::from_elem((classes, size[0], size[1], size[2]), f32::NAN);
        for (i, z) in layers.into_iter().enumerate() {
            for (j, y) in rows.into_iter().enumerate() {
                for x in columns {
                    let mirrored = [x > 0, y > 5, z == 1];
                    let output = noise([classes, 4, 10, 66], windows.len() as u64);
                    sums.add(output.view(), [z, y, x], Activation::Softmax, mirrored).unwrap();
                    windows.push((activated(&output, mirrored), [z, y, x]));
                }
                let next = |starts: [usize; 3], i: usize, end| starts.get(i + 1).copied().unwrap_or(end);
                let stop = [next(layers, i, size[0]), next(rows, j, size[1]), size[2]];
                let part = sums.mean([z, y, 0], stop).unwrap();
                let ends = [(0, classes), (z, stop[0]), (y, stop[1]), (0, size[2])];
                streamed
                    .slice_each_axis_mut(|axis| {
                        let (from, to) = ends[axis.axis.index()];
                        Slice::from(from..to)
                    })
                    .assign(&part);
                sums.forget(stop[0], stop[1]);
            }
        }
        let views: Vec<_> = windows.iter().map(|(scores, start)| (scores.view(), *start)).collect();
        let expected = blend(classes, size, &views, ArrayView3::from(&importance));
        let apart = (&streamed - &expected).mapv(f32::abs).fold(0.0, |a: f32, &b| a.max(b));
        assert!(apart < 1e-5, "{apart}");
        assert!(sums.planes.iter().flatten().all(Option::is_none));
        let most = 7 * 21_usize.div_ceil(ROWS);
        assert!(sums.spare.len() < most, "{} of {most} blocks were held at once", sums.spare.len());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(WindowAccumulator::new(0, [4, 4, 4], [2, 2, 2]).is_err());
        assert!(WindowAccumulator::new(1, [4, 1, 4], [2, 2, 2]).is_err());
        let mut sums = WindowAccumulator::new(1, [4, 4, 4], [2, 2, 2]).unwrap();
        let output = noise([1, 2, 2, 2], 0);
        assert!(sums.add(output.view(), [3, 0, 0], Activation::None, [false; 3]).is_err());
        assert!(sums.add(noise([2, 2, 2, 2], 0).view(), [0, 0, 0], Activation::None, [false; 3]).is_err());
        assert!(sums.mean([0, 0, 0], [1, 1, 1]).unwrap_err().to_string().contains("have sums"));
        sums.add(output.view(), [0, 0, 0], Activation::None, [false; 3]).unwrap();
        assert!(sums.mean([0, 0, 0], [1, 1, 3]).unwrap_err().to_string().contains("cover every voxel"));
        assert!(sums.mean([0, 0, 0], [1, 1, 0]).is_err());
        assert!(sums.mean([0, 0, 0], [2, 2, 2]).is_ok());
    }
}
