//! What the head of the page says.

use decisioning_core::report::{day, Heading};
use pgrx::prelude::*;

use super::{day_number, text};
use crate::api::log::decisions;
use crate::api::now;
use crate::pg::error::{Error, Result};
use crate::pg::query;

const AS_OF: &str = "FMDD Mon YYYY, HH24:MI";

/// With the number of customers; decisions are counted in a share of the log. Runs as the owner.
pub fn read(name: &str, now: TimestampWithTimeZone, customers: i64, share: f64) -> Result<Heading> {
    let sql = format!(
        "SELECT c.campaign, c.description, c.status, c.mode, c.time_zone, c.currency,
                to_char($2 AT TIME ZONE c.time_zone, '{AS_OF}') || ' (' || c.time_zone || ')',
                {started}, {ended},
                (SELECT count(*) FROM {log} WHERE d.campaign = c.campaign AND d.origin = 'live'),
                EXISTS (SELECT FROM decisioning.campaign_goals g JOIN decisioning.goals k ON k.goal = g.goal
                        WHERE g.campaign = c.campaign AND (k.kind = 'value' OR g.value <> 1))
                OR EXISTS (SELECT FROM decisioning.actions a WHERE a.campaign = c.campaign
                           AND (a.cost_send > 0 OR a.cost_on_goal > 0 OR a.cost_on_goal_share > 0))
         FROM decisioning.campaigns c WHERE c.campaign = $1",
        started = day_number("c.started_at AT TIME ZONE c.time_zone"),
        log = decisions(share),
        ended = day_number("c.ended_at AT TIME ZONE c.time_zone"),
    );
    query::read_one(&sql, &[name.into(), now.into()], |row| {
        Ok(Heading {
            campaign: row.value(1)?,
            description: row.get(2)?,
            status: row.value(3)?,
            mode: row.value(4)?,
            time_zone: row.value(5)?,
            currency: row.get(6)?,
            as_of: text(row, 7)?,
            started_on: row.get(8)?.map(day),
            ended_on: row.get(9)?.map(day),
            customers,
            decisions: (row.value::<i64>(10)? as f64 / share).round() as i64,
            sample: (share < 1.0).then_some(share),
            has_worth: row.value(11)?,
        })
    })?
    .ok_or_else(|| Error::corrupted("a campaign is gone"))
}

/// Now, for a page about campaigns of several zones.
pub fn as_of_utc() -> Result<String> {
    let sql = format!("SELECT to_char($1 AT TIME ZONE 'UTC', '{AS_OF}') || ' (UTC)'");
    Ok(query::read_one(&sql, &[now()?.into()], |row| text(row, 1))?.unwrap_or_default())
}
