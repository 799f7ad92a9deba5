//! From sums to a posterior: damped Newton on a quadratic plus an exact logistic likelihood.

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, Side};

use super::layout::{Arm, Layout};
use super::statistics::Statistics;

/// Newton steps at most; from a cold start on separable data about a dozen are taken.
const STEPS: usize = 50;

/// Converged when a full step would lower the objective by at most this share of it.
const TOLERANCE: f64 = 1e-10;

/// A step must win this share of what its slope promises (Armijo), or it is halved.
const SUFFICIENT: f64 = 1e-4;

/// Halvings end here; a convex objective that still does not fall cannot be told from rounding.
const SMALLEST_STEP: f64 = 1e-9;

/// A decision whose window has closed.
#[derive(Clone, Debug)]
pub struct Observed {
    pub encoded: Vec<f32>,
    /// Index of the arm; `None` is no-send.
    pub arm: Option<u32>,
    /// 1 / overlap; not negative.
    pub weight: f64,
    /// 1 if a counting event fell into the window, else 0.
    pub reward: f64,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitError<E> {
    /// The precision matrix is not positive definite even with jitter, or a number is not finite.
    #[error("the normal equations cannot be solved")]
    Singular,
    /// A row has an arm that was not given, another number of columns than the layout, a number that is not finite, a
    /// negative weight or a reward outside 0..=1; or the sums or the start have another length than the layout.
    #[error("the rows or sums do not fit the layout of the model")]
    Mismatch,
    /// The mode was not reached; nothing should be kept of this fit.
    #[error("the model did not converge")]
    NotConverged,
    /// Reading the rows failed.
    #[error(transparent)]
    Rows(E),
}

/// Gaussian approximation of the posterior.
#[derive(Debug)]
pub struct Posterior {
    pub mean: Vec<f64>,
    factor: Llt<f64>,
}

impl Posterior {
    /// The posterior given the sums so far: (P + Λ) mean = P m + b. `None` if that cannot be solved or the sums have
    /// another length than the layout.
    pub fn of(layout: &Layout, statistics: &Statistics) -> Option<Self> {
        (statistics.len() == layout.len()).then(|| Quadratic::new(layout, statistics).solve()).flatten()
    }

    /// Posterior standard deviation of every coefficient.
    pub fn standard_errors(&self) -> Vec<f64> {
        let inverse = self.factor.solve(Mat::<f64>::identity(self.mean.len(), self.mean.len()));
        (0..self.mean.len()).map(|i| inverse[(i, i)].max(0.0).sqrt()).collect()
    }

    /// Solves Lᵀ X = Z in place, so that independent standard normals get the posterior covariance.
    pub(super) fn correlate(&self, normals: &mut Mat<f64>) {
        faer::linalg::triangular_solve::solve_upper_triangular_in_place(
            self.factor.L().transpose(),
            normals.as_mut(),
            faer::Par::Seq,
        );
    }
}

/// ½ βᵀQβ − qᵀβ: the prior and everything linearised.
struct Quadratic {
    precision: Mat<f64>,
    linear: Vec<f64>,
}

impl Quadratic {
    fn new(layout: &Layout, statistics: &Statistics) -> Self {
        let (mean, prior) = layout.prior();
        let len = layout.len();
        let mut precision = Mat::zeros(len, len);
        let mut linear = statistics.linear.clone();
        for i in 0..len {
            let start = i * (i + 1) / 2;
            for j in 0..=i {
                precision[(i, j)] = statistics.precision[start + j];
            }
            precision[(i, i)] += prior[i];
            linear[i] += prior[i] * mean[i];
        }
        Quadratic { precision, linear }
    }

    fn value(&self, at: &[f64]) -> f64 {
        let linear: f64 = self.linear.iter().zip(at).map(|(q, x)| q * x).sum();
        self.half_square(at) - linear
    }

    /// ½ xᵀQx: what the full step x to the minimum gains.
    fn half_square(&self, x: &[f64]) -> f64 {
        let mut value = 0.0;
        for i in 0..x.len() {
            let mut row = 0.5 * self.precision[(i, i)] * x[i];
            for (j, y) in x[..i].iter().enumerate() {
                row += self.precision[(i, j)] * y;
            }
            value += x[i] * row;
        }
        value
    }

    fn solve(&self) -> Option<Posterior> {
        let factor = factorise(&self.precision)?;
        let mut right = Mat::from_fn(self.linear.len(), 1, |i, _| self.linear[i]);
        faer::linalg::solvers::SolveCore::solve_in_place_with_conj(&factor, faer::Conj::No, right.as_mut());
        let mean: Vec<f64> = (0..self.linear.len()).map(|i| right[(i, 0)]).collect();
        mean.iter().all(|x| x.is_finite()).then_some(Posterior { mean, factor })
    }
}

/// Cholesky of the lower triangle, with a jitter of up to 1e-6 of the largest diagonal entry if rounding needs it.
fn factorise(matrix: &Mat<f64>) -> Option<Llt<f64>> {
    let len = matrix.nrows();
    let largest = (0..len).map(|i| matrix[(i, i)]).fold(0.0, f64::max);
    if !largest.is_finite() {
        return None;
    }
    [0.0, 1e-12, 1e-9, 1e-6].into_iter().find_map(|jitter| {
        let mut jittered = matrix.clone();
        for i in 0..len {
            jittered[(i, i)] += jitter * largest;
        }
        Llt::new(jittered.as_ref(), Side::Lower).ok()
    })
}

/// One pass over the rows at a fixed coefficient vector.
struct Pass<'a> {
    layout: &'a Layout,
    arms: &'a [Arm],
    at: &'a [f64],
    statistics: Statistics,
    log_likelihood: f64,
    row: Vec<(u32, f64)>,
    /// False once a row did not fit.
    fits: bool,
}

impl Pass<'_> {
    fn add(&mut self, observed: &Observed) {
        let arm = observed.arm.map(|arm| self.arms.get(arm as usize));
        // An unknown arm must not pass for a no-send.
        self.fits &= arm != Some(None)
            && observed.encoded.len() == self.layout.columns.len()
            && observed.encoded.iter().all(|x| x.is_finite())
            && (0.0..=f64::MAX).contains(&observed.weight)
            && (0.0..=1.0).contains(&observed.reward);
        if !self.fits {
            return;
        }
        let arm = arm.flatten();
        self.layout.design(&observed.encoded, arm, &mut self.row);
        let eta: f64 = self.row.iter().map(|(i, x)| self.at[*i as usize] * x).sum();
        let p = 1.0 / (1.0 + (-eta).exp());
        let w = p * (1.0 - p);
        let weight = observed.weight;
        self.log_likelihood += weight * (observed.reward * eta - log_one_plus_exp(eta));
        self.statistics.add(&self.row, weight * w, weight * (observed.reward - p + w * eta));
    }
}

fn log_one_plus_exp(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Finds the posterior mode of prior + `closed` (linearised before) + the exact likelihood of new rows, and returns
/// the sums of the new rows linearised at that mode. The posterior of `closed` and these sums is one more Newton step
/// away, so its mean is as exact as rounding allows.
///
/// `rows` hands every new row to its argument, once per call, the same each time; it is called once per Newton step
/// and once per halving. Steps are halved until the objective falls enough (Nocedal and Wright, Numerical
/// Optimization, §3.1), so it cannot diverge or cycle. If `start` leads nowhere, it starts again from the prior mean.
///
/// # Errors
/// [`FitError`], or what `rows` returned.
pub fn fit<E>(
    layout: &Layout,
    arms: &[Arm],
    closed: &Statistics,
    start: &[f64],
    mut rows: impl FnMut(&mut dyn FnMut(&Observed)) -> Result<(), E>,
) -> Result<Statistics, FitError<E>> {
    if closed.len() != layout.len() || start.len() != layout.len() {
        return Err(FitError::Mismatch);
    }
    let quadratic = Quadratic::new(layout, closed);
    let mut pass = |at: &[f64]| -> Result<(Statistics, f64), FitError<E>> {
        let mut pass = Pass {
            layout,
            arms,
            at,
            statistics: Statistics::new(layout.len()),
            log_likelihood: 0.0,
            row: Vec::new(),
            fits: true,
        };
        rows(&mut |observed| pass.add(observed)).map_err(FitError::Rows)?;
        if !pass.fits {
            return Err(FitError::Mismatch);
        }
        let objective = quadratic.value(at) - pass.log_likelihood;
        Ok((pass.statistics, objective))
    };

    let mut descend = |start: &[f64]| {
        let mut at = start.to_vec();
        let (mut statistics, mut objective) = pass(&at)?;
        if !objective.is_finite() {
            return Err(FitError::Singular);
        }
        for _ in 0..STEPS {
            let mut sums = statistics.clone();
            sums.merge(closed);
            let local = Quadratic::new(layout, &sums);
            let target = local.solve().ok_or(FitError::Singular)?.mean;
            let step: Vec<f64> = target.iter().zip(&at).map(|(target, at)| target - at).collect();
            let gain = local.half_square(&step);
            if gain <= TOLERANCE * (1.0 + objective.abs()) {
                return Ok(statistics);
            }
            let mut share = 1.0;
            (at, statistics, objective) = loop {
                let candidate: Vec<f64> = at.iter().zip(&step).map(|(at, step)| at + share * step).collect();
                let (found, value) = pass(&candidate)?;
                if value <= objective - SUFFICIENT * share * 2.0 * gain {
                    break (candidate, found, value);
                }
                share *= 0.5;
                if share < SMALLEST_STEP {
                    return Err(FitError::NotConverged);
                }
            };
        }
        Err(FitError::NotConverged)
    };
    let (prior, _) = layout.prior();
    match descend(start) {
        // A model that went astray must not keep the next from being found.
        Err(FitError::NotConverged | FitError::Singular) if start != prior => descend(&prior),
        found => found,
    }
}
