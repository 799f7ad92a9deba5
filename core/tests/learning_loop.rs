//! Choose, answer, fit, choose again: the loop must end above the best fixed action.

mod common;

use common::{absorb, context, grid, layout, log_odds, prior, random, sigmoid};
use decisioning_core::decide::{choose, propensities, Policy, Rule, Salt};
use decisioning_core::learn::{Arm, DrawBank, Layout, Observed, Posterior, Statistics};
use rand::RngExt;

const FLOOR: f64 = 0.02;
const TEMPER: f64 = 0.6;

/// Six actions (two channels, three offers) and three features. The first feature says which offer works and that it
/// annoys the others, the second which channel; for some it is best not to write at all.
struct World {
    layout: Layout,
    arms: Vec<Arm>,
    coefficients: Vec<f64>,
}

impl World {
    fn new() -> Self {
        let (layout, arms) = layout(4, &grid(&["email", "sms"], &["none", "ten", "twenty"]));
        let effects = [
            ("base: intercept", -2.0),
            ("base: x3", 0.4),
            ("send: intercept", 0.1),
            ("send: x3", -0.3),
            ("channel=email × x2", 0.4),
            ("channel=sms × x2", -0.4),
            ("offer=ten", 0.2),
            ("offer=ten × x1", 0.6),
            ("offer=twenty × x1", -0.6),
        ];
        let coefficients = layout
            .coefficient_names()
            .iter()
            .map(|name| effects.iter().find(|(effect, _)| effect == name).map_or(0.0, |(_, value)| *value))
            .collect();
        World { layout, arms, coefficients }
    }

    fn rate(&self, encoded: &[f32], arm: Option<usize>) -> f64 {
        sigmoid(log_odds(&self.layout, &self.coefficients, encoded, arm.map(|arm| &self.arms[arm])))
    }

    fn candidates(&self) -> Vec<Option<usize>> {
        std::iter::once(None).chain((0..self.arms.len()).map(Some)).collect()
    }

    /// Mean response over fresh customers to what `weights` chooses among the candidates.
    fn value(&self, weights: impl Fn(&[f32]) -> Vec<f64>) -> f64 {
        let mut random = random(999);
        let customers = 2000;
        let total: f64 = (0..customers)
            .map(|_| {
                let encoded = context(4, &mut random);
                let candidates = self.candidates();
                weights(&encoded).iter().zip(candidates).map(|(p, arm)| p * self.rate(&encoded, arm)).sum::<f64>()
            })
            .sum();
        total / f64::from(customers)
    }
}

/// Values of uniform choice, the best fixed action, what was learned after `rounds` of 500, and the oracle.
fn play(rounds: i64, seed: u64) -> [f64; 4] {
    let world = World::new();
    let World { layout, arms, .. } = &world;
    let candidates = world.candidates();
    let salt = Salt([seed as u8; 16]);
    let mut random = random(seed);
    let mut closed = Statistics::new(layout.len());
    let mut mean = prior(layout).mean;
    let policy = |closed: &Statistics, round: i64| {
        let posterior = Posterior::of(&prior(layout), closed).unwrap();
        let bank = DrawBank::sample(&posterior, TEMPER, salt.bank_seed(round));
        Policy::new(layout.clone(), bank, arms)
    };
    for round in 0..rounds {
        let current = policy(&closed, round);
        let rows: Vec<Observed> = (0..500)
            .map(|customer| {
                let encoded = context(4, &mut random);
                let rule = Rule::Learned { policy: &current, encoded: &encoded, floor: FLOOR };
                let choice = choose(&rule, &candidates, &mut salt.random(&format!("c-{customer}"), round));
                let arm = candidates[choice.chosen];
                let reward = f64::from(u8::from(random.random::<f64>() < world.rate(&encoded, arm)));
                Observed { encoded, arm: arm.map(|arm| arm as u32), weight: 1.0, reward, reported: 1.0 }
            })
            .collect();
        mean = absorb(layout, arms, &mut closed, &mean, &rows);
    }
    let last = policy(&closed, rounds);
    let n = candidates.len();
    let only = |at: usize| (0..n).map(|i| f64::from(u8::from(i == at))).collect::<Vec<_>>();
    let learned =
        world.value(|encoded| propensities(&Rule::Learned { policy: &last, encoded, floor: FLOOR }, &candidates));
    let fixed = (0..n).map(|at| world.value(|_| only(at))).fold(0.0, f64::max);
    let oracle = world.value(|encoded| {
        let rates: Vec<f64> = candidates.iter().map(|arm| world.rate(encoded, *arm)).collect();
        only((0..n).max_by(|a, b| rates[*a].total_cmp(&rates[*b])).unwrap())
    });
    [world.value(|_| vec![1.0 / n as f64; n]), fixed, learned, oracle]
}

#[test]
fn learning_beats_the_best_fixed_action() {
    for seed in 1..=3 {
        let [uniform, fixed, learned, oracle] = play(20, seed);
        assert!(uniform < fixed && fixed < oracle);
        let captured = (learned - fixed) / (oracle - fixed);
        assert!(captured > 0.5, "seed {seed}: uniform {uniform}, fixed {fixed}, learned {learned}, oracle {oracle}");
    }
}
