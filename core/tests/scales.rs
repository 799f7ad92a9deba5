//! Prior scales from the data: what matters is shrunk little, what does not matter much.

mod common;

use common::{absorb, dimensions, prior, random, sigmoid};
use decisioning_core::learn::{Arm, Layout, Link, Observed, Scales, Statistics};
use rand::RngExt;

/// Two offers; three cities and three tiers, one column each.
fn layout() -> (Layout, Vec<Arm>) {
    let columns = ["intercept", "city = a", "city = b", "city = c", "tier = a", "tier = b", "tier = c"];
    let actions = ["ten", "none"].map(|offer| dimensions(&[("offer", offer)]));
    let layout = Layout::new(columns.map(str::to_owned).to_vec(), &[1.0; 7], &actions, 1024).unwrap();
    let arms = actions.iter().map(|action| layout.arm(action)).collect();
    (layout, arms)
}

fn estimate(layout: &Layout, worlds: &[&Statistics]) -> Scales {
    Scales::default().estimate(Link::Logistic, layout, worlds, 50, || ()).unwrap()
}

#[test]
fn without_data_nothing_moves() {
    let (layout, _) = layout();
    let scales = estimate(&layout, &[&Statistics::new(layout.len())]);
    for block in layout.blocks() {
        assert!((scales.0[&block.name] - block.initial).abs() < 1e-9, "{} {:?}", block.name, scales);
    }
}

/// Sums over decisions where the city decides which offer works, by `effect`; nothing depends on the tier.
fn sums(effect: f64) -> Statistics {
    let (layout, arms) = layout();
    let mut random = random(4);
    let mut rows = Vec::new();
    for _ in 0..20_000 {
        let (city, tier, arm) = (random.random_range(0..3), random.random_range(0..3), random.random_range(0..2_u32));
        let mut encoded = vec![0.0; 7];
        encoded[0] = 1.0;
        encoded[1 + city] = 1.0;
        encoded[4 + tier] = 1.0;
        let effect = [effect, -effect, 0.0][city] * if arm == 0 { 0.5 } else { -0.5 };
        let reward = f64::from(u8::from(random.random::<f64>() < sigmoid(effect - 1.0)));
        rows.push(Observed { encoded, arm: Some(arm), weight: 1.0, reward, reported: 1.0 });
    }
    let mut sums = Statistics::new(layout.len());
    absorb(&layout, &arms, &mut sums, &prior(&layout).mean, &rows);
    sums
}

#[test]
fn a_feature_that_matters_has_a_scale_of_its_own() {
    let (layout, _) = layout();
    let scales = estimate(&layout, &[&sums(1.2)]);
    let (city, tier) = (scales.0["dimension offer × city"], scales.0["dimension offer × tier"]);
    assert!(city > 0.3 && tier < 0.5 * city, "{scales:?}");
}

#[test]
fn an_effect_that_turns_around_is_as_large_as_it_was() {
    let (layout, _) = layout();
    let (before, since) = (sums(1.2), sums(-1.2));
    let mut all = before.clone();
    all.merge(&since);
    let scale = |worlds: &[&Statistics]| estimate(&layout, worlds).0["dimension offer × city"];
    let once = scale(&[&before]);
    assert!((scale(&[&before, &since]) / once - 1.0).abs() < 0.2);
    assert!(scale(&[&all]) < 0.5 * once, "as one world it seems small");
    // A world that nothing is known of says nothing.
    assert!((scale(&[&before, &Statistics::new(layout.len())]) - once).abs() < 1e-9);
}
