//! The Poisson bootstrap, in one pass and flat memory.

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Bootstrap replicates.
pub const REPLICATES: usize = 400;

/// One number per replicate.
#[derive(Clone, Debug)]
pub(super) struct Replicates(Box<[f64; REPLICATES]>);

/// 2³² · P(Poisson(1) ≤ k) for k = 0, 1, …; the tail beyond is smaller than 2⁻³².
const CUMULATIVE: [u32; 12] = {
    let mut thresholds = [0; 12];
    let (mut term, mut sum, mut k) = (0.367_879_441_171_442_33_f64, 0.0_f64, 0);
    while k < thresholds.len() {
        sum += term;
        k += 1;
        term /= k as f64;
        // A cast from float saturates.
        thresholds[k - 1] = (sum * 4_294_967_296.0) as u32;
    }
    thresholds
};

impl Replicates {
    pub fn zero() -> Self {
        Replicates(Box::new([0.0; REPLICATES]))
    }

    /// How often each replicate has what `random` is the generator of: independent Poisson numbers with mean 1, for
    /// many units as good as drawing with replacement (Chamandy et al., "Estimating uncertainty for massive data
    /// streams", 2012). The same seed gives the same numbers, so all decisions of a customer come or stay together.
    pub fn draw(random: &mut Xoshiro256PlusPlus) -> Self {
        let mut counts = Replicates::zero();
        for pair in counts.0.as_chunks_mut::<2>().0 {
            let bits = random.next_u64();
            *pair = [poisson(bits as u32), poisson((bits >> 32) as u32)];
        }
        counts
    }

    /// Adds `factor · counts`.
    pub fn add(&mut self, factor: f64, counts: &Replicates) {
        self.0.iter_mut().zip(counts.0.iter()).for_each(|(sum, count)| *sum += factor * count);
    }

    pub fn values(&self) -> &[f64; REPLICATES] {
        &self.0
    }
}

fn poisson(bits: u32) -> f64 {
    CUMULATIVE.iter().map(|threshold| f64::from(u8::from(bits >= *threshold))).sum()
}

/// The `share` quantile of `sorted`, linear between neighbours (Hyndman and Fan's type 7). Not for empty slices.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::chi_square;
    use rand::SeedableRng;

    #[test]
    fn counts_are_poisson() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut observed = [0.0; 6];
        for _ in 0..500 {
            Replicates::draw(&mut random).values().iter().for_each(|count| observed[(*count as usize).min(5)] += 1.0);
        }
        let e = (-1.0_f64).exp();
        let mut expected = [e, e, e / 2.0, e / 6.0, e / 24.0, 0.0].map(|p| p * 500.0 * REPLICATES as f64);
        expected[5] = 500.0 * REPLICATES as f64 - expected.iter().sum::<f64>();
        let (_, p) = chi_square(&observed, &expected).unwrap();
        assert!(p > 0.001, "{p}");
    }

    #[test]
    fn quantiles_as_numpy_has_them() {
        // numpy.quantile([1, 2, 4, 8], [0, .5, .9, 1])
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!([0.0, 0.5, 1.0].map(|share| quantile(&sorted, share)), [1.0, 3.0, 8.0]);
        assert!((quantile(&sorted, 0.9) - 6.8).abs() < 1e-12);
    }
}
