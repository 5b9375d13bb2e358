//! Statistics of the foreground.

use half::f16;
use nnunet_kernels::foreground::{self, ChannelStats, Mask};
use numpy::{PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{array, borrow, wrong_dtype};
use crate::convert::{Count, detached, to_python};

/// Adds this file's functions and classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(foreground_statistics, module)?)
}

/// An array of one of several types, borrowed; `bind!` runs an expression on its view.
macro_rules! any_array {
    ($name:ident, $bind:ident, $accepted:literal, $($variant:ident: $type:ty),+) => {
        enum $name<'py> {
            $($variant(PyReadonlyArrayDyn<'py, $type>)),+
        }

        impl<'py> $name<'py> {
            fn borrow(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Self> {
                let array = array(name, value)?;
                $(if let Some(borrowed) = borrow::<$type>(&array) {
                    return Ok(Self::$variant(borrowed?));
                })+
                Err(wrong_dtype(name, $accepted, &array.dtype()))
            }
        }

        macro_rules! $bind {
            ($array:expr, $view:ident => $work:expr) => {
                match $array {
                    $($name::$variant(array) => {
                        let $view = array.as_array();
                        $work
                    })+
                }
            };
        }
    };
}

any_array!(Labels, on_labels, "of an integer dtype",
    U8: u8, I8: i8, U16: u16, I16: i16, U32: u32, I32: i32, U64: u64, I64: i64, Bool: bool);
any_array!(Image, on_image, "of an integer or float dtype",
    F32: f32, I16: i16, U8: u8, I8: i8, U16: u16, F16: f16, U32: u32, I32: i32, U64: u64, I64: i64, F64: f64);

/// Mean, std, median, min, max, 0.5 and 99.5 percentile.
type Row = (f64, f64, f64, f64, f64, f64, f64);

fn row(stats: ChannelStats) -> Row {
    let ChannelStats { mean, std, median, min, max, percentile_00_5, percentile_99_5 } = stats;
    (mean, std, median, min, max, percentile_00_5, percentile_99_5)
}

#[pyfunction]
#[pyo3(signature = (image, labels, *, threads = None))]
fn foreground_statistics(
    py: Python<'_>,
    image: &Bound<'_, PyAny>,
    labels: &Bound<'_, PyAny>,
    threads: Option<Count>,
) -> PyResult<Vec<Row>> {
    let (image, labels) = (Image::borrow("image", image)?, Labels::borrow("labels", labels)?);
    let mask = on_labels!(&labels, labels => Mask::new(labels)).map_err(to_python)?;
    let stats = on_image!(&image, image => detached(py, threads, || foreground::statistics(image, &mask)))?;
    Ok(stats.into_iter().map(row).collect())
}
