//! Training: what agreement and disagreement mean, learned from the records alone.
//!
//! Pairs of records are of three kinds: one person's, two persons' of one household (they share a family name, an address, a
//! landline, but have their own given names and birth dates), and two strangers'. How often strangers agree follows from
//! how common the values are, and from random pairs. The rest is learned by expectation maximisation over the patterns of
//! the candidate pairs: each pattern belongs to the three kinds with the probabilities that the parameters say, and the
//! parameters are what these shares say, over and over (Fellegi & Sunter 1969; Winkler 1988; the third class is for
//! relatives). What strangers are seen to share includes what matches share; that is taken off.
//!
//! Deterministic: random pairs are drawn from the seed, and sums go in the order of sorted patterns.

use hashbrown::HashMap;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::blocks::{Blocks, PIECES_PER_ROUND};
use super::comparison::{Comparer, Comparison, Pattern, COMPARISONS};
use super::frequency::TermFrequencies;
use super::parameters::{
    ComparisonParameters, Fixed, LevelParameters, Overrides, Parameters, LEVELS, REVIEW_THRESHOLD, THRESHOLD,
};
use super::profile::{Attribute, ATTRIBUTES, MISSING};
use super::work::in_parallel;
use crate::identity::IdentityError;

/// Random pairs per comparison.
const RANDOM_PAIRS: usize = 400_000;

/// Candidate pairs that are trained on, about.
const TRAINING_PAIRS: u64 = 1_000_000;

const ROUNDS: usize = 25;

/// Least share of the agreements of strangers that is theirs, and not that of matches among them.
const LEAST_SHARE: f64 = 0.03;

/// Weight of the assumption that relatives agree as matches do, where blocking shows too few of them to tell.
const RELATIVES_LIKE_MATCHES: f64 = 0.05;

/// Matches with a level from which on it counts as observed.
const OBSERVED: f64 = 3.0;

/// A probability for each level of each comparison; of the missing one, nothing.
type Table = [[f64; LEVELS]; COMPARISONS];

pub struct Training<'a> {
    pub comparer: &'a Comparer<'a>,
    pub frequencies: &'a TermFrequencies,
    /// By attribute and value.
    pub counts: &'a [Vec<u32>; ATTRIBUTES],
    pub blocks: &'a Blocks,
    pub threads: usize,
}

/// A pattern with what its common values weigh, as far as training looks at it.
type Key = u64;

/// Bits for a level, and for how common its value is.
const LEVEL_BITS: u32 = 4;
const BAND_BITS: u32 = 3;

impl Training<'_> {
    /// # Errors
    /// An override that makes no sense.
    pub fn run(&self, overrides: &Overrides, seed: u64, tick: &mut dyn FnMut()) -> Result<Parameters, IdentityError> {
        let fixed = overrides.fixed()?;
        let records = self.comparer.profiles.len() as f64;
        let all_pairs = (records * (records - 1.0) / 2.0).max(1.0);
        let strangers = self.strangers(seed, tick);
        let (patterns, scale) = self.patterns(tick);
        tick();

        let mut model = Model {
            prior: overrides.prior.unwrap_or((1.0 / records.max(1.0)).min(0.1)),
            related: (1.0 / records.max(1.0)).min(0.1),
            m: initial(),
            u: strangers.seen,
            h: initial_related(),
        };
        for comparison in Comparison::ALL {
            let place = comparison as usize;
            for (level, (m, u)) in fixed[place].iter().enumerate() {
                model.m[place][level] = m.unwrap_or(model.m[place][level]);
                model.u[place][level] = u.unwrap_or(model.u[place][level]);
            }
        }
        let mut matches = Table::default();
        for _ in 0..ROUNDS {
            tick();
            let sums = model.expect(&patterns, self);
            matches = sums.matches;
            model.maximise(&sums, scale, all_pairs, &strangers, &fixed, overrides.prior.is_some());
        }
        Ok(self.parameters(&model, &matches, &strangers, &fixed))
    }

    /// How often strangers agree: from counts where values are equal, else from random pairs that have values.
    fn strangers(&self, seed: u64, tick: &mut dyn FnMut()) -> Strangers {
        tick();
        let measured = in_parallel(self.threads, COMPARISONS, |place| self.strangers_at(Comparison::ALL[place], seed));
        let mut strangers =
            Strangers { seen: Table::default(), observed: Default::default(), comparable: [0.0; COMPARISONS] };
        for (place, (seen, observed, comparable)) in measured.into_iter().enumerate() {
            strangers.seen[place] = seen;
            strangers.observed[place] = observed;
            strangers.comparable[place] = comparable;
        }
        strangers
    }

    fn strangers_at(&self, comparison: Comparison, seed: u64) -> ([f64; LEVELS], [bool; LEVELS], f64) {
        let levels = comparison.levels().len();
        let mut seen = [0.0; LEVELS];
        let mut observed = [false; LEVELS];
        let attributes = attributes_of(comparison);
        let with_values: Vec<u32> = (0..self.comparer.profiles.len() as u32)
            .filter(|&record| {
                let row = self.comparer.profiles.row(record);
                attributes.iter().any(|attribute| row[*attribute as usize] != MISSING)
            })
            .collect();
        let mut counts = [0u64; LEVELS];
        let mut compared = 0u64;
        if with_values.len() > 1 {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ comparison as u64);
            for _ in 0..RANDOM_PAIRS {
                let a = with_values[random.random_range(0..with_values.len())];
                let b = with_values[random.random_range(0..with_values.len())];
                if a != b {
                    let level = self.comparer.outcome(comparison, a, b).0;
                    counts[usize::from(level)] += 1;
                    compared += u64::from(level != 0);
                }
            }
        }
        for level in 1..=levels {
            observed[level] = counts[level] > 0;
            // Half a pair where none was seen: an upper bound of what is likely.
            seen[level] = (counts[level] as f64).max(0.5) / (compared as f64).max(1.0);
        }
        if let Some(attribute) = identity_of(comparison) {
            let total = self.frequencies.records(attribute) as f64;
            let mut exact = [0.0; LEVELS];
            let has_crowds = comparison.levels()[1].name == "exact_shared";
            if has_crowds {
                let mut counts = vec![0u32; self.comparer.distinct(attribute)];
                for &record in &with_values {
                    self.comparer.profiles.values(record, attribute).for_each(|value| counts[value as usize] += 1);
                }
                for (value, &count) in counts.iter().enumerate() {
                    let level = usize::from(self.comparer.shared(attribute, value as u32).0);
                    exact[level] += f64::from(count) * (f64::from(count) - 1.0).max(0.0);
                }
            }
            if total > 1.0 {
                let agreement = self.frequencies.agreement(attribute);
                if has_crowds {
                    for level in 1..=3 {
                        seen[level] = (exact[level] / (total * (total - 1.0))).max(0.5 / (total * (total - 1.0) / 2.0));
                        observed[level] = exact[level] > 0.0;
                    }
                } else {
                    seen[1] = agreement.max(0.5 / (total * (total - 1.0) / 2.0));
                    observed[1] = agreement > 0.0;
                }
            }
        }
        let sum: f64 = seen.iter().sum();
        seen.iter_mut().for_each(|p| *p /= sum);
        let records = with_values.len() as f64;
        let share = compared as f64 / RANDOM_PAIRS as f64;
        (seen, observed, records * (records - 1.0) / 2.0 * share.max(1e-9))
    }

    /// Patterns of candidate pairs with their numbers, sorted, and the number of pairs for which each counted one stands.
    fn patterns(&self, tick: &mut dyn FnMut()) -> (Vec<(Key, f64)>, f64) {
        let pieces = self.blocks.pieces();
        let pairs: u64 = pieces.iter().map(|piece| piece.pairs).sum();
        // Whole pieces are taken, spread over all rules and blocks.
        let stride = (pairs / TRAINING_PAIRS).max(1) as usize;
        let sampled: Vec<usize> = (0..pieces.len()).filter(|number| number % stride == 0).collect();
        let sampled_pairs: u64 = sampled.iter().map(|&number| pieces[number].pairs).sum();
        let mut counts: HashMap<Key, u64, std::hash::RandomState> = HashMap::default();
        for some in sampled.chunks(PIECES_PER_ROUND) {
            tick();
            let found = in_parallel(self.threads, some.len(), |place| {
                let mut counts: HashMap<Key, u64, std::hash::RandomState> = HashMap::default();
                self.blocks.pairs(&pieces[some[place]], |a, b| {
                    *counts.entry(self.key(&self.comparer.compare(a, b))).or_default() += 1;
                });
                counts
            });
            for (key, count) in found.into_iter().flatten() {
                *counts.entry(key).or_default() += count;
            }
        }
        let mut patterns: Vec<(Key, f64)> = counts.into_iter().map(|(key, count)| (key, count as f64)).collect();
        patterns.sort_unstable_by_key(|pattern| pattern.0);
        (patterns, pairs as f64 / (sampled_pairs as f64).max(1.0))
    }

    fn key(&self, pattern: &Pattern) -> Key {
        let mut key = 0;
        for comparison in Comparison::ALL {
            let place = comparison as usize;
            let level = pattern.levels[place];
            let band = match (level, pattern.values[place]) {
                (0, _) | (_, MISSING) => 0,
                (level, value) => match comparison.levels()[usize::from(level) - 1].frequency_of {
                    None => 0,
                    Some(attribute) => band(self.counts[attribute as usize][value as usize]),
                },
            };
            key = key << (LEVEL_BITS + BAND_BITS) | Key::from(level) << BAND_BITS | band;
        }
        key
    }

    /// What the band of a level adds, as a factor of m/u.
    fn factor(&self, comparison: Comparison, level: usize, band: u64) -> f64 {
        match comparison.levels()[level - 1].frequency_of {
            None => 1.0,
            Some(attribute) => {
                let records = self.frequencies.records(attribute) as f64;
                self.frequencies.agreement(attribute) / (middle_of(band) / records.max(1.0)).min(1.0)
            }
        }
    }

    fn parameters(&self, model: &Model, matches: &Table, strangers: &Strangers, fixed: &Fixed) -> Parameters {
        let comparisons = Comparison::ALL
            .into_iter()
            .filter(|comparison| strangers.comparable[*comparison as usize] >= 1.0)
            .map(|comparison| {
                let place = comparison as usize;
                let seen: f64 = matches[place][1..].iter().sum();
                let levels = comparison.levels().iter().enumerate().map(|(number, kind)| {
                    let level = number + 1;
                    let (fixed_m, fixed_u) = fixed[place][level];
                    let m_observed = matches[place][level] >= OBSERVED || fixed_m.is_some();
                    let u = model.u[place][level];
                    // What was never seen is rarer than one in as many as were; it never speaks for a match.
                    let m = if m_observed { model.m[place][level] } else { u.min(1.0 / (seen + 2.0)) };
                    let related = if comparison.is_shared_by_relatives() { model.h[place][level] } else { u };
                    LevelParameters {
                        level: kind.name.to_owned(),
                        m,
                        u,
                        related,
                        m_observed,
                        u_observed: strangers.observed[place][level] || fixed_u.is_some(),
                        matches: matches[place][level],
                    }
                });
                ComparisonParameters {
                    comparison: comparison.name().to_owned(),
                    factor: 1.0,
                    by_source: Vec::new(),
                    levels: levels.collect(),
                }
            })
            .collect();
        Parameters {
            prior: model.prior,
            prior_related: model.related,
            threshold: THRESHOLD,
            review_threshold: REVIEW_THRESHOLD,
            comparisons,
        }
    }
}

struct Strangers {
    /// By comparison and level, among random pairs; what matches contribute is included.
    seen: Table,
    observed: [[bool; LEVELS]; COMPARISONS],
    /// Pairs of records that can be compared.
    comparable: [f64; COMPARISONS],
}

struct Model {
    prior: f64,
    related: f64,
    m: Table,
    u: Table,
    h: Table,
}

#[derive(Default)]
struct Sums {
    matches: Table,
    relatives: Table,
    all_matches: f64,
    all_relatives: f64,
}

impl Model {
    fn expect(&self, patterns: &[(Key, f64)], training: &Training<'_>) -> Sums {
        // Factors of each level and band against strangers: those of a match, and of relatives.
        const BANDS: usize = 1 << BAND_BITS;
        let mut ratios = vec![[(1.0f64, 1.0f64); LEVELS * BANDS]; COMPARISONS];
        for comparison in Comparison::ALL {
            let place = comparison as usize;
            for level in 1..=comparison.levels().len() {
                for band in 0..BANDS {
                    let factor = training.factor(comparison, level, band as u64);
                    let m = self.m[place][level] / self.u[place][level] * factor;
                    let h = if comparison.is_shared_by_relatives() {
                        self.h[place][level] / self.u[place][level] * factor
                    } else {
                        1.0
                    };
                    ratios[place][level * BANDS + band] = (m, h);
                }
            }
        }
        let mut sums = Sums::default();
        for &(key, count) in patterns {
            let (mut m, mut h) = (self.prior, self.related);
            let mut rest = key;
            for place in (0..COMPARISONS).rev() {
                let ratio = ratios[place][(rest & ((1 << (LEVEL_BITS + BAND_BITS)) - 1)) as usize];
                m *= ratio.0;
                h *= ratio.1;
                rest >>= LEVEL_BITS + BAND_BITS;
            }
            let all = m + h + (1.0 - self.prior - self.related).max(0.0);
            let (match_share, related_share) = (m / all * count, h / all * count);
            sums.all_matches += match_share;
            sums.all_relatives += related_share;
            let mut rest = key;
            for place in (0..COMPARISONS).rev() {
                let level = (rest >> BAND_BITS & ((1 << LEVEL_BITS) - 1)) as usize;
                sums.matches[place][level] += match_share;
                sums.relatives[place][level] += related_share;
                rest >>= LEVEL_BITS + BAND_BITS;
            }
        }
        sums
    }

    fn maximise(
        &mut self,
        sums: &Sums,
        scale: f64,
        all_pairs: f64,
        strangers: &Strangers,
        fixed: &Fixed,
        keep_prior: bool,
    ) {
        if !keep_prior {
            self.prior = ((sums.all_matches * scale + 1.0) / all_pairs).min(0.5);
        }
        self.related = (sums.all_relatives * scale / all_pairs).clamp(1e-300, 0.4);
        for comparison in Comparison::ALL {
            let place = comparison as usize;
            let levels = 1..=comparison.levels().len();
            let of = |sums: &Table| levels.clone().map(|level| sums[place][level]).sum::<f64>();
            let (matches, relatives) = (of(&sums.matches), of(&sums.relatives));
            for level in levels.clone() {
                let smooth = 0.5 / levels.clone().count() as f64;
                let (fixed_m, fixed_u) = fixed[place][level];
                self.m[place][level] = fixed_m.unwrap_or((sums.matches[place][level] + smooth) / (matches + 0.5));
                let like_matches = RELATIVES_LIKE_MATCHES * relatives * self.m[place][level];
                self.h[place][level] = (sums.relatives[place][level] + smooth + like_matches)
                    / (relatives * (1.0 + RELATIVES_LIKE_MATCHES) + 0.5);
                let seen = strangers.seen[place][level];
                let not_strangers = (sums.matches[place][level] + sums.relatives[place][level]) * scale
                    / strangers.comparable[place].max(1.0);
                self.u[place][level] = fixed_u.unwrap_or((seen - not_strangers).max(seen * LEAST_SHARE));
            }
        }
    }
}

/// The attribute whose equality is the first level.
fn identity_of(comparison: Comparison) -> Option<Attribute> {
    match comparison {
        Comparison::GivenName => Some(Attribute::GivenName),
        Comparison::FamilyName => Some(Attribute::FamilyName),
        Comparison::Email => Some(Attribute::Email),
        Comparison::Phone => Some(Attribute::Phone),
        Comparison::Company => Some(Attribute::Company),
        Comparison::DeviceId => Some(Attribute::DeviceId),
        Comparison::Text => Some(Attribute::Text),
        Comparison::DateOfBirth | Comparison::Address => None,
    }
}

/// Attributes of which a record needs one to be compared.
pub fn attributes_of(comparison: Comparison) -> &'static [Attribute] {
    match comparison {
        Comparison::GivenName => &[Attribute::GivenName],
        Comparison::FamilyName => &[Attribute::FamilyName],
        Comparison::Email => &[Attribute::Email],
        Comparison::Phone => &[Attribute::Phone],
        Comparison::DateOfBirth => &[Attribute::DateOfBirth],
        Comparison::Address => &[Attribute::Street, Attribute::City, Attribute::Postcode],
        Comparison::Company => &[Attribute::Company],
        Comparison::DeviceId => &[Attribute::DeviceId],
        Comparison::Text => &[Attribute::Text],
    }
}

/// How common a value is, in steps of four.
fn band(count: u32) -> u64 {
    u64::from(count.max(1).ilog2() / 2).min((1 << BAND_BITS) - 1)
}

fn middle_of(band: u64) -> f64 {
    2f64.powi(band as i32 * 2 + 1)
}

/// Where training begins: what is usual of customer records.
fn initial() -> Table {
    table(&[
        &[0.60, 0.14, 0.06, 0.04, 0.03, 0.01, 0.12],
        &[0.75, 0.08, 0.03, 0.02, 0.12],
        &[0.40, 0.02, 0.01, 0.02, 0.05, 0.50],
        &[0.55, 0.02, 0.01, 0.02, 0.40],
        &[0.90, 0.02, 0.04, 0.02, 0.02],
        &[0.60, 0.03, 0.10, 0.05, 0.07, 0.15],
        &[0.80, 0.10, 0.10],
        &[0.50, 0.02, 0.01, 0.47],
        &[0.80, 0.10, 0.10],
    ])
}

fn initial_related() -> Table {
    table(&[
        &[0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.94],
        &[0.75, 0.08, 0.03, 0.02, 0.12],
        &[0.03, 0.01, 0.01, 0.01, 0.01, 0.93],
        &[0.05, 0.01, 0.01, 0.01, 0.92],
        &[0.01, 0.01, 0.01, 0.01, 0.96],
        &[0.60, 0.03, 0.10, 0.05, 0.07, 0.15],
        &[0.05, 0.01, 0.94],
        &[0.05, 0.02, 0.01, 0.92],
        &[0.05, 0.05, 0.90],
    ])
}

fn table(rows: &[&[f64]; COMPARISONS]) -> Table {
    let mut table = Table::default();
    for (place, row) in rows.iter().enumerate() {
        table[place][1..=row.len()].copy_from_slice(row);
    }
    table
}
