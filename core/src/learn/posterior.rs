//! From sums to a posterior: damped Newton on a quadratic plus an exact logistic likelihood.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::solvers::Llt;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Accum, Mat, Par, Side};
use pulp::{Arch, NullaryFnOnce};

use super::layout::{Arm, Layout};
use super::prior::Prior;
use super::rows::{Group, Link, Response, Rows};
use super::statistics::Statistics;

/// Newton steps at most; from a cold start on separable data about a dozen are taken. Where little of what will be seen has been,
/// the curvature of what is silent is only bounded, and each step wins a constant share of the rest: about sixty are.
const STEPS: usize = 250;

/// Converged when a full step would lower the objective by at most this share of it.
const TOLERANCE: f64 = 1e-10;

/// A step must win this share of what its slope promises (Armijo), or it is halved.
const SUFFICIENT: f64 = 1e-4;

/// Halvings end here; a convex objective that still does not fall cannot be told from rounding.
const SMALLEST_STEP: f64 = 1e-9;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitError<E> {
    /// The precision matrix is not positive definite even with jitter, or a number is not finite.
    #[error("the normal equations cannot be solved")]
    Singular,
    /// A row has an arm that was not given or another number of columns than the layout; or the sums, the prior or the
    /// start have another length than the layout.
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
    /// another length than the prior.
    pub fn of(prior: &Prior, statistics: &Statistics) -> Option<Self> {
        (statistics.len() == prior.mean.len()).then(|| Quadratic::new(prior, statistics).solve()).flatten()
    }

    /// Posterior standard deviation of every coefficient.
    pub fn standard_errors(&self) -> Vec<f64> {
        // (L Lᵀ)⁻¹ = L⁻ᵀ L⁻¹: its diagonal is the squares of the columns of L⁻¹.
        let len = self.mean.len();
        let mut inverse = Mat::<f64>::zeros(len, len);
        invert_lower_triangular(inverse.as_mut(), self.factor.L(), Par::Seq);
        (0..len).map(|i| inverse.col(i).iter().map(|x| x * x).sum::<f64>().sqrt()).collect()
    }

    /// Standard deviation of every coefficient if all others were known.
    pub fn conditional_errors(&self) -> Vec<f64> {
        let factor = self.factor.L();
        let precision = |i: usize| (0..=i).map(|j| factor[(i, j)] * factor[(i, j)]).sum::<f64>();
        (0..self.mean.len()).map(|i| precision(i).powf(-0.5)).collect()
    }

    /// Log-determinant of the posterior precision.
    pub(super) fn log_determinant(&self) -> f64 {
        log_determinant(&self.factor)
    }

    /// Solves Lᵀ X = Z in place, so that independent standard normals get the posterior covariance.
    pub(super) fn correlate(&self, normals: &mut Mat<f64>) {
        faer::linalg::triangular_solve::solve_upper_triangular_in_place(
            self.factor.L().transpose(),
            normals.as_mut(),
            Par::Seq,
        );
    }
}

/// ½ βᵀQβ − qᵀβ: the prior and everything linearised.
pub(super) struct Quadratic {
    /// Lower triangle.
    pub precision: Mat<f64>,
    pub linear: Vec<f64>,
}

impl Quadratic {
    pub fn new(prior: &Prior, statistics: &Statistics) -> Self {
        let len = prior.mean.len();
        let precision = Mat::from_fn(len, len, |i, j| if i == j { prior.precision[i] } else { 0.0 });
        let linear = prior.precision.iter().zip(&prior.mean).map(|(precision, mean)| precision * mean).collect();
        Quadratic { precision, linear }.with(statistics)
    }

    /// The same with what `statistics` adds.
    pub fn with(&self, statistics: &Statistics) -> Self {
        let mut precision = self.precision.clone();
        for i in 0..self.linear.len() {
            let start = i * (i + 1) / 2;
            for j in 0..=i {
                precision[(i, j)] += statistics.precision[start + j];
            }
        }
        let linear = self.linear.iter().zip(&statistics.linear).map(|(a, b)| a + b).collect();
        Quadratic { precision, linear }
    }

    /// Qx.
    pub fn times(&self, x: &[f64]) -> Vec<f64> {
        let entry = |i: usize, j: usize| self.precision[(i.max(j), i.min(j))];
        (0..x.len()).map(|i| x.iter().enumerate().map(|(j, x)| entry(i, j) * x).sum()).collect()
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

    pub fn solve(&self) -> Option<Posterior> {
        let factor = factorise(&self.precision)?;
        let mut right = Mat::from_fn(self.linear.len(), 1, |i, _| self.linear[i]);
        faer::linalg::solvers::SolveCore::solve_in_place_with_conj(&factor, faer::Conj::No, right.as_mut());
        let mean: Vec<f64> = (0..self.linear.len()).map(|i| right[(i, 0)]).collect();
        mean.iter().all(|x| x.is_finite()).then_some(Posterior { mean, factor })
    }
}

/// A pivot below this share of its diagonal entry is mostly rounding: the coefficient is a combination of those before it, and
/// what its estimate and standard error would be is chance.
const SMALLEST_PIVOT: f64 = 1e-14;

/// Cholesky of the lower triangle, with a jitter of up to 1e-6 of the largest diagonal entry if it is singular or so nearly
/// that rounding decides.
pub(super) fn factorise(matrix: &Mat<f64>) -> Option<Llt<f64>> {
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
        Llt::new(jittered.as_ref(), Side::Lower).ok().filter(|factor| is_well_conditioned(factor, &jittered))
    })
}

/// Log-determinant of the matrix that has this factor.
pub(super) fn log_determinant(factor: &Llt<f64>) -> f64 {
    (0..factor.L().nrows()).map(|i| 2.0 * factor.L()[(i, i)].ln()).sum()
}

fn is_well_conditioned(factor: &Llt<f64>, matrix: &Mat<f64>) -> bool {
    (0..matrix.nrows()).all(|i| factor.L()[(i, i)].powi(2) >= SMALLEST_PIVOT * matrix[(i, i)])
}

/// Numbers that are added or multiplied at a time.
pub(super) const LANES: usize = 8;

/// Rows of a block of the design matrix that are multiplied at a time: it stays in the cache.
pub(super) const BLOCK: usize = 256;

/// Rows that one thread sums up at a time. It is the same for any number of threads, so that sums are too.
const SLICE: usize = 16 * BLOCK;

/// Slices of one thread whose sums are kept until they are spread.
const AT_ONCE: usize = 16;

/// One pass over rows at a fixed coefficient vector.
struct Pass<'a> {
    layout: &'a Layout,
    arms: &'a [Arm],
    at: &'a [f64],
    statistics: Statistics,
    log_likelihood: f64,
    /// False once a row did not fit.
    fits: bool,
}

impl<'a> Pass<'a> {
    fn new(layout: &'a Layout, arms: &'a [Arm], at: &'a [f64]) -> Self {
        Pass { layout, arms, at, statistics: Statistics::new(layout.len()), log_likelihood: 0.0, fits: true }
    }

    fn add(&mut self, rows: &Rows) {
        self.fits &= rows.width() == self.layout.columns.len();
        if !self.fits {
            return;
        }
        let mut effects = Vec::with_capacity(rows.groups.len());
        for arm in rows.groups.keys() {
            let arm = arm.map(|arm| self.arms.get(arm as usize));
            // An unknown arm must not pass for a no-send.
            self.fits &= arm != Some(None);
            effects.push(Effects::new(self.layout, arm.flatten(), self.at));
        }
        if !self.fits {
            return;
        }
        let offset = self.layout.offset_column(rows.link);
        let slices: Vec<_> =
            effects.iter().zip(rows.groups.values()).flat_map(|(effects, group)| group.slices(effects)).collect();
        // A few at a time: each has sums of its own, as large as the square of the columns.
        for slices in slices.chunks(AT_ONCE * rows.threads.max(1)) {
            let sums = in_parallel(slices, rows.threads, |slice| slice.sum(rows.link, offset));
            for (slice, sums) in slices.iter().zip(sums) {
                self.log_likelihood += sums.log_likelihood;
                self.statistics.spread(&slice.effects.entries, &sums.curvature, &sums.scores);
            }
        }
    }
}

/// What the columns of a context do to the linear predictor of an arm.
pub(super) struct Effects {
    entries: Vec<(u32, u32)>,
    intercept: f64,
    pub columns: Vec<f64>,
}

impl Effects {
    pub fn new(layout: &Layout, arm: Option<&Arm>, at: &[f64]) -> Self {
        let entries = layout.entries(arm);
        let mut columns = vec![0.0; layout.columns.len() + 1];
        entries.iter().for_each(|(coefficient, column)| columns[*column as usize] += at[*coefficient as usize]);
        let intercept = columns.pop().unwrap_or(0.0);
        Effects { entries, intercept, columns }
    }

    /// The linear predictor. In several sums, so that they do not wait for each other.
    #[inline(always)]
    pub fn predict(&self, x: &[f32]) -> f64 {
        let ((x, x_rest), (effects, effects_rest)) = (x.as_chunks::<LANES>(), self.columns.as_chunks::<LANES>());
        let mut sums = [0.0; LANES];
        for (x, effects) in x.iter().zip(effects) {
            for lane in 0..LANES {
                sums[lane] += f64::from(x[lane]) * effects[lane];
            }
        }
        let rest = x_rest.iter().zip(effects_rest).map(|(x, effect)| f64::from(*x) * effect);
        self.intercept + sums.into_iter().chain(rest).sum::<f64>()
    }
}

/// Decisions of one arm that are summed up together.
pub(super) struct Slice<'a> {
    pub effects: &'a Effects,
    pub encoded: &'a [f32],
    pub responses: &'a [Response],
}

/// Sums by column: each has the same coefficients in all rows of an arm, so that they are taken in the few columns of the
/// context, and spread over the many coefficients once.
struct Sums {
    curvature: Mat<f64>,
    scores: Vec<f64>,
    log_likelihood: f64,
}

impl Group {
    pub fn slices<'a>(&'a self, effects: &'a Effects) -> impl Iterator<Item = Slice<'a>> {
        let encoded = self.encoded.chunks(SLICE * effects.columns.len());
        encoded.zip(self.responses.chunks(SLICE)).map(move |(encoded, responses)| Slice { effects, encoded, responses })
    }
}

impl Slice<'_> {
    /// `offset` is the column that enters the linear predictor as it is.
    fn sum(&self, link: Link, offset: Option<usize>) -> Sums {
        let constant = self.effects.columns.len();
        let mut sums = Sums {
            curvature: Mat::zeros(constant + 1, constant + 1),
            scores: vec![0.0; constant + 1],
            log_likelihood: 0.0,
        };
        let mut scaled = Mat::<f64>::zeros((constant + 1).next_multiple_of(LANES), BLOCK);
        for (encoded, responses) in self.encoded.chunks(BLOCK * constant).zip(self.responses.chunks(BLOCK)) {
            Arch::new().dispatch(Scaling {
                effects: self.effects,
                encoded,
                responses,
                link,
                offset,
                scaled: &mut scaled,
                sums: &mut sums,
            });
            let scaled = scaled.submatrix(0, 0, constant + 1, responses.len());
            triangular::matmul(
                sums.curvature.as_mut(),
                BlockStructure::TriangularLower,
                Accum::Add,
                scaled,
                BlockStructure::Rectangular,
                scaled.transpose(),
                BlockStructure::Rectangular,
                1.0,
                Par::Seq,
            );
        }
        sums
    }
}

/// What is taken of the rows of a block before they are multiplied: by the roots of their weights, they become the columns of
/// `scaled`; scores and log-likelihood are added to `sums`.
///
/// To be compiled for the widest vectors that the processor has. Sums keep their order, so that the bits do not depend on it. The
/// multiplication leaves the upper halves of vector registers in use, where every instruction of a plain build waits for the one
/// before; what is compiled for them does not, and gives them back.
struct Scaling<'a> {
    effects: &'a Effects,
    encoded: &'a [f32],
    responses: &'a [Response],
    link: Link,
    /// The column that enters the linear predictor as it is.
    offset: Option<usize>,
    /// With zeros below, which are multiplied too: what memory otherwise holds there is often no normal number (an address is
    /// none), and every multiplication of such a one traps into microcode, twenty times as slow.
    scaled: &'a mut Mat<f64>,
    sums: &'a mut Sums,
}

impl NullaryFnOnce for Scaling<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Scaling { effects, encoded, responses, link, offset, scaled, sums } = self;
        let constant = effects.columns.len();
        for (n, (x, response)) in encoded.chunks_exact(constant).zip(responses).enumerate() {
            let linear = effects.predict(x);
            let eta = linear + offset.map_or(0.0, |column| f64::from(x[column]));
            let local = Local::of(link, eta, response.reward, response.reported);
            let root = (response.weight * local.curvature).sqrt();
            let score = response.weight * (local.score + local.curvature * linear);
            sums.log_likelihood += response.weight * local.log_likelihood;
            let scaled = &mut scaled.col_as_slice_mut(n)[..=constant];
            for ((x, scaled), sum) in x.iter().zip(&mut *scaled).zip(&mut sums.scores) {
                *scaled = root * f64::from(*x);
                *sum += score * f64::from(*x);
            }
            scaled[constant] = root;
            sums.scores[constant] += score;
        }
    }
}

/// `f` of every item, in their order, by `threads` threads.
pub(super) fn in_parallel<T: Sync, U: Send>(items: &[T], threads: usize, f: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let share = items.len().div_ceil(threads.max(1)).max(1);
    let mut shares = items.chunks(share);
    let own = shares.next().unwrap_or_default();
    std::thread::scope(|scope| {
        let others: Vec<_> = shares.map(|items| scope.spawn(|| items.iter().map(&f).collect::<Vec<U>>())).collect();
        let mut results: Vec<U> = own.iter().map(&f).collect();
        for other in others {
            match other.join() {
                Ok(found) => results.extend(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

/// Log-likelihood of one response around the linear predictor η, with its derivatives.
pub(super) struct Local {
    log_likelihood: f64,
    pub score: f64,
    /// −d² log-likelihood / dη², at least 0.
    pub curvature: f64,
}

impl Local {
    #[inline(always)]
    pub fn of(link: Link, eta: f64, reward: f64, reported: f64) -> Self {
        match link {
            Link::Logistic | Link::LogisticAlone => Local::logistic(eta, reward, reported),
            Link::Gaussian => Local::gaussian(eta, reward),
        }
    }

    /// A seen reward has likelihood F p. A silent decision has 1 − F p: its score is that of a decision whose reward is
    /// q = p (1 − F) / (1 − F p), what may still be expected of it. (For p above one half the log-likelihood of a silent
    /// decision is not concave; its curvature then counts as none.)
    #[inline(always)]
    fn logistic(eta: f64, reward: f64, reported: f64) -> Self {
        let (p, log) = sigmoid(eta);
        let mut local = Local { log_likelihood: reward * eta - log, score: reward - p, curvature: p * (1.0 - p) };
        if reported < 1.0 {
            let (q, log) = sigmoid(eta + (-reported).ln_1p());
            let silent = 1.0 - reward;
            local.log_likelihood += silent * log;
            local.score += silent * q;
            local.curvature = (local.curvature - silent * q * (1.0 - q)).max(0.0);
        }
        local
    }

    #[inline(always)]
    fn gaussian(eta: f64, reward: f64) -> Self {
        let residual = reward - eta;
        Local { log_likelihood: -0.5 * residual * residual, score: residual, curvature: 1.0 }
    }
}

/// 1 / (1 + e⁻ˣ) and log (1 + eˣ).
#[inline(always)]
fn sigmoid(x: f64) -> (f64, f64) {
    let small = (-x.abs()).exp();
    let p = if x < 0.0 { small } else { 1.0 } / (1.0 + small);
    (p, x.max(0.0) + small.ln_1p())
}

/// Sums of `rows`, linearised at `at`.
///
/// # Errors
/// [`FitError`], or what `rows` returned.
pub fn linearise<E>(
    layout: &Layout,
    arms: &[Arm],
    at: &[f64],
    rows: impl FnOnce(&mut dyn FnMut(&Rows)) -> Result<(), E>,
) -> Result<Statistics, FitError<E>> {
    if at.len() != layout.len() {
        return Err(FitError::Mismatch);
    }
    let mut pass = Pass::new(layout, arms, at);
    rows(&mut |rows| pass.add(rows)).map_err(FitError::Rows)?;
    if pass.fits {
        Ok(pass.statistics)
    } else {
        Err(FitError::Mismatch)
    }
}

/// The mode, and the sums of the new rows linearised there.
#[derive(Debug)]
pub struct Fit {
    pub mode: Vec<f64>,
    pub sums: Statistics,
}

/// Finds the posterior mode of prior + `closed` (linearised before) + the exact likelihood of new rows. The posterior of
/// `closed` and the sums returned is one more Newton step away, so its mean is as exact as rounding allows.
///
/// `rows` hands all new rows to its argument, batch by batch, the same rows each time, in any order; it is called once per
/// Newton step and once per halving. Steps are halved until the objective falls enough (Nocedal and Wright, Numerical
/// Optimization, §3.1), so it cannot diverge or cycle. If `start` leads nowhere, it starts again from the prior mean.
///
/// # Errors
/// [`FitError`], or what `rows` returned.
pub fn fit<E>(
    layout: &Layout,
    prior: &Prior,
    arms: &[Arm],
    closed: &Statistics,
    start: &[f64],
    mut rows: impl FnMut(&mut dyn FnMut(&Rows)) -> Result<(), E>,
) -> Result<Fit, FitError<E>> {
    if [closed.len(), start.len(), prior.mean.len()] != [layout.len(); 3] {
        return Err(FitError::Mismatch);
    }
    let quadratic = Quadratic::new(prior, closed);
    let mut pass = |at: &[f64]| -> Result<(Statistics, f64), FitError<E>> {
        let mut pass = Pass::new(layout, arms, at);
        rows(&mut |rows| pass.add(rows)).map_err(FitError::Rows)?;
        if !pass.fits {
            return Err(FitError::Mismatch);
        }
        let objective = quadratic.value(at) - pass.log_likelihood;
        Ok((pass.statistics, objective))
    };

    let mut descend = |start: &[f64]| {
        let mut at = start.to_vec();
        let (mut sums, mut objective) = pass(&at)?;
        if !objective.is_finite() {
            return Err(FitError::Singular);
        }
        for _ in 0..STEPS {
            let mut all = sums.clone();
            all.merge(closed);
            let local = Quadratic::new(prior, &all);
            let target = local.solve().ok_or(FitError::Singular)?.mean;
            let step: Vec<f64> = target.iter().zip(&at).map(|(target, at)| target - at).collect();
            let gain = local.half_square(&step);
            if gain <= TOLERANCE * (1.0 + objective.abs()) {
                return Ok(Fit { mode: at, sums });
            }
            let mut share = 1.0;
            (at, sums, objective) = loop {
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
    match descend(start) {
        // A model that went astray must not keep the next from being found.
        Err(FitError::NotConverged | FitError::Singular) if start != prior.mean => descend(&prior.mean),
        found => found,
    }
}
