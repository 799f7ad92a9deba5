//! Truing up: what decisions hold of their budgets becomes what they did cost.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::Uuid;

use super::slots::charge;
use crate::api::campaign::Campaign;
use crate::api::delivery::tick;
use crate::api::learn::Reached;
use crate::api::log::{reached_by, rewards};
use crate::pg::error::Result;
use crate::pg::{query, settings};

/// Settles decisions whose window has closed, and those that new outcomes or a change of identity have reached. What a
/// decision is charged follows from the log alone, so that doing it twice changes nothing. It comes late in `learn`, since
/// nobody can send under a budget while its slots are locked, and before contacts are amended, since deciders lock slots before
/// assignments. Runs as the owner.
pub fn settle(campaign: &Campaign, new: Reached, now: i64) -> Result<()> {
    if campaign.budgets.is_empty() {
        return Ok(());
    }
    let now = settings::timestamp(now)?;
    if new.outcomes.is_empty() && new.decisions.is_empty() && !any_due(campaign, now)? {
        return Ok(());
    }
    // The clock of sends comes first, as for whoever gives back.
    tick()?;
    let sql = format!(
        "WITH {reached},
         touched AS MATERIALIZED (
             SELECT r.decision_id FROM decisioning._reservation r
             WHERE r.campaign = $1 AND NOT r.closed AND r.closes_at <= $2
             UNION
             SELECT f.decision_id FROM reached f
             UNION
             SELECT n.decision_id FROM unnest($4::uuid[]) AS n(decision_id)),
         {rewards},
         charges AS MATERIALIZED (
             SELECT r.decision_id, r.budget, r.starts_at, r.closed AS was_closed, r.charged AS before, c.closed,
                    CASE WHEN c.closed THEN c.cost ELSE greatest(r.reserved, c.cost) END AS after
             FROM touched t
             JOIN decisioning._reservation r ON r.decision_id = t.decision_id AND NOT r.cancelled
             LEFT JOIN rewards w ON w.decision_id = t.decision_id
             CROSS JOIN LATERAL (
                 SELECT r.closes_at <= $2 AS closed,
                        least(9e18, round(1e6 * (r.on_send + CASE WHEN w.given
                            THEN r.on_goal + r.on_goal_share * greatest(w.worth, 0) ELSE 0 END)))::bigint AS cost) AS c),
         settled AS (
             UPDATE decisioning._reservation r SET charged = c.after, closed = c.closed
             FROM charges c
             WHERE r.decision_id = c.decision_id AND r.budget = c.budget
               AND (c.before, c.was_closed) IS DISTINCT FROM (c.after, c.closed)
               -- Whoever has just given it back has taken it out of the budget as it was.
               AND NOT r.cancelled AND r.charged = c.before AND r.closed = c.was_closed
             RETURNING c.budget, c.starts_at, c.after - c.before AS more,
                       CASE WHEN c.closed THEN c.after ELSE 0 END - CASE WHEN c.was_closed THEN c.before ELSE 0 END AS settled)
         SELECT s.budget, s.starts_at, sum(s.more)::bigint, sum(s.settled)::bigint
         FROM settled s GROUP BY s.budget, s.starts_at ORDER BY s.budget, s.starts_at",
        reached = reached_by("$3", "true"),
        rewards = rewards(
            "touched t JOIN decisioning.decisions d ON d.decision_id = t.decision_id",
            "d.decision_id BETWEEN (SELECT min(t.decision_id::text)::uuid FROM touched t)
                 AND (SELECT max(t.decision_id::text)::uuid FROM touched t)",
            "true",
        ),
    );
    let arguments = [campaign.campaign.as_str().into(), now.into(), new.outcomes.into(), new.decisions.into()];
    let changes = query::write_large(&sql, &arguments, |row| {
        Ok((
            row.value::<String>(1)?,
            row.value::<TimestampWithTimeZone>(2)?,
            row.value::<i64>(3)?,
            row.value::<i64>(4)?,
        ))
    })?;
    for (budget, starts_at, more, settled) in changes.into_iter().filter(|change| (change.2, change.3) != (0, 0)) {
        charge(&campaign.campaign, &budget, starts_at, more, settled)?;
    }
    Ok(())
}

/// Forgets what decisions of half a year ago were charged: outcomes that are only now corrected change no budget any more.
/// Runs as the owner.
pub fn forget_old_reservations() -> Result<()> {
    query::execute(
        "DELETE FROM decisioning._reservation r
         WHERE r.decision_id < decisioning._uuid_floor($1 - interval '180 days') AND r.closed",
        &[crate::api::now()?.into()],
    )?;
    Ok(())
}

fn any_due(campaign: &Campaign, now: TimestampWithTimeZone) -> Result<bool> {
    let due = query::write(
        "SELECT EXISTS (SELECT FROM decisioning._reservation r WHERE r.campaign = $1 AND NOT r.closed AND r.closes_at <= $2)",
        &[campaign.campaign.as_str().into(), now.into()],
        |row| row.value::<bool>(1),
    )?;
    Ok(due.contains(&true))
}

/// Gives back what decisions hold whose sends will not be made; they are not charged any more. Runs as the owner.
pub fn give_back(decision_ids: &[Uuid]) -> Result<()> {
    if decision_ids.is_empty() {
        return Ok(());
    }
    let given = query::write(
        "WITH held AS MATERIALIZED (
             SELECT r.decision_id, r.campaign, r.budget, r.starts_at, r.charged, r.closed FROM decisioning._reservation r
             WHERE r.decision_id = ANY ($1) AND NOT r.cancelled FOR UPDATE),
         given AS (
             UPDATE decisioning._reservation r SET charged = 0, closed = true, cancelled = true
             FROM held h WHERE r.decision_id = h.decision_id AND r.budget = h.budget)
         SELECT h.campaign, h.budget, h.starts_at, sum(h.charged)::bigint, sum(CASE WHEN h.closed THEN h.charged ELSE 0 END)::bigint
         FROM held h GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        &[decision_ids.to_vec().into()],
        |row| {
            Ok((
                row.value::<String>(1)?,
                row.value::<String>(2)?,
                row.value::<TimestampWithTimeZone>(3)?,
                row.value::<i64>(4)?,
                row.value::<i64>(5)?,
            ))
        },
    )?;
    given.into_iter().try_for_each(|(campaign, budget, starts_at, held, settled)| {
        charge(&campaign, &budget, starts_at, -held, -settled)
    })
}

/// Decisions whose sends were made after all are charged again, when they are settled. Runs as the owner.
pub fn take_again(decision_ids: &[Uuid]) -> Result<()> {
    query::execute(
        "UPDATE decisioning._reservation r SET closed = false, cancelled = false
         WHERE r.decision_id = ANY ($1) AND r.cancelled",
        &[decision_ids.to_vec().into()],
    )?;
    Ok(())
}
