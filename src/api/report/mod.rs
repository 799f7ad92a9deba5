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
use super::now;
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query::Row;

#[pg_extern(name = "report", sql = false)]
fn report_page(campaign: Option<&str>) -> std::result::Result<String, ErrorReport> {
    Ok(as_owner(|| match campaign {
        Some(campaign) => page(campaign),
        None => Ok(report::overview(&lift::all_campaigns()?, &heading::as_of_utc()?)),
    })?)
}

/// Runs as the owner.
fn page(name: &str) -> Result<String> {
    let (campaign, _) = campaign::load(name)?;
    let (name, now) = (campaign.campaign.as_str(), now()?);
    let report = Report {
        heading: heading::read(name, now)?,
        lifts: lift::lifts(name)?,
        lift_days: lift::by_day(name, now)?,
        health: quality::health(name)?,
        groups: quality::groups(name)?,
        policy: learning::policy(name)?,
        captured: learning::captured(&campaign, now)?,
        shares: choices::shares(name, now)?,
        sends: choices::sends(name, now)?,
        guardrails: limits::guardrails(name, now)?,
        budgets: limits::budgets(name)?,
        insights: quality::insights(name)?,
        calibration: quality::calibration(name)?,
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
