//! Choose, answer, fit, choose again: the loop must end above the best fixed action.

mod common;

use common::{absorb, context, dimensions, grid, layout, log_odds, prior, random, sigmoid, Xoshiro256PlusPlus};
use decisioning_core::decide::{choose, propensities, Policy, Rule, Salt, Terms};
use decisioning_core::learn::{
    fit, linearise, Arm, Delays, DrawBank, Layout, Link, Misfit, Observed, Posterior, Prior, Reporting, Rows, Scales,
    Seen, Statistics,
};
use rand::RngExt;

const FLOOR: f64 = 0.02;
const TEMPER: f64 = 0.3;

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
    let terms = Terms::free(arms.len());
    let policy = |closed: &Statistics, round: i64| {
        let posterior = Posterior::of(&prior(layout), closed).unwrap();
        let bank = DrawBank::sample(
            &posterior,
            &layout.tempers(TEMPER, &posterior.conditional_errors()),
            salt.bank_seed(round),
        );
        Policy::new(layout.clone(), bank, arms)
    };
    for round in 0..rounds {
        let current = policy(&closed, round);
        let rows: Vec<Observed> = (0..500)
            .map(|customer| {
                let encoded = context(4, &mut random);
                let rule = Rule::Learned { policy: &current, terms: &terms, encoded: &encoded, floor: FLOOR };
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
    let learned = world.value(|encoded| {
        propensities(&Rule::Learned { policy: &last, terms: &terms, encoded, floor: FLOOR }, &candidates)
    });
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

/// A campaign of one message per send, day by day: outcomes come up to five days late, silence counts as what it is, and
/// after some weeks a message joins that is as good as the best.
struct Delayed {
    layout: Layout,
    arms: Vec<Arm>,
    random: Xoshiro256PlusPlus,
    log: Vec<Past>,
    delays: Delays,
    closed: Statistics,
    mean: Vec<f64>,
    scales: Scales,
}

/// A decision, and the day on which its outcome comes, if ever.
struct Past {
    arm: Option<u32>,
    day: usize,
    answer: Option<usize>,
}

const DAYS_OPEN: usize = 6;
const PER_DAY: usize = 500;
/// Response to no-send and to messages `a` to `d`.
const RATES: [f64; 5] = [0.02, 0.025, 0.03, 0.06, 0.06];

impl Delayed {
    fn new(seed: u64) -> Self {
        let (layout, arms) = layout(1, &["a", "b", "c", "d"].map(|message| dimensions(&[("message", message)])));
        Delayed {
            random: random(seed),
            log: Vec::new(),
            delays: Delays::default(),
            closed: Statistics::new(layout.len()),
            mean: prior(&layout).mean,
            scales: Scales::default(),
            layout,
            arms,
        }
    }

    fn seen(past: &Past, day: usize) -> bool {
        past.answer.is_some_and(|answer| answer <= day)
    }

    fn rows<'a>(&self, of: impl Iterator<Item = &'a Past>, day: usize, reporting: Option<&Reporting>) -> Rows {
        let mut rows = Rows::new(Link::Logistic, 1);
        for past in of {
            let age = (day + 1 - past.day) as f64 / DAYS_OPEN as f64;
            let observed = Observed {
                encoded: vec![1.0],
                arm: past.arm,
                weight: 1.0,
                reward: f64::from(u8::from(Self::seen(past, day))),
                reported: reporting.map_or(1.0, |reporting| reporting.at("send", age)),
            };
            rows.push(&observed).unwrap();
        }
        rows
    }

    /// Learns in the evening of `day`, and returns the posterior.
    fn learn(&mut self, day: usize) -> Posterior {
        let closing: Vec<&Past> = self.log.iter().filter(|past| past.day + DAYS_OPEN == day + 1).collect();
        for past in closing.iter().filter(|past| Self::seen(past, day)) {
            let delay = (past.answer.unwrap() - past.day) as f64 + 0.5;
            self.delays.add("send", delay / DAYS_OPEN as f64, 1.0);
        }
        let open: Vec<&Past> = self.log.iter().filter(|past| past.day + DAYS_OPEN > day + 1).collect();
        let seen: Vec<Seen<'_>> = open
            .iter()
            .filter(|past| Self::seen(past, day))
            .map(|past| Seen {
                channel: "send",
                delay: ((past.answer.unwrap() - past.day) as f64 + 0.5) / DAYS_OPEN as f64,
                age: (day + 1 - past.day) as f64 / DAYS_OPEN as f64,
            })
            .collect();
        let reporting = self.delays.reporting(&seen);
        let (due, open) =
            (self.rows(closing.iter().copied(), day, None), self.rows(open.iter().copied(), day, Some(&reporting)));
        let prior = Prior::new(Link::Logistic, &self.layout, &self.scales);
        let visit = |add: &mut dyn FnMut(&Rows)| -> Result<(), Misfit> {
            add(&due);
            add(&open);
            Ok(())
        };
        let mode = fit(&self.layout, &prior, &self.arms, &self.closed, &self.mean, visit).unwrap().mode;
        let linear = |rows: &Rows| {
            linearise::<Misfit>(&self.layout, &self.arms, &mode, |add| {
                add(rows);
                Ok(())
            })
            .unwrap()
        };
        self.closed.merge(&linear(&due));
        let mut sums = self.closed.clone();
        sums.merge(&linear(&open));
        self.scales = self.scales.estimate(Link::Logistic, &self.layout, &[&sums], 20, || ()).unwrap();
        let posterior = Posterior::of(&Prior::new(Link::Logistic, &self.layout, &self.scales), &sums).unwrap();
        self.mean = posterior.mean.clone();
        posterior
    }

    /// Plays one day among the first `messages`; returns how often each was sent.
    fn day(&mut self, day: usize, messages: usize, posterior: &Posterior) -> Vec<usize> {
        let salt = Salt([3; 16]);
        let policy = Policy::new(
            self.layout.clone(),
            DrawBank::sample(
                posterior,
                &self.layout.tempers(TEMPER, &posterior.conditional_errors()),
                salt.bank_seed(day as i64),
            ),
            &self.arms,
        );
        let candidates: Vec<Option<usize>> = std::iter::once(None).chain((0..messages).map(Some)).collect();
        let terms = Terms::free(self.arms.len());
        let mut sent = vec![0; self.arms.len()];
        for customer in 0..PER_DAY {
            let rule = Rule::Learned { policy: &policy, terms: &terms, encoded: &[1.0], floor: FLOOR };
            let choice = choose(&rule, &candidates, &mut salt.random(&format!("{customer}"), day as i64));
            let arm = candidates[choice.chosen];
            let rate = RATES[arm.map_or(0, |arm| arm + 1)];
            let answers = self.random.random::<f64>() < rate;
            // at once as often as on any of the next five days
            let delay = self.random.random_range(0..DAYS_OPEN);
            self.log.push(Past { arm: arm.map(|arm| arm as u32), day, answer: answers.then_some(day + delay) });
            if let Some(arm) = arm {
                sent[arm] += 1;
            }
        }
        sent
    }
}

/// Four weeks with three messages, then one as good as the best joins. Returns, for every day after that, its share of
/// what goes to the two best.
fn newcomer(seed: u64) -> Vec<f64> {
    let mut world = Delayed::new(seed);
    let mut posterior = Posterior::of(&prior(&world.layout), &world.closed).unwrap();
    let mut shares = Vec::new();
    for day in 0..63 {
        let messages = if day < 28 { 3 } else { 4 };
        let sent = world.day(day, messages, &posterior);
        if day >= 28 {
            shares.push(sent[3] as f64 / (sent[2] + sent[3]) as f64);
        }
        posterior = world.learn(day);
    }
    shares
}

#[test]
fn a_new_message_as_good_as_the_best_gets_its_share_despite_delays() {
    let runs: Vec<Vec<f64>> = (0..12).map(newcomer).collect();
    let mean = |days: std::ops::Range<usize>| {
        let all: Vec<f64> = runs.iter().flat_map(|shares| shares[days.clone()].iter().copied()).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    let weeks: Vec<f64> = (0..5).map(|week| mean(week * 7..week * 7 + 7)).collect();
    // Half is its share. It has a quarter at once, and nearly all of it after 14 000 decisions.
    assert!(weeks[0] > 0.2, "{weeks:?}");
    assert!((0.4..0.6).contains(&weeks[4]), "{weeks:?}");
}
