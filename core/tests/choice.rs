//! Propensities are what is drawn, and the best candidate is the best.

mod common;

use common::{context, dimensions, grid, layout, normal, random, sigmoid, Xoshiro256PlusPlus};
use decisioning_core::decide::{choose, propensities, Cost, Policy, Rule, Salt, Terms, Unit};
use decisioning_core::learn::{Arm, DrawBank, Layout, DRAWS};
use decisioning_core::measure::chi_square;
use proptest::prelude::*;
use rand::RngExt;

/// A bank whose numbers come from a closure.
fn bank(layout: &Layout, mut number: impl FnMut() -> f32) -> DrawBank {
    let bytes: Vec<u8> = (0..layout.len() * DRAWS).flat_map(|_| number().to_le_bytes()).collect();
    DrawBank::from_bytes(&bytes, layout.len()).unwrap()
}

/// Log-odds over no-send of every candidate under one draw: the whole design row times the draw, in f64.
fn scores(
    layout: &Layout,
    arms: &[Arm],
    bank: &DrawBank,
    encoded: &[f32],
    candidates: &[Option<usize>],
    draw: usize,
) -> Vec<f64> {
    let mut row = Vec::new();
    let mut log_odds = |arm: Option<&Arm>| {
        layout.design(encoded, arm, &mut row);
        row.iter().map(|(i, x)| x * f64::from(bank.of(*i as usize)[draw])).sum::<f64>()
    };
    let silent = log_odds(None);
    candidates.iter().map(|candidate| log_odds(candidate.map(|arm| &arms[arm])) - silent).collect()
}

fn actions() -> Vec<decisioning_core::learn::Dimensions> {
    let mut actions = grid(&["email", "sms", "push"], &["none", "ten"]);
    actions.push(dimensions(&[("channel", "email")]));
    actions.push(dimensions(&[]));
    actions
}

/// A subset of no-send and the arms, in an order of its own.
fn candidates(arms: usize, random: &mut Xoshiro256PlusPlus) -> Vec<Option<usize>> {
    let mut candidates: Vec<Option<usize>> = std::iter::once(None).chain((0..arms).map(Some)).collect();
    for at in (1..candidates.len()).rev() {
        candidates.swap(at, random.random_range(0..=at));
    }
    candidates.truncate(random.random_range(1..=candidates.len()));
    candidates
}

proptest! {
    #[test]
    fn best_is_the_naive_best(seed: u64, columns in 1..6_usize, limit in 20..200_usize) {
        let mut random = random(seed);
        let names = (0..columns).map(|at| format!("x{at}")).collect();
        // the limit takes columns and pairs out of some blocks and not of others
        let variances: Vec<f64> = (0..columns).map(|at| if at == 0 { 1.0 } else { random.random() }).collect();
        let layout = Layout::new(names, &variances, &actions(), limit).unwrap();
        let arms: Vec<Arm> = actions().iter().map(|action| layout.arm(action)).collect();
        let bank = bank(&layout, || normal(&mut random) as f32);
        let policy = Policy::new(layout.clone(), bank.clone(), &arms);
        let encoded = context(columns, &mut random);
        let candidates = candidates(arms.len(), &mut random);
        for (draw, best) in policy.best(&encoded, &candidates, &Terms::free(arms.len())).into_iter().enumerate() {
            let scores = scores(&layout, &arms, &bank, &encoded, &candidates, draw);
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(scores[best as usize] > highest - 1e-4, "{scores:?} {best}");
        }
    }

    /// With a modelled worth, two kinds of harm, costs and a minimum uplift, against a naive sum in f64.
    #[test]
    fn best_is_worth_most_net_of_costs(seed: u64) {
        let mut random = random(seed);
        let (layout, arms) = layout(3, &actions());
        let mut draw_bank = || bank(&layout, || normal(&mut random) as f32);
        let [response, worth, first, second] = [draw_bank(), draw_bank(), draw_bank(), draw_bank()];
        let unit = Unit { centre: 30.0, scale: 10.0, low: 5.0, high: 90.0 };
        let policy = Policy::new(layout.clone(), response.clone(), &arms)
            .with_worth(worth.clone(), unit, &arms)
            .with_harm(first.clone(), &arms)
            .with_harm(second.clone(), &arms);
        let costs: Vec<Cost> = (0..arms.len())
            .map(|_| Cost { send: random.random(), on_goal: random.random(), on_goal_share: random.random() })
            .collect();
        let terms = Terms { value: f64::NAN, harms: vec![-4.0, -1.0], costs, minimum_uplift: 0.5 };
        let encoded = context(3, &mut random);
        let candidates = candidates(arms.len(), &mut random);
        let mut row = Vec::new();
        let mut predictor = |bank: &DrawBank, candidate: Option<usize>, draw: usize| {
            layout.design(&encoded, candidate.map(|arm| &arms[arm]), &mut row);
            row.iter().map(|(i, x)| x * f64::from(bank.of(*i as usize)[draw])).sum::<f64>()
        };
        for (draw, best) in policy.best(&encoded, &candidates, &terms).into_iter().enumerate() {
            let net: Vec<f64> = candidates
                .iter()
                .map(|candidate| {
                    let cost = candidate.map_or_else(Cost::default, |arm| terms.costs[arm]);
                    let worth = (30.0 + 10.0 * predictor(&worth, *candidate, draw)).clamp(5.0, 90.0);
                    let margin = worth * (1.0 - cost.on_goal_share) - cost.on_goal;
                    sigmoid(predictor(&response, *candidate, draw)) * margin - cost.send
                        - 4.0 * sigmoid(predictor(&first, *candidate, draw))
                        - sigmoid(predictor(&second, *candidate, draw))
                        + if candidate.is_none() { 0.5 } else { 0.0 }
                })
                .collect();
            let highest = net.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(net[best as usize] > highest - 1e-3, "{net:?} {best}");
        }
    }

    /// Small whole numbers are exact in f32, so ties are ties.
    #[test]
    fn ties_go_to_the_earlier_candidate(seed: u64) {
        let mut random = random(seed);
        let (layout, arms) = layout(3, &actions());
        let bank = bank(&layout, || random.random_range(-1..=1_i8).into());
        let policy = Policy::new(layout.clone(), bank.clone(), &arms);
        let encoded = [1.0, random.random_range(-1..=1_i8).into(), random.random_range(-1..=1_i8).into()];
        let candidates = candidates(arms.len(), &mut random);
        for (draw, best) in policy.best(&encoded, &candidates, &Terms::free(arms.len())).into_iter().enumerate() {
            let scores = scores(&layout, &arms, &bank, &encoded, &candidates, draw);
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!(best as usize, scores.iter().position(|score| *score == highest).unwrap());
        }
    }

    #[test]
    fn propensities_are_a_distribution(seed: u64, floor in 0.0..=0.1_f64, no_send in 0.0..=1.0_f64) {
        let mut random = random(seed);
        let (layout, arms) = layout(3, &actions());
        let bank = bank(&layout, || normal(&mut random) as f32);
        let policy = Policy::new(layout, bank, &arms);
        let encoded = context(3, &mut random);
        let candidates = candidates(arms.len(), &mut random);
        let n = candidates.len() as f64;

        let learned = propensities(&Rule::Learned { policy: &policy, terms: &Terms::free(arms.len()), encoded: &encoded, floor }, &candidates);
        prop_assert_eq!(learned.len(), candidates.len());
        prop_assert!((learned.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(learned.iter().all(|p| *p >= floor / n - 1e-15));
        let best = policy.best(&encoded, &candidates, &Terms::free(arms.len()));
        for (at, p) in learned.iter().enumerate() {
            let wins = best.iter().filter(|best| **best as usize == at).count() as f64;
            prop_assert!((p - ((1.0 - floor) * wins / DRAWS as f64 + floor / n)).abs() < 1e-12);
        }

        let even = propensities(&Rule::Random { no_send }, &candidates);
        prop_assert!((even.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let silent = candidates.iter().position(Option::is_none);
        for (at, p) in even.iter().enumerate() {
            let expected = match silent {
                Some(_) if candidates.len() == 1 => 1.0,
                Some(silent) if silent == at => no_send,
                Some(_) => (1.0 - no_send) / (n - 1.0),
                None => 1.0 / n,
            };
            prop_assert!((p - expected).abs() < 1e-12);
        }

        let fixed = propensities(&Rule::Fixed(candidates.len() - 1), &candidates);
        prop_assert_eq!(fixed.iter().sum::<f64>(), 1.0);
        prop_assert_eq!(fixed[candidates.len() - 1], 1.0);
    }

    /// What choose reports is what propensities says, and a choice never falls on a candidate without probability.
    #[test]
    fn a_choice_carries_its_propensities(seed: u64, floor in 0.0..=0.1_f64) {
        let mut random = random(seed);
        let (layout, arms) = layout(2, &actions());
        let bank = bank(&layout, || normal(&mut random) as f32);
        let policy = Policy::new(layout, bank, &arms);
        let encoded = context(2, &mut random);
        let candidates = candidates(arms.len(), &mut random);
        let fixed = random.random_range(0..candidates.len());
        for rule in [
            Rule::Learned { policy: &policy, terms: &Terms::free(arms.len()), encoded: &encoded, floor },
            Rule::Random { no_send: 0.5 },
            Rule::Random { no_send: 0.0 },
            Rule::Random { no_send: 1.0 },
            Rule::Fixed(fixed),
        ] {
            let (mut once, mut again) = (random.clone(), random.clone());
            let choice = choose(&rule, &candidates, &mut once);
            prop_assert_eq!(&choice.propensities, &propensities(&rule, &candidates));
            prop_assert!(choice.propensities[choice.chosen] > 0.0);
            prop_assert_eq!(&choice, &choose(&rule, &candidates, &mut again));
        }
    }

    /// Losing a candidate that no draw prefers leaves every win where it was.
    #[test]
    fn removing_a_loser_changes_no_winner(seed: u64) {
        let mut random = random(seed);
        let (layout, arms) = layout(3, &actions());
        let bank = bank(&layout, || normal(&mut random) as f32);
        let policy = Policy::new(layout, bank, &arms);
        let encoded = context(3, &mut random);
        let candidates = candidates(arms.len(), &mut random);
        let terms = Terms::free(arms.len());
        let winners = |candidates: &[Option<usize>]| policy.best(&encoded, candidates, &terms).map(|at| candidates[at as usize]);
        let before = winners(&candidates);
        for at in 0..candidates.len() {
            if candidates.len() > 1 && !before.contains(&candidates[at]) {
                let mut rest = candidates.clone();
                rest.remove(at);
                prop_assert_eq!(winners(&rest), before);
            }
        }
    }
}

/// 20 000 customers, each with the seed of a decision of his own, choose as often as the propensities say.
fn assert_frequencies(rule: &Rule<'_>, candidates: &[Option<usize>]) {
    let salt = Salt([9; 16]);
    let expected = propensities(rule, candidates);
    let mut counts = vec![0.0; candidates.len()];
    for customer in 0..20_000 {
        let choice = choose(rule, candidates, &mut salt.random(&format!("customer-{customer}"), 1));
        counts[choice.chosen] += 1.0;
    }
    let expected: Vec<f64> = expected.iter().map(|p| 20_000.0 * p).collect();
    for (count, expected) in counts.iter().zip(&expected) {
        assert!(*count == 0.0 || *expected > 0.0, "chosen without a propensity");
    }
    if expected.iter().filter(|expected| **expected > 0.0).count() > 1 {
        let (_, p) = chi_square(&counts, &expected).unwrap();
        assert!(p > 0.001, "{p}: {counts:?} for {expected:?}");
    }
}

#[test]
fn frequencies_match_propensities() {
    let mut random = random(21);
    let (layout, arms) = layout(3, &actions());
    let bank = bank(&layout, || normal(&mut random) as f32);
    let policy = Policy::new(layout, bank, &arms);
    let encoded = [1.0, 0.7, -0.4];
    let mut candidates: Vec<Option<usize>> = std::iter::once(None).chain((0..arms.len()).map(Some)).collect();
    // as guardrails take one candidate after the other, no-send among them
    while !candidates.is_empty() {
        for floor in [0.0, 0.02, 0.1] {
            assert_frequencies(
                &Rule::Learned { policy: &policy, terms: &Terms::free(arms.len()), encoded: &encoded, floor },
                &candidates,
            );
        }
        for no_send in [0.0, 0.5, 1.0] {
            assert_frequencies(&Rule::Random { no_send }, &candidates);
        }
        assert_frequencies(&Rule::Fixed(candidates.len() / 2), &candidates);
        candidates.remove(random.random_range(0..candidates.len()));
    }
}

#[test]
fn no_send_alone_is_chosen_for_certain() {
    let (layout, arms) = layout(2, &actions());
    let policy = Policy::new(layout.clone(), bank(&layout, || 1.0), &arms);
    let learned = Rule::Learned { policy: &policy, terms: &Terms::free(arms.len()), encoded: &[1.0, 0.5], floor: 0.02 };
    for rule in [learned, Rule::Random { no_send: 0.5 }, Rule::Random { no_send: 0.0 }, Rule::Fixed(0)] {
        let choice = choose(&rule, &[None], &mut random(1));
        assert_eq!(choice.chosen, 0);
        assert_eq!(choice.propensities.len(), 1);
        assert!((choice.propensities[0] - 1.0).abs() < 1e-15);
    }
}

#[test]
fn random_without_a_no_send_is_even_over_the_sends() {
    let rule = Rule::Random { no_send: 0.5 };
    assert_eq!(propensities(&rule, &[Some(3), Some(0)]), [0.5, 0.5]);
    assert_eq!(propensities(&rule, &[Some(3), None, Some(0)]), [0.25, 0.5, 0.25]);
    assert_eq!(propensities(&rule, &[Some(7)]), [1.0]);
}

/// No uplift in any draw: never sent but for the floor.
#[test]
fn a_harmful_action_is_left_to_the_floor() {
    let (layout, arms) = layout(1, &[dimensions(&[("channel", "email")])]);
    let policy = Policy::new(layout.clone(), bank(&layout, || -0.1), &arms);
    let rule = Rule::Learned { policy: &policy, terms: &Terms::free(arms.len()), encoded: &[1.0], floor: 0.02 };
    let found = propensities(&rule, &[None, Some(0)]);
    assert!((found[0] - 0.99).abs() < 1e-12 && (found[1] - 0.01).abs() < 1e-12, "{found:?}");
}
