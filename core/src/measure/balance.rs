//! Sample ratio: do the groups have the sizes they should?

use statrs::distribution::{ChiSquared, ContinuousCDF};

/// Pearson's chi-square statistic of `observed` counts against `expected` ones (same total), and its p-value with
/// (cells − 1) degrees of freedom. Cells expected to be empty are left out; `None` with fewer than two cells.
pub fn chi_square(observed: &[f64], expected: &[f64]) -> Option<(f64, f64)> {
    let cells: Vec<(f64, f64)> =
        observed.iter().copied().zip(expected.iter().copied()).filter(|(_, expected)| *expected > 0.0).collect();
    if cells.len() < 2 {
        return None;
    }
    let statistic = cells.iter().map(|(o, e)| (o - e) * (o - e) / e).sum::<f64>();
    let distribution = ChiSquared::new((cells.len() - 1) as f64).ok()?;
    Some((statistic, distribution.sf(statistic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_scipy() {
        // scipy.stats.chisquare([110, 48, 842], [100, 50, 850])
        let (statistic, p) = chi_square(&[110.0, 48.0, 842.0], &[100.0, 50.0, 850.0]).unwrap();
        assert!((statistic - 1.155_294_117_647_058_8).abs() < 1e-12);
        assert!((p - 0.561_217_459_437_7).abs() < 1e-6, "{p}");
    }

    #[test]
    fn needs_two_cells() {
        assert_eq!(chi_square(&[5.0, 0.0], &[5.0, 0.0]), None);
    }
}
