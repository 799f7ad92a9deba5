//! Decisions in memory, as few bytes each as will do.

use super::feature::Feature;
use super::lever::Levers;
use super::table::Half;
use crate::measure::Trial;

/// What a decision tells.
pub(super) struct Row {
    pub customer: u32,
    /// By which rule it was chosen.
    group: u8,
    pub half: Half,
    pub responded: bool,
    pub weight: f32,
    /// Contrasts of which it is on this side and on the other, as bits.
    pub with: u64,
    pub against: u64,
}

/// Random decisions, those of one customer together, with the levels of what was known of the customer.
pub struct Log {
    pub features: Vec<Feature>,
    pub levers: Levers,
    pub(super) rows: Vec<Row>,
    levels: Vec<u8>,
    /// For each group, the sends that were possible, and the sum of 1 / propensity over them.
    possible: Vec<(f64, f64)>,
    customer: String,
    customers: u32,
}

impl Log {
    pub fn new(features: Vec<Feature>, levers: Levers, groups: usize) -> Self {
        Log {
            features,
            levers,
            rows: Vec::new(),
            levels: Vec::new(),
            possible: vec![(0.0, 0.0); groups],
            customer: String::new(),
            customers: 0,
        }
    }

    /// Adds a decision with a level of each feature. Decisions of one customer follow each other, and are of one half.
    pub fn add(&mut self, trial: &Trial<'_>, half: Half, levels: impl IntoIterator<Item = u8>) {
        if self.customers == 0 || trial.customer != self.customer {
            self.customers += 1;
            self.customer.clear();
            self.customer.push_str(trial.customer);
        }
        let weight = 1.0 / trial.propensity;
        let (count, inverse) = &mut self.possible[trial.group];
        if trial.propensities.is_empty() {
            // In the mean, one of weight w stands for w that could have been it.
            if trial.taken != 0 {
                *count += weight;
                *inverse += weight * weight;
            }
        } else {
            for (_, p) in trial.candidates.iter().zip(trial.propensities).filter(|(action, _)| **action != 0) {
                *count += 1.0;
                *inverse += 1.0 / p;
            }
        }
        let (with, against) = self.levers.told(trial.taken, trial.candidates);
        let before = self.levels.len();
        self.levels.extend(levels);
        debug_assert_eq!(self.levels.len() - before, self.features.len());
        self.rows.push(Row {
            customer: self.customers,
            group: trial.group as u8,
            half,
            responded: trial.responded,
            weight: weight as f32,
            with,
            against,
        });
    }

    /// Scales the weights of each group so that it counts by its effective number of decisions: a policy that makes most actions unlikely
    /// says little of them with many decisions. Groups are drawn at random, so that this favours nobody.
    pub(super) fn balance(&mut self) {
        for row in &mut self.rows {
            let (count, inverse) = self.possible[usize::from(row.group)];
            if inverse > 0.0 {
                row.weight *= (count / inverse) as f32;
            }
        }
        self.possible.fill((0.0, 0.0));
    }

    /// The level of a feature in row `n`.
    pub(super) fn level(&self, n: usize, feature: usize) -> u8 {
        self.levels[n * self.features.len() + feature]
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
