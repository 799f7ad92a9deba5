//! What keeps candidates from a customer beyond approval: guardrails, an offer that binds, and budgets that cannot pay.
//!
//! Customers of a call are considered one after the other. What each may need is held before he chooses, so that the
//! candidates he chooses among are all there, and his propensities exact; what was not needed goes back in the end.

use std::collections::{BTreeMap, HashMap, HashSet};

use decisioning_core::decide::{demand, millionths, Cost, Demand, Ledger, Scope};
use decisioning_core::guardrail::Claim;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::Uuid;

use super::budget::{self, Account, Reservation};
use super::campaign::Campaign;
use super::guardrail::{Moments, Place, Standing, Timetable};
use super::model::Compiled;
use super::offer::{self, Consistency, Held};
use super::pipeline::Candidates;
use crate::pg::error::Result;
use crate::pg::guard::as_owner_by_key;
use crate::pg::interrupt;

/// Removed actions, under what removed them.
pub type Removed = BTreeMap<String, Vec<i32>>;

/// A customer whose turn is to come.
pub struct Prospect<'a> {
    pub encoded: &'a [f32],
    /// Offer that the person was sent last.
    pub held: Option<&'a Held>,
    pub household: Option<Uuid>,
    pub standing: &'a Standing,
    pub place: Place<'a>,
}

/// What guardrails and constraints leave a customer.
pub struct Remaining {
    /// The candidates; `None` if all remain.
    pub left: Option<Candidates>,
    pub removed: Removed,
    /// When each arm may be sent, where that matters to guardrails.
    pub moments: Option<Moments>,
    /// One of the sends that are left must be made, but not to the holdout.
    pub required: bool,
}

/// Constraints of one campaign on the customers of one call.
pub struct Constraints<'a> {
    frame: Frame<'a>,
    timetable: Timetable,
    consistency: Option<Consistency>,
    accounts: Vec<Account<'a>>,
    ledger: Ledger<'a>,
    held: Vec<i64>,
    /// Expected cost of every candidate, by customer; empty without budgets.
    costs: Vec<Vec<i64>>,
    households: HashMap<Uuid, Option<Held>>,
    /// The same as read.
    stored: HashMap<Uuid, Option<Held>>,
    reservations: Vec<Reservation>,
    /// Households that were sent an offer, by decision.
    offered: HashMap<Uuid, Uuid>,
}

/// What stays the same while the customers of a call take their turns.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    pub campaign: &'a Campaign,
    pub compiled: &'a Compiled,
    /// The approved actions.
    pub candidates: &'a Candidates,
    /// Of the campaign's budgets.
    pub scopes: &'a [Scope],
    /// In microseconds.
    pub now: i64,
}

impl Frame<'_> {
    /// Expected costs of all candidates for a customer, in millionths.
    fn costs(&self, encoded: &[f32]) -> Vec<i64> {
        let cost = |arm: &Option<usize>| match *arm {
            None => 0,
            Some(arm) => millionths(self.compiled.expected_cost(self.campaign.actions[arm].cost, encoded, arm)),
        };
        self.candidates.arms.iter().map(cost).collect()
    }

    /// What is at stake with a send of `arm`, if the campaign competes for contacts.
    pub fn stake(&self, encoded: &[f32], arm: usize) -> Option<f64> {
        let priority = self.campaign.priority?;
        let adds = self.compiled.net_worth(encoded, Some(arm)) - self.compiled.net_worth(encoded, None);
        Some(priority * adds.max(0.0)).filter(|stake| stake.is_finite())
    }
}

impl<'a> Constraints<'a> {
    fn new(frame: Frame<'a>, held: Vec<i64>, costs: Vec<Vec<i64>>, accounts: Vec<Account<'a>>) -> Self {
        Constraints {
            ledger: Ledger::new(frame.scopes, held.clone()),
            timetable: Timetable::new(frame.now),
            consistency: Consistency::of(frame.campaign, frame.now),
            frame,
            accounts,
            held,
            costs,
            households: HashMap::new(),
            stored: HashMap::new(),
            reservations: Vec::new(),
            offered: HashMap::new(),
        }
    }

    /// Locks the households of the prospects, and holds what they may need of each budget. Without households and budgets it
    /// does nothing.
    pub fn hold(frame: Frame<'a>, prospects: &[Prospect<'_>]) -> Result<Self> {
        let Frame { campaign, candidates, scopes, now, .. } = frame;
        let households = campaign.offer_consistency_seconds.is_some() && campaign.household_column.is_some();
        if !households && scopes.is_empty() {
            return Ok(Self::new(frame, Vec::new(), Vec::new(), Vec::new()));
        }
        let (mut costs_of_all, mut demands) = (Vec::new(), vec![Demand::default(); scopes.len()]);
        if !scopes.is_empty() {
            for (n, prospect) in prospects.iter().enumerate() {
                if n % 1024 == 0 {
                    interrupt::check();
                }
                let costs = frame.costs(prospect.encoded);
                for (scope, sum) in scopes.iter().zip(&mut demands) {
                    let each = candidates.arms.iter().zip(&costs).filter_map(|(arm, cost)| Some(((*arm)?, *cost)));
                    *sum = sum.and(demand(scope, each));
                }
                costs_of_all.push(costs);
            }
        }
        let accounts = budget::accounts(campaign, now)?;
        let (households, held) = as_owner_by_key(|| {
            let of_all = prospects.iter().filter_map(|prospect| prospect.household).filter(|_| households).collect();
            Ok((offer::lock_households(&campaign.campaign, of_all)?, budget::hold(&accounts, &demands)?))
        })?;
        Ok(Constraints { stored: households.clone(), households, ..Self::new(frame, held, costs_of_all, accounts) })
    }

    /// Like [`hold`](Self::hold) for one prospect, but nothing is locked or held: what is seen is what is committed.
    pub fn look(frame: Frame<'a>, prospect: &Prospect<'_>) -> Result<Self> {
        let accounts = budget::accounts(frame.campaign, frame.now)?;
        let (households, held) = as_owner_by_key(|| {
            let mut households = HashMap::new();
            if let Some(household) = prospect.household {
                households.insert(household, offer::of_household(&frame.campaign.campaign, household)?);
            }
            Ok((households, budget::available(&accounts)?))
        })?;
        let costs = vec![frame.costs(prospect.encoded)];
        Ok(Constraints { stored: households.clone(), households, ..Self::new(frame, held, costs, accounts) })
    }

    /// What remains for the prospect at position `at`.
    pub fn remaining(&self, at: usize, prospect: &Prospect<'_>) -> Result<Remaining> {
        let Frame { campaign, candidates, .. } = self.frame;
        let rails = &campaign.guardrails;
        let moments = match rails.mind_the_time() {
            true => Some(self.timetable.moments(campaign, &prospect.place)?),
            false => None,
        };
        let required = rails.required(prospect.standing);
        let zone = rails.calendar_zone(campaign, &prospect.place);
        let held = [self.of_household(prospect), prospect.held];
        let mut removed = Removed::new();
        for (id, arm, position) in candidates
            .ids
            .iter()
            .zip(&candidates.arms)
            .zip(0..)
            .filter_map(|((id, arm), position)| Some((*id, (*arm)?, position)))
        {
            let action = &campaign.actions[arm];
            let moment = moments.as_ref().map(|moments| &moments[arm]);
            let sent_at = moment.map_or(self.frame.now, |moment| *moment.as_ref().unwrap_or(&self.frame.now));
            let stake = match prospect.standing.foreign.is_empty() {
                true => None,
                false => self.frame.stake(prospect.encoded, arm),
            };
            let claim = Claim { decided: None, stake, made: false };
            let offers = |consistency: Consistency| held.iter().any(|held| consistency.removes(*held, action));
            let by = if let Some((label, _)) = required.as_ref().filter(|(_, arms)| !arms[arm]) {
                (*label).to_owned()
            } else if let Some(label) = rails.removes(prospect.standing, arm, sent_at, zone, &claim)? {
                label.to_owned()
            } else if let Some(Err(label)) = moment {
                label.clone()
            } else if self.consistency.is_some_and(offers) {
                offer::REMOVAL.to_owned()
            } else if let Some(lacking) = self.costs.get(at).and_then(|costs| self.ledger.lacking(arm, costs[position]))
            {
                self.accounts[lacking].budget.removal()
            } else {
                continue;
            };
            removed.entry(by).or_default().push(id);
        }
        let gone: HashSet<i32> = removed.values().flatten().copied().collect();
        let left = (!gone.is_empty()).then(|| candidates.without_ids(&gone));
        Ok(Remaining { left, removed, moments, required: required.is_some() })
    }

    /// As [`Frame::stake`].
    pub fn stake(&self, encoded: &[f32], arm: usize) -> Option<f64> {
        self.frame.stake(encoded, arm)
    }

    fn of_household(&self, prospect: &Prospect<'_>) -> Option<&Held> {
        self.households.get(&prospect.household?)?.as_ref()
    }

    /// Offer that binds a prospect: that of the household, else of the person.
    fn held_by<'b>(&'b self, consistency: Consistency, prospect: &'b Prospect<'_>) -> Option<&'b Held> {
        consistency.binding(self.of_household(prospect)).or(consistency.binding(prospect.held))
    }

    /// Takes what the choice of `arm` for the prospect at position `at` needs. Returns the offer that the person holds now.
    pub fn take(&mut self, at: usize, prospect: &Prospect<'_>, decision_id: Uuid, arm: Option<usize>) -> Option<Held> {
        if let (Some(arm), Some(costs)) = (arm, self.costs.get(at)) {
            let position = self.frame.candidates.arms.iter().position(|candidate| *candidate == Some(arm));
            let cost = position.map_or(0, |position| costs[position]);
            self.ledger.pay(arm, cost);
            for (account, scope) in self.frame.scopes.iter().enumerate().filter(|(_, scope)| scope.arms[arm]) {
                let takes = self.accounts[account].budget.takes(self.frame.campaign.actions[arm].cost);
                if takes != Cost::default() {
                    self.reservations.push(Reservation { decision_id, account, amount: scope.need(arm, cost), takes });
                }
            }
        }
        let Some(consistency) = self.consistency else { return prospect.held.cloned() };
        let action = arm.map(|arm| &self.frame.campaign.actions[arm]);
        if let Some(household) = prospect.household {
            let after = consistency.after(self.held_by(consistency, prospect), action);
            // Compared with what is stored: who changed it in this call may not get his decision.
            if self.stored.get(&household) != Some(&after) {
                self.offered.insert(decision_id, household);
            }
            self.households.insert(household, after);
        }
        consistency.after(prospect.held, action)
    }

    /// Records what the decisions that were made have taken, and gives the rest back.
    pub fn record(self, decided: impl Iterator<Item = Uuid>, closes_at: TimestampWithTimeZone) -> Result<()> {
        if self.accounts.is_empty() && self.offered.is_empty() {
            return Ok(());
        }
        let decided: HashSet<Uuid> = decided.collect();
        let Constraints { frame, accounts, held, mut reservations, households, offered, .. } = self;
        reservations.retain(|reservation| decided.contains(&reservation.decision_id));
        let mut stored: Vec<(Uuid, Held)> = offered
            .iter()
            .filter(|(decision_id, _)| decided.contains(decision_id))
            .filter_map(|(_, household)| Some((*household, households.get(household)?.clone()?)))
            .collect();
        stored.sort_unstable_by_key(|(household, _)| *household);
        stored.dedup_by_key(|(household, _)| *household);
        as_owner_by_key(|| {
            budget::record(&accounts, held, &reservations, closes_at)?;
            offer::store_households(&frame.campaign.campaign, &stored)
        })
    }
}
