//! Survivorship rules: which of several values is taken into the golden record.

use std::collections::HashMap;

use decisioning_core::identity::{Candidate, FieldKind, Survivorship, Witness, ADDRESS};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::kind_of;
use crate::api::configuration;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use crate::pg::relation::check_single;

/// Under which name the rule for an address is kept.
pub const ADDRESS_RULE: &str = "address";

/// The rules of the user, by name of kind.
pub struct Rules {
    rules: HashMap<String, (Survivorship, Option<String>)>,
}

/// What competes for the place of a value, with the sources and keys of the records.
pub struct Contest<'a> {
    pub candidates: Vec<Candidate<'a>>,
    pub witnesses: &'a [Witness],
    pub records: &'a [(String, String)],
}

impl Rules {
    /// Runs as the owner. `sources` are in the order in which they were added.
    pub fn load(sources: &[String]) -> Result<Self> {
        let rows = query::read(
            "SELECT r.kind, r.rule, r.sources, r.expression FROM decisioning.survivorship_rules r",
            &[],
            |row| {
                let order: Vec<String> = row.value(3)?;
                let rule = match row.value::<String>(2)?.as_str() {
                    "most_recent" => Survivorship::MostRecent,
                    "most_frequent" => Survivorship::MostFrequent,
                    "longest" => Survivorship::Longest,
                    "source_priority" => Survivorship::SourcePriority(
                        order.iter().filter_map(|name| sources.iter().position(|known| known == name)).collect(),
                    ),
                    _ => Survivorship::HighestScore,
                };
                Ok((row.value::<String>(1)?, (rule, row.get::<String>(4)?)))
            },
        )?;
        Ok(Rules { rules: rows.into_iter().collect() })
    }

    pub fn of(&self, kind: &FieldKind) -> Survivorship {
        self.rules.get(&*kind.name()).map_or_else(|| Survivorship::of(kind), |(rule, _)| rule.clone())
    }

    pub fn of_address(&self) -> Survivorship {
        self.rules.get(ADDRESS_RULE).map_or_else(|| Survivorship::of(&ADDRESS[0]), |(rule, _)| rule.clone())
    }

    /// The expression that scores values of a kind.
    pub fn expression(&self, kind: &str) -> Option<&str> {
        self.rules.get(kind)?.1.as_deref()
    }

    /// Names of the kinds with an expression.
    pub fn scored(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter(|(_, (_, expression))| expression.is_some()).map(|(kind, _)| kind.as_str())
    }
}

fn statement(expression: &str) -> String {
    format!(
        "SELECT (\n{expression}\n)::pg_catalog.float8
         FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]),
                         pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.timestamptz[]),
                         pg_catalog.unnest($5::pg_catalog.int4[])) WITH ORDINALITY
              AS candidate(value, source, record_key, changed_at, frequency, position)
         ORDER BY candidate.position"
    )
}

/// Scores of all candidates, one contest after the other, as the caller. What has no score loses to what has.
pub fn scores(expression: &str, contests: &[Contest<'_>]) -> Result<Vec<Vec<f64>>> {
    let all =
        || contests.iter().flat_map(|contest| contest.candidates.iter().map(move |candidate| (contest, candidate)));
    let times: Vec<TimestampWithTimeZone> = all()
        .map(|(contest, candidate)| TimestampWithTimeZone::try_from(contest.witnesses[candidate.witness].changed_at))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::corrupted("a time is out of range"))?;
    let mut found = query::read(
        &statement(expression),
        &[
            all().map(|(_, candidate)| candidate.value.to_owned()).collect::<Vec<_>>().into(),
            all().map(|(contest, candidate)| contest.records[candidate.witness].0.clone()).collect::<Vec<_>>().into(),
            all().map(|(contest, candidate)| contest.records[candidate.witness].1.clone()).collect::<Vec<_>>().into(),
            times.into(),
            all().map(|(_, candidate)| candidate.frequency as i32).collect::<Vec<_>>().into(),
        ],
        |row| Ok(row.get::<f64>(1)?.filter(|score| !score.is_nan()).unwrap_or(f64::NEG_INFINITY)),
    )?
    .into_iter();
    Ok(contests.iter().map(|contest| found.by_ref().take(contest.candidates.len()).collect()).collect())
}

#[pg_extern(sql = false)]
fn add_survivorship_rule(
    kind: Option<&str>,
    rule: Option<&str>,
    sources: Option<Vec<Option<String>>>,
    expression: Option<&str>,
) -> std::result::Result<(), ErrorReport> {
    let sources = sources.unwrap_or_default().into_iter().flatten().collect();
    Ok(add(required(kind, "kind")?, required(rule, "rule")?, sources, expression)?)
}

fn add(kind: &str, rule: &str, sources: Vec<String>, expression: Option<&str>) -> Result<()> {
    if kind != ADDRESS_RULE && ADDRESS.contains(&kind_of(kind)?) {
        return Err(Error::invalid(format!("\"{kind}\" survives with the rest of its address"))
            .hint("Give the rule for kind address."));
    }
    match (rule, expression) {
        ("most_recent" | "most_frequent" | "longest" | "source_priority", None) => {}
        ("expression", Some(expression)) => {
            check_single(&statement(expression), expression, "expression")?;
            scores(expression, &[])?;
        }
        ("expression", None) => return Err(Error::invalid("rule expression needs an expression")),
        (_, Some(_)) => return Err(Error::invalid("only rule expression takes an expression")),
        _ => {
            return Err(Error::invalid(format!("unknown survivorship rule \"{rule}\""))
                .hint("Rules are most_recent, most_frequent, longest, source_priority and expression."))
        }
    }
    as_owner(|| {
        let known: Vec<String> = super::source::load()?.into_iter().map(|source| source.name).collect();
        if let Some(name) =
            sources.iter().find(|name| !known.contains(name) && *name != decisioning_core::identity::ONLINE)
        {
            return Err(super::source::unknown(name)?);
        }
        let arguments = [kind.into(), rule.into(), sources.clone().into(), expression.into()];
        // Not ON CONFLICT: its attempt to insert would open an epoch of its own.
        query::execute("LOCK TABLE decisioning.survivorship_rules IN SHARE ROW EXCLUSIVE MODE", &[])?;
        let updated = configuration::execute(
            "UPDATE decisioning.survivorship_rules r SET rule = $2, sources = $3, expression = $4 WHERE r.kind = $1",
            &arguments,
        )?;
        if updated == 0 {
            configuration::execute(
                "INSERT INTO decisioning.survivorship_rules (kind, rule, sources, expression) VALUES ($1, $2, $3, $4)",
                &arguments,
            )?;
        }
        Ok(())
    })
}

#[pg_extern(sql = false)]
fn remove_survivorship_rule(kind: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let kind = required(kind, "kind")?;
    let removed =
        as_owner(|| query::execute("DELETE FROM decisioning.survivorship_rules r WHERE r.kind = $1", &[kind.into()]))?;
    if removed == 0 {
        return Err(Error::missing(format!("there is no survivorship rule for \"{kind}\"")).into());
    }
    Ok(())
}
