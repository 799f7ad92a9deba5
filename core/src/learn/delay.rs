//! When outcomes are seen: the distribution of the time from a decision to its first seen outcome.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Equal parts of the attribution window; time counts in them. Outcomes that come in daily lumps should not fall into
/// one bin with the time at which a learner looks for them, so bins are short. A bin holds its end: what comes at the moment of
/// a look is seen by it.
const BINS: usize = 256;

/// Outcomes that the assumed curve counts for in the pooled curve, the pooled curve in that of a channel, and uniform delays in the
/// choice of the assumed curve.
const POOLED_PRIOR: f64 = 5.0;
const CHANNEL_PRIOR: f64 = 20.0;
const UNIFORM_PRIOR: f64 = 5.0;

/// Shapes of the Weibull curves that are tried, and how many scales between a bin and four windows.
const SHAPES: [f64; 9] = [0.2, 0.3, 0.4, 0.55, 0.75, 1.0, 1.5, 2.5, 4.0];
const SCALES: i32 = 32;

/// First seen outcomes of closed decisions, by channel (the empty name is no-send) and age.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Delays(BTreeMap<String, Vec<f64>>);

/// The first seen outcome of a decision whose window is still open. Times are shares of the window.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub channel: &'a str,
    /// Age of the decision when its outcome was seen.
    pub delay: f64,
    /// Its age now: a longer delay could not have been seen yet.
    pub age: f64,
}

/// F by channel: the probability that an outcome of the window has been seen by an age.
#[derive(Clone, Debug)]
pub struct Reporting {
    pooled: Vec<f64>,
    channels: BTreeMap<String, Vec<f64>>,
}

impl Delays {
    /// Adds the first seen outcome of a closed decision; a `delay` beyond the window counts as its end.
    pub fn add(&mut self, channel: &str, delay: f64, weight: f64) {
        let counts = self.0.entry(channel.to_owned()).or_default();
        counts.resize(BINS, 0.0);
        counts[bin(delay)] += weight;
    }

    /// Multiplies all counts: what they hold fades.
    pub fn scale(&mut self, factor: f64) {
        self.0.values_mut().flatten().for_each(|count| *count *= factor);
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Delays) {
        for (channel, counts) in &other.0 {
            let sums = self.0.entry(channel.clone()).or_default();
            sums.resize(BINS, 0.0);
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    /// Estimates F from closed decisions and from `seen` ones that are still open.
    ///
    /// An open decision shows a delay only if it is shorter than its age, so delays are right-truncated. The reverse
    /// hazard, r(t) = P(delay in bin t | delay ≤ t), is not affected: it is taken over decisions old enough to have
    /// shown bin t, and F(t − 1) = F(t) (1 − r(t)) with F = 1 at the end of the window (Lagakos, Barraj and De Gruttola,
    /// "Nonparametric analysis of truncated survival data, with application to AIDS", 1988). Of ages that no decision has
    /// reached yet it says nothing: there the likeliest Weibull curve goes on. The pooled hazard is shrunk to that of this curve,
    /// the hazard of a channel to the pooled one.
    pub fn reporting(&self, seen: &[Seen<'_>]) -> Reporting {
        let mut tables: BTreeMap<&str, Table> = BTreeMap::new();
        for (channel, counts) in &self.0 {
            let table = tables.entry(channel).or_default();
            counts.iter().enumerate().for_each(|(bin, count)| table.add(bin, BINS, *count));
        }
        for seen in seen {
            let shown = (seen.age * BINS as f64).floor().clamp(0.0, BINS as f64) as usize;
            tables.entry(seen.channel).or_default().add(bin(seen.delay), shown, 1.0);
        }
        let mut pooled = Table::default();
        tables.values().for_each(|table| pooled.merge(table));
        let hazard = pooled.hazard(&reverse_hazard(&pooled.likeliest()), POOLED_PRIOR);
        let channels = tables
            .into_iter()
            .map(|(channel, table)| (channel.to_owned(), curve(&table.hazard(&hazard, CHANNEL_PRIOR))))
            .collect();
        Reporting { pooled: curve(&hazard), channels }
    }
}

impl Reporting {
    /// F at `age`, a share of the window: 0 at 0 and 1 from 1 on.
    pub fn at(&self, channel: &str, age: f64) -> f64 {
        let curve = self.channels.get(channel).unwrap_or(&self.pooled);
        let at = age.clamp(0.0, 1.0) * BINS as f64;
        let (below, share) = (at.floor(), at.fract());
        let low = curve[below as usize];
        let high = curve[(below as usize + 1).min(BINS)];
        (low + share * (high - low)).clamp(0.0, 1.0)
    }
}

fn bin(delay: f64) -> usize {
    ((delay * BINS as f64).ceil().max(1.0) as usize).min(BINS) - 1
}

/// Share of delays below the edges of all bins, of a Weibull distribution up to the end of the window.
fn weibull(shape: f64, scale: f64) -> Vec<f64> {
    let below = |edge: usize| -(-(edge as f64 / BINS as f64 / scale).powf(shape)).exp_m1();
    (0..=BINS).map(|edge| below(edge) / below(BINS)).collect()
}

/// P(delay in bin | delay up to it) of a curve over the edges of all bins.
fn reverse_hazard(curve: &[f64]) -> Vec<f64> {
    curve.windows(2).map(|edges| if edges[1] > 0.0 { 1.0 - edges[0] / edges[1] } else { 1.0 }).collect()
}

/// F at the edges of all bins.
fn curve(hazard: &[f64]) -> Vec<f64> {
    let mut curve = vec![1.0; BINS + 1];
    for bin in (0..BINS).rev() {
        curve[bin] = curve[bin + 1] * (1.0 - hazard[bin]);
    }
    curve[0] = 0.0;
    curve
}

/// For every bin: delays in it, and delays up to it, of decisions old enough to show it.
struct Table {
    events: Vec<f64>,
    at_risk: Vec<f64>,
    /// Delays by the number of bins that their decisions were old enough to show.
    shown: Vec<f64>,
}

impl Default for Table {
    fn default() -> Self {
        Table { events: vec![0.0; BINS], at_risk: vec![0.0; BINS], shown: vec![0.0; BINS + 1] }
    }
}

impl Table {
    /// Adds delays in `bin` of decisions whose first `shown` bins have passed.
    fn add(&mut self, bin: usize, shown: usize, count: f64) {
        if bin < shown && count > 0.0 {
            self.events[bin] += count;
            self.at_risk[bin..shown].iter_mut().for_each(|at_risk| *at_risk += count);
            self.shown[shown] += count;
        }
    }

    fn merge(&mut self, other: &Table) {
        self.events.iter_mut().zip(&other.events).for_each(|(a, b)| *a += b);
        self.at_risk.iter_mut().zip(&other.at_risk).for_each(|(a, b)| *a += b);
        self.shown.iter_mut().zip(&other.shown).for_each(|(a, b)| *a += b);
    }

    /// The Weibull curve, or the uniform one, under which these delays are likeliest, given that none was longer than could have been
    /// seen, with some uniform ones added: without any delays it is the uniform one.
    fn likeliest(&self) -> Vec<f64> {
        let uniform: Vec<f64> = (0..=BINS).map(|edge| edge as f64 / BINS as f64).collect();
        let scales =
            (0..SCALES).map(|at| (4.0 * BINS as f64).powf(f64::from(at) / f64::from(SCALES - 1)) / BINS as f64);
        let curves = scales.flat_map(|scale| SHAPES.map(|shape| weibull(shape, scale)));
        let (_, likeliest) = curves.fold((self.likelihood(&uniform), uniform), |best, curve| {
            let likelihood = self.likelihood(&curve);
            if likelihood > best.0 {
                (likelihood, curve)
            } else {
                best
            }
        });
        likeliest
    }

    /// Logarithm of the likelihood of a curve over the edges of all bins.
    fn likelihood(&self, curve: &[f64]) -> f64 {
        // Of a bin that a curve does not reach by far, the logarithm must not be that of 0.
        let logarithm = |share: f64| share.max(1e-12).ln();
        let prior = UNIFORM_PRIOR / BINS as f64;
        let bins = curve.windows(2).zip(&self.events);
        let happened: f64 = bins.map(|(edges, events)| (events + prior) * logarithm(edges[1] - edges[0])).sum();
        let seen: f64 = curve
            .iter()
            .zip(&self.shown)
            .filter(|(_, count)| **count > 0.0)
            .map(|(below, count)| count * logarithm(*below))
            .sum();
        happened - seen
    }

    /// Reverse hazard of every bin, shrunk to `prior` as by `strength` outcomes more.
    fn hazard(&self, prior: &[f64], strength: f64) -> Vec<f64> {
        let counts = self.events.iter().zip(&self.at_risk);
        counts.zip(prior).map(|((events, at_risk), prior)| (events + strength * prior) / (at_risk + strength)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    #[test]
    fn without_outcomes_delays_are_uniform() {
        let reporting = Delays::default().reporting(&[]);
        for age in [0.0, 0.1, 0.5, 0.77, 1.0] {
            assert!((reporting.at("email", age) - age).abs() < 1e-9, "{age}");
        }
        assert_eq!((reporting.at("", -1.0), reporting.at("", 7.0)), (0.0, 1.0));
    }

    #[test]
    fn closed_decisions_give_their_own_distribution() {
        let mut delays = Delays::default();
        // a quarter at once, a half after a third of the window, the rest at its end
        for (delay, count) in [(0.01, 2500.0), (0.34, 5000.0), (0.99, 1000.0), (4.0, 1500.0)] {
            delays.add("sms", delay, count);
        }
        let reporting = delays.reporting(&[]);
        for (age, reported) in [(0.05, 0.25), (0.33, 0.25), (0.36, 0.75), (0.98, 0.75), (1.0, 1.0)] {
            let found = reporting.at("sms", age);
            assert!((found - reported).abs() < 0.005, "{age}: {found}");
        }
        // a channel without outcomes takes the pooled curve
        assert!((reporting.at("post", 0.5) - 0.75).abs() < 0.005);
        delays.scale(1e-6);
        assert!((delays.reporting(&[]).at("sms", 0.2) - 0.2).abs() < 0.01, "what fades gives way to the prior");
    }

    /// On the first day of a window of a week nobody knows what is still to come, but delays of an hour do not suggest that six of seven
    /// outcomes are. Half at once and half over five days is no Weibull curve; it is not far off either.
    #[test]
    fn the_first_day_says_something_of_the_others() {
        let hour = 1.0 / 168.0;
        let day = |delays: &mut dyn FnMut() -> f64| {
            let mut seen = Vec::new();
            for age in (1..=2000).map(|at| 24.0 * hour * f64::from(at) / 2000.0) {
                let delay = delays();
                if delay < age {
                    seen.push(Seen { channel: "email", delay, age });
                }
            }
            Delays::default().reporting(&seen)
        };
        let quick = day(&mut || hour);
        assert!(quick.at("email", 20.0 * hour) > 0.95, "{}", quick.at("email", 20.0 * hour));
        let mut random = Xoshiro256PlusPlus::seed_from_u64(6);
        let mixed =
            day(&mut || if random.random::<bool>() { 0.2 * hour } else { 120.0 * hour * random.random::<f64>() });
        let found = mixed.at("email", 24.0 * hour);
        assert!((0.45..0.95).contains(&found), "{found}, and it is 0.6");
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let slow = day(&mut || random.random::<f64>());
        let found = slow.at("email", 24.0 * hour);
        assert!((0.05..0.4).contains(&found), "{found}, and it is 0.14");
    }

    /// Decisions of every morning, looked at a day later: what comes at that very time has the age of the decision as its delay, and the
    /// end of a bin.
    #[test]
    fn what_comes_at_a_look_is_seen_by_it() {
        for days in [2.0, 4.0] {
            let day = 1.0 / days;
            let mut delays = Delays::default();
            delays.add("email", day, 600.0);
            delays.add("email", 2.0 * day, 400.0);
            let seen = vec![Seen { channel: "email", delay: day, age: day }; 6];
            let found = delays.reporting(&seen).at("email", day);
            assert!((found - 0.6).abs() < 0.01, "{days} days: {found}");
        }
    }

    /// In a campaign that grows, short delays are over-represented among what was seen; the estimate must not be misled.
    #[test]
    fn truncation_does_not_bias() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
        let truth = |delay: f64| 1.0 - (1.0 - delay).powi(2);
        let mut seen = Vec::new();
        while seen.len() < 20_000 {
            let age = random.random::<f64>().powi(3); // most are young
            let delay = 1.0 - (1.0 - random.random::<f64>()).sqrt();
            if delay < age {
                seen.push(Seen { channel: "email", delay, age });
            }
        }
        let naive = |age: f64| seen.iter().filter(|seen| seen.delay < age).count() as f64 / seen.len() as f64;
        let reporting = Delays::default().reporting(&seen);
        for age in [0.1, 0.25, 0.5, 0.75] {
            let found = reporting.at("email", age);
            assert!((found - truth(age)).abs() < 0.04, "{age}: {found}, not {}", truth(age));
            assert!((naive(age) - truth(age)).abs() > 0.045, "the test has no power at {age}: {}", naive(age));
        }
    }

    #[test]
    fn few_outcomes_of_a_channel_are_shrunk_to_all() {
        let mut delays = Delays::default();
        delays.add("email", 0.5, 1000.0);
        delays.add("sms", 0.1, 2.0);
        let reporting = delays.reporting(&[]);
        let found = reporting.at("sms", 0.3);
        // Two of 22, and less before the bin in which all others are.
        assert!((0.02..2.0 / 22.0).contains(&found), "{found}");
        delays.add("sms", 0.1, 1000.0);
        assert!(delays.reporting(&[]).at("sms", 0.3) > 0.9);
    }
}
