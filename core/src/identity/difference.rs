//! What is stored, against what should be: so that a run writes what changed and nothing else.
//!
//! Feed every stored row to `compare`; what it returns is to be deleted or overwritten, what `missing` returns afterwards
//! is to be written.

use std::collections::HashMap;

use super::naming::{Named, NONE};
use super::resolution::Resolution;

/// Difference of the stored identifiers.
pub struct IdentifierDifference<'a> {
    resolution: &'a Resolution,
    columns: HashMap<String, usize>,
    /// By column and value.
    states: Vec<Vec<State>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    /// Stored with another customer.
    Stale,
    Settled,
}

impl<'a> IdentifierDifference<'a> {
    pub fn of(resolution: &'a Resolution) -> Self {
        let columns = &resolution.records.columns;
        IdentifierDifference {
            resolution,
            columns: columns
                .iter()
                .enumerate()
                .map(|(number, column)| (column.identifier.to_string(), number))
                .collect(),
            states: columns.iter().map(|column| vec![State::Missing; column.values.len()]).collect(),
        }
    }

    /// Whether a stored row stands for a value that still exists; if not, it is to be deleted.
    pub fn compare(&mut self, identifier: &str, value: &str, customer_id: Option<&str>) -> bool {
        let Some(&column) = self.columns.get(identifier) else { return false };
        let Some(number) = self.resolution.records.columns[column].values.number(value) else { return false };
        let is_right = self.resolution.owner(column, number) == customer_id;
        self.states[column][number as usize] = if is_right { State::Settled } else { State::Stale };
        true
    }

    /// Identifier, value and customer (`None` for nobody) of the rows to insert.
    pub fn missing(&self) -> impl Iterator<Item = (String, &str, Option<&str>)> {
        self.rows(State::Missing)
    }

    /// The same of the rows to update.
    pub fn stale(&self) -> impl Iterator<Item = (String, &str, Option<&str>)> {
        self.rows(State::Stale)
    }

    fn rows(&self, state: State) -> impl Iterator<Item = (String, &str, Option<&str>)> {
        self.states.iter().enumerate().flat_map(move |(number, states)| {
            let column = &self.resolution.records.columns[number];
            (0..states.len() as u32).filter(move |&value| states[value as usize] == state).map(move |value| {
                (column.identifier.to_string(), column.values.text(value), self.resolution.owner(number, value))
            })
        })
    }
}

/// Difference of the stored aliases.
///
/// An alias is every id, other than the canonical ones and `source:key` of the records, that stands for a customer: the bare
/// keys of the primary source, canonical ids of former times, and `source:key` of records that are gone.
pub struct AliasDifference<'a> {
    resolution: &'a Resolution,
    bare: Vec<bool>,
    former: Vec<bool>,
    vanished: HashMap<String, bool>,
    /// Who has most of the records of each former id, or [`NONE`].
    successors: Vec<u32>,
}

/// What to do with a stored alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AliasVerdict<'a> {
    Keep,
    /// It stands for another customer now.
    Change(&'a str),
    /// It is a canonical id or that of a record now.
    Delete,
}

impl<'a> AliasDifference<'a> {
    pub fn of(resolution: &'a Resolution) -> Self {
        let mut best = vec![(0, NONE); resolution.previous.ids.len()];
        for moved in &resolution.names.moves {
            let best = &mut best[moved.id as usize];
            if moved.records > best.0 {
                *best = (moved.records, moved.person);
            }
        }
        AliasDifference {
            resolution,
            bare: vec![false; resolution.records()],
            former: vec![false; resolution.previous.ids.len()],
            vanished: resolution.vanished.iter().map(|gone| (format!("{}:{}", gone.source, gone.key), false)).collect(),
            successors: best.into_iter().map(|(_, person)| person).collect(),
        }
    }

    pub fn compare(&mut self, alias: &str, customer_id: &str) -> AliasVerdict<'a> {
        let resolution = self.resolution;
        let target = match resolution.directory().named(alias) {
            Named::Bare(record) => {
                self.bare[record as usize] = true;
                resolution.customer_of(record)
            }
            Named::Qualified(record) if resolution.directory().qualified(record) == alias => {
                return AliasVerdict::Delete
            }
            Named::Qualified(record) => resolution.customer_of(record),
            Named::Nothing => {
                if let Some(id) = resolution.previous.ids.number(alias) {
                    self.former[id as usize] = true;
                }
                if let Some(is_stored) = self.vanished.get_mut(alias) {
                    *is_stored = true;
                }
                // If its records are long gone, it follows the customer it stood for.
                match self.current_of_former(alias).or_else(|| self.current_of(customer_id)) {
                    Some(customer) => customer,
                    None => return AliasVerdict::Keep,
                }
            }
        };
        if target == alias {
            AliasVerdict::Delete
        } else if target == customer_id {
            AliasVerdict::Keep
        } else {
            AliasVerdict::Change(target)
        }
    }

    /// Alias and customer of the rows to insert.
    pub fn missing(&self) -> impl Iterator<Item = (String, &'a str)> + use<'a, '_> {
        let resolution = self.resolution;
        let directory = resolution.directory();
        let of_records = (0..resolution.records() as u32)
            .filter(move |&record| !self.bare[record as usize] && directory.is_primary(record))
            .map(move |record| (directory.source_and_key(record).1.to_owned(), resolution.customer_of(record)));
        let of_former_ids =
            (0..self.former.len() as u32).filter(|&id| !self.former[id as usize]).filter_map(move |id| {
                let alias = resolution.previous.ids.text(id);
                Some((alias.to_owned(), self.current_of_former(alias)?))
            });
        let of_vanished = resolution.vanished.iter().filter_map(move |gone| {
            let alias = format!("{}:{}", gone.source, gone.key);
            let is_missing =
                self.vanished.get(&alias) == Some(&false) && resolution.previous.ids.number(&alias).is_none();
            let customer = self.current_of(&gone.customer_id).filter(|_| is_missing)?;
            Some((alias, customer))
        });
        let of_nothing =
            of_former_ids.chain(of_vanished).filter(move |(alias, _)| directory.named(alias) == Named::Nothing);
        of_records.chain(of_nothing).filter(|(alias, customer)| alias != customer)
    }

    /// Customer that a former id stands for now: itself if it was kept.
    fn current_of_former(&self, id: &str) -> Option<&'a str> {
        let names = &self.resolution.names;
        let id = self.resolution.previous.ids.number(id)? as usize;
        let person = if names.kept_by[id] == NONE { self.successors[id] } else { names.kept_by[id] };
        (person != NONE).then(|| names.ids[person as usize].as_str())
    }

    fn current_of(&self, id: &str) -> Option<&'a str> {
        match self.resolution.directory().named(id) {
            Named::Bare(record) | Named::Qualified(record) => Some(self.resolution.customer_of(record)),
            Named::Nothing => self.current_of_former(id),
        }
    }
}
