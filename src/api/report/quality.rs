//! Whether the figures can be trusted, and what was found in them.

use decisioning_core::report::{Bin, Finding, GroupSize, Insight, Measure, DAYS, INSIGHTS};
use pgrx::prelude::*;

use super::{day_number, text};
use crate::api::balance::{self, GroupBalance};
use crate::api::census::Census;
use crate::pg::error::Result;
use crate::pg::query;

/// With what the groups are found to be, which need not be looked at again. Runs as the owner.
pub fn health(name: &str, groups: &[GroupSize]) -> Result<Vec<Finding>> {
    let groups = groups.first();
    query::read(
        "SELECT h.topic, h.status, h.finding, h.advice
         FROM (SELECT h.topic, h.status, h.finding, h.advice FROM decisioning.campaign_health h WHERE h.campaign = $1 AND h.topic <> 'groups'
               UNION ALL
               SELECT 'groups', g.status, g.finding, g.advice
               FROM decisioning._group_finding($2, $3) AS g
               WHERE $2 IS NOT NULL
                 AND EXISTS (SELECT FROM decisioning.campaigns c WHERE c.campaign = $1 AND c.status IN ('active', 'paused'))) AS h
         ORDER BY array_position('{bad, warning, good}', h.status), h.topic, h.finding",
        &[
            name.into(),
            groups.map(|group| group.balanced).into(),
            groups.and_then(|group| group.p_value).into(),
        ],
        |row| Ok(Finding { topic: text(row, 1)?, status: text(row, 2)?, finding: text(row, 3)?, advice: row.get(4)? }),
    )
}

pub fn groups(census: &Census) -> Vec<GroupSize> {
    let mut groups = balance::groups(census, false);
    groups.reverse();
    let shown = |group: GroupBalance| GroupSize {
        treatment_group: group.group.as_str().to_owned(),
        customers: group.customers as i64,
        expected: group.expected,
        statistic: group.statistic,
        p_value: Some(group.p_value),
        balanced: group.balanced(),
        acknowledged: group.acknowledged_at.is_some(),
    };
    groups.into_iter().map(shown).collect()
}

/// Findings that were confirmed, the surest first, with the day on which maintain found them; without any such day they are looked
/// for. Runs as the owner.
pub fn insights(name: &str) -> Result<(Vec<Insight>, Option<i32>)> {
    let day = format!(
        "SELECT {} FROM decisioning._insights_found f JOIN decisioning.campaigns c ON c.campaign = f.campaign WHERE f.campaign = $1",
        day_number("f.found_at AT TIME ZONE c.time_zone")
    );
    let found_on = query::read_one(&day, &[name.into()], |row| row.value::<i32>(1))?;
    let insights = match found_on {
        Some(_) => {
            "(SELECT i.* FROM decisioning._insights_found f CROSS JOIN LATERAL jsonb_to_recordset(f.insights) AS i (
                  segment text, dimension text, level text, customers bigint, decisions bigint, response_rate float8,
                  baseline_rate float8, ratio float8, lower float8, upper float8, q_value float8, sentence text)
              WHERE f.campaign = $1)"
        }
        None => "(SELECT i.* FROM decisioning.insights($1) i WHERE i.confirmed)",
    };
    let sql = format!(
        "SELECT i.segment, i.dimension, i.level, i.customers, i.decisions, i.response_rate, i.baseline_rate, i.ratio, i.lower,
                i.upper, i.q_value, i.sentence
         FROM {insights} AS i
         ORDER BY i.q_value, abs(ln(nullif(i.ratio, 0))) DESC NULLS LAST, i.segment, i.dimension, i.level LIMIT $2"
    );
    let found = query::read(&sql, &[name.into(), (INSIGHTS as i32).into()], |row| {
        Ok(Insight {
            segment: text(row, 1)?,
            dimension: text(row, 2)?,
            level: text(row, 3)?,
            customers: row.get(4)?.unwrap_or_default(),
            decisions: row.get(5)?.unwrap_or_default(),
            response_rate: row.get(6)?,
            baseline_rate: row.get(7)?,
            ratio: row.get(8)?,
            lower: row.get(9)?,
            upper: row.get(10)?,
            q_value: row.get(11)?,
            sentence: text(row, 12)?,
        })
    })?;
    Ok((found, found_on))
}

/// Runs as the owner.
pub fn calibration(name: &str, now: TimestampWithTimeZone, share: f64) -> Result<Vec<Bin>> {
    query::read(
        "SELECT b.decisions, b.predicted, b.observed, b.lower, b.upper, b.calibrated
         FROM decisioning._learner l
         CROSS JOIN LATERAL decisioning.calibration(l.campaign, $2 - $3 * interval '1 day', sample => $4) AS b
         WHERE l.campaign = $1 ORDER BY b.bin",
        &[name.into(), now.into(), DAYS.into(), share.into()],
        |row| {
            Ok(Bin {
                decisions: row.value(1)?,
                predicted: row.value(2)?,
                observed: row.value(3)?,
                lower: row.value(4)?,
                upper: row.value(5)?,
                calibrated: row.value(6)?,
            })
        },
    )
}

/// Runs as the owner.
pub fn identity() -> Result<Vec<Measure>> {
    query::read("SELECT m.measure, m.value FROM decisioning.identity_quality m", &[], |row| {
        Ok(Measure { measure: row.value(1)?, value: row.get(2)? })
    })
}
