//! Warping against its naive twin.

use ndarray::{Array3, Array4, ArrayView3, Axis};
use nnunet_kernels::Order;
use nnunet_kernels::naive::noise_row;
use nnunet_kernels::warp::{Elastic, Image, Labels, Motion, Warp};
use nnunet_kernels::{naive, with_threads};
use proptest::prelude::*;

fn noise(shape: [usize; 3], seed: u64) -> Array3<f32> {
    let mut image = Array3::zeros(shape);
    for (z, mut plane) in image.outer_iter_mut().enumerate() {
        for (y, mut row) in plane.outer_iter_mut().enumerate() {
            noise_row(seed, [7, z, y], row.as_slice_mut().unwrap());
        }
    }
    image
}

fn motions(plane: bool) -> impl Strategy<Value = (Motion, [usize; 3], [usize; 3])> {
    let depth = if plane { 1_usize..2 } else { 1..12 };
    let sizes = (depth.clone(), 1_usize..16, 1_usize..16).prop_map(|(z, y, x)| [z, y, x]);
    let shapes = (depth, 1_usize..12, 1_usize..12).prop_map(|(z, y, x)| [z, y, x]);
    let elastic = prop::option::of((0.0..30.0_f64, 0.5..9.0_f64, any::<u64>()));
    (sizes, shapes, prop::array::uniform9(-1.2..1.2_f64), prop::array::uniform3(0.0..1.0_f64), elastic).prop_map(
        move |(size, shape, m, at, elastic)| {
            let matrix = [[m[0], m[1], m[2]], [m[3], m[4], m[5]], [m[6], m[7], m[8]]];
            let centre = [0, 1, 2].map(|axis| at[axis] * (size[axis] - 1) as f64);
            let elastic = elastic.map(|(alpha, sigma, seed)| Elastic { alpha, sigma, seed });
            (Motion { matrix, centre, elastic, plane }, size, shape)
        },
    )
}

fn fast_image(motion: Motion, image: ArrayView3<'_, f32>, shape: [usize; 3], order: Order) -> Array3<f32> {
    let mut out = Array4::zeros((1, shape[0], shape[1], shape[2]));
    let warp = Warp::new(motion, shape).unwrap();
    warp.image(Image { from: image.insert_axis(Axis(0)), to: out.view_mut(), order, border: -5.0 }).unwrap();
    out.index_axis_move(Axis(0), 0)
}

/// How far positions may be off: the elastic field is evaluated on a coarse grid.
fn slack(motion: &Motion) -> f64 {
    motion.elastic.map_or(1e-9, |elastic| 1e-2 * elastic.alpha.max(1e-3))
}

/// Positions that slack could carry over an edge of the image, or over a half.
fn doubtful(positions: &[Array3<f64>; 3], size: [usize; 3], slack: f64, halves: bool) -> Array3<bool> {
    Array3::from_shape_fn(positions[0].raw_dim(), |index: (usize, usize, usize)| {
        (0..3).any(|axis| {
            let position = positions[axis][index];
            let edge = position.abs().min((position - (size[axis] - 1) as f64).abs());
            let half = (position - position.floor() - 0.5).abs();
            edge < slack || (halves && half < slack)
        })
    })
}

fn check_image(motion: Motion, size: [usize; 3], shape: [usize; 3]) -> Result<(), TestCaseError> {
    let image = noise(size, 5);
    let positions = naive::warp::positions(&motion, shape);
    for order in [Order::Nearest, Order::Linear, Order::Cubic] {
        let expected = naive::warp::image(image.view(), &positions, order, -5.0);
        let found = fast_image(motion, image.view(), shape, order);
        let skip = doubtful(&positions, size, slack(&motion), order == Order::Nearest);
        // Noise in [-1, 1] has slopes of up to about 6 a voxel.
        let tolerance = 1e-5 + 6.0 * if motion.elastic.is_some() { slack(&motion) } else { 0.0 };
        for ((index, expected), found) in expected.indexed_iter().zip(&found) {
            prop_assert!(
                skip[index] || (expected - f64::from(*found)).abs() <= tolerance,
                "{order:?} at {index:?}: {found}, not {expected}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn images_equal_the_naive_twin((motion, size, shape) in motions(false)) {
        check_image(motion, size, shape)?;
    }

    #[test]
    fn planes_equal_the_naive_twin((motion, size, shape) in motions(true)) {
        check_image(motion, size, shape)?;
    }

    #[test]
    fn labels_equal_the_naive_twin((motion, size, shape) in motions(false)) {
        let motion = Motion { elastic: None, ..motion };
        let labels = noise(size, 9).mapv(|value| ((value + 1.0) * 3.0) as i32 - 2);
        let positions = naive::warp::positions(&motion, shape);
        let (expected, lead) = naive::warp::labels(labels.view(), &positions, 77);
        let mut out = Array4::zeros((1, shape[0], shape[1], shape[2]));
        let warp = Warp::new(motion, shape).unwrap();
        warp.labels(Labels { from: labels.view().insert_axis(Axis(0)), to: out.view_mut(), border: 77 }).unwrap();
        let skip = doubtful(&positions, size, 1e-9, false);
        for ((index, expected), found) in expected.indexed_iter().zip(&out) {
            prop_assert!(skip[index] || lead[index] < 1e-5 || expected == found, "at {:?}", index);
        }
    }

    #[test]
    fn far_and_near((motion, size, shape) in motions(false), power in -7..7_i32) {
        let matrix = motion.matrix.map(|row| row.map(|value| value * 2_f64.powi(power)));
        check_image(Motion { matrix, elastic: None, ..motion }, size, shape)?;
    }

    #[test]
    fn every_type_has_the_same_votes((motion, size, shape) in motions(false)) {
        let labels = noise(size, 9).mapv(|value| ((value + 1.0) * 3.0) as u8);
        let warp = Warp::new(motion, shape).unwrap();
        let mut expected = Array4::<u8>::zeros((1, shape[0], shape[1], shape[2]));
        let from = labels.view().insert_axis(Axis(0));
        warp.labels(Labels { from, to: expected.view_mut(), border: 3 }).unwrap();
        macro_rules! check {
            ($($type:ty),+) => {
                $({
                    let mut out = Array4::<$type>::zeros(expected.raw_dim());
                    let labels = labels.mapv(<$type>::from).insert_axis(Axis(0));
                    warp.labels(Labels { from: labels.view(), to: out.view_mut(), border: 3 }).unwrap();
                    prop_assert_eq!(out, expected.mapv(<$type>::from));
                })+
            };
        }
        check!(u16, i16, u32, i32, f32);
    }

    #[test]
    fn image_and_labels_together_are_each_by_itself((motion, size, shape) in motions(false), order in 0..3_usize) {
        let order = [Order::Nearest, Order::Linear, Order::Cubic][order];
        let image = noise(size, 5).insert_axis(Axis(0));
        let labels = image.mapv(|value| (value * 3.0) as i16);
        let warp = Warp::new(motion, shape).unwrap();
        let mut images = [0, 1].map(|_| Array4::<f32>::zeros((1, shape[0], shape[1], shape[2])));
        let mut marks = [0, 1].map(|_| Array4::<i16>::zeros((1, shape[0], shape[1], shape[2])));
        let [together, alone] = images.each_mut().map(|to| Image { from: image.view(), to: to.view_mut(), order, border: 0.5 });
        let [with, without] = marks.each_mut().map(|to| Labels { from: labels.view(), to: to.view_mut(), border: 9 });
        warp.both(Some(together), Some(with)).unwrap();
        warp.image(alone).unwrap();
        warp.labels(without).unwrap();
        prop_assert_eq!(&images[0], &images[1]);
        prop_assert_eq!(&marks[0], &marks[1]);
    }

    #[test]
    fn what_is_no_number_stays_within_reach((motion, size, shape) in motions(false), seed: usize, infinite: bool) {
        let motion = Motion { elastic: None, ..motion };
        let mut image = noise(size, 5);
        let at = [seed % size[0], seed / 7 % size[1], seed / 91 % size[2]];
        image[at] = if infinite { f32::INFINITY } else { f32::NAN };
        let positions = naive::warp::positions(&motion, shape);
        let found = fast_image(motion, image.view(), shape, Order::Linear);
        for (index, value) in found.indexed_iter() {
            let apart = [0, 1, 2].map(|axis| (positions[axis][index] - at[axis] as f64).abs());
            let inside = (0..3).all(|axis| (1e-9..(size[axis] - 1) as f64 - 1e-9).contains(&positions[axis][index]));
            let (reached, near) = (apart.iter().all(|apart| *apart < 0.999), apart.iter().all(|apart| *apart < 1.001));
            prop_assert!(value.is_finite() || near, "{} at {:?}", value, index);
            prop_assert!(!(value.is_finite() && reached && inside), "{} at {:?}", value, index);
        }
    }

    #[test]
    fn constant_stays_constant((motion, size, shape) in motions(false), value in -1e30..1e30_f32) {
        let image = Array3::from_elem(size, value);
        for (order, slack) in [(Order::Nearest, 0.0), (Order::Linear, 0.0), (Order::Cubic, 1e-6)] {
            for found in &fast_image(motion, image.view(), shape, order) {
                prop_assert!(*found == -5.0 || (found - value).abs() <= slack * value.abs(), "{} {:?}", found, order);
            }
        }
    }

    #[test]
    fn threads_and_strides_do_not_matter((motion, size, shape) in motions(false)) {
        let image = noise(size, 3);
        let mut strided = Array3::<f32>::zeros((size[2], size[0], size[1])).permuted_axes([1, 2, 0]);
        strided.assign(&image);
        let run = |threads: usize, image: ArrayView3<'_, f32>| {
            with_threads(Some(threads), || fast_image(motion, image, shape, Order::Cubic)).unwrap()
        };
        prop_assert_eq!(&run(1, image.view()), &run(3, image.view()));
        prop_assert_eq!(run(1, image.view()), run(2, strided.view()));
    }
}

/// The identity keeps every voxel, with any order.
#[test]
fn identity() {
    let image = noise([5, 6, 7], 1);
    let unit = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let motion = Motion { matrix: unit, centre: [2.0, 2.5, 3.0], elastic: None, plane: false };
    for order in [Order::Nearest, Order::Linear, Order::Cubic] {
        let found = fast_image(motion, image.view(), [5, 6, 7], order);
        assert!(found.iter().zip(&image).all(|(a, b)| (a - b).abs() < 1e-6), "{order:?}");
    }
}

/// A quarter turn about x of the labels 0 … 3 of a 2 × 2 plane, and a vote between two and one of a kind.
#[test]
fn by_hand() {
    let labels = Array4::from_shape_vec((1, 1, 2, 2), vec![0_u8, 1, 2, 3]).unwrap();
    let turned = [[0.0; 3], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]];
    let motion = Motion { matrix: turned, centre: [0.0, 0.5, 0.5], elastic: None, plane: true };
    let mut out = Array4::zeros((1, 1, 2, 2));
    Warp::new(motion, [1, 2, 2])
        .unwrap()
        .labels(Labels { from: labels.view(), to: out.view_mut(), border: 0 })
        .unwrap();
    assert_eq!(out.into_raw_vec_and_offset().0, [1, 3, 0, 2]);
    let labels = Array4::from_shape_vec((1, 1, 2, 2), vec![4_u8, 7, 7, 4]).unwrap();
    let mut out = Array4::zeros((1, 1, 1, 1));
    // The middle is a tie between 4 and 7; the nearest voxel, half-way the later one, has 4.
    Warp::new(motion, [1, 1, 1])
        .unwrap()
        .labels(Labels { from: labels.view(), to: out.view_mut(), border: 0 })
        .unwrap();
    assert_eq!(out[(0, 0, 0, 0)], 4);
}

/// The smoothed field has the deviation that theory gives it, and no mean.
#[test]
fn the_noise_is_uniform_and_white() {
    let rows: Vec<Vec<f32>> = (0..400)
        .map(|y| {
            let mut row = vec![0.0; 250];
            noise_row(42, [1, 3, y], &mut row);
            row
        })
        .collect();
    let values: Vec<f64> = rows.iter().flatten().map(|v| f64::from(*v)).collect();
    let count = values.len() as f64;
    assert!(values.iter().all(|v| (-1.0..1.0).contains(v)));
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|v| v * v).sum::<f64>() / count;
    let next = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / count;
    let below = values.iter().zip(&values[250..]).map(|(a, b)| a * b).sum::<f64>() / count;
    assert!(mean.abs() < 0.01 && (square - 1.0 / 3.0).abs() < 0.005 && next.abs() < 0.005 && below.abs() < 0.005);
}

#[test]
fn refusals_name_rule_and_value() {
    let unit = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let motion = Motion { matrix: unit, centre: [0.0; 3], elastic: None, plane: false };
    let refused =
        |motion: Motion| Warp::new(motion, [2, 2, 2]).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused(Motion { centre: [f64::NAN, 0.0, 0.0], ..motion }).contains("centre must"));
    assert!(refused(Motion { matrix: [[f64::INFINITY; 3]; 3], ..motion }).contains("matrix must"));
    let elastic = |alpha, sigma| Motion { elastic: Some(Elastic { alpha, sigma, seed: 0 }), ..motion };
    assert!(refused(elastic(f64::NAN, 3.0)).contains("alpha must"));
    assert!(refused(elastic(1.0, 0.0)).contains("sigma must"));
    assert!(refused(elastic(1.0, 1e9)).contains("sigma must"));
    assert!(refused(Motion { plane: true, ..motion }).contains("single plane"));
    let warp = Warp::new(motion, [2, 2, 2]).unwrap();
    let labels = Array4::<u8>::zeros((1, 2, 2, 2));
    let mut out = Array4::zeros((1, 2, 2, 2));
    let refused = |labels: Labels<'_, u8>| warp.labels(labels).unwrap_err().to_string();
    assert!(refused(Labels { from: labels.view(), to: out.view_mut(), border: 300 }).contains("label_border"));
    let mut small = Array4::zeros((1, 2, 2, 1));
    assert!(
        refused(Labels { from: labels.view(), to: small.view_mut(), border: 0 }).contains("out must be contiguous")
    );
    let image = Array4::<f32>::zeros((1, 2, 2, 3));
    let mut moved = Array4::zeros((1, 2, 2, 2));
    let image = Image { from: image.view(), to: moved.view_mut(), order: Order::Linear, border: 0.0 };
    let labels = Labels { from: labels.view(), to: out.view_mut(), border: 0 };
    assert!(
        warp.both(Some(image), Some(labels)).unwrap_err().to_string().contains("labels must have the image's size")
    );
}
