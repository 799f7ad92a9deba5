//! Entry events: what makes customers due in a campaign that is triggered by events, such as a cart that was left.

use std::collections::{BTreeSet, HashMap};

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde::Deserialize;

use super::campaign::{self, Campaign};
use super::configure::check_editable;
use super::guardrail::known_as;
use super::pipeline::canonical_ids;
use super::source::{check_moment, moment_of};
use crate::api::configuration;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, for_texts};
use crate::pg::query;
use crate::pg::relation::{check_predicate, quote_identifier, Column, RelationName};
use crate::pg::settings::{micros, timestamp};

/// Reason of customers for whom no event is fresh that was not decided for already.
pub const NO_ENTRY: &str = "no_entry";

/// A relation with events.
#[derive(Clone, Debug, Deserialize)]
pub struct EntrySource {
    source_schema: String,
    source_relation: String,
    customer_key: String,
    occurred_at: String,
    valid_seconds: f64,
    filter: Option<String>,
}

/// The latest fresh event of a customer. Times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: i64,
    /// When he is not due any more because of it, or of another.
    pub stale_at: i64,
}

impl EntrySource {
    fn relation(&self) -> RelationName {
        RelationName { schema: self.source_schema.clone(), name: self.source_relation.clone() }
    }

    fn valid_for(&self) -> i64 {
        (self.valid_seconds * 1e6) as i64
    }

    /// The customer's id and the time of events since $1 until $2, as SQL, and the key.
    fn statement(&self, columns: &[Column], condition: &str) -> Result<String> {
        let relation = self.relation();
        let key = relation.column(columns, &self.customer_key)?;
        let at = moment_of(&relation, columns, &self.occurred_at)?;
        Ok(format!(
            "SELECT {}, pg_catalog.max({at}) FROM {} AS relation
             WHERE {at} OPERATOR(pg_catalog.>) $1::pg_catalog.timestamptz AND {at} OPERATOR(pg_catalog.<=) $2::pg_catalog.timestamptz
               AND relation.{} IS NOT NULL AND (\n{}\n) IS TRUE{condition} GROUP BY 1",
            key.text("relation"),
            relation.quoted(),
            quote_identifier(&key.name),
            self.filter.as_deref().unwrap_or("true"),
        ))
    }
}

/// The latest fresh event of each of `ids` that has one, at `now` (microseconds). Reads the sources as the caller.
pub fn latest(campaign: &Campaign, ids: &[String], now: i64) -> Result<HashMap<String, Entry>> {
    let mut entries: HashMap<String, Entry> = HashMap::new();
    if campaign.entries.is_empty() {
        return Ok(entries);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for source in &campaign.entries {
        let relation = source.relation();
        let columns = relation.columns()?;
        let key = relation.column(&columns, &source.customer_key)?;
        let (asked, canonical) = known_as(&ids, key)?;
        let among =
            format!(" AND {}", key.equals("relation", &format!("ANY ($3::pg_catalog.text[]::{}[])", key.type_name)));
        let since = timestamp(now - source.valid_for())?;
        let statement = source.statement(&columns, &among)?;
        let arguments = [since.into(), timestamp(now)?.into(), asked.into()];
        let rows = for_texts(|| {
            query::read(&statement, &arguments, |row| {
                Ok((row.value::<String>(1)?, row.value::<TimestampWithTimeZone>(2)?))
            })
        })?;
        for (id, at) in rows {
            let Some(at) = micros(at) else { continue };
            let id = canonical.get(&id).cloned().unwrap_or(id);
            let fresh = Entry { at, stale_at: at.saturating_add(source.valid_for()) };
            let known = entries.entry(id).or_insert(fresh);
            *known = Entry { at: known.at.max(fresh.at), stale_at: known.stale_at.max(fresh.stale_at) };
        }
    }
    Ok(entries)
}

/// Ids of all customers with a fresh event at `now` (microseconds), in bytewise order. Reads the sources as the caller.
pub fn due(campaign: &Campaign, now: i64) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for source in &campaign.entries {
        let columns = source.relation().columns()?;
        let since = timestamp(now - source.valid_for())?;
        let statement = source.statement(&columns, "")?;
        let arguments = [since.into(), timestamp(now)?.into()];
        found.extend(for_texts(|| query::read(&statement, &arguments, |row| row.value::<String>(1)))?);
    }
    let canonical: BTreeSet<String> = as_owner(|| canonical_ids(&found))?.into_iter().collect();
    Ok(canonical.into_iter().collect())
}

#[pg_extern(sql = false)]
fn add_entry_source(
    campaign: Option<&str>,
    relation: Option<pg_sys::Oid>,
    customer_key: Option<&str>,
    occurred_at: Option<&str>,
    valid_for: Option<Interval>,
    filter: Option<&str>,
    entry_source: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let campaign = required(campaign, "campaign")?;
    let relation = RelationName::of(required(relation, "relation")?)?;
    let (customer_key, occurred_at) = (required(customer_key, "customer_key")?, required(occurred_at, "occurred_at")?);
    let valid_for = required(valid_for, "valid_for")?;
    let columns = relation.columns()?;
    relation.column(&columns, customer_key)?;
    check_moment(&relation, &columns, occurred_at)?;
    if let Some(filter) = filter {
        check_predicate(&relation, filter, "filter", true)?;
    }
    let name = entry_source.map_or_else(|| format!("{}.{}", relation.schema, relation.name), str::to_owned);
    as_owner(|| {
        check_editable(campaign)?;
        let fits =
            query::read_one("SELECT $1 > interval '0' AND $1 <= interval '366 days'", &[valid_for.into()], |row| {
                row.value::<bool>(1)
            })?;
        if fits != Some(true) {
            return Err(Error::invalid("valid_for must be positive and at most 366 days"));
        }
        let added = configuration::execute(
            "INSERT INTO decisioning.entry_sources (campaign, entry_source, source_schema, source_relation, customer_key,
                 occurred_at, valid_for, filter)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (campaign, entry_source) DO NOTHING",
            &[
                campaign.into(),
                name.as_str().into(),
                relation.schema.as_str().into(),
                relation.name.as_str().into(),
                customer_key.into(),
                occurred_at.into(),
                valid_for.into(),
                filter.into(),
            ],
        )?;
        match added {
            0 => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("campaign \"{campaign}\" already has entry source \"{name}\""),
            )
            .hint("Give another name in entry_source.")),
            _ => Ok(()),
        }
    })?;
    Ok(name)
}

#[pg_extern(sql = false)]
fn remove_entry_source(campaign: Option<&str>, entry_source: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let (campaign, name) = (required(campaign, "campaign")?, required(entry_source, "entry_source")?);
    as_owner(|| {
        campaign::load(campaign)?;
        let removed = query::execute(
            "DELETE FROM decisioning.entry_sources n WHERE n.campaign = $1 AND n.entry_source = $2",
            &[campaign.into(), name.into()],
        )?;
        match removed {
            0 => Err(Error::missing(format!("campaign \"{campaign}\" has no entry source \"{name}\""))
                .hint("SELECT entry_source FROM decisioning.entry_sources lists them.")),
            _ => Ok(()),
        }
    })?;
    Ok(())
}
