//! Claims: queued sends handed to workers, each once, for as long as a lease lasts.

use std::collections::BTreeMap;

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};

use super::dispatch::suppress_latest;
use super::feedback::begin_reports;
use super::recheck::{contend, is_outdated, recheck, Verdict, Waiting};
use super::state::{amend_contacts, begin, release, settle, tick};
use crate::api::campaign::{self, Campaign};
use crate::api::{budget, now};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, as_owner_by_key, caller_name};
use crate::pg::settings::{self, timestamp, Mode};
use crate::pg::transaction::attempt;
use crate::pg::{interrupt, query};

const LARGEST_BATCH: i32 = 10_000;

/// What a worker gets.
type Claimed = (
    Uuid,
    String,
    String,
    String,
    Option<String>,
    Option<JsonB>,
    TimestampWithTimeZone,
    TimestampWithTimeZone,
    TimestampWithTimeZone,
);

#[pg_extern(sql = false)]
fn claim_sends(
    channel: Option<&str>,
    worker: Option<&str>,
    batch_size: Option<i32>,
    lease: Option<Interval>,
    campaign: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(decision_id, Uuid),
            name!(campaign, String),
            name!(customer_id, String),
            name!(action, String),
            name!(channel, Option<String>),
            name!(content, Option<JsonB>),
            name!(send_at, TimestampWithTimeZone),
            name!(expires_at, TimestampWithTimeZone),
            name!(claimed_until, TimestampWithTimeZone),
        ),
    >,
    ErrorReport,
> {
    let size = required(batch_size, "batch_size")?;
    if !(1..=LARGEST_BATCH).contains(&size) {
        return Err(Error::invalid(format!("batch_size must be between 1 and {LARGEST_BATCH}")).into());
    }
    let lease = required(lease, "lease")?;
    let worker = worker.map_or_else(caller_name, str::to_owned);
    let claimed_until = as_owner(|| {
        if let Some(name) = campaign {
            campaign::load(name)?;
        }
        end_of_lease(lease)
    })?;
    if settings::mode() == Mode::Preview {
        pgrx::notice!("this session is in preview mode: nothing is claimed");
        return Ok(TableIterator::new(Vec::new()));
    }
    let (mut claimed, mut failed) = (Vec::new(), Vec::new());
    'all: while claimed.len() < size as usize {
        interrupt::check();
        let wanted = size as usize - claimed.len();
        let queued = as_owner_by_key(|| {
            begin()?;
            take_queued(channel, campaign, &failed, wanted)
        })?;
        let taken = queued.values().map(Vec::len).sum::<usize>();
        for (name, sends) in queued {
            let hand_out = || claim(&name, &sends, &worker, claimed_until);
            // A campaign whose relation cannot be read must not keep the others from sending.
            let found = match campaign {
                Some(_) => hand_out()?,
                None => match attempt(hand_out) {
                    Ok(found) => found,
                    Err(failure) => {
                        failure.warn(&format!("claim_sends: campaign \"{name}\""));
                        failed.push(name);
                        continue;
                    }
                },
            };
            match found {
                Some(sends) => claimed.extend(sends),
                None => break 'all,
            }
        }
        // Fewer than wanted: there are no more. Those that could not be handed out make room for others.
        if taken < wanted {
            break;
        }
    }
    as_owner(settle)?;
    Ok(TableIterator::new(claimed))
}

/// Runs as the owner.
fn end_of_lease(lease: Interval) -> Result<TimestampWithTimeZone> {
    let ends = query::read_one(
        "SELECT $1 + $2 WHERE $2 > interval '0' AND $2 <= interval '1 day'",
        &[now()?.into(), lease.into()],
        |row| row.value(1),
    )?;
    ends.ok_or_else(|| {
        Error::invalid("lease must be positive and at most a day")
            .hint("It is how long the worker has to say what became of the sends.")
    })
}

/// Locks queued sends whose moment has come and that nobody else is at, by campaign. Those of campaigns that do not send now
/// wait, and so do those of `failed`. Runs as the owner.
fn take_queued(
    channel: Option<&str>,
    campaign: Option<&str>,
    failed: &[String],
    size: usize,
) -> Result<BTreeMap<String, Vec<Waiting>>> {
    // A statement of its own for one channel, so that its plan can go by the channel.
    let on_channel = if channel.is_some() { "s.channel = $2" } else { "$2::text IS NULL" };
    let rows = query::write(
        &format!(
            "WITH queued AS MATERIALIZED (
                 SELECT s.decision_id, s.send_at FROM decisioning.sends s
                 WHERE s.status = 'queued' AND s.delivery = 'claimed' AND s.send_at <= $1
                   AND {on_channel} AND ($3 IS NULL OR s.campaign = $3) AND s.campaign <> ALL ($5)
                   AND s.campaign IN (SELECT c.campaign FROM decisioning.campaigns c
                                      WHERE c.status IN ('active', 'ended') AND c.mode <> 'preview')
                 ORDER BY s.send_at, s.decision_id LIMIT $4 FOR UPDATE SKIP LOCKED)
             SELECT {columns}, d.campaign
             FROM queued s
             JOIN decisioning.decisions d ON d.decision_id = s.decision_id
             JOIN decisioning.campaigns c ON c.campaign = d.campaign
             JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action_id = d.action_id
             ORDER BY d.campaign, d.decision_id",
            columns = Waiting::columns("s.send_at"),
        ),
        &[now()?.into(), channel.into(), campaign.into(), (size as i64).into(), failed.to_vec().into()],
        |row| Ok((row.value::<String>(8)?, Waiting::read(row)?)),
    )?;
    let mut by_campaign: BTreeMap<String, Vec<Waiting>> = BTreeMap::new();
    for (campaign, send) in rows {
        by_campaign.entry(campaign).or_default().push(send);
    }
    Ok(by_campaign)
}

/// Looks at everything again and claims what may be made. `None` if guardrails have changed meanwhile: then nothing was done.
fn claim(
    name: &str,
    sends: &[Waiting],
    worker: &str,
    claimed_until: TimestampWithTimeZone,
) -> Result<Option<Vec<Claimed>>> {
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    let now = settings::now_micros()?;
    let rechecked = recheck(&campaign, sends, now)?;
    as_owner_by_key(|| {
        let ticked_at = tick()?;
        if is_outdated(&campaign)? {
            return Ok(None);
        }
        let mut verdicts = contend(&campaign, rechecked)?;
        suppress_latest(&campaign, sends, &mut verdicts, now)?;
        write(&campaign, sends, &verdicts, ticked_at, worker, claimed_until).map(Some)
    })
}

/// Runs as the owner, after [`tick`].
fn write(
    campaign: &Campaign,
    sends: &[Waiting],
    verdicts: &[Verdict],
    ticked_at: TimestampWithTimeZone,
    worker: &str,
    claimed_until: TimestampWithTimeZone,
) -> Result<Vec<Claimed>> {
    let (mut ids, mut statuses, mut customers, mut reasons, mut times) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut released, mut later) = (vec![], vec![]);
    for (send, verdict) in sends.iter().zip(verdicts) {
        let (status, customer_id, reason, at) = match verdict {
            Verdict::Go { customer_id } => ("claimed", customer_id, None, send.send_at),
            Verdict::Later { customer_id, at } => ("queued", customer_id, None, *at),
            Verdict::Never { outcome, reason } => {
                (outcome.as_str(), &send.customer_id, Some(reason.clone()), send.send_at)
            }
        };
        match verdict {
            Verdict::Go { .. } => {}
            Verdict::Later { at, .. } => later.push((send.decision_id, Some(timestamp(*at)?))),
            Verdict::Never { .. } => released.push(send.decision_id),
        }
        ids.push(send.decision_id);
        statuses.push(status);
        customers.push(customer_id.clone());
        reasons.push(reason);
        times.push(timestamp(at)?);
    }
    release(&released)?;
    amend_contacts(&later)?;
    let changed = query::write(
        "UPDATE decisioning.sends s
         SET status = n.status, customer_id = n.customer_id, reason = n.reason, send_at = n.send_at, occurred_at = $6,
             claimed_by = CASE n.status WHEN 'claimed' THEN $8 END,
             claimed_until = CASE n.status WHEN 'claimed' THEN $9::timestamptz END, updated_at = $7
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
              AS n(decision_id, status, customer_id, reason, send_at)
         WHERE s.decision_id = n.decision_id
         RETURNING s.status, s.decision_id, s.customer_id, s.action, s.channel, s.content, s.send_at, s.expires_at",
        &[
            ids.into(),
            statuses.into(),
            customers.into(),
            reasons.into(),
            times.into(),
            now()?.into(),
            ticked_at.into(),
            worker.into(),
            claimed_until.into(),
        ],
        |row| {
            let send = (
                row.value::<Uuid>(2)?,
                campaign.campaign.clone(),
                row.value::<String>(3)?,
                row.value::<String>(4)?,
                row.get::<String>(5)?,
                row.get::<JsonB>(6)?,
                row.value::<TimestampWithTimeZone>(7)?,
                row.value::<TimestampWithTimeZone>(8)?,
                claimed_until,
            );
            Ok((row.value::<String>(1)? == "claimed").then_some(send))
        },
    )?;
    Ok(changed.into_iter().flatten().collect())
}

/// A send as it stands, locked. Runs as the owner, before [`tick`]: whoever hands it on has locked it and waits for the clock.
fn lock(decision_id: Uuid) -> Result<(String, bool, TimestampWithTimeZone)> {
    query::write(
        "SELECT s.status, s.expires_at <= $2, s.send_at FROM decisioning.sends s WHERE s.decision_id = $1 FOR UPDATE",
        &[decision_id.into(), now()?.into()],
        |row| Ok((row.value(1)?, row.value(2)?, row.value(3)?)),
    )?
    .into_iter()
    .next()
    .ok_or_else(|| {
        Error::missing(format!("there is no send of decision {decision_id}"))
            .hint("Sends are made by decisioning.dispatch(campaign).")
    })
}

/// Runs as the owner, after [`tick`].
fn queue(decision_id: Uuid, ticked_at: TimestampWithTimeZone) -> Result<()> {
    query::execute(
        "UPDATE decisioning.sends s
         SET status = 'queued', reason = NULL, occurred_at = $2, claimed_by = NULL, claimed_until = NULL, updated_at = $3
         WHERE s.decision_id = $1",
        &[decision_id.into(), now()?.into(), ticked_at.into()],
    )?;
    Ok(())
}

#[pg_extern(sql = false)]
fn release_send(decision_id: Option<Uuid>) -> std::result::Result<(), ErrorReport> {
    let decision_id = required(decision_id, "decision_id")?;
    as_owner(|| {
        begin_reports()?;
        let (status, _, _) = lock(decision_id)?;
        let ticked_at = tick()?;
        match status.as_str() {
            "queued" => Ok(()),
            "claimed" | "unknown" => queue(decision_id, ticked_at),
            status => Err(Error::state(format!("the send of decision {decision_id} is not claimed"))
                .detail(format!("It is {status}."))
                .hint("Only who has claimed a send, and knows that he has not made it, can release it.")),
        }
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
fn requeue_send(decision_id: Option<Uuid>) -> std::result::Result<(), ErrorReport> {
    let decision_id = required(decision_id, "decision_id")?;
    as_owner(|| {
        begin_reports()?;
        let (status, is_late, send_at) = lock(decision_id)?;
        let ticked_at = tick()?;
        if !matches!(status.as_str(), "unknown" | "failed" | "soft_bounced" | "cancelled") {
            return Err(Error::state(format!("the send of decision {decision_id} cannot be queued again"))
                .detail(format!("It is {status}."))
                .hint("Only unknown, failed, soft_bounced and cancelled sends can."));
        }
        if is_late {
            return Err(Error::state(format!("the send of decision {decision_id} has expired"))
                .hint("Its moment is over; decide anew."));
        }
        budget::take_again(&[decision_id])?;
        amend_contacts(&[(decision_id, Some(send_at))])?;
        queue(decision_id, ticked_at)
    })?;
    Ok(())
}
