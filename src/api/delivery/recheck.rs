//! Whether a send that was decided may still be made, and when.

use std::collections::{HashMap, HashSet};

use decisioning_core::decide::period;
use decisioning_core::delivery::Status as Outcome;
use decisioning_core::guardrail::Claim;
use pgrx::Uuid;

use super::state::{IS_COUNTED, IS_MADE};
use crate::api::budget;
use crate::api::campaign::{self, Campaign, Status};
use crate::api::context;
use crate::api::guardrail::{self, Place, Reserved, Standing, Subject};
use crate::api::model;
use crate::api::pipeline::{Assignment, Moment};
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner_by_key;
use crate::pg::interrupt;
use crate::pg::query::{self, Row};
use crate::pg::settings::{micros, timestamp};
use crate::pg::snapshot;

/// A send that is to be handed on. Times in microseconds.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub decision_id: Uuid,
    /// As decided.
    pub customer_id: String,
    pub action_id: i32,
    /// The decision is of the current period until then.
    pub open_until: Option<i64>,
    pub send_at: i64,
    /// Not to be made from here on.
    pub expires_at: i64,
    /// The action is approved, and with the content that was decided on.
    pub is_approved: bool,
}

/// Until when a decision `d` of campaign `c` may be sent, as SQL: what an event has triggered goes stale with it.
pub const DEADLINE: &str = "CASE WHEN EXISTS (SELECT FROM decisioning.entry_sources n WHERE n.campaign = c.campaign)
         THEN d.expires_at ELSE greatest(d.expires_at, d.send_at + c.send_within) END";

impl Waiting {
    /// Columns of a decision `d` of campaign `c` with action `a`, whose send is at `{send_at}`, as SQL.
    pub fn columns(send_at: &str) -> String {
        format!(
            "d.decision_id, d.customer_id, d.action_id, d.expires_at, {send_at},
             {DEADLINE},
             a.status = 'approved' AND coalesce(a.approved_until > decisioning._now(), true)
                 AND (a.approved_at <= d.decided_at OR a.content IS NOT DISTINCT FROM d.content
                      OR d.content IN (SELECT v.content FROM decisioning.action_contents v
                                       WHERE v.campaign = a.campaign AND v.action = a.action))"
        )
    }

    /// Reads [`columns`](Self::columns), from the first of a row on.
    pub fn read(row: &Row<'_, '_>) -> Result<Self> {
        Ok(Waiting {
            decision_id: row.value(1)?,
            customer_id: row.value(2)?,
            action_id: row.value(3)?,
            open_until: row.get(4)?.and_then(micros),
            send_at: micros(row.value(5)?).unwrap_or(i64::MAX),
            expires_at: micros(row.value(6)?).unwrap_or(i64::MAX),
            is_approved: row.value(7)?,
        })
    }
}

/// What is to become of a send.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may be made now, to this customer.
    Go { customer_id: String },
    /// It may be made from a later moment on, in microseconds.
    Later { customer_id: String, at: i64 },
    /// It is not to be made, for this reason: cancelled, preempted or expired.
    Never { outcome: Outcome, reason: String },
}

impl Verdict {
    pub fn cancelled(reason: impl Into<String>) -> Self {
        Verdict::Never { outcome: Outcome::Cancelled, reason: reason.into() }
    }

    fn expired(reason: &str) -> Self {
        Verdict::Never { outcome: Outcome::Expired, reason: reason.to_owned() }
    }

    /// Whom it is made to, now or later.
    pub fn customer_id(&self) -> Option<&str> {
        match self {
            Verdict::Go { customer_id } | Verdict::Later { customer_id, .. } => Some(customer_id),
            Verdict::Never { .. } => None,
        }
    }
}

/// Sends as they were looked at.
pub struct Rechecked {
    /// In their order.
    pub verdicts: Vec<Verdict>,
    /// Those that other campaigns may take over, by position.
    contested: Vec<(usize, Contested)>,
}

/// What caps ask about a send that another campaign may take over.
struct Contested {
    standing: Standing,
    arm: usize,
    /// In microseconds.
    at: i64,
    /// That the customer's calendar is kept in.
    zone: String,
    claim: Claim,
}

impl Contested {
    /// What becomes of the send, if a cap is full.
    fn lost(&self, campaign: &Campaign) -> Result<Option<Verdict>> {
        let Contested { standing, arm, at, zone, claim } = self;
        let rails = &campaign.guardrails;
        let Some(label) = rails.removes(standing, *arm, *at, zone, claim)? else { return Ok(None) };
        let outcome = match rails.is_preempted(standing, *arm, *at, zone, claim)? {
            true => Outcome::Preempted,
            false => Outcome::Cancelled,
        };
        Ok(Some(Verdict::Never { outcome, reason: label.to_owned() }))
    }
}

/// Looks at everything again, for sends of one campaign at `now`. Reads the customers relation and consents as the caller, and
/// locks nothing: of two sends that a cap leaves room for one, the one that is decided later or has less at stake gives way, unless
/// it is made already.
pub fn recheck(campaign: &Campaign, waiting: &[Waiting], now: i64) -> Result<Rechecked> {
    if campaign.status == Status::Ended {
        let verdicts = vec![Verdict::cancelled("campaign ended"); waiting.len()];
        return Ok(Rechecked { verdicts, contested: Vec::new() });
    }
    let today = period(now, &campaign.time_zone).map_err(|error| Error::invalid(error.to_string()))?;
    let moment = Moment { campaign, now, period_end: today.end };
    let ids: Vec<String> = waiting.iter().map(|send| send.customer_id.clone()).collect();
    let known = moment.assignments(&ids, true)?;
    let mut canonical: Vec<String> = known.iter().map(|(id, _)| id.clone()).collect();
    canonical.sort_unstable();
    canonical.dedup();
    let encoder = encoder(campaign)?;
    let customers = context::read_customers(campaign, &encoder, &canonical, timestamp(now)?)?;
    let made = as_owner_by_key(|| made(&known))?;

    let subjects = waiting.iter().zip(&known).map(|(send, (customer_id, assignment))| {
        // His own contact does not stand in its way, nor does one that was decided later and is not made yet.
        let counts = |contact: &Reserved| {
            contact.decision_id != send.decision_id
                && (contact.decision_id < send.decision_id || made.contains(&contact.decision_id))
        };
        Subject {
            customer_id,
            flags: customers.get(customer_id).map_or_else(Vec::new, |customer| customer.flags.clone()),
            exposed_at: assignment.as_ref().and_then(Assignment::first_exposed_at),
            contacts: assignment.iter().flat_map(Assignment::contacts).filter(counts).collect(),
        }
    });
    let standings = guardrail::read(campaign, subjects.collect(), now, true, true)?;
    let stakes = match campaign.guardrails.are_shared() {
        true => as_owner_by_key(|| {
            guardrail::priority::stakes(&waiting.iter().map(|send| send.decision_id).collect::<Vec<_>>())
        })?,
        false => HashMap::new(),
    };
    let mut overdrawn = Overdrawn::read(campaign, waiting, now)?;

    let rails = &campaign.guardrails;
    let (mut verdicts, mut contested) = (Vec::with_capacity(waiting.len()), Vec::new());
    for (n, ((send, (customer_id, assignment)), standing)) in waiting.iter().zip(known).zip(standings).enumerate() {
        if n % 1024 == 0 {
            interrupt::check();
        }
        let cancelled = |reason: &str| Verdict::cancelled(reason);
        let arm = campaign.actions.iter().position(|action| action.action_id == send.action_id);
        let customer = customers.get(&customer_id).filter(|customer| customer.in_audience);
        // Of customers who turned out to be one after both were decided for, the first decision is the one to act on.
        let open = assignment.as_ref().and_then(Assignment::open).filter(|_| send.open_until > Some(now));
        verdicts.push(match (arm, customer) {
            _ if send.expires_at <= now => Verdict::expired("not dispatched in time"),
            (None, _) => cancelled("not approved"),
            _ if !send.is_approved => cancelled("not approved"),
            _ if open.is_some_and(|open| open != send.decision_id) => cancelled("another decision of this person"),
            (_, None) => cancelled("not_in_audience"),
            (Some(arm), Some(customer)) => {
                let place =
                    Place { zone: customer.time_zone.as_deref(), jurisdiction: customer.jurisdiction.as_deref() };
                match rails.moment(campaign, &place, arm, now)? {
                    Err(label) => Verdict::cancelled(label),
                    Ok(at) => {
                        let zone = rails.calendar_zone(campaign, &place).to_owned();
                        let stake = campaign.priority.and(stakes.get(&send.decision_id).copied());
                        let claim = Claim { decided: Some(*send.decision_id.as_bytes()), stake, made: false };
                        let asked = Contested { standing, arm, at, zone, claim };
                        match asked.lost(campaign)? {
                            Some(lost) => lost,
                            None if at >= send.expires_at => Verdict::expired("no moment left"),
                            None => match overdrawn.cancels(send.decision_id) {
                                Some(label) => Verdict::cancelled(label),
                                None => {
                                    if stakes.contains_key(&send.decision_id) {
                                        contested.push((verdicts.len(), asked));
                                    }
                                    match at > now {
                                        true => Verdict::Later { customer_id, at },
                                        false => Verdict::Go { customer_id },
                                    }
                                }
                            },
                        }
                    }
                }
            }
        });
    }
    Ok(Rechecked { verdicts, contested })
}

/// Looks once more at sends that other campaigns may take over, or that take over others': nobody else makes one from here on, until
/// these are. Runs as the owner, after [`tick`](super::state::tick).
pub fn contend(campaign: &Campaign, rechecked: Rechecked) -> Result<Vec<Verdict>> {
    let Rechecked { mut verdicts, contested } = rechecked;
    let ids: Vec<&str> = contested.iter().filter_map(|(at, _)| verdicts[*at].customer_id()).collect();
    if ids.is_empty() {
        return Ok(verdicts);
    }
    let foreign = guardrail::foreign_contacts(campaign, &ids, true, true)?;
    for ((at, mut asked), foreign) in contested.into_iter().zip(foreign) {
        asked.standing.foreign = foreign;
        if let Some(lost) = asked.lost(campaign)? {
            verdicts[at] = lost;
        }
    }
    Ok(verdicts)
}

/// Features are read along with what is asked: by the statement that decisions read them with.
fn encoder(campaign: &Campaign) -> Result<std::rc::Rc<decisioning_core::features::Encoder>> {
    let (_, version) = campaign::load(&campaign.campaign)?;
    Ok(model::current(campaign, version)?.model.encoder.clone())
}

/// Contacts that are made, or are with whoever makes them. Runs as the owner.
fn made(known: &[(String, Option<Assignment>)]) -> Result<HashSet<Uuid>> {
    let contacts: Vec<Uuid> = known
        .iter()
        .filter_map(|(_, assignment)| assignment.as_ref())
        .flat_map(|assignment| assignment.contacts())
        .map(|contact| contact.decision_id)
        .collect();
    if contacts.is_empty() {
        return Ok(HashSet::new());
    }
    let made = query::write(
        &format!(
            "SELECT m.decision_id FROM decisioning.sends m WHERE m.decision_id = ANY ($1) AND {IS_MADE} AND {IS_COUNTED}"
        ),
        &[contacts.into()],
        |row| row.value(1),
    )?;
    Ok(made.into_iter().collect())
}

/// Budgets that were cut below what they are held for, and what sends hold of them.
struct Overdrawn {
    /// Label and what is lacking, in millionths.
    budgets: Vec<(String, i64)>,
    /// Of each decision: budgets by position, and what it holds.
    held: HashMap<Uuid, Vec<(usize, i64)>>,
}

impl Overdrawn {
    fn read(campaign: &Campaign, waiting: &[Waiting], now: i64) -> Result<Self> {
        let mut overdrawn = Overdrawn { budgets: Vec::new(), held: HashMap::new() };
        if campaign.budgets.is_empty() {
            return Ok(overdrawn);
        }
        let accounts = budget::accounts(campaign, now)?;
        as_owner_by_key(|| {
            let decisions: Vec<Uuid> = waiting.iter().map(|send| send.decision_id).collect();
            for account in &accounts {
                let (total, _) = account.total(true)?;
                if total >= 0 {
                    continue;
                }
                let at = overdrawn.budgets.len();
                overdrawn.budgets.push((account.budget.removal(), -total));
                for (decision_id, amount) in account.held_by(&decisions)? {
                    overdrawn.held.entry(decision_id).or_default().push((at, amount));
                }
            }
            Ok(overdrawn)
        })
    }

    /// Whether a budget cannot pay for a send; what it held is then there for others.
    fn cancels(&mut self, decision_id: Uuid) -> Option<String> {
        let held = self.held.get(&decision_id)?;
        let (first, _) = held.iter().find(|(at, _)| self.budgets[*at].1 > 0)?;
        let label = self.budgets[*first].0.clone();
        for (at, amount) in held {
            self.budgets[*at].1 -= amount;
        }
        Some(label)
    }
}

/// Whether guardrails were changed since the campaign was read. With `_assignment` locked against whoever changes them.
pub fn is_outdated(campaign: &Campaign) -> Result<bool> {
    query::execute("LOCK TABLE decisioning._assignment IN ROW EXCLUSIVE MODE", &[])?;
    Ok(snapshot::latest(|| campaign::edition(&campaign.campaign))? != campaign.edition)
}
