//! Some records against others: what a run over a few changes, and the answer for one person, need of the whole.

use super::linkage::{edges_of, local_part, Attribute, Blocks, Comparer, Judge, Scorer, MISSING};
use super::naming::Directory;
use super::resolution::{Linkage, Matching};
use super::{Handle, IdentityError, Records};

/// A pair of records, numbered as [`Matching::record`] does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    pub older: u32,
    pub younger: u32,
    /// Match weight.
    pub weight: f32,
}

/// The record of a person that fits the others least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Doubt {
    pub record: u32,
    /// Match weight of the record and all others together: below the threshold, a run would not join them.
    pub weight: f32,
}

impl Matching {
    /// Records.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of a record.
    pub fn record(&self, source: &str, key: &str) -> Option<u32> {
        self.directory().find(source, key)
    }

    /// Source and key of a record.
    pub fn source_and_key(&self, record: u32) -> (&str, &str) {
        self.directory().source_and_key(record)
    }

    fn directory(&self) -> Directory<'_> {
        Directory { records: &self.records, order: &self.order }
    }

    /// Pairs of which at least one record is `fresh` and that are, or might be, one person, best first.
    ///
    /// # Errors
    /// Parameters that make no sense.
    pub fn alike(
        &self,
        linkage: &Linkage<'_>,
        fresh: &(dyn Fn(u32) -> bool + Sync),
        tick: &mut dyn FnMut(),
    ) -> Result<Vec<Pair>, IdentityError> {
        let least = linkage.parameters.review_threshold as f32;
        let edges = self.judged(linkage, |judge| {
            let blocks =
                Blocks::of(&self.records, &self.profiles, linkage.blocking, linkage.threads, tick, &mut |_, _| {});
            edges_of(judge, &blocks, least, fresh, linkage.threads, tick)
        })?;
        Ok(edges
            .into_iter()
            .map(|edge| Pair { older: edge.older, younger: edge.younger, weight: edge.weight })
            .collect())
    }

    /// Of each person, given as its records, the record that fits the others least; `None` for persons of one record and where
    /// nothing describes that record or the others.
    ///
    /// # Errors
    /// Parameters that make no sense.
    pub fn doubts(
        &self,
        linkage: &Linkage<'_>,
        persons: &[Vec<u32>],
        tick: &mut dyn FnMut(),
    ) -> Result<Vec<Option<Doubt>>, IdentityError> {
        self.judged(linkage, |judge| {
            let of_person = |records: &Vec<u32>| {
                tick();
                let doubt = |&record: &u32| {
                    let others: Vec<u32> = records.iter().copied().filter(|other| *other != record).collect();
                    let verdict = judge.groups(&[record], &others);
                    verdict.is_described.then_some(Doubt { record, weight: verdict.weight })
                };
                records
                    .iter()
                    .filter_map(doubt)
                    .min_by(|a, b| a.weight.total_cmp(&b.weight).then(a.record.cmp(&b.record)))
            };
            persons.iter().map(of_person).collect()
        })
    }

    fn judged<T>(&self, linkage: &Linkage<'_>, with: impl FnOnce(&Judge<'_>) -> T) -> Result<T, IdentityError> {
        let mut comparer = Comparer::new(&self.records, &self.profiles);
        let counts = linkage.frequencies.counts(&comparer);
        comparer.note_counts(&counts);
        let scorer = Scorer::new(linkage.parameters, linkage.frequencies, &counts, self.records.source_names())?;
        let threshold = linkage.parameters.threshold as f32;
        Ok(with(&Judge { comparer: &comparer, scorer: &scorer, threshold }))
    }
}

impl Records {
    /// Normalised values of a record by the name of their attribute: those whose frequencies matter to its match weights.
    /// To be called before [`Matching::new`].
    pub fn attribute_values(&self, record: Handle) -> Vec<(&'static str, &str)> {
        let (source, key) = record.place();
        let source = &self.sources[usize::from(source)];
        let first =
            source.rows.get(key as usize).into_iter().flat_map(|row| Attribute::ALL.into_iter().zip(row.iter()));
        let first = first.filter(|(_, value)| **value != MISSING).map(|(attribute, value)| (attribute, *value));
        let further = source.extras.iter().filter(|extra| extra.0 == key).map(|extra| (extra.1, extra.2));
        let mut values = Vec::new();
        for (attribute, value) in first.chain(further) {
            if attribute == Attribute::DateOfBirth || attribute == Attribute::EmailLocal {
                continue; // the one is no text, the other comes with its address
            }
            let text = self.values(attribute).text(value);
            values.push((attribute.name(), text));
            if attribute == Attribute::Email {
                values.push((Attribute::EmailLocal.name(), local_part(text)));
            }
        }
        values
    }
}
