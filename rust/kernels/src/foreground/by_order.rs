//! A map from the orders of buckets: an ascending list, whose memory may be refused as that of a `BTreeMap` may not.

use super::PURPOSE;
use crate::error::Result;
use crate::memory;

/// Values by order of the bucket.
#[derive(Debug, PartialEq)]
pub struct ByOrder<T>(Vec<(u16, T)>);

impl<T> Default for ByOrder<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByOrder<T> {
    /// Values of ascending orders.
    pub const fn ascending(values: Vec<(u16, T)>) -> Self {
        Self(values)
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// The value of an order.
    pub fn get(&self, order: u16) -> Option<&T> {
        self.0.binary_search_by_key(&order, |value| value.0).ok().map(|at| &self.0[at].1)
    }

    /// Orders and values, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u16, &T)> {
        self.0.iter().map(|(order, value)| (*order, value))
    }

    /// Keeps those of some orders only.
    pub fn retain(&mut self, keep: impl Fn(u16) -> bool) {
        self.0.retain(|(order, _)| keep(*order));
    }

    /// A copy by copies of the values.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn copied(&self, copy: impl Fn(&T) -> Result<T>) -> Result<Self> {
        let copies = self.iter().map(|(order, value)| Ok((order, copy(value)?)));
        memory::collected_results(copies, PURPOSE).map(Self)
    }

    /// Makes room for what [`Self::merge`] adds.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn reserve(&mut self, other: &Self) -> Result<()> {
        memory::reserve(&mut self.0, other.len(), PURPOSE)
    }
}

impl<T: Default> ByOrder<T> {
    /// Adds other values, for which [`Self::reserve`] made room. What has the same order becomes one value, or none.
    pub fn merge(&mut self, other: Self, both: impl Fn(T, T) -> Option<T>) {
        self.0.extend(other.0);
        self.0.sort_unstable_by_key(|value| value.0);
        let mut gone = [0_u64; 1 << 10]; // a bit an order
        let bit = |order: u16| (usize::from(order >> 6), 1_u64 << (order & 63));
        self.0.dedup_by(|next, kept| {
            if next.0 != kept.0 {
                return false;
            }
            match both(std::mem::take(&mut kept.1), std::mem::take(&mut next.1)) {
                Some(value) => kept.1 = value,
                None => gone[bit(kept.0).0] |= bit(kept.0).1,
            }
            true
        });
        self.retain(|order| gone[bit(order).0] & bit(order).1 == 0);
    }
}
