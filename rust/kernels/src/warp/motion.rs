//! Rotation, scaling and deformation as they are asked for.

use super::elastic::Elastic;
use crate::error::{KernelError, Result};

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
            return Err(KernelError::shape("shape", "have 2 or 3 axes", shape));
        }
        if matrix.len() != axes || matrix.iter().any(|row| row.len() != axes) {
            return Err(KernelError::shape("matrix", format!("have {axes} rows of {axes} numbers"), matrix));
        }
        if centre.len() != axes {
            return Err(KernelError::shape("centre", format!("have {axes} numbers"), centre));
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
