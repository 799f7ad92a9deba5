//! Groups of a campaign, drawn anew.

use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Campaign, Status};
use super::guardrail::configure::wait_for_decisions;
use super::now;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query::{self, Argument, Row};
use crate::pg::settings::micros;
use crate::pg::snapshot;

/// Longest wash-out, in microseconds.
const LONGEST: i64 = 366 * 86_400_000_000;

#[pg_extern(sql = false)]
fn renew_holdout(campaign: Option<&str>, wash_out: Option<Interval>) -> std::result::Result<i64, ErrorReport> {
    let name = required(campaign, "campaign")?;
    let wash_out = required(wash_out, "wash_out")?;
    if !(0..=LONGEST).contains(&(wash_out.as_micros() as i64)) {
        return Err(Error::invalid("wash_out must be between 0 and 366 days").into());
    }
    Ok(as_owner(|| {
        let (campaign, _) = campaign::load(name)?;
        check(&campaign)?;
        renew(&campaign, wash_out)
    })?)
}

/// A campaign whose groups can be drawn anew: it runs, and the last draw counts already.
fn check(campaign: &Campaign) -> Result<()> {
    let name = &campaign.campaign;
    match campaign.status {
        Status::Active | Status::Paused => {}
        Status::Draft => return Err(Error::state(format!("campaign \"{name}\" has not started"))),
        Status::Ended => return Err(Error::state(format!("campaign \"{name}\" has ended"))),
    }
    if campaign.washed_micros.zip(micros(now()?)).is_some_and(|(washed_at, now)| washed_at > now) {
        return Err(Error::state(format!("the last draw of campaign \"{name}\" is not washed out yet"))
            .hint("SELECT washed_at FROM decisioning.campaigns says when it is."));
    }
    Ok(())
}

/// Statements with arguments, to be read by one snapshot or another.
type Reading = fn(&str, &[Argument<'_>], fn(&Row<'_, '_>) -> Result<i64>) -> Result<Vec<i64>>;

/// Customers of a campaign who were exposed.
fn exposed(campaign: &str, read: Reading) -> Result<Vec<i64>> {
    let sql = "SELECT count(*) FROM decisioning._assignment s WHERE s.campaign = $1 AND s.exposed_at < 'infinity'";
    read(sql, &[campaign.into()], |row| row.value(1))
}

/// Runs as the owner.
fn renew(campaign: &Campaign, wash_out: Interval) -> Result<i64> {
    let (name, draw, now) = (campaign.campaign.as_str(), campaign.draw, now()?);
    let lift: pgrx::JsonB = query::read_one(
        "SELECT coalesce(jsonb_agg(to_jsonb(l)), '[]') FROM decisioning.lift($1, as_of => $2) AS l",
        &[name.into(), now.into()],
        |row| row.value(1),
    )?
    .ok_or_else(|| Error::corrupted("an aggregate without a row"))?;
    // Whoever decides from now on draws under the next number, and nobody does under the last one any more.
    wait_for_decisions()?;
    // A transaction that keeps its snapshot would leave out whom it does not see, in the last draw under the number of the next.
    if snapshot::is_kept() && exposed(name, query::read_newest)? != exposed(name, query::read)? {
        return Err(snapshot::outdated());
    }
    let renewed = query::execute(
        "UPDATE decisioning.campaigns SET draw = draw + 1, washed_at = $3 + $4 WHERE campaign = $1 AND draw = $2",
        &[name.into(), draw.into(), now.into(), wash_out.into()],
    )?;
    if renewed == 0 {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            format!("the groups of campaign \"{name}\" were drawn anew by somebody else"),
        ));
    }
    let customers = query::execute(
        "INSERT INTO decisioning._past_assignment
         SELECT s.customer_id, s.campaign, $2, s.treatment_group, s.bucket, s.epoch, s.exposed_at, s.treatable, s.ramped_at, s.merged_at,
                s.mixed_at, s.global_holdout, s.global_bucket, $3
         FROM decisioning._assignment s WHERE s.campaign = $1 AND s.exposed_at < 'infinity'",
        &[name.into(), draw.into(), now.into()],
    )? as i64;
    // What was sent, and which decision is open, stays; so does membership of the global holdout, which is drawn for all campaigns.
    query::execute(
        "UPDATE decisioning._assignment s
         SET first_exposed_at = coalesce(s.first_exposed_at, s.exposed_at), exposed_at = 'infinity', treatment_group = 'holdout', bucket = 0,
             ramped_at = NULL, merged_at = NULL, mixed_at = NULL
         WHERE s.campaign = $1 AND s.exposed_at < 'infinity'",
        &[name.into()],
    )?;
    query::execute(
        "INSERT INTO decisioning.renewals (campaign, draw, renewed_at, washed_at, renewed_by, customers, lift)
         VALUES ($1, $2, $3, $3 + $4, decisioning._caller(), $5, $6)",
        &[name.into(), draw.into(), now.into(), wash_out.into(), customers.into(), lift.into()],
    )?;
    Ok(customers)
}
