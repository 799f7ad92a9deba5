//! What the past says of the present, in a world that drifts.

use std::collections::BTreeMap;

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

/// Log-evidence that a drift must win, in nats: of so many moments at which it may have been, chance makes one look a little
/// better than none.
const LEAST_GAIN: f64 = 1.0;

/// A drift, and what was before it as it counts under it.
#[derive(Debug)]
pub struct Drift {
    /// By lever, the share of the prior variance of its effects that is new. Levers are those of [`Layout::levers`].
    pub shares: BTreeMap<String, f64>,
    /// The stage before which it was.
    pub before: usize,
    pub past: Statistics,
}

impl Drift {
    /// The drift between any two of these stages, the oldest first, that makes them most probable; `None` if that is none.
    ///
    /// Before one of the stages, every coefficient of an effect of sends may have moved as an Ornstein–Uhlenbeck process moves it,
    ///
    /// ```text
    /// β' = m + ρ (β − m) + √(1 − ρ²) s ε,        ε standard normal, 1 − ρ² = share
    /// ```
    ///
    /// which leaves its prior N(m, s²) as it was: effects that are large may change much. The base stays. The evidence is that
    /// of a normal state and what the later stages sum up as a normal observation of it (West and Harrison, "Bayesian Forecasting
    /// and Dynamic Models", 2nd ed., 1997, §6.4, where the share is fixed). When it was is found with one share for all levers;
    /// then each lever in turn gets the share of its own under which the evidence is highest. `tick` is called between looks at it,
    /// for whoever may want to stop.
    pub fn estimate(layout: &Layout, prior: &Prior, stages: &[&Statistics], mut tick: impl FnMut()) -> Option<Drift> {
        let levers = layout.levers();
        let coefficients: Vec<&[usize]> = levers.values().map(Vec::as_slice).collect();
        let mut all = Statistics::new(layout.len());
        stages.iter().for_each(|stage| all.merge(stage));
        let steady = evidence_of_all(prior, &all)?;
        let mut look = |before: usize| -> Option<Moment<'_>> {
            let [past, present] = [&stages[..before], &stages[before..]].map(|stages| {
                let mut sum = Statistics::new(layout.len());
                stages.iter().for_each(|stage| sum.merge(stage));
                sum
            });
            if past.is_zero() || present.is_zero() {
                return None;
            }
            let parting = Parting::new(prior, &coefficients, past, present)?;
            let (gain, share) = parting.common(steady, &mut tick)?;
            Some(Moment { gain, share, before, parting })
        };
        // One at a time: each holds several matrices.
        let best = (1..stages.len())
            .filter_map(&mut look)
            .reduce(|best, next| if next.gain > best.gain { next } else { best })?;
        let Moment { share, before, parting, .. } = Some(best).filter(|best| best.gain >= LEAST_GAIN)?;
        let shares = parting.by_lever(share, &mut tick)?;
        let past = parting.state(&shares)?.statistics(prior);
        Some(Drift { shares: levers.keys().cloned().zip(shares).collect(), before, past })
    }

    /// The sums `past` as they count after a drift with these shares by lever. `None` if they cannot be solved.
    pub fn after(
        layout: &Layout,
        prior: &Prior,
        past: &Statistics,
        shares: &BTreeMap<String, f64>,
    ) -> Option<Statistics> {
        let levers = layout.levers();
        let coefficients: Vec<&[usize]> = levers.values().map(Vec::as_slice).collect();
        let shares: Vec<f64> = levers.keys().map(|lever| shares.get(lever).copied().unwrap_or(0.0)).collect();
        let parting = Parting::new(prior, &coefficients, past.clone(), Statistics::new(layout.len()))?;
        Some(parting.state(&shares)?.statistics(prior))
    }
}

/// A moment at which it may have been.
struct Moment<'a> {
    /// By how much one share for all levers raises the log-evidence at most, and that share.
    gain: f64,
    share: f64,
    /// The stage before which it is.
    before: usize,
    parting: Parting<'a>,
}

/// Past and present, parted at a moment at which the effects of levers may have drifted.
struct Parting<'a> {
    prior: &'a Prior,
    /// Coefficients of each lever.
    levers: &'a [&'a [usize]],
    past: Statistics,
    present: Statistics,
    /// Of the past alone.
    posterior: Posterior,
}

impl<'a> Parting<'a> {
    fn new(prior: &'a Prior, levers: &'a [&'a [usize]], past: Statistics, present: Statistics) -> Option<Self> {
        let posterior = Posterior::of(prior, &past)?;
        Some(Parting { prior, levers, past, present, posterior })
    }

    /// What is known before the present is seen, with the share of each lever.
    fn state(&self, shares: &[f64]) -> Option<State> {
        let mut by_coefficient = vec![0.0; self.past.len()];
        for (lever, share) in self.levers.iter().zip(shares) {
            lever.iter().for_each(|at| by_coefficient[*at] = *share);
        }
        State::after(&by_coefficient, self.prior, &self.past, &self.posterior)
    }

    fn evidence(&self, shares: &[f64]) -> Option<f64> {
        self.state(shares)?.evidence(&self.present)
    }

    /// By how much one share for all levers raises the log-evidence at most, and that share. Without a drift it is what `all` of the
    /// past and the present have less that of the past.
    fn common(&self, all: f64, mut tick: impl FnMut()) -> Option<(f64, f64)> {
        let mut found: Vec<(f64, f64)> = Vec::with_capacity(SHARES.len());
        found.push((SHARES[0], all - evidence_of(&self.posterior, self.prior, &self.past)));
        for share in &SHARES[1..] {
            tick();
            let here = self.evidence(&vec![*share; self.levers.len()])?;
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

    /// The share of each lever, from one for all: up as long as the evidence rises, or else down.
    fn by_lever(&self, common: f64, mut tick: impl FnMut()) -> Option<Vec<f64>> {
        let mut shares = vec![common; self.levers.len()];
        let mut best = self.evidence(&shares)?;
        for lever in 0..shares.len() {
            let higher = SHARES.into_iter().filter(|share| *share > common);
            let lower = SHARES.into_iter().rev().filter(|share| *share < common);
            for direction in [higher.collect::<Vec<_>>(), lower.collect()] {
                for share in direction {
                    tick();
                    let kept = std::mem::replace(&mut shares[lever], share);
                    let here = self.evidence(&shares)?;
                    if here <= best {
                        shares[lever] = kept;
                        break;
                    }
                    best = here;
                }
                if shares[lever] != common {
                    break;
                }
            }
        }
        Some(shares)
    }
}

/// Log-probability of what `statistics` sums up under the prior, but for what is the same in every state.
fn evidence_of_all(prior: &Prior, statistics: &Statistics) -> Option<f64> {
    Some(evidence_of(&Posterior::of(prior, statistics)?, prior, statistics))
}

/// The same, with the `posterior` that they give.
fn evidence_of(posterior: &Posterior, prior: &Prior, statistics: &Statistics) -> f64 {
    let known = prior.precision.iter().zip(&prior.mean).map(|(precision, mean)| precision * mean);
    let linear = known.zip(&statistics.linear).map(|(prior, sums)| prior + sums);
    let explained: f64 = linear.zip(&posterior.mean).map(|(linear, mean)| linear * mean).sum();
    0.5 * (explained - posterior.log_determinant())
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
    /// `posterior` is that of the past; the share of each coefficient that is new.
    fn after(shares: &[f64], prior: &Prior, past: &Statistics, posterior: &Posterior) -> Option<Self> {
        let len = past.len();
        let kept: Vec<f64> = shares.iter().map(|share| (1.0 - share).sqrt()).collect();
        let mean: Vec<f64> = (0..len).map(|i| prior.mean[i] + kept[i] * (posterior.mean[i] - prior.mean[i])).collect();
        let mut precision = Quadratic::new(prior, past).precision;
        for i in 0..len {
            for j in 0..=i {
                precision[(i, j)] /= kept[i] * kept[j];
            }
        }
        let mut determinant = posterior.log_determinant() - shares.iter().map(|share| (1.0 - share).ln()).sum::<f64>();
        let moved: Vec<usize> = (0..len).filter(|i| shares[*i] > 0.0).collect();
        if !moved.is_empty() {
            // (C + N)⁻¹ = Q − Q (Q + N⁻¹)⁻¹ Q with C = Q⁻¹, where noise N is on the coefficients that moved alone (Woodbury).
            let noise = |i: usize| shares[i] / prior.precision[i];
            let entry = |i: usize, j: usize| precision[(i.max(j), i.min(j))];
            let mut sum = Mat::from_fn(moved.len(), moved.len(), |a, b| entry(moved[a], moved[b]));
            for (at, i) in moved.iter().enumerate() {
                sum[(at, at)] += 1.0 / noise(*i);
            }
            let factor = factorise(&sum)?;
            let mut rows = Mat::from_fn(moved.len(), len, |at, j| entry(moved[at], j));
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
            determinant -= log_determinant(&factor) + moved.iter().map(|i| noise(*i).ln()).sum::<f64>();
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
