//! Who gets what, across the values of an attribute.

use statrs::distribution::{ContinuousCDF, Normal};

/// Wilson's score interval (1927) of a share at the normal quantile `z`.
pub fn wilson(share: f64, count: f64, z: f64) -> (f64, f64) {
    let centre = (share + z * z / (2.0 * count)) / (1.0 + z * z / count);
    let half = z / (1.0 + z * z / count) * (share * (1.0 - share) / count + z * z / (4.0 * count * count)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Customers with a value of the attribute, and how many of them got the level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    pub customers: f64,
    pub got: f64,
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
    /// The ratio is too low, and so is the upper end of the interval.
    Adverse,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parity {
    pub share: f64,
    pub lower: f64,
    pub upper: f64,
    /// Share over that of the reference; `None` where the reference got nothing, or there is none.
    pub ratio: Option<f64>,
    pub verdict: Verdict,
}

/// Compares shares with that of a reference, by its place, or else with the largest among those with enough customers, as the
/// four-fifths rule does (29 CFR 1607.4 D). The interval is of 95 %.
pub fn parity(shares: &[Share], reference: Option<usize>, minimum_ratio: f64, minimum_customers: f64) -> Vec<Parity> {
    let z = Normal::standard().inverse_cdf(0.975);
    let of = |share: &Share| if share.customers > 0.0 { share.got / share.customers } else { 0.0 };
    let enough = |share: &Share| share.customers >= minimum_customers.max(1.0);
    let largest = || {
        let known = shares.iter().enumerate().filter(|(_, share)| enough(share));
        known.max_by(|a, b| of(a.1).total_cmp(&of(b.1))).map(|(at, _)| at)
    };
    let reference = reference.or_else(largest);
    let best = reference.and_then(|at| shares.get(at)).filter(|share| enough(share)).map(of);
    let one = |(at, share): (usize, &Share)| {
        let found = of(share);
        let (lower, upper) = if share.customers > 0.0 { wilson(found, share.customers, z) } else { (0.0, 1.0) };
        let ratio = best.filter(|best| *best > 0.0).map(|best| found / best);
        let verdict = match (best, ratio) {
            _ if !enough(share) => Verdict::TooFew,
            (None, _) => Verdict::TooFew,
            _ if reference == Some(at) => Verdict::Reference,
            (Some(best), Some(ratio)) if ratio < minimum_ratio => {
                if upper < minimum_ratio * best {
                    Verdict::Adverse
                } else {
                    Verdict::Suspect
                }
            }
            _ => Verdict::Fair,
        };
        Parity { share: found, lower, upper, ratio, verdict }
    };
    shares.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(customers: f64, got: f64) -> Share {
        Share { customers, got }
    }

    #[test]
    fn four_fifths() {
        let shares =
            [share(1000.0, 500.0), share(1000.0, 420.0), share(1000.0, 300.0), share(40.0, 15.0), share(9.0, 0.0)];
        let found = parity(&shares, None, 0.8, 30.0);
        let verdicts: Vec<Verdict> = found.iter().map(|found| found.verdict).collect();
        use Verdict::*;
        assert_eq!(verdicts, [Reference, Fair, Adverse, Suspect, TooFew]);
        assert!((found[2].ratio.unwrap() - 0.6).abs() < 1e-12);
        // scipy: binomtest(300, 1000).proportion_ci(method="wilson")
        assert!((found[2].lower - 0.272_4).abs() < 1e-3 && (found[2].upper - 0.329_1).abs() < 1e-3, "{:?}", found[2]);
    }

    #[test]
    fn a_reference_is_taken_as_given() {
        let found = parity(&[share(100.0, 50.0), share(100.0, 25.0)], Some(1), 0.8, 30.0);
        assert_eq!((found[0].verdict, found[1].verdict), (Verdict::Fair, Verdict::Reference));
        assert_eq!(found[0].ratio, Some(2.0));
        // Too small a reference says nothing of anybody.
        let found = parity(&[share(100.0, 50.0), share(10.0, 5.0)], Some(1), 0.8, 30.0);
        assert!(found.iter().all(|found| found.verdict == Verdict::TooFew));
        assert!(parity(&[], None, 0.8, 30.0).is_empty());
    }
}
