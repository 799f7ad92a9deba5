//! How many customers it takes until the interval of lift that allows peeking leaves out zero.

use statrs::distribution::{ContinuousCDF, Normal};

use super::readout::FEWEST_RESPONDERS;
use super::sequence::multiplier;

/// Rounds in which the width of the interval and what it depends on settle.
const ROUNDS: usize = 50;

/// What is known before a comparison, and how surely a difference is to be seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Of what a customer does.
    pub variance: f64,
    /// Share of customers who do anything.
    pub responding: f64,
    /// Probability with which a difference is seen at the time that is planned for; it may be seen sooner.
    pub power: f64,
    pub confidence: f64,
}

impl Plan {
    /// Standard errors that a difference must be large, in groups of so many customers. `None` with too few responders for an interval.
    fn quantiles(&self, treated: f64, baseline: f64) -> Option<f64> {
        let [treated, baseline] = [treated, baseline].map(|customers| customers * self.responding);
        let information = 4.0 / (1.0 / treated + 1.0 / baseline);
        (treated.min(baseline) >= FEWEST_RESPONDERS)
            .then(|| multiplier(information, self.confidence) + Normal::standard().inverse_cdf(self.power))
    }

    /// Smallest difference that groups of these sizes detect: (multiplier + z_{power}) · √(σ²(1/n + 1/m)). `None` with too few responders.
    pub fn detectable(&self, treated: f64, baseline: f64) -> Option<f64> {
        let quantiles = self.quantiles(treated, baseline)?;
        Some(quantiles * (self.variance * (1.0 / treated + 1.0 / baseline)).sqrt())
    }

    /// Customers in both groups together who are needed to detect a difference, of whom the share `holdout` is the baseline. `None` for
    /// no difference, or shares that leave a group empty.
    pub fn needed(&self, difference: f64, holdout: f64) -> Option<f64> {
        if !(holdout > 0.0 && holdout < 1.0 && self.responding > 0.0) {
            return None;
        }
        let least = FEWEST_RESPONDERS / (self.responding * holdout.min(1.0 - holdout)) * (1.0 + 1e-9);
        let mut needed = least;
        for _ in 0..ROUNDS {
            let quantiles = self.quantiles((1.0 - holdout) * needed, holdout * needed)?;
            needed = customers(quantiles, self.variance, difference, holdout).max(least);
        }
        needed.is_finite().then(|| needed.ceil())
    }

    /// The smallest share of baseline customers, of `customers` in all, with which a difference is detected. `None` if no share would do.
    pub fn smallest_holdout(&self, difference: f64, customers: f64) -> Option<f64> {
        let detects = |holdout: f64| {
            let found = self.detectable((1.0 - holdout) * customers, holdout * customers);
            found.is_some_and(|found| found <= difference)
        };
        // More is better up to a half.
        let (mut low, mut high) = (0.0, 0.5);
        if !detects(high) {
            return None;
        }
        for _ in 0..ROUNDS {
            let middle = f64::midpoint(low, high);
            *(if detects(middle) { &mut high } else { &mut low }) = middle;
        }
        Some(high)
    }
}

/// Customers in both groups with whom a difference is so many standard errors large.
fn customers(quantiles: f64, variance: f64, difference: f64, holdout: f64) -> f64 {
    let per_customer = 1.0 / holdout + 1.0 / (1.0 - holdout);
    quantiles * quantiles * variance * per_customer / (difference * difference)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_distr::{Binomial, Distribution};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::super::readout::{read_out, Arms, Responders};
    use super::super::sample::Sample;
    use super::*;

    fn plan(rate: f64) -> Plan {
        Plan { variance: rate * (1.0 - rate), responding: rate, power: 0.8, confidence: 0.95 }
    }

    /// statsmodels.stats.power.NormalIndPower().solve_power(0.004 / (0.02 * 0.98) ** 0.5, alpha=0.05, power=0.8, ratio=1 / 9) * 10 / 9,
    /// with the quantiles that one look has.
    #[test]
    fn the_textbook() {
        let found = customers(1.959_963_98 + 0.841_621_23, 0.02 * 0.98, 0.004, 0.1);
        assert!((found - 106_831.7).abs() < 2.0, "{found}");
    }

    #[test]
    fn one_inverts_the_other() {
        let (plan, difference) = (plan(0.02), 0.004);
        let needed = plan.needed(difference, 0.1).unwrap();
        let found = plan.detectable(0.9 * needed, 0.1 * needed).unwrap();
        assert!((found / difference - 1.0).abs() < 1e-4, "{found}");
        let share = plan.smallest_holdout(difference, needed).unwrap();
        assert!((share - 0.1).abs() < 1e-4, "{share}");
        assert_eq!(plan.smallest_holdout(difference, 1000.0), None);
        assert_eq!(plan.needed(0.0, 0.1), None);
        assert_eq!(plan.needed(difference, 0.0), None);
        assert_eq!(plan.detectable(0.0, 10.0), None);
        // However large the difference, there must be responders.
        assert!(plan.needed(0.5, 0.1).unwrap() >= 30.0 / 0.02 / 0.1);
    }

    /// With the customers that are needed, the interval that counts leaves out zero as often as was asked for.
    #[test]
    fn power_is_that_of_the_verdict() {
        let (rate, lift, holdout) = (0.05, 0.15, 0.2);
        let needed = plan(rate).needed(lift * rate, holdout).unwrap();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
        let (runs, mut seen) = (400, 0);
        for _ in 0..runs {
            let sizes = [(1.0 - holdout) * needed, holdout * needed].map(f64::round);
            let mut draw = |n: f64, rate: f64| Binomial::new(n as u64, rate).unwrap().sample(&mut random) as f64;
            let [of, over] = [draw(sizes[0], rate * (1.0 + lift)), draw(sizes[1], rate)];
            let arms = Arms {
                treated: Sample::of_rate(sizes[0], of).per_unit(),
                baseline: Sample::of_rate(sizes[1], over).per_unit(),
            };
            let found = read_out(&[arms], Responders { treated: of, baseline: over }, false, 0.95).unwrap();
            seen += u32::from(found.always_valid.unwrap().lower > 0.0);
        }
        let share = f64::from(seen) / f64::from(runs);
        assert!((0.74..0.86).contains(&share), "{share}");
    }
}
