//! Elementary functions in operations that vectorise; the platform's own are one call a value.

/// 1.5 · 2^23: adding it rounds to an integer, which is then the last bits.
const MAGIC: f32 = 12_582_912.0;

/// The exponential function to 2e-7 of its value; arguments beyond ±87 count as ±87, NaN stays NaN.
///
/// exp(x) = 2^n exp(r) with n = round(x / ln 2) and |r| <= ln 2 / 2; the polynomial is that of Cephes' expf.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 87.0 { 87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4; // ln 2 in two parts
    let tail = 1.987_569_2e-4;
    let tail = tail * r + 1.398_199_9e-3;
    let tail = tail * r + 8.333_452e-3;
    let tail = tail * r + 4.166_579_6e-2;
    let tail = tail * r + 1.666_666_5e-1;
    let tail = tail * r + 0.5;
    (tail * r * r + r + 1.0) * power(shifted)
}

/// 2 to the power of `x` to 2e-7 of its value; arguments below -126 or above 127 count as these, NaN stays NaN.
///
/// 2^x = 2^n 2^r with |r| <= 1/2; the polynomial is the Taylor series, whose next term is below 6e-9.
#[inline(always)]
pub fn exp2(x: f32) -> f32 {
    let x = if x < -126.0 { -126.0 } else { x };
    let x = if x > 127.0 { 127.0 } else { x };
    let shifted = x + MAGIC;
    let r = (x - (shifted - MAGIC)) * std::f32::consts::LN_2;
    let tail = 1.0 / 5040.0;
    let tail = tail * r + 1.0 / 720.0;
    let tail = tail * r + 1.0 / 120.0;
    let tail = tail * r + 1.0 / 24.0;
    let tail = tail * r + 1.0 / 6.0;
    let tail = tail * r + 0.5;
    (tail * r * r + r + 1.0) * power(shifted)
}

/// 2^n of an n to which [`MAGIC`] was added.
#[inline(always)]
const fn power(shifted: f32) -> f32 {
    f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// The logarithm to base 2 of a positive, normal number, to 3e-7 (or as much of its value).
///
/// log2(2^n m) = n + log2(m) with m between √½ and √2; log(m) = 2 artanh((m - 1) / (m + 1)), a series whose next term is
/// below 1e-9.
#[inline(always)]
pub fn log2(x: f32) -> f32 {
    const ROOT_HALF: u32 = 0x3f35_04f3; // √½
    const TWICE: f32 = 2.0 * std::f32::consts::LOG2_E;
    let n = (x.to_bits().wrapping_sub(ROOT_HALF) as i32) >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((n << 23) as u32));
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let tail = TWICE / 9.0;
    let tail = tail * q + TWICE / 7.0;
    let tail = tail * q + TWICE / 5.0;
    let tail = tail * q + TWICE / 3.0;
    n as f32 + (tail * q + TWICE) * s
}

/// Cosine and sine of `turn` whole turns, 0 <= `turn` <= 1, to 3e-7.
///
/// The Taylor series of what is left beyond the nearest quarter turn, at most π/4.
#[inline(always)]
pub fn cos_sin(turn: f32) -> (f32, f32) {
    let shifted = 4.0 * turn + MAGIC;
    let quarter = shifted.to_bits();
    let r = (turn - 0.25 * (shifted - MAGIC)) * std::f32::consts::TAU;
    let q = r * r;
    let sin = r + r * q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0)));
    let cos = 1.0 + q * (-0.5 + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q * (1.0 / 40320.0))));
    let (cos, sin) = if quarter & 1 == 0 { (cos, sin) } else { (-sin, cos) };
    if quarter & 2 == 0 { (cos, sin) } else { (-cos, -sin) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(values: impl Iterator<Item = f32>, apart: impl Fn(f32) -> f64) -> f64 {
        values.map(apart).fold(0.0, f64::max)
    }

    #[test]
    fn exponentials_are_accurate() {
        let apart = |found: f32, exact: f64| ((f64::from(found) - exact) / exact).abs();
        let hundredths = |most: i32| (-most..=most).map(|i| i as f32 / 100.0);
        assert!(worst(hundredths(8700), |x| apart(exp(x), f64::from(x).exp())) < 2e-7);
        assert!(worst(hundredths(12600), |x| apart(exp2(x), f64::from(x).exp2())) < 2e-7);
        assert!(exp(f32::NAN).is_nan() && exp2(f32::NAN).is_nan());
        assert_eq!((exp2(0.0), exp2(-200.0), exp2(200.0)), (1.0, 2_f32.powi(-126), 2_f32.powi(127)));
    }

    #[test]
    fn logarithms_are_accurate() {
        let numbers = (0..200_000).map(|i| f32::from_bits(0x0080_0000 + i * 10_631));
        let apart = |x: f32| {
            let exact = f64::from(x).log2();
            (f64::from(log2(x)) - exact).abs() / exact.abs().max(1.0)
        };
        assert!(worst(numbers, apart) < 3e-7);
        assert_eq!((log2(1.0), log2(8.0), log2(0.25)), (0.0, 3.0, -2.0));
    }

    #[test]
    fn circles_are_round() {
        let apart = |turn: f32| {
            let (sin, cos) = (f64::from(turn) * std::f64::consts::TAU).sin_cos();
            let found = cos_sin(turn);
            (f64::from(found.0) - cos).abs().max((f64::from(found.1) - sin).abs())
        };
        assert!(worst((0..=100_000).map(|i| i as f32 / 1e5), apart) < 4e-7);
    }
}
