//! What was read from the sources.

use std::collections::HashMap;
use std::sync::Arc;

use super::intern::Interner;
use super::linkage::{local_part, Attribute, BlockingRules, Nicknames, Row, Vocabulary, ATTRIBUTES, MISSING};
use super::{Country, FieldKind, Fields, Identifier, IdentityError, Rules, Standing, VALUE_LIMIT};

/// Name of the built-in source: what was said online, in `resolve_identity`. Never the primary source.
pub const ONLINE: &str = "online";

/// Number of a source, in the order in which they were added.
pub type SourceNumber = u16;

/// Records of all sources with their identifiers and what describes them, in any order.
pub struct Records {
    pub(super) rules: Rules,
    pub(super) sources: Vec<Source>,
    pub(super) columns: Vec<Column>,
    numbers: HashMap<Identifier, usize>,
    /// Identifiers that link nothing, and are compared nevertheless.
    disabled: Vec<Column>,
    pub(super) vocabulary: Vocabulary,
    pub(super) nicknames: Arc<Nicknames>,
    placeholders: u64,
}

pub(super) struct Source {
    pub name: String,
    pub keys: Interner,
    /// By key, as far as it was described.
    pub rows: Vec<Row>,
    /// Further values: key, attribute, value.
    pub extras: Vec<(u32, Attribute, u32)>,
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

impl Handle {
    /// Source and number of the key.
    pub(super) fn place(self) -> (SourceNumber, u32) {
        (self.source, self.key)
    }
}

impl Records {
    /// Nothing read yet. `sources` in the order in which they were added: the first is the primary source.
    ///
    /// # Errors
    /// More than 65 535 sources.
    pub fn new(rules: Rules, sources: &[&str]) -> Result<Self, IdentityError> {
        Records::with(rules, sources, Arc::default())
    }

    /// The same with nicknames to use instead of the built-in ones, or with those built in, so that they are not made again.
    ///
    /// # Errors
    /// More than 65 535 sources.
    pub fn with(rules: Rules, sources: &[&str], nicknames: Arc<Nicknames>) -> Result<Self, IdentityError> {
        SourceNumber::try_from(sources.len()).map_err(|_| IdentityError::TooMany)?;
        let source = |name: &&str| Source {
            name: (*name).to_owned(),
            keys: Interner::default(),
            rows: Vec::new(),
            extras: Vec::new(),
        };
        Ok(Records {
            rules,
            sources: sources.iter().map(source).collect(),
            columns: Vec::new(),
            numbers: HashMap::new(),
            disabled: Vec::new(),
            vocabulary: Vocabulary::default(),
            nicknames,
            placeholders: 0,
        })
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
        if let Some(attribute) = Attribute::of_identifier(column.identifier.kind) {
            self.note(record, attribute, value);
        }
        Ok(())
    }

    /// Adds all fields of a record, normalised. `country` is where phone numbers and dates without one belong, unless the
    /// record has a country of its own.
    ///
    /// # Errors
    /// More values than numbers.
    pub fn describe(&mut self, record: Handle, fields: &Fields, country: Option<Country>) -> Result<(), IdentityError> {
        let country = fields.get(&FieldKind::Country).and_then(|country| country.parse().ok()).or(country);
        for (kind, raw) in fields.iter() {
            let FieldKind::Identifier(identifier) = kind else {
                for (attribute, value) in self.vocabulary.read(kind, raw, country)? {
                    if value != MISSING {
                        self.note(record, attribute, value);
                    }
                }
                continue;
            };
            let Some(value) = self.rules.normalise(identifier.kind, raw, country) else { continue };
            match self.column(identifier) {
                Some(column) => self.identify(record, column, &value)?,
                None => self.compare_only(record, identifier, &value)?,
            }
        }
        Ok(())
    }

    fn compare_only(&mut self, record: Handle, identifier: &Identifier, value: &str) -> Result<(), IdentityError> {
        let Some(attribute) = Attribute::of_identifier(identifier.kind) else { return Ok(()) };
        if self.rules.standing(identifier, value) == Standing::Blocked {
            self.placeholders += 1;
            return Ok(());
        }
        let known = self.disabled.iter().position(|column| column.identifier == *identifier);
        let column = known.unwrap_or_else(|| {
            let identifier = identifier.clone();
            self.disabled.push(Column { identifier, values: Interner::default(), holders: Vec::new() });
            self.disabled.len() - 1
        });
        let value = self.disabled[column].values.intern(value)?;
        self.note(record, attribute, value);
        Ok(())
    }

    /// Notes that a record has a value.
    fn note(&mut self, record: Handle, attribute: Attribute, value: u32) {
        let source = &mut self.sources[usize::from(record.source)];
        let key = record.key as usize;
        if source.rows.len() <= key {
            source.rows.resize(key + 1, [MISSING; ATTRIBUTES]);
        }
        let first = &mut source.rows[key][attribute as usize];
        if *first == MISSING {
            *first = value;
        } else if *first != value {
            source.extras.push((record.key, attribute, value));
        }
    }

    /// Keys of the blocks that a record is in, sorted; the same in every run. To be called before [`super::Matching::new`].
    pub fn block_keys(&self, record: Handle, rules: &BlockingRules) -> Vec<u64> {
        let source = &self.sources[usize::from(record.source)];
        let Some(row) = source.rows.get(record.key as usize) else { return Vec::new() };
        let emails = || {
            let further = source.extras.iter().rev().take_while(|extra| extra.0 == record.key);
            let further = further.filter(|extra| extra.1 == Attribute::Email).map(|extra| extra.2);
            std::iter::once(row[Attribute::Email as usize]).filter(|first| *first != MISSING).chain(further)
        };
        rules.all_keys(
            &|attribute| match attribute {
                // Local parts have no numbers yet: they go by those of their addresses.
                Attribute::EmailLocal => emails().collect(),
                attribute => {
                    let further = source.extras.iter().rev().take_while(|extra| extra.0 == record.key);
                    let further = further.filter(|extra| extra.1 == attribute).map(|extra| extra.2);
                    let first = row[attribute as usize];
                    std::iter::once(first).filter(|first| *first != MISSING).chain(further).collect()
                }
            },
            &|attribute, value| match attribute {
                Attribute::DateOfBirth => "",
                Attribute::EmailLocal => local_part(self.values(Attribute::Email).text(value)),
                attribute => self.values(attribute).text(value),
            },
            &self.nicknames,
        )
    }

    /// Names of the sources, by number.
    pub(super) fn source_names(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|source| source.name.as_str())
    }

    /// The texts of an attribute's values.
    pub(super) fn values(&self, attribute: Attribute) -> &Interner {
        let columns = self.columns.iter().chain(&self.disabled);
        let of_attribute = |column: &&Column| Attribute::of_identifier(column.identifier.kind) == Some(attribute);
        columns.filter(of_attribute).map(|column| &column.values).next().unwrap_or(self.vocabulary.interner(attribute))
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
