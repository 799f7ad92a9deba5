//! The full run: sources in, identity_map out.

use std::collections::HashMap;

use decisioning_core::identity::{
    normalise, Country, FieldKind, Fields, Handle, Matching, Records, SourceNumber, ONLINE,
};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::read::{Read, Reading};
use super::source::Source;
use super::write::{write, Stored};
use super::{online, rules, source};
use crate::api::follow::lock_learners;
use crate::pg::bulk::Indexes;
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::snapshot::latest;
use crate::pg::{interrupt, query, scan, settings};

/// Rows per fetch.
const FETCH: usize = 20_000;

#[pg_extern(sql = false)]
fn resolve_all() -> std::result::Result<(), ErrorReport> {
    Ok(run()?)
}

fn run() -> Result<()> {
    require_read_committed("resolve_all")?;
    // One run at a time; people who resolve online go on meanwhile.
    as_owner(|| query::execute("LOCK TABLE decisioning._online IN SHARE UPDATE EXCLUSIVE MODE", &[]))?;
    let (rules, sources) = latest(|| as_owner(|| Ok((rules::load()?, source::load()?))))?;
    let default_country = sources.first().and_then(|source| source.default_country);
    let mut records = Records::new(rules, &names(&sources))?;
    let indexes = if latest(|| as_owner(is_empty))? { Indexes::Later } else { Indexes::Kept };
    let reading = Reading { complete: true, now: settings::now()?, indexes };
    let mut reads: HashMap<&str, Read> = HashMap::new();
    for (number, source) in sources.iter().enumerate() {
        let read = latest(|| {
            source.read(&reading, |key, _, fields| {
                let record = records.add(number as SourceNumber, key)?;
                describe(&mut records, record, fields, source.default_country)
            })
        })?;
        notice!("source {}: {} records read", source.name, read.rows);
        if read.without_key > 0 {
            warning!("source {}: {} rows without a key were skipped", source.name, read.without_key);
        }
        reads.insert(&source.name, read);
    }

    as_owner(lock_learners)?;
    // From here to the end of the transaction nobody new is added online, so that nobody is overlooked. This is the order
    // in which online sessions lock, too: first the table, then rows.
    as_owner(|| {
        query::execute("LOCK TABLE decisioning._online IN SHARE ROW EXCLUSIVE MODE", &[])?;
        latest(|| {
            online::read(|key, fields| {
                let record = records.add(sources.len() as SourceNumber, key)?;
                describe(&mut records, record, fields, default_country)
            })?;
            let placeholders = records.placeholders();
            let mut matching = Matching::new(records)?;
            recall(&mut matching)?;
            corrections::load(&mut matching)?;
            let resolution = matching.resolve(None, &mut interrupt::check)?;
            notice!(
                "{} records are {} customers; {placeholders} placeholder values were ignored",
                resolution.records(),
                resolution.persons()
            );
            let written = write(&resolution, &Stored { reads: &reads, is_first: is_empty()?, indexes })?;
            remember_reads(&sources, &reads)?;
            notice!("{written} rows written");
            Ok(())
        })
    })
}

/// Whether no record is known yet.
fn is_empty() -> Result<bool> {
    Ok(query::read_one("SELECT 1 FROM decisioning._record LIMIT 1", &[], |_| Ok(()))?.is_none())
}

/// Adds what a record says.
fn describe(records: &mut Records, record: Handle, fields: &Fields, country: Option<Country>) -> Result<()> {
    let country = fields.get(&FieldKind::Country).and_then(|country| country.parse().ok()).or(country);
    for (kind, raw) in fields.iter() {
        let FieldKind::Identifier(identifier) = kind else { continue };
        let Some(column) = records.column(identifier) else { continue };
        if let Some(value) = normalise(identifier.kind, raw, country) {
            records.identify(record, column, &value)?;
        }
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
             ON CONFLICT (source) DO UPDATE SET changed_until = greatest(s.changed_until, excluded.changed_until)",
            &[source.name.as_str().into(), until.into()],
        )?;
    }
    Ok(())
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

fn names(sources: &[Source]) -> Vec<&str> {
    sources.iter().map(|source| source.name.as_str()).chain([ONLINE]).collect()
}

/// What the records were called so far.
fn recall(matching: &mut Matching) -> Result<()> {
    scan::scan(
        "SELECT r.source, r.record_key, r.customer_id FROM decisioning._record r",
        &[],
        FETCH,
        |row| match (row.text(0)?, row.text(1)?, row.text(2)?) {
            (Some(source), Some(key), Some(customer_id)) => Ok(matching.remember(source, key, customer_id)?),
            _ => Err(Error::corrupted("a record has no key")),
        },
        || Ok(()),
    )
}
