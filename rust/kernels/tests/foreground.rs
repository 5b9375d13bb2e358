//! Statistics against their naive twin, and accumulators in every order.

use half::f16;
use ndarray::{ArrayD, ArrayView3, Axis, IxDyn};
use nnunet_kernels::foreground::{Accumulator, ChannelStats, Intensity, Mask, statistics};
use nnunet_kernels::{naive, with_threads};
use proptest::prelude::*;

/// A small volume's shape, intensities and labels.
fn volumes() -> impl Strategy<Value = ([usize; 3], Vec<f32>, Vec<i64>)> {
    [1_usize..7, 1_usize..7, 1_usize..9].prop_flat_map(|shape| {
        let voxels = shape.iter().product::<usize>();
        let value = prop_oneof![
            4 => -300.0_f32..300.0,
            2 => (-5_i32..5).prop_map(|v| v as f32),
            1 => proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO,
        ];
        (Just(shape), prop::collection::vec(value, voxels), prop::collection::vec(-1_i64..3, voxels))
    })
}

fn fast<T: Intensity>(shape: [usize; 3], values: Vec<T>, labels: &[i64]) -> Option<ChannelStats> {
    let image = ArrayD::from_shape_vec(IxDyn(&[1, shape[0], shape[1], shape[2]]), values).unwrap();
    let labels = ArrayD::from_shape_vec(IxDyn(&shape), labels.to_vec()).unwrap();
    statistics(image.view(), &Mask::new(labels.view()).unwrap()).ok().map(|stats| stats[0])
}

fn close(a: Option<ChannelStats>, b: Option<ChannelStats>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return a.is_none() && b.is_none() };
    let size = b.min.abs().max(b.max.abs()).max(f64::MIN_POSITIVE);
    let pairs = [
        (a.mean, b.mean),
        (a.std, b.std),
        (a.median, b.median),
        (a.percentile_00_5, b.percentile_00_5),
        (a.percentile_99_5, b.percentile_99_5),
    ];
    (a.min, a.max) == (b.min, b.max) && pairs.iter().all(|(a, b)| (a - b).abs() <= 1e-12 * size)
}

/// Whole numbers that `T` holds.
macro_rules! as_integers {
    ($type:ty, $values:expr) => {
        $values.iter().map(|value| (*value as f64 * 7.0) as $type).collect::<Vec<$type>>()
    };
}

macro_rules! equals_naive {
    ($shape:expr, $labels:expr, $($values:expr),+) => {
        $({
            let values = $values;
            let wide: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
            let expected = naive::foreground::statistics(&wide, &$labels);
            prop_assert!(close(fast($shape, values, &$labels), expected));
        })+
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_type_equals_the_naive_twin((shape, values, labels) in volumes()) {
        let halves: Vec<f16> = values.iter().map(|v| f16::from_f32(v.clamp(-6e4, 6e4))).collect();
        let wide: Vec<f64> = values.iter().map(|v| f64::from(*v) * 1.1).collect();
        equals_naive!(
            shape, labels, values.clone(), halves, wide,
            as_integers!(u8, values), as_integers!(i8, values), as_integers!(u16, values), as_integers!(i16, values),
            as_integers!(u32, values), as_integers!(i32, values)
        );
        let integers = as_integers!(i64, values);
        let wide: Vec<f64> = integers.iter().map(|v| *v as f64).collect();
        prop_assert!(close(fast(shape, integers, &labels), naive::foreground::statistics(&wide, &labels)));
    }

    #[test]
    fn strides_do_not_matter((shape, values, labels) in volumes(), flips in any::<[bool; 3]>(), swap in any::<bool>()) {
        let expected = fast(shape, values.clone(), &labels);
        let mut image = ArrayD::from_shape_vec(IxDyn(&[1, shape[0], shape[1], shape[2]]), values).unwrap();
        let mut marks = ArrayD::from_shape_vec(IxDyn(&shape), labels).unwrap();
        for axis in (0..3).filter(|&axis| flips[axis]) {
            image.invert_axis(Axis(axis + 1));
            marks.invert_axis(Axis(axis));
        }
        if swap {
            image.swap_axes(1, 3);
            marks.swap_axes(0, 2);
        }
        let marks = marks.as_standard_layout(); // image and labels in different orders
        let found = statistics(image.view(), &Mask::new(marks.view()).unwrap()).ok();
        prop_assert_eq!(found.map(|stats| stats[0]), expected);
    }

    #[test]
    fn accumulators_do_not_know_order(
        (shape, values, labels) in volumes(), cuts in prop::collection::vec(0_usize..6, 0..4), memory in 0_usize..3000,
    ) {
        let whole = fast(shape, values.clone(), &labels);
        let image = ArrayD::from_shape_vec(IxDyn(&[1, shape[0], shape[1], shape[2]]), values).unwrap();
        let marks = ArrayD::from_shape_vec(IxDyn(&shape), labels).unwrap();
        // Cases are runs of planes, added in one order and merged in another.
        let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(shape[0])).chain([0, shape[0]]).collect();
        ends.sort_unstable();
        let cases: Vec<_> = ends.windows(2).map(|pair| ndarray::Slice::from(pair[0]..pair[1])).collect();
        let mut merged = Accumulator::new(1, memory).unwrap();
        for case in cases.iter().rev() {
            let (image, marks) = (image.slice_axis(Axis(1), *case), marks.slice_axis(Axis(0), *case));
            let one = merged.outline().unwrap().case(image, &Mask::new(marks).unwrap()).unwrap();
            let mut next = Accumulator::from_bytes(&one.to_bytes().unwrap()).unwrap();
            next.merge(merged).unwrap();
            merged = next;
        }
        if merged.is_pending() {
            prop_assert!(merged.finish().is_err());
            let outline = merged.outline().unwrap();
            for case in &cases {
                let (image, marks) = (image.slice_axis(Axis(1), *case), marks.slice_axis(Axis(0), *case));
                merged.merge(outline.again(image, &Mask::new(marks).unwrap()).unwrap()).unwrap();
            }
        }
        prop_assert_eq!(merged.finish().ok().map(|stats| stats[0]), whole);
    }

    #[test]
    fn damaged_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), cut in 0_usize..400, at in 0_usize..400) {
        prop_assert!(Accumulator::from_bytes(&bytes).is_err());
        let image = ArrayD::from_shape_fn(IxDyn(&[1, 2, 3, 4]), |index| index[3] as f32 * 1.5);
        let marks = ArrayD::from_elem(IxDyn(&[2, 3, 4]), 1_u8);
        let empty = Accumulator::new(1, 1 << 20).unwrap();
        let mut whole = empty.outline().unwrap().case(image.view(), &Mask::new(marks.view()).unwrap()).unwrap().to_bytes().unwrap();
        prop_assert!(Accumulator::from_bytes(&whole[..cut.min(whole.len() - 1)]).is_err());
        let at = at % whole.len();
        whole[at] ^= 0x55;
        // Whatever is accepted can be asked for its statistics without a panic.
        if let Ok(accumulator) = Accumulator::from_bytes(&whole) {
            let _ = (accumulator.is_pending(), accumulator.finish());
        }
    }
}

/// The numbers a hand can check.
#[test]
fn by_hand() {
    let stats = fast([1, 1, 5], vec![1.0_f32, 2.0, 3.0, 6.0, 99.0], &[1, 1, 2, 1, 0]).unwrap();
    assert_eq!((stats.mean, stats.median, stats.min, stats.max), (3.0, 2.5, 1.0, 6.0));
    assert_eq!(stats.std, 3.5_f64.sqrt());
    assert!((stats.percentile_99_5 - 5.955).abs() < 1e-12);
}

#[test]
fn constants_have_no_deviation() {
    for value in [3.7_f32, -1e-41, 0.0, -0.0, 3.0e38, 123_456.79] {
        let stats = fast([3, 5, 7], vec![value; 105], &[1; 105]).unwrap();
        assert_eq!((stats.mean, stats.std), (f64::from(value), 0.0), "{value}");
        assert!([stats.median, stats.min, stats.max].iter().all(|v| *v == f64::from(value)));
    }
}

#[test]
fn threads_do_not_matter() {
    let values: Vec<f32> =
        (0..2_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 * 1e-3 - 8e3).collect();
    let labels: Vec<i64> = (0..2_000_000).map(|i| i64::from(i % 7 != 0)).collect();
    let run = |threads| with_threads(Some(threads), || fast([20, 100, 1000], values.clone(), &labels)).unwrap();
    assert_eq!(run(1), run(3));
}

#[test]
fn refusals_name_rule_and_value() {
    let image = ArrayD::from_shape_vec(IxDyn(&[1, 1, 2, 2]), vec![1.0_f32, f32::NAN, f32::INFINITY, 2.0]).unwrap();
    let marks = |values: [u8; 4]| ArrayD::from_shape_vec(IxDyn(&[1, 2, 2]), values.to_vec()).unwrap();
    let message =
        |labels: &ArrayD<u8>| statistics(image.view(), &Mask::new(labels.view()).unwrap()).unwrap_err().to_string();
    assert!(message(&marks([1, 1, 1, 1])).contains("2 NaN or infinite voxels in channel 0"));
    assert!(message(&marks([0, 0, 0, 0])).contains("at least one foreground voxel"));
    assert!(statistics(image.view(), &Mask::new(marks([1, 0, 0, 1]).view()).unwrap()).is_ok());
    let flat: ArrayView3<'_, u8> = ArrayView3::from_shape((1, 1, 4), &[1; 4]).unwrap();
    assert!(message(&flat.into_dyn().into_owned()).contains("have a channel axis before"));
}
