//! Where feedback is read, and how the sends of each channel are made.

use decisioning_core::delivery::Status;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::{Map, Value};

use super::feedback::{record, told, Told};
use crate::api::configuration;
use crate::api::now;
use crate::api::source::{check_lookback, check_moment, moment_of};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, as_owner_by_key};
use crate::pg::relation::{check_predicate, RelationName};
use crate::pg::{query, settings};

/// Events per chunk.
const CHUNK: usize = 10_000;

#[pg_extern(sql = false)]
fn set_delivery(channel: Option<&str>, delivery: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let (channel, delivery) = (required(channel, "channel")?, required(delivery, "delivery")?);
    if !["synced", "claimed"].contains(&delivery) {
        return Err(Error::invalid(format!("unknown delivery \"{delivery}\""))
            .hint("Sends are synced from the table sends by a tool, or claimed by workers with claim_sends.")
            .into());
    }
    as_owner(|| {
        configuration::execute(
            "INSERT INTO decisioning.delivery_channels (channel, delivery) VALUES ($1, $2)
             ON CONFLICT (channel) DO UPDATE SET delivery = excluded.delivery",
            &[channel.into(), delivery.into()],
        )
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn add_delivery_source(
    relation: Option<pg_sys::Oid>,
    decision_id: Option<&str>,
    status: Option<&str>,
    occurred_at: Option<&str>,
    reason: Option<&str>,
    statuses: Option<JsonB>,
    filter: Option<&str>,
    lookback: Option<Interval>,
    delivery_source: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let relation = RelationName::of(required(relation, "relation")?)?;
    let (decision_key, status) = (required(decision_id, "decision_id")?, required(status, "status")?);
    let occurred_at = required(occurred_at, "occurred_at")?;
    let lookback = required(lookback, "lookback")?;
    check_lookback(lookback, "366 days", "decisioning.ingest_deliveries(complete => true) reads everything.")?;
    let statuses = Map::from_iter(words(statuses.map_or_else(|| Value::Object(Map::new()), |words| words.0))?);

    let columns = relation.columns()?;
    for column in [decision_key, status].into_iter().chain(reason) {
        relation.column(&columns, column)?;
    }
    check_moment(&relation, &columns, occurred_at)?;
    if let Some(filter) = filter {
        check_predicate(&relation, filter, "filter", true)?;
    }
    let name = delivery_source.map_or_else(|| format!("{}.{}", relation.schema, relation.name), str::to_owned);
    as_owner(|| {
        let added = configuration::execute(
            "INSERT INTO decisioning.delivery_sources (delivery_source, source_schema, source_relation, decision_key, status,
                 occurred_at, reason, statuses, filter, lookback)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (delivery_source) DO NOTHING",
            &[
                name.as_str().into(),
                relation.schema.as_str().into(),
                relation.name.as_str().into(),
                decision_key.into(),
                status.into(),
                occurred_at.into(),
                reason.into(),
                JsonB(Value::Object(statuses)).into(),
                filter.into(),
                lookback.into(),
            ],
        )?;
        match added {
            0 => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("delivery source \"{name}\" already exists"),
            )
            .hint("Give another name in delivery_source.")),
            _ => Ok(()),
        }
    })?;
    Ok(name)
}

/// Words of a sender, and the statuses they stand for.
fn words(document: Value) -> Result<Vec<(String, Value)>> {
    let Value::Object(words) = document else {
        return Err(Error::invalid("statuses must map words of the sender to statuses")
            .hint("For example '{\"hard_bounce\": \"bounced\", \"spam\": \"complained\"}'."));
    };
    for status in words.values() {
        let known = status.as_str().and_then(Status::parse).filter(|status| status.is_feedback());
        if known.is_none() {
            let known: Vec<&str> = Status::feedback().collect();
            return Err(Error::invalid(format!("unknown status of a delivery {status}"))
                .hint(format!("Statuses are {}.", known.join(", "))));
        }
    }
    Ok(words.into_iter().collect())
}

#[pg_extern(sql = false)]
fn remove_delivery_source(delivery_source: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let name = required(delivery_source, "delivery_source")?;
    as_owner(|| {
        query::execute("DELETE FROM decisioning._delivery_mark m WHERE m.delivery_source = $1", &[name.into()])?;
        let removed =
            query::execute("DELETE FROM decisioning.delivery_sources s WHERE s.delivery_source = $1", &[name.into()])?;
        match removed {
            0 => Err(Error::missing(format!("delivery source \"{name}\" does not exist"))
                .hint("SELECT delivery_source FROM decisioning.delivery_sources lists them.")),
            _ => Ok(()),
        }
    })?;
    Ok(())
}

/// One row of decisioning.delivery_sources.
pub struct Source {
    pub name: String,
    relation: RelationName,
    decision_key: String,
    status: String,
    occurred_at: String,
    reason: Option<String>,
    statuses: Map<String, Value>,
    filter: Option<String>,
    /// Read from here on; `None` is everything.
    since: Option<TimestampWithTimeZone>,
}

/// What one source brought.
pub struct Ingested {
    source: String,
    events: i64,
    changed: i64,
    passed_over: i64,
}

/// Locks the sources, so that one session reads them at a time. Runs as the owner.
pub fn sources(complete: bool) -> Result<Vec<Source>> {
    query::write(
        "SELECT s.delivery_source, s.source_schema, s.source_relation, s.decision_key, s.status, s.occurred_at, s.reason,
                s.statuses::text, s.filter,
                CASE WHEN NOT $1 THEN (SELECT m.read_until - s.lookback FROM decisioning._delivery_mark m
                                       WHERE m.delivery_source = s.delivery_source) END
         FROM decisioning.delivery_sources s ORDER BY s.delivery_source FOR UPDATE",
        &[complete.into()],
        |row| {
            Ok(Source {
                name: row.value(1)?,
                relation: RelationName { schema: row.value(2)?, name: row.value(3)? },
                decision_key: row.value(4)?,
                status: row.value(5)?,
                occurred_at: row.value(6)?,
                reason: row.get(7)?,
                statuses: serde_json::from_str(&row.value::<String>(8)?)?,
                filter: row.get(9)?,
                since: row.get(10)?,
            })
        },
    )
}

impl Source {
    fn status_of(&self, word: &str) -> Option<Status> {
        let status = self.statuses.get(word).and_then(Value::as_str).unwrap_or(word);
        Status::parse(status).filter(|status| status.is_feedback())
    }

    /// The reading statement; columns are looked up anew, so a swapped, widened or retyped table is no surprise.
    fn statement(&self) -> Result<String> {
        let columns = self.relation.columns()?;
        let text = |name: &str| -> Result<String> { Ok(self.relation.column(&columns, name)?.text("relation")) };
        let at = moment_of(&self.relation, &columns, &self.occurred_at)?;
        Ok(format!(
            "SELECT {}, {}, {at}, {} FROM {} AS relation
             WHERE (\n{}\n) IS TRUE AND ($1::pg_catalog.timestamptz IS NULL OR {at} OPERATOR(pg_catalog.>=) $1)
               AND {at} OPERATOR(pg_catalog.<=) ($2::pg_catalog.timestamptz OPERATOR(pg_catalog.+) '1 day'::pg_catalog.interval)
             ORDER BY {at}",
            text(&self.decision_key)?,
            text(&self.status)?,
            self.reason.as_deref().map_or(Ok("NULL::pg_catalog.text".to_owned()), text)?,
            self.relation.quoted(),
            self.filter.as_deref().unwrap_or("true"),
        ))
    }
}

/// Reads one source as the caller and records what it says as the owner, chunk by chunk.
pub fn ingest_source(source: &Source) -> Result<Ingested> {
    let mut ingested = Ingested { source: source.name.clone(), events: 0, changed: 0, passed_over: 0 };
    let now_micros = settings::now_micros()?;
    let mut latest: Option<TimestampWithTimeZone> = None;
    query::stream(
        &source.statement()?,
        &[source.since.into(), now()?.into()],
        CHUNK,
        |row| {
            Ok((
                row.get::<String>(1)?,
                row.get::<String>(2)?,
                row.get::<TimestampWithTimeZone>(3)?,
                row.get::<String>(4)?,
            ))
        },
        |rows| {
            let mut all: Vec<Told> = Vec::with_capacity(rows.len());
            ingested.events += rows.len() as i64;
            for (id, word, at, reason) in rows {
                let (Some(id), Some(word), Some(at)) = (id, word, at) else { continue };
                latest = Some(at);
                let Some((id, status)) = parse_uuid(&id).zip(source.status_of(&word)) else { continue };
                all.push(told(id, status, at, reason, now_micros)?);
            }
            let told = all.len() as i64;
            let recorded = as_owner_by_key(|| record(&all))?;
            let unknown = all.iter().filter(|told| recorded.unknown.contains(&told.decision_id)).count() as i64;
            ingested.changed += recorded.changed;
            ingested.passed_over -= told - unknown;
            Ok(())
        },
    )?;
    ingested.passed_over += ingested.events;
    if let Some(latest) = latest {
        as_owner(|| {
            query::execute(
                "INSERT INTO decisioning._delivery_mark AS m (delivery_source, read_until) VALUES ($1, least($2, $3))
                 ON CONFLICT (delivery_source) DO UPDATE SET read_until = greatest(m.read_until, excluded.read_until)",
                &[source.name.as_str().into(), latest.into(), now()?.into()],
            )
        })?;
    }
    Ok(ingested)
}

fn parse_uuid(text: &str) -> Option<Uuid> {
    let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
    (hex.len() == 32)
        .then(|| u128::from_str_radix(&hex, 16).ok())
        .flatten()
        .map(|bits| Uuid::from_bytes(bits.to_be_bytes()))
}

#[pg_extern(sql = false)]
fn ingest_deliveries(
    complete: Option<bool>,
) -> std::result::Result<
    TableIterator<
        'static,
        (name!(delivery_source, String), name!(events, i64), name!(changed, i64), name!(passed_over, i64)),
    >,
    ErrorReport,
> {
    let rows =
        as_owner(|| sources(complete.unwrap_or(false)))?.iter().map(ingest_source).collect::<Result<Vec<_>>>()?;
    Ok(TableIterator::new(rows.into_iter().map(|one| (one.source, one.events, one.changed, one.passed_over))))
}
