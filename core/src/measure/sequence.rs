//! Intervals that hold however often one looks.

use super::Difference;

/// Units at which the interval is tightest for its confidence.
const TUNED_FOR: f64 = 5000.0;

/// Bounds of a difference that hold at all times at once with the given confidence, after `units` in all: an asymptotic confidence
/// sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2021, theorem 2.2). Whoever looks after every unit and stops at the
/// first significant one is wrong no more often than `1 − confidence`.
pub fn always_valid(difference: &Difference, units: f64, confidence: f64) -> (f64, f64) {
    let alpha = 1.0 - confidence;
    // ρ² that makes the sequence tightest after so many units (there, equation 67).
    let rho = (-2.0 * alpha.ln() + (-2.0 * alpha.ln()).ln() + 1.0) / TUNED_FOR;
    let scale = units * rho;
    let width = difference.standard_error * (2.0 * (1.0 + 1.0 / scale) * ((scale + 1.0).sqrt() / alpha).ln()).sqrt();
    (difference.absolute - width, difference.absolute + width)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::measure::{difference, Moments};

    /// Share of experiments in which a look at every hundredth unit finds the treated group worse, though it is `effect` better.
    fn alarms(effect: f64, bound: impl Fn(&Difference, f64) -> f64) -> f64 {
        let runs = 300;
        let mut alarmed = 0;
        for seed in 0..runs {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut groups = [Moments::default(); 2];
            for unit in 1..=20_000 {
                let treated = usize::from(rng.random::<f64>() < 0.8);
                let rate = 0.1 + effect * treated as f64;
                groups[treated].add(1.0, f64::from(u8::from(rng.random::<f64>() < rate)));
                if unit % 100 == 0 && unit >= 500 {
                    let found = difference(groups[1], groups[0], 0.95);
                    if found.is_some_and(|found| bound(&found, f64::from(unit)) < 0.0) {
                        alarmed += 1;
                        break;
                    }
                }
            }
        }
        f64::from(alarmed) / runs as f64
    }

    #[test]
    fn looking_often_does_not_raise_false_alarms() {
        let peeked = alarms(0.0, |found, _| found.upper);
        assert!(peeked > 0.1, "{peeked}: the fixed interval is fooled");
        let sequential = alarms(0.0, |found, units| always_valid(found, units, 0.95).1);
        assert!(sequential < 0.03, "{sequential}: one side of 5 %");
        let harmed = alarms(-0.03, |found, units| always_valid(found, units, 0.95).1);
        assert!(harmed > 0.9, "{harmed}: and harm is found");
    }

    #[test]
    fn the_width_is_that_of_the_paper() {
        let found = Difference {
            absolute: 0.0,
            standard_error: 1.0 / 5000_f64.sqrt(),
            lower: 0.0,
            upper: 0.0,
            p_value: 1.0,
            relative: None,
        };
        // ρ² = (−2 ln 0.05 + ln(−2 ln 0.05) + 1) / 5000 = 0.00175636; √(2·(5000·ρ² + 1)/(5000²·ρ²)·ln(√(5000·ρ² + 1)/0.05)).
        let (lower, upper) = always_valid(&found, 5000.0, 0.95);
        assert!((upper - 0.042_927_695).abs() < 1e-8 && (lower + upper).abs() < 1e-15, "{upper}");
    }
}
