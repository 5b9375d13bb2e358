//! Types of 64 bits: the foreground, sorted. Integers beyond 2^53 count as the nearest `f64`.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::scan::Scan;
use super::sum::Sum;
use super::{ChannelStats, PURPOSE, no_foreground, not_finite, ranks};
use crate::error::Result;
use crate::memory;

/// A wide number.
pub trait Wide: Copy + Default + Send + Sync {
    /// The nearest `f64`.
    fn to_f64(self) -> f64;
}

macro_rules! wide {
    ($($type:ty),+) => {
        $(impl Wide for $type {
            fn to_f64(self) -> f64 {
                self as f64
            }
        })+
    };
}

wide!(u64, i64, f64);

/// Statistics by sorting. Sums run from the least value to the greatest, so they do not depend on the voxels' order.
pub fn statistics<T: Wide>(scan: &Scan<'_, T>) -> Result<ChannelStats> {
    let mut pieces = scan.fold(
        || Ok(Vec::new()),
        |found, values| memory::append(found, values.iter().map(|v| v.to_f64()), PURPOSE),
        Ok,
    )?;
    // The longest takes up the others, so that no more than these lie in memory twice.
    pieces.sort_unstable_by_key(Vec::len);
    let mut values = pieces.pop().unwrap_or_default();
    memory::reserve(&mut values, pieces.iter().map(Vec::len).sum(), PURPOSE)?;
    while let Some(piece) = pieces.pop() {
        values.extend(piece);
    }
    let bad = values.iter().filter(|value| !value.is_finite()).count();
    match (values.is_empty(), bad) {
        (true, _) => return Err(no_foreground()),
        (_, 1..) => return Err(not_finite(bad as u64)),
        _ => {}
    }
    values.par_sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let count = values.len() as f64;
    let (mean, rest) = total(values.iter().copied()).divided(count);
    let (variance, _) = total(values.iter().map(|value| (value - mean - rest).powi(2))).divided(count);
    Ok(ranks::statistics(values.len() as u64, mean, variance.sqrt(), |rank| values[rank as usize]))
}

fn total(values: impl Iterator<Item = f64>) -> Sum {
    values.fold(Sum::default(), |mut sum, value| {
        sum.add(value);
        sum
    })
}
