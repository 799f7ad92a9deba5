//! Insights in worlds with planted effects, and in worlds without.

use decisioning_core::measure::{insights, Insight};

#[path = "../benches/statistics/audience.rs"]
mod audience;

use audience::{log, Effects, ACTIVITIES};

const RATE: f64 = 0.1;

fn found(seed: u64, effects: Effects) -> Vec<Insight> {
    found_of(6000, seed, effects)
}

fn found_of(customers: usize, seed: u64, effects: Effects) -> Vec<Insight> {
    insights(&mut log(seed, customers, 10, effects), RATE, 20, &mut || {})
}

#[test]
fn planted_effects_are_found_with_their_sign_and_size() {
    // What makes responses rarer takes more customers to be seen.
    for (factor, customers, least) in [(2.5, 6000, 27), (0.4, 16_000, 24)] {
        let effects = Effects { single: Some(factor), pair: None };
        let (mut confirmed, mut covered) = (0, 0);
        for seed in 0..30 {
            let planted = found_of(customers, seed, effects).into_iter().find(|insight| {
                insight.segment == format!("top_activity = {}", ACTIVITIES[2]) && insight.level == "swimming"
            });
            let Some((planted, seen)) = planted.and_then(|planted| Some((planted.clone(), planted.seen?))) else {
                continue;
            };
            confirmed += usize::from(planted.confirmed && (seen.ratio.estimate > 1.0) == (factor > 1.0));
            covered += usize::from((seen.ratio.lower..=seen.ratio.upper).contains(&factor));
            assert!((seen.inside / seen.outside / seen.ratio.estimate - 1.0).abs() < 1e-9);
            assert!((seen.rate / seen.baseline / seen.inside - 1.0).abs() < 1e-9);
        }
        assert!(confirmed >= least, "{factor}: confirmed in {confirmed} of 30 worlds");
        // 90 %: fewer than 24 of 30 would be chance of less than one in a hundred.
        assert!(covered * 30 >= confirmed * 24, "{factor}: covered in {covered} of {confirmed}");
    }
}

#[test]
fn an_effect_that_needs_two_features_is_found_in_both() {
    let effects = Effects { single: None, pair: Some(3.0) };
    let segments: Vec<String> = (0..20)
        .flat_map(|seed| found(seed, effects))
        .filter(|insight| insight.confirmed && insight.level == "sms")
        .map(|insight| insight.segment)
        .collect();
    let both = segments.iter().filter(|segment| segment.contains("country = FR") && segment.contains("member = true"));
    assert!(both.count() >= 12, "{segments:?}");
}

#[test]
fn one_feature_is_not_told_twice() {
    let effects = Effects { single: Some(2.5), pair: None };
    let all: Vec<Insight> = (0..20).flat_map(|seed| found(seed, effects)).filter(|insight| insight.confirmed).collect();
    let pairs = all.iter().filter(|insight| insight.segment.contains(" and ")).count();
    assert!(pairs * 20 <= all.len(), "{pairs} of {}", all.len());
}

#[test]
fn without_effects_there_is_nothing_to_find() {
    let worlds: Vec<Vec<Insight>> = (100..160).map(|seed| found(seed, Effects::default())).collect();
    let any = worlds.iter().filter(|found| !found.is_empty()).count();
    let confirmed = worlds.iter().filter(|found| found.iter().any(|insight| insight.confirmed)).count();
    // Every discovery is false, so that the false-discovery rate is the share of worlds with any: 0.1, and by chance at most 13 of 60.
    assert!(any <= 13 && confirmed <= 2, "{any} worlds with findings, {confirmed} with confirmed ones");
}

#[test]
fn what_is_found_does_not_hang_on_the_run() {
    let effects = Effects { single: Some(2.5), pair: None };
    assert_eq!(found(1, effects), found(1, effects));
}
