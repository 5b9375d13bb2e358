//! Integers of 8 and 16 bits: a count per value says everything.

use super::scan::Scan;
use super::{ChannelStats, PURPOSE, no_foreground, ranks};
use crate::error::Result;
use crate::memory::{self, Table, table};

/// A small integer, and its place among all of its type.
pub trait Small: Copy + Default + Send + Sync {
    /// The least value of the type.
    const LEAST: i64;
    /// `self - LEAST`.
    fn place(self) -> u16;
}

macro_rules! small {
    ($($type:ty),+) => {
        $(impl Small for $type {
            const LEAST: i64 = <$type>::MIN as i64;
            fn place(self) -> u16 {
                (i32::from(self) - i32::from(<$type>::MIN)) as u16
            }
        })+
    };
}

small!(u8, i8, u16, i16);

/// Statistics by counting.
pub fn statistics<T: Small>(scan: &Scan<'_, T>) -> Result<ChannelStats> {
    // Neighbours are often equal; two tables keep one increment from waiting for the other.
    let tables = scan.fold(
        || Ok([table(PURPOSE)?, table(PURPOSE)?]),
        |tables, values| {
            count(tables, values);
            Ok(())
        },
        Ok,
    )?;
    let mut counts = memory::vector(1 << 16, 0_u64, PURPOSE)?;
    for table in tables.iter().flatten() {
        counts.iter_mut().zip(table.iter()).for_each(|(total, &count)| *total += u64::from(count));
    }
    summary(&counts, T::LEAST)
}

fn count<T: Small>([even, odd]: &mut [Table<u32>; 2], values: &[T]) {
    let (pairs, rest) = values.as_chunks::<2>();
    for &[first, second] in pairs {
        even[usize::from(first.place())] += 1;
        odd[usize::from(second.place())] += 1;
    }
    rest.iter().for_each(|value| even[usize::from(value.place())] += 1);
}

fn summary(counts: &[u64], least: i64) -> Result<ChannelStats> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return Err(no_foreground());
    }
    let (mut first, mut second) = (0_i128, 0_i128);
    for (value, &count) in (least..).zip(counts) {
        first += i128::from(value) * i128::from(count);
        second += i128::from(value * value) * i128::from(count);
    }
    let number = i128::from(total);
    let variance = (number * second - first * first) as f64 / (total as f64 * total as f64);
    let below = cumulative(counts)?;
    let value_at = |rank| (least + below.partition_point(|&below| below <= rank) as i64) as f64;
    Ok(ranks::statistics(total, first as f64 / total as f64, variance.sqrt(), value_at))
}

/// Voxels at or below each value.
fn cumulative(counts: &[u64]) -> Result<Vec<u64>> {
    let mut total = 0;
    let below = counts.iter().map(|count| {
        total += count;
        total
    });
    memory::collected(below, PURPOSE)
}
