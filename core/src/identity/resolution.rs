//! The whole of a run: records in, persons with ids out.

use super::cluster::{cluster, Clustering, Constraints, Dropped, Likeness, Link, Refused, NOBODY};
use super::linkage::{
    edges, steps, Attribute, BlockSizes, BlockingRules, Blocks, Comparer, Edge, Judge, Overrides, Oversized,
    Parameters, Profiles, Scorer, Step, TermFrequencies, Training,
};
use super::naming::{name, Directory, Names, Previous, NONE};
use super::order::Order;
use super::records::{Records, SourceNumber};
use super::{Identifier, IdentityError};

/// Records in order, and what was known of them before.
pub struct Matching {
    pub(super) records: Records,
    pub(super) order: Order,
    pub(super) profiles: Profiles,
    previous: Previous,
    vanished: Vec<Vanished>,
    constraints: Constraints,
    /// Blocks that were made, and by which rules.
    blocks: Option<(BlockingRules, Blocks)>,
}

/// A record that is gone, and the id that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vanished {
    pub source: String,
    pub key: String,
    pub customer_id: String,
}

/// How records are linked by similarity.
#[derive(Clone, Copy)]
pub struct Linkage<'a> {
    pub parameters: &'a Parameters,
    pub frequencies: &'a TermFrequencies,
    pub blocking: &'a BlockingRules,
    /// Threads for pure work. They are joined whenever `tick` is called.
    pub threads: usize,
}

impl Matching {
    /// # Errors
    /// More records than numbers.
    pub fn new(mut records: Records) -> Result<Self, IdentityError> {
        if records.len() >= u32::MAX as usize {
            return Err(IdentityError::TooMany);
        }
        let order = Order::of(&records);
        let previous = Previous { ids: Default::default(), of_record: vec![NONE; order.len()] };
        let profiles = Profiles::take(&mut records, &order)?;
        let constraints = Constraints::default();
        Ok(Matching { records, order, profiles, previous, vanished: Vec::new(), constraints, blocks: None })
    }

    /// The id that a record had after the last run.
    ///
    /// # Errors
    /// More ids than numbers.
    pub fn remember(&mut self, source: &str, key: &str, customer_id: &str) -> Result<(), IdentityError> {
        match (Directory { records: &self.records, order: &self.order }).find(source, key) {
            Some(record) => self.previous.of_record[record as usize] = self.previous.ids.intern(customer_id)?,
            None => self.vanished.push(Vanished {
                source: source.to_owned(),
                key: key.to_owned(),
                customer_id: customer_id.to_owned(),
            }),
        }
        Ok(())
    }

    /// The user says that two records, each as source and key, are one person. Returns whether both exist.
    pub fn confirm(&mut self, left: (&str, &str), right: (&str, &str)) -> bool {
        let pair = self.pair(left, right);
        self.constraints.confirmed.extend(pair);
        pair.is_some()
    }

    /// The user says that two records are not one person. Returns whether both exist.
    pub fn forbid(&mut self, left: (&str, &str), right: (&str, &str)) -> bool {
        let pair = self.pair(left, right);
        self.constraints.forbidden.extend(pair);
        pair.is_some()
    }

    fn pair(&self, left: (&str, &str), right: (&str, &str)) -> Option<(u32, u32)> {
        let directory = Directory { records: &self.records, order: &self.order };
        Some((directory.find(left.0, left.1)?, directory.find(right.0, right.1)?))
    }

    /// Attributes that some record has.
    pub fn attributes(&self) -> Vec<Attribute> {
        self.profiles.attributes()
    }

    /// Counts the values of the records.
    pub fn frequencies(&self, tick: &mut dyn FnMut()) -> TermFrequencies {
        TermFrequencies::count(&Comparer::new(&self.records, &self.profiles), tick)
    }

    /// What the rules would compare.
    pub fn block_sizes(&self, blocking: &BlockingRules, threads: usize, tick: &mut dyn FnMut()) -> Vec<BlockSizes> {
        Blocks::of(&self.records, &self.profiles, blocking, threads, tick, &mut |_, _| {})
            .sizes(blocking, threads, tick)
    }

    /// Makes the blocks of these rules, for training and joining. Calls `each` with every blocking key, as
    /// [`Records::block_keys`] has it, and the records of its block, in order of the keys.
    pub fn block(
        &mut self,
        blocking: &BlockingRules,
        threads: usize,
        tick: &mut dyn FnMut(),
        each: &mut dyn FnMut(u64, &[u32]),
    ) {
        let blocks = Blocks::of(&self.records, &self.profiles, blocking, threads, tick, each);
        self.blocks = Some((blocking.clone(), blocks));
    }

    /// Learns the parameters from the records.
    ///
    /// # Errors
    /// An override that makes no sense.
    pub fn train(
        &mut self,
        frequencies: &TermFrequencies,
        blocking: &BlockingRules,
        overrides: &Overrides,
        seed: u64,
        threads: usize,
        tick: &mut dyn FnMut(),
    ) -> Result<Parameters, IdentityError> {
        let blocks = blocks_of(self.blocks.take(), (&self.records, &self.profiles), blocking, threads, tick);
        let mut comparer = Comparer::new(&self.records, &self.profiles);
        let counts = frequencies.counts(&comparer);
        comparer.note_counts(&counts);
        let training = Training { comparer: &comparer, frequencies, counts: &counts, blocks: &blocks, threads };
        let parameters = training.run(overrides, seed, tick)?.with(overrides);
        self.blocks = Some((blocking.clone(), blocks));
        parameters
    }

    /// Explains the pair of the first two records.
    pub(super) fn explain_first_two(
        &self,
        parameters: &Parameters,
        frequencies: &TermFrequencies,
        sources: [&str; 2],
    ) -> Result<Vec<Step>, IdentityError> {
        let mut comparer = Comparer::new(&self.records, &self.profiles);
        let counts = frequencies.counts(&comparer);
        comparer.note_counts(&counts);
        Ok(steps(&comparer, &Scorer::new(parameters, frequencies, &counts, sources.into_iter())?, parameters))
    }

    /// Finds the persons and names them. Without `linkage`, by identifiers alone. Calls `tick` every few thousand steps.
    ///
    /// # Errors
    /// Parameters that make no sense.
    pub fn resolve(self, linkage: Option<&Linkage<'_>>, tick: &mut dyn FnMut()) -> Result<Resolution, IdentityError> {
        let Matching { records, order, profiles, previous, vanished, constraints, blocks } = self;
        let mut oversized = Vec::new();
        let clustering = match linkage {
            None => cluster(&records, &order, None, &constraints, tick),
            Some(linkage) => {
                let mut comparer = Comparer::new(&records, &profiles);
                let counts = linkage.frequencies.counts(&comparer);
                comparer.note_counts(&counts);
                let scorer = Scorer::new(linkage.parameters, linkage.frequencies, &counts, records.source_names())?;
                let blocks = blocks_of(blocks, (&records, &profiles), linkage.blocking, linkage.threads, tick);
                oversized.extend_from_slice(&blocks.oversized);
                let parameters = linkage.parameters;
                let judge = Judge { comparer: &comparer, scorer: &scorer, threshold: parameters.threshold as f32 };
                let edges = edges(&judge, &blocks, parameters.review_threshold as f32, linkage.threads, tick);
                drop(blocks);
                cluster(&records, &order, Some(Likeness { judge, edges, threads: linkage.threads }), &constraints, tick)
            }
        };
        tick();
        let names = name(Directory { records: &records, order: &order }, &clustering.oldest, &previous);
        tick();
        let Clustering { owners, links, dropped, alike, refused, .. } = clustering;
        Ok(Resolution { records, order, previous, vanished, owners, links, dropped, alike, refused, oversized, names })
    }
}

/// Blocks of these rules: those that were made, if they are.
fn blocks_of(
    made: Option<(BlockingRules, Blocks)>,
    (records, profiles): (&Records, &Profiles),
    blocking: &BlockingRules,
    threads: usize,
    tick: &mut dyn FnMut(),
) -> Blocks {
    match made {
        Some((rules, blocks)) if rules == *blocking => blocks,
        _ => Blocks::of(records, profiles, blocking, threads, tick, &mut |_, _| {}),
    }
}

/// Persons, their ids, and what changed.
pub struct Resolution {
    pub(super) records: Records,
    pub(super) order: Order,
    pub(super) previous: Previous,
    pub(super) names: Names,
    pub(super) owners: Vec<Vec<u32>>,
    pub(super) links: Vec<Link>,
    dropped: Vec<Dropped>,
    pub(super) alike: Vec<Edge>,
    refused: Vec<Refused>,
    oversized: Vec<Oversized>,
    pub(super) vanished: Vec<Vanished>,
}

/// Two records, each as source and key, and the match weight of the pair: infinite if the user confirmed it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairLink<'a> {
    /// Numbers of the records, as [`Resolution::source_and_key`] takes them.
    pub records: (u32, u32),
    pub left: (&'a str, &'a str),
    pub right: (&'a str, &'a str),
    pub weight: f32,
    /// For a link: `confirmed` or `similarity`; for one that was not made: `weak`, `cohesion`, `limit`, `forbidden`.
    pub reason: &'static str,
}

/// A value that does not link all of its records, for a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict<'a> {
    pub identifier: &'a Identifier,
    pub value: &'a str,
    pub reason: &'static str,
    pub records: u32,
    pub persons: u32,
}

impl Resolution {
    pub(super) fn directory(&self) -> Directory<'_> {
        Directory { records: &self.records, order: &self.order }
    }

    pub fn records(&self) -> usize {
        self.order.len()
    }

    /// Source and key of a record, numbered from the oldest on as [`Matching`] does.
    pub fn source_and_key(&self, record: u32) -> (&str, &str) {
        self.directory().source_and_key(record)
    }

    pub fn persons(&self) -> usize {
        self.names.ids.len()
    }

    pub(super) fn customer_of(&self, record: u32) -> &str {
        &self.names.ids[self.names.person[record as usize] as usize]
    }

    /// Canonical id of a record.
    pub fn customer(&self, source: &str, key: &str) -> Option<&str> {
        Some(self.customer_of(self.directory().find(source, key)?))
    }

    /// Who holds a value: `None` for nobody.
    pub(super) fn owner(&self, column: usize, value: u32) -> Option<&str> {
        match self.owners[column][value as usize] {
            NOBODY => None,
            record => Some(self.customer_of(record)),
        }
    }

    /// Source, key and id of the records that are new, from the oldest on.
    pub fn new_records(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.records_where(|before, _| before.is_none())
    }

    /// Source, key and id of the records that had another id before.
    pub fn changed_records(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.records_where(|before, customer| before.is_some_and(|before| before != customer))
    }

    fn records_where(&self, wanted: impl Fn(Option<&str>, &str) -> bool) -> impl Iterator<Item = (&str, &str, &str)> {
        (0..self.order.len() as u32).filter_map(move |record| {
            let customer = self.customer_of(record);
            let before = match self.previous.of_record[record as usize] {
                NONE => None,
                id => Some(self.previous.ids.text(id)),
            };
            let (source, key) = self.directory().source_and_key(record);
            wanted(before, customer).then_some((source, key, customer))
        })
    }

    /// What stands between source and key in the `source:key` of a record: a colon, or more where another id reads the same.
    pub fn separator(&self, source: &str, key: &str) -> String {
        let directory = self.directory();
        let qualified =
            directory.find(source, key).map_or_else(|| ":".to_owned(), |record| directory.qualified(record));
        qualified.get(source.len()..qualified.len().saturating_sub(key.len())).unwrap_or(":").to_owned()
    }

    /// Whether separators may differ from a colon: keys with colons may read like other ids.
    pub fn has_odd_separators(&self) -> bool {
        let primary = self.directory().primary();
        self.records.sources.iter().enumerate().any(|(number, source)| {
            let is_primary = primary == Some(number as SourceNumber);
            (0..source.keys.len() as u32).map(|key| source.keys.text(key)).any(|key| {
                if is_primary {
                    key.contains(':')
                } else {
                    key.starts_with(':')
                }
            })
        })
    }

    /// Records that are gone.
    pub fn vanished_records(&self) -> &[Vanished] {
        &self.vanished
    }

    /// Links by similarity that made the persons, best first.
    pub fn links(&self) -> impl Iterator<Item = PairLink<'_>> {
        self.alike
            .iter()
            .map(|edge| self.pair_link(edge, if edge.weight == f32::INFINITY { "confirmed" } else { "similarity" }))
    }

    /// Pairs that might be one person and are not linked, the most likely first.
    pub fn uncertain(&self) -> impl Iterator<Item = PairLink<'_>> {
        self.refused.iter().map(|refused| self.pair_link(&refused.edge, refused.reason.name()))
    }

    /// Blocks beyond the limit.
    pub fn oversized(&self) -> &[Oversized] {
        &self.oversized
    }

    fn pair_link(&self, edge: &Edge, reason: &'static str) -> PairLink<'_> {
        let of = |record| self.directory().source_and_key(record);
        PairLink {
            records: (edge.older, edge.younger),
            left: of(edge.older),
            right: of(edge.younger),
            weight: edge.weight,
            reason,
        }
    }

    /// Values that do not link all of their records, best evidence first.
    pub fn conflicts(&self) -> impl Iterator<Item = Conflict<'_>> {
        self.dropped.iter().map(|dropped| {
            let column = &self.records.columns[dropped.column];
            Conflict {
                identifier: &column.identifier,
                value: column.values.text(dropped.value),
                reason: dropped.reason.name(),
                records: dropped.records,
                persons: dropped.persons,
            }
        })
    }
}
