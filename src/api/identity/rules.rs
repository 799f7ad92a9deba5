//! Match rules and blocked values.

#![allow(clippy::type_complexity)] // rows of a set-returning function, as the macro wants them

use std::cell::RefCell;
use std::sync::Arc;

use decisioning_core::identity::{Identifier, IdentifierKind, Nicknames, RuleChange, Rules};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::api::configuration;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Bytes of a value in blocked_values.
const LONGEST_VALUE: usize = 512;

thread_local! {
    /// Those of the user, and all of them with the built-in ones, made once.
    static NICKNAMES: RefCell<Option<(Vec<(String, String)>, Arc<Nicknames>)>> = const { RefCell::new(None) };
}

/// Nicknames, built in and of the user. Runs as the owner.
pub fn nicknames() -> Result<Arc<Nicknames>> {
    let own: Vec<(String, String)> = query::read(
        "SELECT n.given_name, n.nickname FROM decisioning.nicknames n ORDER BY n.given_name, n.nickname",
        &[],
        |row| Ok((row.value(1)?, row.value(2)?)),
    )?;
    let known = NICKNAMES.with_borrow(|kept| kept.as_ref().filter(|kept| kept.0 == own).map(|kept| kept.1.clone()));
    if let Some(known) = known {
        return Ok(known);
    }
    let mut nicknames = Nicknames::default();
    own.iter().for_each(|(name, form)| nicknames.add(name, form));
    let nicknames = Arc::new(nicknames);
    NICKNAMES.set(Some((own, nicknames.clone())));
    Ok(nicknames)
}

/// The rules in effect. Runs as the owner.
pub fn load() -> Result<Rules> {
    let changes = query::read(
        "SELECT r.identifier, r.priority, r.identity_limit, r.record_limit, r.enabled FROM decisioning.match_rules r",
        &[],
        |row| {
            let change = RuleChange {
                priority: row.get(2)?,
                identity_limit: row.get(3)?,
                record_limit: row.get(4)?,
                enabled: row.get(5)?,
            };
            Ok((row.value::<String>(1)?.parse::<Identifier>()?, change))
        },
    )?;
    let mut rules = Rules::new(changes)?;
    let providers = "SELECT s.value <> 0 FROM decisioning.match_settings s WHERE s.setting = 'email_providers'";
    rules.email_providers = query::read_one(providers, &[], |row| row.value(1))?.unwrap_or(false);
    query::read("SELECT b.identifier, b.value, b.blocked FROM decisioning.blocked_values b", &[], |row| {
        rules.list(row.value::<String>(1)?.parse()?, &row.value::<String>(2)?, row.value(3)?);
        Ok(())
    })?;
    Ok(rules)
}

/// The same, with addresses in the spelling of the last run, in which they are stored. Runs as the owner, by key.
pub fn load_as_stored() -> Result<Rules> {
    let mut rules = load()?;
    let spelling = "SELECT r.email_providers FROM decisioning._identity_run r";
    rules.email_providers = query::read_one(spelling, &[], |row| row.value(1))?.unwrap_or(rules.email_providers);
    Ok(rules)
}

#[pg_extern(sql = false)]
fn add_match_rule(
    identifier: Option<&str>,
    priority: Option<i32>,
    identity_limit: Option<i32>,
    record_limit: Option<i32>,
    enabled: Option<bool>,
) -> std::result::Result<(), ErrorReport> {
    Ok(add(required(identifier, "identifier")?, priority, identity_limit, record_limit, required(enabled, "enabled")?)?)
}

fn add(
    identifier: &str,
    priority: Option<i32>,
    identity_limit: Option<i32>,
    record_limit: Option<i32>,
    enabled: bool,
) -> Result<()> {
    let identifier: Identifier = identifier.parse()?;
    let change = RuleChange { priority, identity_limit, record_limit, enabled: Some(enabled) };
    Rules::new([(identifier.clone(), change)])?;
    let name = identifier.to_string();
    let arguments = [name.into(), priority.into(), identity_limit.into(), record_limit.into(), enabled.into()];
    as_owner(|| {
        // Not ON CONFLICT: its attempt to insert would open an epoch of its own.
        query::execute("LOCK TABLE decisioning.match_rules IN SHARE ROW EXCLUSIVE MODE", &[])?;
        let updated = configuration::execute(
            "UPDATE decisioning.match_rules r
             SET priority = $2, identity_limit = $3, record_limit = $4, enabled = $5 WHERE r.identifier = $1",
            &arguments,
        )?;
        if updated == 0 {
            configuration::execute(
                "INSERT INTO decisioning.match_rules (identifier, priority, identity_limit, record_limit, enabled)
                 VALUES ($1, $2, $3, $4, $5)",
                &arguments,
            )?;
        }
        Ok(())
    })
}

#[pg_extern(sql = false)]
fn block_value(
    identifier: Option<&str>,
    value: Option<&str>,
    blocked: Option<bool>,
) -> std::result::Result<(), ErrorReport> {
    let identifier = required(identifier, "identifier")?.parse::<Identifier>().map_err(Error::from)?.to_string();
    let (value, blocked) = (required(value, "value")?, required(blocked, "blocked")?);
    if value.trim().is_empty() || value.len() > LONGEST_VALUE {
        return Err(Error::invalid(format!("value must have between 1 and {LONGEST_VALUE} bytes")).into());
    }
    let arguments = [identifier.into(), value.into(), blocked.into()];
    as_owner(|| {
        // As for match rules.
        query::execute("LOCK TABLE decisioning.blocked_values IN SHARE ROW EXCLUSIVE MODE", &[])?;
        let updated = configuration::execute(
            "UPDATE decisioning.blocked_values b SET blocked = $3 WHERE b.identifier = $1 AND b.value = $2",
            &arguments,
        )?;
        if updated == 0 {
            configuration::execute(
                "INSERT INTO decisioning.blocked_values (identifier, value, blocked) VALUES ($1, $2, $3)",
                &arguments,
            )?;
        }
        Ok(())
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
fn unblock_value(identifier: Option<&str>, value: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let (identifier, value) = (required(identifier, "identifier")?, required(value, "value")?);
    as_owner(|| {
        let removed = query::execute(
            "DELETE FROM decisioning.blocked_values b WHERE b.identifier = $1 AND b.value = $2",
            &[identifier.into(), value.into()],
        )?;
        match removed {
            0 => Err(Error::missing(format!("nothing is said of {identifier} \"{value}\"")).hint(
                "SELECT * FROM decisioning.blocked_values lists the values, in the spelling that they were given in.",
            )),
            _ => Ok(()),
        }
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
fn _match_rules(
    identifiers: Option<Vec<Option<String>>>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(identifier, String),
            name!(priority, i32),
            name!(identity_limit, i32),
            name!(record_limit, i32),
            name!(enabled, bool),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(in_effect(identifiers.unwrap_or_default())?))
}

fn in_effect(named: Vec<Option<String>>) -> Result<Vec<(String, i32, i32, i32, bool)>> {
    let rules = as_owner(load)?;
    let mut identifiers: Vec<Identifier> = IdentifierKind::ALL.map(Identifier::from).to_vec();
    for name in named.iter().flatten() {
        identifiers.push(name.parse()?);
    }
    identifiers.sort_by_key(|identifier| (rules.rule(identifier).priority, identifier.clone()));
    identifiers.dedup();
    let row = |identifier: &Identifier| {
        let rule = rules.rule(identifier);
        (identifier.to_string(), rule.priority, rule.identity_limit as i32, rule.record_limit as i32, rule.enabled)
    };
    Ok(identifiers.iter().map(row).collect())
}
