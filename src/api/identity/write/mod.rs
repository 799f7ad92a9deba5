//! What a run writes: what changed, and nothing else.

mod aliases;
mod conflicts;

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;

use decisioning_core::identity::{Event, IdentifierDifference, Resolution};
use pgrx::JsonB;
use serde_json::json;

use aliases::Aliases;
use conflicts::write_conflicts;

use super::read::Read;
use super::{field, golden, partial};
use crate::api::follow::{note_rewards, Changes};
use crate::api::guardrail;
use crate::api::now;
use crate::pg::bulk::{self, Indexes};
use crate::pg::error::{Error, Result};
use crate::pg::memory::scratch;
use crate::pg::scan::Tuple;
use crate::pg::{datum, interrupt, query, scan};

/// Rows per statement that writes, and per fetch of one that reads.
const CHUNK: usize = 20_000;

/// From this share of rows written on, the planner should hear of it at once.
const ANALYZE_SHARE: usize = 10;

/// Record numbers of the records of a run, from the oldest on, as core numbers them.
pub struct Numbers(Vec<i64>);

impl Numbers {
    /// Of `count` records with their source and key: those that were read, and `others` by source and key.
    ///
    /// # Errors
    /// A record that is neither.
    pub fn find<'a>(
        count: usize,
        source_and_key: impl Fn(u32) -> (&'a str, &'a str),
        reads: &HashMap<&str, Read>,
        others: &HashMap<(String, String), i64>,
    ) -> Result<Self> {
        let number = |record| {
            let (source, key) = source_and_key(record);
            let read = reads.get(source).and_then(|read| read.known.of_key(key)).map(|found| found.0);
            let other = || others.get(&(source.to_owned(), key.to_owned())).copied();
            read.or_else(other).ok_or_else(|| Error::corrupted("a record has no number"))
        };
        Ok(Numbers((0..count as u32).map(number).collect::<Result<_>>()?))
    }

    pub fn of(&self, record: u32) -> Result<i64> {
        self.0.get(record as usize).copied().ok_or_else(|| Error::corrupted("a record has no number"))
    }
}

impl Scope<'_> {
    /// Rows of a table that the run is to compare: `all`, or `of` the customers in $1.
    fn each(&self, all: &str, of: &str, mut each: impl FnMut(&Tuple<'_>) -> Result<()>) -> Result<()> {
        match self {
            Self::All { .. } => scan::scan(all, &[], CHUNK, each, || Ok(())),
            Self::Of { customer_ids, .. } => customer_ids
                .chunks(CHUNK)
                .try_for_each(|chunk| scan::scan(of, &[chunk.to_vec().into()], CHUNK, &mut each, || Ok(()))),
        }
    }
}

/// Which records a run looked at.
pub enum Scope<'a> {
    /// All. On the first run nothing is stored yet, nothing is found by index, and indexes are made at the end.
    All { is_first: bool },
    /// Those of the customers with these ids, and new ones.
    Of {
        customer_ids: &'a [String],
        /// Ids that new or changed records may go by.
        aliases: &'a [String],
    },
}

/// What a run writes to.
pub struct Target<'a> {
    /// By source.
    pub reads: &'a HashMap<&'a str, Read>,
    pub scope: Scope<'a>,
    /// How documents were written while reading.
    pub indexes: Indexes,
}

/// What a run wrote, and what is to follow.
pub struct Written {
    pub rows: usize,
    /// Ids that stand for other customers than before.
    pub changes: Changes,
    /// Customers whose records came, went or changed, where golden records are kept.
    pub touched: Vec<String>,
    /// Ids that new records go by, where anybody is suppressed.
    pub came: Vec<String>,
}

/// Writes what changed.
pub fn write(resolution: &Resolution, target: &Target<'_>) -> Result<Written> {
    let events = resolution.events();
    let aliases = Aliases::compare(resolution, target)?;
    let changes = Changes::new(moves(&events, &aliases));
    note_rewards(&changes)?;
    let mut written = write_events(&events)?;
    let indexes = if matches!(target.scope, Scope::All { is_first: true }) { Indexes::Later } else { Indexes::Kept };
    if target.indexes == Indexes::Later {
        bulk::reindex(c"_record_field")?;
    }
    for (table, changed) in [
        (c"_record", write_records(resolution, target, indexes)?),
        (c"_identifier", write_identifiers(resolution, target, indexes)?),
        (c"_customer_alias", aliases.write(indexes)?),
    ] {
        written += changed;
        if indexes == Indexes::Later {
            interrupt::check();
            bulk::reindex(table)?;
        }
        if changed > resolution.records() / ANALYZE_SHARE && matches!(target.scope, Scope::All { .. }) {
            query::execute(&format!("ANALYZE decisioning.{}", table.to_string_lossy()), &[])?;
        }
    }
    let rows = written + write_conflicts(resolution, target)?;
    let touched = if golden::are_kept()? { touched(resolution, target, &changes)? } else { Vec::new() };
    let came = if guardrail::anybody_is_suppressed()? { came(resolution) } else { Vec::new() };
    Ok(Written { rows, changes, touched, came })
}

/// Ids that stand for another customer than before.
fn moves(events: &[Event<'_>], aliases: &Aliases<'_>) -> Vec<(String, String)> {
    let of_events = events.iter().map(|event| (event.from.to_owned(), event.into.to_owned()));
    let pair = |alias: &String, customer: &str| (alias.clone(), customer.to_owned());
    let gone = aliases.gone.iter().map(|(alias, before)| pair(alias, before));
    let stale = aliases.stale.iter().flat_map(|(alias, before, now)| [pair(alias, before), pair(alias, now)]);
    let missing = aliases.missing.iter().map(|(alias, now)| pair(alias, now));
    of_events.chain(gone).chain(stale).chain(missing).collect()
}

/// Ids that new records may have been suppressed under, at a time when they were there, too.
fn came(resolution: &Resolution) -> Vec<String> {
    let odd = resolution.has_odd_separators();
    let ids = |(source, key, customer): (&str, &str, &str)| {
        let separator = if odd { resolution.separator(source, key) } else { ":".to_owned() };
        [format!("{source}{separator}{key}"), key.to_owned(), customer.to_owned()]
    };
    resolution.new_records().flat_map(ids).collect()
}

/// Customers whose records came, went or changed.
fn touched(resolution: &Resolution, target: &Target<'_>, changes: &Changes) -> Result<Vec<String>> {
    let moved =
        resolution.new_records().chain(resolution.changed_records()).map(|(_, _, customer)| customer.to_owned());
    let gone = resolution.vanished_records().iter().map(|record| record.customer_id.clone());
    let renamed = changes.ids().into_iter().map(str::to_owned);
    let mut touched: HashSet<String> = moved.chain(gone).chain(renamed).collect();
    let edited: HashSet<i64> =
        target.reads.values().flat_map(|read| read.known.changed()).map(|(number, _)| number).collect();
    touched.extend(partial::customers(&edited)?);
    touched.extend(query::read(
        "SELECT DISTINCT r.customer_id FROM decisioning._unresolved u
         JOIN decisioning._record r ON r.record_number = u.record_number",
        &[],
        |row| row.value::<String>(1),
    )?);
    let mut touched: Vec<String> = touched.into_iter().collect();
    touched.sort_unstable();
    Ok(touched)
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

fn write_records(resolution: &Resolution, target: &Target<'_>, indexes: Indexes) -> Result<usize> {
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
    let edited = in_chunks(target.reads.values().flat_map(|read| read.known.changed()), |rows| {
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
            let known = target.reads.get(source).and_then(|read| read.known.of_key(key));
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
    let renamed = match target.scope {
        Scope::All { is_first: false } => write_separators(resolution, odd)?,
        _ => 0,
    };
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

fn write_identifiers(resolution: &Resolution, target: &Target<'_>, indexes: Indexes) -> Result<usize> {
    let mut difference = IdentifierDifference::of(resolution);
    let mut gone: Vec<(String, String)> = Vec::new();
    target.scope.each(
        "SELECT i.kind, i.value, i.customer_id FROM decisioning._identifier i",
        "SELECT i.kind, i.value, i.customer_id FROM unnest($1::text[]) AS n(customer_id)
         CROSS JOIN LATERAL (SELECT i.* FROM decisioning._identifier i WHERE i.customer_id = n.customer_id OFFSET 0) AS i",
        |row| {
            if let (Some(identifier), Some(value)) = (row.text(0)?, row.text(1)?) {
                if !difference.compare(identifier, value, row.text(2)?) {
                    gone.push((identifier.to_owned(), value.to_owned()));
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
        if matches!(target.scope, Scope::Of { .. }) {
            // Others may hold a value that this run saw only some records of: it stays with them.
            let kinds: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
            let values: Vec<&str> = rows.iter().map(|row| row.1).collect();
            let customers: Vec<Option<&str>> = rows.iter().map(|row| row.2).collect();
            return scratch(|| {
                query::execute(
                    "INSERT INTO decisioning._identifier (kind, value, customer_id)
                     SELECT u.* FROM unnest($1::text[], $2::text[], $3::text[]) AS u (kind, value, customer_id)
                     ON CONFLICT DO NOTHING",
                    &[kinds.into(), values.into(), customers.into()],
                )
            });
        }
        let rows: Vec<_> = rows.iter().map(|row| [Some(row.0.as_str()), Some(row.1), row.2]).collect();
        append(indexes, c"_identifier", [c"kind", c"value", c"customer_id"], &rows)
    })?;
    Ok(deleted + stale + missing)
}

fn write_events(events: &[Event<'_>]) -> Result<usize> {
    let now = now()?;
    in_chunks(events.iter(), |events| {
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.name()).collect();
        let into: Vec<&str> = events.iter().map(|event| event.into).collect();
        let from: Vec<&str> = events.iter().map(|event| event.from).collect();
        let records: Vec<i32> = events.iter().map(|event| event.records as i32).collect();
        let evidence: Vec<Option<JsonB>> = events.iter().copied().map(evidence_of).collect();
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

/// What joined the customers of an event: a value that they share, or a pair of records that are alike.
fn evidence_of(event: &Event<'_>) -> Option<JsonB> {
    match (event.evidence, &event.likeness) {
        (Some((identifier, value)), _) => Some(evidence(&identifier.to_string(), value)),
        (None, Some(pair)) => {
            let [left, right] = [pair.left, pair.right].map(|(source, key)| format!("{source}:{key}"));
            // JSON has no infinity, which is the weight of a confirmed pair.
            let weight = pair.weight.is_finite().then_some(pair.weight);
            Some(JsonB(json!({ "records": [left, right], "weight": weight, "reason": pair.reason })))
        }
        (None, None) => None,
    }
}

/// The evidence of an event, as it is stored.
pub fn evidence(identifier: &str, value: &str) -> JsonB {
    JsonB(json!({ "identifier": identifier, "value": value }))
}
