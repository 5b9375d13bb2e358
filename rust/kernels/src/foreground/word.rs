//! Numbers of 32 bits as a bucket, their upper half, and a place in it, their lower half.

/// A number that 32 bits hold. Within a bucket, values are `(start + low) · unit`, linear in the lower half.
pub trait Word: Copy + Into<f64> + PartialOrd + Send + Sync + 'static {
    /// All 32 bits.
    fn bits(self) -> u32;
    /// The upper half that is `order`th in the order of values.
    fn upper(order: u16) -> u16;
    /// The values that begin with this upper half.
    fn bucket(upper: u16) -> Bucket;
}

/// What a bucket's values are.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// The first value, in units.
    pub start: i64,
    /// A power of two, or minus one: then values fall as the lower half rises.
    pub unit: f64,
    /// Whether the values are numbers; infinities and NaN have buckets of their own.
    pub finite: bool,
}

impl Bucket {
    /// The value at a place in the bucket.
    pub fn value(&self, low: u16) -> f64 {
        (self.start + i64::from(low)) as f64 * self.unit
    }

    /// Whether values fall as the lower half rises.
    pub fn falls(&self) -> bool {
        self.unit < 0.0
    }
}

impl Word for u32 {
    fn bits(self) -> u32 {
        self
    }
    fn bucket(upper: u16) -> Bucket {
        Bucket { start: i64::from(upper) << 16, unit: 1.0, finite: true }
    }
    fn upper(order: u16) -> u16 {
        order
    }
}

impl Word for i32 {
    fn bits(self) -> u32 {
        self as u32
    }
    fn bucket(upper: u16) -> Bucket {
        Bucket { start: i64::from(upper as i16) << 16, unit: 1.0, finite: true }
    }
    fn upper(order: u16) -> u16 {
        order ^ 0x8000
    }
}

impl Word for f32 {
    fn bits(self) -> u32 {
        self.to_bits()
    }
    fn bucket(upper: u16) -> Bucket {
        let (exponent, fraction) = (i32::from(upper >> 7 & 0xff), i64::from(upper & 0x7f) << 16);
        let hidden = if exponent == 0 { 0 } else { 1 << 23 };
        let sign = if upper >> 15 == 0 { 1.0 } else { -1.0 };
        Bucket { start: hidden | fraction, unit: sign * 2_f64.powi(exponent.max(1) - 150), finite: exponent != 0xff }
    }
    fn upper(order: u16) -> u16 {
        if order < 0x8000 { !order } else { order ^ 0x8000 }
    }
}
