//! Sample ratio: do the groups have the sizes they should, and are they alike?

use statrs::distribution::{ChiSquared, ContinuousCDF};
use statrs::function::gamma::ln_gamma;

use super::sample::{Sample, Variable};

/// How sure the alternative is of the expected shares, in customers: it looks for groups that are some per cent too large or small.
const CONCENTRATION: f64 = 1000.0;

/// Customers that were drawn under one set of shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// Customers by group.
    pub observed: Vec<f64>,
    /// Share of each group.
    pub shares: Vec<f64>,
}

/// p-value of the hypothesis that customers were drawn with these shares, valid at whatever time one looks: the probability that
/// it ever falls below α is at most α. One over the Bayes factor for a Dirichlet alternative around the shares (Lindon, Malek 2022,
/// "Anytime-valid inference for multinomial count data", equation 9), multiplied over sets of shares. 1 without customers.
pub fn sequential_balance(drawn: &[Drawn]) -> f64 {
    let log_factor: f64 = drawn.iter().map(Drawn::log_bayes_factor).sum();
    (-log_factor).exp().min(1.0)
}

impl Drawn {
    fn log_bayes_factor(&self) -> f64 {
        let total: f64 = self.observed.iter().sum();
        let cells =
            self.observed.iter().zip(&self.shares).filter(|(observed, share)| **observed > 0.0 || **share > 0.0);
        let mut log = ln_gamma(CONCENTRATION) - ln_gamma(CONCENTRATION + total);
        for (observed, share) in cells {
            if *share <= 0.0 {
                // Somebody is where nobody can be.
                return f64::INFINITY;
            }
            let prior = CONCENTRATION * share;
            log += ln_gamma(prior + observed) - ln_gamma(prior) - observed * share.ln();
        }
        log
    }
}

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

/// Whether rows of a table of counts have the same proportions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Independence {
    pub statistic: f64,
    pub freedom: f64,
    pub p_value: f64,
}

impl Independence {
    /// `None` without degrees of freedom.
    fn of(statistic: f64, freedom: f64) -> Option<Self> {
        let p_value = ChiSquared::new(freedom).ok()?.sf(statistic);
        Some(Independence { statistic, freedom, p_value })
    }
}

/// Pearson's chi-square test of independence. Columns in which fewer than five are expected in some row are taken together, so that
/// the approximation holds (Cochran 1954). `None` if fewer than two rows or columns are left.
pub fn independence(table: &[Vec<f64>]) -> Option<Independence> {
    let rows: Vec<&Vec<f64>> = table.iter().filter(|row| row.iter().sum::<f64>() > 0.0).collect();
    let sums: Vec<f64> = rows.iter().map(|row| row.iter().sum()).collect();
    let total: f64 = sums.iter().sum();
    let smallest = sums.iter().copied().fold(f64::INFINITY, f64::min);
    let columns = rows.first()?.len();
    let of = |column: usize| rows.iter().map(|row| row[column]).collect::<Vec<f64>>();
    let (mut kept, mut rest) = (Vec::new(), vec![0.0; rows.len()]);
    for column in (0..columns).map(of) {
        if column.iter().sum::<f64>() * smallest / total >= 5.0 {
            kept.push(column);
        } else {
            rest.iter_mut().zip(&column).for_each(|(rest, count)| *rest += count);
        }
    }
    if rest.iter().sum::<f64>() * smallest / total >= 5.0 {
        kept.push(rest);
    }
    if rows.len() < 2 || kept.len() < 2 {
        return None;
    }
    let counted: f64 = kept.iter().flatten().sum();
    let statistic: f64 = kept
        .iter()
        .map(|column| {
            let share = column.iter().sum::<f64>() / counted;
            let of_row = |row: usize| kept.iter().map(|column| column[row]).sum::<f64>() * share;
            column.iter().enumerate().map(|(row, count)| (count - of_row(row)).powi(2) / of_row(row)).sum::<f64>()
        })
        .sum();
    let freedom = ((rows.len() - 1) * (kept.len() - 1)) as f64;
    Independence::of(statistic, freedom)
}

/// The same within strata: statistics and degrees of freedom of those in which there is something to compare, added up. Rows that
/// differ because a stratum has other proportions of both rows and columns do not count.
pub fn independence_within(strata: &[Vec<Vec<f64>>]) -> Option<Independence> {
    let found = strata.iter().filter_map(|table| independence(table));
    let sum = found.fold((0.0, 0.0), |sum, found| (sum.0 + found.statistic, sum.1 + found.freedom));
    Independence::of(sum.0, sum.1)
}

/// One-way analysis of variance: p-value of units of the same mean, by the limit of F for many units. `None` if nothing varies, or
/// there are fewer than two samples with units.
pub fn same_mean(samples: &[Sample]) -> Option<f64> {
    let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.count > 0.0).collect();
    let mut all = Sample::default();
    samples.iter().for_each(|sample| all.merge(sample));
    let squares = |sample: &Sample| sample.products(Variable::Outcome, Variable::Outcome);
    let within: f64 = samples.iter().map(|sample| squares(sample)).sum();
    let groups = samples.len() as f64;
    let variance = within / (all.count - groups);
    if groups < 2.0 || all.count <= groups || variance <= 0.0 {
        return None;
    }
    let freedom = groups - 1.0;
    Some(ChiSquared::new(freedom).ok()?.sf((squares(&all) - within).max(0.0) / variance))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn agrees_with_scipy() {
        // scipy.stats.chisquare([110, 48, 842], [100, 50, 850])
        let (statistic, p) = chi_square(&[110.0, 48.0, 842.0], &[100.0, 50.0, 850.0]).unwrap();
        assert!((statistic - 1.155_294_117_647_058_8).abs() < 1e-12);
        assert!((p - 0.561_217_459_437_7).abs() < 1e-6, "{p}");
        // scipy.stats.chi2_contingency([[40, 60, 5], [30, 90, 12]], correction=False)
        let found = independence(&[vec![40.0, 60.0, 5.0], vec![30.0, 90.0, 12.0]]).unwrap();
        assert!((found.statistic - 7.330_110_225_908_545).abs() < 1e-9, "{found:?}");
        assert!((found.p_value - 0.025_602_760_201_076_34).abs() < 1e-9, "{found:?}");
        assert_eq!(found.freedom, 2.0);
    }

    #[test]
    fn means_are_compared_like_scipy() {
        let sample = |values: &[f64]| {
            let (sum, squares) = (values.iter().sum(), values.iter().map(|x| x * x).sum());
            Sample::of_sums(values.len() as f64, sum, squares)
        };
        // scipy.stats.f_oneway gives F = 7 over (2, 6) degrees of freedom; scipy.stats.chi2.sf(2 * 7, 2).
        let samples = [sample(&[1.0, 2.0, 3.0]), sample(&[2.0, 3.0, 4.0]), sample(&[4.0, 5.0, 6.0])];
        let p_value = same_mean(&samples).unwrap();
        assert!((p_value - (-7.0_f64).exp()).abs() < 1e-12, "{p_value}");
        assert_eq!(same_mean(&samples[..1]), None);
        assert_eq!(same_mean(&[sample(&[1.0, 1.0]), sample(&[1.0, 1.0])]), None, "nothing varies");
    }

    #[test]
    fn needs_two_cells() {
        assert_eq!(chi_square(&[5.0, 0.0], &[5.0, 0.0]), None);
        assert_eq!(independence(&[vec![5.0, 3.0], vec![0.0, 0.0]]), None);
        assert_eq!(independence(&[vec![50.0, 1.0], vec![60.0, 0.0]]), None, "too few in the second column");
        assert_eq!(independence(&[]), None);
    }

    /// Share of campaigns in which a look after every hundred customers ever finds p < 0.05.
    fn alarms(holdout: f64) -> f64 {
        let runs = 400;
        let alarmed = (0..runs).filter(|seed| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(*seed);
            let mut observed = vec![0.0; 3];
            (0..100).any(|_| {
                for _ in 0..100 {
                    let draw: f64 = rng.random();
                    observed[if draw < holdout {
                        0
                    } else if draw < holdout + 0.05 {
                        1
                    } else {
                        2
                    }] += 1.0;
                }
                let drawn = Drawn { observed: observed.clone(), shares: vec![0.1, 0.05, 0.85] };
                sequential_balance(&[drawn]) < 0.05
            })
        });
        alarmed.count() as f64 / runs as f64
    }

    #[test]
    fn looking_often_finds_what_is_there_and_nothing_else() {
        let (fair, unfair) = (alarms(0.1), alarms(0.12));
        assert!(fair < 0.05 && unfair > 0.95, "{fair} {unfair}");
    }

    #[test]
    fn shares_change() {
        let first = Drawn { observed: vec![1000.0, 9000.0], shares: vec![0.1, 0.9] };
        let second = Drawn { observed: vec![5000.0, 5000.0], shares: vec![0.5, 0.5] };
        assert_eq!(sequential_balance(&[first.clone(), second.clone()]), 1.0);
        let wrong = Drawn { shares: vec![0.1, 0.9], ..second };
        assert!(sequential_balance(&[first, wrong]) < 1e-9);
        let nowhere = Drawn { observed: vec![1.0, 10.0], shares: vec![0.0, 1.0] };
        assert_eq!(sequential_balance(&[nowhere]), 0.0);
        assert_eq!(sequential_balance(&[]), 1.0);
    }
}
