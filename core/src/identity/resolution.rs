//! The whole of a run: records in, persons with ids out.

use super::cluster::{cluster, Dropped, Link, NOBODY};
use super::naming::{name, Directory, Names, Previous, NONE};
use super::order::Order;
use super::records::{Records, SourceNumber};
use super::{Identifier, IdentityError};

/// Records in order, and what was known of them before.
pub struct Matching {
    records: Records,
    order: Order,
    previous: Previous,
    vanished: Vec<Vanished>,
}

/// A record that is gone, and the id that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vanished {
    pub source: String,
    pub key: String,
    pub customer_id: String,
}

impl Matching {
    /// # Errors
    /// More records than numbers.
    pub fn new(records: Records) -> Result<Self, IdentityError> {
        if records.len() >= u32::MAX as usize {
            return Err(IdentityError::TooMany);
        }
        let order = Order::of(&records);
        let previous = Previous { ids: Default::default(), of_record: vec![NONE; order.len()] };
        Ok(Matching { records, order, previous, vanished: Vec::new() })
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

    /// Finds the persons and names them. Calls `tick` every few thousand steps of the long loops.
    pub fn resolve(self, tick: &mut dyn FnMut()) -> Resolution {
        let Matching { records, order, previous, vanished } = self;
        let clustering = cluster(&records, &order, tick);
        tick();
        let names = name(Directory { records: &records, order: &order }, &clustering.oldest, &previous);
        tick();
        let (owners, links, dropped) = (clustering.owners, clustering.links, clustering.dropped);
        Resolution { records, order, previous, vanished, owners, links, dropped, names }
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
    pub(super) vanished: Vec<Vanished>,
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
