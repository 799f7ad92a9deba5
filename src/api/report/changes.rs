//! What was changed, when and by whom.

use decisioning_core::report::{day, Change, ROWS};

use super::day_number;
use crate::pg::error::Result;
use crate::pg::query;

/// Changes of the campaign, and of what all campaigns share; those of a kind and day by one role together, the latest first.
/// Runs as the owner.
pub fn read(name: &str) -> Result<Vec<Change>> {
    let sql = format!(
        "WITH changed AS (
             SELECT {day} AS day, e.changed_by, e.relation, e.operation, count(*) AS changes, max(e.epoch) AS latest,
                    min((SELECT string_agg(v.value, ' ' ORDER BY v.key) FROM jsonb_each_text(e.row_key - 'campaign') AS v)) AS named,
                    array_agg(e.changes) AS columns
             FROM decisioning.configuration_changes e
             JOIN decisioning.campaigns c ON c.campaign = $1
             WHERE e.campaign = $1
                OR e.campaign IS NULL
                   AND (e.relation NOT IN ('goals', 'outcome_sources')
                        OR (SELECT coalesce(x.after, x.before) ->> 'goal' FROM decisioning.epochs x WHERE x.epoch = e.epoch)
                           IN (SELECT g.goal FROM decisioning.campaign_goals g WHERE g.campaign = $1))
             GROUP BY 1, 2, 3, 4
             ORDER BY 1 DESC, latest DESC LIMIT $2)
         SELECT d.day, d.changed_by, d.relation, d.operation, d.changes, CASE d.changes WHEN 1 THEN d.named END,
                ARRAY(SELECT DISTINCT CASE d.changes
                                 WHEN 1 THEN format('%s: %s → %s', k.key, left(coalesce(k.value ->> 0, 'none'), 40), left(coalesce(k.value ->> 1, 'none'), 40))
                                 ELSE k.key END
                      FROM unnest(d.columns) AS u (columns) CROSS JOIN LATERAL jsonb_each(u.columns) AS k
                      WHERE d.operation = 'UPDATE' AND k.key NOT IN ('approved_content_hash', 'approved_at')
                      ORDER BY 1)
         FROM changed d ORDER BY d.day DESC, d.latest DESC",
        day = day_number("e.changed_at AT TIME ZONE c.time_zone"),
    );
    query::read(&sql, &[name.into(), (ROWS as i64).into()], |row| {
        Ok(Change {
            day: day(row.value(1)?),
            changed_by: row.value(2)?,
            relation: row.value(3)?,
            operation: row.value(4)?,
            rows: row.value(5)?,
            row: row.get(6)?,
            columns: row.get(7)?.unwrap_or_default(),
        })
    })
}
