//! What every change of sends has to do: the clock, contacts that count for caps, budgets, suppressions.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::Uuid;

use crate::api::guardrail::priority;
use crate::api::{budget, now};
use crate::pg::error::{Error, Result};
use crate::pg::query;

/// Whether a send `m` is made, or with whoever makes it, as SQL.
pub const IS_MADE: &str = "NOT (m.status = 'queued' AND m.delivery = 'claimed')";

/// Whether caps do not count a send `m`, as SQL; see `Status::counts`.
pub const IS_RELEASED: &str = "m.status IN ('cancelled', 'preempted', 'expired', 'failed', 'soft_bounced', 'bounced')";

/// Whether they do.
pub const IS_COUNTED: &str =
    "m.status NOT IN ('cancelled', 'preempted', 'expired', 'failed', 'soft_bounced', 'bounced')";

/// Days without a word after which a send is taken for made.
const ASSUMED_AFTER_DAYS: f64 = 3.0;

/// To be called by whoever locks sends before he ticks: who forgets a customer waits for him, or he for that. Runs as the owner.
pub fn begin() -> Result<()> {
    query::execute("LOCK TABLE decisioning._send_clock IN ROW EXCLUSIVE MODE", &[])?;
    Ok(())
}

/// The time of what is changed next in this transaction, later than that of all that others have changed: they wait from here
/// until it ends. Runs as the owner.
pub fn tick() -> Result<TimestampWithTimeZone> {
    let ticked = query::write(
        "INSERT INTO decisioning._send_clock AS c (singleton, ticked_at) VALUES (true, $1)
         ON CONFLICT (singleton) DO UPDATE SET ticked_at = greatest(excluded.ticked_at, c.ticked_at + interval '1 microsecond')
         RETURNING c.ticked_at",
        &[now()?.into()],
        |row| row.value(1),
    )?;
    ticked.into_iter().next().ok_or_else(|| Error::corrupted("the clock of sends does not tick"))
}

/// When contacts are that caps count from now on; `None` for those that they do not. Deciders who are at these customers wait, or
/// find that something has changed. Runs as the owner, after [`tick`].
pub fn amend_contacts(contacts: &[(Uuid, Option<TimestampWithTimeZone>)]) -> Result<()> {
    if contacts.is_empty() {
        return Ok(());
    }
    let (ids, times): (Vec<Uuid>, Vec<Option<TimestampWithTimeZone>>) = contacts.iter().copied().unzip();
    query::execute(
        "WITH amended AS MATERIALIZED (
             SELECT d.customer_id, d.campaign, array_agg(n.decision_id) AS decisions, array_agg(n.at) AS times,
                    array_agg(d.action_id) AS actions
             FROM unnest($1::uuid[], $2::timestamptz[]) AS n(decision_id, at)
             JOIN decisioning.decisions d ON d.decision_id = n.decision_id
             GROUP BY 1, 2),
         locked AS MATERIALIZED (
             SELECT s.customer_id, s.campaign
             FROM decisioning._assignment s JOIN amended a ON a.customer_id = s.customer_id AND a.campaign = s.campaign
             ORDER BY s.customer_id COLLATE \"C\", s.campaign FOR UPDATE OF s)
         UPDATE decisioning._assignment s
         SET (contact_decisions, contact_times, contact_actions) = (
             SELECT array_agg(c.decision_id ORDER BY c.decision_id), array_agg(c.at ORDER BY c.decision_id),
                    array_agg(c.action_id ORDER BY c.decision_id)
             FROM (SELECT k.decision_id, k.at, k.action_id
                   FROM unnest(s.contact_decisions, s.contact_times, s.contact_actions) AS k(decision_id, at, action_id)
                   WHERE k.decision_id <> ALL (a.decisions)
                   UNION ALL
                   SELECT n.decision_id, n.at, n.action_id
                   FROM unnest(a.decisions, a.times, a.actions) AS n(decision_id, at, action_id)
                   WHERE n.at IS NOT NULL) AS c)
         FROM amended a JOIN locked l ON l.customer_id = a.customer_id AND l.campaign = a.campaign
         WHERE s.customer_id = a.customer_id AND s.campaign = a.campaign",
        &[ids.into(), times.into()],
    )?;
    Ok(())
}

/// Takes sends that will not be made out of budgets and caps. Runs as the owner, after [`tick`].
pub fn release(decision_ids: &[Uuid]) -> Result<()> {
    budget::give_back(decision_ids)?;
    amend_contacts(&decision_ids.iter().map(|id| (*id, None)).collect::<Vec<_>>())
}

/// Cancels what is queued for a customer, who must not be sent anything from now on: by a campaign or any, on a channel or any.
/// Returns what is to be released. Whoever is just dispatching or claiming has ticked before, or looks at suppressions after. Runs as
/// the owner, after [`tick`], with the suppression written.
pub fn cancel_suppressed(
    customer_id: &str,
    campaign: Option<&str>,
    channel: Option<&str>,
    ticked_at: TimestampWithTimeZone,
) -> Result<Vec<Uuid>> {
    query::write(
        "WITH suppressed AS MATERIALIZED (
             SELECT s.decision_id FROM decisioning.sends s
             WHERE s.status = 'queued'
               AND s.customer_id IN (SELECT $1 UNION ALL SELECT b.alias FROM decisioning._log_alias b WHERE b.customer_id = $1)
               AND ($2 IS NULL OR s.campaign = $2) AND ($3 IS NULL OR s.channel = $3)
             FOR UPDATE SKIP LOCKED)
         UPDATE decisioning.sends s SET status = 'cancelled', reason = 'suppression', occurred_at = $4, updated_at = $5
         FROM suppressed p WHERE s.decision_id = p.decision_id
         RETURNING s.decision_id",
        &[customer_id.into(), campaign.into(), channel.into(), now()?.into(), ticked_at.into()],
        |row| row.value(1),
    )
}

/// What time alone changes: leases that have ended, sends that nobody claimed in time or said a word about for days. Runs as the
/// owner.
pub fn settle() -> Result<()> {
    let now = now()?;
    let due = query::write(
        // Each by its own index: claims look here every time, and as a rule nothing is due.
        "SELECT EXISTS (SELECT FROM decisioning.sends s WHERE s.status = 'claimed' AND s.claimed_until <= $1)
             OR EXISTS (SELECT FROM decisioning.sends s
                        WHERE s.status = 'queued' AND s.delivery = 'claimed' AND s.expires_at <= $1)
             OR EXISTS (SELECT FROM decisioning.sends s
                        WHERE (s.status = 'queued' AND s.delivery = 'synced' OR s.status = 'unknown')
                          AND s.send_at <= $1 - $2 * interval '1 day'
                          AND greatest(s.send_at, s.claimed_until) <= $1 - $2 * interval '1 day')",
        &[now.into(), ASSUMED_AFTER_DAYS.into()],
        |row| row.value::<bool>(1),
    )?;
    if due != [true] {
        return Ok(());
    }
    let ticked_at = tick()?;
    let expired = query::write(
        "WITH late AS MATERIALIZED (
             SELECT s.decision_id FROM decisioning.sends s
             WHERE s.status = 'queued' AND s.delivery = 'claimed' AND s.expires_at <= $1 FOR UPDATE SKIP LOCKED)
         UPDATE decisioning.sends s SET status = 'expired', reason = 'not claimed in time', occurred_at = $1, updated_at = $2
         FROM late l WHERE s.decision_id = l.decision_id
         RETURNING s.decision_id",
        &[now.into(), ticked_at.into()],
        |row| row.value(1),
    )?;
    query::execute(
        "WITH ended AS MATERIALIZED (
             SELECT s.decision_id FROM decisioning.sends s
             WHERE s.status = 'claimed' AND s.claimed_until <= $1 FOR UPDATE SKIP LOCKED)
         UPDATE decisioning.sends s SET status = 'unknown', reason = 'the lease ended', occurred_at = $1, updated_at = $2
         FROM ended e WHERE s.decision_id = e.decision_id",
        &[now.into(), ticked_at.into()],
    )?;
    query::execute(
        "WITH silent AS MATERIALIZED (
             SELECT s.decision_id FROM decisioning.sends s
             WHERE (s.status = 'queued' AND s.delivery = 'synced' OR s.status = 'unknown')
               AND s.send_at <= $1 - $3 * interval '1 day'
               AND greatest(s.send_at, s.claimed_until) <= $1 - $3 * interval '1 day' FOR UPDATE SKIP LOCKED)
         UPDATE decisioning.sends s SET status = 'assumed_sent', occurred_at = $1, updated_at = $2
         FROM silent q WHERE s.decision_id = q.decision_id",
        &[now.into(), ticked_at.into(), ASSUMED_AFTER_DAYS.into()],
    )?;
    release(&expired)
}

/// Decisions that are carried out by other means leave the outbox. Runs as the owner, before [`tick`]: whoever is just dispatching one has
/// locked it.
pub fn clear_outbox() -> Result<()> {
    query::execute(
        "WITH undispatched AS MATERIALIZED (
             SELECT c.campaign, $1 - greatest(c.send_within, interval '2 days') AS before
             FROM decisioning.campaigns c
             WHERE NOT EXISTS (SELECT FROM decisioning.sends s WHERE s.campaign = c.campaign))
         DELETE FROM decisioning._outbox o
         USING undispatched u WHERE o.campaign = u.campaign AND o.send_at <= u.before",
        &[now()?.into()],
    )?;
    Ok(())
}

/// Housekeeping between dispatches: what time alone changes. Runs as the owner.
pub fn keep_house() -> Result<()> {
    priority::forget_settled()?;
    settle()
}
