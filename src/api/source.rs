//! Outcome sources: the user's event tables, read in place.

use std::collections::{HashMap, HashSet};

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::now;
use super::outcome::{self, Event, Recorded};
use super::privacy::forget;
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::relation::{quote_identifier, Column, ColumnKind, RelationName};
use crate::pg::{query, settings};

/// Events per chunk.
const CHUNK: usize = 10_000;

/// One row of decisioning.outcome_sources.
pub struct Source {
    pub name: String,
    pub goal: String,
    relation: RelationName,
    customer_key: String,
    occurred_at: String,
    event_id: String,
    value: Option<String>,
    filter: Option<String>,
    /// Read from here on; `None` is everything.
    since: Option<TimestampWithTimeZone>,
}

/// What one source brought.
pub struct Ingested {
    pub source: String,
    pub events: i64,
    pub counts: Recorded,
}

/// Reads the sources of the given goals (all if `None`).
pub fn ingest(goals: Option<&[String]>, complete: bool) -> Result<Vec<Ingested>> {
    as_owner(|| sources(goals, complete))?.iter().map(ingest_source).collect()
}

/// The sources of the given goals (all if `None`). Runs as the owner.
pub fn sources(goals: Option<&[String]>, complete: bool) -> Result<Vec<Source>> {
    query::read(
        "SELECT s.outcome_source, s.goal, s.source_schema, s.source_relation, s.customer_key, s.occurred_at, s.event_id,
                s.value, s.filter,
                CASE WHEN NOT $2 THEN (SELECT max(k.occurred_at) - extract(epoch FROM s.lookback) * interval '1 second'
                                       FROM decisioning._outcome_key k WHERE k.outcome_source = s.outcome_source) END
         FROM decisioning.outcome_sources s WHERE $1::text[] IS NULL OR s.goal = ANY ($1) ORDER BY s.outcome_source",
        &[goals.map(<[String]>::to_vec).into(), complete.into()],
        |row| {
            Ok(Source {
                name: row.value(1)?,
                goal: row.value(2)?,
                relation: RelationName { schema: row.value(3)?, name: row.value(4)? },
                customer_key: row.value(5)?,
                occurred_at: row.value(6)?,
                event_id: row.value(7)?,
                value: row.get(8)?,
                filter: row.get(9)?,
                since: row.get(10)?,
            })
        },
    )
}

/// Reads one source as the caller and records what it says as the owner, chunk by chunk; then reverses events that it
/// had in the same stretch of time and has no longer.
pub fn ingest_source(source: &Source) -> Result<Ingested> {
    as_owner(|| lock(source))?;
    let mut ingested = Ingested { source: source.name.clone(), events: 0, counts: Recorded::default() };
    let mut present: HashSet<u128> = HashSet::new();
    let now_micros = settings::now_micros()?;
    let mut nameless = 0_u64;
    let any_forgotten = forget::anybody_forgotten()?;
    query::stream(
        &statement(source)?,
        &[source.since.into(), now()?.into()],
        CHUNK,
        |row| {
            Ok((row.get::<String>(1)?, row.get::<String>(2)?, row.get::<TimestampWithTimeZone>(3)?, row.get::<f64>(4)?))
        },
        |rows| {
            let mut events = Vec::with_capacity(rows.len());
            let forgotten = match any_forgotten {
                true => {
                    let ids: Vec<String> = rows.iter().filter_map(|row| row.1.clone()).collect();
                    as_owner(|| forget::forgotten_since(&ids))?
                }
                false => HashMap::new(),
            };
            for (event_id, customer_id, occurred_at, value) in rows {
                let (Some(event_id), Some(customer_id), Some(occurred_at)) = (event_id, customer_id, occurred_at)
                else {
                    nameless += 1;
                    continue;
                };
                // What he did before he was forgotten stays so.
                if forgotten.get(&customer_id).is_some_and(|since| settings::micros(occurred_at) <= Some(*since)) {
                    continue;
                }
                let event =
                    Event { event_id, customer_id, value: value.unwrap_or(0.0), occurred_at, decision_id: None };
                outcome::check(&event, now_micros)
                    .map_err(|error| error.detail(format!("It comes from outcome source \"{}\".", source.name)))?;
                present.insert(fingerprint(&event.event_id));
                events.push(event);
            }
            ingested.events += events.len() as i64;
            let counts = as_owner(|| outcome::record(&source.goal, Some(&source.name), events))?;
            ingested.counts.recorded += counts.recorded;
            ingested.counts.adjusted += counts.adjusted;
            Ok(())
        },
    )?;
    if nameless > 0 {
        pgrx::notice!(
            "outcome source \"{}\": {nameless} rows without event id, customer or time were left out",
            source.name
        );
    }
    ingested.counts.reversed = as_owner(|| reverse_vanished(source, &present))?;
    Ok(ingested)
}

/// One reading of a source at a time: what another session recorded meanwhile would look vanished to this one. Runs as
/// the owner.
fn lock(source: &Source) -> Result<()> {
    query::write(
        "SELECT FROM decisioning.outcome_sources s WHERE s.outcome_source = $1 FOR UPDATE",
        &[source.name.as_str().into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// 128 bits of an event id, so that a long lookback costs 16 bytes an event.
fn fingerprint(event_id: &str) -> u128 {
    decisioning_core::decide::Salt([0; 16]).fingerprint(event_id)
}

/// Runs as the owner.
fn reverse_vanished(source: &Source, present: &HashSet<u128>) -> Result<i64> {
    let mut vanished = Vec::new();
    query::stream(
        "SELECT k.event_id FROM decisioning._outcome_key k
         WHERE k.outcome_source = $1 AND k.goal = $2 AND NOT k.reversed AND ($3::timestamptz IS NULL OR k.occurred_at >= $3)",
        &[source.name.as_str().into(), source.goal.as_str().into(), source.since.into()],
        CHUNK,
        |row| row.value::<String>(1),
        |ids| {
            vanished.extend(ids.into_iter().filter(|id| !present.contains(&fingerprint(id))));
            Ok(())
        },
    )?;
    let mut reversed = 0;
    for chunk in vanished.chunks(CHUNK) {
        reversed += outcome::reverse(&source.goal, Some(&source.name), chunk.to_vec())?;
    }
    Ok(reversed)
}

/// The reading statement; columns are looked up anew, so a swapped, widened or retyped table is no surprise.
fn statement(source: &Source) -> Result<String> {
    let columns = source.relation.columns()?;
    let text = |name: &str| -> Result<String> { Ok(source.relation.column(&columns, name)?.text("relation")) };
    let at = moment_of(&source.relation, &columns, &source.occurred_at)?;
    let value = match &source.value {
        None => "1::float8".to_owned(),
        Some(value) => {
            let column = source.relation.column(&columns, value)?;
            format!("relation.{}::pg_catalog.numeric::float8", quote_identifier(&column.name))
        }
    };
    Ok(format!(
        "SELECT {}, {}, {at}, {value} FROM {} AS relation
         WHERE (\n{}\n) IS TRUE AND ($1::pg_catalog.timestamptz IS NULL OR {at} OPERATOR(pg_catalog.>=) $1)
           AND {at} OPERATOR(pg_catalog.<=) $2::pg_catalog.timestamptz",
        text(&source.event_id)?,
        text(&source.customer_key)?,
        source.relation.quoted(),
        source.filter.as_deref().unwrap_or("true"),
    ))
}

/// # Errors
/// A lookback that is negative, or longer than `most`, an interval. `hint` says how all of a source is read.
pub fn check_lookback(lookback: Interval, most: &str, hint: &str) -> Result<()> {
    let sql = "SELECT $1 >= interval '0' AND $1 <= $2::interval";
    match as_owner(|| query::read_one(sql, &[lookback.into(), most.into()], |row| row.value::<bool>(1)))? {
        Some(true) => Ok(()),
        _ => Err(Error::invalid(format!("lookback must not be negative, and at most {most}")).hint(hint)),
    }
}

/// # Errors
/// The column is missing, or holds no moments.
pub fn check_moment(relation: &RelationName, columns: &[Column], name: &str) -> Result<()> {
    match relation.column(columns, name)?.kind {
        ColumnKind::Time | ColumnKind::LocalTime => Ok(()),
        _ => Err(Error::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{name}\" is not a date or time"),
        )),
    }
}

/// A column of moments as SQL over `relation`; times without a zone are taken for UTC.
///
/// # Errors
/// It is gone, or holds no moments any more.
pub fn moment_of(relation: &RelationName, columns: &[Column], name: &str) -> Result<String> {
    let column = relation.column(columns, name)?;
    let quoted = format!("relation.{}", quote_identifier(&column.name));
    match column.kind {
        ColumnKind::Time => Ok(quoted),
        ColumnKind::LocalTime => Ok(format!("({quoted}::pg_catalog.timestamp AT TIME ZONE 'UTC')")),
        _ => Err(Error::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{name}\" of {} is no longer a date or time", relation.quoted()),
        )),
    }
}

type IngestRow = (String, i64, i64, i64, i64);

#[pg_extern(sql = false)]
fn ingest_outcomes(
    goal: Option<&str>,
    complete: Option<bool>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(outcome_source, String),
            name!(events, i64),
            name!(recorded, i64),
            name!(adjusted, i64),
            name!(reversed, i64),
        ),
    >,
    ErrorReport,
> {
    if let Some(goal) = goal {
        as_owner(|| super::goal::check_goal(goal))?;
    }
    let goals = goal.map(|goal| vec![goal.to_owned()]);
    let rows: Vec<IngestRow> = ingest(goals.as_deref(), complete.unwrap_or(false))?
        .into_iter()
        .map(|ingested| {
            let Recorded { recorded, adjusted, reversed } = ingested.counts;
            (ingested.source, ingested.events, recorded, adjusted, reversed)
        })
        .collect();
    Ok(TableIterator::new(rows))
}
