//! Linear resampling of a row along itself: eight results at a time, picked from one vector by a permutation.
//!
//! ```text
//! row[first ..]      a b c d e f g h      where eight results begin to read
//! pick               0 0 1 2 2 3 4 4      their first voxels
//! row[first + 1 ..]  b c d e f g h i      and their second ones, picked alike
//! ```

use crate::grid::Between;

/// Results made together.
const WIDTH: usize = 8;

/// Which voxels of a row make up each voxel of the result.
#[derive(Debug)]
pub struct Stretch {
    groups: Vec<Group>,
    /// Whether every group picks from one vector.
    near: bool,
    n_in: usize,
    n_out: usize,
}

/// Eight neighbouring results.
#[derive(Debug)]
struct Group {
    first: usize,
    /// First voxel of each, counted from `first`.
    pick: [u32; WIDTH],
    /// Weight of the second voxel.
    t: [f32; WIDTH],
}

impl Stretch {
    /// For rows of `n_in` voxels resampled to `columns`.
    pub fn new(columns: &[Between], n_in: usize) -> Self {
        let groups = columns.chunks(WIDTH).map(|columns| {
            let first = columns[0].at[0];
            let column = |i: usize| columns[i.min(columns.len() - 1)];
            Group {
                first,
                pick: std::array::from_fn(|i| (column(i).at[0] - first) as u32),
                t: std::array::from_fn(|i| column(i).t),
            }
        });
        let groups: Vec<_> = groups.collect();
        let near = groups.iter().all(|group| group.pick.iter().all(|pick| (*pick as usize) < WIDTH));
        Self { groups, near, n_in, n_out: columns.len() }
    }

    /// Length of a row with room to read whole vectors at its end; what the room holds does not matter.
    pub fn padded(&self) -> usize {
        self.n_in + WIDTH
    }

    /// Resamples `row`, [`Self::padded`] long, to `out`.
    pub fn run(&self, row: &[f32], out: &mut Vec<f32>) {
        out.resize(self.groups.len() * WIDTH, 0.0);
        if !(self.near && permuted(&self.groups, row, out)) {
            for (group, out) in self.groups.iter().zip(out.as_chunks_mut().0) {
                *out = group.one_by_one(row);
            }
        }
        out.truncate(self.n_out);
    }
}

impl Group {
    fn one_by_one(&self, row: &[f32]) -> [f32; WIDTH] {
        let row = &row[self.first..];
        std::array::from_fn(|i| {
            let (at, t) = (self.pick[i] as usize, self.t[i]);
            if t == 0.0 { row[at] } else { row[at] + t * (row[at + 1] - row[at]) }
        })
    }
}

/// Whether the processor can, and has done it.
#[cfg(not(target_arch = "x86_64"))]
fn permuted(_: &[Group], _: &[f32], _: &mut [f32]) -> bool {
    false
}

/// Whether the processor can, and has done it.
#[cfg(target_arch = "x86_64")]
fn permuted(groups: &[Group], row: &[f32], out: &mut [f32]) -> bool {
    use std::sync::LazyLock;

    use pulp::x86::V3;

    static AVX2: LazyLock<Option<V3>> = LazyLock::new(V3::try_new);

    struct Job<'a>(V3, &'a [Group], &'a [f32], &'a mut [f32]);
    impl pulp::NullaryFnOnce for Job<'_> {
        type Output = ();
        #[inline(always)]
        fn call(self) {
            let Self(V3 { avx, avx2, .. }, groups, row, out) = self;
            for (group, out) in groups.iter().zip(out.as_chunks_mut::<WIDTH>().0) {
                let Some((a, b)) = row[group.first..].first_chunk().zip(row[group.first + 1..].first_chunk()) else {
                    continue;
                };
                let (a, b, pick): ([f32; WIDTH], [f32; WIDTH], _) = (*a, *b, pulp::cast(group.pick));
                let a = avx2._mm256_permutevar8x32_ps(pulp::cast(a), pick);
                let b = avx2._mm256_permutevar8x32_ps(pulp::cast(b), pick);
                let t = pulp::cast(group.t);
                let mixed = avx._mm256_add_ps(a, avx._mm256_mul_ps(t, avx._mm256_sub_ps(b, a)));
                let alone = avx._mm256_cmp_ps::<0>(t, avx._mm256_setzero_ps());
                *out = pulp::cast(avx._mm256_blendv_ps(mixed, a, alone));
            }
        }
    }
    AVX2.is_some_and(|simd| {
        simd.vectorize(Job(simd, groups, row, out));
        true
    })
}
