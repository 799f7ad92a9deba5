//! A run: sources in, identity_map out.

use std::collections::HashMap;

use decisioning_core::identity::Fields;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::full::{self, Full, Row};
use super::golden::Maker;
use super::partial;
use super::read::{Read, Reading};
use super::source::{self, Source};
use super::stored::Sources;
use super::write::Written;
use super::{model, rules};
use crate::api::follow::{follow, lock_learners};
use crate::api::guardrail;
use crate::api::now;
use crate::pg::bulk::Indexes;
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::snapshot::latest;
use crate::pg::{query, settings};

/// From this share of records on that came, changed or vanished since the last full run, the next one is full: it costs no more.
const FULL_SHARE: i64 = 3;

#[pg_extern(sql = false)]
fn resolve_all(full: Option<bool>) -> std::result::Result<(), ErrorReport> {
    Ok(run(full.unwrap_or(false))?)
}

/// What the last run left behind.
struct Last {
    configuration: i64,
    model: Option<i64>,
    full_records: i64,
    changed_records: i64,
}

fn run(full: bool) -> Result<()> {
    require_read_committed("resolve_all")?;
    // One run at a time; people who resolve online go on meanwhile.
    as_owner(|| query::execute("LOCK TABLE decisioning._online IN SHARE UPDATE EXCLUSIVE MODE", &[]))?;
    let (rules, sources) = latest(|| as_owner(|| Ok((rules::load()?, source::load()?))))?;
    let configuration = latest(|| as_owner(configuration))?;
    let is_first = latest(|| as_owner(is_empty))?;
    let is_full = full || is_first || latest(|| as_owner(|| calls_for_full(configuration)))?;
    let reading = Reading {
        complete: is_full,
        now: settings::now()?,
        indexes: if is_first { Indexes::Later } else { Indexes::Kept },
        keeps_before: !is_full,
    };
    let numbered = Sources::of(&sources);
    let email_providers = rules.email_providers;
    let mut collected = if is_full { Some(Full::new(rules.clone(), &numbered)?) } else { None };
    let reads = match &mut collected {
        Some(full) => full.collect(|each| {
            read_all(&sources, &reading, |name, key, fields| {
                let source = numbered.number(name).unwrap_or_default();
                each(Row { source, key: key.to_owned(), fields: fields.clone() });
            })
        })?,
        None => read_all(&sources, &reading, |_, _, _| {})?,
    };

    as_owner(lock_learners)?;
    // From here to the end of the transaction nobody new is added online, so that nobody is overlooked. This is the order
    // in which online sessions lock, too: first the table, then rows.
    let written = as_owner(|| {
        query::execute("LOCK TABLE decisioning._online IN SHARE ROW EXCLUSIVE MODE", &[])?;
        latest(|| {
            let (changed, written) = match collected {
                Some(full) => (None, Some(full.finish(&numbered, &reads, reading.indexes)?)),
                None => match partial::finish(rules, &numbered, &reads)? {
                    Some((changed, written)) => (Some(changed), Some(written)),
                    None => (Some(0), None),
                },
            };
            remember_reads(&sources, &reads)?;
            remember_run(configuration, email_providers, changed)?;
            Ok(written)
        })
    })?;
    let Some(Written { changes, touched, came, .. }) = written else { return Ok(()) };
    if !touched.is_empty() {
        let changed = latest(|| as_owner(Maker::load)?.refresh(&touched))?;
        notice!("{changed} golden records changed");
    }
    as_owner(|| {
        guardrail::welcome(&came)?;
        follow(&changes)
    })
}

/// Reads all sources. `each` gets every row: the name of its source, its key and its fields.
fn read_all<'a>(
    sources: &'a [Source],
    reading: &Reading,
    mut each: impl FnMut(&str, &str, &Fields),
) -> Result<HashMap<&'a str, Read>> {
    let mut reads = HashMap::new();
    for source in sources {
        let read = latest(|| source.read(reading, |key, fields| each(&source.name, key, fields)))?;
        notice!("source {}: {} records read", source.name, read.rows);
        if read.without_key > 0 {
            warning!("source {}: {} rows without a key were skipped", source.name, read.without_key);
        }
        if read.ahead > 0 {
            notice!(
                "source {}: {} rows have a changed_at in the future, and are read again in every run",
                source.name,
                read.ahead
            );
        }
        reads.insert(source.name.as_str(), read);
    }
    Ok(reads)
}

/// A snapshot from before the lock would overlook people who were added online while the run waited.
pub fn require_read_committed(name: &str) -> Result<()> {
    let level = query::read_one("SELECT current_setting('transaction_isolation')", &[], |row| row.value::<String>(1))?;
    if level.is_some_and(|level| level == "repeatable read" || level == "serializable") {
        return Err(Error::state(format!("{name} must run at isolation level read committed"))
            .hint("Call it outside of a transaction, or begin one with BEGIN ISOLATION LEVEL READ COMMITTED."));
    }
    Ok(())
}

/// Whether no record is known yet.
pub fn is_empty() -> Result<bool> {
    Ok(query::read_one("SELECT 1 FROM decisioning._record LIMIT 1", &[], |_| Ok(()))?.is_none())
}

/// How often what identity goes by has changed. Not by the number of the last epoch: one before it may be committed later.
fn configuration() -> Result<i64> {
    let changes = query::read_one(
        "SELECT count(*) FROM decisioning.epochs e
         WHERE e.relation IN ('sources', 'match_rules', 'blocked_values', 'match_corrections', 'match_settings', 'match_weights',
                              'match_factors', 'blocking_rules', 'nicknames')",
        &[],
        |row| row.value::<i64>(1),
    )?;
    Ok(changes.unwrap_or(0))
}

/// Whether a run over the changes alone would not do.
fn calls_for_full(configuration: i64) -> Result<bool> {
    let Some(last) = last()? else { return Ok(true) };
    let trained = model::load()?.map(|model| model.number);
    Ok(last.configuration != configuration
        || last.model != trained
        || last.changed_records > last.full_records / FULL_SHARE)
}

fn last() -> Result<Option<Last>> {
    query::read_one(
        "SELECT r.configuration, r.model, r.full_records, r.changed_records FROM decisioning._identity_run r",
        &[],
        |row| {
            Ok(Last {
                configuration: row.value(1)?,
                model: row.get(2)?,
                full_records: row.value(3)?,
                changed_records: row.value(4)?,
            })
        },
    )
}

/// Keeps what the next run is decided by. `changed` records were looked at, or all of them.
fn remember_run(configuration: i64, email_providers: bool, changed: Option<usize>) -> Result<()> {
    let model = model::load()?.map(|model| model.number);
    let last = last()?;
    let (full_records, changed_records) = match (changed, &last) {
        (Some(changed), Some(last)) => (last.full_records, last.changed_records + changed as i64),
        _ => (full::records()?, 0),
    };
    let is_same = last.is_some_and(|last| {
        (last.configuration, last.model, last.full_records, last.changed_records)
            == (configuration, model, full_records, changed_records)
    });
    if !is_same {
        query::execute("DELETE FROM decisioning._identity_run", &[])?;
        query::execute(
            "INSERT INTO decisioning._identity_run
                 (finished_at, configuration, model, full_records, changed_records, email_providers)
             VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                now()?.into(),
                configuration.into(),
                model.into(),
                full_records.into(),
                changed_records.into(),
                email_providers.into(),
            ],
        )?;
    }
    Ok(())
}

/// Keeps how far the sources were read, and forgets those that are gone.
fn remember_reads(sources: &[Source], reads: &HashMap<&str, Read>) -> Result<()> {
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    query::execute("DELETE FROM decisioning._source_state s WHERE s.source <> ALL ($1)", &[names.into()])?;
    for source in sources.iter().filter(|source| source.changed_at.is_some()) {
        let until = reads.get(source.name.as_str()).and_then(|read| read.changed_until);
        let until = until
            .map(TimestampWithTimeZone::try_from)
            .transpose()
            .map_err(|_| Error::corrupted("a time is out of range"))?;
        query::execute(
            "INSERT INTO decisioning._source_state AS s (source, changed_until) VALUES ($1, $2)
             ON CONFLICT (source) DO UPDATE SET changed_until = excluded.changed_until
             WHERE excluded.changed_until > s.changed_until OR s.changed_until > $3 OR s.changed_until IS NULL",
            &[source.name.as_str().into(), until.into(), now()?.into()],
        )?;
    }
    Ok(())
}
