//! Arrays turned round in place.

use ndarray::parallel::prelude::*;
use ndarray::{ArrayViewMut3, ArrayViewMut4, Axis};

use crate::error::Result;
use crate::memory;

/// Turns every channel of an array (c, z, y, x) round along the axes named, z, y, x.
///
/// # Errors
/// The array's voxels do not lie together, and memory for a copy is refused.
pub fn mirror<T: Copy + Send + Sync>(mut array: ArrayViewMut4<'_, T>, turns: [bool; 3]) -> Result<()> {
    array.outer_iter_mut().into_par_iter().try_for_each(|channel| turn_channel(channel, turns))
}

fn turn_channel<T: Copy>(mut channel: ArrayViewMut3<'_, T>, turns: [bool; 3]) -> Result<()> {
    let shape = [0, 1, 2].map(|axis| channel.len_of(Axis(axis)));
    if let Some(voxels) = channel.as_slice_mut() {
        turn(voxels, shape, turns);
        return Ok(());
    }
    let mut copy = memory::owned(channel.view(), "a contiguous copy of a channel")?;
    turn(copy.as_slice_mut().expect("the copy is contiguous"), shape, turns);
    channel.assign(&copy);
    Ok(())
}

fn turn<T: Copy>(voxels: &mut [T], [_, rows, width]: [usize; 3], [z, y, x]: [bool; 3]) {
    if voxels.is_empty() {
        return;
    }
    if z {
        reverse(voxels, rows * width);
    }
    if y {
        voxels.chunks_exact_mut(rows * width).for_each(|plane| reverse(plane, width));
    }
    if x {
        voxels.chunks_exact_mut(width).for_each(<[T]>::reverse);
    }
}

/// Reverses the order of parts of a length.
fn reverse<T: Copy>(voxels: &mut [T], length: usize) {
    let half = voxels.len() / length / 2 * length;
    let (before, rest) = voxels.split_at_mut(half);
    let after = rest.len() - half;
    let pairs = before.chunks_exact_mut(length).zip(rest[after..].chunks_exact_mut(length).rev());
    pairs.for_each(|(a, b)| a.swap_with_slice(b));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::with_threads;
    use ndarray::{Array4, ShapeBuilder};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_inverted_axes(shape in prop::array::uniform4(0..6_usize), turns: [bool; 3]) {
            let mut count = 0_u16;
            let array = Array4::from_shape_simple_fn(shape, || {
                count += 1;
                count
            });
            let mut expected = array.clone();
            (0..3).filter(|&axis| turns[axis]).for_each(|axis| expected.invert_axis(Axis(axis + 1)));
            let mut turned = array.clone();
            mirror(turned.view_mut(), turns).expect("nothing is copied");
            prop_assert_eq!(&turned, &expected);
            let mut columns = Array4::zeros(array.raw_dim().f());
            columns.assign(&array);
            with_threads(Some(3), || mirror(columns.view_mut(), turns)).expect("threads").expect("memory");
            prop_assert_eq!(columns, expected);
        }
    }
}
