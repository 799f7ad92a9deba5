//! Whether the figures can be trusted, and what was found in them.

use decisioning_core::report::{Bin, Finding, GroupSize, Insight, Measure, INSIGHTS};

use super::text;
use crate::pg::error::Result;
use crate::pg::query;

/// Runs as the owner.
pub fn health(name: &str) -> Result<Vec<Finding>> {
    query::read(
        "SELECT h.topic, h.status, h.finding, h.advice FROM decisioning.campaign_health h WHERE h.campaign = $1
         ORDER BY array_position('{bad, warning, good}', h.status), h.topic, h.finding",
        &[name.into()],
        |row| Ok(Finding { topic: text(row, 1)?, status: text(row, 2)?, finding: text(row, 3)?, advice: row.get(4)? }),
    )
}

/// Runs as the owner.
pub fn groups(name: &str) -> Result<Vec<GroupSize>> {
    query::read(
        "SELECT b.treatment_group, b.customers, b.expected::float8, b.statistic, b.p_value, b.balanced, b.acknowledged_at IS NOT NULL
         FROM decisioning.group_balance($1) AS b
         ORDER BY array_position('{optimise, explore, control, holdout}', b.treatment_group), b.treatment_group",
        &[name.into()],
        |row| {
            Ok(GroupSize {
                treatment_group: row.value(1)?,
                customers: row.get(2)?.unwrap_or_default(),
                expected: row.get(3)?.unwrap_or_default(),
                statistic: row.get(4)?,
                p_value: row.get(5)?,
                balanced: row.get(6)?.unwrap_or(true),
                acknowledged: row.get(7)?.unwrap_or_default(),
            })
        },
    )
}

/// Findings that were confirmed, the surest first. Runs as the owner.
pub fn insights(name: &str) -> Result<Vec<Insight>> {
    query::read(
        "SELECT i.segment, i.dimension, i.level, i.customers, i.decisions, i.response_rate, i.baseline_rate, i.ratio, i.lower,
                i.upper, i.q_value, i.sentence
         FROM decisioning.insights($1) i WHERE i.confirmed
         ORDER BY i.q_value, abs(ln(nullif(i.ratio, 0))) DESC NULLS LAST, i.segment, i.dimension, i.level LIMIT $2",
        &[name.into(), (INSIGHTS as i32).into()],
        |row| {
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
        },
    )
}

/// Runs as the owner.
pub fn calibration(name: &str) -> Result<Vec<Bin>> {
    query::read(
        "SELECT b.decisions, b.predicted, b.observed, b.lower, b.upper, b.calibrated
         FROM decisioning.calibration b WHERE b.campaign = $1 ORDER BY b.bin",
        &[name.into()],
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
