//! Changes of intensities against their naive twins, and noise against what it must be.

use ndarray::{Array3, Array4, Axis, ShapeBuilder};
use nnunet_kernels::naive::intensity::changed;
use nnunet_kernels::with_threads;
use nnunet_kernels::{Change, change};
use proptest::prelude::*;

fn shapes() -> impl Strategy<Value = [usize; 3]> {
    prop_oneof![[1..4_usize, 1..4, 1..4], [1..9_usize, 1..9, 1..70]]
}

fn images() -> impl Strategy<Value = Array4<f32>> {
    (shapes(), -100.0..100.0_f32, 1..3_usize).prop_flat_map(|([z, y, x], offset, channels)| {
        let voxels = prop::collection::vec(-10.0..10.0_f32, channels * z * y * x);
        voxels.prop_map(move |v| {
            Array4::from_shape_vec((channels, z, y, x), v).expect("as many voxels as the shape has") + offset
        })
    })
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0.0..2.0_f32, any::<u64>()).prop_map(|(std, seed)| Change::Noise { std, seed }),
        (0.0..6.0_f64).prop_map(|sigma| Change::Blur { sigma }),
        (0.2..2.0_f32).prop_map(|factor| Change::Scale { factor }),
        (0.2..2.0_f32).prop_map(|factor| Change::Contrast { factor }),
        shapes().prop_map(|shape| Change::SimulateLowResolution { shape }),
        (0.3..3.0_f32, any::<bool>()).prop_map(|(exponent, invert)| Change::Gamma { exponent, invert }),
    ]
}

fn run(image: &Array4<f32>, list: &[(usize, Change)]) -> Array4<f32> {
    let mut image = image.clone();
    change(image.view_mut(), list).expect("the changes are valid");
    image
}

fn spread(image: &Array4<f32>) -> f64 {
    let fold = |start: f32, pick: fn(f32, f32) -> f32| image.iter().copied().fold(start, pick);
    f64::from(fold(f32::MIN, f32::max)) - f64::from(fold(f32::MAX, f32::min))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn equals_the_naive_twin(image in images(), wanted in changes()) {
        let last = image.len_of(Axis(0)) - 1;
        let found = run(&image, &[(last, wanted)]);
        let expected = changed(image.index_axis(Axis(0), last), wanted);
        let slack = match wanted {
            Change::Noise { std, .. } => 6.0 * f64::from(std) + 1e-4,
            // A channel of nearly one value is scaled up from its rounding errors.
            Change::Gamma { .. } if spread(&image) < 0.1 => 1.0,
            _ => 3e-4,
        };
        for (found, expected) in found.index_axis(Axis(0), last).iter().zip(&expected) {
            prop_assert!((f64::from(*found) - expected).abs() <= slack, "{found}, not {expected}");
        }
        for other in 0..last {
            prop_assert_eq!(found.index_axis(Axis(0), other), image.index_axis(Axis(0), other));
        }
    }

    #[test]
    fn threads_and_strides_change_no_bit(image in images(), list in prop::collection::vec(changes(), 0..5)) {
        let channels = image.len_of(Axis(0));
        let list: Vec<_> = list.into_iter().enumerate().map(|(i, change)| (i % channels, change)).collect();
        let expected = run(&image, &list);
        prop_assert_eq!(&with_threads(Some(3), || run(&image, &list)).expect("threads start"), &expected);
        let mut columns = Array4::zeros(image.raw_dim().f());
        columns.assign(&image);
        change(columns.view_mut(), &list).expect("the changes are valid");
        prop_assert_eq!(columns, expected);
    }

    #[test]
    fn a_list_is_its_changes_in_turn(image in images(), list in prop::collection::vec(changes(), 0..4)) {
        let list: Vec<_> = list.into_iter().map(|change| (0, change)).collect();
        let one_by_one = list.iter().fold(image.clone(), |image, change| run(&image, &[*change]));
        prop_assert_eq!(run(&image, &list), one_by_one);
    }

    #[test]
    fn constant_stays_constant(shape in shapes(), value in -1e30..1e30_f32, wanted in changes()) {
        let image = Array4::from_elem((1, shape[0], shape[1], shape[2]), value);
        let expected = match wanted {
            Change::Noise { .. } => return Ok(()),
            Change::Scale { factor } => value * factor,
            _ => value,
        };
        prop_assert!(run(&image, &[(0, wanted)]).iter().all(|found| *found == expected));
    }

    #[test]
    fn nan_stays_within_reach(shape in shapes(), sigma in 0.2..1.0_f64, seed in any::<usize>()) {
        let mut image = Array4::zeros((1, shape[0], shape[1], shape[2]));
        let at = seed % image.len();
        image.as_slice_mut().expect("contiguous")[at] = f32::NAN;
        let blurred = run(&image, &[(0, Change::Blur { sigma })]);
        let place = [at / (shape[1] * shape[2]), at / shape[2] % shape[1], at % shape[2]];
        let radius = (4.0 * sigma + 0.5) as usize;
        for ((_, z, y, x), value) in blurred.indexed_iter() {
            let near = [z, y, x].iter().zip(place).all(|(a, b)| a.abs_diff(b) <= radius);
            prop_assert_eq!(value.is_nan(), near, "at {:?}", (z, y, x));
        }
        let whole = [Change::Contrast { factor: 0.9 }, Change::Gamma { exponent: 0.7, invert: false }];
        for change in whole {
            prop_assert!(run(&image, &[(0, change)]).iter().all(|value| value.is_nan()));
        }
        for change in [Change::Scale { factor: 2.0 }, Change::Noise { std: 1.0, seed: 3 }] {
            let count = run(&image, &[(0, change)]).iter().filter(|value| value.is_nan()).count();
            prop_assert_eq!(count, 1);
        }
    }
}

#[test]
fn noise_is_normal_and_white() {
    let image = Array4::zeros((1, 10, 100, 201));
    let noise = |seed| run(&image, &[(0, Change::Noise { std: 1.0, seed })]).into_raw_vec_and_offset().0;
    let (values, others) = (noise(1), noise(2));
    let count = values.len() as f64;
    let mean = |value: &dyn Fn(usize) -> f64| (0..values.len()).map(value).sum::<f64>() / count;
    let power = |k: i32| mean(&|i| f64::from(values[i]).powi(k));
    for (k, expected) in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0), (6, 15.0)] {
        assert!((power(k) - expected).abs() < 0.012 * [1.0, 1.0, 1.0, 3.0, 9.0, 9.0, 60.0][k as usize], "{k}");
    }
    let within = |most: f32| mean(&|i| f64::from(u8::from(values[i].abs() < most)));
    assert!((within(1.0) - 0.6827).abs() < 0.004 && (within(3.0) - 0.9973).abs() < 0.0005);
    for step in [1, 15, 16, 17, 31, 32, 201, 1024] {
        let next = (0..values.len() - step).map(|i| f64::from(values[i] * values[i + step])).sum::<f64>() / count;
        assert!(next.abs() < 0.01, "{step}: {next}");
    }
    let crossed = mean(&|i| f64::from(values[i] * others[i]));
    assert!(crossed.abs() < 0.01 && values == noise(1));
}

/// Halves of a step are mixed by the nearest voxels' weights; a power of 1 changes nothing.
#[test]
fn by_hand() {
    let step = Array3::from_shape_vec((1, 1, 4), vec![0.0_f32, 0.0, 1.0, 1.0]).expect("four").insert_axis(Axis(0));
    let blurred = run(&step, &[(0, Change::Blur { sigma: 0.3 })]);
    let beside = (-0.5_f32 / 0.09).exp();
    let weight = beside / (1.0 + 2.0 * beside);
    let expected = [0.0, weight, 1.0 - weight, 1.0];
    assert!(blurred.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6));
    let same = run(&step, &[(0, Change::Gamma { exponent: 1.0, invert: true })]);
    assert!(same.iter().zip(&step).all(|(found, expected)| (found - expected).abs() < 1e-6));
    let stretched = run(&step, &[(0, Change::Contrast { factor: 0.5 }), (0, Change::Scale { factor: 4.0 })]);
    assert_eq!(stretched.into_raw_vec_and_offset().0, [1.0, 1.0, 3.0, 3.0]);
    let coarse = run(&step, &[(0, Change::SimulateLowResolution { shape: [1, 1, 1] })]);
    assert_eq!(coarse.into_raw_vec_and_offset().0, [1.0; 4]);
}

#[test]
fn refusals_state_rule_and_value() {
    let refused = |channel, wanted| {
        let mut image = Array4::<f32>::zeros((1, 2, 2, 2));
        change(image.view_mut(), &[(channel, wanted)]).expect_err("refused").to_string()
    };
    let scale = Change::Scale { factor: 1.0 };
    assert_eq!(refused(1, scale), "channel must be below the image's 1 channel; got 1");
    for (wanted, name) in [
        (Change::Noise { std: -1.0, seed: 0 }, "std must"),
        (Change::Noise { std: f32::NAN, seed: 0 }, "std must"),
        (Change::Blur { sigma: f64::INFINITY }, "sigma must"),
        (Change::Scale { factor: f32::INFINITY }, "factor must"),
        (Change::Contrast { factor: f32::NAN }, "factor must"),
        (Change::SimulateLowResolution { shape: [1, 0, 1] }, "shape must"),
        (Change::Gamma { exponent: 0.0, invert: false }, "exponent must"),
    ] {
        assert!(refused(0, wanted).starts_with(name), "{}", refused(0, wanted));
    }
    let mut empty = Array4::<f32>::zeros((1, 0, 2, 2));
    assert!(change(empty.view_mut(), &[]).is_err());
}
