//! Who somebody is, answered from indexes.

use decisioning_core::identity::{
    normalise, recognise, strongest_first, Country, FieldKind, Fields, Identifier, Owner, Recognition, Rules, Shown,
    Standing, ONLINE,
};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::Value;

use super::field::{self, Documents};
use super::write::evidence;
use super::{rules, source};
use crate::api::now;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::snapshot::latest;
use crate::pg::{bulk, query, scan};

/// Rows per fetch.
const FETCH: usize = 10_000;

/// Most identifiers that one person may show at once.
const MOST_SHOWN: usize = 1000;

/// Attempts before giving up on others who keep adding the same identifiers.
const ATTEMPTS: usize = 20;

#[pg_extern(sql = false)]
fn resolve_identity_of_record(
    source: Option<&str>,
    key: Option<&str>,
) -> std::result::Result<Option<String>, ErrorReport> {
    Ok(of_record(required(source, "source")?, required(key, "key")?)?)
}

fn of_record(name: &str, key: &str) -> Result<Option<String>> {
    let customer = as_owner(|| {
        query::read_one(
            "SELECT r.customer_id FROM decisioning._record r WHERE r.source = $1 AND r.record_key = $2",
            &[name.into(), key.into()],
            |row| row.value::<String>(1),
        )
    })?;
    if customer.is_none() && name != ONLINE && !as_owner(source::load)?.iter().any(|source| source.name == name) {
        return Err(source::unknown(name)?);
    }
    Ok(customer)
}

#[pg_extern(sql = false)]
fn resolve_identity(record: Option<JsonB>) -> std::result::Result<Option<String>, ErrorReport> {
    let JsonB(record) = required(record, "record")?;
    Ok(as_owner(|| of_document(record))?)
}

fn of_document(record: Value) -> Result<Option<String>> {
    let rules = rules::load()?;
    let default_country = source::load()?.first().and_then(|primary| primary.default_country);
    let fields = Fields::from_json(&record)?;
    let mut shown = identifiers(&fields, default_country);
    shown.retain(|(identifier, value)| rules.standing(identifier, value) != Standing::Blocked);
    strongest_first(&rules, &mut shown);
    if shown.len() > MOST_SHOWN {
        return Err(Error::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "too many identifiers in one record")
            .detail(format!("At most {MOST_SHOWN} are allowed.")));
    }

    // Mostly somebody known shows nothing new: no lock, no write, and it works on a standby.
    match recognised(&rules, &shown)?.1 {
        Recognition::Nobody => return Ok(None),
        Recognition::Known { customer_id, attach, conflicts } if attach.is_empty() && conflicts.is_empty() => {
            return Ok(Some(customer_id))
        }
        _ => {}
    }
    // Holds off resolve_all (see there), not other sessions.
    query::execute("LOCK TABLE decisioning._online IN ROW EXCLUSIVE MODE", &[])?;
    for _ in 0..ATTEMPTS {
        let (shown, recognition) = latest(|| recognised(&rules, &shown))?;
        let settled = match recognition {
            Recognition::Nobody => return Ok(None),
            Recognition::Known { customer_id, attach, conflicts } => {
                remember_known(&fields, &shown, customer_id, &attach, &conflicts)?
            }
            Recognition::Unknown { attach, conflicts } => remember_unknown(&fields, &shown, &attach, &conflicts)?,
        };
        if settled.is_some() {
            return Ok(settled);
        }
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        "could not resolve an identity that others keep changing",
    )
    .hint("Retry the transaction."))
}

/// Normalised identifiers among the fields.
pub fn identifiers(fields: &Fields, default_country: Option<Country>) -> Vec<(Identifier, String)> {
    let country = fields.get(&FieldKind::Country).and_then(|country| country.parse().ok()).or(default_country);
    let mut found = Vec::new();
    for (kind, raw) in fields.iter() {
        if let FieldKind::Identifier(identifier) = kind {
            let value = normalise(identifier.kind, raw, country);
            found.extend(value.map(|value| (identifier.clone(), value)));
        }
    }
    found
}

/// Looks the identifiers up and decides.
fn recognised(rules: &Rules, identifiers: &[(Identifier, String)]) -> Result<(Vec<Shown>, Recognition)> {
    let mut shown = Vec::with_capacity(identifiers.len());
    for (identifier, value) in identifiers {
        let found = query::read_one(
            "SELECT i.customer_id FROM decisioning._identifier i WHERE i.kind = $1 AND i.value = $2",
            &[identifier.to_string().into(), value.as_str().into()],
            |row| row.get::<String>(1),
        )?;
        let owner = match found {
            None => Owner::New,
            Some(None) => Owner::Nobody,
            Some(Some(customer_id)) => Owner::Customer(customer_id),
        };
        shown.push(Shown { identifier: identifier.clone(), value: value.clone(), owner });
    }
    let mut failure = None;
    let recognition = recognise(rules, &shown, |customer_id, identifier| {
        held(customer_id, identifier).unwrap_or_else(|error| {
            failure = Some(error);
            0
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok((shown, recognition)),
    }
}

/// Values of an identifier that a customer holds.
fn held(customer_id: &str, identifier: &Identifier) -> Result<u32> {
    let values = query::read_one(
        "SELECT count(*) FROM decisioning._identifier i WHERE i.customer_id = $1 AND i.kind = $2",
        &[customer_id.into(), identifier.to_string().into()],
        |row| row.value::<i64>(1),
    )?;
    Ok(values.unwrap_or_default() as u32)
}

/// Gives a known customer the new identifiers. `None` if another session was faster with one of them.
fn remember_known(
    fields: &Fields,
    shown: &[Shown],
    customer_id: String,
    attach: &[usize],
    conflicts: &[usize],
) -> Result<Option<String>> {
    if !attach_identifiers(shown, attach, &customer_id)? {
        return Ok(None);
    }
    if stored(shown)?.is_none() {
        store(fields, shown, &new_key()?, &customer_id)?;
        report(shown, conflicts, &customer_id)?;
    }
    Ok(Some(customer_id))
}

/// Makes a new customer of the identifiers. `None` if another session was faster with one of them.
fn remember_unknown(fields: &Fields, shown: &[Shown], attach: &[usize], conflicts: &[usize]) -> Result<Option<String>> {
    // The same was seen before, and its identifiers were dropped since: the person is the same nevertheless.
    let (key, known) = match stored(shown)? {
        Some((key, customer_id)) => (key, customer_id),
        None => (new_key()?, None),
    };
    let is_known = known.is_some();
    let customer_id = known.unwrap_or_else(|| format!("{ONLINE}:{key}"));
    if !attach_identifiers(shown, attach, &customer_id)? {
        return Ok(None);
    }
    if !is_known {
        store(fields, shown, &key, &customer_id)?;
        report(shown, conflicts, &customer_id)?;
    }
    Ok(Some(customer_id))
}

/// Strongest first. When another session has one of them, what was attached so far decides the next attempt, so it is right
/// to keep it.
fn attach_identifiers(shown: &[Shown], attach: &[usize], customer_id: &str) -> Result<bool> {
    for place in attach {
        let Shown { identifier, value, .. } = &shown[*place];
        let inserted = query::execute(
            "INSERT INTO decisioning._identifier (kind, value, customer_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &[identifier.to_string().into(), value.as_str().into(), customer_id.into()],
        )?;
        if inserted == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn new_key() -> Result<String> {
    query::read_one("SELECT gen_random_uuid()::text", &[], |row| row.value(1))?
        .ok_or_else(|| Error::corrupted("gen_random_uuid returned nothing"))
}

/// One text for a set of identifiers. Values hold no NUL, so that no two sets run into each other.
fn canonical_text(shown: &[Shown]) -> String {
    let mut lines: Vec<String> = shown.iter().map(|shown| format!("{}={}", shown.identifier, shown.value)).collect();
    lines.sort();
    lines.iter().map(|line| format!("{}:{line}", line.len())).collect()
}

/// Key of the online record with the same identifiers, and its customer.
fn stored(shown: &[Shown]) -> Result<Option<(String, Option<String>)>> {
    let found = query::write(
        "SELECT o.record_key, r.customer_id
         FROM decisioning._online o LEFT JOIN decisioning._record r ON r.source = $2 AND r.record_key = o.record_key
         WHERE o.evidence = sha256(convert_to($1, 'UTF8'))",
        &[canonical_text(shown).into(), ONLINE.into()],
        |row| Ok((row.value(1)?, row.get(2)?)),
    )?;
    Ok(found.into_iter().next())
}

/// Keeps what was shown as a record of the built-in source.
fn store(fields: &Fields, shown: &[Shown], key: &str, customer_id: &str) -> Result<()> {
    let now = now()?;
    let inserted = query::execute(
        "INSERT INTO decisioning._online (record_key, evidence, seen_at)
         VALUES ($1, sha256(convert_to($2, 'UTF8')), $3) ON CONFLICT DO NOTHING",
        &[key.into(), canonical_text(shown).into(), now.into()],
    )?;
    if inserted == 0 {
        return Ok(()); // another session was shown the same
    }
    let number = bulk::Sequence::open(c"_record_number")?.next();
    let fingerprint = fields.fingerprint() as i64;
    query::execute(
        "INSERT INTO decisioning._record (source, separator, record_key, record_number, fingerprint, customer_id, since)
         VALUES ($1, ':', $2, $3, $4, $5, $6)",
        &[ONLINE.into(), key.into(), number.into(), fingerprint.into(), customer_id.into(), now.into()],
    )?;
    let mut documents = Documents::default();
    documents.add(number, now.into(), fields)?;
    documents.write(false, bulk::Indexes::Kept)
}

/// Logs the identifiers that were shown and belong to somebody else, or to nobody for want of room.
fn report(shown: &[Shown], conflicts: &[usize], customer_id: &str) -> Result<()> {
    for place in conflicts {
        let Shown { identifier, value, owner } = &shown[*place];
        let holder = match owner {
            Owner::Customer(holder) => Some(holder.as_str()),
            _ => None,
        };
        query::execute(
            "INSERT INTO decisioning.identity_events (occurred_at, event, customer_id, from_customer_id, evidence)
             VALUES ($1, 'conflict', $2, $3, $4)",
            &[now()?.into(), customer_id.into(), holder.into(), evidence(&identifier.to_string(), value).into()],
        )?;
    }
    Ok(())
}
