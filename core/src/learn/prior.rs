//! The Gaussian prior, and its scales from the data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::posterior::Posterior;
use super::rows::Link;
use super::statistics::Statistics;

/// Prior mean of the base intercept under the logistic link: responses to marketing are rare.
const BASE_LOG_ODDS: f64 = -3.0;

/// Its standard deviation, which is not estimated: one coefficient says nothing of a scale.
const BASE_INTERCEPT: f64 = 3.0;

/// Standard deviations before any data, of log-odds or of what has a residual variance of 1.
pub(super) const BASE: f64 = 0.5;
pub(super) const MAIN: f64 = 0.4;
pub(super) const INTERACTION: f64 = 0.2;
pub(super) const PAIR: f64 = 0.15;

/// The initial scale of a block counts like this many coefficients.
const PSEUDO_COUNT: f64 = 5.0;

/// Scales stay within these bounds: a block is never shut for good, and never free of shrinkage.
const BOUNDS: std::ops::RangeInclusive<f64> = 0.01..=2.0;

/// Converged when no scale moves by more than this share.
const TOLERANCE: f64 = 0.01;

/// Coefficients that share one prior scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub name: String,
    /// Scale before any data.
    pub initial: f64,
    pub coefficients: Vec<usize>,
}

/// Prior standard deviation of each block of a layout, by name; a block that is not there has its initial one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scales(pub BTreeMap<String, f64>);

/// Independent normal priors, one per coefficient.
#[derive(Clone, Debug, PartialEq)]
pub struct Prior {
    pub mean: Vec<f64>,
    pub precision: Vec<f64>,
}

impl Scales {
    fn of(&self, block: &Block) -> f64 {
        self.0.get(&block.name).copied().filter(|scale| BOUNDS.contains(scale)).unwrap_or(block.initial)
    }

    /// Empirical Bayes: scales that make `statistics` most probable, by at most `steps` of MacKay's fixed point
    ///
    /// ```text
    /// 1/s² ← (γ + k) / (Σ (β − m)² + k s₀²),        γ = Σ (1 − Var(β) / s²)
    /// ```
    ///
    /// over the coefficients of a block, where γ says how many of them the data determine and k = 5 coefficients at the
    /// initial scale s₀ keep a block without data where it was (MacKay, "Bayesian interpolation", 1992, §4). Returns the
    /// scales and the posterior under them; `None` if that cannot be solved.
    pub fn estimate(
        &self,
        link: Link,
        layout: &Layout,
        statistics: &Statistics,
        steps: usize,
    ) -> Option<(Scales, Posterior)> {
        let blocks = layout.blocks();
        let mut scales = Scales(blocks.iter().map(|block| (block.name.clone(), self.of(block))).collect());
        let mut posterior = Posterior::of(&Prior::new(link, layout, &scales), statistics)?;
        for _ in 0..steps {
            let prior = Prior::new(link, layout, &scales);
            let errors = posterior.standard_errors();
            let mut moved = 0.0_f64;
            for block in &blocks {
                let scale = scales.of(block);
                let (mut determined, mut squares) = (0.0, 0.0);
                for i in block.coefficients.iter().copied() {
                    determined += (1.0 - errors[i] * errors[i] * prior.precision[i]).clamp(0.0, 1.0);
                    squares += (posterior.mean[i] - prior.mean[i]).powi(2);
                }
                let variance = (squares + PSEUDO_COUNT * block.initial * block.initial) / (determined + PSEUDO_COUNT);
                let updated = variance.sqrt().clamp(*BOUNDS.start(), *BOUNDS.end());
                moved = moved.max((updated / scale).ln().abs());
                scales.0.insert(block.name.clone(), updated);
            }
            posterior = Posterior::of(&Prior::new(link, layout, &scales), statistics)?;
            if moved < TOLERANCE {
                break;
            }
        }
        Some((scales, posterior))
    }
}

impl Prior {
    pub fn new(link: Link, layout: &Layout, scales: &Scales) -> Self {
        let mut mean = vec![0.0; layout.len()];
        let mut precision = vec![BASE_INTERCEPT.powi(-2); layout.len()];
        mean[0] = match link {
            // An offset is expected to have the level right.
            Link::Logistic if layout.offset.is_some() => 0.0,
            Link::Logistic | Link::LogisticAlone => BASE_LOG_ODDS,
            Link::Gaussian => 0.0,
        };
        for block in layout.blocks() {
            let scale = scales.of(&block);
            block.coefficients.iter().for_each(|i| precision[*i] = scale.powi(-2));
        }
        Prior { mean, precision }
    }
}
