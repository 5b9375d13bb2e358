//! Borrowed arrays of one of several dtypes, and the choice among them: the only place where a kernel is picked by dtype.

use half::f16;

/// An enum of borrowed arrays, and a macro that runs an expression on the view of whichever it is.
macro_rules! any_array {
    ($(#[$doc:meta])* $name:ident, $on:ident, $accepted:literal, $($variant:ident: $type:ty),+) => {
        $(#[$doc])*
        pub enum $name<'py> {
            $(
                #[doc = stringify!($type)]
                $variant(numpy::PyReadonlyArrayDyn<'py, $type>)
            ),+
        }

        impl<'py> $name<'py> {
            /// Borrows `value`, named `name` in errors.
            pub fn borrow(name: &str, value: &pyo3::Bound<'py, pyo3::PyAny>) -> pyo3::PyResult<Self> {
                let array = crate::arrays::array(name, value)?;
                $(if let Some(borrowed) = crate::arrays::borrow::<$type>(&array) {
                    return Ok(Self::$variant(borrowed?));
                })+
                Err(crate::arrays::wrong_dtype(name, $accepted, &numpy::PyUntypedArrayMethods::dtype(&array)))
            }

            /// Lengths of the axes.
            #[allow(dead_code)] // not every kernel asks
            pub fn shape(&self) -> &[usize] {
                match self {
                    $(Self::$variant(array) => numpy::PyUntypedArrayMethods::shape(&**array)),+
                }
            }
        }

        macro_rules! $on {
            ($array:expr, $view:ident => $work:expr) => {
                match $array {
                    $($crate::dtypes::$name::$variant(array) => {
                        let $view = array.as_array();
                        $work
                    })+
                }
            };
        }
        pub(crate) use $on;
    };
}

any_array!(
    /// Label maps.
    Labels, on_labels, "of an integer dtype",
    U8: u8, I8: i8, U16: u16, I16: i16, U32: u32, I32: i32, U64: u64, I64: i64, Bool: bool
);
any_array!(
    /// Label maps whose labels 32 bits tell apart.
    KeyedLabels, on_keyed_labels, "of an integer dtype of up to 32 bits or float32",
    U8: u8, I16: i16, F32: f32, I32: i32, I8: i8, U16: u16, U32: u32
);
any_array!(
    /// Images of any number type.
    Numbers, on_numbers, "of an integer or float dtype",
    F32: f32, I16: i16, U8: u8, I8: i8, U16: u16, F16: f16, U32: u32, I32: i32, U64: u64, I64: i64, F64: f64
);
any_array!(
    /// Images whose values float32 holds.
    Singles, on_singles, "float32, or float16 or an integer dtype of up to 16 bits, which float32 holds",
    F32: f32, I16: i16, U8: u8, I8: i8, U16: u16, F16: f16
);
any_array!(
    /// Scores.
    Floats, on_floats, "float32 or float16",
    F32: f32, F16: f16
);
any_array!(
    /// Images that are resampled or moved.
    Image, on_image, "float32",
    F32: f32
);
