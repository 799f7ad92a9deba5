//! Suppressions: customers who must not be sent anything, for now or for good.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::binding::check_channel;
use crate::api::campaign;
use crate::api::delivery::{begin, cancel_suppressed, release, tick};
use crate::api::pipeline::canonical_ids;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, as_owner_by_key, caller_name};
use crate::pg::lookup::Lookup;
use crate::pg::settings::{micros, now_micros};
use crate::pg::{interrupt, query, snapshot};

/// Stands for every campaign, or every channel.
const EVERY: &str = "*";

/// A suppression that binds, for one campaign.
#[derive(Clone, Debug)]
pub struct Suppression {
    channel: String,
}

impl Suppression {
    pub fn binds(&self, channel: Option<&str>) -> bool {
        self.channel == EVERY || channel == Some(&self.channel)
    }
}

/// Suppressions of each of `ids` that bind a campaign at `now` (microseconds).
pub fn of(ids: &[&str], campaign: &str, now: i64) -> Result<Vec<Vec<Suppression>>> {
    let columns = [c"campaign", c"channel", c"suppressed_until", c"lifted_at"];
    let mut rows = Lookup::open(c"suppressions", columns)?.unless_empty();
    let mut of_one = |id: &&str| {
        let found = rows.each(&[id], |row| {
            let of = row.value::<String>(0)?;
            let until = row.get::<TimestampWithTimeZone>(2)?;
            // Infinity is for good, like NULL.
            let lasts = until.and_then(micros).is_none_or(|until| now < until);
            let binds = (of == EVERY || of == campaign) && lasts && row.get::<TimestampWithTimeZone>(3)?.is_none();
            Ok(binds.then_some(Suppression { channel: row.value(1)? }))
        })?;
        Ok(found.into_iter().flatten().collect())
    };
    ids.iter().map(&mut of_one).collect()
}

/// Whether each of `ids` is suppressed for a campaign, on the channel that `channel` tells by position, by what others have
/// committed a moment ago.
pub fn suppressed<'a>(
    campaign: &str,
    ids: &[&str],
    now: i64,
    channel: impl Fn(usize) -> Option<&'a str>,
) -> Result<Vec<bool>> {
    let suppressions = snapshot::latest(|| of(ids, campaign, now))?;
    let binds = |(at, all): (usize, Vec<Suppression>)| all.iter().any(|suppression| suppression.binds(channel(at)));
    Ok(suppressions.into_iter().enumerate().map(binds).collect())
}

/// Whom suppressions are about, when identities have changed: `ids` are customers whose records went elsewhere, or came. Runs as
/// the owner.
pub fn follow(ids: &[&str]) -> Result<()> {
    query::execute(
        "UPDATE decisioning.suppressions s SET canonical_id = n.canonical_id
         FROM (SELECT k.customer_id, coalesce((SELECT a.customer_id FROM decisioning._alias a WHERE a.alias = k.customer_id LIMIT 1),
                                              k.customer_id) AS canonical_id
               FROM (SELECT t.customer_id FROM decisioning.suppressions t WHERE t.customer_id = ANY ($1)
                     UNION SELECT t.customer_id FROM decisioning.suppressions t WHERE t.canonical_id = ANY ($1)) AS k) AS n
         WHERE s.customer_id = n.customer_id AND s.canonical_id <> n.canonical_id",
        &[ids.to_vec().into()],
    )?;
    Ok(())
}

/// Whether there are suppressions. Runs as the owner.
pub fn anybody_is_suppressed() -> Result<bool> {
    let found = query::read("SELECT EXISTS (SELECT FROM decisioning.suppressions)", &[], |row| row.value::<bool>(1))?;
    Ok(found == [true])
}

/// Rows per statement.
const CHUNK: usize = 20_000;

/// Suppressions of ids that records have come back under bind whom they are of now. Runs as the owner, before assignments are locked.
pub fn welcome(ids: &[String]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    query::execute("LOCK TABLE decisioning.suppressions IN SHARE ROW EXCLUSIVE MODE", &[])?;
    snapshot::latest(|| {
        ids.chunks(CHUNK).try_for_each(|ids| {
            interrupt::check();
            follow(&ids.iter().map(String::as_str).collect::<Vec<_>>())
        })
    })
}

#[pg_extern(sql = false)]
fn suppress(
    customer_id: Option<&str>,
    channel: Option<&str>,
    campaign: Option<&str>,
    until: Option<TimestampWithTimeZone>,
    reason: Option<&str>,
) -> std::result::Result<(), ErrorReport> {
    let customer_id = required(customer_id, "customer_id")?;
    if customer_id.is_empty() {
        return Err(Error::invalid("customer_id must not be empty").into());
    }
    let now = now_micros()?;
    if until.and_then(micros).is_some_and(|until| until <= now) {
        return Err(Error::invalid("until has passed")
            .hint("Leave it out for a suppression without end; lift_suppression ends one.")
            .into());
    }
    as_owner_by_key(|| {
        // Opt-outs of a channel may be known before any campaign has it.
        check_channel(None, channel)?;
        lock()?;
        begin()?;
        let canonical = write(customer_id, channel, campaign, until, reason)?;
        release(&cancel_suppressed(&canonical, campaign, channel, tick()?)?)
    })?;
    Ok(())
}

/// Lets nobody change identities until the transaction ends, or waits until who does has ended. To be taken before assignments and
/// sends. Runs as the owner.
pub fn lock() -> Result<()> {
    query::execute("LOCK TABLE decisioning.suppressions IN ROW EXCLUSIVE MODE", &[])?;
    Ok(())
}

/// Suppresses a customer; returns him under his id of today. What is queued for him is to be cancelled. Runs as the owner.
pub fn write(
    customer_id: &str,
    channel: Option<&str>,
    campaign: Option<&str>,
    until: Option<TimestampWithTimeZone>,
    reason: Option<&str>,
) -> Result<String> {
    if let Some(campaign) = campaign {
        campaign::load(campaign)?;
    }
    // Against a change of identities that is under way: it will have been followed, or will see what is written here.
    lock()?;
    let ids = [customer_id.to_owned()];
    let canonical = snapshot::latest(|| canonical_ids(&ids))?.remove(0);
    if snapshot::is_kept() && snapshot::newest(|| canonical_ids(&ids))? != [canonical.as_str()] {
        return Err(snapshot::outdated());
    }
    query::execute(
        "INSERT INTO decisioning.suppressions AS s
             (canonical_id, customer_id, campaign, channel, suppressed_until, reason, suppressed_at, suppressed_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (canonical_id, customer_id, campaign, channel) DO UPDATE
         SET suppressed_until = CASE WHEN s.lifted_at IS NOT NULL THEN excluded.suppressed_until
                                     ELSE nullif(greatest(coalesce(s.suppressed_until, 'infinity'),
                                                          coalesce(excluded.suppressed_until, 'infinity')), 'infinity') END,
             reason = coalesce(excluded.reason, s.reason), suppressed_at = excluded.suppressed_at,
             suppressed_by = excluded.suppressed_by, lifted_at = NULL, lifted_by = NULL",
        &[
            canonical.as_str().into(),
            customer_id.into(),
            campaign.unwrap_or(EVERY).into(),
            channel.unwrap_or(EVERY).into(),
            until.into(),
            reason.into(),
            crate::api::now()?.into(),
            caller_name().into(),
        ],
    )?;
    Ok(canonical)
}

#[pg_extern(sql = false)]
fn lift_suppression(
    customer_id: Option<&str>,
    channel: Option<&str>,
    campaign: Option<&str>,
) -> std::result::Result<bool, ErrorReport> {
    let customer_id = required(customer_id, "customer_id")?;
    let lifted = as_owner(|| {
        let canonical = canonical_ids(&[customer_id.to_owned()])?.remove(0);
        query::execute(
            "UPDATE decisioning.suppressions s SET lifted_at = $4, lifted_by = $5
             WHERE (s.canonical_id = $1 OR s.customer_id = $6) AND s.campaign = $2 AND s.channel = $3 AND s.lifted_at IS NULL",
            &[
                canonical.into(),
                campaign.unwrap_or(EVERY).into(),
                channel.unwrap_or(EVERY).into(),
                crate::api::now()?.into(),
                caller_name().into(),
                customer_id.into(),
            ],
        )
    })?;
    Ok(lifted > 0)
}
