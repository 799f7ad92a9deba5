//! How many customers it takes.

use statrs::distribution::{ContinuousCDF, Normal};

/// Sum of the quantiles of level and power.
fn quantiles(power: f64, confidence: f64) -> f64 {
    let normal = Normal::standard();
    normal.inverse_cdf(0.5 + confidence / 2.0) + normal.inverse_cdf(power)
}

/// Smallest difference of two means of this variance that groups of these sizes detect, two-sided: (z_{1−α/2} + z_{power}) ·
/// √(σ²(1/n + 1/m)). `None` for empty groups.
pub fn detectable_difference(variance: f64, treated: f64, baseline: f64, power: f64, confidence: f64) -> Option<f64> {
    let per_unit = 1.0 / treated + 1.0 / baseline;
    (treated >= 1.0 && baseline >= 1.0).then(|| quantiles(power, confidence) * (variance * per_unit).sqrt())
}

/// Customers in both groups together who are needed to detect a difference, of whom the share `holdout` is the baseline. `None` for
/// no difference, or shares that leave a group empty.
pub fn customers_needed(variance: f64, difference: f64, holdout: f64, power: f64, confidence: f64) -> Option<f64> {
    let per_customer = 1.0 / holdout + 1.0 / (1.0 - holdout);
    let needed = quantiles(power, confidence).powi(2) * variance * per_customer / (difference * difference);
    (holdout > 0.0 && holdout < 1.0 && needed.is_finite()).then(|| needed.ceil())
}

/// The smallest share of baseline customers, of `customers` in all, with which a difference is detected. `None` if half of them are
/// too few: no share would do.
pub fn smallest_holdout(variance: f64, difference: f64, customers: f64, power: f64, confidence: f64) -> Option<f64> {
    // h(1 − h) = (z + z)² σ² / (δ² n)
    let product = quantiles(power, confidence).powi(2) * variance / (difference * difference * customers);
    (product <= 0.25).then(|| (1.0 - (1.0 - 4.0 * product).sqrt()) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_textbook() {
        // (1.95996 + 0.84162) * sqrt(.1 * .9 * 2 / 1000)
        let found = detectable_difference(0.09, 1000.0, 1000.0, 0.8, 0.95).unwrap();
        assert!((found - 0.037_586_9).abs() < 1e-6, "{found}");
        assert_eq!(detectable_difference(0.09, 0.0, 10.0, 0.8, 0.95), None);
    }

    #[test]
    fn one_inverts_the_other() {
        let (variance, difference) = (0.02 * 0.98, 0.004);
        let needed = customers_needed(variance, difference, 0.1, 0.8, 0.95).unwrap();
        let found = detectable_difference(variance, 0.9 * needed, 0.1 * needed, 0.8, 0.95).unwrap();
        assert!((found / difference - 1.0).abs() < 1e-4, "{found}");
        // statsmodels.stats.power.NormalIndPower().solve_power(0.004 / (0.02 * 0.98) ** 0.5, alpha=0.05, power=0.8, ratio=1 / 9) * 10 / 9
        assert!((needed - 106_831.7).abs() < 2.0, "{needed}");
        let share = smallest_holdout(variance, difference, needed, 0.8, 0.95).unwrap();
        assert!((share - 0.1).abs() < 1e-4, "{share}");
        assert_eq!(smallest_holdout(variance, difference, 1000.0, 0.8, 0.95), None);
        assert_eq!(customers_needed(variance, 0.0, 0.1, 0.8, 0.95), None);
        assert_eq!(customers_needed(variance, difference, 0.0, 0.8, 0.95), None);
    }
}
