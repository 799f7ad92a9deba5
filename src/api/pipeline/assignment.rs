//! The assignment of a customer, as it is read and as it is reserved: group, number of decisions, open decision.
//!
//! Whoever decides for a customer writes this row, if it is still as it was read: two sessions that decide for one customer
//! meet here, and one of them finds that the other was quicker.

use decisioning_core::decide::Group;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{IntoDatum, Uuid};

use super::{parse_group, Proposal, Round};
use crate::api::campaign::Campaign;
use crate::api::offer::Held;
use crate::pg::claim::Claims;
use crate::pg::datum;
use crate::pg::error::Result;
use crate::pg::interrupt;
use crate::pg::lookup::{Found, Lookup, RowId};
use crate::pg::settings::{micros, timestamp};

/// The assignment row as read, or what it is to be at first.
#[derive(Clone)]
pub struct Assignment {
    /// As assigned; a ramp may have moved the customer since.
    pub group: Group,
    ramped_at: Option<TimestampWithTimeZone>,
    pub ordinal: i64,
    /// Decisions whose attribution window is open.
    recent: Vec<TimestampWithTimeZone>,
    /// The offer sent last.
    pub held: Option<Held>,
    /// The decision of the current period, even one later than now: now is the start of the transaction, and another may
    /// have been quicker.
    pub open: Option<Uuid>,
    /// `None` if there is no row yet.
    row: Option<RowId>,
}

/// Columns that [`Assignment::read`] reads.
const READ: usize = 9;

/// Columns that stay as they were when the row was added.
const KEPT: usize = 7;

impl Assignment {
    pub fn first(campaign: &Campaign, bucket: u16) -> Self {
        Assignment {
            group: campaign.shares().group(bucket),
            ramped_at: None,
            ordinal: 0,
            recent: Vec::new(),
            held: None,
            open: None,
            row: None,
        }
    }

    /// The table, to find rows in by customer and campaign.
    pub fn table() -> Result<Lookup<READ>> {
        Lookup::open(
            c"_assignment",
            [
                c"treatment_group",
                c"ordinal",
                c"decision_id",
                c"decided_at",
                c"period_ends_at",
                c"recent_decisions",
                c"ramped_at",
                c"offer",
                c"offered_at",
            ],
        )
    }

    pub fn read(round: &Round, row: &Found<'_>) -> Result<Self> {
        let (decided_at, ends_at) = (micros(row.value(3)?), micros(row.value(4)?));
        let opened = round.now - round.window();
        let within = |at: &TimestampWithTimeZone| micros(*at).is_some_and(|at| opened < at && at <= round.now);
        let open = ends_at.is_none_or(|at| at > round.now) && decided_at.is_some_and(|at| at < round.period.end);
        let offered_at = row.get(8)?.and_then(micros);
        Ok(Assignment {
            group: parse_group(&row.value::<String>(0)?)?,
            ordinal: row.value(1)?,
            open: if open { row.get(2)? } else { None },
            recent: row.value::<Vec<TimestampWithTimeZone>>(5)?.into_iter().filter(within).collect(),
            ramped_at: row.get(6)?,
            held: row.get::<String>(7)?.zip(offered_at).map(|(offer, since)| Held { offer, since }),
            row: Some(row.id()),
        })
    }

    pub fn ramped(&self) -> bool {
        self.ramped_at.is_some()
    }

    /// Number of decisions whose windows are open, one of now included.
    pub fn overlap(&self) -> i32 {
        self.recent.len() as i32 + 1
    }
}

/// Writes the assignments that nobody changed since they were read; returns their proposals.
pub fn reserve<'a>(round: &Round, proposals: Vec<Proposal<'a>>) -> Result<Vec<Proposal<'a>>> {
    if proposals.is_empty() {
        return Ok(proposals);
    }
    let mut claims = Claims::open(
        c"_assignment",
        [
            c"customer_id",
            c"campaign",
            c"treatment_group",
            c"bucket",
            c"epoch",
            c"exposed_at",
            c"treatable",
            c"ordinal",
            c"decision_id",
            c"decided_at",
            c"period_ends_at",
            c"recent_decisions",
            c"ramped_at",
            c"offer",
            c"offered_at",
        ],
    )?;
    let (now, ends_at) = (timestamp(round.now)?, timestamp(round.period.end)?);
    let mut reserved = Vec::with_capacity(proposals.len());
    for (n, proposal) in proposals.into_iter().enumerate() {
        if n % 1024 == 0 {
            interrupt::check();
        }
        let entrant = proposal.entrant;
        let Assignment { group, ramped_at, recent, row, .. } = &entrant.assignment;
        let values = || {
            let ramped_at = ramped_at.or((entrant.group != *group).then_some(now));
            let recent: Vec<_> = recent.iter().copied().chain([now]).collect();
            Ok([
                entrant.customer_id.as_str().into_datum(),
                round.campaign.campaign.as_str().into_datum(),
                group.as_str().into_datum(),
                (entrant.bucket as i16).into_datum(),
                round.campaign.edition.epoch.into_datum(),
                now.into_datum(),
                round.candidates.any_send().into_datum(),
                entrant.ordinal.into_datum(),
                Uuid::from_bytes(entrant.decision_id).into_datum(),
                now.into_datum(),
                ends_at.into_datum(),
                Some(datum::array(&recent)),
                ramped_at.into_datum(),
                proposal.held.as_ref().map(|held| held.offer.as_str()).into_datum(),
                proposal.held.as_ref().map(|held| timestamp(held.since)).transpose()?.into_datum(),
            ])
        };
        let won = match row {
            None => claims.insert(values)?,
            Some(row) => claims.update(*row, KEPT, values)?,
        };
        if won {
            reserved.push(proposal);
        }
    }
    claims.finish();
    Ok(reserved)
}
