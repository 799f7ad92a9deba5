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
pub(super) const CURVE: f64 = 0.3;
pub(super) const MAIN: f64 = 0.4;
pub(super) const INTERACTION: f64 = 0.2;
pub(super) const PAIR: f64 = 0.15;

/// The initial scale of a family of blocks counts like this many coefficients. With 5, worlds whose effects are ten times as
/// large as those of marketing let go of it too slowly.
const FAMILY_COUNT: f64 = 1.0;

/// The scale of its family counts in a block like this many coefficients. In simulations 1 did better than 3 and 5, and all
/// three better than one scale for the whole family.
const BLOCK_COUNT: f64 = 1.0;

/// Scales stay within these bounds: a block is never shut for good, and never free of shrinkage.
const BOUNDS: std::ops::RangeInclusive<f64> = 0.01..=2.0;

/// Converged when no scale moves by more than this share.
const TOLERANCE: f64 = 0.01;

/// Coefficients that share one prior scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub name: String,
    /// Blocks of one family learn of their scales from each other.
    pub family: String,
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

/// What data say of the scale of some coefficients.
#[derive(Clone, Copy, Default)]
struct Evidence {
    /// How many of them the data determine.
    determined: f64,
    squares: f64,
}

impl Evidence {
    /// Their variance, when `count` more have the variance `prior`.
    fn variance(self, prior: f64, count: f64) -> f64 {
        (self.squares + count * prior) / (self.determined + count)
    }
}

impl Scales {
    fn of(&self, block: &Block) -> f64 {
        self.0.get(&block.name).copied().filter(|scale| BOUNDS.contains(scale)).unwrap_or(block.initial)
    }

    /// Empirical Bayes: scales that make what is summed up of some worlds most probable, by at most `steps` of MacKay's fixed point
    ///
    /// ```text
    /// s² ← (Σ (β − m)² + l S²) / (γ + l),        γ = Σ (1 − Var(β) / s²)
    /// ```
    ///
    /// over the coefficients of a block in every world, where γ says how many of them the data determine (MacKay, "Bayesian
    /// interpolation", 1992, §4). S² is the same over all blocks of the family, with one coefficient at the initial scale instead of
    /// l = 1 at S: a block without data takes after its family, and a family without data stays where it was. There is more than one
    /// world where it has drifted: effects that turn around would cancel out in the sums of all, and seem small. `None` if the
    /// posterior of one cannot be solved. `tick` is called between steps, for whoever may want to stop.
    pub fn estimate(
        &self,
        link: Link,
        layout: &Layout,
        worlds: &[&Statistics],
        steps: usize,
        mut tick: impl FnMut(),
    ) -> Option<Scales> {
        let blocks = layout.blocks();
        let mut scales = Scales(blocks.iter().map(|block| (block.name.clone(), self.of(block))).collect());
        for _ in 0..steps {
            tick();
            let prior = Prior::new(link, layout, &scales);
            let mut found = vec![Evidence::default(); blocks.len()];
            for world in worlds {
                let posterior = Posterior::of(&prior, world)?;
                let errors = posterior.standard_errors();
                for (evidence, block) in found.iter_mut().zip(&blocks) {
                    for i in &block.coefficients {
                        evidence.determined += (1.0 - errors[*i].powi(2) * prior.precision[*i]).clamp(0.0, 1.0);
                        evidence.squares += (posterior.mean[*i] - prior.mean[*i]).powi(2);
                    }
                }
            }
            let mut families: BTreeMap<&str, Evidence> = BTreeMap::new();
            for (block, evidence) in blocks.iter().zip(&found) {
                let family = families.entry(&block.family).or_default();
                family.determined += evidence.determined;
                family.squares += evidence.squares;
            }
            let mut moved = 0.0_f64;
            for (block, evidence) in blocks.iter().zip(&found) {
                let mut variance = families[block.family.as_str()].variance(block.initial.powi(2), FAMILY_COUNT);
                if block.family != block.name {
                    variance = evidence.variance(variance, BLOCK_COUNT);
                }
                let updated = variance.sqrt().clamp(*BOUNDS.start(), *BOUNDS.end());
                moved = moved.max((updated / scales.of(block)).ln().abs());
                scales.0.insert(block.name.clone(), updated);
            }
            if moved < TOLERANCE {
                break;
            }
        }
        Some(scales)
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
