//! The audience in brief: a uniform sample, from which an encoder is fitted.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::encoder::CLIP;
use super::{Encoder, Feature, FeatureKind, Observation, OffsetScale, Value};

/// Rows kept. Quartiles of 20 000 rows are within half a percentile of the truth.
const SAMPLE: usize = 20_000;

/// Levels a category keeps at most; rarer ones are "other".
const LEVELS: usize = 30;

/// A level must hold this share of the audience (and ten rows, or half of a small sample's) to get its own column.
const RARE: f64 = 0.002;

/// Quantiles at which the base may bend.
const KNOTS: [f64; 3] = [0.25, 0.5, 0.75];

/// What the relation says a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    Numeric,
    Age,
    Boolean,
    Category,
    Offset(OffsetScale),
}

/// A reservoir sample (Vitter 1985, algorithm R) of observations.
pub struct Profile {
    names: Vec<(String, Declared)>,
    sample: Vec<Observation>,
    seen: u64,
    random: Xoshiro256PlusPlus,
}

impl Profile {
    pub fn new(names: Vec<(String, Declared)>, seed: u64) -> Self {
        Profile { names, sample: Vec::new(), seen: 0, random: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    pub fn add(&mut self, observation: Observation) {
        self.seen += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(observation);
        } else {
            let slot = self.random.random_range(0..self.seen);
            if let Some(kept) = self.sample.get_mut(slot as usize) {
                *kept = observation;
            }
        }
    }

    /// Rows seen.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Fits the encoder.
    pub fn encoder(&self) -> Encoder {
        let features: Vec<Feature> = self
            .names
            .iter()
            .enumerate()
            .map(|(at, (name, declared))| {
                let kind = match declared {
                    Declared::Numeric => {
                        let (center, scale, knots) = self.standard(at);
                        FeatureKind::Numeric { center, scale, knots }
                    }
                    Declared::Age => {
                        let (center, scale, knots) = self.standard(at);
                        FeatureKind::Age { center, scale, knots }
                    }
                    Declared::Boolean => FeatureKind::Boolean,
                    Declared::Category => FeatureKind::Category { levels: self.levels(at) },
                    Declared::Offset(scale) => {
                        FeatureKind::Offset { scale: *scale, missing: self.median_log_odds(at, *scale) }
                    }
                };
                Feature { name: name.clone(), kind }
            })
            .collect();
        let mut encoder = Encoder { features, ..Encoder::default() };
        encoder.variances = self.variances(&encoder);
        encoder
    }

    fn variances(&self, encoder: &Encoder) -> Vec<f64> {
        let width = encoder.width();
        let (mut mean, mut squares) = (vec![0.0_f64; width], vec![0.0_f64; width]);
        let mut row = vec![0.0_f32; width];
        for (n, observation) in self.sample.iter().enumerate() {
            encoder.encode(observation, &mut row);
            for (column, x) in row.iter().enumerate() {
                let delta = f64::from(*x) - mean[column];
                mean[column] += delta / (n + 1) as f64;
                squares[column] += delta * (f64::from(*x) - mean[column]);
            }
        }
        let n = self.sample.len().max(1) as f64;
        squares.iter_mut().for_each(|s| *s /= n);
        squares[0] = 1.0;
        squares
    }

    /// Log-odds of the median score; those of one half if there is none.
    fn median_log_odds(&self, at: usize, scale: OffsetScale) -> f64 {
        let mut scores: Vec<f64> = self
            .sample
            .iter()
            .filter_map(|row| match row[at] {
                Value::Number(x) => scale.log_odds(x),
                _ => None,
            })
            .collect();
        scores.sort_unstable_by(f64::total_cmp);
        scores.get(scores.len() / 2).copied().unwrap_or(0.0)
    }

    /// Centre, scale and knots of a number: the median; interquartile range / 1.349 (the standard deviation, for a normal);
    /// and the quartiles that have numbers on both sides, rounded to be read. A column whose middle half is constant
    /// falls back to its standard deviation, a constant one to 1.
    fn standard(&self, at: usize) -> (f64, f64, Vec<f64>) {
        let mut numbers: Vec<f64> = self
            .sample
            .iter()
            .filter_map(|row| match row[at] {
                Value::Number(x) if x.is_finite() => Some(x),
                _ => None,
            })
            .collect();
        numbers.sort_unstable_by(f64::total_cmp);
        let (Some(least), Some(largest)) = (numbers.first(), numbers.last()) else { return (0.0, 1.0, Vec::new()) };
        let quantile = |q: f64| numbers[((numbers.len() - 1) as f64 * q).round() as usize];
        let quartiles = KNOTS.map(quantile);
        let [low, median, high] = quartiles;
        let mut scale = (high - low) / 1.349;
        if scale <= 0.0 {
            let (mut mean, mut squares) = (0.0, 0.0);
            for (n, x) in numbers.iter().enumerate() {
                let delta = x - mean;
                mean += delta / (n + 1) as f64;
                squares += delta * (x - mean);
            }
            scale = (squares / numbers.len() as f64).sqrt();
        }
        if !(scale.is_finite() && scale > f64::MIN_POSITIVE) {
            scale = 1.0;
        }
        // Hundredths of the scale at most.
        let decimals = (1.0 - scale.log10().floor()).clamp(0.0, 300.0) as usize;
        let mut knots: Vec<f64> = quartiles
            .into_iter()
            .filter_map(|knot| format!("{knot:.decimals$}").parse().ok())
            .filter(|knot| least < knot && knot < largest && ((knot - median) / scale).abs() < CLIP)
            .collect();
        knots.dedup();
        (median, scale, knots)
    }

    /// The most frequent levels, most frequent first, ties by name.
    fn levels(&self, at: usize) -> Vec<String> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for row in &self.sample {
            if let Value::Text(text) = &row[at] {
                *counts.entry(text).or_default() += 1;
            }
        }
        let least = ((self.sample.len() as f64 * RARE) as usize).clamp(1, 10);
        let mut levels: Vec<(&str, usize)> = counts.into_iter().filter(|(_, count)| *count >= least).collect();
        levels.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        levels.truncate(LEVELS);
        levels.into_iter().map(|(level, _)| level.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardisation_is_robust_to_outliers() {
        let mut profile = Profile::new(vec![("spend".into(), Declared::Numeric)], 1);
        for i in 0..1000 {
            profile.add(vec![Value::Number(if i % 100 == 0 { 1e12 } else { f64::from(i % 100) })]);
        }
        let FeatureKind::Numeric { center, scale, knots } = &profile.encoder().features[0].kind else { panic!() };
        assert!((center - 50.0).abs() <= 1.0, "{center}");
        assert!((scale - 50.0 / 1.349).abs() < 2.0, "{scale}");
        assert!(knots.iter().zip([25.0, 50.0, 75.0]).all(|(knot, at)| (knot - at).abs() <= 2.0), "{knots:?}");
    }

    #[test]
    fn constant_and_empty_columns_are_harmless() {
        let mut profile = Profile::new(vec![("a".into(), Declared::Numeric), ("b".into(), Declared::Age)], 1);
        for _ in 0..10 {
            profile.add(vec![Value::Number(3.0), Value::Missing]);
        }
        let encoder = profile.encoder();
        assert_eq!(encoder.features[0].kind, FeatureKind::Numeric { center: 3.0, scale: 1.0, knots: vec![] });
        assert_eq!(encoder.features[1].kind, FeatureKind::Age { center: 0.0, scale: 1.0, knots: vec![] });
    }

    /// A knot at an end would have nothing to bend; equal quartiles are one.
    #[test]
    fn knots_lie_inside_and_differ() {
        let knots = |numbers: &[f64]| {
            let mut profile = Profile::new(vec![("n".into(), Declared::Numeric)], 1);
            numbers.iter().for_each(|x| profile.add(vec![Value::Number(*x)]));
            let FeatureKind::Numeric { knots, .. } = &profile.encoder().features[0].kind else { panic!() };
            knots.clone()
        };
        assert_eq!(knots(&[0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]), Vec::<f64>::new());
        assert_eq!(knots(&[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 5.0]), [1.0]);
        assert_eq!(knots(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]), [2.0, 4.0, 6.0]);
        let thirds: Vec<f64> = (0..=800).map(|n| 1.7e9 + f64::from(n) / 3.0).collect();
        assert_eq!(knots(&thirds), [1_700_000_067.0, 1_700_000_133.0, 1_700_000_200.0], "rounded within the scale");
        assert_eq!(knots(&[1e300, 2e300, 3e300, 4e300, 5e300]).len(), 3);
        assert_eq!(knots(&[1e-300, 2e-300, 3e-300, 4e-300, 5e-300]).len(), 3);
    }

    #[test]
    fn levels_are_the_most_frequent_and_bounded() {
        let mut profile = Profile::new(vec![("city".into(), Declared::Category)], 1);
        for i in 0..30_000_u32 {
            profile.add(vec![Value::Text(format!(
                "c{}",
                (f64::from(i) * 0.618).fract().powi(3).mul_add(400.0, 0.0) as u32
            ))]);
        }
        let FeatureKind::Category { levels } = &profile.encoder().features[0].kind else { panic!() };
        assert_eq!(levels.len(), LEVELS);
        assert_eq!(levels[0], "c0");
        assert_eq!(profile.seen(), 30_000);
    }
}
