//! What two groups say of each other.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::sample::{Sample, Variable};
use super::sequence::multiplier;

/// Units that must have responded in each group before an interval that allows peeking is given: with fewer its normal
/// approximation fails, and at low rates and small holdouts badly (`benches/statistics`).
pub const FEWEST_RESPONDERS: f64 = 30.0;

/// The same for an interval for one look. Without it, up to 40 % of fair comparisons of 8 500 customers with 1 000 at a rate of 0.06 %
/// would have a p-value below 0.05; with it, at most 5.7 % of any (`rare` in `benches/statistics`).
pub const FEWEST_RESPONDERS_FOR_ONE_LOOK: f64 = 10.0;

/// Two groups of one stratum: units that were drawn under the same shares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arms {
    pub treated: Sample,
    pub baseline: Sample,
}

/// Units that responded at all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Responders {
    pub treated: f64,
    pub baseline: f64,
}

impl Responders {
    fn are_at_least(&self, fewest: f64) -> bool {
        self.treated.min(self.baseline) >= fewest
    }

    /// How much is known: the number in two equal groups that would tell as much.
    fn information(&self) -> f64 {
        4.0 / (1.0 / self.treated + 1.0 / self.baseline)
    }
}

/// An estimate with bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded {
    pub estimate: f64,
    pub lower: f64,
    pub upper: f64,
}

/// Treated against baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Readout {
    pub treated: f64,
    pub baseline: f64,
    pub difference: f64,
    pub standard_error: f64,
    /// Bounds of the difference for one look at a time fixed before (Welch; for strata and ratios with degrees of freedom after
    /// Satterthwaite); `None` with too few responders, as is the p-value.
    pub fixed: Option<Bounded>,
    pub p_value: Option<f64>,
    /// treated / baseline − 1; `None` unless both are above zero.
    pub relative: Option<f64>,
    /// The same with bounds for one look likewise, by the delta method on the logarithm.
    pub fixed_relative: Option<Bounded>,
    /// Bounds of the difference that hold at all looks together; `None` with too few responders, likewise.
    pub always_valid: Option<Bounded>,
    pub always_valid_relative: Option<Bounded>,
    /// Smallest difference that such groups find with 80 % power by the bounds that hold at all looks; `None` where there are none.
    pub detectable: Option<f64>,
    /// Share of the variance that the covariate took away.
    pub variance_removed: Option<f64>,
}

/// One group of one stratum, linearised: units of z − θ·x, where z is what a unit adds to the ratio of its group.
struct Linear {
    ratio: f64,
    count: f64,
    /// Sum of squares of z.
    zz: f64,
    zx: f64,
    xx: f64,
    x: f64,
}

impl Linear {
    /// Delta method for the ratio of two means: z = (y − R·d) / mean(d) (Deng, Knoblich, Lu 2018, section 3).
    fn new(sample: &Sample) -> Option<Self> {
        use Variable::{Covariate, Denominator, Outcome};
        let denominator = sample.mean(Denominator);
        if sample.count < 2.0 || denominator <= 0.0 {
            return None;
        }
        let ratio = sample.mean(Outcome) / denominator;
        let zz = sample.products(Outcome, Outcome) - 2.0 * ratio * sample.products(Outcome, Denominator)
            + ratio * ratio * sample.products(Denominator, Denominator);
        let zx = sample.products(Outcome, Covariate) - ratio * sample.products(Denominator, Covariate);
        Some(Linear {
            ratio,
            count: sample.count,
            zz: zz.max(0.0) / (denominator * denominator),
            zx: zx / denominator,
            xx: sample.products(Covariate, Covariate),
            x: sample.mean(Covariate),
        })
    }

    /// Variance of the adjusted ratio.
    fn variance(&self, theta: f64) -> f64 {
        let squares = self.zz - 2.0 * theta * self.zx + theta * theta * self.xx;
        squares.max(0.0) / (self.count - 1.0) / self.count
    }
}

/// Compares ratios of means, or means if units count once ([`Sample::per_unit`]), post-stratified: differences within strata,
/// weighted by the size of the strata. With `adjust`, by CUPED (Deng, Xu, Kohavi, Walker 2013): θ is the slope on the covariate
/// within groups, one for all. `confidence` is that of the bounds, 0.95 say. `None` if no stratum has two units on both sides, or
/// nothing varies.
pub fn read_out(strata: &[Arms], responders: Responders, adjust: bool, confidence: f64) -> Option<Readout> {
    let pairs: Vec<(Linear, Linear)> =
        strata.iter().filter_map(|arms| Some((Linear::new(&arms.treated)?, Linear::new(&arms.baseline)?))).collect();
    let groups = || pairs.iter().flat_map(|(treated, baseline)| [treated, baseline]);
    let slope = groups().map(|group| group.zx).sum::<f64>() / groups().map(|group| group.xx).sum::<f64>();
    let theta = if adjust && slope.is_finite() { slope } else { 0.0 };

    let total: f64 = groups().map(|group| group.count).sum();
    let (mut treated, mut baseline) = (Side::default(), Side::default());
    for (one, other) in &pairs {
        let weight = (one.count + other.count) / total;
        let x = (one.count * one.x + other.count * other.x) / (one.count + other.count);
        treated.add(one, weight, theta, x);
        baseline.add(other, weight, theta, x);
    }
    let variance = treated.variance + baseline.variance;
    if !(variance > 0.0 && variance.is_finite()) {
        return None;
    }
    let standard_error = variance.sqrt();
    let student = StudentsT::new(0.0, 1.0, variance * variance / (treated.fourth + baseline.fourth)).ok()?;
    let difference = treated.estimate - baseline.estimate;
    let bounded = |by: f64| Bounded {
        estimate: difference,
        lower: difference - by * standard_error,
        upper: difference + by * standard_error,
    };
    let level = 0.5 + confidence / 2.0;
    let normal = Normal::standard();
    let once = responders.are_at_least(FEWEST_RESPONDERS_FOR_ONE_LOOK);
    let by = responders.are_at_least(FEWEST_RESPONDERS).then(|| multiplier(responders.information(), confidence));
    let plain: f64 = treated.unadjusted + baseline.unadjusted;
    Some(Readout {
        treated: treated.estimate,
        baseline: baseline.estimate,
        difference,
        standard_error,
        fixed: once.then(|| bounded(student.inverse_cdf(level))),
        p_value: once.then(|| 2.0 * student.sf((difference / standard_error).abs())),
        relative: (treated.estimate > 0.0 && baseline.estimate > 0.0)
            .then(|| treated.estimate / baseline.estimate - 1.0),
        fixed_relative: relative(&treated, &baseline, |freedom| {
            Some(StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(level))
        })
        .filter(|_| once),
        always_valid: by.map(bounded),
        always_valid_relative: by.and_then(|by| relative(&treated, &baseline, |_| Some(by))),
        detectable: by.map(|by| (by + normal.inverse_cdf(0.8)) * standard_error),
        variance_removed: adjust.then(|| 1.0 - variance / plain),
    })
}

/// Means of both groups over all strata, where nothing varies and there is no more to say. `None` where a group is empty.
pub fn plain_means(strata: &[Arms]) -> Option<[f64; 2]> {
    let mean = |of: fn(&Arms) -> &Sample| {
        let mut all = Sample::default();
        strata.iter().for_each(|arms| all.merge(of(arms)));
        let denominator = all.mean(Variable::Denominator);
        (denominator > 0.0).then(|| all.mean(Variable::Outcome) / denominator)
    };
    Some([mean(|arms| &arms.treated)?, mean(|arms| &arms.baseline)?])
}

/// A group over its strata.
#[derive(Default)]
struct Side {
    estimate: f64,
    variance: f64,
    unadjusted: f64,
    /// Sum of squared variances over their degrees of freedom.
    fourth: f64,
}

impl Side {
    fn add(&mut self, group: &Linear, weight: f64, theta: f64, x: f64) {
        let squared = weight * weight;
        let variance = squared * group.variance(theta);
        self.estimate += weight * (group.ratio - theta * (group.x - x));
        self.variance += variance;
        self.unadjusted += squared * group.variance(0.0);
        self.fourth += variance * variance / (group.count - 1.0);
    }
}

/// The ratio of two groups less one, with bounds so many standard errors of its logarithm away as its degrees of freedom ask for.
fn relative(treated: &Side, baseline: &Side, by: impl Fn(f64) -> Option<f64>) -> Option<Bounded> {
    let (of, over) = (treated.estimate, baseline.estimate);
    if !(of > 0.0 && over > 0.0) {
        return None;
    }
    let variance = treated.variance / of.powi(2) + baseline.variance / over.powi(2);
    let fourth = treated.fourth / of.powi(4) + baseline.fourth / over.powi(4);
    let factor = (by(variance * variance / fourth)? * variance.sqrt()).exp();
    Some(Bounded { estimate: of / over - 1.0, lower: of / over / factor - 1.0, upper: of / over * factor - 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 400 customers, half of them treated: value, orders and a covariate, as means and sums of products of deviations.
    fn golden() -> Arms {
        let of = |means: [f64; 3], products: [f64; 6]| Sample::of_products(200.0, means, products);
        Arms {
            baseline: of(
                [10.1873, 1.14, 18.0196],
                [20263.041342, 2095.5056, 226.08, 3577.833784, 122.9812, 37315.977568],
            ),
            treated: of(
                [10.8766, 1.23, 17.51185],
                [22660.776888, 2495.8064, 283.42, -221.727042, -201.7051, 30242.6986155],
            ),
        }
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-8 * (1.0 + expected.abs()), "{found} is not {expected}");
    }

    /// tea_tasting 1.14.0: `Mean("y")` and `RatioOfMeans("y", "orders")` of an `Experiment` over these customers.
    #[test]
    fn agrees_with_tea_tasting() {
        let enough = Responders { treated: 10.0, baseline: 10.0 };
        let Arms { treated, baseline } = golden();
        let mean = Arms { treated: treated.per_unit(), baseline: baseline.per_unit() };
        let found = read_out(&[mean], enough, false, 0.95).unwrap();
        near(found.difference, 0.689_300_000_000_001);
        near(found.fixed.unwrap().lower, -1.352_355_877_877_268_4);
        near(found.fixed.unwrap().upper, 2.730_955_877_877_270_7);
        near(found.p_value.unwrap(), 0.507_239_632_813_306_9);
        let relative = found.fixed_relative.unwrap();
        near(found.relative.unwrap(), relative.estimate);
        near(relative.estimate, 0.067_662_678_040_305_12);
        near(relative.lower, -0.120_442_845_319_773);
        near(relative.upper, 0.295_997_182_234_986_3);
        assert_eq!((found.always_valid, found.variance_removed), (None, None));

        let found = read_out(&[golden()], enough, false, 0.95).unwrap();
        near(found.treated, 8.842_764_227_642_277);
        near(found.fixed.unwrap().lower, -0.422_865_953_896_132_7);
        near(found.fixed.unwrap().upper, 0.235_938_268_829_806_5);
        near(found.p_value.unwrap(), 0.577_255_071_221_433_9);
        near(found.fixed_relative.unwrap().upper, 0.026_859_259_318_211_76);
    }

    /// By numpy, with the slope within groups; tea_tasting takes that over both groups, and finds 0.714 and −0.0677.
    #[test]
    fn adjusts_by_the_covariate() {
        let Arms { treated, baseline } = golden();
        let mean = Arms { treated: treated.per_unit(), baseline: baseline.per_unit() };
        let found = read_out(&[mean], Responders { treated: 10.0, baseline: 10.0 }, true, 0.95).unwrap();
        near(found.treated, 10.889_211_727_275_578);
        near(found.difference, 0.714_523_454_551_153_8);
        near(found.fixed.unwrap().lower, -1.323_170_014_871_467);
        near(found.p_value.unwrap(), 0.490_992_299_573_864);
        near(found.variance_removed.unwrap(), 0.003_884_114_754_298_729);
        let found = read_out(&[golden()], Responders { treated: 10.0, baseline: 10.0 }, true, 0.95).unwrap();
        near(found.baseline, 8.923_285_052_587_389);
        near(found.difference, -0.067_577_807_357_059_43);
        near(found.fixed.unwrap().upper, 0.234_815_956_446_781_6);
        near(found.p_value.unwrap(), 0.660_636_422_644_523_8);
        near(found.variance_removed.unwrap(), 0.157_186_582_706_435_6);
    }

    /// Two strata of which one has no effect and the other twice as many customers: Welch by hand.
    #[test]
    fn strata_are_compared_within() {
        let arms = |n: f64, treated: f64, m: f64, baseline: f64| Arms {
            treated: Sample::of_rate(n, treated).per_unit(),
            baseline: Sample::of_rate(m, baseline).per_unit(),
        };
        // Shares and rates moved together: taken as one, the treated group would look better than it is.
        let strata = [arms(900.0, 90.0, 100.0, 10.0), arms(1000.0, 300.0, 1000.0, 200.0)];
        let found = read_out(&strata, Responders { treated: 390.0, baseline: 210.0 }, false, 0.95).unwrap();
        near(found.difference, (2.0 / 3.0) * 0.1);
        let variance = |p: f64, n: f64| p * (1.0 - p) / (n - 1.0);
        let expected = (1.0 / 9.0) * (variance(0.1, 900.0) + variance(0.1, 100.0))
            + (4.0 / 9.0) * (variance(0.3, 1000.0) + variance(0.2, 1000.0));
        near(found.standard_error, expected.sqrt());
        let valid = found.always_valid.unwrap();
        near(found.detectable.unwrap(), valid.upper - found.difference + 0.841_621_233_6 * found.standard_error);
        assert!(valid.lower < found.fixed.unwrap().lower && found.fixed.unwrap().upper < valid.upper);
        assert!(found.always_valid_relative.unwrap().lower < found.fixed_relative.unwrap().lower);
    }

    /// A household responds as one: its customers are no more than one.
    #[test]
    fn clusters_are_the_units() {
        let households = |n: usize, responding: usize| {
            let mut sample = Sample::default();
            (0..n).for_each(|at| sample.add([if at < responding { 4.0 } else { 0.0 }, 4.0, 0.0]));
            sample
        };
        let clustered = Arms { treated: households(500, 100), baseline: households(500, 50) };
        let found = read_out(&[clustered], Responders::default(), false, 0.95).unwrap();
        let alone = Arms {
            treated: Sample::of_rate(2000.0, 400.0).per_unit(),
            baseline: Sample::of_rate(2000.0, 200.0).per_unit(),
        };
        let naive = read_out(&[alone], Responders::default(), false, 0.95).unwrap();
        near(found.difference, 0.1);
        near(naive.difference, 0.1);
        assert!((found.standard_error / naive.standard_error - 2.0).abs() < 0.01, "√4 as wide");
    }

    #[test]
    fn nothing_to_say() {
        let same = Sample::of_rate(10.0, 0.0).per_unit();
        let few = Responders::default();
        assert_eq!(read_out(&[Arms { treated: same, baseline: same }], few, false, 0.95), None, "nothing varies");
        let one = Sample::of_rate(1.0, 1.0).per_unit();
        let many = Sample::of_rate(10.0, 5.0).per_unit();
        assert_eq!(read_out(&[Arms { treated: one, baseline: many }], few, false, 0.95), None);
        assert_eq!(read_out(&[], few, false, 0.95), None);
        let found = read_out(&[golden()], Responders { treated: 9.0, baseline: 500.0 }, false, 0.95).unwrap();
        assert_eq!(
            (found.fixed, found.p_value, found.fixed_relative),
            (None, None, None),
            "too few to say how sure it is"
        );
        assert!(found.relative.is_some() && found.standard_error > 0.0);
        assert_eq!(plain_means(&[Arms { treated: same, baseline: many }]), Some([0.0, 0.5]));
        assert_eq!(plain_means(&[]), None);
        let found = read_out(&[Arms { treated: many, baseline: same }], few, true, 0.95).unwrap();
        assert_eq!(
            (found.fixed_relative, found.variance_removed),
            (None, Some(0.0)),
            "nothing to divide by, or to adjust with"
        );
    }
}
