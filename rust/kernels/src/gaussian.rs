//! The sampled Gaussian of SciPy 1.17's `gaussian_filter`, which is normalised over the samples that it keeps.

/// SciPy cuts its kernel off here, in standard deviations.
const TRUNCATE: f64 = 4.0;

/// A Gaussian around 0.
#[derive(Debug, Clone, Copy)]
pub struct Gaussian {
    sigma: f64,
    /// Samples at either side of the middle one.
    pub radius: i64,
}

impl Gaussian {
    /// Of a standard deviation in voxels.
    pub fn new(sigma: f64) -> Self {
        Self { sigma, radius: (TRUNCATE * sigma + 0.5) as i64 }
    }

    /// Its value `distance` voxels from the middle, 1 there.
    pub fn at(self, distance: f64) -> f64 {
        (-0.5 * distance * distance / (self.sigma * self.sigma)).exp()
    }

    /// The sum of all samples.
    pub fn total(self) -> f64 {
        (-self.radius..=self.radius).map(|distance| self.at(distance as f64)).sum()
    }
}
