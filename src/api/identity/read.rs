//! Reading a source: every row as the caller, what it says kept as the owner.

use std::cell::RefCell;
use std::collections::HashMap;

use decisioning_core::identity::{FieldKind, Fields, IdentityError, VALUE_LIMIT};

use super::field::{self, Documents};
use super::known::{Known, Sighting};
use super::source::Source;
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::relation::{quote_identifier, ColumnKind};
use crate::pg::snapshot::latest;
use crate::pg::{bulk, scan};

/// Rows per fetch.
const FETCH: usize = 10_000;

/// Times that are ahead of the start of the run by no more than this, in microseconds, are no mistakes: clocks differ, and runs take time.
const TOLERATED: i64 = 300_000_000;

/// How a source is read.
pub struct Reading {
    /// All rows, not only those that changed since the last run.
    pub complete: bool,
    /// When no column tells the time of a change, and as late as it can have been, as Postgres counts it.
    pub now: i64,
    pub indexes: bulk::Indexes,
    /// Whether what changed records said before is needed.
    pub keeps_before: bool,
}

/// What reading a source came to.
pub struct Read {
    pub known: Known,
    pub rows: u64,
    /// Rows without a key: they cannot be referred to.
    pub without_key: u64,
    /// Latest change that a row told of, now at most, as Postgres counts it.
    pub changed_until: Option<i64>,
    /// Rows that told of a change to come.
    pub ahead: u64,
    /// Whether records that were not seen are gone.
    pub is_complete: bool,
    /// What changed records said before.
    pub before: Vec<Fields>,
}

impl Read {
    /// Numbers of the records that are gone.
    pub fn vanished(&self) -> impl Iterator<Item = i64> + '_ {
        self.known.vanished().filter(|_| self.is_complete)
    }
}

impl Source {
    /// Reads the source and keeps what is new or changed. `each` gets every row: its key and its fields.
    ///
    /// # Errors
    /// The relation or one of the columns is gone; a key is too long; the caller may not read it.
    pub fn read(&self, reading: &Reading, mut each: impl FnMut(&str, &Fields)) -> Result<Read> {
        let known = as_owner(|| Known::load(&self.name))?;
        let numbers = bulk::Sequence::open(c"_record_number")?;
        let since = if reading.complete { None } else { self.changed_since };
        let is_complete = since.is_none();
        let mut read =
            Read { known, rows: 0, without_key: 0, changed_until: None, ahead: 0, is_complete, before: Vec::new() };
        let (mut new, mut changed) = (Documents::default(), Documents::default());
        let mut fields = Fields::new();
        let statement = self.statement(!is_complete)?;
        let arguments = since.map(|since| since.into());
        let written = RefCell::new((&mut new, &mut changed));
        let mut before = Vec::new();
        scan::scan(
            &statement,
            arguments.as_slice(),
            FETCH,
            |row| {
                let Some(key) = row.text(0)? else {
                    read.without_key += 1;
                    return Ok(());
                };
                read.rows += 1;
                if key.len() > VALUE_LIMIT {
                    return Err(Error::from(IdentityError::KeyTooLong { length: key.len() })
                        .hint(format!("Choose another key column for source \"{}\".", self.name)));
                }
                let told = row.number(1)?;
                read.changed_until = read.changed_until.max(told.map(|told| told.min(reading.now)));
                read.ahead += u64::from(told.is_some_and(|told| told.saturating_sub(TOLERATED) > reading.now));
                self.take(row, &mut fields)?;
                let (at, sighting) = read.known.see(key, &fields, &numbers)?;
                let mut written = written.borrow_mut();
                let documents = match sighting {
                    Sighting::New => Some(&mut written.0),
                    Sighting::Changed => Some(&mut written.1),
                    Sighting::Same | Sighting::Further => None,
                };
                if let Some(documents) = documents {
                    documents.add(read.known.record_number(at), told.unwrap_or(reading.now), &fields)?;
                }
                each(key, &fields);
                Ok(())
            },
            || {
                let mut written = written.borrow_mut();
                as_owner(|| {
                    if reading.keeps_before {
                        latest(|| {
                            field::of_records(&written.1.record_numbers(), |_, _, fields| {
                                before.push(fields.clone());
                                Ok(())
                            })
                        })?;
                    }
                    written.1.write(true, bulk::Indexes::Kept)?;
                    written.0.write(false, reading.indexes)
                })
            },
        )?;
        as_owner(|| self.write_further(&mut read.known, reading))?;
        read.before = before;
        Ok(read)
    }

    /// Hands over key and fields of every row, and keeps nothing.
    ///
    /// # Errors
    /// As [`read`](Self::read); what `each` returns.
    pub fn look(&self, mut each: impl FnMut(&str, &Fields) -> Result<()>) -> Result<()> {
        let mut fields = Fields::new();
        scan::scan(
            &self.statement(false)?,
            &[],
            FETCH,
            |row| {
                let Some(key) = row.text(0)? else { return Ok(()) };
                self.take(row, &mut fields)?;
                each(key, &fields)
            },
            || Ok(()),
        )
    }

    /// What a row says.
    fn take(&self, row: &scan::Tuple<'_>, fields: &mut Fields) -> Result<()> {
        fields.clear();
        for (place, (_, kind)) in self.fields.iter().enumerate() {
            if let Some(value) = row.text(place + 2)? {
                fields.push(kind, value);
            }
        }
        Ok(())
    }

    /// Adds what further rows say of their records.
    fn write_further(&self, known: &mut Known, reading: &Reading) -> Result<()> {
        let further: HashMap<i64, _> = known.take_further().into_iter().collect();
        if further.is_empty() {
            return Ok(());
        }
        if reading.indexes == bulk::Indexes::Later {
            bulk::reindex(c"_record_field")?; // to find the records
        }
        let numbers: Vec<i64> = further.keys().copied().collect();
        for chunk in numbers.chunks(FETCH) {
            let mut documents = Documents::default();
            let read = |number, changed_at, fields: &mut Fields| {
                let told: Vec<_> = further.get(&number).into_iter().flatten().collect();
                for (kind, value) in told {
                    if !fields.iter().any(|(of, known)| of == kind && known == value) {
                        fields.push(kind, value);
                    }
                }
                documents.add(number, changed_at, fields)
            };
            latest(|| field::of_records(chunk, read))?;
            documents.write(true, bulk::Indexes::Kept)?;
        }
        Ok(())
    }

    /// Key, time of change and fields, as text; with `changed`, only of the rows that changed since $1.
    fn statement(&self, changed: bool) -> Result<String> {
        let columns = self.relation.columns()?;
        self.check(&columns)?;
        let changed_at = match &self.changed_at {
            None => None,
            Some(name) => {
                let quoted = format!("r.{}", quote_identifier(name));
                Some(match self.relation.column(&columns, name)?.kind {
                    ColumnKind::Time => quoted,
                    _ => format!("({quoted}::pg_catalog.timestamp AT TIME ZONE 'UTC')"),
                })
            }
        };
        let time = changed_at.as_deref().unwrap_or("NULL");
        let mut selected =
            vec![self.relation.column(&columns, &self.key)?.text("r"), format!("{time}::pg_catalog.timestamptz")];
        for (column, kind) in &self.fields {
            let column = self.relation.column(&columns, column)?;
            selected.push(match (kind, &column.kind) {
                // A birth date in one is the midnight that begins it, somewhere.
                (FieldKind::DateOfBirth, ColumnKind::Time) => format!(
                    "((r.{} AT TIME ZONE 'UTC') OPERATOR(pg_catalog.+) '12 hours'::pg_catalog.interval)::pg_catalog.date::pg_catalog.text",
                    quote_identifier(&column.name)
                ),
                _ => column.text("r"),
            });
        }
        let condition =
            if changed { format!(" WHERE {time} OPERATOR(pg_catalog.>=) $1 OR {time} IS NULL") } else { String::new() };
        Ok(format!("SELECT {} FROM {} AS r{condition}", selected.join(", "), self.relation.quoted()))
    }
}
