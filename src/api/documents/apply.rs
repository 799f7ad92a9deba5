//! Applying a document: what differs is set by the same functions as by hand, called by the caller.

use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::{json, Value};

use super::document::{self, Document};
use super::registry::{Absent, Change, Section};
use super::rows::{self, Column, Row, Rows};
use crate::api::configuration;
use crate::api::configure::check_editable;
use crate::pg::error::{Error, Result};
use crate::pg::guard::{as_owner, as_owner_for_documents};
use crate::pg::query;
use crate::pg::relation::{check_predicate, RelationName};

/// A section, what it should be, and what it was.
struct Part {
    section: &'static Section,
    columns: Vec<Column>,
    wanted: Rows,
    before: Rows,
}

/// Makes the campaign what the document says; returns the differences.
pub fn apply(document: &Document) -> Result<Value> {
    let campaign = document.campaign.as_str();
    let exists = as_owner(|| exists(campaign))?;
    if exists {
        as_owner(|| check_editable(campaign))?;
    } else if !document.sections.iter().any(|(section, _)| section.table == "campaigns") {
        return Err(Error::missing(format!("campaign \"{campaign}\" does not exist"))
            .hint("A document with settings creates it."));
    }
    // Caps and orders lock out decisions; taken last, that could meet a session that waits for the rows of this one.
    let locks = |name: &str| ["frequency_caps", "order_rules"].contains(&name);
    if document.sections.iter().any(|(section, _)| locks(section.name)) {
        as_owner(|| query::execute("LOCK TABLE decisioning._assignment IN SHARE ROW EXCLUSIVE MODE", &[]))?;
    }
    let mut parts = Vec::new();
    for (section, given) in &document.sections {
        parts.push(as_owner_for_documents(|| part(section, given, campaign))?);
    }
    for part in &parts {
        set(part, campaign)?;
    }
    let mut changes = Vec::new();
    for part in &parts {
        let after = as_owner_for_documents(|| rows::read(part.section, campaign, is_shared(part.section)))?;
        differences(part, &after, &mut changes);
    }
    Ok(Value::Array(changes))
}

/// Runs as the owner.
fn exists(campaign: &str) -> Result<bool> {
    let found =
        query::read_one("SELECT 1 FROM decisioning.campaigns WHERE campaign = $1", &[campaign.into()], |_| Ok(()))?;
    Ok(found.is_some())
}

/// Whether rows belong to no campaign, so that those that are there already may be outside of its scope.
fn is_shared(section: &Section) -> bool {
    section.absent == Absent::Stays && !section.key.is_empty()
}

fn part(section: &'static Section, given: &[Row], campaign: &str) -> Result<Part> {
    let columns = rows::columns(section)?;
    let mut wanted = Rows::new();
    for row in given {
        let row = document::table_row(section, &columns, row.clone())?;
        let path = rows::path(section, &row);
        if wanted.insert(rows::identity(section, &row), row).is_some() {
            return Err(Error::invalid(format!("\"{path}\" is twice in the document"))
                .hint("Rows of a list are told apart by their key columns, where a default counts as given."));
        }
    }
    let before = rows::read(section, campaign, is_shared(section))?;
    Ok(Part { section, columns, wanted, before })
}

/// Columns of a row that are not as they should be.
fn changed<'a>(wanted: &'a Row, row: &Row) -> Vec<&'a str> {
    let differs = |(name, value): (&'a String, &Value)| (row.get(name) != Some(value)).then_some(name.as_str());
    wanted.iter().filter_map(differs).collect()
}

fn set(part: &Part, campaign: &str) -> Result<()> {
    let section = part.section;
    for (identity, row) in &part.before {
        if !part.wanted.contains_key(identity) {
            remove(section, row, campaign)?;
        }
    }
    for (identity, row) in &part.wanted {
        match part.before.get(identity) {
            None => {
                if section.table == "campaigns" {
                    check_settings(row)?;
                } else {
                    check_name(section, row, campaign)?;
                }
                call(section, row, campaign)?;
                if section.table == "campaigns" {
                    update(section, row, &all(row), campaign)?;
                }
            }
            Some(before) => {
                let columns = changed(row, before);
                if columns.is_empty() {
                    continue;
                }
                match section.change {
                    Change::Again => call(section, row, campaign)?,
                    Change::Replace => {
                        delete(section, row, campaign)?;
                        call(section, row, campaign)?;
                    }
                    Change::Update => {
                        if section.table == "campaigns" {
                            check_settings(row)?;
                        }
                        update(section, row, &columns, campaign)?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn all(row: &Row) -> Vec<&str> {
    row.keys().map(String::as_str).collect()
}

fn with_campaign(row: &Row, campaign: &str) -> JsonB {
    let mut row = row.clone();
    row.insert("campaign".to_owned(), campaign.into());
    JsonB(Value::Object(row))
}

/// Sets a row as by hand. Runs as the caller.
fn call(section: &Section, row: &Row, campaign: &str) -> Result<()> {
    for verb in section.verbs {
        query::execute(
            &format!(
                "SELECT decisioning.{verb} FROM pg_catalog.jsonb_populate_record(NULL::decisioning.{}, $1) AS r",
                section.table
            ),
            &[with_campaign(row, campaign).into()],
        )?;
    }
    Ok(())
}

fn update(section: &Section, row: &Row, columns: &[&str], campaign: &str) -> Result<()> {
    let names = columns.iter().map(|name| crate::pg::relation::quote_identifier(name));
    let names: Vec<String> = names.collect();
    let values: Vec<String> = names.iter().map(|name| format!("r.{name}")).collect();
    let scope = if is_shared(section) { "$1::text IS NOT NULL" } else { section.scope };
    as_owner_for_documents(|| {
        configuration::execute(
            &format!(
                "UPDATE decisioning.{table} AS t SET ({}) = (SELECT {} FROM jsonb_populate_record(NULL::decisioning.{table}, $3) AS r)
                 WHERE {scope} AND to_jsonb(t) @> $2",
                names.join(", "),
                values.join(", "),
                table = section.table,
            ),
            &[campaign.into(), JsonB(rows::key(section, row)).into(), JsonB(Value::Object(row.clone())).into()],
        )
    })?;
    Ok(())
}

fn delete(section: &Section, row: &Row, campaign: &str) -> Result<()> {
    let scope = if is_shared(section) { "$1::text IS NOT NULL" } else { section.scope };
    as_owner_for_documents(|| {
        query::execute(
            &format!("DELETE FROM decisioning.{} AS t WHERE {scope} AND to_jsonb(t) @> $2", section.table),
            &[campaign.into(), JsonB(rows::key(section, row)).into()],
        )
    })?;
    Ok(())
}

/// A row that its section does not mention.
fn remove(section: &Section, row: &Row, campaign: &str) -> Result<()> {
    match section.absent {
        Absent::Stays => Ok(()),
        Absent::Removed => delete(section, row, campaign),
        Absent::Paused => {
            let started = as_owner(|| {
                query::read_one(
                    "SELECT c.started_at IS NOT NULL FROM decisioning.campaigns c WHERE c.campaign = $1",
                    &[campaign.into()],
                    |row| row.value::<bool>(1),
                )
            })?;
            if started != Some(true) {
                return delete(section, row, campaign);
            }
            if row.get("status").and_then(Value::as_str) != Some("paused") {
                let action = row.get("action").and_then(Value::as_str);
                query::execute("SELECT decisioning.pause_action($1, $2)", &[campaign.into(), action.into()])?;
            }
            Ok(())
        }
    }
}

/// A name that is unique over all campaigns must not be taken away from another.
fn check_name(section: &Section, row: &Row, campaign: &str) -> Result<()> {
    if section.absent != Absent::Removed || section.scope != super::registry::OF_CAMPAIGN {
        return Ok(());
    }
    let taken = as_owner(|| {
        query::read_one(
            &format!(
                "SELECT 1 FROM decisioning.{table} AS t
                 WHERE to_jsonb(t) @> $1 AND t.campaign IS DISTINCT FROM $2 AND NOT EXISTS (
                     SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                     WHERE i.indrelid = 'decisioning.{table}'::regclass AND i.indisprimary AND a.attname = 'campaign')",
                table = section.table
            ),
            &[JsonB(rows::key(section, row)).into(), campaign.into()],
            |_| Ok(()),
        )
    })?;
    match taken {
        None => Ok(()),
        Some(()) => Err(Error::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("\"{}\" is a rule outside of campaign \"{campaign}\"", rows::path(section, row)),
        )
        .hint("These names are shared by all campaigns; choose another.")),
    }
}

/// What the functions for people check of a campaign when it is made, for any change of it. Runs as the caller.
fn check_settings(row: &Row) -> Result<()> {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    let relation = RelationName {
        schema: text("customers_schema").unwrap_or_default().to_owned(),
        name: text("customers_relation").unwrap_or_default().to_owned(),
    };
    let columns = relation.columns()?;
    let features = row.get("features").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let named = [
        "customer_key",
        "offset_column",
        "time_zone_column",
        "jurisdiction_column",
        "household_column",
        "locale_column",
        "profiling_column",
    ];
    for column in named.into_iter().filter_map(text).chain(features) {
        relation.column(&columns, column)?;
    }
    for zone in ["time_zone", "fallback_time_zone"].into_iter().filter_map(text) {
        decisioning_core::decide::period(0, zone)
            .map_err(|error| Error::invalid(error.to_string()).hint("Give an IANA name such as 'Europe/Berlin'."))?;
    }
    match text("audience") {
        Some(audience) => check_predicate(&relation, audience, "audience", false),
        None => Ok(()),
    }
}

/// Rows that came and went as a whole, and each column that changed.
fn differences(part: &Part, after: &Rows, changes: &mut Vec<Value>) {
    let section = part.section;
    let written = |row: &Row| document::document_row(section, &part.columns, row);
    let mut identities: Vec<&String> = part.before.keys().chain(after.keys()).collect();
    identities.sort_unstable();
    identities.dedup();
    for identity in identities {
        let (before, after) = (part.before.get(identity), after.get(identity));
        let Some(path) = before.or(after).map(|row| rows::path(section, row)) else { continue };
        match (before.map(written), after.map(written)) {
            (Some(before), Some(after)) => {
                for (name, value) in &after {
                    let old = before.get(name).unwrap_or(&Value::Null);
                    if old != value {
                        changes.push(json!({"path": format!("{path}.{name}"), "before": old, "after": value}));
                    }
                }
            }
            (before, after) => changes.push(json!({"path": path, "before": before, "after": after})),
        }
    }
}
