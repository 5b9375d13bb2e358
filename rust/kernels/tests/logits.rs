//! Deciding tile by tile agrees with resampling every class first.

use half::f16;
use ndarray::{Array3, Array4, Axis, ShapeBuilder};
use nnunet_kernels::Slab;
use nnunet_kernels::naive::logits::{greatest, resample_linearly};
use nnunet_kernels::with_threads;
use nnunet_kernels::{logits_to_labels, logits_to_regions, resample_probabilities};
use proptest::prelude::*;

/// Decisions nearer than this are float32's to make.
const CLOSE: f64 = 1e-5;

fn shapes() -> impl Strategy<Value = [usize; 3]> {
    prop_oneof![
        4 => [1..7_usize, 1..7, 1..7],
        4 => [1..3_usize, 1..40, 1..40],
        1 => [1..3_usize, 1..3, 150..200], // from and to a hundred times as many
    ]
}

/// Noise, and noise on wide areas in which one class leads.
fn logits() -> impl Strategy<Value = Array4<f32>> {
    (shapes(), 1..5_usize, 0..9_usize).prop_flat_map(|([z, y, x], classes, block)| {
        prop::collection::vec(-3.0..3.0_f32, classes * z * y * x).prop_map(move |v| {
            let noise = Array4::from_shape_vec((classes, z, y, x), v).expect("as many values as the shape has");
            let leader = |at: usize| at.checked_div(block).map(|area| area % classes);
            Array4::from_shape_fn(noise.raw_dim(), |(c, z, y, x)| {
                let leads = leader(z + y + x) == Some(c);
                noise[(c, z, y, x)] + if leads { 8.0 } else { 0.0 }
            })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn labels_equal_the_naive_twin(logits in logits(), shape in shapes(), axis in prop::option::of(0..3_usize)) {
        let mut out = Array3::<u8>::zeros(shape);
        logits_to_labels(logits.view(), out.view_mut(), axis, &[]).expect("the shapes are valid");
        let (labels, lead) = greatest(&resample_linearly(logits.view(), shape, axis));
        for ((got, expected), lead) in out.iter().zip(&labels).zip(&lead) {
            prop_assert!(usize::from(*got) == *expected || *lead < CLOSE);
        }
        let mut again = Array3::<u16>::zeros(shape);
        let mut columns = Array4::zeros(logits.raw_dim().f());
        columns.assign(&logits);
        let run = || logits_to_labels(columns.view(), again.view_mut(), axis, &[]);
        with_threads(Some(3), run).expect("threads start").expect("the shapes are valid");
        prop_assert!(out.iter().zip(&again).all(|(a, b)| u16::from(*a) == *b));
    }

    #[test]
    fn half_precision_has_the_labels_of_its_values(logits in logits(), shape in shapes()) {
        let halves = logits.mapv(f16::from_f32);
        let (mut half, mut single) = (Array3::<u8>::zeros(shape), Array3::<u8>::zeros(shape));
        logits_to_labels(halves.view(), half.view_mut(), None, &[]).expect("the shapes are valid");
        logits_to_labels(halves.mapv(f32::from).view(), single.view_mut(), None, &[]).expect("the shapes are valid");
        prop_assert_eq!(half, single);
    }

    #[test]
    fn slabs_are_parts_of_the_whole(logits in logits(), shape in shapes(), axis in 0..3_usize, cut: usize) {
        let mut whole = Array3::<u8>::zeros(shape);
        logits_to_labels(logits.view(), whole.view_mut(), None, &[]).expect("the shapes are valid");
        let first = cut % shape[axis];
        let slab = Slab { axis, logits: (0, logits.len_of(Axis(axis + 1))), out: (first, shape[axis]) };
        let expected = whole.slice_axis(Axis(axis), (first..).into());
        let mut part = Array3::<u8>::zeros(expected.raw_dim());
        logits_to_labels(logits.view(), part.view_mut(), None, &[slab]).expect("the slab is valid");
        prop_assert_eq!(part, expected);
    }

    #[test]
    fn the_same_grid_keeps_every_value(logits in logits(), seed: usize) {
        let mut logits = logits;
        let shape = [1, 2, 3].map(|axis| logits.len_of(Axis(axis)));
        let at = [seed % shape[0], seed / 7 % shape[1], seed / 91 % shape[2]];
        // NaN is never the greatest, unless there is nothing else.
        logits[[0, at[0], at[1], at[2]]] = f32::NAN;
        let mut out = Array3::<u16>::zeros(shape);
        logits_to_labels(logits.view(), out.view_mut(), None, &[]).expect("the shapes are valid");
        let (labels, _) = greatest(&logits.mapv(f64::from));
        prop_assert_eq!(out.mapv(usize::from), labels);
        let mut kept = Array4::<f32>::zeros(logits.raw_dim());
        resample_probabilities(logits.view(), kept.view_mut(), None, &[]).expect("the shapes are valid");
        prop_assert_eq!(kept.mapv(f32::to_bits), logits.mapv(f32::to_bits));
    }

    #[test]
    fn threads_change_no_bit(logits in logits(), shape in shapes()) {
        let run = || {
            let paint: Vec<u16> = (0..logits.shape()[0]).map(|region| 7 + region as u16).collect();
            let mut regions = Array3::<u8>::zeros(shape);
            logits_to_regions(logits.view(), regions.view_mut(), &paint, None, &[]).expect("the shapes are valid");
            let mut values = Array4::<f32>::zeros((paint.len(), shape[0], shape[1], shape[2]));
            resample_probabilities(logits.view(), values.view_mut(), None, &[]).expect("the shapes are valid");
            (regions, values.mapv(f32::to_bits))
        };
        let once = with_threads(Some(1), run).expect("threads start");
        prop_assert_eq!(with_threads(Some(3), run).expect("threads start"), once);
    }

    #[test]
    fn regions_equal_the_naive_twin(logits in logits(), shape in shapes(), axis in prop::option::of(0..3_usize)) {
        let paint: Vec<u16> = (0..logits.shape()[0]).map(|region| 7 + region as u16).collect();
        let mut out = Array3::<u8>::zeros(shape);
        logits_to_regions(logits.view(), out.view_mut(), &paint, axis, &[]).expect("the shapes are valid");
        let values = resample_linearly(logits.view(), shape, axis);
        for ((z, y, x), got) in out.indexed_iter() {
            let regions: Vec<f64> = (0..paint.len()).map(|region| values[(region, z, y, x)]).collect();
            let last = regions.iter().rposition(|v| *v >= 0.0);
            let certain = regions.iter().all(|v| v.abs() > CLOSE);
            prop_assert!(!certain || u16::from(*got) == last.map_or(0, |region| paint[region]));
        }
    }

    #[test]
    fn probabilities_equal_the_naive_twin(values in logits(), shape in shapes(), axis in prop::option::of(0..3_usize)) {
        let expected = resample_linearly(values.view(), shape, axis);
        let mut single = Array4::<f32>::zeros(expected.raw_dim());
        resample_probabilities(values.view(), single.view_mut(), axis, &[]).expect("the shapes are valid");
        prop_assert!(single.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5));
        let mut half = Array4::from_elem(expected.raw_dim(), f16::ZERO);
        resample_probabilities(values.mapv(f16::from_f32).view(), half.view_mut(), axis, &[]).expect("sound");
        prop_assert!(half.iter().zip(&expected).all(|(a, b)| (a.to_f64() - b).abs() < 1e-2));
    }
}
