//! One offer at a time for one person or household.

use std::collections::HashMap;

use decisioning_core::decide::Salt;
use pgrx::Uuid;

use super::campaign::{Action, Campaign};
use crate::pg::error::Result;
use crate::pg::query;
use crate::pg::settings;

/// What removed candidates are marked with.
pub const REMOVAL: &str = "offer_consistency";

/// The offer that somebody was sent, and when first, in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub offer: String,
    pub since: i64,
}

/// Offers of a campaign: how long one keeps others out, in microseconds.
#[derive(Clone, Copy)]
pub struct Consistency {
    time: f64,
    now: i64,
}

fn offer(action: &Action) -> Option<&String> {
    action.dimensions.get("offer")
}

impl Consistency {
    /// `None` if offers may change at any time.
    pub fn of(campaign: &Campaign, now: i64) -> Option<Self> {
        campaign.offer_consistency_seconds.map(|seconds| Consistency { time: seconds * 1e6, now })
    }

    pub fn binding(self, held: Option<&Held>) -> Option<&Held> {
        held.filter(|held| ((self.now - held.since) as f64) < self.time)
    }

    /// Whether an action has another offer than the one that binds.
    pub fn removes(self, held: Option<&Held>, action: &Action) -> bool {
        self.binding(held).is_some_and(|held| offer(action).is_some_and(|offer| *offer != held.offer))
    }

    /// What is held after `action` was sent: the first time of an offer counts, or it would never end.
    pub fn after(self, held: Option<&Held>, action: Option<&Action>) -> Option<Held> {
        match action.and_then(offer) {
            Some(offer) if self.binding(held).is_none_or(|held| held.offer != *offer) => {
                Some(Held { offer: offer.clone(), since: self.now })
            }
            _ => held.cloned(),
        }
    }
}

/// What stands for a household: its name may be an address, which we have no need to keep.
pub fn household(salt: &Salt, name: &str) -> Uuid {
    Uuid::from_bytes(salt.fingerprint(name).to_be_bytes())
}

/// Locks households, in their order, and reads what they hold. Under REPEATABLE READ a household that another session
/// decided for meanwhile is a serialization error. Runs as the owner.
pub fn lock_households(campaign: &str, mut households: Vec<Uuid>) -> Result<HashMap<Uuid, Option<Held>>> {
    households.sort_unstable();
    households.dedup();
    if households.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = query::write(
        "INSERT INTO decisioning._household AS h (campaign, household, decisions)
         SELECT $1, n.household, 1 FROM unnest($2::uuid[]) AS n(household)
         ON CONFLICT (campaign, household) DO UPDATE SET decisions = h.decisions + 1
         RETURNING h.household, h.offer, h.offered_at",
        &[campaign.into(), households.into()],
        |row| Ok((row.value::<Uuid>(1)?, held(row, 2)?)),
    )?;
    Ok(rows.into_iter().collect())
}

/// What households hold. Only reads. Runs as the owner.
pub fn of_household(campaign: &str, household: Uuid) -> Result<Option<Held>> {
    let found = query::read_one(
        "SELECT h.offer, h.offered_at FROM decisioning._household h WHERE h.campaign = $1 AND h.household = $2",
        &[campaign.into(), household.into()],
        |row| held(row, 1),
    )?;
    Ok(found.flatten())
}

/// Reads `offer, offered_at` from column `first` on.
pub fn held(row: &query::Row<'_, '_>, first: usize) -> Result<Option<Held>> {
    let since = row.get(first + 1)?.and_then(settings::micros);
    Ok(row.get::<String>(first)?.zip(since).map(|(offer, since)| Held { offer, since }))
}

/// Stores what locked households hold now. Runs as the owner.
pub fn store_households(campaign: &str, held: &[(Uuid, Held)]) -> Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    query::execute(
        "UPDATE decisioning._household h SET offer = n.offer, offered_at = n.offered_at
         FROM unnest($2::uuid[], $3::text[], $4::timestamptz[]) AS n(household, offer, offered_at)
         WHERE h.campaign = $1 AND h.household = n.household",
        &[
            campaign.into(),
            held.iter().map(|(household, _)| *household).collect::<Vec<_>>().into(),
            held.iter().map(|(_, held)| held.offer.clone()).collect::<Vec<_>>().into(),
            held.iter().map(|(_, held)| settings::timestamp(held.since)).collect::<Result<Vec<_>>>()?.into(),
        ],
    )?;
    Ok(())
}
