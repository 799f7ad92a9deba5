//! Thinning the log: of decisions that are old, only what is still needed stays.
//!
//! Months are rewritten beside the log and put in the place of the old ones at the end, so that whoever decides or reads waits for that
//! moment only.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::follow::lock_learners;
use super::identity::require_read_committed;
use super::log::HALF_LIVES;
use super::now;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, for_large_sets, impatient};
use crate::pg::query;
use crate::pg::snapshot::latest;
use crate::pg::transaction::attempt;

/// A month of the log.
struct Month {
    /// Name of its partition.
    partition: String,
    /// Least id of its decisions, and of those of the next month.
    bounds: [String; 2],
    end: TimestampWithTimeZone,
}

/// What became of a relation: its name, and the rows that went and stayed.
type Thinned = (String, i64, i64);

/// Times from which on decisions are needed, by campaign: what is learned from; and windows in which outcomes, sends and guardrails
/// look for them.
const NEEDED_SINCE: &str = "
    SELECT c.campaign, 'learns' AS need,
           CASE WHEN c.half_life IS NULL THEN '-infinity' ELSE $1 - $2 * c.half_life_seconds * interval '1 second' END AS since
    FROM decisioning.campaigns c WHERE c.status <> 'ended'
    UNION ALL
    SELECT c.campaign, 'works',
           $1 - greatest(interval '35 days', 2 * (w.seconds + c.send_horizon_seconds + c.send_within_seconds) * interval '1 second')
    FROM decisioning.campaigns c
    CROSS JOIN LATERAL (SELECT coalesce(max(g.attribution_seconds), 0) AS seconds
                        FROM decisioning.campaign_goals g WHERE g.campaign = c.campaign) AS w";

/// Decisions from $1 to $2 that stay: the first of each customer, and in groups that were drawn anew the first since he is exposed, whose
/// features lift and the balance of groups go by; those that still stand for their customers; those that wait for something; and
/// under a global holdout the sends since, whose costs `total_lift` counts.
const STAYING: &str = "
    SELECT d.decision_id FROM decisioning.decisions d WHERE d.decision_id >= $1::uuid AND d.decision_id < $2::uuid AND d.ordinal = 1
    UNION SELECT f.decision_id
          FROM (SELECT DISTINCT ON (d.customer_id, d.campaign) d.decision_id
                FROM (SELECT DISTINCT ON (n.campaign) n.campaign, n.washed_at, n.renewed_at
                      FROM decisioning.renewals n ORDER BY n.campaign, n.draw DESC) AS r
                JOIN decisioning._assignment s ON s.campaign = r.campaign
                JOIN decisioning.decisions d ON d.customer_id = s.customer_id AND d.campaign = s.campaign
                    AND d.decided_at >= CASE WHEN s.exposed_at = r.washed_at THEN r.renewed_at ELSE s.exposed_at END
                WHERE d.decision_id < $2::uuid
                ORDER BY d.customer_id, d.campaign, d.decided_at) AS f
          WHERE f.decision_id >= $1::uuid
    UNION SELECT s.decision_id FROM decisioning._assignment s WHERE s.decision_id >= $1::uuid AND s.decision_id < $2::uuid
    UNION SELECT w.decision_id FROM decisioning._inbox w WHERE w.decision_id >= $1::uuid AND w.decision_id < $2::uuid
    UNION SELECT o.decision_id FROM decisioning._outbox o WHERE o.decision_id >= $1::uuid AND o.decision_id < $2::uuid
    UNION SELECT r.decision_id FROM decisioning._reassessment r WHERE r.decision_id >= $1::uuid AND r.decision_id < $2::uuid
    UNION SELECT v.decision_id FROM decisioning._reservation v WHERE v.decision_id >= $1::uuid AND v.decision_id < $2::uuid
    UNION SELECT m.decision_id FROM decisioning.sends m
          WHERE m.decision_id >= $1::uuid AND m.decision_id < $2::uuid AND m.status IN ('queued', 'claimed')
    UNION SELECT d.decision_id FROM decisioning.decisions d JOIN decisioning.global_holdout h ON h.share > 0 AND d.decided_at >= h.since
          WHERE d.decision_id >= $1::uuid AND d.decision_id < $2::uuid AND d.action_id > 0";

/// Lets nobody else rewrite, import or add to the months of the log until the transaction ends. Deciding goes on. To be taken before any
/// lock of a partition. Runs as the owner.
pub fn lock_shape() -> Result<()> {
    query::execute("LOCK TABLE ONLY decisioning.decisions IN SHARE UPDATE EXCLUSIVE MODE", &[])?;
    Ok(())
}

/// # Errors
/// Decisions are needed that are as old as `before`.
fn check(before: TimestampWithTimeZone) -> Result<()> {
    let sql = format!(
        "SELECT n.campaign, n.need, n.since::text, isfinite(n.since) FROM ({NEEDED_SINCE}) AS n
         WHERE n.since < $3 ORDER BY n.since, n.campaign, n.need LIMIT 1"
    );
    let needed = query::read_one(&sql, &[now()?.into(), HALF_LIVES.into(), before.into()], |row| {
        Ok((row.value::<String>(1)?, row.value::<String>(2)?, row.value::<String>(3)?, row.value::<bool>(4)?))
    })?;
    let Some((campaign, need, since, is_finite)) = needed else { return Ok(()) };
    let (what, why) = match need.as_str() {
        "learns" => ("learns from", format!("Until it has ended, learning goes back {HALF_LIVES} half-lives.")),
        _ => ("works with", "Attribution windows, waits of sends and guardrails go back that far.".to_owned()),
    };
    Err(if is_finite {
        Error::state(format!("campaign \"{campaign}\" {what} decisions since {since}"))
            .detail(why)
            .hint(format!("Thin what is older: SELECT * FROM decisioning.thin_log('{since}')."))
    } else {
        Error::state(format!("campaign \"{campaign}\" {what} all of its decisions"))
            .detail("It has no half-life: what is old counts as much as what is new.")
            .hint("Give it a half_life, or end it.")
    })
}

/// Months that were over before a moment and have a partition. In the order of their identifiers, in which statements that read the
/// log lock them.
fn months(before: TimestampWithTimeZone) -> Result<Vec<Month>> {
    query::read(
        "SELECT m.relname, decisioning._uuid_floor(m.since)::text, decisioning._uuid_floor(m.\"end\")::text, m.\"end\"
         FROM (SELECT c.oid, c.relname::text, s.since AT TIME ZONE 'UTC' AS since, (s.since + interval '1 month') AT TIME ZONE 'UTC' AS \"end\"
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               CROSS JOIN LATERAL (SELECT CASE WHEN c.relname ~ '^decisions_\\d{4}_\\d{2}$'
                                               THEN to_date(right(c.relname, 7), 'YYYY_MM')::timestamp END AS since) AS s
               WHERE i.inhparent = 'decisioning.decisions'::regclass) AS m
         WHERE m.\"end\" <= $1
         ORDER BY m.oid",
        &[before.into()],
        |row| Ok(Month { partition: row.value(1)?, bounds: [row.value(2)?, row.value(3)?], end: row.value(4)? }),
    )
}

impl Month {
    /// Deletes what does not stay of it; `None` if all does. It takes no table of its own, which those who replicate the log would not
    /// know; the space is free for nothing but this month.
    fn delete(&self) -> Result<Option<Thinned>> {
        let Month { partition, bounds: [low, high], .. } = self;
        let sql = format!(
            "DELETE FROM decisioning.{partition} d WHERE NOT EXISTS (SELECT FROM ({STAYING}) AS n WHERE n.decision_id = d.decision_id)"
        );
        let go = for_large_sets(|| query::execute(&sql, &[low.as_str().into(), high.as_str().into()]))? as i64;
        let name = format!("decisioning.{partition}");
        Ok(if go == 0 { None } else { Some((name, go, rows_of(partition)?)) })
    }

    /// Writes what stays of it beside it; `None` if all does.
    fn rewrite(&self) -> Result<Option<Thinned>> {
        let Month { partition, bounds: [low, high], .. } = self;
        // Whoever reads goes on.
        query::execute(&format!("LOCK TABLE decisioning.{partition} IN SHARE ROW EXCLUSIVE MODE"), &[])?;
        let all =
            query::write(&format!("SELECT count(*) FROM decisioning.{partition}"), &[], |row| row.value::<i64>(1))?;
        query::execute(&format!("CREATE TABLE decisioning.{partition}_thinned (LIKE decisioning.decisions)"), &[])?;
        let sql = format!(
            "INSERT INTO decisioning.{partition}_thinned
             SELECT d.* FROM decisioning.{partition} d JOIN ({STAYING}) AS n ON n.decision_id = d.decision_id"
        );
        let stay = for_large_sets(|| query::execute(&sql, &[low.as_str().into(), high.as_str().into()]))? as i64;
        let go = all.first().map_or(0, |all| all - stay);
        if go == 0 {
            query::execute(&format!("DROP TABLE decisioning.{partition}_thinned"), &[])?;
            return Ok(None);
        }
        for statement in [
            // The check saves looking through the rows when it becomes a partition.
            format!(
                "ALTER TABLE decisioning.{partition}_thinned ADD PRIMARY KEY (decision_id),
                     ADD CONSTRAINT month CHECK (decision_id >= '{low}' AND decision_id < '{high}')"
            ),
            format!(
                "CREATE INDEX {partition}_thinned_customer_index ON decisioning.{partition}_thinned (customer_id, campaign, decided_at)"
            ),
            format!("ANALYZE decisioning.{partition}_thinned"),
        ] {
            query::execute(&statement, &[])?;
        }
        Ok(Some((format!("decisioning.{partition}"), go, stay)))
    }

    /// Puts what was rewritten in its place.
    fn replace(&self) -> Result<()> {
        let Month { partition, bounds: [low, high], .. } = self;
        let comment = query::read_one(
            "SELECT quote_nullable(obj_description(c.oid, 'pg_class')) FROM pg_class c
             WHERE c.relnamespace = 'decisioning'::regnamespace AND c.relname = $1",
            &[partition.as_str().into()],
            |row| row.value::<String>(1),
        )?;
        let comment = comment.unwrap_or_else(|| "NULL".to_owned());
        for statement in [
            format!("ALTER TABLE decisioning.decisions DETACH PARTITION decisioning.{partition}"),
            format!("DROP TABLE decisioning.{partition}"),
            format!("ALTER TABLE decisioning.{partition}_thinned RENAME TO {partition}"),
            format!("ALTER INDEX decisioning.{partition}_thinned_pkey RENAME TO {partition}_pkey"),
            format!("ALTER INDEX decisioning.{partition}_thinned_customer_index RENAME TO {partition}_customer_index"),
            format!(
                "ALTER TABLE decisioning.decisions ATTACH PARTITION decisioning.{partition} FOR VALUES FROM ('{low}') TO ('{high}')"
            ),
            format!("ALTER TABLE decisioning.{partition} DROP CONSTRAINT month"),
            format!("COMMENT ON TABLE decisioning.{partition} IS {comment}"),
        ] {
            query::execute(&statement, &[])?;
        }
        Ok(())
    }
}

/// How often the log is asked for, a second apart, before the months that were rewritten take their places.
const TRIES: usize = 60;

/// Locks everybody out of the log, to the end of the transaction. It is asked for again and again instead of waited for: behind whoever
/// waits, deciders would queue.
///
/// # Errors
/// Somebody reads the log all the time.
fn lock_log(months: &[&Month]) -> Result<()> {
    let partitions: Vec<String> = months.iter().map(|month| format!(", decisioning.{}", month.partition)).collect();
    let sql = format!(
        "LOCK TABLE ONLY decisioning.decisions, decisioning.decisions_default{} IN ACCESS EXCLUSIVE MODE",
        partitions.concat()
    );
    for _ in 0..TRIES {
        match attempt(|| impatient(|| query::execute(&sql, &[]))) {
            Ok(_) => return Ok(()),
            Err(failure) if failure.sql_error_code() == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                query::read("SELECT pg_sleep(1)", &[], |_| Ok(()))?;
            }
            Err(failure) => return Err(failure.error(failure.message())),
        }
    }
    Err(Error::new(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, "the log is read all the time")
        .detail("Transactions that have read it keep what was rewritten from taking its place. Nothing was changed.")
        .hint("End transactions that are idle, and call decisioning.thin_log again."))
}

/// Whether changes of the log are sent to subscribers.
fn is_published() -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_publication_tables t
                              WHERE t.schemaname = 'decisioning' AND (t.tablename = 'decisions' OR t.tablename ~ '^decisions_'))";
    Ok(query::read_one(sql, &[], |row| row.value::<bool>(1))?.unwrap_or(false))
}

/// Sends that are over and whose decision has gone.
fn thin_sends(end: TimestampWithTimeZone) -> Result<Thinned> {
    let go = for_large_sets(|| {
        query::execute(
            "DELETE FROM decisioning.sends m
             WHERE m.decision_id < decisioning._uuid_floor($1) AND m.status NOT IN ('queued', 'claimed')
               AND NOT EXISTS (SELECT FROM decisioning.decisions d
                               WHERE d.decision_id = m.decision_id AND d.decision_id < decisioning._uuid_floor($1))",
            &[end.into()],
        )
    })?;
    Ok(("decisioning.sends".to_owned(), go as i64, rows_of("sends")?))
}

/// Model versions from before the oldest that somebody decided by since.
fn thin_models(end: TimestampWithTimeZone) -> Result<Thinned> {
    let go = query::write(
        "WITH oldest AS MATERIALIZED (
             SELECT l.campaign, least(
                 l.model_version,
                 (SELECT max(m.model_version) FROM decisioning._model m WHERE m.campaign = l.campaign AND m.created_at <= $1),
                 (SELECT min(d.model_version) FROM decisioning.decisions d
                  WHERE d.campaign = l.campaign AND d.decision_id >= decisioning._uuid_floor($1)
                    AND d.decision_id < decisioning._uuid_floor($1 + interval '1 month'))) AS model_version
             FROM decisioning._learner l),
         parts AS (
             DELETE FROM decisioning._model_part p USING oldest o WHERE p.campaign = o.campaign AND p.model_version < o.model_version),
         gone AS (
             DELETE FROM decisioning._model m USING oldest o WHERE m.campaign = o.campaign AND m.model_version < o.model_version RETURNING 1)
         SELECT count(*) FROM gone",
        &[end.into()],
        |row| row.value::<i64>(1),
    )?;
    Ok(("decisioning.models".to_owned(), go.first().copied().unwrap_or(0), rows_of("_model")?))
}

fn rows_of(table: &str) -> Result<i64> {
    let sql = format!("SELECT count(*) FROM decisioning.{table}");
    Ok(query::write(&sql, &[], |row| row.value(1))?.first().copied().unwrap_or(0))
}

/// Keeps until when decisions are missing.
fn remember(months: &[Month]) -> Result<()> {
    let ends: Vec<TimestampWithTimeZone> = months.iter().map(|month| month.end).collect();
    query::execute(
        "INSERT INTO decisioning._thinned AS t (until) SELECT max(n.at) FROM unnest($1::timestamptz[]) AS n(at)
         ON CONFLICT (singleton) DO UPDATE SET until = greatest(t.until, excluded.until)",
        &[ends.into()],
    )?;
    Ok(())
}

#[pg_extern(sql = false)]
fn thin_log(
    before: Option<TimestampWithTimeZone>,
) -> std::result::Result<
    TableIterator<'static, (name!(relation, String), name!(removed, i64), name!(kept, i64))>,
    ErrorReport,
> {
    let before = required(before, "before")?;
    let thinned = as_owner(|| {
        require_read_committed("thinning the log")?;
        check(before)?;
        lock_learners()?;
        lock_shape()?;
        // What is needed may have changed while others had the locks.
        latest(|| check(before))?;
        let (months, published) = (months(before)?, is_published()?);
        let mut thinned = Vec::new();
        let mut rewritten = Vec::new();
        for month in &months {
            let found = if published { month.delete()? } else { month.rewrite()? };
            rewritten.extend((found.is_some() && !published).then_some(month));
            thinned.extend(found);
        }
        if !rewritten.is_empty() {
            lock_log(&rewritten)?;
            rewritten.iter().try_for_each(|month| month.replace())?;
        }
        if !thinned.is_empty() {
            remember(&months)?;
        }
        if let Some(end) = months.iter().map(|month| month.end).max() {
            thinned.extend([thin_sends(end)?, thin_models(end)?].into_iter().filter(|(_, removed, _)| *removed > 0));
        }
        thinned.sort();
        Ok(thinned)
    })?;
    Ok(TableIterator::new(thinned))
}
