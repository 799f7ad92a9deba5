//! Whether two groups of records are one person, by everything that is known of both.

use super::comparison::{Comparer, Comparison};
use super::profile::{Attribute, MISSING};
use super::score::{Evidence, Scorer};
use super::train::attributes_of;

/// Different values of a group that are looked at; a person with more is known well enough by these.
const MOST_VARIANTS: usize = 16;

/// Judges pairs of records and of groups.
pub struct Judge<'a> {
    pub comparer: &'a Comparer<'a>,
    pub scorer: &'a Scorer,
    pub threshold: f32,
}

/// What speaks for and against joining two groups.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Match weight of the groups.
    pub weight: f32,
    /// Whether anything but identifiers could be compared.
    pub is_described: bool,
}

impl Judge<'_> {
    /// Match weight of a pair of records.
    pub fn pair(&self, a: u32, b: u32) -> f32 {
        self.scorer.pair(self.comparer, a, b)
    }

    /// Judges two groups as one person each: of every comparison, the mean over all pairs across that have the values. So
    /// what is missing on some records is known from others, and one lucky pair cannot outweigh the rest. People move, so of
    /// addresses the closest pair counts, for being one person as for being relatives.
    pub fn groups(&self, a: &[u32], b: &[u32]) -> Verdict {
        let mut sum = Evidence::default();
        let mut is_described = false;
        for comparison in Comparison::ALL {
            let (a, b) = (self.variants(comparison, a), self.variants(comparison, b));
            let (mut own, mut related, mut pairs) = (0.0, 0.0, 0.0);
            let (mut best_own, mut best_related) = (f32::MIN, f32::MIN);
            for (record_a, count_a) in a.iter() {
                for (record_b, count_b) in b.iter() {
                    let (level, value) = self.comparer.outcome(comparison, record_a, record_b);
                    if level != 0 {
                        let trust = self.scorer.trust(comparison, self.comparer, record_a, record_b);
                        let evidence = self.scorer.evidence(comparison, level, value, trust);
                        let count = count_a * count_b;
                        own += evidence.own * count;
                        related += evidence.related * count;
                        best_own = evidence.own.max(best_own);
                        best_related = evidence.related.max(best_related);
                        pairs += count;
                    }
                }
            }
            if pairs > 0.0 {
                let moves = comparison == Comparison::Address;
                sum.own += if moves { best_own } else { own / pairs };
                sum.related += if moves { best_related } else { related / pairs };
                is_described |= comparison.is_descriptive();
            }
        }
        Verdict { weight: self.scorer.weight(sum), is_described }
    }

    /// Records of a group that differ in what is compared, and how many are like each.
    fn variants(&self, comparison: Comparison, group: &[u32]) -> Variants {
        let attributes = compared(comparison);
        let mut variants = Variants { records: [0; MOST_VARIANTS], counts: [0.0; MOST_VARIANTS], len: 0 };
        for &record in group {
            let row = self.comparer.profiles.row(record);
            if attributes.iter().all(|attribute| row[*attribute as usize] == MISSING) {
                continue;
            }
            let known = variants.records[..variants.len].iter().position(|&known| {
                let other = self.comparer.profiles.row(known);
                attributes.iter().all(|attribute| row[*attribute as usize] == other[*attribute as usize])
                    && !self.comparer.profiles.has_extras(record)
                    && !self.comparer.profiles.has_extras(known)
                    && (self.scorer.trusts_all()
                        || self.comparer.profiles.source(record) == self.comparer.profiles.source(known))
            });
            match known {
                Some(place) => variants.counts[place] += 1.0,
                None if variants.len < MOST_VARIANTS => {
                    variants.records[variants.len] = record;
                    variants.counts[variants.len] = 1.0;
                    variants.len += 1;
                }
                None => {}
            }
        }
        variants
    }
}

struct Variants {
    records: [u32; MOST_VARIANTS],
    counts: [f32; MOST_VARIANTS],
    len: usize,
}

impl Variants {
    fn iter(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.records[..self.len].iter().copied().zip(self.counts[..self.len].iter().copied())
    }
}

/// Attributes on which the outcome of a comparison depends.
fn compared(comparison: Comparison) -> &'static [Attribute] {
    match comparison {
        Comparison::GivenName | Comparison::FamilyName => &[Attribute::GivenName, Attribute::FamilyName],
        comparison => attributes_of(comparison),
    }
}
