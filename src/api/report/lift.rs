//! Lift: as it stands, as it came about, and that of all campaigns.

use decisioning_core::report::{day, Lift, LiftDay, Line};
use pgrx::prelude::*;

use super::{day_number, since, text};
use crate::pg::error::Result;
use crate::pg::query::{self, Row};

/// Columns of lift `l`, for [`lift`].
const LIFT: &str =
    "l.goal, l.kind, l.measure, l.treated_group, l.baseline_group, l.treated_customers, l.baseline_customers,
    l.treated_mean, l.baseline_mean, l.absolute_lift, l.lower, l.upper, l.relative_lift, l.verdict";

/// What is to be achieved comes before what is to be avoided.
const ORDER: &str = "l.kind = 'harm', l.goal, l.measure";

fn lift(row: &Row<'_, '_>) -> Result<Lift> {
    Ok(Lift {
        goal: text(row, 1)?,
        kind: text(row, 2)?,
        measure: text(row, 3)?,
        treated_group: text(row, 4)?,
        baseline_group: text(row, 5)?,
        treated_customers: row.get(6)?.unwrap_or_default(),
        baseline_customers: row.get(7)?.unwrap_or_default(),
        treated_mean: row.get(8)?,
        baseline_mean: row.get(9)?,
        absolute_lift: row.get(10)?,
        lower: row.get(11)?,
        upper: row.get(12)?,
        relative_lift: row.get(13)?,
        verdict: text(row, 14)?,
    })
}

/// Runs as the owner.
pub fn lifts(name: &str) -> Result<Vec<Lift>> {
    query::read(
        &format!("SELECT {LIFT} FROM decisioning.lift($1) AS l WHERE l.headline ORDER BY {ORDER}"),
        &[name.into()],
        lift,
    )
}

/// Runs as the owner.
pub fn by_day(name: &str, now: TimestampWithTimeZone) -> Result<Vec<LiftDay>> {
    let sql = format!(
        "SELECT l.goal, l.measure, {day}, l.treated_customers, l.baseline_customers, l.absolute_lift, l.lower, l.upper
         FROM decisioning.lift_over_time($1) AS l
         JOIN decisioning.campaigns k ON k.campaign = l.campaign
         WHERE l.day >= ({since} AT TIME ZONE k.time_zone)::date
         ORDER BY l.goal, l.measure, l.day",
        day = day_number("l.day"),
        since = since(),
    );
    query::read(&sql, &[name.into(), now.into()], |row| {
        Ok(LiftDay {
            goal: text(row, 1)?,
            measure: text(row, 2)?,
            day: day(row.value(3)?),
            treated_customers: row.get(4)?.unwrap_or_default(),
            baseline_customers: row.get(5)?.unwrap_or_default(),
            absolute_lift: row.get(6)?,
            lower: row.get(7)?,
            upper: row.get(8)?,
        })
    })
}

/// Every campaign with its lifts: what runs first. Runs as the owner.
pub fn all_campaigns() -> Result<Vec<Line>> {
    let mut lines = query::read(
        "SELECT c.campaign, c.status, c.currency, (SELECT count(*) FROM decisioning._assignment s
                                                   WHERE s.campaign = c.campaign AND s.exposed_at < 'infinity')
         FROM decisioning.campaigns c
         ORDER BY array_position('{active, paused, draft, ended}', c.status), c.campaign",
        &[],
        |row| {
            Ok(Line {
                campaign: row.value(1)?,
                status: row.value(2)?,
                currency: row.get(3)?,
                customers: row.value(4)?,
                lifts: Vec::new(),
            })
        },
    )?;
    let lifts =
        query::read(&format!("SELECT {LIFT}, l.campaign FROM decisioning.lift l ORDER BY {ORDER}"), &[], |row| {
            Ok((row.value::<String>(15)?, lift(row)?))
        })?;
    for (campaign, lift) in lifts {
        if let Some(line) = lines.iter_mut().find(|line| line.campaign == campaign) {
            line.lifts.push(lift);
        }
    }
    Ok(lines)
}
