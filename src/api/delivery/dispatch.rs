//! Dispatch: what is due goes from the outbox into the table of sends.

use decisioning_core::delivery::Status as Outcome;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::Uuid;

use super::recheck::{contend, is_outdated, recheck, Verdict, Waiting, DEADLINE};
use super::state::{amend_contacts, begin, release, settle, tick};
use crate::api::campaign::{self, Campaign, Status};
use crate::api::guardrail::suppressed;
use crate::api::mode;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::settings::{self, timestamp, Mode};
use crate::pg::{interrupt, query};

/// A larger batch would hold too much in memory at once.
const LARGEST_BATCH: i32 = 100_000;

/// What a call has done.
#[derive(Clone, Copy, Default)]
struct Counts {
    queued: i64,
    cancelled: i64,
    preempted: i64,
    expired: i64,
    put_off: i64,
}

/// A row of the outbox, locked.
struct Posted {
    /// Where the row is.
    row: String,
    send: Waiting,
}

#[pg_extern(sql = false)]
fn dispatch(
    campaign: Option<&str>,
    batch_size: Option<i32>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(queued, i64),
            name!(cancelled, i64),
            name!(preempted, i64),
            name!(expired, i64),
            name!(put_off, i64),
            name!(more, bool),
        ),
    >,
    ErrorReport,
> {
    let size = required(batch_size, "batch_size")?;
    if !(1..=LARGEST_BATCH).contains(&size) {
        return Err(Error::invalid(format!("batch_size must be between 1 and {LARGEST_BATCH}")).into());
    }
    let campaigns = as_owner(|| due_campaigns(campaign))?;
    let mut left = size as usize;
    let mut counts = Counts::default();
    let mut more = false;
    for name in campaigns {
        if left == 0 {
            more = true;
            break;
        }
        let taken = dispatch_campaign(&name, left, &mut counts)?;
        more |= taken == left;
        left -= taken;
    }
    as_owner(settle)?;
    let Counts { queued, cancelled, preempted, expired, put_off } = counts;
    Ok(TableIterator::once((queued, cancelled, preempted, expired, put_off, more)))
}

#[pg_extern(sql = false)]
fn _due_campaigns(campaign: Option<&str>) -> std::result::Result<SetOfIterator<'static, String>, ErrorReport> {
    Ok(SetOfIterator::new(as_owner(|| due_campaigns(campaign))?))
}

/// Campaigns with something due. Runs as the owner.
fn due_campaigns(campaign: Option<&str>) -> Result<Vec<String>> {
    let now = crate::api::now()?;
    let Some(name) = campaign else {
        return query::write(
            "SELECT DISTINCT o.campaign FROM decisioning._outbox o WHERE o.send_at <= $1 ORDER BY 1",
            &[now.into()],
            |row| row.value(1),
        );
    };
    campaign::load(name)?;
    // As the first one is enough, this does not look at all that wait.
    query::write(
        "SELECT $1::text WHERE EXISTS (SELECT FROM decisioning._outbox o WHERE o.send_at <= $2 AND o.campaign = $1)",
        &[name.into(), now.into()],
        |row| row.value(1),
    )
}

/// Dispatches at most `size` sends; returns how many it took. Those of a paused campaign wait.
fn dispatch_campaign(name: &str, size: usize, counts: &mut Counts) -> Result<usize> {
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    if mode::in_force(&campaign) == Mode::Preview {
        pgrx::notice!("campaign \"{name}\" is in preview mode: nothing is dispatched");
        return Ok(0);
    }
    if matches!(campaign.status, Status::Paused | Status::Draft) {
        return Ok(0);
    }
    let now = settings::now_micros()?;
    let posted = as_owner(|| {
        begin()?;
        forget_what_was_never_dispatched(name)?;
        take_due(name, size)
    })?;
    if posted.is_empty() {
        return Ok(0);
    }
    interrupt::check();
    let sends: Vec<Waiting> = posted.iter().map(|posted| posted.send.clone()).collect();
    let rechecked = recheck(&campaign, &sends, now)?;
    interrupt::check();
    as_owner(|| {
        let ticked_at = tick()?;
        // Guardrails have changed meanwhile: what is due stays so, for the next call.
        if is_outdated(&campaign)? {
            return Ok(0);
        }
        let mut verdicts = contend(&campaign, rechecked)?;
        suppress_latest(&campaign, &sends, &mut verdicts, now)?;
        write(&posted, &verdicts, ticked_at, counts)?;
        Ok(posted.len())
    })
}

/// Decisions of before a campaign was dispatched for the first time, whose moment is over, were carried out by other means, or
/// not at all. Runs as the owner.
fn forget_what_was_never_dispatched(campaign: &str) -> Result<()> {
    query::execute(
        &format!(
            "DELETE FROM decisioning._outbox o
             USING decisioning.decisions d, decisioning.campaigns c
             WHERE o.campaign = $1 AND NOT EXISTS (SELECT FROM decisioning.sends s WHERE s.campaign = $1)
               AND d.decision_id = o.decision_id AND c.campaign = o.campaign AND {DEADLINE} <= $2"
        ),
        &[campaign.into(), crate::api::now()?.into()],
    )?;
    Ok(())
}

/// Locks what is due and nobody else is at. Runs as the owner.
///
/// What is due first is found without sorting all that waits. Where others have locked some of it, all is looked at.
fn take_due(campaign: &str, size: usize) -> Result<Vec<Posted>> {
    let first: Vec<String> = query::write(
        "SELECT o.ctid::text FROM decisioning._outbox o
         WHERE o.campaign = $1 AND o.send_at <= $2 ORDER BY o.send_at, o.decision_id LIMIT $3",
        &[campaign.into(), crate::api::now()?.into(), (size as i64).into()],
        |row| row.value(1),
    )?;
    let may_be_more = first.len() == size;
    let found = lock_due(campaign, size, Some(first))?;
    if found.len() < size && may_be_more {
        return lock_due(campaign, size, None);
    }
    Ok(found)
}

/// Of all rows, or of those at these places.
fn lock_due(campaign: &str, size: usize, rows: Option<Vec<String>>) -> Result<Vec<Posted>> {
    let condition = if rows.is_some() { "o.ctid = ANY ($4::text[]::tid[])" } else { "true" };
    let mut arguments = vec![campaign.into(), crate::api::now()?.into(), (size as i64).into()];
    arguments.extend(rows.map(Into::into));
    query::write(
        &format!(
            "WITH due AS MATERIALIZED (
                 SELECT o.ctid, o.decision_id, o.send_at FROM decisioning._outbox o
                 WHERE o.campaign = $1 AND o.send_at <= $2 AND {condition}
                 ORDER BY o.send_at, o.decision_id LIMIT $3 FOR UPDATE SKIP LOCKED)
             SELECT {}, due.ctid::text
             FROM due
             JOIN decisioning.decisions d ON d.decision_id = due.decision_id
             JOIN decisioning.campaigns c ON c.campaign = d.campaign
             JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action_id = d.action_id
             ORDER BY d.decision_id",
            Waiting::columns("due.send_at")
        ),
        &arguments,
        |row| Ok(Posted { send: Waiting::read(row)?, row: row.value(8)? }),
    )
}

/// Who was suppressed while everything was looked at is not sent anything. Runs as the owner, after [`tick`].
pub fn suppress_latest(campaign: &Campaign, sends: &[Waiting], verdicts: &mut [Verdict], now: i64) -> Result<()> {
    let customers: Vec<&str> = sends
        .iter()
        .zip(&*verdicts)
        .map(|(send, verdict)| verdict.customer_id().unwrap_or(&send.customer_id))
        .collect();
    let channel_of = |at: usize| campaign.action(sends[at].action_id)?.dimensions.get("channel").map(String::as_str);
    let now_suppressed = suppressed(&campaign.campaign, &customers, now, channel_of)?;
    for (verdict, suppressed) in verdicts.iter_mut().zip(now_suppressed) {
        if suppressed && verdict.customer_id().is_some() {
            *verdict = Verdict::cancelled("suppression");
        }
    }
    Ok(())
}

/// Runs as the owner, after [`tick`].
fn write(posted: &[Posted], verdicts: &[Verdict], ticked_at: TimestampWithTimeZone, counts: &mut Counts) -> Result<()> {
    let (mut later, mut moved, mut done, mut entries) = (Vec::new(), Vec::new(), Vec::new(), Entries::default());
    for (Posted { row, send }, verdict) in posted.iter().zip(verdicts) {
        match verdict {
            Verdict::Later { at, .. } => {
                counts.put_off += 1;
                moved.push(row.clone());
                later.push((send.decision_id, Some(timestamp(*at)?)));
                continue;
            }
            Verdict::Go { customer_id } => {
                counts.queued += 1;
                entries.push(send, customer_id, "queued", None)?;
            }
            Verdict::Never { outcome, reason } => {
                match outcome {
                    Outcome::Preempted => counts.preempted += 1,
                    Outcome::Expired => counts.expired += 1,
                    _ => counts.cancelled += 1,
                }
                entries.push(send, &send.customer_id, outcome.as_str(), Some(reason))?;
            }
        }
        done.push(row.clone());
    }
    let released = entries.released();
    release(&released)?;
    amend_contacts(&later)?;
    query::execute(
        "UPDATE decisioning._outbox o SET send_at = n.send_at
         FROM unnest($1::text[]::tid[], $2::timestamptz[]) AS n(row, send_at) WHERE o.ctid = n.row",
        &[moved.into(), later.iter().map(|(_, at)| *at).collect::<Vec<_>>().into()],
    )?;
    query::execute("DELETE FROM decisioning._outbox o WHERE o.ctid = ANY ($1::text[]::tid[])", &[done.into()])?;
    entries.insert(ticked_at)
}

/// New rows of sends, column by column.
#[derive(Default)]
struct Entries {
    decisions: Vec<Uuid>,
    customers: Vec<String>,
    send_at: Vec<TimestampWithTimeZone>,
    expires_at: Vec<TimestampWithTimeZone>,
    statuses: Vec<&'static str>,
    reasons: Vec<Option<String>>,
}

impl Entries {
    fn push(&mut self, send: &Waiting, customer_id: &str, status: &'static str, reason: Option<&String>) -> Result<()> {
        self.decisions.push(send.decision_id);
        self.customers.push(customer_id.to_owned());
        self.send_at.push(timestamp(send.send_at)?);
        self.expires_at.push(timestamp(send.expires_at)?);
        self.statuses.push(status);
        self.reasons.push(reason.cloned());
        Ok(())
    }

    fn released(&self) -> Vec<Uuid> {
        let statuses = self.decisions.iter().zip(&self.statuses);
        statuses.filter(|(_, status)| **status != "queued").map(|(id, _)| *id).collect()
    }

    /// A sender may have been quicker than we, and told what became of a send that it knew from elsewhere: that stays.
    fn insert(self, ticked_at: TimestampWithTimeZone) -> Result<()> {
        let queued = self.statuses.contains(&"queued");
        query::execute(
            "INSERT INTO decisioning.sends (decision_id, campaign, customer_id, action, channel, content, send_at, expires_at,
                 delivery, status, reason, occurred_at, queued_at, updated_at)
             SELECT d.decision_id, d.campaign, n.customer_id, d.action, a.channel, d.content, n.send_at, n.expires_at,
                    coalesce(e.delivery, f.delivery, 'synced'), n.status, n.reason, $7, $7, $8
             FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[])
                  AS n(decision_id, customer_id, send_at, expires_at, status, reason)
             JOIN decisioning.decisions d ON d.decision_id = n.decision_id
             JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action_id = d.action_id
             LEFT JOIN decisioning.delivery_channels e ON e.channel = a.channel
             LEFT JOIN decisioning.delivery_channels f ON f.channel = '*'
             ON CONFLICT (decision_id) DO NOTHING",
            &[
                self.decisions.into(),
                self.customers.into(),
                self.send_at.into(),
                self.expires_at.into(),
                self.statuses.into(),
                self.reasons.into(),
                crate::api::now()?.into(),
                ticked_at.into(),
            ],
        )?;
        if queued && settings::notifies() {
            query::execute("SELECT pg_notify('decisioning_sends', '')", &[])?;
        }
        Ok(())
    }
}
