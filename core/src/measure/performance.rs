//! What each action brings, from decisions of a policy that learned while it decided.
//!
//! The share of responses among the decisions that took an action flatters it: the policy gave it to those whom it suited. Weighted
//! by 1 / propensity, the decisions that took an action stand for all that could have.

use super::readout::{Bounded, FEWEST_RESPONDERS as FEWEST};
use super::sequence::multiplier;

/// A logged decision whose choice was random.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// Decisions of one customer follow each other.
    pub customer: &'a str,
    /// What chose. The same for all decisions that a rule of choosing made: explore and optimise are two.
    pub group: usize,
    /// Actions that it could have been, by position; 0 is no-send.
    pub candidates: &'a [usize],
    /// The probability of each, above 0; empty where only that of the action taken is known.
    pub propensities: &'a [f64],
    /// The one that it was.
    pub taken: usize,
    /// Probability with which it was.
    pub propensity: f64,
    pub responded: bool,
    /// What the response was worth.
    pub worth: f64,
}

/// What is known of an action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Brought {
    /// Decisions in which it was a candidate; an estimate where these are not known.
    pub possible: f64,
    /// Decisions that took it, and those of them that were responded to.
    pub decisions: f64,
    pub responses: f64,
    /// Responses per decision, had it been taken in all decisions in which it was a candidate.
    pub rate: Option<Bounded>,
    /// The same less that of no-send in the same decisions; `None` for no-send.
    pub uplift: Option<Bounded>,
    /// Worth per decision, had it been taken always.
    pub worth: Option<f64>,
    /// Kish's effective number of the decisions that took it.
    pub effective: f64,
    pub largest_weight: f64,
}

/// Weighted responses and weights of decisions that took an action, and of those that could have but took no-send.
const PARTS: usize = 4;

/// What could have been taken, whether it was or not.
#[derive(Clone, Copy, Debug, Default)]
struct Possible {
    decisions: f64,
    /// Sum of 1 / propensity: the sum of squared weights that is to be expected.
    inverse: f64,
}

impl Possible {
    fn add(&mut self, times: f64, propensity: f64) {
        self.decisions += times;
        self.inverse += times / propensity;
    }

    /// Effective number of decisions: that of a rate with the same variance.
    fn effective(&self) -> f64 {
        if self.inverse > 0.0 {
            self.decisions * self.decisions / self.inverse
        } else {
            0.0
        }
    }
}

/// Sums over the decisions of a group that could have been one action.
#[derive(Clone, Debug, Default)]
struct Sums {
    decisions: f64,
    responses: f64,
    quiet_responses: f64,
    weight_squares: f64,
    largest: f64,
    worth: f64,
    possible: Possible,
    quiet_possible: Possible,
    totals: [f64; PARTS],
    /// Sums over customers of products of what each added to the totals.
    products: [[f64; PARTS]; PARTS],
    /// What the current customer has added so far.
    customer: [f64; PARTS],
    customers: f64,
}

/// Sums over decisions, in memory that does not grow with them.
#[derive(Clone, Debug)]
pub struct Performance {
    /// By group and action.
    groups: Vec<Vec<Sums>>,
    customer: String,
    /// Groups and actions to which the current customer has added.
    touched: Vec<(usize, usize)>,
}

impl Performance {
    /// For decisions of so many groups between so many actions, no-send included.
    pub fn new(groups: usize, actions: usize) -> Self {
        let groups = vec![vec![Sums::default(); actions]; groups];
        Performance { groups, customer: String::new(), touched: Vec::new() }
    }

    pub fn add(&mut self, trial: &Trial<'_>) {
        if trial.customer != self.customer {
            self.close_customer();
            self.customer.clear();
            self.customer.push_str(trial.customer);
        }
        let weight = 1.0 / trial.propensity;
        let response = f64::from(u8::from(trial.responded));
        let sums = &mut self.groups[trial.group];
        if trial.propensities.is_empty() {
            // In the mean, one of weight w stands for w that could have been it.
            sums[trial.taken].possible.add(weight, trial.propensity);
            if trial.taken == 0 {
                trial.candidates.iter().for_each(|action| sums[*action].quiet_possible.add(weight, trial.propensity));
            }
        } else {
            let quiet = trial.candidates.iter().position(|action| *action == 0).map(|at| trial.propensities[at]);
            for (action, propensity) in trial.candidates.iter().zip(trial.propensities) {
                sums[*action].possible.add(1.0, *propensity);
                if let Some(quiet) = quiet {
                    sums[*action].quiet_possible.add(1.0, quiet);
                }
            }
        }
        let touched = &mut self.touched;
        let mut touch = |sums: &mut Sums, action: usize, part: usize| {
            if sums.customer == [0.0; PARTS] {
                touched.push((trial.group, action));
            }
            sums.customer[part] += weight * response;
            sums.customer[part + 1] += weight;
        };
        let taken = &mut sums[trial.taken];
        taken.decisions += 1.0;
        taken.responses += response;
        taken.weight_squares += weight * weight;
        taken.largest = taken.largest.max(weight);
        taken.worth += weight * trial.worth;
        touch(taken, trial.taken, 0);
        if trial.taken == 0 {
            for action in trial.candidates.iter().copied().filter(|action| *action != 0) {
                sums[action].quiet_responses += response;
                touch(&mut sums[action], action, 2);
            }
        }
    }

    fn close_customer(&mut self) {
        for (group, action) in self.touched.drain(..) {
            let sums = &mut self.groups[group][action];
            let added = std::mem::take(&mut sums.customer);
            sums.customers += 1.0;
            for (row, x) in sums.products.iter_mut().zip(added) {
                row.iter_mut().zip(added).for_each(|(product, y)| *product += x * y);
            }
            sums.totals.iter_mut().zip(added).for_each(|(total, x)| *total += x);
        }
    }

    /// What is known of each action, by position, with bounds at a confidence.
    ///
    /// A rate is the self-normalised mean Σwr / Σw within each group, and over groups the mean of these by the effective numbers of decisions
    /// that are to be expected, (Σ1)² / Σ 1/p over all that could have been the action: groups are drawn at random, so that
    /// each estimates the same. Its error is a sum of w (r − rate): martingale differences about the mean rate over the decisions so far,
    /// whatever the policy learned from the past.
    ///
    /// Their variance is the larger of two. What was seen, by customers, because attribution windows of one overlap. And
    /// what is to be expected, rate (1 − rate) Σ 1/p: a decision in which the action was unlikely has a large weight once it takes it,
    /// and until one has, what was seen knows nothing of it. The bounds hold at all looks: see [`multiplier`].
    pub fn estimates(&mut self, confidence: f64) -> Vec<Brought> {
        self.close_customer();
        let actions = self.groups.first().map_or(0, Vec::len);
        (0..actions).map(|action| self.estimate(action, confidence)).collect()
    }

    fn estimate(&self, action: usize, confidence: f64) -> Brought {
        let groups: Vec<&Sums> = self.groups.iter().map(|group| &group[action]).collect();
        let sum = |of: fn(&Sums) -> f64| groups.iter().map(|sums| of(sums)).sum::<f64>();
        let (decisions, responses, quiet_responses) =
            (sum(|s| s.decisions), sum(|s| s.responses), sum(|s| s.quiet_responses));
        let known = responses >= FEWEST;
        let bounded = |value: f64, variance: f64, least: f64| {
            let by = multiplier(responses, confidence) * variance.sqrt();
            Bounded { estimate: value, lower: (value - by).max(least), upper: (value + by).min(1.0) }
        };
        let rate = known.then(|| {
            let groups = shared(&groups, |sums| sums.possible.effective(), |sums| sums.totals[1]);
            let rate = mean(&groups, Sums::rate);
            let expected = mean_squared(&groups, |sums| rate * (1.0 - rate) / sums.possible.effective());
            bounded(rate, expected.max(mean_squared(&groups, Sums::rate_variance)), 0.0)
        });
        let worth = known.then(|| {
            let groups = shared(&groups, |sums| sums.possible.effective(), |sums| sums.totals[1]);
            mean(&groups, |sums| sums.worth / sums.totals[1])
        });
        let uplift = (known && action != 0 && quiet_responses >= FEWEST).then(|| {
            let effective = |sums: &Sums| {
                let (with, without) = (sums.possible.effective(), sums.quiet_possible.effective());
                with * without / (with + without)
            };
            let groups = shared(&groups, effective, |sums| sums.totals[1].min(sums.totals[3]));
            let (rate, quiet) = (mean(&groups, Sums::rate), mean(&groups, Sums::quiet_rate));
            let expected = mean_squared(&groups, |sums| {
                rate * (1.0 - rate) / sums.possible.effective()
                    + quiet * (1.0 - quiet) / sums.quiet_possible.effective()
            });
            bounded(rate - quiet, expected.max(mean_squared(&groups, Sums::uplift_variance)), -1.0)
        });
        Brought {
            possible: sum(|sums| sums.possible.decisions),
            decisions,
            responses,
            rate,
            uplift,
            worth,
            effective: sum(Sums::effective),
            largest_weight: groups.iter().map(|sums| sums.largest).fold(0.0, f64::max),
        }
    }
}

/// Groups that say something, each with its share by effective number. What was done decides which say something, and not the share.
fn shared<'a>(
    groups: &[&'a Sums],
    effective: impl Fn(&Sums) -> f64,
    weights: impl Fn(&Sums) -> f64,
) -> Vec<(f64, &'a Sums)> {
    let known: Vec<&Sums> = groups.iter().copied().filter(|sums| weights(sums) > 0.0).collect();
    let total: f64 = known.iter().map(|sums| effective(sums)).sum();
    known.into_iter().map(|sums| (effective(sums) / total, sums)).collect()
}

fn mean(groups: &[(f64, &Sums)], of: impl Fn(&Sums) -> f64) -> f64 {
    groups.iter().map(|(share, sums)| share * of(sums)).sum()
}

/// Variance of such a mean.
fn mean_squared(groups: &[(f64, &Sums)], of: impl Fn(&Sums) -> f64) -> f64 {
    groups.iter().map(|(share, sums)| share * share * of(sums)).sum()
}

impl Sums {
    /// Kish's effective number of the decisions that took the action, (Σw)² / Σw².
    fn effective(&self) -> f64 {
        if self.weight_squares > 0.0 {
            self.totals[1] * self.totals[1] / self.weight_squares
        } else {
            0.0
        }
    }

    fn rate(&self) -> f64 {
        self.totals[0] / self.totals[1]
    }

    fn quiet_rate(&self) -> f64 {
        self.totals[2] / self.totals[3]
    }

    fn rate_variance(&self) -> f64 {
        let weights = self.totals[1];
        self.variance([1.0 / weights, -self.rate() / weights, 0.0, 0.0])
    }

    fn uplift_variance(&self) -> f64 {
        let (weights, quiet) = (self.totals[1], self.totals[3]);
        self.variance([1.0 / weights, -self.rate() / weights, -1.0 / quiet, self.quiet_rate() / quiet])
    }

    /// Variance of a linear function of the totals, by what each customer added to it.
    fn variance(&self, of: [f64; PARTS]) -> f64 {
        let row = |row: &[f64; PARTS]| row.iter().zip(of).map(|(product, b)| product * b).sum::<f64>();
        let sum: f64 = self.products.iter().zip(of).map(|(products, a)| a * row(products)).sum();
        sum.max(0.0) * self.customers / (self.customers - 1.0).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn by_hand() {
        let mut performance = Performance::new(1, 2);
        for n in 0..400 {
            let (taken, propensity) = if n % 4 == 0 { (1, 0.25) } else { (0, 0.75) };
            performance.add(&Trial {
                customer: &n.to_string(),
                group: 0,
                candidates: &[0, 1],
                propensities: &[0.75, 0.25],
                taken,
                propensity,
                responded: n % 8 == 0 || n % 10 == 1,
                worth: 2.0 * f64::from(u8::from(n % 8 == 0)),
            });
        }
        let found = performance.estimates(0.95);
        // One in two of those that took it, one in 300 / 40 of the others.
        let (rate, uplift) = (found[1].rate.unwrap(), found[1].uplift.unwrap());
        assert_eq!((found[1].possible, found[1].decisions, found[1].responses), (400.0, 100.0, 50.0));
        assert!((rate.estimate - 0.5).abs() < 1e-12 && (uplift.estimate - (0.5 - 40.0 / 300.0)).abs() < 1e-12);
        assert!((found[1].worth.unwrap() - 1.0).abs() < 1e-12 && (found[1].effective - 100.0).abs() < 1e-9);
        assert!((found[1].largest_weight, found[0].uplift) == (4.0, None));
        // √(0.25 / 100), with 400 customers for the variance, times the factor of the sequence at 50 responses.
        let factor = multiplier(50.0, 0.95);
        assert!(((rate.upper - rate.estimate) / factor - (0.0025_f64 * 400.0 / 399.0).sqrt()).abs() < 1e-9, "{rate:?}");
    }

    #[test]
    fn few_responses_are_too_few() {
        let mut performance = Performance::new(1, 2);
        let trial = |responded| Trial {
            customer: "c",
            group: 0,
            candidates: &[0, 1],
            propensities: &[],
            taken: 1,
            propensity: 0.5,
            responded,
            worth: 0.0,
        };
        (0..29).for_each(|_| performance.add(&trial(true)));
        assert_eq!(performance.estimates(0.95)[1].rate, None);
        performance.add(&trial(true));
        let found = performance.estimates(0.95)[1];
        assert_eq!((found.rate.map(|rate| rate.estimate), found.uplift, found.possible), (Some(1.0), None, 60.0));
        assert!(Performance::new(0, 0).estimates(0.95).is_empty());
    }

    /// A policy that turns to whichever of two actions responded more often so far, in customers of two kinds. Returns whether any
    /// daily look missed the mean rate of the first action or its uplift, and how far the raw rate is off at the end.
    fn adaptive(seed: u64) -> (bool, f64) {
        const RATES: [[f64; 3]; 2] = [[0.05, 0.25, 0.1], [0.05, 0.05, 0.1]];
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut performance = Performance::new(2, 3);
        let mut seen = [[(1.0, 1.0); 3]; 2];
        let (mut missed, mut expected, mut possible) = (false, 0.0, 0.0);
        for day in 0..40 {
            let liked = seen.map(|seen| [1, 2].map(|a| seen[a].0 / seen[a].1));
            for n in 0..200 {
                let kind = usize::from(random.random::<f64>() < 0.5);
                let group = usize::from(random.random::<f64>() < 0.8);
                let best = if liked[kind][0] >= liked[kind][1] { 1 } else { 2 };
                let propensities: [f64; 3] = std::array::from_fn(|action| match group {
                    0 => [0.5, 0.25, 0.25][action],
                    _ => 0.02 + if action == best { 0.94 } else { 0.0 },
                });
                let luck: f64 = random.random();
                let taken =
                    if luck < propensities[0] { 0 } else { 1 + usize::from(luck > propensities[0] + propensities[1]) };
                let responded = random.random::<f64>() < RATES[kind][taken];
                seen[kind][taken].0 += f64::from(u8::from(responded));
                seen[kind][taken].1 += 1.0;
                expected += RATES[kind][1];
                possible += 1.0;
                performance.add(&Trial {
                    customer: &format!("{day} {n}"),
                    group,
                    candidates: &[0, 1, 2],
                    propensities: &propensities,
                    taken,
                    propensity: propensities[taken],
                    responded,
                    worth: 0.0,
                });
            }
            let found = performance.estimates(0.95)[1];
            let outside =
                |found: Option<Bounded>, truth: f64| found.is_some_and(|f| truth < f.lower || f.upper < truth);
            let rate = expected / possible;
            missed |= outside(found.rate, rate) || outside(found.uplift, rate - 0.05);
        }
        let found = performance.estimates(0.95)[1];
        (missed, found.responses / found.decisions - expected / possible)
    }

    #[test]
    fn adaptivity_and_peeking_do_not_mislead() {
        let runs: Vec<(bool, f64)> = (0..100).map(adaptive).collect();
        let missed = runs.iter().filter(|run| run.0).count();
        let bias = runs.iter().map(|run| run.1).sum::<f64>() / 100.0;
        assert!(missed <= 5, "{missed} of 100");
        assert!(bias > 0.05, "{bias}: what is not corrected misleads");
    }

    /// Everybody is decided for daily, and an event counts for the seven decisions before: seven decisions say little more than one.
    #[test]
    fn windows_of_a_customer_overlap() {
        let width = |customers_differ: bool| {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
            let mut performance = Performance::new(1, 2);
            for customer in 0..3000 {
                let responded = random.random::<f64>() < 0.2;
                for day in 0..7 {
                    let taken = usize::from(random.random::<f64>() < 0.9);
                    let name = if customers_differ { format!("{customer} {day}") } else { customer.to_string() };
                    performance.add(&Trial {
                        customer: &name,
                        group: 0,
                        candidates: &[0, 1],
                        propensities: &[0.1, 0.9],
                        taken,
                        propensity: [0.1, 0.9][taken],
                        responded,
                        worth: 0.0,
                    });
                }
            }
            let rate = performance.estimates(0.95)[1].rate.unwrap();
            rate.upper - rate.lower
        };
        let ratio = width(false) / width(true);
        assert!(ratio > 2.3 && ratio < 2.7, "{ratio}: nearly the root of seven");
    }
}
