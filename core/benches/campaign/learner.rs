//! The learner of the extension, without a database.

use std::collections::BTreeMap;
use std::ops::Range;

use decisioning_core::decide::{choose, Policy, Rule, Salt, Terms};
use decisioning_core::features::Encoder;
use decisioning_core::learn::{
    fit, linearise, Arm, CrossSearch, Delays, Dimensions, DrawBank, Drift, Epoch, Epochs, Layout, Link, Misfit,
    Observed, Posterior, Prior, Reporting, Roles, Rows, Scales, Seen, Statistics,
};

const FLOOR: f64 = 0.02;
/// Most coefficients.
const LIMIT: usize = 1024;
const SCALE_STEPS: usize = 20;
/// How often crosses are looked for again with those that were found.
const ROUNDS: usize = 4;
const TEMPER: f64 = 0.2;
/// Parts of the window between which the world may have drifted.
const STAGES: usize = 3;
/// Growth of the log at which sums are linearised anew.
const RELINEARISE: f64 = 1.5;

struct Past {
    observed: Observed,
    at: f64,
    /// When its response came, if it has come.
    answer: Option<f64>,
}

pub struct Learner {
    encoder: Encoder,
    actions: Vec<Dimensions>,
    layout: Layout,
    arms: Vec<Arm>,
    channels: Vec<String>,
    /// Time after which a decision is closed, and in which it counts half.
    window: f64,
    half_life: f64,
    log: Vec<Past>,
    absorbed: usize,
    linearised: usize,
    learned_at: f64,
    delays: Delays,
    sums: Epochs,
    /// Of the last version.
    drift: Option<(i64, BTreeMap<String, f64>)>,
    scales: Scales,
    mode: Vec<f64>,
    policy: Policy,
    salt: Salt,
    version: i64,
}

impl Learner {
    pub fn new(encoder: &Encoder, actions: &[Dimensions], window: f64, half_life: f64, seed: u64) -> Self {
        let (layout, arms) = lay_out(encoder, actions);
        let prior = Prior::new(Link::Logistic, &layout, &Scales::default());
        let sums = Epochs::new(layout.len());
        let posterior = Posterior::of(&prior, &sums.total()).unwrap();
        let salt = Salt([seed as u8; 16]);
        let policy = policy(&layout, &arms, &posterior, salt, 0);
        let channel = |action: &Dimensions| action.get("channel").map_or("send", String::as_str).to_owned();
        Learner {
            channels: actions.iter().map(channel).collect(),
            encoder: encoder.clone(),
            actions: actions.to_vec(),
            arms,
            window,
            half_life,
            log: Vec::new(),
            absorbed: 0,
            linearised: 0,
            learned_at: 0.0,
            delays: Delays::default(),
            sums,
            drift: None,
            scales: Scales::default(),
            mode: prior.mean,
            policy,
            salt,
            version: 0,
            layout,
        }
    }

    /// Chooses among `candidates` and logs it; returns the position in the log.
    pub fn decide(&mut self, encoded: Vec<f32>, candidates: &[Option<usize>], at: f64) -> (usize, Option<usize>) {
        let terms = Terms::free(self.arms.len());
        let encoded = self.encoder.recrossed(encoded);
        let rule = Rule::Learned { policy: &self.policy, terms: &terms, encoded: &encoded, floor: FLOOR };
        let choice = choose(&rule, candidates, &mut self.salt.random(&self.log.len().to_string(), 1));
        let arm = candidates[choice.chosen];
        let observed = Observed { encoded, arm: arm.map(|arm| arm as u32), weight: 1.0, reward: 0.0, reported: 1.0 };
        self.log.push(Past { observed, at, answer: None });
        (self.log.len() - 1, arm)
    }

    pub fn answer(&mut self, decision: usize, at: f64) {
        self.log[decision].answer = Some(at);
    }

    fn channel(&self, past: &Past) -> &str {
        past.observed.arm.map_or("", |arm| &self.channels[arm as usize])
    }

    fn discount(&self, age: f64) -> f64 {
        (-age / self.half_life).exp2()
    }

    fn rows(&self, past: &[Past], now: f64, reporting: Option<&Reporting>) -> Rows {
        let mut rows = Rows::new(Link::Logistic, self.layout.columns.len());
        for past in past {
            let reward = f64::from(u8::from(past.answer.is_some()));
            let reported = reporting.map_or(1.0, |f| f.at(self.channel(past), (now - past.at) / self.window));
            let weight = self.discount(now - past.at);
            let observed = past.observed.clone();
            let encoded = self.encoder.recrossed(observed.encoded);
            rows.push(&Observed { encoded, reward, reported, weight, ..observed }).unwrap();
        }
        rows
    }

    fn fit(&self, scales: &Scales, closed: &Statistics, start: &[f64], batches: &[&Rows]) -> Vec<f64> {
        let prior = Prior::new(Link::Logistic, &self.layout, scales);
        let visit = |add: &mut dyn FnMut(&Rows)| -> Result<(), Misfit> {
            batches.iter().for_each(|rows| add(rows));
            Ok(())
        };
        fit(&self.layout, &prior, &self.arms, closed, start, visit).unwrap().mode
    }

    fn linear(&self, at: &[f64], rows: &Rows) -> Statistics {
        linearise::<Misfit>(&self.layout, &self.arms, at, |add| {
            add(rows);
            Ok(())
        })
        .unwrap()
    }

    /// What the sums say of decisions from one on: where the last version found a drift before it, that counts.
    fn known(&self, scales: &Scales, from: usize) -> Statistics {
        let Some((drifted_at, shares)) =
            self.drift.as_ref().filter(|(at, _)| self.log.get(from).is_some_and(|past| *at <= micros(past.at)))
        else {
            return self.sums.total();
        };
        let (past, after) = self.sums.parted(*drifted_at);
        let prior = Prior::new(Link::Logistic, &self.layout, scales);
        let mut known = Drift::after(&self.layout, &prior, &past, shares).unwrap();
        known.merge(&after);
        known
    }

    /// Adds closed decisions to the sums, linearised at `at`.
    fn absorb(&self, sums: &mut Epochs, at: &[f64], due: Range<usize>, now: f64) {
        let Some(first) = self.log[due.clone()].first() else { return };
        sums.begin(micros(first.at), micros(now), micros(self.window) as f64);
        let epoch = |past: &Past| sums.position(micros(past.at));
        let parts: Vec<&[Past]> = self.log[due].chunk_by(|a, b| epoch(a) == epoch(b)).collect();
        for past in parts {
            sums.at(micros(past[0].at)).merge(&self.linear(at, &self.rows(past, now, None)));
        }
    }

    fn estimate(&self, scales: &Scales, worlds: &[&Statistics]) -> Scales {
        scales.estimate(Link::Logistic, &self.layout, worlds, SCALE_STEPS, || ()).unwrap()
    }

    /// The sums anew, from all closed decisions.
    fn refit(&mut self, due_end: usize, now: f64) {
        let all = self.rows(&self.log[..due_end], now, None);
        let nothing = Statistics::new(self.layout.len());
        let mut mode = self.fit(&self.scales, &nothing, &self.mode, &[&all]);
        self.scales = self.estimate(&self.scales, &[&self.linear(&mode, &all)]);
        mode = self.fit(&self.scales, &nothing, &mode, &[&all]);
        let mut sums = self.sums.emptied(micros(now), micros(self.window) as f64);
        self.absorb(&mut sums, &mode, 0..due_end, now);
        let prior = Prior::new(Link::Logistic, &self.layout, &self.scales);
        let closed: Vec<&Epoch> = sums.iter().filter(|epoch| !epoch.sums.is_zero()).collect();
        let stages: Vec<&Statistics> = closed.iter().map(|epoch| &epoch.sums).collect();
        let drift = Drift::estimate(&self.layout, &prior, &stages, || ());
        self.drift = drift.map(|drift| (closed[drift.before].since, drift.shares));
        if let Some((drifted_at, shares)) = &self.drift {
            let from = self.log[..due_end].partition_point(|past| micros(past.at) < *drifted_at);
            let (past, present) = sums.parted(*drifted_at);
            self.scales = self.estimate(&self.scales, &[&past, &present]);
            let prior = Prior::new(Link::Logistic, &self.layout, &self.scales);
            sums.empty();
            let before = self.fit(&self.scales, &nothing, &mode, &[&self.rows(&self.log[..from], now, None)]);
            self.absorb(&mut sums, &before, 0..from, now);
            let known = Drift::after(&self.layout, &prior, &sums.parted(*drifted_at).0, shares).unwrap();
            mode = self.fit(&self.scales, &known, &mode, &[&self.rows(&self.log[from..due_end], now, None)]);
            self.absorb(&mut sums, &mode, from..due_end, now);
        }
        (self.sums, self.mode, self.linearised) = (sums, mode, due_end);
    }

    /// Adds crosses that closed decisions since the last drift speak for; returns whether there are any.
    fn cross(&mut self, due_end: usize, now: f64) -> bool {
        let room = CrossSearch::room(&self.encoder, &self.layout, LIMIT);
        if room == 0 {
            return false;
        }
        let drifted_at = self.drift.as_ref().map_or(i64::MIN, |(since, _)| *since);
        let from = self.log[..due_end].partition_point(|past| micros(past.at) < drifted_at);
        let mut search = CrossSearch::new(&self.encoder, &self.layout, &self.arms, &self.mode);
        search.add(&self.rows(&self.log[from..due_end], now, None));
        let found = search.found(room);
        if found.is_empty() {
            return false;
        }
        self.encoder = self.encoder.crossed(&found);
        let (layout, arms) = lay_out(&self.encoder, &self.actions);
        let positions = layout.positions_in(&self.layout);
        self.sums = self.sums.rearranged(&positions);
        let prior = Prior::new(Link::Logistic, &layout, &self.scales).mean;
        self.mode = positions.iter().zip(prior).map(|(at, prior)| at.map_or(prior, |at| self.mode[at])).collect();
        (self.layout, self.arms) = (layout, arms);
        true
    }

    /// Learns, as the extension does.
    pub fn learn(&mut self, now: f64) {
        let fading = self.discount(now - self.learned_at);
        self.sums.scale(fading);
        self.delays.scale(fading);
        self.learned_at = now;
        let due_end = self.log.partition_point(|past| past.at + self.window <= now);
        let (due, open) = (self.absorbed..due_end, due_end..self.log.len());
        let mut delays = std::mem::take(&mut self.delays);
        for past in &self.log[due.clone()] {
            if let Some(answer) = past.answer {
                delays.add(self.channel(past), (answer - past.at) / self.window, self.discount(now - past.at));
            }
        }
        let seen: Vec<Seen<'_>> = self.log[open.clone()]
            .iter()
            .filter_map(|past| {
                let delay = (past.answer? - past.at) / self.window;
                Some(Seen { channel: self.channel(past), delay, age: (now - past.at) / self.window })
            })
            .collect();
        let reporting = delays.reporting(&seen);
        let grown = !due.is_empty() && due_end as f64 >= RELINEARISE * self.linearised as f64;
        if grown {
            self.refit(due_end, now);
            for _ in 0..ROUNDS {
                if !self.cross(due_end, now) {
                    break;
                }
                self.refit(due_end, now);
            }
        }
        let mut from = open.start;
        let mut stages: Vec<Rows> = Vec::new();
        for younger in (0..STAGES).rev() {
            let youngest = now - self.window * younger as f64 / STAGES as f64;
            let past = self.log[from..].partition_point(|past| past.at < youngest);
            let to = if younger == 0 { open.end } else { from + past };
            stages.push(self.rows(&self.log[from..to], now, Some(&reporting)));
            from = to;
        }
        let open = self.rows(&self.log[open], now, Some(&reporting));
        let (mut sums, scales, mut mode) = (self.sums.clone(), self.scales.clone(), self.mode.clone());
        if !grown {
            let rows = self.rows(&self.log[due.clone()], now, None);
            mode = self.fit(&scales, &self.known(&scales, due.start), &mode, &[&rows, &open]);
            self.absorb(&mut sums, &mode, due, now);
        }
        sums.settle(micros(now), micros(self.window) as f64, self.drift.as_ref().map(|(since, _)| *since));
        self.absorbed = due_end;
        let at = self.fit(&scales, &sums.total(), &mode, &[&open]);
        let mut everything = sums.total();
        everything.merge(&self.linear(&at, &open));
        let present: Vec<Statistics> = stages.iter().map(|rows| self.linear(&at, rows)).collect();
        let stage = |n: usize| micros(now - self.window * (STAGES - n) as f64 / STAGES as f64);
        let scales = match &self.drift {
            Some((drifted_at, _)) => {
                let (mut past, mut since) = sums.parted(*drifted_at);
                for (n, sums) in present.iter().enumerate() {
                    if stage(n) < *drifted_at { &mut past } else { &mut since }.merge(sums);
                }
                self.estimate(&scales, &[&past, &since])
            }
            None => self.estimate(&scales, &[&everything]),
        };
        let prior = Prior::new(Link::Logistic, &self.layout, &scales);
        let mut posterior = Posterior::of(&prior, &everything).unwrap();
        let past: Vec<&Statistics> = sums.iter().map(|epoch| &epoch.sums).collect();
        let all: Vec<&Statistics> = past.iter().copied().chain(&present).collect();
        self.drift = None;
        if let Some(mut drift) = Drift::estimate(&self.layout, &prior, &all, || ()) {
            let mut since = sums.iter().map(|epoch| epoch.since).chain((0..STAGES).map(stage));
            self.drift = since.nth(drift.before).zip(Some(drift.shares));
            past.iter().skip(drift.before).for_each(|epoch| drift.past.merge(epoch));
            let since: Vec<&Rows> = stages.iter().skip(drift.before.saturating_sub(past.len())).collect();
            let at = self.fit(&scales, &drift.past, &at, &since);
            let mut everything = drift.past;
            since.iter().for_each(|rows| everything.merge(&self.linear(&at, rows)));
            posterior = Posterior::of(&prior, &everything).unwrap();
        }
        self.version += 1;
        self.policy = policy(&self.layout, &self.arms, &posterior, self.salt, self.version);
        (self.delays, self.sums, self.scales, self.mode) = (delays, sums, scales, mode);
    }
}

fn lay_out(encoder: &Encoder, actions: &[Dimensions]) -> (Layout, Vec<Arm>) {
    let roles = Roles { offset: None, curves: encoder.hinges() };
    let layout = Layout::with_roles(encoder.column_names(), roles, &encoder.variances, actions, LIMIT).unwrap();
    let arms = actions.iter().map(|action| layout.arm(action)).collect();
    (layout, arms)
}

fn micros(days: f64) -> i64 {
    (days * 86.4e9) as i64
}

fn policy(layout: &Layout, arms: &[Arm], posterior: &Posterior, salt: Salt, version: i64) -> Policy {
    let tempers = layout.tempers(TEMPER, &posterior.conditional_errors());
    Policy::new(layout.clone(), DrawBank::sample(posterior, &tempers, salt.bank_seed(version)), arms)
}
