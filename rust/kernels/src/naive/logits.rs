//! Every class at the result's resolution, then the decision.

use ndarray::{Array3, Array4, ArrayView4, Axis, concatenate};

use crate::coefficients::Order;
use crate::naive::image::{resample_slices, resample_volume};

/// `values` (c, z, y, x) resampled linearly to `shape`; nearest along `lowres_axis`.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "all classes have one shape")]
pub fn resample_linearly(values: ArrayView4<'_, f32>, shape: [usize; 3], lowres_axis: Option<usize>) -> Array4<f64> {
    let classes: Vec<Array4<f64>> = values
        .outer_iter()
        .map(|class| match lowres_axis {
            None => resample_volume(class, shape, Order::Linear),
            Some(axis) => resample_slices(class, shape, Order::Linear, axis),
        })
        .map(|class| class.insert_axis(Axis(0)))
        .collect();
    let views: Vec<_> = classes.iter().map(|class| class.view()).collect();
    concatenate(Axis(0), &views).expect("the classes have one shape")
}

/// The lowest class with the greatest value, and by how much it leads.
#[must_use]
pub fn greatest(values: &Array4<f64>) -> (Array3<usize>, Array3<f64>) {
    let label = |lane: ndarray::ArrayView1<'_, f64>| {
        let first = |(best, value): (usize, f64), (class, v): (usize, &f64)| {
            if *v > value { (class, *v) } else { (best, value) }
        };
        let (best, value) = lane.iter().enumerate().fold((0, f64::MIN), first);
        let second = lane.iter().enumerate().filter(|(class, _)| *class != best).map(|(_, v)| *v);
        (best, value - second.fold(f64::MIN, f64::max))
    };
    let decisions = values.map_axis(Axis(0), label);
    (decisions.mapv(|(class, _)| class), decisions.mapv(|(_, lead)| lead))
}
