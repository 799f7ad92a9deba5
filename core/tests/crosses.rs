//! Products of columns that tell for whom sends work.

mod common;

use common::{dimensions, normal, random, sigmoid, Xoshiro256PlusPlus};
use decisioning_core::features::{Declared, Encoder, Observation, Profile, Value};
use decisioning_core::learn::{
    fit, Arm, CrossSearch, Dimensions, Layout, Link, Misfit, Observed, Prior, Roles, Rows, Scales, Statistics,
};
use rand::RngExt;

const LIMIT: usize = 1024;

fn actions() -> Vec<Dimensions> {
    ["email", "sms"].map(|channel| dimensions(&[("channel", channel)])).to_vec()
}

fn observation(random: &mut Xoshiro256PlusPlus) -> Observation {
    let mut level = |names: [&str; 3]| Value::Text(names[random.random_range(0..3)].to_owned());
    let (city, tier) = (level(["bern", "rom", "ulm"]), level(["gold", "new", "none"]));
    vec![Value::Number(40.0 + 10.0 * normal(random)), city, tier]
}

fn encoder() -> Encoder {
    let declared = [("age", Declared::Numeric), ("city", Declared::Category), ("tier", Declared::Category)];
    let mut profile = Profile::new(declared.map(|(name, declared)| (name.to_owned(), declared)).to_vec(), 1);
    let mut random = random(1);
    (0..3000).for_each(|_| profile.add(observation(&mut random)));
    profile.encoder()
}

fn lay_out(encoder: &Encoder) -> (Layout, Vec<Arm>) {
    let roles = Roles { offset: None, curves: encoder.hinges() };
    let layout = Layout::with_roles(encoder.column_names(), roles, &encoder.variances, &actions(), LIMIT).unwrap();
    let arms = actions().iter().map(|action| layout.arm(action)).collect();
    (layout, arms)
}

/// Decisions of random arms; gold in Rome is for e-mail and against sms by `effect`, beside what age, city and tier do alone.
fn decisions(encoder: &Encoder, count: usize, effect: f64, seed: u64) -> Vec<Observed> {
    let names = encoder.column_names();
    let column = |name: &str| names.iter().position(|column| column == name).unwrap();
    let (age, rom, gold) = (column("age"), column("city = rom"), column("tier = gold"));
    let mut random = random(seed);
    let one = |_| {
        let mut encoded = vec![0.0; encoder.width()];
        encoder.encode(&observation(&mut random), &mut encoded);
        let arm = random.random_range(0..3_u32).checked_sub(1);
        let [age, rom, gold] = [age, rom, gold].map(|column| f64::from(encoded[column]));
        let sent = arm
            .map_or(0.0, |arm| [1.0, -1.0][arm as usize] * (effect * rom * gold + 0.4 * rom - 0.3 * age) + 0.5 * gold);
        let reward = f64::from(u8::from(random.random::<f64>() < sigmoid(sent - 2.5 + 0.3 * age)));
        Observed { encoded, arm, weight: 1.0, reward, reported: 1.0 }
    };
    (0..count).map(one).collect()
}

fn rows(encoder: &Encoder, decisions: &[Observed], threads: usize) -> Rows {
    let mut rows = Rows::new(Link::Logistic, encoder.width()).with_threads(threads);
    for decision in decisions {
        let encoded = encoder.recrossed(decision.encoded.clone());
        rows.push(&Observed { encoded, ..decision.clone() }).unwrap();
    }
    rows
}

/// Pairs of columns, most telling first.
fn found(encoder: &Encoder, decisions: &[Observed], threads: usize) -> Vec<(u32, u32)> {
    let (layout, arms) = lay_out(encoder);
    let rows = rows(encoder, decisions, threads);
    let prior = Prior::new(Link::Logistic, &layout, &Scales::default());
    let nothing = Statistics::new(layout.len());
    let visit = |add: &mut dyn FnMut(&Rows)| -> Result<(), Misfit> {
        add(&rows);
        Ok(())
    };
    let mode = fit(&layout, &prior, &arms, &nothing, &prior.mean, visit).unwrap().mode;
    let mut search = CrossSearch::new(encoder, &layout, &arms, &mode);
    search.add(&rows);
    search.found(CrossSearch::room(encoder, &layout, LIMIT))
}

#[test]
fn what_tells_is_found_and_then_known() {
    let encoder = encoder();
    let decisions = decisions(&encoder, 20_000, 0.8, 3);
    let crosses = found(&encoder, &decisions, 1);
    let crossed = encoder.crossed(&crosses);
    assert_eq!(crossed.column_names()[encoder.width()..], ["city = rom ⋅ tier = gold"]);
    assert_eq!(found(&encoder, &decisions, 2), crosses, "with any number of threads");
    assert_eq!(found(&crossed, &decisions, 1), [], "with it in the model, nothing is left to tell");
}

#[test]
fn chance_is_not_found() {
    let encoder = encoder();
    for seed in 0..300 {
        assert_eq!(found(&encoder, &decisions(&encoder, 3_000, 0.0, seed), 1), [], "seed {seed}");
    }
}

/// One response of a few people who are far from the others in two numbers at once: of so large a product, one says nothing.
#[test]
fn one_response_of_an_extreme_customer_is_not_found() {
    let declared = ["age", "basket"].map(|name| (name.to_owned(), Declared::Numeric));
    let mut profile = Profile::new(declared.to_vec(), 1);
    let mut random = random(2);
    let people: Vec<[f64; 2]> =
        (0..6_000).map(|n| if n % 2 == 0 { [normal(&mut random), 0.0] } else { [0.0, normal(&mut random)] }).collect();
    let observe = |person: &[f64; 2]| person.map(Value::Number).to_vec();
    people.iter().for_each(|person| profile.add(observe(person)));
    let encoder = profile.encoder();
    let decide = |person: &[f64; 2], reward| {
        let mut encoded = vec![0.0; encoder.width()];
        encoder.encode(&observe(person), &mut encoded);
        Observed { encoded, arm: Some(0), weight: 1.0, reward, reported: 1.0 }
    };
    let mut decisions: Vec<Observed> =
        people.iter().enumerate().map(|(n, person)| decide(person, f64::from(u8::from(n % 300 == 1)))).collect();
    let extreme = [[9.0, 9.0], [-9.0, 9.0], [9.0, -9.0], [-9.0, -9.0]];
    decisions.extend(extreme.iter().zip([1.0, 0.0, 0.0, 0.0]).map(|(person, reward)| decide(person, reward)));
    assert_eq!(found(&encoder, &decisions, 1), []);
}

#[test]
fn a_full_model_has_no_room() {
    let encoder = encoder();
    let (layout, _) = lay_out(&encoder);
    assert_eq!(
        CrossSearch::room(&encoder, &layout, layout.len() + 3),
        0,
        "a cross is for the base, sends and two levels"
    );
    assert_eq!(CrossSearch::room(&encoder, &layout, layout.len() + 9), 2);
    assert!((1..20).contains(&CrossSearch::room(&encoder, &layout, usize::MAX)));
    let full = encoder.crossed(&[(1, 6); 8]);
    assert_eq!(CrossSearch::room(&full, &lay_out(&full).0, usize::MAX), 0);
}
