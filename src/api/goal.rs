//! Configure: goals, and where their events are read.

use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::configure::check_editable;
use super::power;
use super::source::{check_lookback, check_moment};
use crate::api::configuration;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use crate::pg::relation::{check_predicate, ColumnKind, RelationName};

#[pg_extern(sql = false)]
fn add_goal(
    goal: Option<&str>,
    kind: Option<&str>,
    description: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let (goal, kind) = (required(goal, "goal")?, required(kind, "kind")?);
    if !["conversion", "value", "engagement", "harm"].contains(&kind) {
        return Err(Error::invalid(format!("unknown kind of goal \"{kind}\""))
            .hint("Kinds are conversion, value, engagement and harm.")
            .into());
    }
    as_owner(|| {
        let added = configuration::execute(
            "INSERT INTO decisioning.goals (goal, kind, description) VALUES ($1, $2, $3) ON CONFLICT (goal) DO NOTHING",
            &[goal.into(), kind.into(), description.into()],
        )?;
        match added {
            0 => Err(Error::new(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, format!("goal \"{goal}\" already exists"))),
            _ => Ok(goal.to_owned()),
        }
    })
    .map_err(Into::into)
}

/// Runs as the owner.
pub fn check_goal(goal: &str) -> Result<()> {
    query::read_one("SELECT 1 FROM decisioning.goals WHERE goal = $1", &[goal.into()], |_| Ok(()))?.ok_or_else(|| {
        Error::missing(format!("goal \"{goal}\" does not exist")).hint("Add it with decisioning.add_goal(goal, kind).")
    })
}

#[pg_extern(sql = false)]
fn add_campaign_goal(
    campaign: Option<&str>,
    goal: Option<&str>,
    value: Option<f64>,
    attribution_window: Option<Interval>,
) -> std::result::Result<(), ErrorReport> {
    let (campaign, goal) = (required(campaign, "campaign")?, required(goal, "goal")?);
    let window = required(attribution_window, "attribution_window")?;
    if value.is_some_and(|value| !value.is_finite()) {
        return Err(Error::invalid("value must be a finite number").into());
    }
    as_owner(|| {
        check_editable(campaign)?;
        let kind =
            query::read_one("SELECT k.kind FROM decisioning.goals k WHERE k.goal = $1", &[goal.into()], |row| {
                row.value::<String>(1)
            })?;
        match kind.as_deref() {
            Some("harm") if value.is_some_and(|value| value >= 0.0) => return Err(Error::invalid(
                "the value of a harm goal must be negative",
            )
            .hint(
                "It is what one event costs; without a value the harm is measured but does not count in the choice.",
            )),
            Some("engagement") if value.is_some() => {
                return Err(Error::invalid("an engagement goal has no value")
                    .hint("Opens and clicks are shown, but are neither learned nor counted as uplift."))
            }
            _ => check_goal(goal)?,
        }
        let positive =
            query::read_one("SELECT $1 > interval '0' AND $1 <= interval '366 days'", &[window.into()], |row| {
                row.value::<bool>(1)
            })?;
        if positive != Some(true) {
            return Err(Error::invalid("attribution_window must be positive and at most 366 days"));
        }
        let added = configuration::execute(
            "INSERT INTO decisioning.campaign_goals (campaign, goal, value, attribution_window)
             VALUES ($1, $2, $3, $4) ON CONFLICT (campaign, goal) DO NOTHING",
            &[campaign.into(), goal.into(), value.into(), window.into()],
        )?;
        match added {
            0 => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("campaign \"{campaign}\" already has goal \"{goal}\""),
            )),
            _ => Ok(()),
        }
    })?;
    if let Some(outlook) = power::outlook(campaign, goal)? {
        pgrx::notice!("{outlook}");
    }
    Ok(())
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn add_outcome_source(
    goal: Option<&str>,
    relation: Option<pg_sys::Oid>,
    customer_key: Option<&str>,
    occurred_at: Option<&str>,
    value: Option<&str>,
    event_id: Option<&str>,
    filter: Option<&str>,
    lookback: Option<Interval>,
    outcome_source: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let goal = required(goal, "goal")?;
    let relation = RelationName::of(required(relation, "relation")?)?;
    let customer_key = required(customer_key, "customer_key")?;
    let occurred_at = required(occurred_at, "occurred_at")?;
    let event_id = required(event_id, "event_id").map_err(|error| {
        error.hint("Name the column that identifies an event: it is what makes re-reading the table harmless.")
    })?;
    let lookback = required(lookback, "lookback")?;
    check_lookback(lookback, "100 years", "decisioning.ingest_outcomes(complete => true) reads everything.")?;

    let columns = relation.columns()?;
    relation.column(&columns, customer_key)?;
    relation.column(&columns, event_id)?;
    check_moment(&relation, &columns, occurred_at)?;
    if let Some(value) = value {
        if relation.column(&columns, value)?.kind != ColumnKind::Numeric {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column \"{value}\" is not a number"),
            )
            .into());
        }
    }
    if let Some(filter) = filter {
        check_predicate(&relation, filter, "filter", true)?;
    }
    let name =
        outcome_source.map_or_else(|| format!("{goal} from {}.{}", relation.schema, relation.name), str::to_owned);
    as_owner(|| {
        check_goal(goal)?;
        let added = configuration::execute(
            "INSERT INTO decisioning.outcome_sources (outcome_source, goal, source_schema, source_relation, customer_key,
                 occurred_at, event_id, value, filter, lookback)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (outcome_source) DO NOTHING",
            &[
                name.as_str().into(),
                goal.into(),
                relation.schema.as_str().into(),
                relation.name.as_str().into(),
                customer_key.into(),
                occurred_at.into(),
                event_id.into(),
                value.into(),
                filter.into(),
                lookback.into(),
            ],
        )?;
        match added {
            0 => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("outcome source \"{name}\" already exists"),
            )
            .hint("Give another name in outcome_source.")),
            _ => Ok(name),
        }
    })
    .map_err(Into::into)
}
