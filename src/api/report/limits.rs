//! What keeps a campaign from sending: guardrails and budgets.

use decisioning_core::report::{day, Budget, Guardrail, DAYS};
use pgrx::prelude::*;

use super::{day_number, since};
use crate::pg::error::Result;
use crate::pg::query;

/// Rules over the last days, those first that bear on most decisions. Runs as the owner.
pub fn guardrails(name: &str, now: TimestampWithTimeZone, share: f64) -> Result<Vec<Guardrail>> {
    // Bounds of a day are 1.645 standard errors away. A customer who is decided for on every day of a window has the same events in all of
    // them, so that the variance of a sum may be as many times what that of apart days would be.
    let sql = format!(
        "SELECT f.guardrail, f.decisions, f.removed, f.silenced, f.lost, f.lost - f.margin, f.lost + f.margin, f.estimated, f.days
         FROM (SELECT f.guardrail, sum(f.decisions)::bigint AS decisions, sum(f.removed_candidates)::bigint AS removed,
                      sum(f.without_any_send)::bigint AS silenced, sum(f.lost_responses)::float8 AS lost,
                      sqrt(sum((f.lost_upper - f.lost_responses) ^ 2) * least(count(DISTINCT f.decided_on), {window}))::float8 AS margin, count(f.lost_responses) AS estimated,
                      count(DISTINCT f.decided_on) AS days
               FROM decisioning._guardrail_funnel($1, $3) AS f
               JOIN decisioning.campaigns k ON k.campaign = f.campaign
               WHERE f.decided_on >= ({since} AT TIME ZONE k.time_zone)::date
               GROUP BY f.guardrail) AS f
         ORDER BY f.decisions DESC, f.guardrail",
        window = "greatest(1, ceil((SELECT max(g.attribution_seconds) FROM decisioning.campaign_goals g
                                    JOIN decisioning.goals k ON k.goal = g.goal AND k.kind IN ('conversion', 'value')
                                    WHERE g.campaign = $1) / 86400))",
        since = since(),
    );
    query::read(&sql, &[name.into(), now.into(), share.into()], |row| {
        Ok(Guardrail {
            guardrail: row.value(1)?,
            decisions: row.value(2)?,
            removed_candidates: row.value(3)?,
            without_any_send: row.value(4)?,
            lost_responses: row.get(5)?,
            lost_lower: row.get(6)?,
            lost_upper: row.get(7)?,
            estimated_days: row.value(8)?,
            days: row.value(9)?,
        })
    })
}

/// Budgets in their current period. Runs as the owner.
pub fn budgets(name: &str) -> Result<Vec<Budget>> {
    let sql = format!(
        "SELECT b.budget, b.unit, b.amount, b.spent, b.reserved, b.planned, b.shadow_price, {starts}, {ends}
         FROM decisioning.budget_status b
         JOIN decisioning.campaigns c ON c.campaign = b.campaign
         WHERE b.campaign = $1 ORDER BY b.budget",
        starts = day_number("b.period_starts_at AT TIME ZONE c.time_zone"),
        // A period ends with the last moment of its last day.
        ends = day_number("(b.period_ends_at - interval '1 microsecond') AT TIME ZONE c.time_zone"),
    );
    let mut budgets = query::read(&sql, &[name.into()], |row| {
        Ok(Budget {
            budget: row.value(1)?,
            unit: row.value(2)?,
            amount: row.value(3)?,
            spent: row.get(4)?.unwrap_or_default(),
            reserved: row.get(5)?.unwrap_or_default(),
            planned: row.get(6)?,
            shadow_price: row.get(7)?,
            starts_on: row.get(8)?.map(day),
            ends_on: row.get(9)?.map(day),
            charged: Vec::new(),
        })
    })?;
    for (budget, on, charged) in charges(name)? {
        if let Some(budget) = budgets.iter_mut().find(|known| known.budget == budget) {
            budget.charged.push((day(on), charged));
        }
    }
    Ok(budgets)
}

/// What the decisions of each day and all before it were charged, in the current periods. Runs as the owner.
fn charges(name: &str) -> Result<Vec<(String, i32, f64)>> {
    // A decision has its time in its id.
    let sql = format!(
        "WITH daily AS (
             SELECT r.budget, {day} AS day, sum(r.charged) AS charged
             FROM decisioning.budget_status b
             JOIN decisioning.campaigns c ON c.campaign = b.campaign
             JOIN decisioning._reservation r ON r.campaign = b.campaign AND r.budget = b.budget
                  AND r.starts_at = CASE b.period WHEN 'total' THEN 'epoch' ELSE b.period_starts_at END
             CROSS JOIN LATERAL (
                 SELECT to_timestamp(('x' || left(replace(r.decision_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) AS decided_at) AS t
             WHERE b.campaign = $1
             GROUP BY 1, 2)
         SELECT n.budget, n.day, n.charged
         FROM (SELECT d.budget, d.day, (sum(d.charged) OVER (PARTITION BY d.budget ORDER BY d.day) / 1e6)::float8 AS charged,
                      row_number() OVER (PARTITION BY d.budget ORDER BY d.day DESC) AS place FROM daily d) AS n
         WHERE n.place <= $2 ORDER BY n.budget, n.day",
        day = day_number("t.decided_at AT TIME ZONE c.time_zone"),
    );
    query::read(&sql, &[name.into(), DAYS.into()], |row| Ok((row.value(1)?, row.value(2)?, row.value(3)?)))
}
