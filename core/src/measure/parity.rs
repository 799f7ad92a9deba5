//! Who gets what, across the values of an attribute.

use statrs::distribution::{ContinuousCDF, Normal};

/// Wilson's score interval (1927) of a share at the normal quantile `z`.
pub fn wilson(share: f64, count: f64, z: f64) -> (f64, f64) {
    let centre = (share + z * z / (2.0 * count)) / (1.0 + z * z / count);
    let half = z / (1.0 + z * z / count) * (share * (1.0 - share) / count + z * z / (4.0 * count * count)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Customers with a value of the attribute: how many, and the sums of what part of their decisions had the level, and of its squares. A
/// customer counts once, however often he is decided for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    pub customers: f64,
    sum: f64,
    squares: f64,
}

impl Share {
    /// Of so many customers, of whom nobody has got the level yet.
    pub fn new(customers: f64) -> Self {
        Share { customers, sum: 0.0, squares: 0.0 }
    }

    /// One of them has, in a part of his decisions.
    pub fn add(&mut self, part: f64) {
        self.sum += part;
        self.squares += part * part;
    }

    fn mean(&self) -> f64 {
        if self.customers > 0.0 {
            self.sum / self.customers
        } else {
            0.0
        }
    }

    /// Wilson's interval with as many customers who got it or did not as tell as much.
    fn bounds(&self, z: f64) -> (f64, f64) {
        if self.customers <= 0.0 {
            return (0.0, 1.0);
        }
        let mean = self.mean();
        let (binary, variance) = (mean * (1.0 - mean), self.squares / self.customers - mean * mean);
        let effect = if binary > 0.0 { (variance / binary).clamp(1e-3, 1.0) } else { 1.0 };
        wilson(mean, self.customers / effect, z)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fewer customers than asked for: nothing is said.
    TooFew,
    /// The value that others are compared with.
    Reference,
    Fair,
    /// The ratio is too low, but it may be chance.
    Suspect,
    /// The ratio is too low, and so is its upper bound.
    Adverse,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parity {
    pub share: f64,
    pub lower: f64,
    pub upper: f64,
    /// Share over that of the reference; `None` where the reference got nothing, or there is none.
    pub ratio: Option<f64>,
    /// Upper bound of the ratio that holds for all values and levels together, whichever value is the reference.
    pub ratio_upper: Option<f64>,
    pub verdict: Verdict,
}

/// Upper bound of the ratio of two shares, from the upper bound of the first and the lower one of the second: the method of variance
/// estimates recovery (Donner, Zou 2012). `None` where the second may be zero.
fn ratio_upper(share: f64, upper: f64, over: f64, lower: f64) -> Option<f64> {
    let divisor = lower * (2.0 * over - lower);
    let product = share * over;
    let root = product * product - upper * (2.0 * share - upper) * divisor;
    (divisor > 0.0).then(|| (product + root.max(0.0).sqrt()) / divisor)
}

/// Compares shares with that of a reference, by its place, or else with the largest among those with enough customers, as the
/// four-fifths rule does (29 CFR 1607.4 D). Intervals of shares are of 95 %. Verdicts are at 5 % for all of them together, in as many
/// `tables` as there are levels (Bonferroni; where the reference is found in the data, over all pairs that it could have been of).
pub fn parity(
    shares: &[Share],
    reference: Option<usize>,
    minimum_ratio: f64,
    minimum_customers: f64,
    tables: usize,
) -> Vec<Parity> {
    let enough = |share: &Share| share.customers >= minimum_customers.max(1.0);
    let values = shares.iter().filter(|share| enough(share)).count().max(2) as f64;
    let pairs = if reference.is_some() { values - 1.0 } else { values * (values - 1.0) };
    let normal = Normal::standard();
    let (z, together) = (normal.inverse_cdf(0.975), normal.inverse_cdf(1.0 - 0.05 / (pairs * tables.max(1) as f64)));
    let largest = || {
        let known = shares.iter().enumerate().filter(|(_, share)| enough(share));
        known.max_by(|a, b| a.1.mean().total_cmp(&b.1.mean())).map(|(at, _)| at)
    };
    let reference = reference.or_else(largest);
    let best = reference.and_then(|at| shares.get(at)).filter(|share| enough(share));
    let one = |(at, share): (usize, &Share)| {
        let found = share.mean();
        let (lower, upper) = share.bounds(z);
        let ratio = best.map(Share::mean).filter(|best| *best > 0.0).map(|best| found / best);
        let ratio_upper = best
            .filter(|_| reference != Some(at))
            .and_then(|best| ratio_upper(found, share.bounds(together).1, best.mean(), best.bounds(together).0));
        let verdict = match (best, ratio) {
            _ if !enough(share) => Verdict::TooFew,
            (None, _) => Verdict::TooFew,
            _ if reference == Some(at) => Verdict::Reference,
            (_, Some(ratio)) if ratio < minimum_ratio => match ratio_upper {
                Some(upper) if upper < minimum_ratio => Verdict::Adverse,
                _ => Verdict::Suspect,
            },
            _ => Verdict::Fair,
        };
        Parity { share: found, lower, upper, ratio, ratio_upper, verdict }
    };
    shares.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    fn share(customers: usize, got: usize) -> Share {
        let mut share = Share::new(customers as f64);
        (0..got).for_each(|_| share.add(1.0));
        share
    }

    #[test]
    fn four_fifths() {
        let shares = [share(1000, 500), share(1000, 420), share(1000, 300), share(40, 15), share(9, 0)];
        let found = parity(&shares, None, 0.8, 30.0, 1);
        let verdicts: Vec<Verdict> = found.iter().map(|found| found.verdict).collect();
        use Verdict::*;
        assert_eq!(verdicts, [Reference, Fair, Adverse, Suspect, TooFew]);
        assert!((found[2].ratio.unwrap() - 0.6).abs() < 1e-12);
        // scipy: binomtest(300, 1000).proportion_ci(method="wilson")
        assert!((found[2].lower - 0.272_4).abs() < 1e-3 && (found[2].upper - 0.329_1).abs() < 1e-3, "{:?}", found[2]);
    }

    #[test]
    fn a_reference_is_taken_as_given() {
        let found = parity(&[share(100, 50), share(100, 25)], Some(1), 0.8, 30.0, 1);
        assert_eq!((found[0].verdict, found[1].verdict), (Verdict::Fair, Verdict::Reference));
        assert_eq!(found[0].ratio, Some(2.0));
        // Too small a reference says nothing of anybody.
        let found = parity(&[share(100, 50), share(10, 5)], Some(1), 0.8, 30.0, 1);
        assert!(found.iter().all(|found| found.verdict == Verdict::TooFew));
        assert!(parity(&[], None, 0.8, 30.0, 1).is_empty());
        // Nobody of a value got it: that is not for lack of knowledge.
        let found = parity(&[share(500, 250), share(500, 0)], None, 0.8, 30.0, 1);
        assert_eq!(found[1].verdict, Verdict::Adverse);
    }

    /// Bounds by the logarithm and the delta method are near for large samples: exp(ln(r) + 1.645 √((1 − p)/(np) + (1 − q)/(mq))).
    #[test]
    fn the_bound_of_a_ratio_knows_both_errors() {
        let found = parity(&[share(20_000, 8_000), share(10_000, 3_000)], Some(0), 0.8, 30.0, 1)[1];
        let by = 1.644_853_6 * (0.7_f64 / 3_000.0 + 0.6 / 8_000.0).sqrt();
        assert!((found.ratio_upper.unwrap() - 0.75 * by.exp()).abs() < 5e-4, "{found:?}");
    }

    /// Three values and three levels that have nothing to do with each other, one value with few customers, and the largest share as the
    /// reference: hardly ever is anything adverse, at a ratio that is above what would be seen by chance with many customers.
    #[test]
    fn a_reference_that_is_largest_by_chance_raises_no_alarm() {
        let (runs, mut alarms) = (300, 0);
        for seed in 0..runs {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut table = [[Share::default(); 3]; 3];
            for (value, size) in [2_000, 500, 40].into_iter().enumerate() {
                table.iter_mut().for_each(|level| level[value] = Share::new(f64::from(size)));
                for _ in 0..size {
                    table[random.random_range(0..3)][value].add(1.0);
                }
            }
            let adverse = |level: &[Share; 3]| {
                parity(level, None, 0.95, 30.0, 3).iter().any(|found| found.verdict == Verdict::Adverse)
            };
            alarms += usize::from(table.iter().any(adverse));
        }
        assert!(alarms <= 15, "{alarms} of {runs}");
    }

    /// Many decisions of a customer are no many customers, and who is decided for more often has not got more.
    #[test]
    fn a_customer_counts_once() {
        let mut often = Share::new(200.0);
        let mut seldom = Share::new(200.0);
        for n in 0..200 {
            // Half of the decisions each, of ninety and of two.
            often.add(0.5);
            seldom.add(f64::from(n % 3) / 2.0);
        }
        let found = parity(&[often, seldom], None, 0.8, 30.0, 1);
        assert!(found[1].ratio.unwrap() > 0.97 && found[1].verdict == Verdict::Fair, "{found:?}");
        let width = |found: &Parity| found.upper - found.lower;
        assert!(width(&found[0]) < 0.3 * width(&found[1]), "whose parts do not vary is known better");
    }
}
