//! Corrections: which records are one person, and which are not, whatever rules and evidence say.

use std::collections::HashSet;

use decisioning_core::identity::Matching;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::json;

use super::golden::{self, Maker};
use super::resolve::require_read_committed;
use super::source;
use crate::api::follow::{follow, lock_learners, note_rewards, Changes};
use crate::api::now;
use crate::api::pipeline::canonical_ids;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query::{self, Row};
use crate::pg::snapshot::latest;

/// Most pairs that one call may make.
const MOST_PAIRS: usize = 10_000;

/// A record by source and key.
type RecordName = (String, String);

/// A record of a customer, in order of age.
struct Known {
    name: RecordName,
    /// source:key as it is accepted as an id.
    qualified: String,
    is_primary: bool,
}

/// Says of records that they are of one person, as a part of correction `number`. What was said before of any two of them stays, with its
/// number. Runs as the owner.
fn keep_together(records: &[&Known], number: i64, reason: Option<&str>) -> Result<()> {
    let mut pairs: Vec<(RecordName, RecordName)> =
        records.windows(2).map(|pair| (pair[0].name.clone(), pair[1].name.clone())).collect();
    let known: HashSet<[RecordName; 2]> = query::write(
        "SELECT c.source_a, c.key_a, c.source_b, c.key_b, c.same_person FROM decisioning.match_corrections c
         WHERE (c.source_a, c.key_a) IN (SELECT * FROM unnest($1::text[], $2::text[]))",
        &[
            records.iter().map(|record| record.name.0.clone()).collect::<Vec<_>>().into(),
            records.iter().map(|record| record.name.1.clone()).collect::<Vec<_>>().into(),
        ],
        read_correction,
    )?
    .into_iter()
    .map(|(pair, _)| pair)
    .collect();
    pairs.retain(|(a, b)| !known.contains(&[a.clone(), b.clone()]) && !known.contains(&[b.clone(), a.clone()]));
    if pairs.is_empty() {
        return Ok(());
    }
    let with = store(&pairs, true, reason)?;
    query::execute(
        "UPDATE decisioning.match_corrections c SET correction = $2 WHERE c.correction = $1",
        &[with.into(), number.into()],
    )?;
    Ok(())
}

/// Hands the corrections over, those that keep records apart first. Runs as the owner.
pub fn load(matching: &mut Matching) -> Result<()> {
    let rows = query::read(
        "SELECT c.source_a, c.key_a, c.source_b, c.key_b, c.same_person FROM decisioning.match_corrections c
         ORDER BY c.same_person, c.correction, c.source_a, c.key_a, c.source_b, c.key_b",
        &[],
        read_correction,
    )?;
    tell(matching, &rows);
    Ok(())
}

/// Two records, and whether they are of one person.
type Correction = ([RecordName; 2], bool);

fn read_correction(row: &Row<'_, '_>) -> Result<Correction> {
    Ok(([(row.value(1)?, row.value(2)?), (row.value(3)?, row.value(4)?)], row.value(5)?))
}

fn tell(matching: &mut Matching, corrections: &[Correction]) {
    for ([a, b], same_person) in corrections {
        let pair = ((a.0.as_str(), a.1.as_str()), (b.0.as_str(), b.1.as_str()));
        // Records that are gone may come back.
        match same_person {
            true => matching.confirm(pair.0, pair.1),
            false => matching.forbid(pair.0, pair.1),
        };
    }
}

/// The same of those between records that are loaded: few records, and maybe many corrections. Runs as the owner.
pub fn load_among(matching: &mut Matching, names: &[RecordName]) -> Result<()> {
    let (sources, keys): (Vec<String>, Vec<String>) = names.iter().cloned().unzip();
    let rows = query::read(
        "SELECT c.source_a, c.key_a, c.source_b, c.key_b, c.same_person
         FROM unnest($1::text[], $2::text[]) AS n(source, record_key)
         CROSS JOIN LATERAL (SELECT m.* FROM decisioning.match_corrections m
                             WHERE m.source_a = n.source AND m.key_a = n.record_key OFFSET 0) AS c
         ORDER BY c.same_person, c.correction, c.source_a, c.key_a, c.source_b, c.key_b",
        &[sources.into(), keys.into()],
        read_correction,
    )?;
    tell(matching, &rows);
    Ok(())
}

/// Customers of records that are said to be of the same person as one of these. Runs as the owner.
pub fn counterparts(names: &[RecordName]) -> Result<Vec<String>> {
    let (sources, keys): (Vec<String>, Vec<String>) = names.iter().cloned().unzip();
    query::read(
        "WITH named AS (SELECT * FROM unnest($1::text[], $2::text[]) AS n(source, record_key)),
         others AS (
             SELECT c.source_b AS source, c.key_b AS record_key FROM decisioning.match_corrections c
             JOIN named n ON n.source = c.source_a AND n.record_key = c.key_a WHERE c.same_person
             UNION
             SELECT c.source_a, c.key_a FROM decisioning.match_corrections c
             JOIN named n ON n.source = c.source_b AND n.record_key = c.key_b WHERE c.same_person)
         SELECT DISTINCT r.customer_id FROM others o
         JOIN decisioning._record r ON r.source = o.source AND r.record_key = o.record_key",
        &[sources.into(), keys.into()],
        |row| row.value(1),
    )
}

/// Stores pairs over what was said of them before. Returns the number of the correction. Runs as the owner.
fn store(pairs: &[(RecordName, RecordName)], same_person: bool, reason: Option<&str>) -> Result<i64> {
    let column =
        |of: fn(&(RecordName, RecordName)) -> &String| pairs.iter().map(|pair| of(pair).clone()).collect::<Vec<_>>();
    let (sources_a, keys_a) = (column(|pair| &pair.0 .0), column(|pair| &pair.0 .1));
    let (sources_b, keys_b) = (column(|pair| &pair.1 .0), column(|pair| &pair.1 .1));
    // Not ON CONFLICT: its attempt to insert would open an epoch of its own.
    query::execute("LOCK TABLE decisioning.match_corrections IN SHARE ROW EXCLUSIVE MODE", &[])?;
    query::execute(
        "DELETE FROM decisioning.match_corrections c USING unnest($1::text[], $2::text[], $3::text[], $4::text[])
             AS n(source_a, key_a, source_b, key_b)
         WHERE (c.source_a, c.key_a, c.source_b, c.key_b) = (n.source_a, n.key_a, n.source_b, n.key_b)
            OR (c.source_a, c.key_a, c.source_b, c.key_b) = (n.source_b, n.key_b, n.source_a, n.key_a)",
        &[sources_a.clone().into(), keys_a.clone().into(), sources_b.clone().into(), keys_b.clone().into()],
    )?;
    let number = query::write("SELECT nextval('decisioning._correction_number')", &[], |row| row.value::<i64>(1))?;
    let number = number.into_iter().next().ok_or_else(|| Error::corrupted("a sequence returned nothing"))?;
    query::execute(
        "INSERT INTO decisioning.match_corrections (source_a, key_a, source_b, key_b, same_person, reason, correction)
         SELECT n.source_a, n.key_a, n.source_b, n.key_b, $5, $6, $7
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS n(source_a, key_a, source_b, key_b)",
        &[
            sources_a.into(),
            keys_a.into(),
            sources_b.into(),
            keys_b.into(),
            same_person.into(),
            reason.into(),
            number.into(),
        ],
    )?;
    Ok(number)
}

/// Checks that a record is known. Runs as the owner.
fn check_record((source, key): &RecordName) -> Result<()> {
    let found = query::read_one(
        "SELECT 1 FROM decisioning._record r WHERE r.source = $1 AND r.record_key = $2",
        &[source.as_str().into(), key.as_str().into()],
        |_| Ok(()),
    )?;
    found.ok_or_else(|| {
        Error::missing(format!("record \"{key}\" of source \"{source}\" does not exist"))
            .hint("SELECT source, record_key FROM decisioning.identity_map lists what the last resolve_all has seen.")
    })
}

fn correct_pair(names: [Option<&str>; 4], same_person: bool, reason: Option<&str>) -> Result<i64> {
    let [source_a, key_a, source_b, key_b] = names;
    let name = |source: Option<&str>, key: Option<&str>, of: &str| -> Result<RecordName> {
        Ok((required(source, &format!("source_{of}"))?.to_owned(), required(key, &format!("key_{of}"))?.to_owned()))
    };
    let (a, b) = (name(source_a, key_a, "a")?, name(source_b, key_b, "b")?);
    if a == b {
        return Err(Error::invalid("a record is always the same person as itself"));
    }
    as_owner(|| {
        check_record(&a)?;
        check_record(&b)?;
        store(&[(a, b)], same_person, reason)
    })
}

#[pg_extern(sql = false)]
fn confirm_match(
    source_a: Option<&str>,
    key_a: Option<&str>,
    source_b: Option<&str>,
    key_b: Option<&str>,
    reason: Option<&str>,
) -> std::result::Result<i64, ErrorReport> {
    Ok(correct_pair([source_a, key_a, source_b, key_b], true, reason)?)
}

#[pg_extern(sql = false)]
fn forbid_match(
    source_a: Option<&str>,
    key_a: Option<&str>,
    source_b: Option<&str>,
    key_b: Option<&str>,
    reason: Option<&str>,
) -> std::result::Result<i64, ErrorReport> {
    Ok(correct_pair([source_a, key_a, source_b, key_b], false, reason)?)
}

#[pg_extern(sql = false)]
fn undo_correction(correction: Option<i64>) -> std::result::Result<i64, ErrorReport> {
    let number = required(correction, "correction")?;
    let undone = as_owner(|| {
        query::execute("DELETE FROM decisioning.match_corrections c WHERE c.correction = $1", &[number.into()])
    })?;
    if undone == 0 {
        return Err(Error::missing(format!("correction {number} does not exist"))
            .hint("SELECT DISTINCT correction, reason FROM decisioning.match_corrections lists them.")
            .into());
    }
    Ok(undone as i64)
}

/// Runs `f` as a full run would run: nobody else changes identities, and learners wait. What `f` says has changed is followed by
/// golden records and decisions.
fn at_once(name: &str, f: impl FnOnce() -> Result<(String, i64, Changes)>) -> Result<(String, i64)> {
    require_read_committed(name)?;
    as_owner(|| {
        query::execute("LOCK TABLE decisioning._online IN SHARE UPDATE EXCLUSIVE MODE", &[])?;
        lock_learners()?;
        query::execute("LOCK TABLE decisioning._online IN SHARE ROW EXCLUSIVE MODE", &[])?;
        Ok(())
    })?;
    let (customer_id, number, changes) = latest(|| as_owner(f))?;
    if as_owner(golden::are_kept)? {
        let maker = as_owner(Maker::load)?;
        let touched: Vec<String> = changes.ids().into_iter().map(str::to_owned).collect();
        latest(|| maker.refresh(&touched))?;
    }
    as_owner(|| follow(&changes))?;
    Ok((customer_id, number))
}

/// Records of a customer, the oldest first. Runs as the owner.
fn records_of(customer_id: &str, sources: &[String]) -> Result<Vec<Known>> {
    query::write(
        "SELECT r.source, r.record_key, r.source || r.separator || r.record_key FROM decisioning._record r
         WHERE r.customer_id = $1
         ORDER BY coalesce(array_position($2, r.source::text), 2147483647), length(r.record_key), r.record_key COLLATE \"C\"",
        &[customer_id.into(), sources.to_vec().into()],
        |row| {
            let name: RecordName = (row.value(1)?, row.value(2)?);
            Ok(Known { is_primary: sources.first() == Some(&name.0), qualified: row.value(3)?, name })
        },
    )
}

/// Whether an id names a record.
fn names(id: &str, record: &Known) -> bool {
    record.is_primary && record.name.1 == id || record.qualified == id
}

/// Gives all records of `from`, or those of `some`, to `into`. Runs as the owner.
fn hand_over(from: &str, into: &str, some: Option<&[&Known]>) -> Result<usize> {
    let sources: Option<Vec<String>> = some.map(|some| some.iter().map(|record| record.name.0.clone()).collect());
    let keys: Option<Vec<String>> = some.map(|some| some.iter().map(|record| record.name.1.clone()).collect());
    query::execute(
        "UPDATE decisioning._record r SET customer_id = $2, since = $3
         WHERE r.customer_id = $1 AND ($4::text[] IS NULL OR (r.source, r.record_key) IN (
             SELECT n.source, n.record_key FROM unnest($4::text[], $5::text[]) AS n(source, record_key)))",
        &[from.into(), into.into(), now()?.into(), sources.into(), keys.into()],
    )
}

fn report(event: &str, into: &str, from: &str, records: usize, number: i64, reason: Option<&str>) -> Result<()> {
    query::execute(
        "INSERT INTO decisioning.identity_events (occurred_at, event, customer_id, from_customer_id, records, evidence)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            now()?.into(),
            event.into(),
            into.into(),
            from.into(),
            (records as i32).into(),
            JsonB(json!({ "correction": number, "reason": reason })).into(),
        ],
    )?;
    Ok(())
}

fn source_names() -> Result<Vec<String>> {
    Ok(source::load()?.into_iter().map(|source| source.name).collect())
}

#[pg_extern(sql = false)]
fn merge_customers(
    customer_ids: Option<Vec<Option<String>>>,
    reason: Option<&str>,
) -> std::result::Result<TableIterator<'static, (name!(customer_id, String), name!(correction, i64))>, ErrorReport> {
    let given = required(customer_ids, "customer_ids")?
        .into_iter()
        .map(|id| required(id, "customer_ids element"))
        .collect::<Result<Vec<_>>>()?;
    let merged = at_once("merge_customers", || merge(&given, reason))?;
    Ok(TableIterator::once(merged))
}

fn merge(given: &[String], reason: Option<&str>) -> Result<(String, i64, Changes)> {
    let mut ids = canonical_ids(given)?;
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < 2 {
        return Err(Error::invalid("give at least two customers")
            .detail(format!("All of these are {}.", ids.first().map_or("nobody", String::as_str))));
    }
    let sources = source_names()?;
    let mut customers: Vec<(String, Vec<Known>)> = Vec::new();
    for id in ids {
        let records = records_of(&id, &sources)?;
        if records.is_empty() {
            return Err(Error::missing(format!("customer \"{id}\" has no records"))
                .hint("Customers come from sources: see decisioning.add_source and decisioning.resolve_all."));
        }
        customers.push((id, records));
    }
    // As a full run names them: in the primary source, then most records, then the oldest.
    let age = |record: &Known| {
        let place = sources.iter().position(|name| *name == record.name.0).unwrap_or(usize::MAX);
        (place, record.name.1.len(), record.name.1.clone())
    };
    customers.sort_by_cached_key(|(id, records)| {
        let named = records.iter().find(|record| names(id, record)).unwrap_or(&records[0]);
        (!records.iter().any(|record| record.is_primary), std::cmp::Reverse(records.len()), age(named))
    });
    let first = customers[0].1[0].name.clone();
    let pairs: Vec<_> = customers[1..].iter().map(|(_, records)| (first.clone(), records[0].name.clone())).collect();
    let number = store(&pairs, true, reason)?;
    // What made one of each of them may not be allowed to the whole of them: limits, or records that are less alike.
    for (_, records) in &customers {
        keep_together(&records.iter().collect::<Vec<_>>(), number, reason)?;
    }
    let into = customers[0].0.clone();
    let changes = Changes::new(customers[1..].iter().map(|(id, _)| (id.clone(), into.clone())).collect());
    note_rewards(&changes)?;
    for (from, records) in &customers[1..] {
        hand_over(from, &into, None)?;
        query::execute(
            "UPDATE decisioning._identifier i SET customer_id = $2 WHERE i.customer_id = $1",
            &[from.as_str().into(), into.as_str().into()],
        )?;
        query::execute(
            "UPDATE decisioning._customer_alias a SET customer_id = $2 WHERE a.customer_id = $1",
            &[from.as_str().into(), into.as_str().into()],
        )?;
        if !records.iter().any(|record| record.qualified == *from) {
            name_alias(from, &into)?;
        }
        report("merged", &into, from, records.len(), number, reason)?;
    }
    Ok((into, number, changes))
}

fn name_alias(alias: &str, customer_id: &str) -> Result<()> {
    query::execute(
        "INSERT INTO decisioning._customer_alias AS a (alias, customer_id) VALUES ($1, $2)
         ON CONFLICT (alias) DO UPDATE SET customer_id = excluded.customer_id",
        &[alias.into(), customer_id.into()],
    )?;
    Ok(())
}

#[pg_extern(sql = false)]
fn split_customer(
    customer_id: Option<&str>,
    records: Option<Vec<Option<String>>>,
    reason: Option<&str>,
) -> std::result::Result<TableIterator<'static, (name!(customer_id, String), name!(correction, i64))>, ErrorReport> {
    let customer_id = required(customer_id, "customer_id")?;
    let given = required(records, "records")?
        .into_iter()
        .map(|record| required(record, "records element"))
        .collect::<Result<Vec<_>>>()?;
    let split = at_once("split_customer", || split(customer_id, &given, reason))?;
    Ok(TableIterator::once(split))
}

fn split(customer_id: &str, given: &[String], reason: Option<&str>) -> Result<(String, i64, Changes)> {
    let id = canonical_ids(&[customer_id.to_owned()])?.remove(0);
    let records = records_of(&id, &source_names()?)?;
    for name in given {
        if !records.iter().any(|record| record.qualified == *name) {
            return Err(Error::missing(format!("\"{name}\" is no record of customer \"{id}\"")).hint(format!(
                "His records are: {}.",
                records.iter().take(20).map(|record| record.qualified.as_str()).collect::<Vec<_>>().join(", ")
            )));
        }
    }
    let (leaving, staying): (Vec<&Known>, Vec<&Known>) =
        records.iter().partition(|record| given.contains(&record.qualified));
    if leaving.is_empty() || staying.is_empty() {
        return Err(Error::invalid("some records must leave and some must stay"));
    }
    if leaving.len() * staying.len() > MOST_PAIRS {
        return Err(Error::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the customer has too many records")
            .detail(format!("A split may keep at most {MOST_PAIRS} pairs of records apart.")));
    }
    let apart: Vec<_> =
        leaving.iter().flat_map(|a| staying.iter().map(move |b| (a.name.clone(), b.name.clone()))).collect();
    let number = store(&apart, false, reason)?;
    // What linked the records of either side may have been on the other.
    for side in [&leaving, &staying] {
        keep_together(side, number, reason)?;
    }
    // An id that names a record goes with it.
    let (moved, kept_name) = match leaving.iter().any(|record| names(&id, record)) {
        true => (&staying, true),
        false => (&leaving, false),
    };
    let oldest = moved.iter().find(|record| record.is_primary).unwrap_or(&moved[0]);
    let new_id = if oldest.is_primary { oldest.name.1.clone() } else { oldest.qualified.clone() };
    let changes = Changes::new(vec![(id.clone(), new_id.clone())]);
    note_rewards(&changes)?;
    let count = hand_over(&id, &new_id, Some(moved))?;
    query::execute("DELETE FROM decisioning._customer_alias a WHERE a.alias = $1", &[new_id.as_str().into()])?;
    for record in moved.iter().filter(|record| record.is_primary && record.name.1 != new_id) {
        name_alias(&record.name.1, &new_id)?;
    }
    report("split", &new_id, &id, count, number, reason)?;
    Ok((if kept_name { id } else { new_id }, number, changes))
}
