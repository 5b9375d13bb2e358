//! Windows and blending against their naive twins.

use half::f16;
use ndarray::{Array3, Array4, ArrayD, ArrayView3, ArrayView4, ArrayViewD, Axis, Ix3, Ix4, concatenate};
use nnunet_kernels::Float;
use nnunet_kernels::Result;
use nnunet_kernels::with_threads;
use nnunet_kernels::{Blend, Memory};
use nnunet_kernels::{gaussian_importance, naive, window_starts};
use proptest::prelude::*;

/// Sizes with tiles that fit.
fn grids() -> impl Strategy<Value = ([usize; 3], [usize; 3])> {
    let axis = (1_usize..14).prop_flat_map(|size| (Just(size), 1..=size));
    [axis.clone(), axis.clone(), axis].prop_map(|axes| (axes.map(|axis| axis.0), axes.map(|axis| axis.1)))
}

fn patch(classes: usize, tile: [usize; 3], seed: usize) -> Array4<f32> {
    Array4::from_shape_fn((classes, tile[0], tile[1], tile[2]), |(c, z, y, x)| {
        ((c * 131 + z * 31 + y * 17 + x * 7 + seed * 101) % 89) as f32 / 11.0 - 4.0
    })
}

/// A blend with memory of its own.
struct Owner<S> {
    blend: Blend<S>,
    sums: Array4<S>,
    weights: Array3<f32>,
}

impl<S: Float> Owner<S> {
    fn new(classes: usize, size: &[usize], tile: &[usize], stream_axis: Option<usize>) -> Self {
        let blend = Blend::new(classes, size, tile, stream_axis).unwrap();
        let [c, z, y, x] = blend.shape();
        let (sums, weights) = (Array4::from_elem((c, z, y, x), S::default()), Array3::zeros((z, y, x)));
        Self { blend, sums, weights }
    }

    fn add<P: Float>(&mut self, patch: ArrayViewD<'_, P>, start: &[usize]) -> Result<Option<ArrayD<S>>> {
        let mut done = self.blend.done_before(start)?.map(|shape| Array4::from_elem(shape, S::default()));
        let memory = Memory { sums: self.sums.view_mut(), weights: self.weights.view_mut() };
        self.blend.add(memory, patch, start, done.as_mut().map(|done| done.view_mut()))?;
        Ok(done.map(|done| self.restored(done)))
    }

    fn finish(mut self) -> Result<ArrayD<S>> {
        let mut rest = self.blend.rest().map(|shape| Array4::from_elem(shape, S::default()));
        let memory = Memory { sums: self.sums.view_mut(), weights: self.weights.view_mut() };
        self.blend.finish(memory, rest.as_mut().map(|rest| rest.view_mut()))?;
        let sums = std::mem::take(&mut self.sums);
        Ok(self.restored(rest.unwrap_or(sums)))
    }

    fn restored(&self, result: Array4<S>) -> ArrayD<S> {
        let (missing, axes) = self.blend.restored_axes();
        let result = result.into_dyn();
        missing.map_or(result.clone(), |axis| result.index_axis_move(Axis(axis), 0)).permuted_axes(axes)
    }
}

/// Feeds all windows in order along `axis` and joins what comes out.
fn blended(size: [usize; 3], tile: [usize; 3], starts: &[Vec<usize>], stream_axis: Option<usize>) -> ArrayD<f32> {
    let mut blend = Owner::<f32>::new(2, &size, &tile, stream_axis);
    let mut parts = Vec::new();
    for (seed, start) in starts.iter().enumerate() {
        parts.extend(blend.add(patch(2, tile, seed).view().into_dyn(), start).unwrap());
    }
    parts.push(blend.finish().unwrap());
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    concatenate(Axis(1 + stream_axis.unwrap_or(0)), &views).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn starts_follow_the_formula((size, tile) in grids(), step in 0.1_f64..=1.0) {
        let starts = window_starts(&size, &tile, step).unwrap();
        let axes = [0, 1, 2].map(|axis| naive::tiles::axis_starts(size[axis], tile[axis], step));
        let mut expected = Vec::new();
        for &z in &axes[0] {
            for &y in &axes[1] {
                expected.extend(axes[2].iter().map(|&x| vec![z, y, x]));
            }
        }
        prop_assert_eq!(starts, expected);
    }

    #[test]
    fn importance_is_the_gaussian((_, tile) in grids()) {
        let weights = gaussian_importance(&tile).unwrap();
        for (weight, expected) in weights.iter().zip(&naive::tiles::gaussian_importance(&tile)) {
            prop_assert!((weight - expected).abs() <= 1e-6 * expected && *weight > 0.0);
        }
    }

    #[test]
    fn whole_and_streamed_equal_the_naive_twin((size, tile) in grids(), axis in 0_usize..3) {
        let mut starts = window_starts(&size, &tile, 0.5).unwrap();
        starts.sort_by_key(|start| start[axis]);
        let patches: Vec<Array4<f32>> = (0..starts.len()).map(|seed| patch(2, tile, seed)).collect();
        let windows: Vec<(ArrayView4<'_, f32>, [usize; 3])> =
            patches.iter().zip(&starts).map(|(patch, start)| (patch.view(), [start[0], start[1], start[2]])).collect();
        let importance = gaussian_importance(&tile).unwrap();
        let importance: ArrayView3<'_, f32> = importance.view().into_dimensionality::<Ix3>().unwrap();
        let expected = naive::blend::blend(2, size, &windows, importance).into_dyn();
        prop_assert_eq!(&blended(size, tile, &starts, None), &expected);
        prop_assert_eq!(&blended(size, tile, &starts, Some(axis)), &expected);
        let streamed = || blended(size, tile, &starts, Some(axis));
        prop_assert_eq!(&with_threads(Some(3), streamed).unwrap(), &expected);
    }

    #[test]
    fn what_is_no_number_stays_in_its_voxel((size, tile) in grids(), seed: usize, infinite: bool) {
        let starts = window_starts(&size, &tile, 0.5).unwrap();
        let at = [seed % tile[0], seed / 7 % tile[1], seed / 91 % tile[2]];
        let mut bad = patch(1, tile, 0);
        bad[[0, at[0], at[1], at[2]]] = if infinite { f32::INFINITY } else { f32::NAN };
        let mut blend = Owner::<f32>::new(1, &size, &tile, None);
        for (index, start) in starts.iter().enumerate() {
            let patch = if index == seed % starts.len() { bad.clone() } else { patch(1, tile, index) };
            blend.add(patch.view().into_dyn(), start).unwrap();
        }
        let start = &starts[seed % starts.len()];
        for (place, mean) in blend.finish().unwrap().indexed_iter() {
            let here = (0..3).all(|axis| place[axis + 1] == start[axis] + at[axis]);
            prop_assert_eq!(mean.is_finite(), !here, "at {:?}", place);
        }
    }

    #[test]
    fn half_patches_are_their_values((size, tile) in grids()) {
        let starts = window_starts(&size, &tile, 0.5).unwrap();
        let (mut half, mut single) = (Owner::<f32>::new(2, &size, &tile, None), Owner::<f32>::new(2, &size, &tile, None));
        for (seed, start) in starts.iter().enumerate() {
            let values = patch(2, tile, seed).mapv(f16::from_f32).into_dyn();
            half.add(values.view(), start).unwrap();
            single.add(values.mapv(f32::from).view(), start).unwrap();
        }
        prop_assert_eq!(half.finish().unwrap(), single.finish().unwrap());
    }

    #[test]
    fn half_precision_stays_within_the_windows((size, tile) in grids()) {
        // Every window has one value a class: means lie between the least and the greatest.
        let starts = window_starts(&size, &tile, 0.5).unwrap();
        let mut blend = Owner::<f16>::new(1, &size, &tile, None);
        for (value, start) in starts.iter().enumerate() {
            let patch = Array4::from_elem((1, tile[0], tile[1], tile[2]), f16::from_f32(value as f32 % 5.0 + 1.0));
            blend.add(patch.view().into_dyn(), start).unwrap();
        }
        let highest = starts.len().min(5) as f32;
        for mean in &blend.finish().unwrap() {
            prop_assert!((0.99..=1.01 * highest).contains(&mean.to_f32()), "{mean}");
        }
    }
}

#[test]
fn any_strides_are_taken() {
    let (size, tile) = ([6, 6, 6], [4, 4, 4]);
    let patch = patch(2, tile, 3);
    let mut turned = patch.clone();
    turned.invert_axis(Axis(3));
    turned.swap_axes(1, 2);
    let contiguous = turned.as_standard_layout().into_owned();
    let blend = |patch: ArrayView4<'_, f32>| {
        let mut blend = Owner::<f32>::new(2, &size, &tile, None);
        for start in window_starts(&size, &tile, 0.5).unwrap() {
            blend.add(patch.into_dyn(), &start).unwrap();
        }
        blend.finish().unwrap().into_dimensionality::<Ix4>().unwrap()
    };
    assert_eq!(blend(turned.view()), blend(contiguous.view()));
}

#[test]
fn refusals_name_rule_and_value() {
    let message = |error: nnunet_kernels::KernelError| error.to_string();
    assert!(message(window_starts(&[4], &[5], 0.5).unwrap_err()).contains("at least the tile [5]"));
    assert!(message(window_starts(&[4], &[2], 0.0).unwrap_err()).contains("above 0"));
    assert!(message(window_starts(&[usize::MAX], &[1], 0.5).unwrap_err()).contains("windows"));
    assert!(message(gaussian_importance(&[0]).unwrap_err()).contains("at least 1 voxel"));
    let patch = Array4::<f32>::zeros((1, 4, 4, 4)).into_dyn();
    let mut blend = Owner::<f32>::new(1, &[8, 4, 4], &[4, 4, 4], Some(0));
    assert!(message(blend.add(patch.view(), &[2, 0, 0]).unwrap_err()).contains("cover every voxel"));
    let mut blend = Owner::<f32>::new(1, &[12, 4, 4], &[4, 4, 4], Some(0));
    blend.add(patch.view(), &[0, 0, 0]).unwrap();
    assert!(message(blend.add(patch.view(), &[5, 0, 0]).unwrap_err()).contains("leave no gap"));
    blend.add(patch.view(), &[4, 0, 0]).unwrap();
    assert!(message(blend.add(patch.view(), &[3, 0, 0]).unwrap_err()).contains("arrive in order"));
    assert!(message(blend.finish().unwrap_err()).contains("cover every voxel"));
    let mut blend = Owner::<f32>::new(1, &[4, 4, 4], &[4, 4, 4], None);
    blend.sums = Array4::zeros((1, 4, 4, 3));
    assert!(message(blend.add(patch.view(), &[0, 0, 0]).unwrap_err()).contains("have the shape [1, 4, 4, 4]"));
    blend.sums = Array4::zeros((4, 4, 4, 1)).reversed_axes();
    assert!(message(blend.add(patch.view(), &[0, 0, 0]).unwrap_err()).contains("contiguous rows"));
    assert!(Blend::<f32>::new(1 << 40, &[1 << 20, 1 << 20], &[1, 1], None).is_err());
}
