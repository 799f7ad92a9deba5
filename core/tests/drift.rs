//! How far a world has drifted, and what the past is then still worth.

mod common;

use common::{covariance, grid, layout, log_odds, normal, observe, prior, random, truth, try_fit, Xoshiro256PlusPlus};
use decisioning_core::learn::{Arm, Drift, Layout, Observed, Posterior, Statistics};

/// 95 % quantile of the standard normal: ± this many standard errors hold 90 %.
const Z: f64 = 1.6448536269514722;

/// A world, and the one that it becomes.
struct World {
    layout: Layout,
    arms: Vec<Arm>,
    before: Vec<f64>,
    after: Vec<f64>,
    random: Xoshiro256PlusPlus,
}

/// What is known of it.
struct Known {
    past: Statistics,
    present: Statistics,
    drift: Option<Drift>,
    posterior: Posterior,
}

impl World {
    /// `share` of the variance of what sends do is new.
    fn new(share: f64, seed: u64) -> Self {
        World::with(|_| share, seed)
    }

    /// The same by lever.
    fn with(share_of: impl Fn(&str) -> f64, seed: u64) -> Self {
        let (layout, arms) = layout(4, &grid(&["email", "sms"], &["none", "ten", "twenty"]));
        let mut random = random(seed);
        let mut before = truth(&layout, &mut random);
        before[0] = -1.5;
        let prior = prior(&layout);
        let mut after = before.clone();
        let shares = by_coefficient(&layout, share_of);
        for (at, x) in after.iter_mut().enumerate() {
            *x = prior.mean[at]
                + (1.0 - shares[at]).sqrt() * (*x - prior.mean[at])
                + (shares[at] / prior.precision[at]).sqrt() * normal(&mut random);
        }
        World { layout, arms, before, after, random }
    }

    fn known(&mut self, past: usize, present: usize) -> Known {
        let mut rows = |truth: &[f64], count: usize| -> Vec<Observed> {
            (0..count).map(|_| observe(&self.layout, &self.arms, truth, &mut self.random)).collect()
        };
        let (past, present) = (rows(&self.before, past), rows(&self.after, present));
        let prior = prior(&self.layout);
        let fit = |closed: &Statistics, rows: &[Observed]| {
            try_fit(&self.layout, &self.arms, closed, &prior.mean, rows).unwrap().sums
        };
        let past = fit(&Statistics::new(self.layout.len()), &past);
        let together = fit(&past, &present);
        let drift = Drift::estimate(&self.layout, &prior, &[&past, &together], || ());
        let mut sums = drift.as_ref().map_or_else(|| past.clone(), |drift| drift.past.clone());
        let now = fit(&sums, &present);
        sums.merge(&now);
        let posterior = Posterior::of(&prior, &sums).unwrap();
        Known { past, present: together, drift, posterior }
    }

    /// Root of the mean square error of what sends do, over contexts and arms.
    fn error(&self, mean: &[f64]) -> f64 {
        let mut random = random(9);
        let mut squares = 0.0;
        for _ in 0..200 {
            let encoded = common::context(4, &mut random);
            for arm in &self.arms {
                let uplift = |coefficients: &[f64]| {
                    let of = |arm| log_odds(&self.layout, coefficients, &encoded, arm);
                    of(Some(arm)) - of(None)
                };
                squares += (uplift(mean) - uplift(&self.after)).powi(2) / (200.0 * self.arms.len() as f64);
            }
        }
        squares.sqrt()
    }

    /// The posterior of someone who takes the past for the present.
    fn undrifted(&self, known: &Known) -> Posterior {
        let mut sums = known.past.clone();
        sums.merge(&known.present);
        Posterior::of(&prior(&self.layout), &sums).unwrap()
    }
}

/// The share of the lever of each coefficient; none for the base.
fn by_coefficient(layout: &Layout, share_of: impl Fn(&str) -> f64) -> Vec<f64> {
    let mut shares = vec![0.0; layout.len()];
    for (lever, coefficients) in layout.levers() {
        coefficients.into_iter().for_each(|at| shares[at] = share_of(&lever));
    }
    shares
}

/// The share that was found, on average over effects, of all levers or of one.
fn share(known: &Known, layout: &Layout, of: Option<&str>) -> f64 {
    let Some(drift) = &known.drift else { return 0.0 };
    let shares = layout.levers().into_iter().filter(|(lever, _)| of.is_none_or(|of| lever == of));
    mean(shares.flat_map(|(lever, effects)| effects.into_iter().map(move |_| drift.shares[&lever])))
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_share_follows_the_world() {
    let found = [0.0, 0.1, 0.4, 0.8].map(|share_of_world| {
        mean((0..12).map(|seed| {
            let mut world = World::new(share_of_world, seed);
            share(&world.known(8_000, 8_000), &world.layout, None)
        }))
    });
    assert!(found[0] < 0.02, "{found:?}");
    assert!((0.05..0.2).contains(&found[1]), "{found:?}");
    assert!((0.25..0.6).contains(&found[2]), "{found:?}");
    assert!(found[3] > 0.5, "{found:?}");
}

/// One lever drifts; what the past knows of the others stays.
#[test]
fn the_lever_that_drifted_is_found() {
    let offers = |lever: &str| if lever == "dimension offer" { 0.85 } else { 0.0 };
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for seed in 60..72 {
        let mut world = World::with(offers, seed);
        let known = world.known(10_000, 3_000);
        let of = |lever| share(&known, &world.layout, Some(lever));
        found.push([of("dimension offer"), of("dimension channel")]);
        errors.push([world.error(&known.posterior.mean), world.error(&world.undrifted(&known).mean)]);
    }
    let [offer, channel] = [0, 1].map(|at| mean(found.iter().map(|shares| shares[at])));
    assert!(offer > 0.5 && channel < 0.1, "{offer} {channel}");
    let [with, without] = [0, 1].map(|at| mean(errors.iter().map(|errors| errors[at])));
    assert!(with < 0.8 * without, "{with} {without}");
}

#[test]
fn a_world_that_drifted_is_known_better() {
    let errors = |share: f64| {
        let errors = (20..32).map(|seed| {
            let mut world = World::new(share, seed);
            let known = world.known(10_000, 2_000);
            (world.error(&known.posterior.mean), world.error(&world.undrifted(&known).mean))
        });
        let (with, without): (Vec<f64>, Vec<f64>) = errors.unzip();
        (mean(with), mean(without))
    };
    let (with, without) = errors(0.8);
    assert!(with < 0.8 * without, "{with} {without}");
    let (with, without) = errors(0.0);
    assert!(with < 1.1 * without, "where nothing drifted, little is lost: {with} {without}");
}

#[test]
fn nine_in_ten_intervals_hold_the_truth_after_a_drift() {
    for share in [0.0, 0.3, 0.8] {
        let (mut inside, mut naive, mut count) = (0.0, 0.0, 0.0);
        for seed in 100..160 {
            let mut world = World::new(share, seed);
            let known = world.known(4_000, 1_000);
            let holds = |posterior: &Posterior, i: usize, error: f64| {
                f64::from(u8::from((posterior.mean[i] - world.after[i]).abs() <= Z * error))
            };
            let undrifted = world.undrifted(&known);
            let (errors, narrow) = (known.posterior.standard_errors(), undrifted.standard_errors());
            for i in world.layout.send_offset()..world.layout.len() {
                inside += holds(&known.posterior, i, errors[i]);
                naive += holds(&undrifted, i, narrow[i]);
                count += 1.0;
            }
        }
        let (inside, naive) = (inside / count, naive / count);
        assert!((0.85..=0.95).contains(&inside), "{share}: {inside}");
        assert!(share < 0.5 || naive < 0.85, "the test has no power: {naive}");
    }
}

/// Covariance and mean of the past after a drift, against the definition.
#[test]
fn effects_move_as_the_process_says() {
    let mut world = World::new(0.5, 3);
    let known = world.known(3_000, 1_500);
    let drift = known.drift.expect("half of the world is new");
    let layout = &world.layout;
    let prior = prior(layout);
    let shares = by_coefficient(layout, |lever| drift.shares[lever]);
    let kept = |i: usize| (1.0 - shares[i]).sqrt();
    let (before, after) = (covariance(layout, &known.past), covariance(layout, &drift.past));
    let means = [&known.past, &drift.past].map(|sums| Posterior::of(&prior, sums).unwrap().mean);
    for i in 0..layout.len() {
        let moved = prior.mean[i] + kept(i) * (means[0][i] - prior.mean[i]);
        assert!((means[1][i] - moved).abs() < 1e-8, "mean of {i}: {} {moved}", means[1][i]);
        for j in 0..layout.len() {
            let noise = if i == j { shares[i] / prior.precision[i] } else { 0.0 };
            let expected = kept(i) * kept(j) * before[i][j] + noise;
            assert!((after[i][j] - expected).abs() < 1e-9, "{i}, {j}: {} {expected}", after[i][j]);
        }
    }
}

#[test]
fn without_a_past_or_a_present_there_is_no_drift() {
    let mut world = World::new(0.8, 4);
    let known = world.known(500, 500);
    let nothing = Statistics::new(world.layout.len());
    let prior = prior(&world.layout);
    let drift = |stages: &[&Statistics]| Drift::estimate(&world.layout, &prior, stages, || ());
    assert!(drift(&[]).is_none());
    assert!(drift(&[&known.past]).is_none());
    assert!(drift(&[&nothing, &known.present]).is_none());
    assert!(drift(&[&known.past, &nothing, &nothing]).is_none());
    assert!(drift(&[&known.past, &nothing, &known.present]).is_some());
}

/// Three stages, of which only the last is after the drift.
#[test]
fn the_stage_before_which_it_was_is_found() {
    let late = (40..52)
        .filter(|seed| {
            let mut world = World::new(0.8, *seed);
            let known = world.known(8_000, 3_000);
            let prior = prior(&world.layout);
            let rows: Vec<Observed> =
                (0..3_000).map(|_| observe(&world.layout, &world.arms, &world.before, &mut world.random)).collect();
            let still = try_fit(&world.layout, &world.arms, &known.past, &prior.mean, &rows).unwrap().sums;
            let drift = Drift::estimate(&world.layout, &prior, &[&known.past, &still, &known.present], || ()).unwrap();
            drift.before == 2
        })
        .count();
    assert!(late >= 11, "{late} of 12");
}
