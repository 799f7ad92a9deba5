//! From sums to a posterior: damped Newton on a quadratic plus an exact logistic likelihood.

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, Side};

use super::layout::{Arm, Layout};
use super::statistics::Statistics;

/// Newton steps at most; from a cold start on separable data about a dozen are taken.
const STEPS: usize = 50;

/// Converged when a full step would lower the objective by less than this share of it.
const TOLERANCE: f64 = 1e-10;

/// A decision whose window has closed.
#[derive(Clone, Debug)]
pub struct Observed {
    pub encoded: Vec<f32>,
    /// Index of the arm; `None` is no-send.
    pub arm: Option<u32>,
    /// 1 / overlap.
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
    /// The posterior given the sums so far: (P + Λ) mean = P m + b.
    pub fn of(layout: &Layout, statistics: &Statistics) -> Option<Self> {
        Quadratic::new(layout, statistics).solve()
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
        let mut value = 0.0;
        for i in 0..at.len() {
            let mut row = 0.5 * self.precision[(i, i)] * at[i];
            for j in 0..i {
                row += self.precision[(i, j)] * at[j];
            }
            value += at[i] * (row - self.linear[i]);
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
}

impl Pass<'_> {
    fn add(&mut self, observed: &Observed) {
        let arm = observed.arm.and_then(|arm| self.arms.get(arm as usize));
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
/// the sums of the new rows linearised at that mode.
///
/// `rows` hands every new row to its argument, once per call, the same each time; it is called once per Newton step
/// and once per halving. Steps are halved until the objective falls, so it cannot diverge.
///
/// # Errors
/// [`FitError::Singular`], or what `rows` returned.
pub fn fit<E>(
    layout: &Layout,
    arms: &[Arm],
    closed: &Statistics,
    start: &[f64],
    mut rows: impl FnMut(&mut dyn FnMut(&Observed)) -> Result<(), E>,
) -> Result<Statistics, FitError<E>> {
    let quadratic = Quadratic::new(layout, closed);
    let mut pass = |at: &[f64]| -> Result<(Statistics, f64), FitError<E>> {
        let mut pass = Pass {
            layout,
            arms,
            at,
            statistics: Statistics::new(layout.len()),
            log_likelihood: 0.0,
            row: Vec::new(),
        };
        rows(&mut |observed| pass.add(observed)).map_err(FitError::Rows)?;
        let objective = quadratic.value(at) - pass.log_likelihood;
        Ok((pass.statistics, objective))
    };

    let mut at = start.to_vec();
    let (mut statistics, mut objective) = pass(&at)?;
    for _ in 0..STEPS {
        let mut sums = statistics.clone();
        sums.merge(closed);
        let target = Posterior::of(layout, &sums).ok_or(FitError::Singular)?.mean;
        let mut share = 1.0;
        let improved = loop {
            let candidate: Vec<f64> = at.iter().zip(&target).map(|(a, t)| a + share * (t - a)).collect();
            let (found, value) = pass(&candidate)?;
            if value <= objective {
                break Some((candidate, found, value));
            }
            share *= 0.5;
            if share < 1e-6 {
                break None;
            }
        };
        let Some((candidate, found, value)) = improved else { break };
        let gain = objective - value;
        (at, statistics, objective) = (candidate, found, value);
        if gain <= TOLERANCE * (1.0 + objective.abs()) {
            break;
        }
    }
    if objective.is_finite() {
        Ok(statistics)
    } else {
        Err(FitError::Singular)
    }
}
