//! The one vote agrees with one linear resampling per label, ties included.

use ndarray::{Array3, ShapeBuilder};
use nnunet_kernels::naive;
use nnunet_kernels::resample_labels;
use nnunet_kernels::with_threads;
use proptest::prelude::*;

fn shapes() -> impl Strategy<Value = [usize; 3]> {
    prop_oneof![
        4 => [1..5_usize, 1..5, 1..5],
        4 => [1..3_usize, 1..7, 1..45],
        1 => [1..3_usize, 1..3, 150..200], // from and to a hundred times as many
    ]
}

/// Noise and blobs of up to six labels.
fn maps() -> impl Strategy<Value = Array3<u8>> {
    (shapes(), 1..4_usize, 2..7_u8).prop_flat_map(|([z, y, x], block, count)| {
        let size = [z, y, x].map(|n| n.div_ceil(block));
        prop::collection::vec(0..count, size.iter().product::<usize>()).prop_map(move |labels| {
            let coarse = Array3::from_shape_vec(size, labels).expect("as many labels as the shape has");
            Array3::from_shape_fn((z, y, x), |(z, y, x)| coarse[(z / block, y / block, x / block)])
        })
    })
}

fn run(labels: &Array3<u8>, shape: [usize; 3], axis: Option<usize>) -> Array3<u8> {
    let mut out = Array3::zeros(shape);
    resample_labels(labels.view(), out.view_mut(), axis).expect("the shapes are valid");
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equals_the_naive_twin(labels in maps(), shape in shapes(), axis in prop::option::of(0..3_usize)) {
        prop_assert_eq!(run(&labels, shape, axis), naive::labels::resample_labels(labels.view(), shape, axis));
    }

    #[test]
    fn every_type_has_the_same_votes(labels in maps(), shape in shapes(), axis in prop::option::of(0..3_usize)) {
        let expected = run(&labels, shape, axis);
        macro_rules! check {
            ($($type:ty),+) => {
                $({
                    // In the order of the labels, from the least value of the type to the greatest.
                    let name = |label: &u8| if *label == 5 { <$type>::MAX } else { <$type>::MIN + *label as $type };
                    let mut out = Array3::<$type>::default(shape);
                    resample_labels(labels.map(name).view(), out.view_mut(), axis).expect("the shapes are valid");
                    prop_assert_eq!(out, expected.map(name));
                })+
            };
        }
        check!(i8, u16, i16, u32, i32, u64, i64);
    }

    #[test]
    fn the_same_grid_keeps_every_label(labels in maps(), axis in prop::option::of(0..3_usize)) {
        prop_assert_eq!(run(&labels, labels.dim().into(), axis), labels);
    }

    #[test]
    fn threads_and_layouts_change_nothing(labels in maps(), shape in shapes()) {
        let expected = run(&labels, shape, None);
        let again = with_threads(Some(3), || run(&labels, shape, None)).expect("threads start");
        prop_assert_eq!(&again, &expected);
        let mut columns = Array3::zeros(labels.raw_dim().f());
        columns.assign(&labels);
        let mut out = Array3::zeros(expected.raw_dim().f());
        resample_labels(columns.view(), out.view_mut(), None).expect("the shapes are valid");
        prop_assert_eq!(out, expected);
    }
}
