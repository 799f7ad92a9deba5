//! Value of a policy from decisions that another policy made.

use statrs::distribution::{ContinuousCDF, Normal};

/// Accumulates weighted rewards of one target policy over logged decisions.
#[derive(Clone, Debug, Default)]
pub struct PolicyValue {
    rows: f64,
    weight: f64,
    weight_squares: f64,
    weighted_reward: f64,
    /// Σw²y and Σw²y², for the delta-method variance.
    square_reward: f64,
    square_reward_squares: f64,
    largest: f64,
}

/// Self-normalised inverse-propensity estimate of a policy's mean reward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyEstimate {
    pub rows: f64,
    /// Kish's effective sample size, (Σw)²/Σw².
    pub effective_rows: f64,
    pub largest_weight: f64,
    pub mean: f64,
    pub standard_error: f64,
    pub lower: f64,
    pub upper: f64,
}

impl PolicyValue {
    /// Adds a decision with reward `reward` and weight `target propensity / logged propensity`.
    pub fn add(&mut self, weight: f64, reward: f64) {
        let square = weight * weight;
        self.rows += 1.0;
        self.weight += weight;
        self.weight_squares += square;
        self.weighted_reward += weight * reward;
        self.square_reward += square * reward;
        self.square_reward_squares += square * reward * reward;
        self.largest = self.largest.max(weight);
    }

    /// Σwy/Σw with variance Σw²(y − mean)²/(Σw)² (Swaminathan and Joachims 2015; Owen, Monte Carlo, §9.2).
    /// `None` if no logged decision agrees with the policy.
    pub fn estimate(&self, confidence: f64) -> Option<PolicyEstimate> {
        if self.weight <= 0.0 {
            return None;
        }
        let mean = self.weighted_reward / self.weight;
        let residual = self.square_reward_squares - 2.0 * mean * self.square_reward + mean * mean * self.weight_squares;
        let standard_error = residual.max(0.0).sqrt() / self.weight;
        let z = Normal::standard().inverse_cdf(0.5 + confidence / 2.0);
        Some(PolicyEstimate {
            rows: self.rows,
            effective_rows: self.weight * self.weight / self.weight_squares,
            largest_weight: self.largest,
            mean,
            standard_error,
            lower: mean - z * standard_error,
            upper: mean + z * standard_error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    #[test]
    fn by_hand() {
        let mut value = PolicyValue::default();
        for (w, y) in [(2.0, 1.0), (0.0, 1.0), (2.0, 0.0), (4.0, 1.0)] {
            value.add(w, y);
        }
        let e = value.estimate(0.95).unwrap();
        assert!((e.mean - 0.75).abs() < 1e-12);
        assert!((e.effective_rows - 64.0 / 24.0).abs() < 1e-12);
        // residuals .25, -.75, .25 with squared weights 4, 4, 16
        let variance: f64 = (4.0 * 0.0625 + 4.0 * 0.5625 + 16.0 * 0.0625) / 64.0;
        assert!((e.standard_error - variance.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn no_overlap_no_estimate() {
        let mut value = PolicyValue::default();
        value.add(0.0, 1.0);
        assert!(value.estimate(0.95).is_none());
    }

    #[test]
    fn interval_covers_at_its_nominal_rate() {
        let mut covered = 0;
        for seed in 0..400 {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut value = PolicyValue::default();
            for _ in 0..1500 {
                // three arms with rates .1 .2 .3, logged uniformly; the target takes them with .1 .2 .7
                let arm = random.random_range(0..3_usize);
                let reward = f64::from(u8::from(random.random::<f64>() < [0.1, 0.2, 0.3][arm]));
                value.add([0.1, 0.2, 0.7][arm] * 3.0, reward);
            }
            let e = value.estimate(0.95).unwrap();
            covered += usize::from(e.lower <= 0.26 && 0.26 <= e.upper);
        }
        assert!((370..=392).contains(&covered), "{covered} of 400");
    }
}
