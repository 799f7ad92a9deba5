//! From the pattern of a pair to its match weight.

use super::super::IdentityError;
use super::comparison::{Comparer, Comparison, COMPARISONS};
use super::frequency::TermFrequencies;
use super::parameters::{find_comparison, find_level, Parameters, LEVELS};
use super::profile::{ATTRIBUTES, MISSING};

/// Weights of all levels, ready for use. All in bits (log₂).
pub struct Scorer {
    /// log₂ of the odds of a match against strangers, for a random pair.
    prior: f32,
    /// The same of relatives.
    prior_related: f32,
    /// log₂ m/u.
    weights: [[f32; LEVELS]; COMPARISONS],
    /// log₂ related/u.
    related: [[f32; LEVELS]; COMPARISONS],
    /// By attribute and value: what a rare value adds, or a common one takes off.
    adjustments: [Vec<f32>; ATTRIBUTES],
    factors: [f32; COMPARISONS],
    /// Factors by source and comparison; none if all sources are trusted alike.
    by_source: Vec<[f32; COMPARISONS]>,
}

/// Evidence about a pair or about two groups of records, without the priors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// log₂ of match against strangers.
    pub own: f32,
    /// log₂ of relatives against strangers.
    pub related: f32,
}

impl Scorer {
    /// `sources` are names, by number.
    ///
    /// # Errors
    /// Parameters of comparisons or levels that do not exist.
    pub fn new<'a>(
        parameters: &Parameters,
        frequencies: &TermFrequencies,
        counts: &[Vec<u32>; ATTRIBUTES],
        sources: impl Iterator<Item = &'a str>,
    ) -> Result<Self, IdentityError> {
        parameters.check()?;
        let strangers = 1.0 - parameters.prior - parameters.prior_related;
        let mut scorer = Scorer {
            prior: (parameters.prior / strangers).log2() as f32,
            prior_related: (parameters.prior_related.max(1e-300) / strangers).log2() as f32,
            weights: Default::default(),
            related: Default::default(),
            adjustments: Default::default(),
            factors: [1.0; COMPARISONS],
            by_source: Vec::new(),
        };
        if parameters.comparisons.iter().any(|comparison| !comparison.by_source.is_empty()) {
            scorer.by_source = sources.map(|source| factors_of(parameters, source)).collect::<Result<_, _>>()?;
        }
        for of_comparison in &parameters.comparisons {
            let comparison = find_comparison(&of_comparison.comparison)?;
            let factor = of_comparison.factor as f32;
            scorer.factors[comparison as usize] = factor;
            for level in &of_comparison.levels {
                let place = find_level(comparison, &level.level)? + 1;
                scorer.weights[comparison as usize][place] = (level.m / level.u).log2() as f32 * factor;
                if comparison.is_shared_by_relatives() {
                    scorer.related[comparison as usize][place] = (level.related / level.u).log2() as f32 * factor;
                }
            }
        }
        for attribute in
            Comparison::ALL.iter().flat_map(|comparison| comparison.levels()).filter_map(|kind| kind.frequency_of)
        {
            let place = attribute as usize;
            if scorer.adjustments[place].is_empty() {
                let (records, agreement) = (frequencies.records(attribute) as f64, frequencies.agreement(attribute));
                scorer.adjustments[place] = counts[place]
                    .iter()
                    .map(|&count| {
                        let share = (f64::from(count) / records.max(1.0)).min(1.0);
                        if agreement > 0.0 {
                            (agreement / share).log2() as f32
                        } else {
                            0.0
                        }
                    })
                    .collect();
            }
        }
        Ok(scorer)
    }

    /// What the common value of a level adds.
    pub fn adjustment(&self, comparison: Comparison, level: u8, value: u32) -> f32 {
        if level == 0 || value == MISSING {
            return 0.0;
        }
        match comparison.levels()[usize::from(level) - 1].frequency_of {
            None => 0.0,
            Some(attribute) => self.adjustments[attribute as usize][value as usize] * self.factors[comparison as usize],
        }
    }

    /// Whether all sources count alike.
    pub fn trusts_all(&self) -> bool {
        self.by_source.is_empty()
    }

    /// How far a comparison counts between two records: as far as it does for the one that counts less.
    pub fn trust(&self, comparison: Comparison, comparer: &Comparer<'_>, a: u32, b: u32) -> f32 {
        if self.trusts_all() {
            return 1.0;
        }
        let of = |record| {
            let factors = self.by_source.get(usize::from(comparer.profiles.source(record)));
            factors.map_or(1.0, |factors| factors[comparison as usize])
        };
        of(a).min(of(b))
    }

    /// Evidence of one comparison, between records that are so far trusted.
    pub fn evidence(&self, comparison: Comparison, level: u8, value: u32, trust: f32) -> Evidence {
        let place = comparison as usize;
        let adjustment = self.adjustment(comparison, level, value);
        let related = if comparison.is_shared_by_relatives() {
            (self.related[place][usize::from(level)] + adjustment) * trust
        } else {
            0.0
        };
        Evidence { own: (self.weights[place][usize::from(level)] + adjustment) * trust, related }
    }

    /// Match weight of evidence: log₂ of the odds that it is one person's.
    pub fn weight(&self, evidence: Evidence) -> f32 {
        self.prior + evidence.own + self.relief(evidence)
    }

    /// How far relatives explain what is shared; at most zero.
    pub fn relief(&self, evidence: Evidence) -> f32 {
        -(1.0 + (self.prior_related + evidence.related).exp2()).log2()
    }

    pub fn prior(&self) -> f32 {
        self.prior
    }

    pub fn pair(&self, comparer: &Comparer<'_>, a: u32, b: u32) -> f32 {
        let pattern = comparer.compare(a, b);
        let mut sum = Evidence::default();
        for comparison in Comparison::ALL {
            let place = comparison as usize;
            if pattern.levels[place] != 0 {
                let trust = self.trust(comparison, comparer, a, b);
                let evidence = self.evidence(comparison, pattern.levels[place], pattern.values[place], trust);
                sum.own += evidence.own;
                sum.related += evidence.related;
            }
        }
        self.weight(sum)
    }
}

/// How far each comparison counts for records of a source.
fn factors_of(parameters: &Parameters, source: &str) -> Result<[f32; COMPARISONS], IdentityError> {
    let mut factors = [1.0; COMPARISONS];
    for of_comparison in &parameters.comparisons {
        if let Some((_, factor)) = of_comparison.by_source.iter().find(|(name, _)| name == source) {
            factors[find_comparison(&of_comparison.comparison)? as usize] = *factor as f32;
        }
    }
    Ok(factors)
}
