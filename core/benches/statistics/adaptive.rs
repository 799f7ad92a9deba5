//! How to correct for adaptivity: estimators of the response rate of actions under a Thompson policy, looked at every day.

use decisioning_core::measure::{multiplier, Bounded, Moments, Performance, Trial};
use rand::{RngExt, SeedableRng};
use rand_distr::{Beta, Distribution};
use rand_xoshiro::Xoshiro256PlusPlus;

const SEEDS: u64 = 300;
const DAYS: usize = 60;
const PER_DAY: usize = 1500;
const DRAWS: usize = 64;
const FLOOR: f64 = 0.02;
const ACTIONS: usize = 7;
const SEGMENTS: usize = 3;
const CONFIDENCE: f64 = 0.95;

/// Response rates by segment and action; 0 is no-send.
const RATES: [[f64; ACTIONS]; SEGMENTS] = [
    [0.02, 0.05, 0.03, 0.02, 0.02, 0.01, 0.03],
    [0.02, 0.02, 0.06, 0.02, 0.04, 0.02, 0.02],
    [0.03, 0.02, 0.02, 0.03, 0.02, 0.07, 0.03],
];

/// The last action is none for the first segment.
fn candidates(segment: usize) -> Vec<usize> {
    (0..if segment == 0 { ACTIONS - 1 } else { ACTIONS }).collect()
}

/// A policy that draws from the posterior of each rate; its propensities are shares of draws, and a floor.
struct Thompson {
    counts: [[[f64; 2]; ACTIONS]; SEGMENTS],
}

impl Thompson {
    fn propensities(&self, segment: usize, random: &mut Xoshiro256PlusPlus) -> Vec<f64> {
        let candidates = candidates(segment);
        let mut wins = vec![0.0; candidates.len()];
        for _ in 0..DRAWS {
            let drawn = candidates.iter().map(|action| {
                let [responses, others] = self.counts[segment][*action];
                Beta::new(1.0 + responses, 30.0 + others).unwrap().sample(random)
            });
            let best = drawn.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
            wins[best] += 1.0;
        }
        let n = candidates.len() as f64;
        wins.iter().map(|wins| (1.0 - FLOOR) * wins / DRAWS as f64 + FLOOR / n).collect()
    }
}

fn pick(propensities: &[f64], luck: f64) -> usize {
    let mut sum = 0.0;
    let found = propensities.iter().position(|p| {
        sum += p;
        luck < sum
    });
    found.unwrap_or(propensities.len() - 1)
}

const ESTIMATORS: [&str; 5] = ["raw", "inverse propensity", "centred", "self-normalised", "by group (used)"];

/// Sums of the estimators that were not taken, for one action.
#[derive(Clone, Default)]
struct Peers {
    raw: Moments,
    inverse: Moments,
    centred: Moments,
    /// Mean of the centred estimate as of yesterday.
    centre: f64,
}

fn bounded(moments: &Moments, units: f64) -> Bounded {
    let by = multiplier((moments.mean * units).max(1.0), CONFIDENCE) * moments.standard_error();
    Bounded { estimate: moments.mean, lower: moments.mean - by, upper: moments.mean + by }
}

/// Whether each estimator missed at any look by action, and the half widths at the end.
struct Outcome {
    missed: [[bool; ESTIMATORS.len()]; ACTIONS],
    uplift_missed: [bool; ACTIONS],
    width: [[f64; ESTIMATORS.len()]; ACTIONS],
}

fn run(seed: u64) -> Outcome {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut policy = Thompson { counts: [[[0.0; 2]; ACTIONS]; SEGMENTS] };
    let mut by_group = Performance::new(2, ACTIONS);
    let mut pooled = Performance::new(1, ACTIONS);
    let mut peers = vec![Peers::default(); ACTIONS];
    let mut truth = [Moments::default(); ACTIONS];
    let mut quiet = [Moments::default(); ACTIONS];
    let mut outcome = Outcome {
        missed: [[false; ESTIMATORS.len()]; ACTIONS],
        uplift_missed: [false; ACTIONS],
        width: [[0.0; ESTIMATORS.len()]; ACTIONS],
    };
    for day in 0..DAYS {
        let learned: Vec<Vec<f64>> = (0..SEGMENTS).map(|segment| policy.propensities(segment, &mut random)).collect();
        for n in 0..PER_DAY {
            // Segments come and go with time, so that a mean over time is not one over the policy's favourites.
            let segment = pick(&[0.5 - 0.3 * day as f64 / DAYS as f64, 0.3, 1.0], random.random());
            let candidates = candidates(segment);
            let group = usize::from(random.random::<f64>() < 0.95);
            let propensities = match group {
                0 => (0..candidates.len())
                    .map(|action| if action == 0 { 0.5 } else { 0.5 / (candidates.len() - 1) as f64 })
                    .collect(),
                _ => learned[segment].clone(),
            };
            let taken = pick(&propensities, random.random());
            let (propensity, rates) = (propensities[taken], RATES[segment]);
            let responded = random.random::<f64>() < rates[taken];
            let customer = format!("{day} {n}");
            let trial = Trial {
                customer: &customer,
                group,
                candidates: &candidates,
                propensities: &propensities,
                taken,
                propensity,
                responded,
                worth: 0.0,
            };
            by_group.add(&trial);
            pooled.add(&Trial { group: 0, ..trial });
            policy.counts[segment][taken][usize::from(!responded)] += 1.0;
            let reward = f64::from(u8::from(responded));
            for action in candidates {
                truth[action].add(1.0, rates[action]);
                quiet[action].add(1.0, rates[0]);
                let weight = if action == taken { 1.0 / propensity } else { 0.0 };
                let peer = &mut peers[action];
                peer.inverse.add(1.0, weight * reward);
                peer.centred.add(1.0, peer.centre + weight * (reward - peer.centre));
            }
            peers[taken].raw.add(1.0, reward);
        }
        peers.iter_mut().for_each(|peer| peer.centre = peer.centred.mean.clamp(0.0, 1.0));
        let (by_group, pooled) = (by_group.estimates(CONFIDENCE), pooled.estimates(CONFIDENCE));
        for action in 0..ACTIONS {
            let (Some(used), Some(one)) = (by_group[action].rate, pooled[action].rate) else { continue };
            let units = by_group[action].decisions;
            let peer = &peers[action];
            let found =
                [bounded(&peer.raw, units), bounded(&peer.inverse, units), bounded(&peer.centred, units), one, used];
            for (estimator, found) in found.iter().enumerate() {
                let true_rate = truth[action].mean;
                outcome.missed[action][estimator] |= true_rate < found.lower || true_rate > found.upper;
                outcome.width[action][estimator] = (found.upper - found.lower) / 2.0;
            }
            if let Some(uplift) = by_group[action].uplift {
                let true_uplift = truth[action].mean - quiet[action].mean;
                outcome.uplift_missed[action] |= true_uplift < uplift.lower || true_uplift > uplift.upper;
            }
        }
    }
    outcome
}

pub fn main() {
    println!("Rates of {ACTIONS} actions under a Thompson policy with a floor of {FLOOR}, and 5 % random: {PER_DAY} decisions a day for {DAYS} days.");
    println!("Looked at every day from 30 responses on; a run misses an action if any day's interval ({CONFIDENCE}) does. {SEEDS} runs.\n");
    let outcomes: Vec<Outcome> = (0..SEEDS).map(run).collect();
    let runs = SEEDS as f64;
    println!("{:<20}{:>10}{:>10}{:>14}", "estimator", "missed", "worst", "half width");
    for (estimator, name) in ESTIMATORS.iter().enumerate() {
        let missed: Vec<f64> = (0..ACTIONS)
            .map(|action| outcomes.iter().filter(|outcome| outcome.missed[action][estimator]).count() as f64 / runs)
            .collect();
        let widths = outcomes.iter().flat_map(|outcome| outcome.width.iter().map(|width| width[estimator]));
        let width = widths.sum::<f64>() / (runs * ACTIONS as f64);
        let worst = missed.iter().copied().fold(0.0, f64::max);
        println!("{name:<20}{:>10.3}{worst:>10.3}{width:>14.4}", missed.iter().sum::<f64>() / ACTIONS as f64);
    }
    let missed: Vec<f64> = (1..ACTIONS)
        .map(|action| outcomes.iter().filter(|outcome| outcome.uplift_missed[action]).count() as f64 / runs)
        .collect();
    let worst = missed.iter().copied().fold(0.0, f64::max);
    println!("{:<20}{:>10.3}{worst:>10.3}", "uplift (used)", missed.iter().sum::<f64>() / missed.len() as f64);
}
