//! What was read from the sources.

use std::collections::HashMap;

use super::intern::Interner;
use super::{Identifier, IdentityError, Rules, Standing, VALUE_LIMIT};

/// Name of the built-in source: what was said online, in `resolve_identity`. Never the primary source.
pub const ONLINE: &str = "online";

/// Number of a source, in the order in which they were added.
pub type SourceNumber = u16;

/// Records of all sources with their identifiers, in any order.
pub struct Records {
    pub(super) rules: Rules,
    pub(super) sources: Vec<Source>,
    pub(super) columns: Vec<Column>,
    numbers: HashMap<Identifier, usize>,
    placeholders: u64,
}

pub(super) struct Source {
    pub name: String,
    pub keys: Interner,
}

/// All values of one identifier.
pub(super) struct Column {
    pub identifier: Identifier,
    pub values: Interner,
    /// Value, and the record that holds it as source and number of its key.
    pub holders: Vec<(u32, SourceNumber, u32)>,
}

/// A record as [`Records::add`] numbers it.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    source: SourceNumber,
    key: u32,
}

impl Records {
    /// Nothing read yet. `sources` in the order in which they were added: the first is the primary source.
    ///
    /// # Errors
    /// More than 65 535 sources.
    pub fn new(rules: Rules, sources: &[&str]) -> Result<Self, IdentityError> {
        SourceNumber::try_from(sources.len()).map_err(|_| IdentityError::TooMany)?;
        let sources =
            sources.iter().map(|name| Source { name: (*name).to_owned(), keys: Interner::default() }).collect();
        Ok(Records { rules, sources, columns: Vec::new(), numbers: HashMap::new(), placeholders: 0 })
    }

    /// Number under which values of `identifier` are added, or `None` if its rule is disabled.
    pub fn column(&mut self, identifier: &Identifier) -> Option<usize> {
        if !self.rules.rule(identifier).enabled {
            return None;
        }
        Some(*self.numbers.entry(identifier.clone()).or_insert_with(|| {
            let column = Column { identifier: identifier.clone(), values: Interner::default(), holders: Vec::new() };
            self.columns.push(column);
            self.columns.len() - 1
        }))
    }

    /// Adds a record, or finds it again: rows of the same key are one record.
    ///
    /// # Errors
    /// The key is too long; more records than numbers.
    pub fn add(&mut self, source: SourceNumber, key: &str) -> Result<Handle, IdentityError> {
        if key.len() > VALUE_LIMIT {
            return Err(IdentityError::KeyTooLong { length: key.len() });
        }
        Ok(Handle { source, key: self.sources[usize::from(source)].keys.intern(key)? })
    }

    /// Adds a normalised value to a record. Placeholders and blocked values are only counted.
    ///
    /// # Errors
    /// More values than numbers.
    pub fn identify(&mut self, record: Handle, column: usize, value: &str) -> Result<(), IdentityError> {
        let column = &mut self.columns[column];
        if self.rules.standing(&column.identifier, value) == Standing::Blocked {
            self.placeholders += 1;
            return Ok(());
        }
        let value = column.values.intern(value)?;
        column.holders.push((value, record.source, record.key));
        Ok(())
    }

    /// Number of values that were left out as placeholders or blocked by the user.
    pub fn placeholders(&self) -> u64 {
        self.placeholders
    }

    pub fn len(&self) -> usize {
        self.sources.iter().map(|source| source.keys.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
