//! Many estimates of the same kind say how large such effects are.

/// Standard deviation τ of effects that are normal about 0, given estimates of them and their standard errors: the maximum of the marginal
/// likelihood Π N(estimate; 0, τ² + error²) (Efron and Morris 1973; Morris 1983). 0 if the estimates vary no more than their errors.
pub fn spread(estimates: &[(f64, f64)]) -> f64 {
    let slope = |variance: f64| {
        estimates
            .iter()
            .map(|(estimate, error)| {
                let total = variance + error * error;
                (estimate * estimate - total) / (2.0 * total * total)
            })
            .sum::<f64>()
    };
    if estimates.is_empty() || slope(0.0) <= 0.0 {
        return 0.0;
    }
    // The slope is negative where the variance is larger than any square: between, its sign is found by halves.
    let (mut low, mut high) = (0.0, estimates.iter().map(|(estimate, _)| estimate * estimate).fold(0.0, f64::max));
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if slope(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    (0.5 * (low + high)).sqrt()
}

/// Mean of an effect given its estimate, if effects have a standard deviation of `spread` about 0.
pub fn shrunken(estimate: f64, error: f64, spread: f64) -> f64 {
    let variance = spread * spread;
    if variance > 0.0 {
        estimate * variance / (variance + error * error)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With errors of one size, τ² is the mean square less theirs.
    #[test]
    fn by_hand() {
        let estimates: Vec<(f64, f64)> = [1.0, -2.0, 3.0, -2.0].into_iter().map(|x| (x, 1.5)).collect();
        assert!((spread(&estimates).powi(2) - (18.0 / 4.0 - 2.25)).abs() < 1e-9);
        assert!((shrunken(2.0, 1.5, 1.5) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn chance_alone_has_no_spread() {
        assert_eq!((spread(&[(0.5, 1.0), (-0.3, 1.0)]), spread(&[]), shrunken(2.0, 1.0, 0.0)), (0.0, 0.0, 0.0));
    }
}
