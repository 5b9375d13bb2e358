//! Which order statistics the percentiles need, and the percentiles from them.

use super::ChannelStats;

/// The percentiles of [`ChannelStats`]: minimum, 0.5, median, 99.5, maximum.
pub const PERCENTS: [f64; 5] = [0.0, 0.5, 50.0, 99.5, 100.0];

/// Those of them that are no extremes.
pub const INNER: [f64; 3] = [0.5, 50.0, 99.5];

/// Two neighbouring ranks (from 0) and how far between them a percentile lies.
#[derive(Debug, Clone, Copy)]
struct Between {
    lower: u64,
    upper: u64,
    fraction: f64,
}

impl Between {
    /// As `numpy.percentile(..., method="linear")` places it among `count` values.
    fn new(percent: f64, count: u64) -> Self {
        let place = (count - 1) as f64 * (percent / 100.0);
        let lower = (place as u64).min(count - 1);
        Self { lower, upper: (lower + 1).min(count - 1), fraction: place - lower as f64 }
    }

    /// NumPy's interpolation, which is monotonic in `fraction` and exact at both ends.
    fn value(self, lower: f64, upper: f64) -> f64 {
        let step = upper - lower;
        if self.fraction < 0.5 { lower + step * self.fraction } else { upper - step * (1.0 - self.fraction) }
    }
}

/// The ranks that statistics of `count` values look at.
pub fn needed(count: u64) -> impl Iterator<Item = u64> {
    PERCENTS.into_iter().flat_map(move |percent| {
        let Between { lower, upper, .. } = Between::new(percent, count);
        [lower, upper]
    })
}

/// Statistics of `count` values from their moments and a look-up of the value at a rank.
pub fn statistics(count: u64, mean: f64, std: f64, value_at: impl Fn(u64) -> f64) -> ChannelStats {
    // Adding 0.0 turns -0.0 into 0.0.
    let percentiles = PERCENTS.map(|percent| {
        let between = Between::new(percent, count);
        between.value(value_at(between.lower), value_at(between.upper)) + 0.0
    });
    let [min, percentile_00_5, median, percentile_99_5, max] = percentiles;
    ChannelStats { mean, std, median, min, max, percentile_00_5, percentile_99_5 }
}
