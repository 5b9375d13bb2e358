//! Borrowed arrays of one of several dtypes, and the choice among them: the only place where a kernel is picked by dtype.

use half::f16;
use numpy::PyUntypedArrayMethods as _;

/// An enum of arrays borrowed for `reading` or `writing`, and a macro that runs an expression on the view of whichever it is.
macro_rules! any_array {
    (reading: $($rest:tt)+) => {
        any_array!(PyReadonlyArrayDyn, array, borrow, as_array, $($rest)+);
    };
    (writing: $($rest:tt)+) => {
        any_array!(PyReadwriteArrayDyn, array_in_place, borrow_mut, as_array_mut, $($rest)+);
    };
    (
        $array:ident, $find:ident, $borrow:ident, $view:ident,
        $(#[$doc:meta])* $name:ident, $on:ident, $accepted:literal, $($variant:ident: $type:ty),+
    ) => {
        $(#[$doc])*
        pub enum $name<'py> {
            $(
                #[doc = stringify!($type)]
                $variant(numpy::$array<'py, $type>)
            ),+
        }

        impl<'py> $name<'py> {
            /// Borrows `value`, named `name` in errors.
            pub fn borrow(name: &str, value: &pyo3::Bound<'py, pyo3::PyAny>) -> pyo3::PyResult<Self> {
                let array = crate::arrays::$find(name, value)?;
                $(if let Some(borrowed) = crate::arrays::$borrow::<$type>(&array) {
                    return Ok(Self::$variant(borrowed?));
                })+
                Err(crate::arrays::wrong_dtype(name, $accepted, &array.dtype()))
            }

            /// Lengths of the axes.
            #[allow(dead_code)] // not every kernel asks
            pub fn shape(&self) -> &[usize] {
                match self {
                    $(Self::$variant(array) => array.shape()),+
                }
            }
        }

        macro_rules! $on {
            ($any:expr, $name_of_view:ident => $work:expr) => {
                match $any {
                    $($crate::dtypes::$name::$variant(array) => {
                        let $name_of_view = array.$view();
                        $work
                    })+
                }
            };
        }
        pub(crate) use $on;
    };
}

any_array!(reading:
    /// Label maps.
    Labels, on_labels, "of an integer dtype",
    U8: u8, I8: i8, U16: u16, I16: i16, U32: u32, I32: i32, U64: u64, I64: i64, Bool: bool
);
any_array!(reading:
    /// Label maps whose labels 32 bits tell apart.
    KeyedLabels, on_keyed_labels, "of an integer dtype of up to 32 bits or float32",
    U8: u8, I16: i16, F32: f32, I32: i32, I8: i8, U16: u16, U32: u32
);
any_array!(reading:
    /// Images of any number type.
    Numbers, on_numbers, "of an integer or float dtype",
    F32: f32, I16: i16, U8: u8, I8: i8, U16: u16, F16: f16, U32: u32, I32: i32, U64: u64, I64: i64, F64: f64
);
any_array!(reading:
    /// Images whose values float32 holds.
    Singles, on_singles, "float32, or float16 or an integer dtype of up to 16 bits, which float32 holds",
    F32: f32, I16: i16, U8: u8, I8: i8, U16: u16, F16: f16
);
any_array!(reading:
    /// Scores.
    Floats, on_floats, "float32 or float16",
    F32: f32, F16: f16
);
any_array!(reading:
    /// Images that are resampled or moved.
    Image, on_image, "float32",
    F32: f32
);
any_array!(writing:
    /// Images that are changed where they lie.
    ImageInPlace, on_image_in_place, "float32",
    F32: f32
);
any_array!(writing:
    /// Numbers as the bits that they are.
    Bits, on_bits, "of unsigned integers",
    U8: u8, U16: u16, U32: u32, U64: u64
);
