//! What the past says of the present, in a world that drifts.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Accum, Mat, Par};

use super::layout::Layout;
use super::posterior::{factorise, log_determinant, Posterior, Quadratic};
use super::prior::Prior;
use super::statistics::Statistics;

/// Shares of the variance of effects that may be new, beside none; the best is refined between its neighbours.
const SHARES: [f64; 7] = [0.0, 0.04, 0.1, 0.2, 0.36, 0.6, 0.85];

/// Differences of log-evidence below this are rounding.
const ROUNDING: f64 = 1e-3;

/// A drift, and what was before it as it counts under it.
#[derive(Debug)]
pub struct Drift {
    /// Share of the prior variance of the effects of sends that is new.
    pub share: f64,
    /// The stage of the present before which it was.
    pub before: usize,
    pub past: Statistics,
}

impl Drift {
    /// The drift that makes the `present` most probable, which came after `past` in these stages; `None` if that is none.
    ///
    /// Before one of the stages, every coefficient of an effect of sends may have moved as an Ornstein–Uhlenbeck process moves it,
    ///
    /// ```text
    /// β' = m + ρ (β − m) + √(1 − ρ²) s ε,        ε standard normal, 1 − ρ² = share
    /// ```
    ///
    /// which leaves its prior N(m, s²) as it was: effects that are large may change much. The base stays. The evidence is that
    /// of a normal state and what `present` sums up as a normal observation of it (West and Harrison, "Bayesian Forecasting and
    /// Dynamic Models", 2nd ed., 1997, §6.4, where the share is fixed).
    pub fn estimate(layout: &Layout, prior: &Prior, past: &Statistics, present: &[Statistics]) -> Option<Drift> {
        let mut past = past.clone();
        let mut best: Option<(f64, Drift)> = None;
        for before in 0..present.len() {
            let mut rest = Statistics::new(past.len());
            present[before..].iter().for_each(|stage| rest.merge(stage));
            if !past.is_zero() && !rest.is_zero() {
                let (gain, share) = most_probable(layout, prior, &past, &rest)?;
                if gain > best.as_ref().map_or(ROUNDING, |(gain, _)| *gain) {
                    let posterior = Posterior::of(prior, &past)?;
                    let state = State::after(share, layout.send_offset(), prior, &past, &posterior)?;
                    best = Some((gain, Drift { share, before, past: state.statistics(prior) }));
                }
            }
            past.merge(&present[before]);
        }
        best.map(|(_, drift)| drift)
    }
}

/// The share of new variance that makes `present` most probable, and by how much log-evidence against none.
fn most_probable(layout: &Layout, prior: &Prior, past: &Statistics, present: &Statistics) -> Option<(f64, f64)> {
    let posterior = Posterior::of(prior, past)?;
    let base = layout.send_offset();
    let evidence = |share: f64| State::after(share, base, prior, past, &posterior)?.evidence(present);
    let mut found: Vec<(f64, f64)> = Vec::with_capacity(SHARES.len());
    for share in SHARES {
        let here = evidence(share)?;
        // Evidence has one maximum, and it is mostly near no drift.
        let falling = found.last().is_some_and(|(_, before)| here <= before + ROUNDING);
        found.push((share.sqrt(), here));
        if falling {
            break;
        }
    }
    let best = found.iter().enumerate().max_by(|a, b| a.1 .1.total_cmp(&b.1 .1)).map(|(at, _)| at)?;
    let gain = found[best].1 - found[0].1;
    if gain <= ROUNDING {
        return Some((0.0, 0.0));
    }
    let share = match found.get(best + 1) {
        // By its peak, so that the share follows the data without jumps.
        Some(after) => peak(found[best - 1], found[best], *after).powi(2),
        None => SHARES[best],
    };
    Some((gain, share))
}

/// Where the parabola through three points has its peak; the second is above the others.
fn peak((a, fa): (f64, f64), (b, fb): (f64, f64), (c, fc): (f64, f64)) -> f64 {
    let (left, right) = ((b - a) * (fb - fc), (b - c) * (fb - fa));
    b - 0.5 * ((b - a) * left - (b - c) * right) / (left - right)
}

/// What is known of the coefficients before the present is seen: normal, with this precision (lower triangle) and mean.
struct State {
    density: Quadratic,
    mean: Vec<f64>,
    log_determinant: f64,
}

impl State {
    /// `posterior` is that of the past; coefficients from `base` on drift.
    fn after(share: f64, base: usize, prior: &Prior, past: &Statistics, posterior: &Posterior) -> Option<Self> {
        let len = past.len();
        let kept = |i: usize| if i < base { 1.0 } else { (1.0 - share).sqrt() };
        let mean: Vec<f64> = (0..len).map(|i| prior.mean[i] + kept(i) * (posterior.mean[i] - prior.mean[i])).collect();
        let mut precision = Quadratic::new(prior, past).precision;
        for i in base..len {
            for j in 0..=i {
                precision[(i, j)] /= kept(i) * kept(j);
            }
        }
        let mut determinant = posterior.log_determinant() - (len - base) as f64 * (1.0 - share).ln();
        if share > 0.0 {
            // (C + N)⁻¹ = Q − Q (Q + N⁻¹)⁻¹ Q with C = Q⁻¹, where noise N is on the effects of sends alone (Woodbury).
            let noise = |i: usize| share / prior.precision[i];
            let mut sum = precision.submatrix(base, base, len - base, len - base).to_owned();
            for i in base..len {
                sum[(i - base, i - base)] += 1.0 / noise(i);
            }
            let factor = factorise(&sum)?;
            let mut rows = Mat::from_fn(len - base, len, |i, j| precision[((base + i).max(j), (base + i).min(j))]);
            solve_lower_triangular_in_place(factor.L(), rows.as_mut(), Par::Seq);
            triangular::matmul(
                precision.as_mut(),
                BlockStructure::TriangularLower,
                Accum::Add,
                rows.transpose(),
                BlockStructure::Rectangular,
                rows.as_ref(),
                BlockStructure::Rectangular,
                -1.0,
                Par::Seq,
            );
            determinant -= log_determinant(&factor) + (base..len).map(|i| noise(i).ln()).sum::<f64>();
        }
        let mut density = Quadratic { precision, linear: Vec::new() };
        density.linear = density.times(&mean);
        Some(State { density, mean, log_determinant: determinant })
    }

    /// Log-probability of what `present` sums up, but for what is the same in every state.
    fn evidence(&self, present: &Statistics) -> Option<f64> {
        let posterior = self.density.with(present).solve()?;
        let linear = self.density.linear.iter().zip(&present.linear).map(|(state, present)| state + present);
        let explained: f64 = linear.zip(&posterior.mean).map(|(linear, mean)| linear * mean).sum();
        let before: f64 = self.density.linear.iter().zip(&self.mean).map(|(linear, mean)| linear * mean).sum();
        Some(0.5 * (self.log_determinant - posterior.log_determinant() + explained - before))
    }

    /// The sums that say the same on top of the prior.
    fn statistics(&self, prior: &Prior) -> Statistics {
        let mut sums = Statistics::new(self.mean.len());
        for i in 0..self.mean.len() {
            let start = i * (i + 1) / 2;
            for j in 0..=i {
                sums.precision[start + j] = self.density.precision[(i, j)];
            }
            sums.precision[start + i] -= prior.precision[i];
            sums.linear[i] = self.density.linear[i] - prior.precision[i] * prior.mean[i];
        }
        sums
    }
}
