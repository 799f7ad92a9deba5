//! Worlds to learn in.
#![allow(dead_code)] // every test file uses its part

use decisioning_core::learn::{
    fit, Arm, Dimensions, Fit, FitError, Layout, Link, Misfit, Observed, Posterior, Prior, Rows, Scales, Statistics,
};
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
pub use rand_xoshiro::Xoshiro256PlusPlus;

pub fn dimensions(levels: &[(&str, &str)]) -> Dimensions {
    levels.iter().map(|(d, l)| ((*d).to_owned(), (*l).to_owned())).collect()
}

/// Columns `intercept`, `x1`, …, all varying alike.
pub fn layout(columns: usize, actions: &[Dimensions]) -> (Layout, Vec<Arm>) {
    let names = (0..columns).map(|at| if at == 0 { "intercept".to_owned() } else { format!("x{at}") }).collect();
    let layout = Layout::new(names, &vec![1.0; columns], actions, 1024).unwrap();
    let arms = actions.iter().map(|action| layout.arm(action)).collect();
    (layout, arms)
}

/// Every combination of channels and offers.
pub fn grid(channels: &[&str], offers: &[&str]) -> Vec<Dimensions> {
    let pairs = channels.iter().flat_map(|channel| offers.iter().map(move |offer| (channel, offer)));
    pairs.map(|(channel, offer)| dimensions(&[("channel", channel), ("offer", offer)])).collect()
}

pub fn random(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

pub fn normal(random: &mut Xoshiro256PlusPlus) -> f64 {
    random.sample(StandardNormal)
}

pub fn sigmoid(eta: f64) -> f64 {
    1.0 / (1.0 + (-eta).exp())
}

pub fn log_odds(layout: &Layout, coefficients: &[f64], encoded: &[f32], arm: Option<&Arm>) -> f64 {
    let mut row = Vec::new();
    layout.design(encoded, arm, &mut row);
    row.iter().map(|(i, x)| coefficients[*i as usize] * x).sum()
}

/// An intercept and standard normals.
pub fn context(columns: usize, random: &mut Xoshiro256PlusPlus) -> Vec<f32> {
    (0..columns).map(|at| if at == 0 { 1.0 } else { normal(random) as f32 }).collect()
}

/// The prior before any data.
pub fn prior(layout: &Layout) -> Prior {
    Prior::new(Link::Logistic, layout, &Scales::default())
}

/// A draw from the prior.
pub fn truth(layout: &Layout, random: &mut Xoshiro256PlusPlus) -> Vec<f64> {
    let Prior { mean, precision } = prior(layout);
    mean.iter().zip(precision).map(|(mean, precision)| mean + normal(random) / precision.sqrt()).collect()
}

/// A decision of a random arm (no-send as likely as any), answered as `truth` has it.
pub fn observe(layout: &Layout, arms: &[Arm], truth: &[f64], random: &mut Xoshiro256PlusPlus) -> Observed {
    let encoded = context(layout.columns.len(), random);
    let arm = random.random_range(0..=arms.len()).checked_sub(1);
    let p = sigmoid(log_odds(layout, truth, &encoded, arm.map(|arm| &arms[arm])));
    let reward = f64::from(u8::from(random.random::<f64>() < p));
    Observed { encoded, arm: arm.map(|arm| arm as u32), weight: 1.0, reward, reported: 1.0 }
}

pub fn try_fit(
    layout: &Layout,
    arms: &[Arm],
    closed: &Statistics,
    start: &[f64],
    rows: &[Observed],
) -> Result<Fit, FitError<Misfit>> {
    fit(layout, &prior(layout), arms, closed, start, |add| {
        add(&Rows::collect(Link::Logistic, layout.columns.len(), rows)?);
        Ok(())
    })
}

/// What a rebuild does: the mode of all rows, from nothing.
pub fn refit(layout: &Layout, arms: &[Arm], rows: &[Observed]) -> Posterior {
    let prior = prior(layout);
    let sums = try_fit(layout, arms, &Statistics::new(layout.len()), &prior.mean, rows).unwrap().sums;
    Posterior::of(&prior, &sums).unwrap()
}

/// What `learn` does: absorbs new rows into the sums, and returns the new mean.
pub fn absorb(layout: &Layout, arms: &[Arm], closed: &mut Statistics, start: &[f64], rows: &[Observed]) -> Vec<f64> {
    let sums = try_fit(layout, arms, closed, start, rows).unwrap().sums;
    closed.merge(&sums);
    Posterior::of(&prior(layout), closed).unwrap().mean
}

/// Prior precision + Λ, inverted by Gauss–Jordan: independent of the solver under test.
pub fn covariance(layout: &Layout, statistics: &Statistics) -> Vec<Vec<f64>> {
    let prior = prior(layout).precision;
    let len = layout.len();
    let mut matrix: Vec<Vec<f64>> = (0..len)
        .map(|i| {
            let entry = |j: usize| statistics.precision[i.max(j) * (i.max(j) + 1) / 2 + i.min(j)];
            let identity = (0..len).map(|j| f64::from(u8::from(i == j)));
            (0..len).map(|j| entry(j) + if i == j { prior[i] } else { 0.0 }).chain(identity).collect()
        })
        .collect();
    for pivot in 0..len {
        let scale = matrix[pivot][pivot];
        matrix[pivot].iter_mut().for_each(|x| *x /= scale);
        let row = matrix[pivot].clone();
        for (_, other) in matrix.iter_mut().enumerate().filter(|(i, _)| *i != pivot) {
            let factor = other[pivot];
            other.iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
        }
    }
    matrix.into_iter().map(|row| row[len..].to_vec()).collect()
}
