//! Feedback: what senders say became of sends.

use std::collections::{BTreeMap, HashMap};

use decisioning_core::delivery::{Report, Status};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::Uuid;

use super::recheck::DEADLINE;
use super::state::{amend_contacts, begin, cancel_suppressed, tick};
use crate::api::{budget, guardrail, now};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner_by_key;
use crate::pg::query;
use crate::pg::settings::{self, micros, timestamp};
use crate::pg::table::is_written;

/// Clocks differ; an event later than this after now is a mistake.
const FUTURE_MICROS: i64 = 24 * 3_600_000_000;

/// What a sender says about a send.
#[derive(Clone, Debug)]
pub struct Told {
    pub decision_id: Uuid,
    pub report: Report,
    pub reason: Option<String>,
}

/// What recording has changed.
#[derive(Default)]
pub struct Recorded {
    pub changed: i64,
    /// Of decisions that are not in the log.
    pub unknown: Vec<Uuid>,
}

/// A send as known so far.
struct Known {
    report: Report,
    send_at: TimestampWithTimeZone,
    customer_id: String,
    channel: Option<String>,
}

fn parse(status: &str) -> Result<Status> {
    Status::parse(status).filter(|status| status.is_feedback()).ok_or_else(|| {
        let known: Vec<&str> = Status::feedback().collect();
        Error::invalid(format!("unknown status of a delivery \"{status}\""))
            .hint(format!("Statuses are {}.", known.join(", ")))
    })
}

/// `now` in microseconds.
///
/// # Errors
/// A time in the future, or none.
pub fn told(
    decision_id: Uuid,
    status: Status,
    occurred_at: TimestampWithTimeZone,
    reason: Option<String>,
    now: i64,
) -> Result<Told> {
    let at = micros(occurred_at).filter(|at| *at <= now + FUTURE_MICROS);
    let at = at.ok_or_else(|| Error::invalid("occurred_at lies in the future").hint("Check the sender's clock."))?;
    Ok(Told { decision_id, report: Report { status, at }, reason })
}

/// Records what senders say, in whatever order and however often they say it. Runs as the owner.
pub fn record(all: &[Told]) -> Result<Recorded> {
    if all.is_empty() {
        return Ok(Recorded::default());
    }
    begin_reports()?;
    let mut by_send: BTreeMap<[u8; 16], Vec<&Told>> = BTreeMap::new();
    for told in all {
        by_send.entry(*told.decision_id.as_bytes()).or_default().push(told);
    }
    let ids: Vec<Uuid> = by_send.keys().map(|id| Uuid::from_bytes(*id)).collect();
    let mut known = lock(&ids)?;
    if known.len() < ids.len() {
        let missing = |known: &HashMap<Uuid, Known>| -> Vec<Uuid> {
            ids.iter().filter(|id| !known.contains_key(id)).copied().collect()
        };
        // Whoever is just dispatching one has locked it and will wait for the clock: he goes first.
        query::write(
            "SELECT FROM decisioning._outbox o WHERE o.decision_id = ANY ($1) FOR UPDATE",
            &[missing(&known).into()],
            |_| Ok(()),
        )?;
        known = lock(&ids)?;
        if known.len() < ids.len() {
            take_from_log(missing(&known), tick()?)?;
            known = lock(&ids)?;
        }
    }
    let unknown = ids.iter().filter(|id| !known.contains_key(id)).copied().collect();

    let mut changes: Vec<(Uuid, &Known, Report, Option<String>)> = Vec::new();
    for (id, told) in by_send {
        let id = Uuid::from_bytes(id);
        let Some(before) = known.get(&id) else { continue };
        let (mut after, mut reason) = (before.report, None);
        for told in told {
            let then = after.then(told.report);
            if then != after {
                (after, reason) = (then, told.reason.clone());
            }
        }
        if after != before.report {
            changes.push((id, before, after, reason));
        }
    }
    let mut suppressed = Vec::new();
    for (_, before, after, reason) in changes.iter().filter(|(_, _, after, _)| after.status.suppresses()) {
        let reason = match reason {
            Some(reason) => format!("{}: {reason}", after.status.as_str()),
            None => after.status.as_str().to_owned(),
        };
        let channel = before.channel.as_deref();
        suppressed.push((guardrail::suppress(&before.customer_id, channel, None, None, Some(&reason))?, channel));
    }
    let ticked_at = tick()?;
    write(&changes, ticked_at)?;
    let mut cancelled = Vec::new();
    for (customer_id, channel) in suppressed {
        cancelled.extend(cancel_suppressed(&customer_id, None, channel, ticked_at)?);
    }
    amend(&changes, &cancelled)?;
    Ok(Recorded { changed: changes.len() as i64, unknown })
}

/// Waits for the turn to say what became of sends: to be called before any send is locked, and before [`tick`]. Who has it locks sends and
/// then the clock, again and again until his transaction ends; of two of them each could wait for the other. Who may have the clock already,
/// such as a worker that has claimed what he tells of, does not wait: whoever has the turn may be waiting for it. Runs as the owner.
pub fn begin_reports() -> Result<()> {
    if is_written(c"_send_clock")? {
        return Ok(());
    }
    guardrail::lock_suppressions()?;
    query::execute("LOCK TABLE decisioning._delivery_mark IN SHARE UPDATE EXCLUSIVE MODE", &[])?;
    begin()
}

/// Sends as they stand, locked in the order of their ids.
fn lock(ids: &[Uuid]) -> Result<HashMap<Uuid, Known>> {
    let rows = query::write(
        "SELECT s.decision_id, s.status, s.occurred_at, s.send_at, s.customer_id, s.channel FROM decisioning.sends s
         WHERE s.decision_id = ANY ($1) ORDER BY s.decision_id FOR UPDATE",
        &[ids.to_vec().into()],
        |row| {
            let status = Status::parse(&row.value::<String>(2)?);
            let status = status.ok_or_else(|| Error::corrupted("a send has an unknown status"))?;
            let known = Known {
                report: Report { status, at: micros(row.value(3)?).unwrap_or(i64::MAX) },
                send_at: row.value(4)?,
                customer_id: row.value(5)?,
                channel: row.get(6)?,
            };
            Ok((row.value(1)?, known))
        },
    )?;
    Ok(rows.into_iter().collect())
}

/// Sends that were made by whoever read the decisions elsewhere, such as in open_decisions.
fn take_from_log(decision_ids: Vec<Uuid>, ticked_at: TimestampWithTimeZone) -> Result<()> {
    query::execute(
        &format!(
        "WITH taken AS (
             INSERT INTO decisioning.sends (decision_id, campaign, customer_id, action, channel, content, send_at, expires_at,
                 delivery, status, occurred_at, queued_at, updated_at)
             SELECT d.decision_id, d.campaign, d.customer_id, d.action, a.channel, d.content, d.send_at,
                    {DEADLINE}, 'synced', 'queued', d.send_at, $2, $3
             FROM unnest($1::uuid[]) AS n(decision_id)
             JOIN decisioning.decisions d ON d.decision_id = n.decision_id
             JOIN decisioning.campaigns c ON c.campaign = d.campaign
             JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action_id = d.action_id
             WHERE d.send_at IS NOT NULL AND d.origin = 'live'
             ON CONFLICT (decision_id) DO NOTHING
             RETURNING decision_id)
         DELETE FROM decisioning._outbox o USING taken t WHERE o.decision_id = t.decision_id"
        ),
        &[decision_ids.into(), now()?.into(), ticked_at.into()],
    )?;
    Ok(())
}

/// What sends have become, in budgets and caps; `cancelled` are those that will not be made because of it.
fn amend(changes: &[(Uuid, &Known, Report, Option<String>)], cancelled: &[Uuid]) -> Result<()> {
    let was_counted = |before: &Known| before.report.status.counts();
    let lost = changes.iter().filter(|(_, before, after, _)| was_counted(before) && !after.status.counts());
    let found = changes.iter().filter(|(_, before, after, _)| !was_counted(before) && after.status.counts());
    let found: Vec<(Uuid, Option<TimestampWithTimeZone>)> =
        found.map(|(id, before, ..)| (*id, Some(before.send_at))).collect();
    // A send that failed was paid for, and counts in learning and lift as if it had not: it only leaves caps.
    if !found.is_empty() {
        budget::take_again(&found.iter().map(|(id, _)| *id).collect::<Vec<_>>())?;
    }
    budget::give_back(cancelled)?;
    let released = lost.map(|(id, ..)| *id).chain(cancelled.iter().copied());
    amend_contacts(&released.map(|id| (id, None)).chain(found).collect::<Vec<_>>())
}

fn write(changes: &[(Uuid, &Known, Report, Option<String>)], ticked_at: TimestampWithTimeZone) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let times: Vec<TimestampWithTimeZone> =
        changes.iter().map(|(_, _, after, _)| timestamp(after.at)).collect::<Result<_>>()?;
    query::execute(
        "UPDATE decisioning.sends s SET status = n.status, occurred_at = n.occurred_at, reason = n.reason, updated_at = $5
         FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[]) AS n(decision_id, status, occurred_at, reason)
         WHERE s.decision_id = n.decision_id",
        &[
            changes.iter().map(|(id, ..)| *id).collect::<Vec<_>>().into(),
            changes.iter().map(|(_, _, after, _)| after.status.as_str()).collect::<Vec<_>>().into(),
            times.into(),
            changes.iter().map(|(.., reason)| reason.clone()).collect::<Vec<_>>().into(),
            ticked_at.into(),
        ],
    )?;
    Ok(())
}

fn refuse_unknown(recorded: &Recorded) -> Result<()> {
    match recorded.unknown.first() {
        None => Ok(()),
        Some(id) => {
            Err(Error::missing(format!("decision {id} has no send"))
                .hint("Give the decision_id that came with the send."))
        }
    }
}

#[pg_extern(sql = false)]
fn record_delivery(
    decision_id: Option<Uuid>,
    status: Option<&str>,
    occurred_at: Option<TimestampWithTimeZone>,
    reason: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let decision_id = required(decision_id, "decision_id")?;
    let status = parse(required(status, "status")?)?;
    let occurred_at = occurred_at.map_or_else(now, Ok)?;
    let told = told(decision_id, status, occurred_at, reason.map(str::to_owned), settings::now_micros()?)?;
    let status = as_owner_by_key(|| {
        refuse_unknown(&record(&[told])?)?;
        query::write(
            "SELECT s.status FROM decisioning.sends s WHERE s.decision_id = $1",
            &[decision_id.into()],
            |row| row.value::<String>(1),
        )
    })?;
    Ok(status.into_iter().next().unwrap_or_default())
}

#[pg_extern(sql = false)]
fn record_deliveries(
    decision_ids: Option<Vec<Option<Uuid>>>,
    statuses: Option<Vec<Option<String>>>,
    occurred_at: Option<Vec<Option<TimestampWithTimeZone>>>,
    reasons: Option<Vec<Option<String>>>,
) -> std::result::Result<i64, ErrorReport> {
    let (ids, statuses) = (required(decision_ids, "decision_ids")?, required(statuses, "statuses")?);
    let lengths = [Some(statuses.len()), occurred_at.as_ref().map(Vec::len), reasons.as_ref().map(Vec::len)];
    if lengths.into_iter().flatten().any(|length| length != ids.len()) {
        return Err(Error::invalid("arrays must have the same length").into());
    }
    let (now, now_micros) = (now()?, settings::now_micros()?);
    let mut all = Vec::with_capacity(ids.len());
    for (at, (id, status)) in ids.into_iter().zip(statuses).enumerate() {
        let status = parse(&required(status, "statuses element")?)?;
        let when = occurred_at.as_ref().and_then(|times| times[at]).unwrap_or(now);
        let reason = reasons.as_ref().and_then(|reasons| reasons[at].clone());
        all.push(told(required(id, "decision_ids element")?, status, when, reason, now_micros)?);
    }
    let changed = as_owner_by_key(|| {
        let recorded = record(&all)?;
        refuse_unknown(&recorded)?;
        Ok(recorded.changed)
    })?;
    Ok(changed)
}
