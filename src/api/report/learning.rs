//! What learning brings, by day.

use decisioning_core::report::{day, Captured, PolicyDay};
use pgrx::prelude::*;

use super::{day_number, since, text};
use crate::api::campaign::Campaign;
use crate::api::log::{decisions, rewards};
use crate::pg::error::Result;
use crate::pg::guard::for_large_sets;
use crate::pg::query;

/// Runs as the owner.
pub fn policy(name: &str, share: f64) -> Result<Vec<PolicyDay>> {
    let sql = format!(
        "SELECT {day}, p.decisions, p.entropy, p.effective_actions, p.candidates, p.most_frequent_action,
                p.most_frequent_share::float8, p.collapsed
         FROM decisioning._policy_entropy($1, $2) AS p ORDER BY p.day",
        day = day_number("p.day"),
    );
    query::read(&sql, &[name.into(), share.into()], |row| {
        Ok(PolicyDay {
            day: day(row.value(1)?),
            decisions: row.value(2)?,
            entropy: row.get(3)?,
            effective_actions: row.get(4)?.unwrap_or(f64::NAN),
            candidates: row.get(5)?.unwrap_or(f64::NAN),
            most_frequent_action: text(row, 6)?,
            most_frequent_share: row.get(7)?.unwrap_or_default(),
            collapsed: row.get(8)?.unwrap_or_default(),
        })
    })
}

/// What came of decisions of days whose attribution windows are all over. Runs as the owner.
pub fn captured(campaign: &Campaign, now: TimestampWithTimeZone, share: f64) -> Result<Vec<Captured>> {
    let closed = format!(
        "d.campaign = $1 AND d.origin = 'live' AND d.decided_at >= {since}
         AND d.decided_at < (SELECT date_trunc('day', ($2 - $3 * interval '1 second') AT TIME ZONE c.time_zone) AT TIME ZONE c.time_zone
                             FROM decisioning.campaigns c WHERE c.campaign = $1)",
        since = since(),
    );
    let log = decisions(share);
    let sql = format!(
        "WITH {rewards}
         SELECT {day}, d.treatment_group, count(*), count(*) FILTER (WHERE reward.given),
                avg(coalesce(reward.worth, 0) * (1 - coalesce(a.cost_on_goal_share, 0)) - coalesce(a.cost_send, 0)
                    - CASE WHEN reward.given THEN coalesce(a.cost_on_goal, 0) ELSE 0 END)::float8
         FROM {log}
         JOIN decisioning.campaigns c ON c.campaign = d.campaign
         LEFT JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action_id = d.action_id
         LEFT JOIN rewards reward ON reward.decision_id = d.decision_id
         WHERE {closed}
         GROUP BY 1, 2 ORDER BY 1, 2",
        rewards = rewards(&log, &closed, "true"),
        day = day_number("d.decided_at AT TIME ZONE c.time_zone"),
    );
    let arguments = [campaign.campaign.as_str().into(), now.into(), campaign.window_seconds().into()];
    let decode = |row: &query::Row<'_, '_>| {
        Ok(Captured {
            day: day(row.value(1)?),
            treatment_group: row.value(2)?,
            decisions: row.value(3)?,
            responses: row.value(4)?,
            net_worth: row.value(5)?,
        })
    };
    for_large_sets(|| query::read(&sql, &arguments, decode))
}
