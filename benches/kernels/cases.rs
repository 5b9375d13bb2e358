//! What is measured: made-up data, the kernel's call, and who else does the same.

use half::f16;
use ndarray::{Array1, Array3, Array4, Axis};
use nnunet_kernels::Float;
use nnunet_kernels::Order;
use nnunet_kernels::foreground::{Intensity, Mask, statistics};
use nnunet_kernels::logits_to_labels;
use nnunet_kernels::resample_image;
use nnunet_kernels::resample_labels;
use nnunet_kernels::warp::{Elastic, Image, Motion, Warp};
use nnunet_kernels::window_starts;
use nnunet_kernels::{Blend, Memory};

/// One group of measurements.
pub struct Case {
    /// The group's name.
    pub name: &'static str,
    /// The kernel's work, once, into memory taken beforehand: what the system needs to hand out pages is not measured.
    pub work: Box<dyn FnMut() + Send>,
    /// Who does the same, and how `reference.py` calls it.
    pub references: &'static [(&'static str, &'static str)],
}

/// Makers of all cases, so that one case's data is gone before the next one's is made.
pub fn all() -> Vec<fn() -> Case> {
    vec![
        image_cubic,
        image_cubic_small,
        image_slices,
        image_linear,
        image_nearest,
        labels_3,
        labels_15,
        labels_118,
        labels_noise,
        logits_15,
        logits_15_half,
        logits_smooth,
        statistics_float,
        statistics_short,
        blend,
        warp_cubic,
        warp_linear,
    ]
}

/// Reproducible noise, uniform in [0, 1).
struct Noise(u64);

impl Noise {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn uniform(&mut self) -> f32 {
        (self.next() >> 13) as f32 / (1_u64 << 40) as f32
    }

    /// About normal: the sum of twelve uniform numbers.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

fn image(shape: [usize; 4]) -> Array4<f32> {
    let mut noise = Noise(88_172_645_463_325_252);
    Array4::from_shape_simple_fn(shape, || noise.normal())
}

fn image_case(from: [usize; 4], to: [usize; 4], order: Order, lowres: Option<usize>) -> Box<dyn FnMut() + Send> {
    let (image, mut out) = (image(from), Array4::zeros(to));
    Box::new(move || {
        resample_image(image.view(), out.view_mut(), order, lowres).expect("the shapes are valid");
    })
}

fn image_cubic() -> Case {
    Case {
        name: "image, order 3, 100×320×320 → 125×260×260",
        work: image_case([1, 100, 320, 320], [1, 125, 260, 260], Order::Cubic, None),
        references: &[("scipy.ndimage.zoom", "zoom 100x320x320 125x260x260 3")],
    }
}

fn image_cubic_small() -> Case {
    Case {
        name: "image, order 3, 64×96×96 → 40×128×128",
        work: image_case([1, 64, 96, 96], [1, 40, 128, 128], Order::Cubic, None),
        references: &[
            ("scipy.ndimage.zoom", "zoom 64x96x96 40x128x128 3"),
            ("skimage.transform.resize", "resize 64x96x96 40x128x128 3"),
        ],
    }
}

fn image_slices() -> Case {
    Case {
        name: "image, order 3 slice by slice, 100×320×320 → 125×260×260",
        work: image_case([1, 100, 320, 320], [1, 125, 260, 260], Order::Cubic, Some(0)),
        references: &[("skimage.transform.resize", "slices 100x320x320 125x260x260")],
    }
}

fn image_linear() -> Case {
    Case {
        name: "image, order 1, 100×320×320 → 125×260×260",
        work: image_case([1, 100, 320, 320], [1, 125, 260, 260], Order::Linear, None),
        references: &[("scipy.ndimage.zoom", "zoom 100x320x320 125x260x260 1")],
    }
}

fn image_nearest() -> Case {
    Case {
        name: "image, order 0, 100×320×320 → 125×260×260",
        work: image_case([1, 100, 320, 320], [1, 125, 260, 260], Order::Nearest, None),
        references: &[("scipy.ndimage.zoom", "zoom 100x320x320 125x260x260 0")],
    }
}

fn labels_case(count: u64, block: usize) -> Box<dyn FnMut() + Send> {
    let mut noise = Noise(88_172_645_463_325_252);
    let small = Array3::from_shape_simple_fn([100, 320, 320].map(|n: usize| n.div_ceil(block)), || {
        (noise.next() % count) as u8
    });
    let labels = Array3::from_shape_fn((100, 320, 320), |(z, y, x)| small[(z / block, y / block, x / block)]);
    let mut out = Array3::zeros((125, 260, 260));
    Box::new(move || {
        resample_labels(labels.view(), out.view_mut(), None).expect("the shapes are valid");
    })
}

fn labels_3() -> Case {
    Case {
        name: "3 labels, 100×320×320 → 125×260×260",
        work: labels_case(3, 16),
        references: &[("scipy.ndimage.zoom a label", "labels 100x320x320 125x260x260 3")],
    }
}

fn labels_15() -> Case {
    Case { name: "15 labels, the same", work: labels_case(15, 16), references: &[] }
}

fn labels_118() -> Case {
    Case { name: "118 labels, the same", work: labels_case(118, 16), references: &[] }
}

fn labels_noise() -> Case {
    Case { name: "118 labels of noise, the same", work: labels_case(118, 1), references: &[] }
}

fn logits_case<R: Float + 'static>(logits: Array4<R>, to: [usize; 3]) -> Box<dyn FnMut() + Send> {
    let mut out = Array3::<u8>::zeros(to);
    Box::new(move || {
        logits_to_labels(logits.view(), out.view_mut(), None, &[]).expect("the shapes are valid");
    })
}

fn logits_15() -> Case {
    Case {
        name: "logits to labels, 15×80×160×160 → 100×320×320",
        work: logits_case(image([15, 80, 160, 160]), [100, 320, 320]),
        references: &[("scipy.ndimage.zoom a class", "logits 15x80x160x160 100x320x320")],
    }
}

fn logits_15_half() -> Case {
    Case {
        name: "the same from float16",
        work: logits_case(image([15, 80, 160, 160]).mapv(f16::from_f32), [100, 320, 320]),
        references: &[],
    }
}

/// As a network's output is: one class leads over wide areas.
fn logits_smooth() -> Case {
    let coarse = image([15, 5, 10, 10]);
    let mut logits = Array4::zeros((15, 80, 160, 160));
    for (from, to) in coarse.axis_chunks_iter(Axis(0), 1).zip(logits.axis_chunks_iter_mut(Axis(0), 1)) {
        resample_image(from, to, Order::Linear, None).expect("the shapes are valid");
    }
    Case { name: "the same from smooth logits", work: logits_case(logits, [100, 320, 320]), references: &[] }
}

fn statistics_case<T: Intensity>(value: impl Fn(f32) -> T) -> Box<dyn FnMut() + Send> {
    let mut noise = Noise(88_172_645_463_325_252);
    let values = Array1::from_shape_simple_fn(20_000_000, || value(noise.normal() * 300.0));
    let image = values.insert_axis(Axis(0)).into_dyn();
    let labels = Array1::<u8>::ones(20_000_000).into_dyn();
    Box::new(move || {
        let mask = Mask::new(labels.view()).expect("the labels have one axis");
        statistics(image.view(), &mask).expect("every voxel is foreground");
    })
}

fn statistics_float() -> Case {
    Case {
        name: "statistics of 20 million voxels, float32",
        work: statistics_case(|v| v),
        references: &[("numpy mean, std, percentile", "statistics 20000000 float32")],
    }
}

fn statistics_short() -> Case {
    Case {
        name: "statistics of 20 million voxels, int16",
        work: statistics_case(|v| v as i16),
        references: &[("numpy mean, std, percentile", "statistics 20000000 int16")],
    }
}

fn blend() -> Case {
    let (size, tile, classes) = ([96, 256, 256], [64, 128, 128], 4);
    let patch = image([classes, tile[0], tile[1], tile[2]]).into_dyn();
    let starts = window_starts(&size, &tile, 0.5).expect("the tile fits");
    let (mut sums, mut weights) = (Array4::ones((classes, size[0], size[1], size[2])), Array3::ones(size));
    Case {
        name: "blending of windows 4×64×128×128 into 4×96×256×256",
        work: Box::new(move || {
            let mut blend = Blend::<f32>::new(classes, &size, &tile, None).expect("the tile fits");
            sums.par_mapv_inplace(|_| 0.0);
            weights.par_mapv_inplace(|_| 0.0);
            for start in &starts {
                let memory = Memory { sums: sums.view_mut(), weights: weights.view_mut() };
                blend.add(memory, patch.view(), start, None).expect("the window fits");
            }
            let memory = Memory { sums: sums.view_mut(), weights: weights.view_mut() };
            blend.finish(memory, None).expect("every voxel is covered");
        }),
        references: &[("numpy", "blend 96x256x256 64x128x128 4")],
    }
}

fn warp_case(order: Order) -> Box<dyn FnMut() + Send> {
    let image = image([1, 160, 160, 160]);
    let matrix = [[1.08, -0.19, 0.11], [0.19, 1.08, -0.055], [-0.11, 0.066, 1.09]];
    let elastic = Some(Elastic { alpha: 500.0, sigma: 10.0, seed: 1 });
    let motion = Motion { matrix, centre: [79.5; 3], elastic, plane: false };
    let mut out = Array4::zeros((1, 128, 128, 128));
    Box::new(move || {
        let warp = Warp::new(motion, [128; 3]).expect("the parameters are valid");
        let moving = Image { from: image.view(), to: out.view_mut(), order, border: 0.0 };
        warp.image(moving).expect("the shapes are valid");
    })
}

fn warp_cubic() -> Case {
    Case {
        name: "warp of a 128³ patch, order 3, elastic",
        work: warp_case(Order::Cubic),
        references: &[("scipy gaussian_filter, map_coordinates", "warp 128 3")],
    }
}

fn warp_linear() -> Case {
    Case {
        name: "warp of a 128³ patch, order 1, elastic",
        work: warp_case(Order::Linear),
        references: &[("scipy gaussian_filter, map_coordinates", "warp 128 1")],
    }
}
