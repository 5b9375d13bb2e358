//! Sums of windows, activated and mirrored, against the naive twins of activation and blending.

use ndarray::{Array4, ArrayView3, Axis};
use nnunet_kernels::Activation;
use nnunet_kernels::WindowAccumulator;
use nnunet_kernels::naive;
use nnunet_kernels::with_threads;
use nnunet_kernels::{gaussian_importance, window_starts};
use proptest::prelude::*;

/// Sizes with tiles that fit; rows longer than what is activated at once.
fn grids() -> impl Strategy<Value = ([usize; 3], [usize; 3])> {
    let axis = |most: usize| (1..most).prop_flat_map(|size| (Just(size), 1..=size));
    [axis(8), axis(20), axis(150)].prop_map(|axes| (axes.map(|axis| axis.0), axes.map(|axis| axis.1)))
}

fn output(classes: usize, tile: [usize; 3], seed: usize) -> Array4<f32> {
    Array4::from_shape_fn((classes, tile[0], tile[1], tile[2]), |(c, z, y, x)| {
        ((c * 131 + z * 31 + y * 17 + x * 7 + seed * 101) % 89) as f32 / 11.0 - 4.0
    })
}

/// What a window's outputs count as.
fn scores(output: &Array4<f32>, activation: Activation, mirrored: [bool; 3]) -> Array4<f32> {
    let mut scores = output.clone();
    for (mut scores, logits) in scores.lanes_mut(Axis(0)).into_iter().zip(output.lanes(Axis(0))) {
        let exact = naive::scores::activated(&logits.to_vec(), activation);
        scores.iter_mut().zip(exact).for_each(|(score, exact)| *score = exact as f32);
    }
    (0..3).filter(|&axis| mirrored[axis]).for_each(|axis| scores.invert_axis(Axis(axis + 1)));
    scores
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn equal_the_naive_twins(
        (size, tile) in grids(), classes in 1..4_usize, mirrored: [bool; 3],
        activation in prop::sample::select(vec![Activation::None, Activation::Softmax, Activation::Sigmoid]),
    ) {
        let starts = window_starts(&size, &tile, 0.5).unwrap();
        let turned = |seed: usize| mirrored.map(|mirrored| mirrored && seed % 2 == 1);
        let run = || {
            let mut sums = WindowAccumulator::new(classes, size, tile).unwrap();
            for (seed, start) in starts.iter().enumerate() {
                let start = [start[0], start[1], start[2]];
                sums.add(output(classes, tile, seed).view(), start, activation, turned(seed)).unwrap();
            }
            sums.mean([0; 3], size).unwrap()
        };
        let found = with_threads(Some(1), run).unwrap();
        prop_assert_eq!(&with_threads(Some(3), run).unwrap(), &found);
        let scores: Vec<_> =
            (0..starts.len()).map(|seed| scores(&output(classes, tile, seed), activation, turned(seed))).collect();
        let windows: Vec<_> =
            scores.iter().zip(&starts).map(|(scores, start)| (scores.view(), [start[0], start[1], start[2]])).collect();
        let importance = gaussian_importance(&tile).unwrap().into_dimensionality().unwrap();
        let expected = naive::blend::blend(classes, size, &windows, ArrayView3::from(&importance));
        let apart = (&found - &expected).mapv(f32::abs).fold(0.0, |most: f32, &apart| most.max(apart));
        prop_assert!(apart < 2e-5, "{}", apart);
    }
}
