//! Image resampling agrees with its naive twin, with itself on other threads, and with other layouts of the same voxels.

use ndarray::{Array3, Array4, Axis, ShapeBuilder};
use nnunet_kernels::Order;
use nnunet_kernels::naive::image::{resample_slices, resample_volume};
use nnunet_kernels::resample_image;
use nnunet_kernels::with_threads;
use proptest::prelude::*;

fn shapes() -> impl Strategy<Value = [usize; 3]> {
    prop_oneof![
        4 => [1..9_usize, 1..9, 1..9],
        4 => [1..4_usize, 1..70, 1..70],
        4 => [1..40_usize, 1..4, 30..40],
        1 => [1..4_usize, 1..4, 300..400], // from and to hundreds of times as many
        1 => [300..400_usize, 1..3, 1..4],
    ]
}

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Nearest), Just(Order::Linear), Just(Order::Cubic)]
}

fn images() -> impl Strategy<Value = Array4<f32>> {
    (shapes(), -1000.0..1000.0_f32).prop_flat_map(|([z, y, x], offset)| {
        let voxels = prop::collection::vec(-100.0..100.0_f32, z * y * x);
        voxels.prop_map(move |v| {
            Array4::from_shape_vec((1, z, y, x), v).expect("as many voxels as the shape has").mapv(|v| v + offset)
        })
    })
}

fn run(image: &Array4<f32>, [z, y, x]: [usize; 3], order: Order, axis: Option<usize>) -> Array4<f32> {
    let mut out = Array4::zeros((image.len_of(Axis(0)), z, y, x));
    resample_image(image.view(), out.view_mut(), order, axis).expect("the shapes are valid");
    out
}

/// Whether output voxel `index` of an axis may read input voxel `at`: nearer than the taps reach.
fn near(index: usize, at: usize, (n_in, n_out): (usize, usize), reach: f64) -> bool {
    let position = (index as f64 + 0.5) * n_in as f64 / n_out as f64 - 0.5;
    let position = position.clamp(0.0, (n_in - 1) as f64);
    if n_in == n_out { index == at } else { (position - at as f64).abs() <= reach + 1e-9 }
}

fn distance(a: &Array4<f32>, b: &Array3<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn equals_the_naive_twin(image in images(), shape in shapes(), order in orders()) {
        let expected = resample_volume(image.index_axis(Axis(0), 0), shape, order);
        prop_assert!(distance(&run(&image, shape, order, None), &expected) < 2e-3);
    }

    #[test]
    fn equals_the_naive_twin_slice_by_slice(
        image in images(), shape in shapes(), order in orders(), axis in 0..3_usize,
    ) {
        let expected = resample_slices(image.index_axis(Axis(0), 0), shape, order, axis);
        prop_assert!(distance(&run(&image, shape, order, Some(axis)), &expected) < 2e-3);
    }

    #[test]
    fn threads_and_layouts_change_no_bit(image in images(), shape in shapes(), order in orders()) {
        let expected = run(&image, shape, order, None);
        for threads in [1, 3] {
            let again = with_threads(Some(threads), || run(&image, shape, order, None)).expect("threads start");
            prop_assert_eq!(&again, &expected);
        }
        let mut columns = Array4::zeros(image.raw_dim().f());
        columns.assign(&image);
        let mut out = Array4::zeros(expected.raw_dim().f());
        resample_image(columns.view(), out.view_mut(), order, None).expect("the shapes are valid");
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn the_same_grid_keeps_every_bit(bits in prop::collection::vec(any::<u32>(), 24), order in orders()) {
        let voxels = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
        let image = Array4::from_shape_vec((1, 2, 3, 4), voxels).expect("24 voxels");
        let kept = run(&image, [2, 3, 4], order, None).mapv(f32::to_bits);
        prop_assert_eq!(kept.into_raw_vec_and_offset().0, bits);
    }

    #[test]
    fn what_is_no_number_stays_within_reach(
        mut image in images(), shape in shapes(), linear: bool, seed: usize,
        bad in prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
    ) {
        let size = [1, 2, 3].map(|axis| image.len_of(Axis(axis)));
        let at = [seed % size[0], seed / 7 % size[1], seed / 91 % size[2]];
        image[[0, at[0], at[1], at[2]]] = bad;
        let (order, reach) = if linear { (Order::Linear, 1.0) } else { (Order::Nearest, 0.5) };
        let mut indicator = Array3::zeros(size);
        indicator[at] = 1.0_f32;
        let weight = resample_volume(indicator.view(), shape, order);
        for ((_, z, y, x), value) in run(&image, shape, order, None).indexed_iter() {
            let mut axes = [z, y, x].into_iter().zip(at).zip(size.into_iter().zip(shape));
            let near = axes.all(|((index, at), lengths)| near(index, at, lengths, reach));
            prop_assert!(value.is_finite() || near, "{} at {:?}", value, (z, y, x));
            prop_assert!(!value.is_finite() || weight[(z, y, x)] < 1e-5, "{} at {:?}", value, (z, y, x));
        }
    }

    #[test]
    fn denormals_are_numbers_too(image in images(), shape in shapes(), linear: bool) {
        let tiny = image.mapv(|value| f32::from_bits((value.abs() * 100.0) as u32));
        let order = if linear { Order::Linear } else { Order::Nearest };
        let expected = resample_volume(tiny.index_axis(Axis(0), 0), shape, order);
        prop_assert!(distance(&run(&tiny, shape, order, None), &expected) < 5e-45);
    }

    #[test]
    fn constant_stays_constant(value in any::<f32>().prop_filter("finite", |v| v.is_finite()), shape in shapes()) {
        let image = Array4::from_elem((1, 3, 5, 34), value);
        prop_assert!(run(&image, shape, Order::Linear, None).iter().all(|v| *v == value));
        prop_assert!(value.abs() > 1e37 || run(&image, shape, Order::Cubic, None).iter().all(|v| *v == value));
    }
}

#[test]
fn refusals_state_rule_and_value() {
    let image = Array4::<f32>::zeros((2, 3, 3, 3));
    let error = |shape, axis| {
        let mut out = Array4::<f32>::zeros(shape);
        resample_image(image.view(), out.view_mut(), Order::Cubic, axis).expect_err("refused").to_string()
    };
    assert_eq!(error((1, 3, 3, 3), None), "image must have 1 channel; got [2, 3, 3, 3]");
    assert_eq!(
        error((2, 0, 3, 3), None),
        "shape must have between 1 and 16777216 voxels along every axis; got [0, 3, 3]"
    );
    assert_eq!(error((2, 3, 3, 3), Some(3)), "lowres_axis must be one of the image's axes; got Some(3)");
    assert!(Order::from_number(2).is_err());
}
