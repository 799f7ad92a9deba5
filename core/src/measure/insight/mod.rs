//! For whom which lever works better or worse than for others.
//!
//! Effects are found among half of the customers, with the rate of false discoveries controlled over all that was looked at, and looked at
//! again among the other half: estimates and intervals are of those, who took no part in finding them.

mod feature;
mod lever;
mod log;
mod sentence;
mod table;

use statrs::distribution::{ContinuousCDF, Normal};

use super::multiplicity::{benjamini_hochberg, holm};
use super::readout::Bounded;
use super::shrinkage::{shrunken, spread};

pub use feature::{Feature, Known, Sampled};
pub use lever::{Contrast, Levers};
pub use log::Log;
pub use table::Half;

use table::{Comparison, Table};

/// Features of which pairs are looked at: those that vary most.
const PAIRED: usize = 8;

/// Of the reported intervals.
const CONFIDENCE: f64 = 0.9;

/// Chance that anything is confirmed that is not so.
const LEVEL: f64 = 0.05;

/// An effect that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Insight {
    pub segment: String,
    pub dimension: String,
    pub level: String,
    /// Customers of the segment in the confirming half, and their decisions that tell of the effect.
    pub customers: f64,
    pub decisions: f64,
    /// What the confirming half says; `None` if too few responded there.
    pub seen: Option<Seen>,
    /// False-discovery rate at which it was found.
    pub q_value: f64,
    pub confirmed: bool,
    pub sentence: String,
}

/// An effect in the confirming half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Response rate of the segment to the level, and to the others.
    pub rate: f64,
    pub baseline: f64,
    /// How many times the first is of the second, in the segment and among everybody else.
    pub inside: f64,
    pub outside: f64,
    /// The one over the other, with its interval.
    pub ratio: Bounded,
}

/// A segment and a contrast.
#[derive(Clone, Copy, Debug)]
struct Question {
    features: [Option<usize>; 2],
    levels: [u8; 2],
    contrast: usize,
}

/// What one half says to a question.
#[derive(Clone, Copy, Debug)]
struct Answer {
    log: f64,
    error: f64,
    /// From nothing, in standard errors.
    distance: f64,
}

/// The effects that differ most from those on other customers, at most `most`, found at a false-discovery rate. Calls `tick` every few
/// thousand decisions.
pub fn insights(log: &mut Log, false_discovery_rate: f64, most: usize, tick: &mut impl FnMut()) -> Vec<Insight> {
    log.balance();
    let found = discover(log, false_discovery_rate, most, tick);
    let mut seen: Vec<Option<(Comparison, f64)>> = Vec::with_capacity(found.len());
    let mut sizes = Vec::with_capacity(found.len());
    for (question, _, _) in &found {
        let table = Table::new(log, question.features, Half::Confirmation, tick);
        seen.push(table.compare(question.levels, question.contrast));
        let cell = table.segment(question.levels, question.contrast);
        sizes.push((cell.customers, cell.decisions));
    }
    let normal = Normal::standard();
    let p_values: Vec<f64> = found
        .iter()
        .zip(&seen)
        .map(|((_, answer, _), seen)| seen.map_or(1.0, |(_, distance)| normal.sf(distance * answer.distance.signum())))
        .collect();
    let adjusted = holm(&p_values);
    let mut insights: Vec<Insight> = found
        .into_iter()
        .zip(seen)
        .zip(sizes)
        .zip(adjusted)
        .map(|((((question, answer, q_value), seen), (customers, decisions)), adjusted)| {
            let contrast = &log.levers.contrasts[question.contrast];
            // Of two levels, the one that works better.
            let turned = matches!(contrast, Contrast::Level { other: Some(_), .. }) && answer.log < 0.0;
            let seen = seen.map(|(comparison, _)| Seen::new(&comparison, turned));
            let segment: Vec<(&Feature, u8)> = question.parts().map(|(at, level)| (&log.features[at], level)).collect();
            let (dimension, level) = contrast.names(turned);
            let confirmed = adjusted <= LEVEL;
            Insight {
                segment: sentence::label(&segment),
                dimension: dimension.to_owned(),
                level: level.to_owned(),
                customers,
                decisions,
                seen,
                q_value,
                confirmed,
                sentence: sentence::sentence(&segment, contrast, turned, seen.as_ref(), confirmed),
            }
        })
        .collect();
    let size = |insight: &Insight| insight.seen.map_or(0.0, |seen| seen.ratio.estimate.ln().abs());
    insights.sort_by(|a, b| b.confirmed.cmp(&a.confirmed).then_with(|| size(b).total_cmp(&size(a))));
    insights
}

/// What the discovering half finds, with its false-discovery rate; the largest effects, shrunken, first.
fn discover(
    log: &Log,
    false_discovery_rate: f64,
    most: usize,
    tick: &mut impl FnMut(),
) -> Vec<(Question, Answer, f64)> {
    let singles = (0..log.features.len()).map(|f| [Some(f), None]);
    let paired = log.features.len().min(PAIRED);
    let pairs = (0..paired).flat_map(|f| (f + 1..paired).map(move |g| [Some(f), Some(g)]));
    let mut asked: Vec<(Question, Answer)> = Vec::new();
    for features in singles.chain(pairs) {
        let table = Table::new(log, features, Half::Discovery, tick);
        let [first, second] = features.map(|feature| feature.map_or(vec![0], |at| log.features[at].segments()));
        for levels in first.iter().flat_map(|i| second.iter().map(|j| [*i, *j])) {
            for contrast in 0..log.levers.contrasts.len() {
                if let Some((comparison, distance)) = table.compare(levels, contrast) {
                    let answer = Answer { log: comparison.log, error: comparison.error, distance };
                    asked.push((Question { features, levels, contrast }, answer));
                }
            }
        }
    }
    let normal = Normal::standard();
    let p_values: Vec<f64> = asked.iter().map(|(_, answer)| 2.0 * normal.sf(answer.distance.abs())).collect();
    let estimates: Vec<(f64, f64)> = asked.iter().map(|(_, answer)| (answer.log, answer.error)).collect();
    let spread = spread(&estimates);
    let q_values = benjamini_hochberg(&p_values);
    let mut found: Vec<(Question, Answer, f64)> = asked
        .into_iter()
        .zip(q_values)
        .filter(|(_, q_value)| *q_value <= false_discovery_rate)
        .map(|((question, answer), q_value)| (question, answer, q_value))
        .collect();
    let size = |answer: &Answer| shrunken(answer.log, answer.error, spread).abs();
    found.sort_by(|(_, a, _), (_, b, _)| size(b).total_cmp(&size(a)));
    found.truncate(most);
    found
}

impl Question {
    fn parts(&self) -> impl Iterator<Item = (usize, u8)> + '_ {
        self.features.iter().zip(self.levels).filter_map(|(feature, level)| Some(((*feature)?, level)))
    }
}

impl Seen {
    fn new(comparison: &Comparison, turned: bool) -> Self {
        let half = comparison.half_interval(CONFIDENCE);
        let ratio = |log: f64| log.exp();
        let (inside, outside) = (comparison.inside, comparison.outside);
        let log = comparison.log;
        if turned {
            Seen {
                rate: inside.baseline,
                baseline: inside.rate,
                inside: 1.0 / inside.ratio(),
                outside: 1.0 / outside.ratio(),
                ratio: Bounded { estimate: ratio(-log), lower: ratio(-log - half), upper: ratio(-log + half) },
            }
        } else {
            Seen {
                rate: inside.rate,
                baseline: inside.baseline,
                inside: inside.ratio(),
                outside: outside.ratio(),
                ratio: Bounded { estimate: ratio(log), lower: ratio(log - half), upper: ratio(log + half) },
            }
        }
    }
}
