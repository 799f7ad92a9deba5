//! Whether two groups of records are one person, by everything that is known of both.

use super::comparison::{Comparer, Comparison};
use super::score::{Evidence, Scorer};

/// Members of a group that are looked at; a person with more records is known well enough by these.
const MOST_MEMBERS: usize = 24;

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
    /// what is missing on some records is known from others, and one lucky pair cannot outweigh the rest.
    pub fn groups(&self, a: &[u32], b: &[u32]) -> Verdict {
        let (a, b) = (&a[..a.len().min(MOST_MEMBERS)], &b[..b.len().min(MOST_MEMBERS)]);
        let mut sum = Evidence::default();
        let mut is_described = false;
        for comparison in Comparison::ALL {
            let (mut own, mut related, mut pairs) = (0.0, 0.0, 0.0);
            let (mut best_own, mut best_related) = (f32::MIN, f32::MIN);
            for &record_a in a {
                for &record_b in b {
                    let (level, value) = self.comparer.outcome(comparison, record_a, record_b);
                    if level != 0 {
                        let evidence = self.scorer.evidence(comparison, level, value);
                        own += evidence.own;
                        related += evidence.related;
                        best_own = evidence.own.max(best_own);
                        best_related = evidence.related.max(best_related);
                        pairs += 1.0;
                    }
                }
            }
            if pairs > 0.0 {
                let w = knob(comparison as usize);
                sum.own += own / pairs * (1.0 - w) + best_own * w;
                sum.related += related / pairs * (1.0 - w) + best_related * w;
                is_described |= comparison.is_descriptive();
            }
        }
        Verdict { weight: self.scorer.weight(sum), is_described }
    }
}

fn knob(place: usize) -> f32 {
    use std::sync::OnceLock;
    static K: OnceLock<Vec<f32>> = OnceLock::new();
    K.get_or_init(|| {
        std::env::var("KNOBS").map(|s| s.split(',').map(|x| x.parse().unwrap()).collect()).unwrap_or(vec![0.0; 9])
    })[place]
}
