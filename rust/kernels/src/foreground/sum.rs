//! Sums of exact terms in twice the precision of `f64`, always in the same order.

/// An unevaluated sum of two `f64`: about 106 bits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    high: f64,
    low: f64,
}

impl Sum {
    /// Adds a number (Knuth's two-sum, the error kept).
    pub fn add(&mut self, value: f64) {
        let high = self.high + value;
        let shadow = high - self.high;
        let error = (self.high - (high - shadow)) + (value - shadow);
        let low = self.low + error;
        self.high = high + low;
        self.low = low - (self.high - high);
    }

    /// Adds `integer · unit`, where `unit` is a power of two or minus one.
    pub fn add_scaled(&mut self, integer: i128, unit: f64) {
        let high = integer as f64;
        self.add(high * unit);
        self.add((integer - high as i128) as f64 * unit);
    }

    /// The sum divided by `count`, as a value and what rounding left of it.
    pub fn divided(self, count: f64) -> (f64, f64) {
        let quotient = self.high / count;
        let rest = (-quotient).mul_add(count, self.high) + self.low;
        let low = rest / count;
        let value = quotient + low;
        (value, low - (value - quotient))
    }
}
