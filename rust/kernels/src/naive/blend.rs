//! Blending with the whole volume in memory, voxel by voxel.

use ndarray::{Array3, Array4, ArrayView3, ArrayView4};

/// Weighted means of `windows` (patch, start) over a volume of `size`; NaN where no window was.
#[must_use]
pub fn blend(
    classes: usize,
    size: [usize; 3],
    windows: &[(ArrayView4<'_, f32>, [usize; 3])],
    importance: ArrayView3<'_, f32>,
) -> Array4<f32> {
    let mut sums = Array4::<f32>::zeros((classes, size[0], size[1], size[2]));
    let mut weights = Array3::<f32>::zeros(size);
    for (patch, start) in windows {
        for ((c, z, y, x), &value) in patch.indexed_iter() {
            sums[(c, start[0] + z, start[1] + y, start[2] + x)] += value * importance[(z, y, x)];
        }
        for ((z, y, x), &weight) in importance.indexed_iter() {
            weights[(start[0] + z, start[1] + y, start[2] + x)] += weight;
        }
    }
    Array4::from_shape_fn(sums.dim(), |(c, z, y, x)| sums[(c, z, y, x)] / weights[(z, y, x)])
}
