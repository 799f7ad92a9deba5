//! P-values of many tests at once.

/// The false-discovery rate at which each test is among the discoveries (Benjamini and Hochberg 1995), in the order of the p-values.
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let count = p_values.len() as f64;
    let mut smallest = 1.0_f64;
    let mut adjusted = vec![1.0; p_values.len()];
    for (rank, at) in ascending(p_values).into_iter().enumerate().rev() {
        smallest = smallest.min(p_values[at] * count / (rank + 1) as f64);
        adjusted[at] = smallest;
    }
    adjusted
}

/// The level at which each test is rejected with no more than that chance of any false rejection (Holm 1979), in the same order.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let count = p_values.len();
    let mut largest = 0.0_f64;
    let mut adjusted = vec![1.0; count];
    for (rank, at) in ascending(p_values).into_iter().enumerate() {
        largest = largest.max((p_values[at] * (count - rank) as f64).min(1.0));
        adjusted[at] = largest;
    }
    adjusted
}

fn ascending(p_values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const P_VALUES: [f64; 8] = [0.039, 0.001, 0.8, 0.008, 0.042, 0.041, 0.06, 0.008];

    fn near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    /// multipletests([0.039, 0.001, 0.8, 0.008, 0.042, 0.041, 0.06, 0.008], method=…)[1] of statsmodels 0.15.0.
    #[test]
    fn agree_with_statsmodels() {
        // method="fdr_bh", then "holm".
        let (sixth, third) = (0.068_571_428_571_428_57, 0.021_333_333_333_333_333);
        near(&benjamini_hochberg(&P_VALUES), &[0.056, 0.008, 0.8, third, 0.056, 0.056, sixth, third]);
        near(&holm(&P_VALUES), &[0.195, 0.008, 0.8, 0.056, 0.195, 0.195, 0.195, 0.056]);
    }

    #[test]
    fn nothing_and_one() {
        assert!(benjamini_hochberg(&[]).is_empty() && holm(&[]).is_empty());
        assert_eq!((benjamini_hochberg(&[0.3]), holm(&[0.3])), (vec![0.3], vec![0.3]));
    }
}
