//! Sums that grow batch by batch against one fit of everything.

mod common;

use common::{
    absorb, context, grid, layout, log_odds, observe, prior, random, refit, sigmoid, truth, Xoshiro256PlusPlus,
};
use decisioning_core::learn::{Arm, Layout, Observed, Posterior, Statistics};
use rand::RngExt;

/// Mean |p − q| / q over contexts and arms, no-send included.
fn difference(layout: &Layout, arms: &[Arm], found: &[f64], reference: &[f64]) -> f64 {
    let mut random = random(77);
    let (mut sum, mut count) = (0.0, 0.0);
    for _ in 0..200 {
        let encoded = context(layout.columns.len(), &mut random);
        for arm in std::iter::once(None).chain(arms.iter().map(Some)) {
            let p = sigmoid(log_odds(layout, found, &encoded, arm));
            let q = sigmoid(log_odds(layout, reference, &encoded, arm));
            sum += (p - q).abs() / q;
            count += 1.0;
        }
    }
    sum / count
}

/// Growth of the log after which the extension refits from it.
const RELINEARISE: f64 = 1.5;

/// A world of seven arms and four columns, whose log arrives in twenty batches.
struct Stream {
    rows: usize,
    /// Base log-odds of the world.
    base: f64,
    /// Factor on all its other coefficients, which are drawn from the prior.
    strength: f64,
    /// Some decisions overlap and weigh a half or a third.
    overlaps: bool,
    /// Share of outcomes that arrive two batches after their decision closed.
    late: f64,
    relinearise: bool,
}

const BATCHES: usize = 20;

impl Stream {
    /// Difference from a fit of everything so far, after every third batch: just before refits and just after.
    fn run(&self, seed: u64) -> Vec<f64> {
        let (layout, arms) = layout(4, &grid(&["email", "sms", "push"], &["none", "ten"]));
        let mut random = random(seed);
        let mut truth = truth(&layout, &mut random);
        truth.iter_mut().for_each(|x| *x *= self.strength);
        truth[0] = self.base;
        let mut closed = Statistics::new(layout.len());
        let mut mean = prior(&layout).mean;
        let mut log: Vec<Observed> = Vec::new();
        let mut pending: Vec<Vec<usize>> = vec![Vec::new(); BATCHES + 2];
        let mut linearised = 0;
        let mut differences = Vec::new();
        let mut row = Vec::new();
        for batch in 0..BATCHES {
            for at in std::mem::take(&mut pending[batch]) {
                let observed: &mut Observed = &mut log[at];
                layout.design(&observed.encoded, observed.arm.map(|arm| &arms[arm as usize]), &mut row);
                closed.correct(&row, observed.weight);
                observed.reward = 1.0;
            }
            let first = log.len();
            for at in first..first + self.rows {
                let mut observed = observe(&layout, &arms, &truth, &mut random);
                if self.overlaps {
                    observed.weight = 1.0 / f64::from(random.random_range(1..=3_u8));
                }
                if observed.reward > 0.0 && random.random::<f64>() < self.late {
                    observed.reward = 0.0;
                    pending[batch + 2].push(at);
                }
                log.push(observed);
            }
            mean = absorb(&layout, &arms, &mut closed, &mean, &log[first..]);
            if self.relinearise && log.len() as f64 >= RELINEARISE * linearised as f64 {
                closed = Statistics::new(layout.len());
                mean = absorb(&layout, &arms, &mut closed, &mean, &log);
                linearised = log.len();
            }
            if batch % 3 == 1 {
                let found = difference(&layout, &arms, &mean, &refit(&layout, &arms, &log).mean);
                assert!(found.is_finite());
                differences.push(found);
            }
        }
        differences
    }

    /// The mean relative difference over seeds and time.
    fn mean(&self) -> f64 {
        let differences: Vec<f64> = (0..3).flat_map(|seed| self.run(seed)).collect();
        differences.iter().sum::<f64>() / differences.len() as f64
    }

    fn assert_within(&self, limit: f64) {
        let found = self.mean();
        assert!(found < limit, "{found}");
    }
}

const PLAIN: Stream = Stream { rows: 500, base: -2.5, strength: 1.0, overlaps: false, late: 0.0, relinearise: true };

#[test]
fn batches_agree_with_everything_at_once() {
    PLAIN.assert_within(0.02);
}

#[test]
fn rare_outcomes_agree() {
    Stream { base: -5.0, rows: 1000, ..PLAIN }.assert_within(0.02);
}

#[test]
fn overlap_weights_agree() {
    Stream { overlaps: true, ..PLAIN }.assert_within(0.02);
}

#[test]
fn strong_signals_agree() {
    Stream { strength: 3.0, ..PLAIN }.assert_within(0.02);
}

#[test]
fn late_outcomes_agree() {
    Stream { late: 0.1, ..PLAIN }.assert_within(0.02);
    Stream { late: 0.3, overlaps: true, strength: 2.0, ..PLAIN }.assert_within(0.02);
}

#[test]
fn outcomes_that_all_come_late_agree() {
    Stream { late: 1.0, ..PLAIN }.assert_within(0.02);
}

/// The limit of corrections: rows added without any reward are linearised where p(1 − p) is next to nothing, so that
/// a backlog of rewards overshoots: by 1 % if a tenth of them is late, by 27 % if half, beyond use if all are.
#[test]
fn a_backlog_of_outcomes_needs_a_refit() {
    let (layout, arms) = layout(4, &grid(&["email", "sms", "push"], &["none", "ten"]));
    let mut random = random(8);
    let mut truth = truth(&layout, &mut random);
    truth[0] = -2.5;
    let log: Vec<Observed> = (0..5000).map(|_| observe(&layout, &arms, &truth, &mut random)).collect();
    let exact = refit(&layout, &arms, &log).mean;
    // a share of the rewards is known when the rows are added, the rest comes later
    let late = |known: f64, random: &mut Xoshiro256PlusPlus| {
        let seen = |observed: &Observed| Observed {
            reward: if random.random::<f64>() < known { observed.reward } else { 0.0 },
            ..observed.clone()
        };
        let first: Vec<Observed> = log.iter().map(seen).collect();
        let mut closed = Statistics::new(layout.len());
        absorb(&layout, &arms, &mut closed, &prior(&layout).mean, &first);
        let mut row = Vec::new();
        for (then, now) in first.iter().zip(&log) {
            layout.design(&now.encoded, now.arm.map(|arm| &arms[arm as usize]), &mut row);
            closed.correct(&row, now.weight * (now.reward - then.reward));
        }
        let mean = Posterior::of(&prior(&layout), &closed).unwrap().mean;
        assert!(mean.iter().all(|x| x.is_finite()));
        let mended = absorb(&layout, &arms, &mut Statistics::new(layout.len()), &mean, &log);
        assert!(difference(&layout, &arms, &mended, &exact) < 1e-6, "refitted from {}", mean[0]);
        difference(&layout, &arms, &mean, &exact)
    };
    let differences = [1.0, 0.9, 0.7, 0.5, 0.0].map(|known| late(known, &mut random));
    assert!(differences.windows(2).all(|pair| pair[0] < pair[1]), "{differences:?}");
    assert!(differences[0] < 1e-9 && differences[1] < 0.02 && differences[4] > 1.0, "{differences:?}");
}

/// Without refits early rows stay linearised where little was known. It does not grow without bounds.
#[test]
fn sums_alone_drift_but_little() {
    Stream { relinearise: false, ..PLAIN }.assert_within(0.04);
    Stream { relinearise: false, strength: 3.0, ..PLAIN }.assert_within(0.25);
}

/// A correction is exact in the sums at the same linearisation.
#[test]
fn a_corrected_outcome_equals_one_seen_at_once() {
    let (layout, arms) = layout(3, &grid(&["email", "sms"], &["none"]));
    let mut random = random(3);
    let truth = truth(&layout, &mut random);
    let rows: Vec<Observed> = (0..200).map(|_| observe(&layout, &arms, &truth, &mut random)).collect();
    let sums =
        common::try_fit(&layout, &arms, &Statistics::new(layout.len()), &prior(&layout).mean, &rows).unwrap().sums;
    let mut row = Vec::new();
    let mut there = sums.clone();
    for observed in &rows {
        layout.design(&observed.encoded, observed.arm.map(|arm| &arms[arm as usize]), &mut row);
        there.correct(&row, -observed.reward);
    }
    assert_eq!(there.precision, sums.precision);
    for observed in &rows {
        layout.design(&observed.encoded, observed.arm.map(|arm| &arms[arm as usize]), &mut row);
        there.correct(&row, observed.reward);
    }
    let (a, b) =
        (Posterior::of(&prior(&layout), &there).unwrap().mean, Posterior::of(&prior(&layout), &sums).unwrap().mean);
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9));
}
