//! Deciding tile by tile agrees with resampling every class first.

use half::f16;
use ndarray::{Array3, Array4, ShapeBuilder};
use nnunet_kernels::logits::{logits_to_labels, logits_to_regions, resample_probabilities};
use nnunet_kernels::naive::logits::{greatest, resample_linearly};
use nnunet_kernels::pool::with_threads;
use proptest::prelude::*;

/// Decisions nearer than this are float32's to make.
const CLOSE: f64 = 1e-5;

fn shapes() -> impl Strategy<Value = [usize; 3]> {
    prop_oneof![[1..7_usize, 1..7, 1..7], [1..3_usize, 1..40, 1..40]]
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
        logits_to_labels(logits.view(), out.view_mut(), axis, &[]).expect("the shapes are sound");
        let (labels, lead) = greatest(&resample_linearly(logits.view(), shape, axis));
        for ((got, expected), lead) in out.iter().zip(&labels).zip(&lead) {
            prop_assert!(usize::from(*got) == *expected || *lead < CLOSE);
        }
        let mut again = Array3::<u16>::zeros(shape);
        let mut columns = Array4::zeros(logits.raw_dim().f());
        columns.assign(&logits);
        let run = || logits_to_labels(columns.view(), again.view_mut(), axis, &[]);
        with_threads(Some(3), run).expect("threads start").expect("the shapes are sound");
        prop_assert!(out.iter().zip(&again).all(|(a, b)| u16::from(*a) == *b));
    }

    #[test]
    fn regions_equal_the_naive_twin(logits in logits(), shape in shapes(), axis in prop::option::of(0..3_usize)) {
        let paint: Vec<u16> = (0..logits.shape()[0]).map(|region| 7 + region as u16).collect();
        let mut out = Array3::<u8>::zeros(shape);
        logits_to_regions(logits.view(), out.view_mut(), &paint, axis, &[]).expect("the shapes are sound");
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
        resample_probabilities(values.view(), single.view_mut(), axis, &[]).expect("the shapes are sound");
        prop_assert!(single.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5));
        let mut half = Array4::from_elem(expected.raw_dim(), f16::ZERO);
        resample_probabilities(values.mapv(f16::from_f32).view(), half.view_mut(), axis, &[]).expect("sound");
        prop_assert!(half.iter().zip(&expected).all(|(a, b)| (a.to_f64() - b).abs() < 1e-2));
    }
}
