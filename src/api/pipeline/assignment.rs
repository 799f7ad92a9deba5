//! What is known of customers in a campaign: their assignments, and those of whoever was merged into them.

use std::collections::HashMap;

use decisioning_core::decide::Group;
use pgrx::Uuid;

use crate::api::campaign::Campaign;
use crate::api::offer::{self, Held};
use crate::pg::error::Result;
use crate::pg::query::{self, Argument, Row};
use crate::pg::settings;

use super::parse_group;

/// A group that somebody was assigned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    pub group: Group,
    pub bucket: u16,
    pub ramped: bool,
}

/// How a customer stands in a campaign: his own row, and what he shares with those who were merged into him.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// What his own row says, or is to say.
    pub own: Assigned,
    /// The group that counts: of whoever of them was exposed first.
    pub effective: Assigned,
    /// The next decision exposes him; he never was, under this id or another.
    pub exposes: bool,
    /// He never was under this id, but another was who is one with him now.
    continues: bool,
    pub ordinal: i64,
    pub overlap: i32,
    /// As his own row has it: who was merged into him, when this was read.
    pub united: Option<i32>,
    /// The offer that his own row holds.
    pub own_held: Option<Held>,
    /// The offer sent last to any of them.
    pub held: Option<Held>,
    /// The decision of the current period, even one later than now: now is the start of the transaction, and another may
    /// have been quicker. Of several, made before they were one, the first.
    pub open: Option<Uuid>,
}

impl Assignment {
    /// Of somebody who has no row yet.
    pub fn first(campaign: &Campaign, bucket: u16) -> Self {
        let own = Assigned { group: campaign.shares().group(bucket), bucket, ramped: false };
        Assignment {
            own,
            effective: own,
            exposes: true,
            continues: false,
            ordinal: 0,
            overlap: 0,
            united: None,
            own_held: None,
            held: None,
            open: None,
        }
    }

    /// The group that the customer is treated as.
    pub fn treated_as(&self, campaign: &Campaign) -> Group {
        let Assigned { group, bucket, ramped } = self.effective;
        campaign.treated_as(group, bucket, ramped)
    }

    /// Whether the next decision moves the customer himself from control to optimise.
    pub fn ramps(&self, campaign: &Campaign) -> bool {
        self.own == self.effective && !self.continues && self.treated_as(campaign) != self.own.group
    }

    /// What the own row is to hold after `held` is the offer sent last. An offer taken over from somebody merged stays
    /// with him.
    pub fn to_hold<'a>(&'a self, held: Option<&'a Held>) -> Option<&'a Held> {
        if held == self.held.as_ref() {
            self.own_held.as_ref()
        } else {
            held
        }
    }
}

/// A row of _assignment, as far as it bears on the next decision.
#[derive(Clone)]
struct Stored {
    assigned: Assigned,
    /// In microseconds; `None` if never under this id.
    exposed_at: Option<i64>,
    ordinal: i64,
    overlap: i32,
    held: Option<Held>,
    /// When it was decided, and the decision.
    open: Option<(i64, Uuid)>,
}

/// Columns of `_assignment AS s` that [`Stored::read`] reads, with $1 campaign, $3 now, $4 window in seconds, $5 end of the
/// period.
const COLUMNS: &str = "s.treatment_group, s.ordinal,
    (SELECT count(*) FROM unnest(s.recent_decisions) AS r(at)
     WHERE r.at > $3 - $4 * interval '1 second' AND r.at <= $3)::integer,
    CASE WHEN s.period_ends_at > $3 AND s.decided_at < $5 THEN s.decision_id END, s.decided_at,
    s.ramped_at IS NOT NULL, s.offer, s.offered_at, s.bucket, s.exposed_at";

impl Stored {
    /// Reads [`COLUMNS`] from column `first` on; `None` if there is no row.
    fn read(row: &Row<'_, '_>, first: usize) -> Result<Option<Self>> {
        let Some(group) = row.get::<String>(first)? else { return Ok(None) };
        let decided_at = row.get(first + 4)?.and_then(settings::micros);
        Ok(Some(Stored {
            assigned: Assigned {
                group: parse_group(&group)?,
                bucket: row.value::<i16>(first + 8)? as u16,
                ramped: row.value(first + 5)?,
            },
            exposed_at: row.get(first + 9)?.and_then(settings::micros),
            ordinal: row.value(first + 1)?,
            overlap: row.value(first + 2)?,
            held: offer::held(row, first + 6)?,
            open: decided_at.zip(row.get(first + 3)?),
        }))
    }

    /// The assignment of a customer by his own row and those of whom was merged into him.
    fn with(self, united: Option<i32>, merged: Vec<Stored>, first: impl FnOnce() -> Assigned) -> Assignment {
        let of_all = || std::iter::once(&self).chain(&merged);
        let exposed = of_all().filter_map(|row| Some((row.exposed_at?, row.assigned)));
        let earliest = exposed.min_by_key(|(at, _)| *at).map(|(_, assigned)| assigned);
        let exposes = earliest.is_none();
        let effective = earliest.unwrap_or_else(first);
        let own = if self.exposed_at.is_some() { self.assigned } else { effective };
        Assignment {
            own,
            effective,
            exposes,
            continues: self.exposed_at.is_none() && !exposes,
            ordinal: self.ordinal,
            united,
            overlap: of_all().map(|row| row.overlap).sum(),
            held: of_all().filter_map(|row| row.held.as_ref()).max_by_key(|held| held.since).cloned(),
            open: of_all().filter_map(|row| row.open).min().map(|(_, open)| open),
            own_held: self.held,
        }
    }
}

/// A moment in a campaign, for which assignments are read.
pub struct Moment<'a> {
    pub campaign: &'a Campaign,
    /// In microseconds.
    pub now: i64,
    /// End of the decision period.
    pub period_end: i64,
    /// See what was committed a moment ago.
    pub latest: bool,
}

impl Moment<'_> {
    /// Canonical id and assignment, if any, of each of `ids`, which may be aliases, in their order. The latest, because a later
    /// round must see what others committed meanwhile. One look-up per id (OFFSET 0), since the plan may be from when the
    /// tables were empty. Runs as the owner.
    pub fn assignments(&self, ids: &[String]) -> Result<Vec<(String, Option<Assignment>)>> {
        let sql = format!(
            "SELECT coalesce(a.customer_id, n.id), n.position, s.united, {COLUMNS}
             FROM unnest($2::text[]) WITH ORDINALITY AS n(id, position)
             LEFT JOIN LATERAL (
                 SELECT a.customer_id FROM decisioning._customer_alias a WHERE a.alias = n.id OFFSET 0) AS a ON true
             LEFT JOIN LATERAL (
                 SELECT s.* FROM decisioning._assignment s
                 WHERE s.customer_id = coalesce(a.customer_id, n.id) AND s.campaign = $1 OFFSET 0) AS s ON true"
        );
        let mut found = query::read_latest(self.latest, &sql, &self.arguments(ids)?, |row| {
            Ok((row.value::<i64>(2)?, row.value::<String>(1)?, row.get::<i32>(3)?, Stored::read(row, 4)?))
        })?;
        found.sort_unstable_by_key(|(position, ..)| *position);
        let united: Vec<String> = found.iter().filter(|row| row.2.is_some()).map(|row| row.1.clone()).collect();
        let merged = if united.is_empty() { HashMap::new() } else { self.merged(&united)? };
        let salt = self.campaign.salt()?;
        Ok(found
            .into_iter()
            .map(|(_, id, united, stored)| {
                let first = || Assignment::first(self.campaign, salt.bucket(&id)).own;
                let merged = merged.get(&id).cloned().unwrap_or_default();
                let assignment = stored.map(|stored| stored.with(united, merged, first));
                (id, assignment)
            })
            .collect())
    }

    /// Assignments of those who were merged into each of `ids`.
    fn merged(&self, ids: &[String]) -> Result<HashMap<String, Vec<Stored>>> {
        let sql = format!(
            "SELECT n.id, {COLUMNS}
             FROM (SELECT DISTINCT n.id FROM unnest($2::text[]) AS n(id)) AS n
             CROSS JOIN LATERAL (
                 SELECT m.merged_id FROM decisioning._merged_assignment m
                 WHERE m.customer_id = n.id AND m.campaign = $1 OFFSET 0) AS m
             CROSS JOIN LATERAL (
                 SELECT s.* FROM decisioning._assignment s
                 WHERE s.customer_id = m.merged_id AND s.campaign = $1 OFFSET 0) AS s
             ORDER BY n.id, m.merged_id"
        );
        let mut merged: HashMap<String, Vec<Stored>> = HashMap::new();
        query::read_latest(self.latest, &sql, &self.arguments(ids)?, |row| {
            if let Some(stored) = Stored::read(row, 2)? {
                merged.entry(row.value(1)?).or_default().push(stored);
            }
            Ok(())
        })?;
        Ok(merged)
    }

    fn arguments<'b>(&self, ids: &[String]) -> Result<[Argument<'b>; 5]> {
        Ok([
            self.campaign.campaign.clone().into(),
            ids.to_vec().into(),
            settings::timestamp(self.now)?.into(),
            self.campaign.window_seconds().into(),
            settings::timestamp(self.period_end)?.into(),
        ])
    }
}
