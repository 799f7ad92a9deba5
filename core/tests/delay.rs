//! Decisions whose window is still open: not yet is not zero.

mod common;

use common::{dimensions, layout, random, sigmoid};
use decisioning_core::learn::Observed;
use rand::RngExt;

/// How a silent open decision is counted.
#[derive(Clone, Copy, PartialEq)]
enum Counting {
    /// With the likelihood 1 − F p.
    Likelihood,
    /// Every row by F, seen ones too: estimates F p.
    AllByF,
    /// As if nothing could still come.
    AsZero,
}

/// Estimates a response rate from open decisions of all ages whose delay is uniform: F(age) = age.
fn estimate(rate: f64, counting: Counting, seed: u64) -> f64 {
    let (layout, arms) = layout(1, &[dimensions(&[("channel", "email")])]);
    let mut random = random(seed);
    let rows: Vec<Observed> = (0..20_000)
        .map(|_| {
            let age: f64 = random.random_range(0.1..0.9);
            let seen = random.random::<f64>() < rate && random.random::<f64>() < age;
            let reward = f64::from(u8::from(seen));
            let (weight, reported) = match counting {
                Counting::Likelihood => (1.0, age),
                Counting::AllByF => (age, 1.0),
                Counting::AsZero => (1.0, 1.0),
            };
            Observed { encoded: vec![1.0], arm: None, weight, reward, reported }
        })
        .collect();
    sigmoid(common::refit(&layout, &arms, &rows).mean[0])
}

/// Mean over seeds, relative to the truth.
fn relative(rate: f64, counting: Counting) -> f64 {
    (0..20).map(|seed| estimate(rate, counting, seed)).sum::<f64>() / 20.0 / rate
}

#[test]
fn open_decisions_do_not_bias_rates() {
    for rate in [0.02, 0.2, 0.45, 0.8] {
        let found = relative(rate, Counting::Likelihood);
        // standard error of the mean of 20 at the lowest rate: about 1.6 %
        assert!((found - 1.0).abs() < 0.04, "{rate}: {found}");
    }
}

#[test]
fn simpler_countings_are_biased() {
    // E F² / E F = 0.607 for ages uniform in 0.1..0.9
    let all = relative(0.02, Counting::AllByF);
    assert!((all - 0.607).abs() < 0.04, "{all}");
    let zero = relative(0.02, Counting::AsZero);
    assert!((zero - 0.5).abs() < 0.04, "{zero}");
}
