//! Difference of two means, from mergeable moments.

use statrs::distribution::{ContinuousCDF, Normal};

/// Count, mean and sum of squared deviations; merges exactly (Chan, Golub, LeVeque 1979).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    pub count: f64,
    pub mean: f64,
    pub squares: f64,
}

impl Moments {
    /// Adds a value that counts `weight` times (Welford 1962, West 1979).
    pub fn add(&mut self, weight: f64, value: f64) {
        if weight > 0.0 {
            self.count += weight;
            let from_mean = value - self.mean;
            self.mean += from_mean * weight / self.count;
            self.squares += weight * from_mean * (value - self.mean);
        }
    }

    /// Standard error of the mean of independent values.
    pub fn standard_error(&self) -> f64 {
        if self.count > 0.0 {
            (self.variance() / self.count).sqrt()
        } else {
            0.0
        }
    }

    /// Sample variance; 0 with fewer than two values.
    pub fn variance(&self) -> f64 {
        if self.count > 1.0 {
            (self.squares / (self.count - 1.0)).max(0.0)
        } else {
            0.0
        }
    }
}

/// Treated minus control, with a normal interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub absolute: f64,
    pub standard_error: f64,
    pub lower: f64,
    pub upper: f64,
    pub p_value: f64,
    /// `treated / control − 1` and its delta-method interval; `None` where the control mean is not above zero.
    pub relative: Option<(f64, f64, f64)>,
}

/// Welch's comparison of two means at the given confidence (0.95, say), with normal quantiles, for large groups.
/// `None` with fewer than two units on a side, or no variation at all.
pub fn difference(treated: Moments, control: Moments, confidence: f64) -> Option<Difference> {
    if treated.count < 2.0 || control.count < 2.0 {
        return None;
    }
    let (vt, vc) = (treated.variance() / treated.count, control.variance() / control.count);
    let standard_error = (vt + vc).sqrt();
    if !(standard_error.is_finite() && standard_error > 0.0) {
        return None;
    }
    let normal = Normal::standard();
    let z = normal.inverse_cdf(0.5 + confidence / 2.0);
    let absolute = treated.mean - control.mean;
    let relative = (control.mean > 0.0).then(|| {
        let ratio = treated.mean / control.mean;
        let se = (vt + ratio * ratio * vc).sqrt() / control.mean;
        (ratio - 1.0, ratio - 1.0 - z * se, ratio - 1.0 + z * se)
    });
    Some(Difference {
        absolute,
        standard_error,
        lower: absolute - z * standard_error,
        upper: absolute + z * standard_error,
        p_value: 2.0 * normal.sf((absolute / standard_error).abs()),
        relative,
    })
}

/// Smallest difference of two proportions near `base` that groups of these sizes detect with 80 % power at the 5 %
/// level, two-sided: (z₀.₉₇₅ + z₀.₈) √(p(1−p)(1/n + 1/m)). `None` for empty groups.
pub fn minimum_detectable_difference(base: f64, treated: f64, control: f64) -> Option<f64> {
    let normal = Normal::standard();
    let z = normal.inverse_cdf(0.975) + normal.inverse_cdf(0.8);
    (treated >= 1.0 && control >= 1.0).then(|| z * (base * (1.0 - base) * (1.0 / treated + 1.0 / control)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(count: f64, successes: f64) -> Moments {
        let mean = successes / count;
        Moments { count, mean, squares: count * mean * (1.0 - mean) }
    }

    #[test]
    fn two_proportions_by_hand() {
        // 120 of 1000 against 90 of 1000: se = sqrt(.12*.88/999 + .09*.91/999)
        let d = difference(binary(1000.0, 120.0), binary(1000.0, 90.0), 0.95).unwrap();
        let se = ((0.12 * 0.88 + 0.09 * 0.91) / 999.0_f64).sqrt();
        assert!((d.absolute - 0.03).abs() < 1e-12);
        assert!((d.standard_error - se).abs() < 1e-12);
        assert!((d.lower - (0.03 - 1.959_963_984_540_054 * se)).abs() < 1e-9);
        let (relative, lower, upper) = d.relative.unwrap();
        assert!((relative - 1.0 / 3.0).abs() < 1e-12 && lower < relative && relative < upper);
    }

    #[test]
    fn minimum_detectable_difference_matches_the_textbook() {
        // (1.95996 + 0.84162) * sqrt(.1 * .9 * 2 / 1000)
        let found = minimum_detectable_difference(0.1, 1000.0, 1000.0).unwrap();
        assert!((found - 0.037_586_9).abs() < 1e-6, "{found}");
        assert_eq!(minimum_detectable_difference(0.1, 0.0, 10.0), None);
    }

    #[test]
    fn nothing_to_say_without_variation() {
        assert_eq!(difference(binary(10.0, 0.0), binary(10.0, 0.0), 0.95), None);
        assert_eq!(difference(binary(1.0, 1.0), binary(10.0, 5.0), 0.95), None);
    }
}
