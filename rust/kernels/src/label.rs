//! The types that label maps come in.

/// A value that labels take; voxels above 0 are foreground.
pub trait Label: Copy + Default + PartialOrd + Send + Sync + 'static {}

impl<L: Copy + Default + PartialOrd + Send + Sync + 'static> Label for L {}

/// Labels that 32 bits tell apart.
pub trait Keyed: Label {
    /// The label of this number, where the type has one.
    fn from_number(number: i64) -> Option<Self>;
    /// Bits that tell labels apart.
    fn key(self) -> u32;
    /// The label of a key.
    fn from_key(key: u32) -> Self;
}

macro_rules! label {
    ($($type:ty),+) => {
        $(impl Keyed for $type {
            fn from_number(number: i64) -> Option<Self> {
                Self::try_from(number).ok()
            }
            fn key(self) -> u32 {
                self as u32
            }
            fn from_key(key: u32) -> Self {
                key as Self
            }
        })+
    };
}

label!(u8, i8, u16, i16, u32, i32);

/// Label maps as batchgenerators has them.
impl Keyed for f32 {
    fn from_number(number: i64) -> Option<Self> {
        Some(number as Self)
    }
    fn key(self) -> u32 {
        // -0.0 is 0.0.
        (self + 0.0).to_bits()
    }
    fn from_key(key: u32) -> Self {
        Self::from_bits(key)
    }
}
