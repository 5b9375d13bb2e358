//! Foreground statistics from a sorted copy.

use crate::foreground::ChannelStats;

/// Statistics of one channel's `values` where `labels` are above 0; `None` where none is.
pub fn statistics(values: &[f64], labels: &[i64]) -> Option<ChannelStats> {
    let mut found: Vec<f64> =
        values.iter().zip(labels).filter(|(_, label)| **label > 0).map(|(value, _)| *value).collect();
    found.sort_by(f64::total_cmp);
    let count = found.len() as f64;
    let (min, max) = (*found.first()?, *found.last()?);
    let mean = found.iter().sum::<f64>() / count;
    let variance = found.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let percentile = |percent: f64| {
        let place = (count - 1.0) * (percent / 100.0);
        let (lower, upper) = (found[place.floor() as usize], found[place.ceil() as usize]);
        lower + (upper - lower) * (place - place.floor())
    };
    Some(ChannelStats {
        mean,
        std: variance.sqrt(),
        median: percentile(50.0),
        min,
        max,
        percentile_00_5: percentile(0.5),
        percentile_99_5: percentile(99.5),
    })
}
