//! The full run: sources in, identity_map out.

use std::collections::HashMap;

use decisioning_core::identity::{
    AliasDifference, AliasVerdict, Event, IdentifierDifference, Matching, Records, Resolution, SourceNumber, ONLINE,
};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::json;

use super::source::Source;
use super::{online, rules, source};
use crate::api::follow::{follow, lock_learners, note_rewards, Changes};
use crate::api::now;
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::memory::scratch;
use crate::pg::snapshot::latest;
use crate::pg::{interrupt, query};

/// Rows per statement that writes, and per fetch of one that reads.
const CHUNK: usize = 20_000;

/// Most conflicts that are reported; data with more has one cause, and the best evidence comes first.
const MOST_CONFLICTS: usize = 100_000;

/// From this share of rows written on, the planner should hear of it at once.
const ANALYZE_SHARE: usize = 10;

#[pg_extern(sql = false)]
fn resolve_all() -> std::result::Result<(), ErrorReport> {
    Ok(run()?)
}

fn run() -> Result<()> {
    require_read_committed()?;
    // One run at a time; people who resolve online go on meanwhile.
    as_owner(|| query::execute("LOCK TABLE decisioning._online IN SHARE UPDATE EXCLUSIVE MODE", &[]))?;
    let (rules, sources) = latest(|| as_owner(|| Ok((rules::load()?, source::load()?))))?;
    let default_country = sources.first().and_then(|source| source.default_country);
    let mut records = Records::new(rules, &names(&sources))?;
    for (number, source) in sources.iter().enumerate() {
        let read = latest(|| source.read(number as SourceNumber, &mut records))?;
        notice!("source {}: {} records read", source.name, read.rows);
        if read.without_key > 0 {
            warning!("source {}: {} rows without a key were skipped", source.name, read.without_key);
        }
    }

    as_owner(lock_learners)?;
    // From here to the end of the transaction nobody new is added online, so that nobody is overlooked. This is the order
    // in which online sessions lock, too: first the table, then rows.
    as_owner(|| {
        query::execute("LOCK TABLE decisioning._online IN SHARE ROW EXCLUSIVE MODE", &[])?;
        latest(|| {
            online::read(sources.len() as SourceNumber, default_country, &mut records)?;
            let placeholders = records.placeholders();
            let mut matching = Matching::new(records)?;
            recall(&mut matching)?;
            let resolution = matching.resolve(None, &mut interrupt::check)?;
            notice!(
                "{} records are {} customers; {placeholders} placeholder values were ignored",
                resolution.records(),
                resolution.persons()
            );
            let written = write(&resolution)?;
            notice!("{written} rows written");
            Ok(())
        })
    })
}

/// A snapshot from before the lock would overlook people who were added online while the run waited.
fn require_read_committed() -> Result<()> {
    let level = query::read_one("SELECT current_setting('transaction_isolation')", &[], |row| row.value::<String>(1))?;
    if level.is_some_and(|level| level == "repeatable read" || level == "serializable") {
        return Err(Error::state("resolve_all must run at isolation level read committed")
            .hint("Call it outside of a transaction, or begin one with BEGIN ISOLATION LEVEL READ COMMITTED."));
    }
    Ok(())
}

fn names(sources: &[Source]) -> Vec<&str> {
    sources.iter().map(|source| source.name.as_str()).chain([ONLINE]).collect()
}

/// What the records were called so far.
fn recall(matching: &mut Matching) -> Result<()> {
    query::stream(
        "SELECT r.source, r.record_key, r.customer_id FROM decisioning._record r",
        &[],
        CHUNK,
        |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?, row.value::<String>(3)?)),
        |rows| {
            for (source, key, customer_id) in rows {
                matching.remember(&source, &key, &customer_id)?;
            }
            Ok(())
        },
    )
}

/// Writes what changed; returns the number of rows.
fn write(resolution: &Resolution) -> Result<usize> {
    let events = resolution.events();
    let changes = Changes::new(events.iter().map(|event| (event.from, event.into)));
    note_rewards(&changes)?;
    let mut written = write_events(&events)?;
    for (table, changed) in [
        ("_record", write_records(resolution)?),
        ("_identifier", write_identifiers(resolution)?),
        ("_customer_alias", write_aliases(resolution)?),
    ] {
        written += changed;
        if changed > resolution.records() / ANALYZE_SHARE {
            query::execute(&format!("ANALYZE decisioning.{table}"), &[])?;
        }
    }
    written += write_conflicts(resolution)?;
    follow(&changes)?;
    Ok(written)
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

fn write_records(resolution: &Resolution) -> Result<usize> {
    let now = now()?;
    let gone = in_chunks(resolution.vanished_records().iter(), |rows| {
        let sources: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let keys: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
        scratch(|| {
            query::execute(
                "DELETE FROM decisioning._record r USING unnest($1::text[], $2::text[]) AS u (source, record_key)
                 WHERE r.source = u.source AND r.record_key = u.record_key",
                &[sources.into(), keys.into()],
            )
        })
    })?;
    let write = |statement: &str, rows: &[(&str, &str, &str)]| {
        let sources: Vec<&str> = rows.iter().map(|row| row.0).collect();
        let keys: Vec<&str> = rows.iter().map(|row| row.1).collect();
        let customers: Vec<&str> = rows.iter().map(|row| row.2).collect();
        scratch(|| query::execute(statement, &[sources.into(), keys.into(), customers.into(), now.into()]))
    };
    let changed = in_chunks(resolution.changed_records(), |rows| {
        write(
            "UPDATE decisioning._record r SET customer_id = u.customer_id, since = $4
             FROM unnest($1::text[], $2::text[], $3::text[]) AS u (source, record_key, customer_id)
             WHERE r.source = u.source AND r.record_key = u.record_key",
            rows,
        )
    })?;
    let new = in_chunks(resolution.new_records(), |rows| {
        write(
            "INSERT INTO decisioning._record (source, record_key, customer_id, since)
             SELECT u.source, u.record_key, u.customer_id, $4
             FROM unnest($1::text[], $2::text[], $3::text[]) AS u (source, record_key, customer_id)",
            rows,
        )
    })?;
    Ok(gone + changed + new)
}

fn write_identifiers(resolution: &Resolution) -> Result<usize> {
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
    let write = |statement: &str, rows: &[(String, &str, Option<&str>)]| {
        let kinds: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let values: Vec<&str> = rows.iter().map(|row| row.1).collect();
        let customers: Vec<Option<&str>> = rows.iter().map(|row| row.2).collect();
        scratch(|| query::execute(statement, &[kinds.into(), values.into(), customers.into()]))
    };
    let stale = in_chunks(difference.stale(), |rows| {
        write(
            "UPDATE decisioning._identifier i SET customer_id = u.customer_id
             FROM unnest($1::text[], $2::text[], $3::text[]) AS u (kind, value, customer_id)
             WHERE i.kind = u.kind AND i.value = u.value",
            rows,
        )
    })?;
    let missing = in_chunks(difference.missing(), |rows| {
        write(
            "INSERT INTO decisioning._identifier (kind, value, customer_id)
             SELECT u.kind, u.value, u.customer_id
             FROM unnest($1::text[], $2::text[], $3::text[]) AS u (kind, value, customer_id)",
            rows,
        )
    })?;
    Ok(deleted + stale + missing)
}

fn write_aliases(resolution: &Resolution) -> Result<usize> {
    let mut difference = AliasDifference::of(resolution);
    let mut gone: Vec<String> = Vec::new();
    let mut stale: Vec<(String, &str)> = Vec::new();
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
    let deleted = in_chunks(gone.iter(), |rows| {
        let aliases: Vec<&str> = rows.iter().map(|row| row.as_str()).collect();
        scratch(|| {
            query::execute(
                "DELETE FROM decisioning._customer_alias a USING unnest($1::text[]) AS u (alias) WHERE a.alias = u.alias",
                &[aliases.into()],
            )
        })
    })?;
    let write = |statement: &str, rows: &[(String, &str)]| {
        let aliases: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let customers: Vec<&str> = rows.iter().map(|row| row.1).collect();
        scratch(|| query::execute(statement, &[aliases.into(), customers.into()]))
    };
    let changed = in_chunks(stale.into_iter(), |rows| {
        write(
            "UPDATE decisioning._customer_alias a SET customer_id = u.customer_id
             FROM unnest($1::text[], $2::text[]) AS u (alias, customer_id) WHERE a.alias = u.alias",
            rows,
        )
    })?;
    let missing = in_chunks(difference.missing(), |rows| {
        write(
            "INSERT INTO decisioning._customer_alias (alias, customer_id)
             SELECT u.alias, u.customer_id FROM unnest($1::text[], $2::text[]) AS u (alias, customer_id)",
            rows,
        )
    })?;
    Ok(deleted + changed + missing)
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
