//! What was chosen, and for when.

use decisioning_core::report::{day, SendTime, Share};
use pgrx::prelude::*;

use super::{day_number, since, text};
use crate::api::log::decisions;
use crate::pg::error::Result;
use crate::pg::query;

/// Dimensions that have a chart.
const DIMENSIONS: i32 = 8;

/// Choices of the optimise group by day: actions, then the levels of each dimension, the usual ones first. Runs as the owner.
pub fn shares(name: &str, now: TimestampWithTimeZone, share: f64) -> Result<Vec<Share>> {
    let sql = format!(
        "WITH chosen AS (
             -- In shadow mode the policy is what would have been chosen.
             SELECT {day} AS day, coalesce(d.shadow_action_id, d.action_id) AS action_id, count(*) AS decisions
             FROM {log}
             JOIN decisioning.campaigns c ON c.campaign = d.campaign
             WHERE d.campaign = $1 AND d.treatment_group = 'optimise' AND d.origin = 'live' AND d.decided_at >= {since}
             GROUP BY 1, 2
         ), dimensions AS (
             SELECT n.dimension, row_number() OVER (
                        ORDER BY array_position('{{message, offer, channel, slot}}', n.dimension), n.dimension) AS place
             FROM (SELECT DISTINCT k.dimension FROM decisioning.actions a CROSS JOIN LATERAL jsonb_object_keys(a.dimensions) AS k (dimension)
                   WHERE a.campaign = $1) AS n
         )
         SELECT s.dimension, s.level, s.day, s.decisions
         FROM (SELECT 0 AS place, NULL AS dimension, coalesce(a.action, 'no_send') AS level, h.day, h.decisions
               FROM chosen h LEFT JOIN decisioning.actions a ON a.campaign = $1 AND a.action_id = h.action_id
               UNION ALL
               SELECT m.place, m.dimension,
                      CASE WHEN h.action_id = 0 THEN 'no_send' ELSE coalesce(a.dimensions ->> m.dimension, 'without') END, h.day,
                      sum(h.decisions)::bigint
               FROM chosen h
               CROSS JOIN dimensions m
               LEFT JOIN decisioning.actions a ON a.campaign = $1 AND a.action_id = h.action_id
               WHERE m.place <= $3
               GROUP BY 1, 2, 3, 4) AS s
         ORDER BY s.place, s.day, s.decisions DESC, s.level",
        day = day_number("d.decided_at AT TIME ZONE c.time_zone"),
        log = decisions(share),
        since = since(),
    );
    query::read(&sql, &[name.into(), now.into(), DIMENSIONS.into()], |row| {
        Ok(Share { dimension: row.get(1)?, level: text(row, 2)?, day: day(row.value(3)?), decisions: row.value(4)? })
    })
}

/// Runs as the owner.
pub fn sends(name: &str, now: TimestampWithTimeZone, share: f64) -> Result<Vec<SendTime>> {
    let sql = format!(
        "SELECT extract(isodow FROM s.at)::integer - 1, extract(hour FROM s.at)::integer, count(*)
         FROM (SELECT d.send_at AT TIME ZONE c.time_zone AS at
               FROM {}
               JOIN decisioning.campaigns c ON c.campaign = d.campaign
               WHERE d.campaign = $1 AND d.origin = 'live' AND d.action_id <> 0 AND isfinite(d.send_at) AND d.decided_at >= {}) AS s
         GROUP BY 1, 2 ORDER BY 1, 2",
        decisions(share),
        since()
    );
    query::read(&sql, &[name.into(), now.into()], |row| {
        Ok(SendTime { weekday: row.value(1)?, hour: row.value(2)?, sends: row.value(3)? })
    })
}
