//! The estimators.

use statrs::distribution::{ContinuousCDF, Normal};

use super::bootstrap::{quantile, Replicates};
use crate::measure::Moments;
use rand_xoshiro::Xoshiro256PlusPlus;

/// How the mean reward under a target policy π is estimated from rows of weight w = π(a|x) / p, reward r and, from a
/// reward model q that has not seen the row, q(x, a) and Σ π(·|x) q(x, ·).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// Inverse propensity: mean of w r (Horvitz and Thompson 1952). Unbiased.
    Ips,
    /// Self-normalised: Σ w r / Σ w (Swaminathan and Joachims 2015). Hardly biased, and steadier.
    Snips,
    /// Direct: mean of Σ π q. As good as the reward model, and its intervals leave out the model's error.
    Direct,
    /// Doubly robust: mean of Σ π q + w (r − q) (Dudík, Langford and Li 2011). Right if propensities or model are.
    DoublyRobust,
}

impl Estimator {
    pub const ALL: [Estimator; 4] = [Estimator::Ips, Estimator::Snips, Estimator::Direct, Estimator::DoublyRobust];

    pub fn as_str(self) -> &'static str {
        match self {
            Estimator::Ips => "ips",
            Estimator::Snips => "snips",
            Estimator::Direct => "direct",
            Estimator::DoublyRobust => "doubly_robust",
        }
    }
}

/// What one logged decision says of one target policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Term {
    /// Target probability of the logged action / its logged propensity.
    pub weight: f64,
    pub reward: f64,
    /// Modelled reward of the logged action; 0 without a model.
    pub predicted: f64,
    /// Modelled reward under the target policy; 0 without a model.
    pub expected: f64,
}

/// An estimate with two intervals at the same confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    /// Asymptotic, for independent rows.
    pub standard_error: f64,
    /// Normal interval from the standard error.
    pub lower: f64,
    pub upper: f64,
    /// Percentile interval of the bootstrap over customers.
    pub bootstrap_lower: f64,
    pub bootstrap_upper: f64,
}

/// Values of several policies on the same logged decisions.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Rows in each replicate.
    rows: Replicates,
    policies: Vec<PolicySums>,
}

#[derive(Clone, Debug)]
struct PolicySums {
    weight: Moments,
    inverse: Moments,
    direct: Moments,
    robust: Moments,
    /// Moments of the reward under weights w².
    squared: Moments,
    weight_squares: f64,
    largest: f64,
    /// Σ w, Σ w r, Σ w q and Σ Σ π q in each replicate.
    replicates: [Replicates; 4],
}

impl Evaluation {
    /// An evaluation of so many policies.
    pub fn new(policies: usize) -> Self {
        let sums = PolicySums {
            weight: Moments::default(),
            inverse: Moments::default(),
            direct: Moments::default(),
            robust: Moments::default(),
            squared: Moments::default(),
            weight_squares: 0.0,
            largest: 0.0,
            replicates: std::array::from_fn(|_| Replicates::zero()),
        };
        Evaluation { rows: Replicates::zero(), policies: vec![sums; policies] }
    }

    /// Adds a logged decision: a term per policy, in order. `random` starts the same for all decisions of a customer.
    pub fn add(&mut self, terms: &[Term], random: &mut Xoshiro256PlusPlus) {
        let counts = Replicates::draw(random);
        self.rows.add(1.0, &counts);
        for (sums, term) in self.policies.iter_mut().zip(terms) {
            sums.add(term, &counts);
        }
    }

    /// Kish's effective sample size, (Σw)² / Σw²; 0 if no logged decision agrees with the policy.
    pub fn effective_rows(&self, policy: usize) -> f64 {
        let sums = &self.policies[policy];
        if sums.weight_squares > 0.0 {
            sums.total_weight().powi(2) / sums.weight_squares
        } else {
            0.0
        }
    }

    pub fn largest_weight(&self, policy: usize) -> f64 {
        self.policies[policy].largest
    }

    /// Mean weight and its standard error: 1 is expected, if the log could have taken all that the policy plays.
    pub fn mean_weight(&self, policy: usize) -> (f64, f64) {
        let weight = &self.policies[policy].weight;
        (weight.mean, weight.standard_error())
    }

    /// `None` without rows, or if no logged decision agrees with the policy.
    pub fn estimate(&self, policy: usize, estimator: Estimator, confidence: f64) -> Option<Estimate> {
        let sums = &self.policies[policy];
        if sums.weight.mean <= 0.0 {
            return None;
        }
        let (value, standard_error) = match estimator {
            Estimator::Ips => (sums.inverse.mean, sums.inverse.standard_error()),
            Estimator::Direct => (sums.direct.mean, sums.direct.standard_error()),
            Estimator::DoublyRobust => (sums.robust.mean, sums.robust.standard_error()),
            // Variance Σ w²(r − value)² / (Σ w)² (Owen, Monte Carlo theory, methods and examples, §9.2).
            Estimator::Snips => {
                let value = sums.inverse.mean / sums.weight.mean;
                let residuals = sums.squared.squares + sums.weight_squares * (sums.squared.mean - value).powi(2);
                (value, residuals.sqrt() / sums.total_weight())
            }
        };
        let [weight, reward, predicted, expected] = sums.replicates.each_ref().map(Replicates::values);
        let mut replicated: Vec<f64> = (0..weight.len())
            .map(|b| match estimator {
                Estimator::Ips => reward[b] / self.rows.values()[b],
                Estimator::Snips => reward[b] / weight[b],
                Estimator::Direct => expected[b] / self.rows.values()[b],
                Estimator::DoublyRobust => (expected[b] + reward[b] - predicted[b]) / self.rows.values()[b],
            })
            .filter(|value| value.is_finite())
            .collect();
        replicated.sort_by(f64::total_cmp);
        let tail = (1.0 - confidence) / 2.0;
        let bound = |share| if replicated.is_empty() { value } else { quantile(&replicated, share) };
        let z = Normal::standard().inverse_cdf(1.0 - tail);
        Some(Estimate {
            value,
            standard_error,
            lower: value - z * standard_error,
            upper: value + z * standard_error,
            bootstrap_lower: bound(tail),
            bootstrap_upper: bound(1.0 - tail),
        })
    }
}

impl PolicySums {
    fn add(&mut self, term: &Term, counts: &Replicates) {
        let Term { weight, reward, predicted, expected } = *term;
        self.weight.add(1.0, weight);
        self.inverse.add(1.0, weight * reward);
        self.direct.add(1.0, expected);
        self.robust.add(1.0, expected + weight * (reward - predicted));
        self.squared.add(weight * weight, reward);
        self.weight_squares += weight * weight;
        self.largest = self.largest.max(weight);
        for (sum, x) in self.replicates.iter_mut().zip([weight, weight * reward, weight * predicted, expected]) {
            // Most decisions say nothing of a policy that plays another action.
            if x != 0.0 {
                sum.add(x, counts);
            }
        }
    }

    fn total_weight(&self) -> f64 {
        self.weight.mean * self.weight.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn evaluate(terms: impl IntoIterator<Item = Term>) -> Evaluation {
        let mut evaluation = Evaluation::new(1);
        for (n, term) in terms.into_iter().enumerate() {
            evaluation.add(&[term], &mut Xoshiro256PlusPlus::seed_from_u64(n as u64));
        }
        evaluation
    }

    fn term(weight: f64, reward: f64) -> Term {
        Term { weight, reward, ..Term::default() }
    }

    #[test]
    fn self_normalised_by_hand() {
        let evaluation = evaluate([(2.0, 1.0), (0.0, 1.0), (2.0, 0.0), (4.0, 1.0)].map(|(w, y)| term(w, y)));
        let e = evaluation.estimate(0, Estimator::Snips, 0.95).unwrap();
        assert!((e.value - 0.75).abs() < 1e-12);
        assert!((evaluation.effective_rows(0) - 64.0 / 24.0).abs() < 1e-12);
        assert!((evaluation.largest_weight(0) - 4.0).abs() < 1e-12);
        // residuals .25, -.75, .25 with squared weights 4, 4, 16
        let variance: f64 = (4.0 * 0.0625 + 4.0 * 0.5625 + 16.0 * 0.0625) / 64.0;
        assert!((e.standard_error - variance.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn no_overlap_no_estimate() {
        let evaluation = evaluate([term(0.0, 1.0)]);
        assert!(Estimator::ALL.iter().all(|estimator| evaluation.estimate(0, *estimator, 0.95).is_none()));
        assert!(evaluate([]).estimate(0, Estimator::Snips, 0.95).is_none());
    }

    /// Three arms with rates .1, .2, .3 are logged uniformly; the target takes them with .1, .2, .7. `bias` is added to
    /// what the reward model says of the last arm.
    fn world(seed: u64, rows: usize, bias: f64) -> impl Iterator<Item = Term> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let q = [0.1, 0.2, 0.3 + bias];
        (0..rows).map(move |_| {
            let arm = random.random_range(0..3_usize);
            let reward = f64::from(u8::from(random.random::<f64>() < [0.1, 0.2, 0.3][arm]));
            let expected = 0.1 * q[0] + 0.2 * q[1] + 0.7 * q[2];
            Term { weight: [0.1, 0.2, 0.7][arm] * 3.0, reward, predicted: q[arm], expected }
        })
    }

    #[test]
    fn intervals_cover_at_their_nominal_rate() {
        let estimators = [Estimator::Ips, Estimator::Snips, Estimator::DoublyRobust];
        let mut covered = [(0, 0); 3];
        for seed in 0..400 {
            let evaluation = evaluate(world(seed, 1500, 0.1));
            for (estimator, (normal, bootstrap)) in estimators.iter().zip(&mut covered) {
                let e = evaluation.estimate(0, *estimator, 0.95).unwrap();
                *normal += usize::from(e.lower <= 0.26 && 0.26 <= e.upper);
                *bootstrap += usize::from(e.bootstrap_lower <= 0.26 && 0.26 <= e.bootstrap_upper);
            }
        }
        for (normal, bootstrap) in covered {
            assert!((366..=394).contains(&normal) && (366..=394).contains(&bootstrap), "{covered:?} of 400");
        }
    }

    #[test]
    fn doubly_robust_repairs_a_biased_model() {
        let evaluation = evaluate(world(1, 100_000, 0.1));
        let value = |estimator| evaluation.estimate(0, estimator, 0.95).unwrap().value;
        assert!((value(Estimator::Direct) - 0.33).abs() < 1e-9);
        assert!((value(Estimator::DoublyRobust) - 0.26).abs() < 0.006);
    }

    #[test]
    fn the_bootstrap_resamples_customers() {
        let width = |customers: u64| {
            let mut evaluation = Evaluation::new(1);
            for (n, term) in world(2, 2000, 0.0).enumerate() {
                let customer = n as u64 % customers;
                // Every customer responds always or never, so that rows of one say the same.
                let term = Term { reward: f64::from(u8::from(customer.is_multiple_of(5))), weight: 1.0, ..term };
                evaluation.add(&[term], &mut Xoshiro256PlusPlus::seed_from_u64(customer));
            }
            let e = evaluation.estimate(0, Estimator::Ips, 0.95).unwrap();
            (e.bootstrap_upper - e.bootstrap_lower) / (e.upper - e.lower)
        };
        let (alone, ten_each) = (width(2000), width(200));
        assert!((0.85..1.15).contains(&alone), "{alone}");
        assert!((ten_each / 10.0_f64.sqrt() - 1.0).abs() < 0.15, "{ten_each}");
    }
}
