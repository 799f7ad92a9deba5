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
/// An alias is every id, other than the canonical ones, that stands for a customer: the bare keys of the primary source,
/// `source:key` of every record, and canonical ids of former times.
pub struct AliasDifference<'a> {
    resolution: &'a Resolution,
    bare: Vec<bool>,
    qualified: Vec<bool>,
    former: Vec<bool>,
    /// Who has most of the records of each former id, or [`NONE`].
    successors: Vec<u32>,
}

/// What to do with a stored alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AliasVerdict<'a> {
    Keep,
    /// It stands for another customer now.
    Change(&'a str),
    /// It is a canonical id now.
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
            qualified: vec![false; resolution.records()],
            former: vec![false; resolution.previous.ids.len()],
            successors: best.into_iter().map(|(_, person)| person).collect(),
        }
    }

    pub fn compare(&mut self, alias: &str, customer_id: &str) -> AliasVerdict<'a> {
        let resolution = self.resolution;
        let named = resolution.directory().named(alias);
        let target = match named {
            Named::Bare(record) | Named::Qualified(record) => {
                let customer = resolution.customer_of(record);
                if customer == alias {
                    return AliasVerdict::Delete;
                }
                customer
            }
            Named::Nothing => match self.current_of_former(alias) {
                Some(customer) if customer == alias => return AliasVerdict::Delete,
                Some(customer) => customer,
                // Its records are long gone: it follows the customer it stood for.
                None => match self.current_of(customer_id) {
                    Some(customer) => customer,
                    None => return AliasVerdict::Keep,
                },
            },
        };
        match named {
            Named::Bare(record) => self.bare[record as usize] = true,
            Named::Qualified(record) if resolution.directory().qualified(record) == alias => {
                self.qualified[record as usize] = true;
            }
            Named::Qualified(_) => {}
            Named::Nothing => {
                if let Some(id) = resolution.previous.ids.number(alias) {
                    self.former[id as usize] = true;
                }
            }
        }
        if target == customer_id {
            AliasVerdict::Keep
        } else {
            AliasVerdict::Change(target)
        }
    }

    /// Alias and customer of the rows to insert.
    pub fn missing(&self) -> impl Iterator<Item = (String, &'a str)> + use<'a, '_> {
        let resolution = self.resolution;
        let directory = resolution.directory();
        let of_records = (0..resolution.records() as u32).flat_map(move |record| {
            let customer = resolution.customer_of(record);
            let bare = (!self.bare[record as usize] && directory.is_primary(record))
                .then(|| directory.source_and_key(record).1.to_owned());
            let qualified = (!self.qualified[record as usize]).then(|| directory.qualified(record));
            bare.into_iter().chain(qualified).filter(move |alias| alias != customer).map(move |alias| (alias, customer))
        });
        let of_former_ids =
            (0..self.former.len() as u32).filter(|&id| !self.former[id as usize]).filter_map(move |id| {
                let alias = resolution.previous.ids.text(id);
                let is_gone = directory.named(alias) == Named::Nothing;
                let customer = self.current_of_former(alias).filter(|customer| is_gone && *customer != alias)?;
                Some((alias.to_owned(), customer))
            });
        of_records.chain(of_former_ids)
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
