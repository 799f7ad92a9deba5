//! The assignment of a customer, as it is read and as it is reserved: group, number of decisions, open decision.
//!
//! Whoever decides for a customer writes this row, if it is still as it was read: two sessions that decide for one customer
//! meet here, and one of them finds that the other was quicker. So does whoever merges him into another, or others into him:
//! their rows stay as they are, and bear on what is decided (see `follow`).

use std::collections::HashMap;

use decisioning_core::decide::{Group, Membership, Salt};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{IntoDatum, Uuid};

use super::canonical::Directory;
use super::{parse_group, Proposal, Round};
use crate::api::campaign::{self, Campaign, Moved};
use crate::api::global_holdout::GlobalHoldout;
use crate::api::guardrail::Reserved;
use crate::api::offer::Held;
use crate::pg::claim::Claims;
use crate::pg::error::Result;
use crate::pg::guard::as_owner_by_key;
use crate::pg::lookup::{Found, Lookup, RowId};
use crate::pg::settings::{micros, timestamp};
use crate::pg::{datum, interrupt, query, snapshot};

/// The assignment row as read, or what it is to be at first.
#[derive(Clone)]
pub struct Assignment {
    /// As assigned; a ramp may have moved the customer since.
    group: Group,
    bucket: u16,
    /// Whether the group is holdout because of the global holdout, and the bucket there, if there is one.
    in_global_holdout: bool,
    global_bucket: Option<u16>,
    /// In microseconds; `None` if he never was, under this id and in this draw.
    exposed_at: Option<i64>,
    /// When he first was in any draw, if that is another time.
    first_exposed_at: Option<i64>,
    ramped_at: Option<TimestampWithTimeZone>,
    pub ordinal: i64,
    /// Decisions whose attribution window is open.
    recent: Vec<TimestampWithTimeZone>,
    /// The offer sent last.
    held: Option<Held>,
    /// The decision of the current period, even one later than now: now is the start of the transaction, and another may
    /// have been quicker.
    open: Option<(i64, Uuid)>,
    /// Sends that are reserved or made.
    contacts: Vec<Reserved>,
    /// The latest entry event that was decided for, in microseconds.
    entered_at: Option<i64>,
    /// Others are or were merged into him.
    united: bool,
    /// `None` if there is no row yet.
    row: Option<RowId>,
    /// Assignments of those who are.
    merged: Vec<Assignment>,
}

/// Columns that [`Assignment::read`] reads.
const READ: usize = 19;

/// Columns that stay as they were when the customer was exposed.
const KEPT: usize = 10;

/// Columns that make the key.
const KEY: usize = 2;

impl Assignment {
    /// Of somebody who has no row yet; his group is still to be drawn.
    pub fn first() -> Self {
        Assignment {
            group: Group::Holdout,
            bucket: 0,
            in_global_holdout: false,
            global_bucket: None,
            exposed_at: None,
            first_exposed_at: None,
            ramped_at: None,
            ordinal: 0,
            recent: Vec::new(),
            held: None,
            open: None,
            contacts: Vec::new(),
            entered_at: None,
            united: false,
            row: None,
            merged: Vec::new(),
        }
    }

    /// The table, to find rows in by customer and campaign.
    fn table() -> Result<Lookup<READ>> {
        Lookup::open(
            c"_assignment",
            [
                c"treatment_group",
                c"bucket",
                c"exposed_at",
                c"ordinal",
                c"decision_id",
                c"decided_at",
                c"period_ends_at",
                c"recent_decisions",
                c"ramped_at",
                c"offer",
                c"offered_at",
                c"united",
                c"contact_decisions",
                c"contact_times",
                c"contact_actions",
                c"entered_at",
                c"global_holdout",
                c"global_bucket",
                c"first_exposed_at",
            ],
        )
    }

    fn read(moment: &Moment<'_>, row: &Found<'_>) -> Result<Self> {
        let (decided_at, ends_at) = (micros(row.value(5)?), micros(row.value(6)?));
        let opened = moment.now - moment.window();
        let within = |at: &TimestampWithTimeZone| micros(*at).is_some_and(|at| opened < at && at <= moment.now);
        let open = decided_at.filter(|at| *at < moment.period_end && ends_at.is_none_or(|at| at > moment.now));
        let offered_at = row.get(10)?.and_then(micros);
        Ok(Assignment {
            group: parse_group(&row.value::<String>(0)?)?,
            bucket: row.value::<i16>(1)? as u16,
            in_global_holdout: row.value(16)?,
            global_bucket: row.get::<i16>(17)?.map(|bucket| bucket as u16),
            exposed_at: micros(row.value(2)?),
            first_exposed_at: row.get(18)?.and_then(micros),
            ordinal: row.value(3)?,
            open: open.zip(row.get(4)?),
            recent: row.value::<Vec<TimestampWithTimeZone>>(7)?.into_iter().filter(within).collect(),
            ramped_at: row.get(8)?,
            held: row.get::<String>(9)?.zip(offered_at).map(|(offer, since)| Held { offer, since }),
            united: row.get::<i32>(11)?.is_some(),
            contacts: Self::read_contacts(row)?,
            entered_at: row.get(15)?.and_then(micros),
            row: Some(row.id()),
            merged: Vec::new(),
        })
    }

    fn read_contacts(row: &Found<'_>) -> Result<Vec<Reserved>> {
        let Some(decisions) = row.get::<Vec<Uuid>>(12)? else { return Ok(Vec::new()) };
        let (times, actions) = (row.value::<Vec<TimestampWithTimeZone>>(13)?, row.value::<Vec<i32>>(14)?);
        let reserved = decisions.into_iter().zip(times).zip(actions);
        Ok(reserved
            .filter_map(|((decision_id, at), action_id)| Some(Reserved { decision_id, at: micros(at)?, action_id }))
            .collect())
    }

    /// He, and those who were merged into him.
    fn all(&self) -> impl Iterator<Item = &Assignment> {
        std::iter::once(self).chain(&self.merged)
    }

    /// Who of them was exposed first: his group counts. `None` if nobody was.
    fn exposed(&self) -> Option<&Assignment> {
        self.all().filter(|one| one.exposed_at.is_some()).min_by_key(|one| one.exposed_at)
    }

    /// Takes the assignments of those who were merged into him. Who was never exposed under this id goes on with the group of
    /// whoever was.
    fn unite(&mut self, merged: Vec<Assignment>) {
        self.merged = merged;
        if self.exposed_at.is_none() {
            let counts = |one: &Assignment| (one.group, one.bucket, one.in_global_holdout, one.global_bucket);
            if let Some(drawn) = self.exposed().map(counts) {
                (self.group, self.bucket, self.in_global_holdout, self.global_bucket) = drawn;
            }
        }
    }

    /// Draws the group of somebody who was never exposed, under no id. `latest` as for [`Moment::assignments`].
    pub fn draw(
        &mut self,
        campaign: &Campaign,
        salt: &Salt,
        customer_id: &str,
        household: Option<&str>,
        latest: bool,
    ) -> Result<()> {
        if self.exposed().is_some() {
            return Ok(());
        }
        self.bucket = campaign.bucket(salt, customer_id, household);
        self.group = campaign.shares().group(self.bucket);
        // Never by household: whose members are one differs between campaigns, and the global holdout does not.
        if let Some(GlobalHoldout(global)) = &campaign.global_holdout {
            let bucket = global.bucket(customer_id);
            self.global_bucket = Some(bucket);
            self.in_global_holdout = match global.membership(bucket) {
                Membership::Member => true,
                Membership::Former => Self::was_in_global_holdout(customer_id, latest)?,
                Membership::Outside => false,
            };
            if self.in_global_holdout {
                self.group = Group::Holdout;
            }
        }
        Ok(())
    }

    /// Whether any campaign has drawn him into the global holdout.
    fn was_in_global_holdout(customer_id: &str, latest: bool) -> Result<bool> {
        let find =
            || Lookup::open(c"_assignment", [c"global_holdout"])?.each(&[customer_id], |row| row.value::<bool>(0));
        let drawn = if latest { snapshot::latest(find) } else { find() };
        Ok(drawn?.contains(&true))
    }

    /// Whether his group is holdout because of the global holdout.
    pub fn in_global_holdout(&self) -> bool {
        self.exposed().unwrap_or(self).in_global_holdout
    }

    /// The group that the customer is treated as.
    pub fn treated_as(&self, campaign: &Campaign) -> Group {
        match self.exposed() {
            Some(one) => campaign.treated_as(one.group, Moved::Before(one.ramped_at.is_some())),
            None => campaign.treated_as(self.group, Moved::Now(self.bucket)),
        }
    }

    /// When the customer himself moved from control to optimise, if he has by `now`.
    fn ramped_at(&self, campaign: &Campaign, now: TimestampWithTimeZone) -> Option<TimestampWithTimeZone> {
        let counts = self.exposed().is_none_or(|one| std::ptr::eq(one, self));
        self.ramped_at.or((counts && self.treated_as(campaign) != self.group).then_some(now))
    }

    /// Number of decisions whose windows are open, one of now included.
    pub fn overlap(&self) -> i32 {
        self.all().map(|one| one.recent.len() as i32).sum::<i32>() + 1
    }

    /// What the campaign has sent him.
    pub fn contacts(&self) -> Vec<Reserved> {
        self.all().flat_map(|one| &one.contacts).cloned().collect()
    }

    /// His own sends that guardrails may still ask about, and the one that is proposed.
    fn with_contact(&self, round: &Round, proposal: &Proposal<'_>) -> Vec<Reserved> {
        let since = round.campaign.guardrails.reach().map_or(i64::MIN, |reach| round.now.saturating_sub(reach));
        let kept = self.contacts.iter().filter(|contact| contact.at >= since).cloned();
        let action = proposal.candidates.ids[proposal.choice.chosen];
        let new = proposal.send_at.map(|at| {
            let decision_id = Uuid::from_bytes(proposal.entrant.decision_id);
            Reserved { decision_id, at, action_id: action }
        });
        kept.chain(new).collect()
    }

    /// The latest entry event that was decided for, in microseconds.
    pub fn entered_at(&self) -> Option<i64> {
        self.all().filter_map(|one| one.entered_at).max()
    }

    /// When he was exposed first, in any draw, in microseconds.
    pub fn first_exposed_at(&self) -> Option<i64> {
        self.all().filter_map(|one| one.first_exposed_at.or(one.exposed_at)).min()
    }

    /// The offer sent last.
    pub fn held(&self) -> Option<&Held> {
        self.all().filter_map(|one| one.held.as_ref()).max_by_key(|held| held.since)
    }

    /// What his own row is to hold if `held` is the offer sent last now: an offer sent to somebody merged stays with him.
    fn to_hold<'a>(&'a self, held: Option<&'a Held>) -> Option<&'a Held> {
        if held == self.held() {
            self.held.as_ref()
        } else {
            held
        }
    }

    /// The open decision. Of several, made before they were one, the first.
    pub fn open(&self) -> Option<Uuid> {
        self.all().filter_map(|one| one.open).min().map(|(_, open)| open)
    }
}

/// A moment in a campaign, for which assignments are read.
pub struct Moment<'a> {
    pub campaign: &'a Campaign,
    /// In microseconds.
    pub now: i64,
    /// End of the decision period.
    pub period_end: i64,
}

impl Moment<'_> {
    /// Longest attribution window, in microseconds.
    fn window(&self) -> i64 {
        (self.campaign.window_seconds() * 1e6) as i64
    }

    /// Canonical id and assignment, if any, of each of `ids`, which may be aliases, in their order. `latest` sees what others
    /// committed a moment ago.
    pub fn assignments(&self, ids: &[String], latest: bool) -> Result<Vec<(String, Option<Assignment>)>> {
        let find = || {
            let mut found = self.find(ids)?;
            let united = |(id, found): &(String, Option<Assignment>)| found.as_ref()?.united.then(|| id.clone());
            let united: Vec<String> = found.iter().filter_map(united).collect();
            let merged = if united.is_empty() { HashMap::new() } else { self.merged(united, latest)? };
            for (id, assignment) in &mut found {
                if let Some(assignment) = assignment {
                    assignment.unite(merged.get(id).cloned().unwrap_or_default());
                }
            }
            Ok(found)
        };
        if latest {
            snapshot::latest(find)
        } else {
            find()
        }
    }

    fn find(&self, ids: &[String]) -> Result<Vec<(String, Option<Assignment>)>> {
        let mut directory = Directory::open()?;
        let mut assignments = Assignment::table()?;
        let find = |(n, id): (usize, &String)| {
            if n % 1024 == 0 {
                interrupt::check();
            }
            let canonical = directory.canonical(id)?;
            let assignment =
                assignments.find(&[&canonical, &self.campaign.campaign], |row| Assignment::read(self, row))?;
            Ok((canonical, assignment))
        };
        ids.iter().enumerate().map(find).collect()
    }

    /// Assignments of those who were merged into each of `ids`. If that changes before one of them is decided for, his own row
    /// does too.
    fn merged(&self, ids: Vec<String>, latest: bool) -> Result<HashMap<String, Vec<Assignment>>> {
        let pairs: Vec<(String, String)> = as_owner_by_key(|| {
            query::read_latest(
                latest,
                "SELECT m.customer_id, m.merged_id FROM decisioning._merged_assignment m
                 WHERE m.customer_id = ANY ($1) AND m.campaign = $2 ORDER BY m.customer_id, m.merged_id",
                &[ids.into(), self.campaign.campaign.as_str().into()],
                |row| Ok((row.value(1)?, row.value(2)?)),
            )
        })?;
        let mut assignments = Assignment::table()?;
        let mut merged: HashMap<String, Vec<Assignment>> = HashMap::new();
        for (id, of) in pairs {
            let found = assignments.find(&[&of, &self.campaign.campaign], |row| Assignment::read(self, row))?;
            merged.entry(id).or_default().extend(found);
        }
        Ok(merged)
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
            c"global_holdout",
            c"global_bucket",
            c"first_exposed_at",
            c"ordinal",
            c"decision_id",
            c"decided_at",
            c"period_ends_at",
            c"recent_decisions",
            c"ramped_at",
            c"offer",
            c"offered_at",
            c"contact_decisions",
            c"contact_times",
            c"contact_actions",
            c"entered_at",
        ],
    )?;
    let now = timestamp(round.now)?;
    // With the table locked against whoever sets a cap: is the configuration still what the choices were made by?
    if snapshot::latest(|| campaign::edition(&round.campaign.campaign))? != round.campaign.edition {
        return Ok(Vec::new());
    }
    let mut reserved = Vec::with_capacity(proposals.len());
    for (n, proposal) in proposals.into_iter().enumerate() {
        if n % 1024 == 0 {
            interrupt::check();
        }
        let entrant = proposal.entrant;
        let assignment = &entrant.assignment;
        let values = || {
            // Who goes on with the group of somebody merged is not exposed by it.
            let exposes = assignment.exposed().is_none();
            let counts_from = round.campaign.washed_micros.map_or(round.now, |washed_at| washed_at.max(round.now));
            let exposed_at = if exposes { timestamp(counts_from)? } else { TimestampWithTimeZone::positive_infinity() };
            let first_exposed_at =
                assignment.first_exposed_at.or((exposes && counts_from > round.now).then_some(round.now));
            let recent: Vec<_> = assignment.recent.iter().copied().chain([now]).collect();
            let held = assignment.to_hold(proposal.held.as_ref());
            let contacts = assignment.with_contact(round, &proposal);
            let ids: Vec<[u8; 16]> = contacts.iter().map(|contact| *contact.decision_id.as_bytes()).collect();
            let times = contacts.iter().map(|contact| timestamp(contact.at)).collect::<Result<Vec<_>>>()?;
            let actions: Vec<i32> = contacts.iter().map(|contact| contact.action_id).collect();
            Ok([
                entrant.customer_id.as_str().into_datum(),
                round.campaign.campaign.as_str().into_datum(),
                assignment.group.as_str().into_datum(),
                (assignment.bucket as i16).into_datum(),
                round.campaign.edition.epoch.into_datum(),
                exposed_at.into_datum(),
                entrant.treatable.into_datum(),
                assignment.in_global_holdout.into_datum(),
                assignment.global_bucket.map(|bucket| bucket as i16).into_datum(),
                first_exposed_at.map(timestamp).transpose()?.into_datum(),
                entrant.ordinal.into_datum(),
                Uuid::from_bytes(entrant.decision_id).into_datum(),
                now.into_datum(),
                timestamp(proposal.expires_at)?.into_datum(),
                Some(datum::array(&recent)),
                assignment.ramped_at(&round.campaign, now).into_datum(),
                held.map(|held| held.offer.as_str()).into_datum(),
                held.map(|held| timestamp(held.since)).transpose()?.into_datum(),
                (!contacts.is_empty()).then(|| datum::array(&ids)),
                (!contacts.is_empty()).then(|| datum::array(&times)),
                (!contacts.is_empty()).then(|| datum::array(&actions)),
                entrant.entry.map(|entry| timestamp(entry.at)).transpose()?.into_datum(),
            ])
        };
        let won = match assignment.row {
            None => claims.insert(values)?,
            Some(row) => claims.update(row, if assignment.exposed_at.is_some() { KEPT } else { KEY }, values)?,
        };
        if won {
            reserved.push(proposal);
        }
    }
    claims.finish();
    Ok(reserved)
}
