//! Linear resampling of a row along itself: eight results at a time, picked from one vector by a permutation.
//!
//! ```text
//! row[first ..]      a b c d e f g h      where eight results begin to read
//! pick               0 0 1 2 2 3 4 4      their first voxels
//! row[first + 1 ..]  b c d e f g h i      and their second ones, picked alike
//! ```

use std::ops::Range;

use crate::error::Result;
use crate::grid::Between;
use crate::memory;

/// Results made together.
pub const GROUP: usize = 8;

/// Which voxels of a row make up each voxel of the result.
#[derive(Debug)]
pub struct Stretch {
    groups: Vec<Group>,
    /// Whether every group picks from one vector.
    near: bool,
    n_in: usize,
}

/// Eight neighbouring results; those behind the row's end repeat the last one.
#[derive(Debug)]
struct Group {
    first: usize,
    /// First voxel of each, counted from `first`.
    pick: [u32; GROUP],
    /// Weight of the second voxel.
    t: [f32; GROUP],
}

impl Stretch {
    /// For rows of `n_in` voxels resampled to `columns`.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn new(columns: &[Between], n_in: usize) -> Result<Self> {
        let groups = columns.chunks(GROUP).map(|columns| {
            let first = columns[0].at[0];
            let column = |i: usize| columns[i.min(columns.len() - 1)];
            Group {
                first,
                pick: std::array::from_fn(|i| (column(i).at[0] - first) as u32),
                t: std::array::from_fn(|i| column(i).t),
            }
        });
        let groups = memory::collected(groups, "the columns of a grid")?;
        let near = groups.iter().all(|group| group.pick.iter().all(|pick| (*pick as usize) < GROUP));
        Ok(Self { groups, near, n_in })
    }

    /// Groups of results.
    pub const fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Voxels of a row of the source.
    pub const fn length(&self) -> usize {
        self.n_in
    }

    /// Length of a row with room to read whole vectors at its end; what the room holds does not matter.
    pub const fn padded(&self) -> usize {
        self.n_in + GROUP
    }

    /// The voxels that `groups` are made of.
    pub fn reads(&self, groups: &Range<usize>) -> Range<usize> {
        let last = &self.groups[groups.end - 1];
        let end = last.first + last.pick[GROUP - 1] as usize + 2;
        self.groups[groups.start].first..end.min(self.n_in)
    }

    /// The first voxel of each result of a group.
    pub fn firsts(&self, group: usize) -> [usize; GROUP] {
        let group = &self.groups[group];
        group.pick.map(|pick| group.first + pick as usize)
    }

    /// Resamples `row`, [`Self::padded`] long, to `out`, as long as the `groups` are.
    pub fn run(&self, groups: Range<usize>, row: &[f32], out: &mut [f32]) {
        let groups = &self.groups[groups];
        if !(self.near && permuted(groups, row, out)) {
            for (group, out) in groups.iter().zip(out.as_chunks_mut().0) {
                *out = group.one_by_one(row);
            }
        }
    }
}

/// Between `a` and `b`: exactly `a` where the second has no weight, and where the two are equal, infinities too.
#[inline(always)]
pub fn mix(a: f32, b: f32, t: f32) -> f32 {
    if t == 0.0 || a == b { a } else { a + t * (b - a) }
}

impl Group {
    fn one_by_one(&self, row: &[f32]) -> [f32; GROUP] {
        let row = &row[self.first..];
        std::array::from_fn(|i| {
            let at = self.pick[i] as usize;
            mix(row[at], row[at + 1], self.t[i])
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
            for (group, out) in groups.iter().zip(out.as_chunks_mut::<GROUP>().0) {
                let Some((a, b)) = row[group.first..].first_chunk().zip(row[group.first + 1..].first_chunk()) else {
                    continue;
                };
                let (a, b, pick): ([f32; GROUP], [f32; GROUP], _) = (*a, *b, pulp::cast(group.pick));
                let a = avx2._mm256_permutevar8x32_ps(pulp::cast(a), pick);
                let b = avx2._mm256_permutevar8x32_ps(pulp::cast(b), pick);
                let t = pulp::cast(group.t);
                let mixed = avx._mm256_add_ps(a, avx._mm256_mul_ps(t, avx._mm256_sub_ps(b, a)));
                let no_weight = avx._mm256_cmp_ps::<0>(t, avx._mm256_setzero_ps());
                let alone = avx._mm256_or_ps(no_weight, avx._mm256_cmp_ps::<0>(a, b));
                *out = pulp::cast(avx._mm256_blendv_ps(mixed, a, alone));
            }
        }
    }
    AVX2.is_some_and(|simd| {
        simd.vectorize(Job(simd, groups, row, out));
        true
    })
}
