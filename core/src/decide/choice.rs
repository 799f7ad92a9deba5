//! The draw itself. Probabilities are computed first and the choice follows them exactly.

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::policy::{Policy, Terms};
use crate::learn::DRAWS;

/// How a group chooses among its candidates.
pub enum Rule<'a> {
    /// Always the candidate at this position, with probability 1.
    Fixed(usize),
    /// No-send with probability `no_send`, every other candidate with an equal part of the rest.
    Random { no_send: f64 },
    /// The best candidate of a random draw; with probability `floor` any candidate.
    Learned { policy: &'a Policy, terms: &'a Terms, encoded: &'a [f32], floor: f64 },
}

/// A choice: the position chosen, and the probability of every position.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub chosen: usize,
    pub propensities: Vec<f64>,
}

/// Probability of every candidate. `candidates` holds arm indices, `None` for no-send; it is never empty.
pub fn propensities(rule: &Rule<'_>, candidates: &[Option<usize>]) -> Vec<f64> {
    weigh(rule, candidates).0
}

/// Chooses one candidate with the probabilities of [`propensities`].
pub fn choose(rule: &Rule<'_>, candidates: &[Option<usize>], random: &mut Xoshiro256PlusPlus) -> Choice {
    let (propensities, best) = weigh(rule, candidates);
    let chosen = match rule {
        Rule::Fixed(at) => *at,
        Rule::Learned { floor, .. } if random.random::<f64>() >= *floor => best[random.random_range(0..DRAWS)] as usize,
        Rule::Learned { .. } => random.random_range(0..candidates.len()),
        Rule::Random { .. } => pick(&propensities, random.random()),
    };
    Choice { chosen, propensities }
}

fn weigh(rule: &Rule<'_>, candidates: &[Option<usize>]) -> (Vec<f64>, [u32; DRAWS]) {
    let n = candidates.len();
    let mut best = [0; DRAWS];
    let propensities = match rule {
        Rule::Fixed(at) => (0..n).map(|candidate| f64::from(u8::from(candidate == *at))).collect(),
        Rule::Random { no_send } => {
            let quiet = candidates.iter().filter(|candidate| candidate.is_none()).count();
            let sends = n - quiet;
            let no_send = match (quiet, sends) {
                (0, _) => 0.0,
                (_, 0) => 1.0,
                _ => *no_send,
            };
            candidates
                .iter()
                .map(|candidate| match candidate {
                    None => no_send / quiet as f64,
                    Some(_) => (1.0 - no_send) / sends as f64,
                })
                .collect()
        }
        Rule::Learned { policy, terms, encoded, floor } => {
            best = policy.best(encoded, candidates, terms);
            let mut wins = vec![0_u32; n];
            best.iter().for_each(|at| wins[*at as usize] += 1);
            wins.iter().map(|wins| (1.0 - floor) * f64::from(*wins) / DRAWS as f64 + floor / n as f64).collect()
        }
    };
    (propensities, best)
}

/// Inverse of the cumulative distribution; rounding goes to the last candidate that has any probability.
fn pick(propensities: &[f64], u: f64) -> usize {
    let mut sum = 0.0;
    for (at, p) in propensities.iter().enumerate() {
        sum += p;
        if u < sum {
            return at;
        }
    }
    propensities.iter().rposition(|p| *p > 0.0).unwrap_or(0)
}
