//! What a run writes: what changed, and nothing else.

use std::collections::HashMap;
use std::ffi::CStr;

use decisioning_core::identity::{AliasDifference, AliasVerdict, Event, IdentifierDifference, Resolution};
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::json;

use super::field;
use super::read::Read;
use crate::api::follow::{follow, note_rewards, Changes};
use crate::api::now;
use crate::pg::bulk::{self, Indexes};
use crate::pg::error::{Error, Result};
use crate::pg::memory::scratch;
use crate::pg::{datum, interrupt, query};

/// Rows per statement that writes, and per fetch of one that reads.
const CHUNK: usize = 20_000;

/// Most conflicts that are reported; data with more has one cause, and the best evidence comes first.
const MOST_CONFLICTS: usize = 100_000;

/// From this share of rows written on, the planner should hear of it at once.
const ANALYZE_SHARE: usize = 10;

/// What is stored, and how the run found it.
pub struct Stored<'a> {
    /// By source.
    pub reads: &'a HashMap<&'a str, Read>,
    /// No record is stored yet: nothing is found by index, and indexes are made at the end.
    pub is_first: bool,
    /// How documents were written while reading.
    pub indexes: Indexes,
}

/// Writes what changed; returns the number of rows.
pub fn write(resolution: &Resolution, stored: &Stored<'_>) -> Result<usize> {
    let events = resolution.events();
    let aliases = Aliases::compare(resolution)?;
    let changes = Changes::new(moves(&events, &aliases));
    note_rewards(&changes)?;
    let mut written = write_events(&events)?;
    let indexes = if stored.is_first { Indexes::Later } else { Indexes::Kept };
    if stored.indexes == Indexes::Later {
        bulk::reindex(c"_record_field")?;
    }
    for (table, changed) in [
        (c"_record", write_records(resolution, stored, indexes)?),
        (c"_identifier", write_identifiers(resolution, indexes)?),
        (c"_customer_alias", aliases.write(indexes)?),
    ] {
        written += changed;
        if indexes == Indexes::Later {
            interrupt::check();
            bulk::reindex(table)?;
        }
        if changed > resolution.records() / ANALYZE_SHARE {
            query::execute(&format!("ANALYZE decisioning.{}", table.to_string_lossy()), &[])?;
        }
    }
    written += write_conflicts(resolution)?;
    follow(&changes)?;
    Ok(written)
}

/// Ids that stand for another customer than before.
fn moves(events: &[Event<'_>], aliases: &Aliases<'_>) -> Vec<(String, String)> {
    let of_events = events.iter().map(|event| (event.from.to_owned(), event.into.to_owned()));
    let of_aliases =
        aliases.stale.iter().chain(&aliases.missing).map(|(alias, into)| (alias.clone(), (*into).to_owned()));
    of_events.chain(of_aliases).collect()
}

/// Appends rows of texts to a table; returns their number.
fn append<const COLUMNS: usize>(
    indexes: Indexes,
    table: &CStr,
    columns: [&CStr; COLUMNS],
    rows: &[[Option<&str>; COLUMNS]],
) -> Result<usize> {
    bulk::append_with(indexes, table, columns, rows.len(), |n| {
        let mut values = [None; COLUMNS];
        for (value, text) in values.iter_mut().zip(&rows[n]) {
            *value = text.map(datum::text).transpose()?;
        }
        Ok(values)
    })?;
    Ok(rows.len())
}

/// Runs `statement` over the rows of `items` in chunks; `columns` makes the arguments of a chunk.
fn in_chunks<T>(items: impl Iterator<Item = T>, mut statement: impl FnMut(&[T]) -> Result<usize>) -> Result<usize> {
    let mut items = items;
    let mut written = 0;
    loop {
        let chunk: Vec<T> = items.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok(written);
        }
        interrupt::check();
        written += statement(&chunk)?;
    }
}

fn write_records(resolution: &Resolution, stored: &Stored<'_>, indexes: Indexes) -> Result<usize> {
    let now = now()?;
    let gone = in_chunks(resolution.vanished_records().iter(), |rows| {
        let sources: Vec<&str> = rows.iter().map(|row| row.source.as_str()).collect();
        let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        scratch(|| {
            let numbers = query::write(
                "DELETE FROM decisioning._record r USING unnest($1::text[], $2::text[]) AS u (source, record_key)
                 WHERE r.source = u.source AND r.record_key = u.record_key RETURNING r.record_number",
                &[sources.into(), keys.into()],
                |row| row.value::<i64>(1),
            )?;
            let count = numbers.len();
            field::delete(numbers.into_iter())?;
            Ok(count)
        })
    })?;
    let moved = in_chunks(resolution.changed_records(), |rows| {
        let sources: Vec<&str> = rows.iter().map(|row| row.0).collect();
        let keys: Vec<&str> = rows.iter().map(|row| row.1).collect();
        let customers: Vec<&str> = rows.iter().map(|row| row.2).collect();
        scratch(|| {
            query::execute(
                "UPDATE decisioning._record r SET customer_id = u.customer_id, since = $4
                 FROM unnest($1::text[], $2::text[], $3::text[]) AS u (source, record_key, customer_id)
                 WHERE r.source = u.source AND r.record_key = u.record_key",
                &[sources.into(), keys.into(), customers.into(), now.into()],
            )
        })
    })?;
    let edited = in_chunks(stored.reads.values().flat_map(|read| read.known.changed()), |rows| {
        let numbers: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let fingerprints: Vec<i64> = rows.iter().map(|row| row.1 as i64).collect();
        scratch(|| {
            query::execute(
                "UPDATE decisioning._record r SET fingerprint = u.fingerprint
                 FROM unnest($1::bigint[], $2::bigint[]) AS u (record_number, fingerprint)
                 WHERE r.record_number = u.record_number",
                &[numbers.into(), fingerprints.into()],
            )
        })
    })?;
    let odd = resolution.has_odd_separators();
    let since = Some(datum::number(now.into()));
    let new = in_chunks(resolution.new_records(), |rows| {
        let columns =
            [c"record_key", c"source", c"separator", c"record_number", c"fingerprint", c"customer_id", c"since"];
        bulk::append_with(indexes, c"_record", columns, rows.len(), |n| {
            let (source, key, customer_id) = rows[n];
            let known = stored.reads.get(source).and_then(|read| read.known.of_key(key));
            let (number, fingerprint) = known.ok_or_else(|| Error::corrupted("a record has no number"))?;
            let separator = if odd { resolution.separator(source, key) } else { ":".to_owned() };
            Ok([
                Some(datum::text(key)?),
                Some(datum::text(source)?),
                Some(datum::text(&separator)?),
                Some(datum::number(number)),
                Some(datum::number(fingerprint as i64)),
                Some(datum::text(customer_id)?),
                since,
            ])
        })?;
        Ok(rows.len())
    })?;
    let renamed = if stored.is_first { 0 } else { write_separators(resolution, odd)? };
    Ok(gone + moved + edited + new + renamed)
}

/// Separators of records whose `source:key` reads like another id since this run, or does no longer.
fn write_separators(resolution: &Resolution, odd: bool) -> Result<usize> {
    let mut stale: Vec<(String, String, String)> = Vec::new();
    query::stream(
        "SELECT r.source, r.record_key, r.separator FROM decisioning._record r WHERE $1 OR r.separator <> ':'",
        &[odd.into()],
        CHUNK,
        |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?, row.value::<String>(3)?)),
        |rows| {
            for (source, key, separator) in rows {
                let right = resolution.separator(&source, &key);
                if right != separator {
                    stale.push((source, key, right));
                }
            }
            Ok(())
        },
    )?;
    in_chunks(stale.iter(), |rows| {
        let sources: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let keys: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
        let separators: Vec<&str> = rows.iter().map(|row| row.2.as_str()).collect();
        scratch(|| {
            query::execute(
                "UPDATE decisioning._record r SET separator = u.separator
                 FROM unnest($1::text[], $2::text[], $3::text[]) AS u (source, record_key, separator)
                 WHERE r.source = u.source AND r.record_key = u.record_key",
                &[sources.into(), keys.into(), separators.into()],
            )
        })
    })
}

fn write_identifiers(resolution: &Resolution, indexes: Indexes) -> Result<usize> {
    let mut difference = IdentifierDifference::of(resolution);
    let mut gone: Vec<(String, String)> = Vec::new();
    query::stream(
        "SELECT i.kind, i.value, i.customer_id FROM decisioning._identifier i",
        &[],
        CHUNK,
        |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?, row.get::<String>(3)?)),
        |rows| {
            for (identifier, value, customer_id) in rows {
                if !difference.compare(&identifier, &value, customer_id.as_deref()) {
                    gone.push((identifier, value));
                }
            }
            Ok(())
        },
    )?;
    let deleted = in_chunks(gone.iter(), |rows| {
        let kinds: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let values: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
        scratch(|| {
            query::execute(
                "DELETE FROM decisioning._identifier i USING unnest($1::text[], $2::text[]) AS u (kind, value)
                 WHERE i.kind = u.kind AND i.value = u.value",
                &[kinds.into(), values.into()],
            )
        })
    })?;
    let stale = in_chunks(difference.stale(), |rows| {
        let kinds: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let values: Vec<&str> = rows.iter().map(|row| row.1).collect();
        let customers: Vec<Option<&str>> = rows.iter().map(|row| row.2).collect();
        scratch(|| {
            query::execute(
                "UPDATE decisioning._identifier i SET customer_id = u.customer_id
                 FROM unnest($1::text[], $2::text[], $3::text[]) AS u (kind, value, customer_id)
                 WHERE i.kind = u.kind AND i.value = u.value",
                &[kinds.into(), values.into(), customers.into()],
            )
        })
    })?;
    let missing = in_chunks(difference.missing(), |rows| {
        let rows: Vec<_> = rows.iter().map(|row| [Some(row.0.as_str()), Some(row.1), row.2]).collect();
        append(indexes, c"_identifier", [c"kind", c"value", c"customer_id"], &rows)
    })?;
    Ok(deleted + stale + missing)
}

/// Aliases that are to change.
struct Aliases<'a> {
    gone: Vec<String>,
    stale: Vec<(String, &'a str)>,
    missing: Vec<(String, &'a str)>,
}

impl<'a> Aliases<'a> {
    fn compare(resolution: &'a Resolution) -> Result<Self> {
        let mut difference = AliasDifference::of(resolution);
        let (mut gone, mut stale) = (Vec::new(), Vec::new());
        query::stream(
            "SELECT a.alias, a.customer_id FROM decisioning._customer_alias a",
            &[],
            CHUNK,
            |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?)),
            |rows| {
                for (alias, customer_id) in rows {
                    match difference.compare(&alias, &customer_id) {
                        AliasVerdict::Keep => {}
                        AliasVerdict::Change(to) => stale.push((alias, to)),
                        AliasVerdict::Delete => gone.push(alias),
                    }
                }
                Ok(())
            },
        )?;
        let missing = difference.missing().collect();
        Ok(Aliases { gone, stale, missing })
    }

    fn write(&self, indexes: Indexes) -> Result<usize> {
        let deleted = in_chunks(self.gone.iter(), |rows| {
            let aliases: Vec<&str> = rows.iter().map(|row| row.as_str()).collect();
            scratch(|| {
                query::execute(
                    "DELETE FROM decisioning._customer_alias a USING unnest($1::text[]) AS u (alias) WHERE a.alias = u.alias",
                    &[aliases.into()],
                )
            })
        })?;
        let changed = in_chunks(self.stale.iter(), |rows| {
            let aliases: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
            let customers: Vec<&str> = rows.iter().map(|row| row.1).collect();
            scratch(|| {
                query::execute(
                    "UPDATE decisioning._customer_alias a SET customer_id = u.customer_id
                     FROM unnest($1::text[], $2::text[]) AS u (alias, customer_id) WHERE a.alias = u.alias",
                    &[aliases.into(), customers.into()],
                )
            })
        })?;
        let missing = in_chunks(self.missing.iter(), |rows| {
            let rows: Vec<_> = rows.iter().map(|row| [Some(row.0.as_str()), Some(row.1)]).collect();
            append(indexes, c"_customer_alias", [c"alias", c"customer_id"], &rows)
        })?;
        Ok(deleted + changed + missing)
    }
}

fn write_events(events: &[Event<'_>]) -> Result<usize> {
    let now = now()?;
    in_chunks(events.iter(), |events| {
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.name()).collect();
        let into: Vec<&str> = events.iter().map(|event| event.into).collect();
        let from: Vec<&str> = events.iter().map(|event| event.from).collect();
        let records: Vec<i32> = events.iter().map(|event| event.records as i32).collect();
        let evidence: Vec<Option<JsonB>> =
            events.iter().map(|event| event.evidence.map(|found| evidence(&found.0.to_string(), found.1))).collect();
        scratch(|| {
            query::execute(
                "INSERT INTO decisioning.identity_events
                     (occurred_at, event, customer_id, from_customer_id, records, evidence)
                 SELECT $1, u.event, u.into_id, u.from_id, u.records, u.evidence
                 FROM unnest($2::text[], $3::text[], $4::text[], $5::integer[], $6::jsonb[])
                     AS u (event, into_id, from_id, records, evidence)",
                &[now.into(), kinds.into(), into.into(), from.into(), records.into(), evidence.into()],
            )
        })
    })
}

/// The evidence of an event, as it is stored.
pub fn evidence(identifier: &str, value: &str) -> JsonB {
    JsonB(json!({ "identifier": identifier, "value": value }))
}

fn write_conflicts(resolution: &Resolution) -> Result<usize> {
    /// Identifier and value; reason, records and customers.
    type Row = ((String, String), (String, i32, i32));
    let mut missing: HashMap<_, _> = resolution
        .conflicts()
        .take(MOST_CONFLICTS)
        .map(|found| -> Row {
            let counts = (found.reason.to_owned(), found.records as i32, found.persons as i32);
            ((found.identifier.to_string(), found.value.to_owned()), counts)
        })
        .collect();
    if !missing.is_empty() {
        notice!("{} values did not link all of their records: see decisioning.identity_conflicts", missing.len());
    }
    let mut gone: Vec<(String, String)> = Vec::new();
    query::stream(
        "SELECT c.identifier, c.value, c.reason, c.records, c.customers FROM decisioning.identity_conflicts c",
        &[],
        CHUNK,
        |row| -> Result<Row> { Ok(((row.value(1)?, row.value(2)?), (row.value(3)?, row.value(4)?, row.value(5)?))) },
        |rows| {
            for (value, stored) in rows {
                if missing.get(&value) == Some(&stored) {
                    missing.remove(&value);
                } else {
                    gone.push(value);
                }
            }
            Ok(())
        },
    )?;
    let deleted = in_chunks(gone.iter(), |rows| {
        let identifiers: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let values: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
        scratch(|| {
            query::execute(
                "DELETE FROM decisioning.identity_conflicts c USING unnest($1::text[], $2::text[]) AS u (identifier, value)
                 WHERE c.identifier = u.identifier AND c.value = u.value",
                &[identifiers.into(), values.into()],
            )
        })
    })?;
    let inserted = in_chunks(missing.iter(), |rows| {
        let identifiers: Vec<&str> = rows.iter().map(|row| row.0 .0.as_str()).collect();
        let values: Vec<&str> = rows.iter().map(|row| row.0 .1.as_str()).collect();
        let reasons: Vec<&str> = rows.iter().map(|row| row.1 .0.as_str()).collect();
        let records: Vec<i32> = rows.iter().map(|row| row.1 .1).collect();
        let customers: Vec<i32> = rows.iter().map(|row| row.1 .2).collect();
        scratch(|| {
            query::execute(
                "INSERT INTO decisioning.identity_conflicts (identifier, value, reason, records, customers)
                 SELECT u.* FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::integer[])
                     AS u (identifier, value, reason, records, customers)",
                &[identifiers.into(), values.into(), reasons.into(), records.into(), customers.into()],
            )
        })
    })?;
    Ok(deleted + inserted)
}
