//! Who somebody is, answered from indexes.

use decisioning_core::identity::{
    recognise, settle, strongest_first, Country, FieldKind, Fields, Identifier, Owner, Recognition, Rules, Shown,
    Standing, ONLINE,
};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::Value;

use super::field::Documents;
use super::likeness::Likeness;
use super::stored::Sources;
use super::write::evidence;
use super::{block, rules, source};
use crate::api::now;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, as_owner_by_key};
use crate::pg::snapshot::latest;
use crate::pg::{bulk, query, snapshot, table};

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
    Ok(as_owner_by_key(|| of_document(record))?)
}

fn of_document(record: Value) -> Result<Option<String>> {
    let rules = rules::load_as_stored()?;
    let sources = source::load()?;
    let sources = Sources::of(&sources);
    let fields = Fields::from_json(&record)?;
    let mut shown = identifiers(&rules, &fields, sources.number(ONLINE).and_then(|number| sources.country(number)));
    shown.retain(|(identifier, value)| rules.standing(identifier, value) != Standing::Blocked);
    strongest_first(&rules, &mut shown);
    if shown.len() > MOST_SHOWN {
        return Err(Error::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "too many identifiers in one record")
            .detail(format!("At most {MOST_SHOWN} are allowed.")));
    }
    let description = if is_described(&fields) { Likeness::of(&rules, &sources, &fields)? } else { None };
    let person = Person { rules: &rules, fields: &fields, shown: &shown, description: description.as_ref() };

    // Mostly somebody known shows nothing new: no lock, no write, and it works on a standby.
    match person.recognised()?.1 {
        Recognition::Nobody => return Ok(None),
        Recognition::Known { customer_id, attach, conflicts } if attach.is_empty() && conflicts.is_empty() => {
            return Ok(Some(customer_id))
        }
        _ => {}
    }
    hold_off_runs()?;
    if let Some(description) = &description {
        description.lock()?;
    }
    refuse_outdated()?;
    for _ in 0..ATTEMPTS {
        let (shown, recognition) = latest(|| person.recognised())?;
        let settled = match recognition {
            Recognition::Nobody => return Ok(None),
            Recognition::Known { customer_id, attach, conflicts } => {
                person.remember_known(&shown, customer_id, &attach, &conflicts)?
            }
            Recognition::Unknown { attach, conflicts } => person.remember_unknown(&shown, &attach, &conflicts)?,
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

/// Holds off `resolve_all` (see there), not other sessions. Who has decided in this transaction does not wait for a run that is
/// under way, since it will wait for him.
fn hold_off_runs() -> Result<()> {
    if !table::is_written(c"_assignment")? {
        query::execute("LOCK TABLE decisioning._online IN ROW EXCLUSIVE MODE", &[])?;
    } else if !table::lock_if_free(c"_online")? {
        return Err(Error::new(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, "identities are being resolved")
            .detail("This transaction has decided for customers; a run that merges them waits for it.")
            .hint("Retry the transaction, or resolve identities before deciding."));
    }
    Ok(())
}

/// Under REPEATABLE READ: whoever does not see that identities have changed would store records under ids that are gone. To be
/// called with identities locked: the events of a change come after all that others see.
fn refuse_outdated() -> Result<()> {
    if !snapshot::is_kept() {
        return Ok(());
    }
    let seen: Option<i64> =
        query::read_one("SELECT max(e.identity_event) FROM decisioning.identity_events e", &[], |row| row.get(1))?
            .flatten();
    let changed = query::read_newest(
        "SELECT EXISTS (SELECT FROM decisioning.identity_events e
                        WHERE e.identity_event > coalesce($1, 0) AND e.event <> 'conflict')",
        &[seen.into()],
        |row| row.value::<bool>(1),
    )?;
    match changed.contains(&true) {
        true => Err(snapshot::outdated().detail("Identities have changed since the transaction began.")),
        false => Ok(()),
    }
}

/// Whether there is more than identifiers.
fn is_described(fields: &Fields) -> bool {
    fields.iter().any(|(kind, _)| !matches!(kind, FieldKind::Identifier(_) | FieldKind::Country))
}

/// Somebody who shows up.
struct Person<'a> {
    rules: &'a Rules,
    fields: &'a Fields,
    /// Identifiers, strongest first.
    shown: &'a [(Identifier, String)],
    description: Option<&'a Likeness<'a>>,
}

/// Normalised identifiers among the fields.
pub fn identifiers(rules: &Rules, fields: &Fields, default_country: Option<Country>) -> Vec<(Identifier, String)> {
    let country = fields.get(&FieldKind::Country).and_then(|country| country.parse().ok()).or(default_country);
    let mut found = Vec::new();
    for (kind, raw) in fields.iter() {
        if let FieldKind::Identifier(identifier) = kind {
            let value = rules.normalise(identifier.kind, raw, country);
            found.extend(value.map(|value| (identifier.clone(), value)));
        }
    }
    found
}

impl Person<'_> {
    /// Looks the identifiers up and decides: by them alone, or with what describes the person.
    fn recognised(&self) -> Result<(Vec<Shown>, Recognition)> {
        let mut shown = Vec::with_capacity(self.shown.len());
        for (identifier, value) in self.shown {
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
        let mut held = |customer_id: &str, identifier: &Identifier| {
            held(customer_id, identifier).unwrap_or_else(|error| {
                failure = Some(error);
                0
            })
        };
        let recognition = match self.description {
            None => recognise(self.rules, &shown, &mut held),
            Some(description) => {
                let owners = shown.iter().filter_map(|shown| match &shown.owner {
                    Owner::Customer(customer_id) => Some(customer_id.clone()),
                    _ => None,
                });
                settle(self.rules, &shown, description.customer(&owners.collect())?, &mut held)
            }
        };
        match failure {
            Some(error) => Err(error),
            None => Ok((shown, recognition)),
        }
    }

    /// Gives a known customer the new identifiers. `None` if another session was faster with one of them.
    fn remember_known(
        &self,
        shown: &[Shown],
        customer_id: String,
        attach: &[usize],
        conflicts: &[usize],
    ) -> Result<Option<String>> {
        if !attach_identifiers(shown, attach, &customer_id)? {
            return Ok(None);
        }
        if self.stored()?.is_none() {
            self.store(&new_key()?, &customer_id)?;
            report(shown, conflicts, &customer_id)?;
        }
        Ok(Some(customer_id))
    }

    /// Makes a new customer of what was shown. `None` if another session was faster with one of the identifiers.
    fn remember_unknown(&self, shown: &[Shown], attach: &[usize], conflicts: &[usize]) -> Result<Option<String>> {
        // The same was seen before, and its identifiers were dropped since: the person is the same nevertheless.
        let (key, known) = match self.stored()? {
            Some((key, customer_id)) => (key, customer_id),
            None => (new_key()?, None),
        };
        let is_known = known.is_some();
        let customer_id = known.unwrap_or_else(|| format!("{ONLINE}:{key}"));
        if !attach_identifiers(shown, attach, &customer_id)? {
            return Ok(None);
        }
        if !is_known {
            self.store(&key, &customer_id)?;
            report(shown, conflicts, &customer_id)?;
        }
        Ok(Some(customer_id))
    }

    /// One text for what is shown. Values hold no NUL, so that no two sets run into each other.
    fn canonical_text(&self) -> String {
        let identifiers = self.shown.iter().map(|(identifier, value)| format!("{identifier}={value}"));
        let described = self.description.is_some();
        let others = self.fields.iter().filter(|(kind, _)| described && !matches!(kind, FieldKind::Identifier(_)));
        let mut lines: Vec<String> = identifiers.chain(others.map(|(kind, value)| format!("{kind}={value}"))).collect();
        lines.sort();
        lines.iter().map(|line| format!("{}:{line}", line.len())).collect()
    }

    /// Key of the online record that showed the same, and its customer.
    fn stored(&self) -> Result<Option<(String, Option<String>)>> {
        let found = query::write(
            "SELECT o.record_key, r.customer_id
             FROM decisioning._online o LEFT JOIN decisioning._record r ON r.source = $2 AND r.record_key = o.record_key
             WHERE o.evidence = sha256(convert_to($1, 'UTF8'))",
            &[self.canonical_text().into(), ONLINE.into()],
            |row| Ok((row.value(1)?, row.get(2)?)),
        )?;
        Ok(found.into_iter().next())
    }

    /// Keeps what was shown as a record of the built-in source.
    fn store(&self, key: &str, customer_id: &str) -> Result<()> {
        let now = now()?;
        let inserted = query::execute(
            "INSERT INTO decisioning._online (record_key, evidence, seen_at)
             VALUES ($1, sha256(convert_to($2, 'UTF8')), $3) ON CONFLICT DO NOTHING",
            &[key.into(), self.canonical_text().into(), now.into()],
        )?;
        if inserted == 0 {
            return Ok(()); // another session was shown the same
        }
        let number = bulk::Sequence::open(c"_record_number")?.next();
        let fingerprint = self.fields.fingerprint() as i64;
        query::execute(
            "INSERT INTO decisioning._record (source, separator, record_key, record_number, fingerprint, customer_id, since)
             VALUES ($1, ':', $2, $3, $4, $5, $6)",
            &[ONLINE.into(), key.into(), number.into(), fingerprint.into(), customer_id.into(), now.into()],
        )?;
        let mut documents = Documents::default();
        documents.add(number, now.into(), self.fields)?;
        documents.write(false, bulk::Indexes::Kept)?;
        if let Some(description) = self.description {
            let entries: Vec<(u64, i64)> = description.keys.iter().map(|key| (*key, number)).collect();
            block::add(&entries)?;
        }
        query::execute("INSERT INTO decisioning._unresolved (record_number) VALUES ($1)", &[number.into()])?;
        Ok(())
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
