//! The learner of the extension, day by day, with each form of the base and of the action features.

use decisioning_core::decide::{choose, propensities, Policy, Rule, Salt, Terms};
use decisioning_core::learn::{
    fit, linearise, Arm, Delays, DrawBank, Layout, Link, Misfit, Observed, Posterior, Prior, Reporting, Roles, Rows,
    Scales, Seen, Statistics,
};

use super::world::{actions, column_names, Customer, World, NUMERICS, QUARTILES};

const TEMPER: f64 = 0.2;
const FLOOR: f64 = 0.02;
const SCALE_STEPS: usize = 20;
/// Growth of the log at which sums are linearised anew.
const RELINEARISE: f64 = 1.5;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Linear,
    /// A hinge (x − quartile)₊ at each quartile, in the base alone.
    Hinges,
    /// Membership of each quarter, in the base alone.
    Bins,
    /// Hinges in every block.
    HingesEverywhere,
    /// Every action feature less its expectation under the logged propensities; the base is linear.
    Centred,
    /// Centred, with hinges in the base.
    HingesCentred,
    /// Not centred; the propensities of sending and of every level are features of the base.
    Propensities,
}

pub const FORMS: [Form; 7] = [
    Form::Linear,
    Form::Hinges,
    Form::Bins,
    Form::HingesEverywhere,
    Form::Centred,
    Form::HingesCentred,
    Form::Propensities,
];

impl Form {
    pub fn name(self) -> &'static str {
        match self {
            Form::Linear => "linear",
            Form::Hinges => "hinges",
            Form::Bins => "bins",
            Form::HingesEverywhere => "hinges everywhere",
            Form::Centred => "centred",
            Form::HingesCentred => "centred, hinges",
            Form::Propensities => "propensities in base",
        }
    }

    fn centred(self) -> bool {
        matches!(self, Form::Centred | Form::HingesCentred)
    }

    /// Names of the columns beside the linear ones.
    fn curve_names(self) -> Vec<String> {
        let per_numeric = |what: &str, count: usize| {
            (0..NUMERICS)
                .flat_map(|at| (0..count).map(move |n| (at, n)))
                .map(|(at, n)| format!("x{at} {what} {n}"))
                .collect()
        };
        match self {
            Form::Linear | Form::Centred => Vec::new(),
            Form::Hinges | Form::HingesEverywhere | Form::HingesCentred => per_numeric("above", 3),
            Form::Bins => per_numeric("in", 4),
            Form::Propensities => (0..8).map(|at| format!("propensity {at}")).collect(),
        }
    }

    /// Values of those columns.
    fn curves(self, customer: &Customer, columns: &mut Vec<f32>) {
        for (x, quartiles) in customer.numerics.iter().zip(QUARTILES) {
            match self {
                Form::Hinges | Form::HingesEverywhere | Form::HingesCentred => {
                    columns.extend(quartiles.iter().map(|knot| (x - knot).max(0.0) as f32));
                }
                Form::Bins => {
                    let bin = quartiles.iter().filter(|knot| x > *knot).count();
                    columns.extend((0..4).map(|at| f32::from(u8::from(at == bin))));
                }
                Form::Linear | Form::Centred | Form::Propensities => {}
            }
        }
    }
}

/// A logged decision, and the day on which its outcome comes, if ever.
struct Past {
    observed: Observed,
    day: usize,
    answer: Option<usize>,
}

pub struct Learner {
    form: Form,
    /// Of the coefficients; decisions are chosen by it.
    layout: Layout,
    /// The same coefficients for rows that are given in full, as centred ones are.
    full: Layout,
    arms: Vec<Arm>,
    log: Vec<Past>,
    delays: Delays,
    sums: Statistics,
    linearised: usize,
    scales: Scales,
    mode: Vec<f64>,
    posterior: Posterior,
    policy: Policy,
    salt: Salt,
}

/// Days after which a decision is closed.
const WINDOW: usize = 6;

impl Learner {
    pub fn new(form: Form, world: &World, seed: u64) -> Self {
        let linear = column_names();
        let names = [linear.clone(), form.curve_names()].concat();
        let curves = match form {
            Form::HingesEverywhere => Vec::new(),
            _ => (linear.len() as u32..names.len() as u32).collect(),
        };
        let layout = Layout::with_roles(
            names.clone(),
            Roles { offset: None, curves },
            &vec![1.0; names.len()],
            &actions(),
            1024,
        )
        .unwrap();
        let full = Layout {
            offset: None,
            columns: layout.coefficient_names(),
            base: (0..layout.len() as u32).collect(),
            send: Vec::new(),
            interacting: Vec::new(),
            levels: Vec::new(),
            pairs: Vec::new(),
            curves: Vec::new(),
        };
        let prior = Prior::new(Link::Logistic, &layout, &Scales::default());
        let sums = Statistics::new(layout.len());
        let posterior = Posterior::of(&prior, &sums).unwrap();
        let salt = Salt([seed as u8; 16]);
        let policy = policy(&layout, &world.arms, &posterior, salt, 0);
        Learner {
            form,
            full,
            arms: world.arms.clone(),
            log: Vec::new(),
            delays: Delays::default(),
            sums,
            linearised: 0,
            scales: Scales::default(),
            mode: prior.mean,
            posterior,
            policy,
            salt,
            layout,
        }
    }

    fn candidates(&self) -> Vec<Option<usize>> {
        std::iter::once(None).chain((0..self.arms.len()).map(Some)).collect()
    }

    fn encode(&self, customer: &Customer, weights: &[f64]) -> Vec<f32> {
        let mut columns = customer.columns();
        self.form.curves(customer, &mut columns);
        if self.form == Form::Propensities {
            let of = |chosen: &dyn Fn(&Arm) -> bool| {
                self.arms.iter().zip(&weights[1..]).filter(|(arm, _)| chosen(arm)).map(|(_, p)| p).sum::<f64>() as f32
            };
            columns.push(of(&|_| true));
            columns
                .extend((0..self.layout.levels.len() as u32).map(|level| of(&|arm: &Arm| arm.levels.contains(&level))));
        }
        columns
    }

    /// Probability of every candidate for a customer of the optimise group.
    pub fn propensities(&self, customer: &Customer) -> Vec<f64> {
        let encoded = self.encode(customer, &vec![0.0; self.arms.len() + 1]);
        let terms = Terms::free(self.arms.len());
        propensities(
            &Rule::Learned { policy: &self.policy, terms: &terms, encoded: &encoded, floor: FLOOR },
            &self.candidates(),
        )
    }

    /// Estimated log-odds of an arm over no-send.
    pub fn uplift(&self, customer: &Customer, arm: usize) -> f64 {
        let encoded = self.encode(customer, &vec![0.0; self.arms.len() + 1]);
        let mut row = Vec::new();
        self.layout.design(&encoded, Some(&self.arms[arm]), &mut row);
        let sent = row.iter().filter(|(at, _)| *at as usize >= self.layout.send_offset());
        sent.map(|(at, x)| self.posterior.mean[*at as usize] * x).sum()
    }

    /// Decides for a customer, whom `respond` then asks. A tenth is held out, a twentieth explores.
    pub fn decide(
        &mut self,
        customer: &Customer,
        day: usize,
        ordinal: usize,
        group: f64,
        respond: impl FnOnce(Option<usize>) -> Option<usize>,
    ) {
        let candidates = self.candidates();
        let encoded = self.encode(customer, &vec![0.0; candidates.len()]);
        let terms = Terms::free(self.arms.len());
        let rule = match group {
            g if g < 0.10 => Rule::Fixed(0),
            g if g < 0.15 => Rule::Random { no_send: 0.5 },
            _ => Rule::Learned { policy: &self.policy, terms: &terms, encoded: &encoded, floor: FLOOR },
        };
        let choice = choose(&rule, &candidates, &mut self.salt.random(&format!("{day} {ordinal}"), 1));
        let arm = candidates[choice.chosen];
        let encoded = self.encode(customer, &choice.propensities);
        let (encoded, logged) = match self.form.centred() {
            true => (self.centre(&encoded, &candidates, arm, &choice.propensities), None),
            false => (encoded, arm.map(|arm| arm as u32)),
        };
        let observed = Observed { encoded, arm: logged, weight: 1.0, reward: 0.0, reported: 1.0 };
        // What the delays are counted by must not depend on the form.
        self.log.push(Past { observed, day, answer: respond(arm) });
    }

    /// The design row of `arm`, with the features of actions less their expectation.
    fn centre(&self, encoded: &[f32], candidates: &[Option<usize>], arm: Option<usize>, weights: &[f64]) -> Vec<f32> {
        let mut centred = vec![0.0_f64; self.layout.len()];
        let mut row = Vec::new();
        let mut add = |candidate: Option<usize>, factor: f64, base: bool| {
            self.layout.design(encoded, candidate.map(|arm| &self.arms[arm]), &mut row);
            for (at, x) in row.iter().filter(|(at, _)| base || *at as usize >= self.layout.send_offset()) {
                centred[*at as usize] += factor * x;
            }
        };
        add(arm, 1.0, true);
        candidates.iter().zip(weights).for_each(|(candidate, weight)| add(*candidate, -weight, false));
        centred.iter().map(|x| *x as f32).collect()
    }

    fn rows<'a>(&self, past: impl Iterator<Item = &'a Past>, day: usize, reporting: Option<&Reporting>) -> Rows {
        let layout = self.rows_layout();
        let mut rows = Rows::new(Link::Logistic, layout.columns.len());
        for past in past {
            let age = (day + 1 - past.day) as f64 / WINDOW as f64;
            let reward = f64::from(u8::from(past.answer.is_some_and(|answer| answer <= day)));
            let reported = reporting.map_or(1.0, |reporting| reporting.at("", age));
            rows.push(&Observed { reward, reported, ..past.observed.clone() }).unwrap();
        }
        rows
    }

    fn rows_layout(&self) -> &Layout {
        if self.form.centred() {
            &self.full
        } else {
            &self.layout
        }
    }

    fn fit(&self, scales: &Scales, closed: &Statistics, start: &[f64], batches: &[&Rows]) -> Vec<f64> {
        let prior = Prior::new(Link::Logistic, &self.layout, scales);
        let visit = |add: &mut dyn FnMut(&Rows)| -> Result<(), Misfit> {
            batches.iter().for_each(|rows| add(rows));
            Ok(())
        };
        fit(self.rows_layout(), &prior, &self.arms, closed, start, visit).unwrap().mode
    }

    fn estimate(&self, scales: &Scales, sums: &Statistics) -> Scales {
        scales.estimate(Link::Logistic, &self.layout, &[sums], SCALE_STEPS, || ()).unwrap()
    }

    fn linear(&self, at: &[f64], rows: &Rows) -> Statistics {
        linearise::<Misfit>(self.rows_layout(), &self.arms, at, |add| {
            add(rows);
            Ok(())
        })
        .unwrap()
    }

    /// Learns in the evening of `day`, as the extension does.
    pub fn learn(&mut self, day: usize) {
        let closes = |past: &&Past| past.day + WINDOW == day + 1;
        let closed = |past: &&Past| past.day + WINDOW <= day + 1;
        let share = |days: usize| (days as f64 + 0.5) / WINDOW as f64;
        let mut delays = std::mem::take(&mut self.delays);
        for past in self.log.iter().filter(closes) {
            if let Some(answer) = past.answer {
                delays.add("", share(answer - past.day), 1.0);
            }
        }
        let open = || self.log.iter().filter(|past| !closed(past));
        let seen: Vec<Seen<'_>> = open()
            .filter_map(|past| past.answer.filter(|answer| *answer <= day).map(|answer| (past, answer)))
            .map(|(past, answer)| Seen {
                channel: "",
                delay: share(answer - past.day),
                age: (day + 1 - past.day) as f64 / WINDOW as f64,
            })
            .collect();
        let reporting = delays.reporting(&seen);
        let due = self.rows(self.log.iter().filter(closes), day, None);
        let open = self.rows(open(), day, Some(&reporting));
        let mut mode = self.fit(&self.scales, &self.sums, &self.mode, &[&due, &open]);
        let absorbed = self.log.iter().filter(closed).count();
        let (mut sums, mut scales) = (self.sums.clone(), self.scales.clone());
        if absorbed as f64 >= RELINEARISE * self.linearised as f64 && !due.is_empty() {
            let all = self.rows(self.log.iter().filter(closed), day, None);
            let nothing = Statistics::new(self.layout.len());
            mode = self.fit(&scales, &nothing, &mode, &[&all]);
            scales = self.estimate(&scales, &self.linear(&mode, &all));
            mode = self.fit(&scales, &nothing, &mode, &[&all]);
            sums = self.linear(&mode, &all);
            self.linearised = absorbed;
        } else {
            sums.merge(&self.linear(&mode, &due));
        }
        let at = self.fit(&scales, &sums, &mode, &[&open]);
        let mut everything = sums.clone();
        everything.merge(&self.linear(&at, &open));
        let scales = self.estimate(&scales, &everything);
        let posterior = Posterior::of(&Prior::new(Link::Logistic, &self.layout, &scales), &everything).unwrap();
        self.policy = policy(&self.layout, &self.arms, &posterior, self.salt, day as i64 + 1);
        (self.delays, self.sums, self.scales, self.mode, self.posterior) = (delays, sums, scales, mode, posterior);
    }
}

fn policy(layout: &Layout, arms: &[Arm], posterior: &Posterior, salt: Salt, version: i64) -> Policy {
    let tempers = layout.tempers(TEMPER, &posterior.conditional_errors());
    Policy::new(layout.clone(), DrawBank::sample(posterior, &tempers, salt.bank_seed(version)), arms)
}
