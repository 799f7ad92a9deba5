//! The report: reads what the parts of the page tell, a query each, and has the page rendered.

mod changes;
mod choices;
mod heading;
mod learning;
mod lift;
mod limits;
mod quality;

use decisioning_core::report::{self, Report};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign;
use super::lift::{self as api_lift, Question};
use super::{log, now};
use crate::pg::error::{Error, Result};
use crate::pg::guard::{as_owner, without_sorted_joins};
use crate::pg::query::Row;

#[pg_extern(name = "report", sql = false)]
fn report_page(campaign: Option<&str>) -> std::result::Result<String, ErrorReport> {
    Ok(as_owner(|| match campaign {
        Some(campaign) => without_sorted_joins(|| page(campaign)),
        None => Ok(report::overview(&lift::all_campaigns(now()?)?, &heading::as_of_utc()?)),
    })?)
}

/// Decisions that are looked at one by one; beyond, a sample of the log is.
const DECISIONS: i64 = 50_000;

/// Of the intervals of lift.
const CONFIDENCE: f64 = 0.95;

/// Runs as the owner.
fn page(name: &str) -> Result<String> {
    let (campaign, _) = campaign::load(name)?;
    let (name, now) = (campaign.campaign.as_str(), now()?);
    let share = log::share(name, DECISIONS)?;
    let overview = api_lift::overview(&Question::new(Some(name), now, CONFIDENCE))?;
    let groups = quality::groups(&overview.census);
    let (insights, found_on) = quality::insights(name)?;
    let customers = overview.census.drawn.iter().map(|drawn| drawn.customers).sum::<f64>();
    let report = Report {
        heading: heading::read(name, now, customers as i64, share)?,
        lifts: lift::lifts(overview.lines),
        lift_days: lift::by_day(overview.moments),
        health: quality::health(name, &groups)?,
        groups,
        policy: learning::policy(name, share)?,
        captured: learning::captured(&campaign, now, share)?,
        shares: choices::shares(name, now, share)?,
        sends: choices::sends(name, now, share)?,
        guardrails: limits::guardrails(name, now, share)?,
        budgets: limits::budgets(name)?,
        insights,
        insights_found_on: found_on.map(report::day),
        calibration: quality::calibration(name, now, share)?,
        identity: quality::identity()?,
        changes: changes::read(name)?,
    };
    report.render().map_err(|error| Error::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, error.to_string()))
}

/// A day, as SQL, for [`day`].
fn day_number(date: &str) -> String {
    format!("(({date})::date - date '1970-01-01')")
}

/// What is asked for of the last days only: the first moment of them, of campaign $1 at $2, as SQL.
fn since() -> String {
    format!(
        "(SELECT ((($2 AT TIME ZONE c.time_zone)::date - {} + 1)::timestamp AT TIME ZONE c.time_zone)
          FROM decisioning.campaigns c WHERE c.campaign = $1)",
        report::DAYS
    )
}

/// Column `ordinal`, a text that is empty if it is NULL.
fn text(row: &Row<'_, '_>, ordinal: usize) -> Result<String> {
    Ok(row.get(ordinal)?.unwrap_or_default())
}
