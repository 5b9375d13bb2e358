//! Counts of lower halves in chosen buckets: what the census leaves open.

use super::scan::Scan;
use super::word::Word;

/// How often each lower half occurs in the buckets of the given orders.
pub fn count<W: Word, T: Copy + Default + Into<W> + Send + Sync>(scan: &Scan<'_, T>, orders: &[u16]) -> Vec<Vec<u64>> {
    let slots = slots::<W>(orders);
    let pieces = scan.fold(
        || vec![vec![0_u32; 1 << 16]; orders.len()],
        |tables, values: &[T]| count_chunk::<W, T>(tables, &slots, values),
        |tables| tables,
    );
    let mut counts = vec![vec![0; 1 << 16]; orders.len()];
    for piece in &pieces {
        counts.iter_mut().flatten().zip(piece.iter().flatten()).for_each(|(total, &count)| *total += u64::from(count));
    }
    counts
}

/// Which table counts an upper half, plus one; 0 where none does.
fn slots<W: Word>(orders: &[u16]) -> Box<[u8; 1 << 16]> {
    let mut slots: Box<[u8; 1 << 16]> = vec![0; 1 << 16].try_into().expect("the length is 2^16");
    for (slot, &order) in (1..).zip(orders) {
        slots[usize::from(W::upper(order))] = slot;
    }
    slots
}

fn count_chunk<W: Word, T: Copy + Into<W>>(tables: &mut [Vec<u32>], slots: &[u8; 1 << 16], values: &[T]) {
    for &value in values {
        let bits = value.into().bits();
        let slot = slots[(bits >> 16) as usize];
        if slot != 0 {
            tables[usize::from(slot) - 1][(bits & 0xffff) as usize] += 1;
        }
    }
}

/// The `rank`th lower half of those counted, in ascending order of halves.
pub fn nth(counts: impl IntoIterator<Item = (usize, u64)>, mut rank: u64) -> u16 {
    for (low, count) in counts {
        if rank < count {
            return low as u16;
        }
        rank -= count;
    }
    unreachable!("ranks are below the number of voxels in the bucket")
}
