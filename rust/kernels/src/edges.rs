//! What lies beyond an axis' edges.

/// The index that `index` is mirrored to; the outermost voxels are not repeated (c b | a b c d | c b). SciPy's "mirror".
pub fn mirror(index: i64, length: usize) -> usize {
    let period = (2 * length as i64 - 2).max(1);
    let index = index.rem_euclid(period);
    index.min(period - index) as usize
}

/// The index that `index` is reflected to; the outermost voxels are repeated (b a | a b c d | d c). SciPy's "reflect".
pub fn reflect(index: i64, length: usize) -> usize {
    let length = length as i64;
    let index = index.rem_euclid(2 * length);
    index.min(2 * length - 1 - index) as usize
}
