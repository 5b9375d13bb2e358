//! Label resampling with one linear resampling per label, in whole numbers.

use ndarray::{Array3, ArrayView3, indices};

use crate::coefficients::{nearest, position};

/// `labels` (z, y, x) on a grid of `shape`: the label with the greatest weight; among equals the nearest voxel's, or else
/// the smallest.
#[must_use]
pub fn resample_labels(labels: ArrayView3<'_, u8>, shape: [usize; 3], lowres_axis: Option<usize>) -> Array3<u8> {
    Array3::from_shape_fn(shape, |(z, y, x)| {
        let from = labels.dim();
        let axes = [(z, from.0), (y, from.1), (x, from.2)];
        let weight_of = |label: u8| -> u128 {
            let corners = indices((2, 2, 2)).into_iter();
            let weight = |corner: (usize, usize, usize)| {
                let mut at = [0; 3];
                let mut weight = 1;
                for (axis, side) in [corner.0, corner.1, corner.2].into_iter().enumerate() {
                    let (index, n_in) = axes[axis];
                    let (voxel, w) = end(index, n_in, shape[axis], side, lowres_axis == Some(axis));
                    at[axis] = voxel;
                    weight *= w;
                }
                if labels[at] == label { weight } else { 0 }
            };
            corners.map(weight).sum()
        };
        let weights: Vec<u128> = (0..=u8::MAX).map(weight_of).collect();
        let most = weights.iter().max().copied().unwrap_or(0);
        let winners: Vec<usize> = (0..weights.len()).filter(|label| weights[*label] == most).collect();
        let at: [usize; 3] = std::array::from_fn(|axis| nearest(axes[axis].0, axes[axis].1, shape[axis]));
        if winners.contains(&usize::from(labels[at])) { labels[at] } else { winners[0] as u8 }
    })
}

/// One of the two voxels (`side` 0 or 1) that an output voxel lies between, and its weight in units of 1 / (2 n_out).
fn end(index: usize, n_in: usize, n_out: usize, side: usize, take_nearest: bool) -> (usize, u128) {
    let denominator = 2 * n_out as u128;
    if take_nearest {
        return (nearest(index, n_in, n_out), denominator * (1 - side as u128));
    }
    let place = position(index, n_in, n_out);
    let voxel = (place.floor + side as isize).clamp(0, n_in as isize - 1) as usize;
    let t = u128::from(place.numerator);
    (voxel, if side == 0 { denominator - t } else { t })
}
