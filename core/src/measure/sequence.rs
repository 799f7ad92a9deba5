//! Intervals that hold however often one looks.

use super::readout::Bounded;

/// Responders, in two equal groups, at which an interval is tightest for its confidence.
const TUNED_FOR: f64 = 400.0;

/// Standard errors on either side of a difference that hold at all times at once with the given confidence, once so much is
/// known: an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2021, theorem 2.2). Whoever looks
/// after every event and stops at the first significant one is wrong no more often than `1 − confidence`.
///
/// `information` is a clock in whose time the evidence moves like a Brownian motion, in responders. Where units keep adding
/// events after their exposure, the number of units is no such clock: of units that have responded by a time, the evidence at
/// times s < t has the correlation √(odds(s) / odds(t)), as it would after so many responses.
pub fn multiplier(information: f64, confidence: f64) -> f64 {
    let alpha = 1.0 - confidence;
    // ρ² that makes the sequence tightest at this time (there, equation 67).
    let rho = (-2.0 * alpha.ln() + (-2.0 * alpha.ln()).ln() + 1.0) / TUNED_FOR;
    let scale = information * rho;
    (2.0 * (1.0 + 1.0 / scale) * ((scale + 1.0).sqrt() / alpha).ln()).sqrt()
}

/// Customers, and those of them who responded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub customers: f64,
    pub responders: f64,
}

/// Bounds of the difference of two rates that hold at all looks, for alarms about harm that nobody does who is sent nothing:
/// where a group has no responder, its own variance is none, so that the pooled one counts if it is larger. `estimate` and
/// `standard_error` are those of the readout, which knows strata and clusters.
pub fn alarm_bounds(treated: Rate, baseline: Rate, estimate: f64, standard_error: f64, confidence: f64) -> Bounded {
    let pooled = (treated.responders + baseline.responders) / (treated.customers + baseline.customers);
    let under_null = (pooled * (1.0 - pooled) * (1.0 / treated.customers + 1.0 / baseline.customers)).sqrt();
    let information = treated.responders + baseline.responders;
    let by = multiplier(information, confidence) * standard_error.max(under_null);
    Bounded { estimate, lower: estimate - by, upper: estimate + by }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::measure::{read_out, Arms, Readout, Responders, Sample};

    /// Share of experiments in which a look every day finds the treated group worse, though it is `effect` better. Customers come by
    /// and by, and respond within days.
    fn alarms(effect: f64, bound: impl Fn(&Readout) -> Option<f64>) -> f64 {
        let (runs, days, daily) = (300, 40, 500);
        let mut alarmed = 0;
        for seed in 0..runs {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut due = vec![[0.0; 2]; days + 10];
            let (mut customers, mut responders) = ([0.0; 2], [0.0; 2]);
            for day in 0..days {
                for _ in 0..daily {
                    let treated = usize::from(rng.random::<f64>() < 0.8);
                    customers[treated] += 1.0;
                    if rng.random::<f64>() < 0.1 + effect * treated as f64 {
                        due[day + (10.0 * rng.random::<f64>()) as usize][treated] += 1.0;
                    }
                }
                (0..2).for_each(|arm| responders[arm] += due[day][arm]);
                let of = |arm: usize| Sample::of_rate(customers[arm], responders[arm]).per_unit();
                let seen = Responders { treated: responders[1], baseline: responders[0] };
                let found = read_out(&[Arms { treated: of(1), baseline: of(0) }], seen, false, 0.95);
                if found.and_then(|found| bound(&found)).is_some_and(|upper| upper < 0.0) {
                    alarmed += 1;
                    break;
                }
            }
        }
        f64::from(alarmed) / runs as f64
    }

    #[test]
    fn looking_often_does_not_raise_false_alarms() {
        let peeked = alarms(0.0, |found| Some(found.fixed?.upper));
        assert!(peeked > 0.06, "{peeked}: the fixed interval is fooled, where 0.025 is its level");
        let sequential = alarms(0.0, |found| Some(found.always_valid?.upper));
        assert!(sequential < 0.03, "{sequential}: one side of 5 %");
        let harmed = alarms(-0.03, |found| Some(found.always_valid?.upper));
        assert!(harmed > 0.9, "{harmed}: and harm is found");
    }

    #[test]
    fn the_width_is_that_of_the_paper() {
        // ρ² = (−2 ln 0.05 + ln(−2 ln 0.05) + 1) / 400 = 0.02195449; √(2·(400·ρ² + 1)/(400·ρ²)·ln(√(400·ρ² + 1)/0.05)).
        let found = multiplier(400.0, 0.95);
        assert!((found - 3.035_446_4).abs() < 1e-6, "{found}");
    }

    impl Rate {
        fn share(self) -> f64 {
            self.responders / self.customers
        }
    }

    #[test]
    fn no_harm_in_a_small_holdout_is_no_alarm() {
        // 30 of 8 500 unsubscribed, and none of 1 000 who were sent nothing, where 3.5 would have.
        let treated = Rate { customers: 8500.0, responders: 30.0 };
        let nobody = Rate { customers: 1000.0, responders: 0.0 };
        let own = (treated.share() / treated.customers).sqrt();
        assert!(alarm_bounds(treated, nobody, treated.share(), own, 0.95).lower < 0.0);
        assert!(treated.share() - multiplier(30.0, 0.95) * own > 0.0, "its own variance would have raised it");
        let many = Rate { customers: 8500.0, responders: 255.0 };
        assert!(alarm_bounds(many, nobody, many.share(), 0.0, 0.95).lower > 0.0);
        assert!(alarm_bounds(many, nobody, 0.0, 0.0, 0.95).lower < 0.0, "strata may say that there is no difference");
    }
}
