//! One binary for old and new processors: a loop is compiled for each instruction set and chosen when it runs.

use std::sync::LazyLock;

use pulp::Arch;

static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);

/// Runs `work` with the widest vectors of this processor (AVX-512, AVX2, NEON, or the baseline).
///
/// Only code that is inlined into `work` profits: `work` and everything called in its loops is `#[inline(always)]`.
/// Rust never contracts `a * b + c` into a fused multiply-add, so every processor computes the same bits.
#[inline(always)]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    ARCH.dispatch(work)
}
