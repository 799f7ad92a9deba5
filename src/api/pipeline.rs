//! The way to a decision: one path for one customer and for a million.
//!
//! canonical id → open decision? → context → group → candidates → choice → reserve → log. While the choice is made, nothing is
//! locked but customers under a cap over all campaigns, budgets and households, in this order, and nothing at all while the
//! user's relation is read: the assignment row is written only if it is still as it was read, and customers whom another
//! session decided for in between are read again.

mod append;
mod assignment;
mod candidates;
mod canonical;
mod question;

use std::collections::HashMap;
use std::rc::Rc;

use decisioning_core::decide::{period, Choice, Group, Period, Salt, Scope};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{PgSqlErrorCode, Uuid};
use serde_json::{Map, Value};

use super::budget;
use super::campaign::{self, Campaign, Status, NO_SEND};
use super::constraint::{Constraints, Frame, Prospect, Remaining, Removed};
use super::context::{self, Context, Customer, Written};
use super::entry::{self, Entry};
use super::guardrail::{self, Moments, Place, Standing, Subject};
use super::mode::{self, Shadow};
use super::model::{self, Compiled};
use super::offer::{self, Held};
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner_by_key;
use crate::pg::settings::Mode;
use crate::pg::{interrupt, query, settings, snapshot, threads};

pub use assignment::{Assignment, Moment};
pub use candidates::{rule, Candidates};
pub use canonical::canonical_ids;

use append::log;
use candidates::reason;
use question::Question;

/// Reason of whoever the customers relation does not have in the audience.
pub const NOT_IN_AUDIENCE: &str = "not_in_audience";

/// Sessions that keep losing the race for the same customers give up after so many rounds.
const ROUNDS: usize = 20;

/// Customers whose choices are made while those of as many before are written.
const PIECE: usize = 1000;

/// A batch larger than this would hold too much in memory at once.
pub const LARGEST_BATCH: usize = 100_000;

/// What decide answers for one customer.
#[derive(Clone)]
pub enum Answer {
    Outside {
        customer_id: String,
        /// What keeps him from being due.
        reason: &'static str,
    },
    Decided(Rc<Decision>),
    /// What would be decided, or is: nothing is written, and nobody should act on it.
    Previewed(Rc<Decision>),
}

#[derive(Clone)]
pub struct Decision {
    pub decision_id: Uuid,
    pub customer_id: String,
    pub group: Group,
    /// `None` is no-send.
    pub action_id: Option<i32>,
    pub content: Option<String>,
    pub send_at: Option<TimestampWithTimeZone>,
    pub propensity: f64,
    pub reason: String,
    pub expires_at: Option<TimestampWithTimeZone>,
    /// False if the decision was open already.
    pub new: bool,
}

/// Everything that is the same for all customers of one call.
struct Round {
    campaign: Rc<Campaign>,
    compiled: Rc<Compiled>,
    salt: Salt,
    now: i64,
    period: Period,
    candidates: Rc<Candidates>,
    scopes: Vec<Scope>,
    mode: Mode,
}

impl Round {
    /// Longest attribution window, in microseconds.
    fn window(&self) -> i64 {
        (self.campaign.window_seconds() * 1e6) as i64
    }

    /// A preview must also work where nothing can be written.
    fn writes(&self) -> bool {
        self.mode != Mode::Preview
    }

    /// The latest, because a later round must see what others committed meanwhile.
    fn assignments(&self, ids: &[String]) -> Result<Vec<(String, Option<Assignment>)>> {
        let moment = Moment { campaign: &self.campaign, now: self.now, period_end: self.period.end };
        moment.assignments(ids, self.writes())
    }

    fn answer(&self, decision: Decision) -> Answer {
        match self.mode {
            Mode::Live | Mode::Shadow => Answer::Decided(Rc::new(decision)),
            Mode::Preview => Answer::Previewed(Rc::new(decision)),
        }
    }
}

/// A customer to decide for.
struct Entrant {
    customer_id: String,
    time_zone: Option<String>,
    jurisdiction: Option<String>,
    locale: Option<String>,
    household: Option<Uuid>,
    standing: Standing,
    /// Consent and eligibility let him be sent something.
    treatable: bool,
    assignment: Assignment,
    /// What makes him due, in a campaign that is triggered by events.
    entry: Option<Entry>,
    /// Group that the customer is treated as.
    group: Group,
    ordinal: i64,
    overlap: i32,
    held: Option<Held>,
    decision_id: [u8; 16],
    encoded: Vec<f32>,
    context: Context,
}

impl Entrant {
    fn place(&self) -> Place<'_> {
        Place { zone: self.time_zone.as_deref(), jurisdiction: self.jurisdiction.as_deref() }
    }

    /// Until when a decision for him is open whose send is in time until then, in microseconds. One that waits for its slot beyond
    /// the period stays open, or the next period would plan the same slot again.
    fn expires_at(&self, round: &Round, in_time_until: Option<i64>) -> i64 {
        let end = in_time_until.map_or(round.period.end, |until| until.max(round.period.end));
        self.entry.map_or(end, |entry| entry.stale_at.min(end))
    }

    fn prospect(&self) -> Prospect<'_> {
        let Entrant { encoded, household, standing, .. } = self;
        Prospect { encoded, held: self.held.as_ref(), household: *household, standing, place: self.place() }
    }
}

/// A decision made but not yet reserved.
struct Proposal<'a> {
    entrant: &'a Entrant,
    /// The offer that he holds now.
    held: Option<Held>,
    candidates: Rc<Candidates>,
    removed: Removed,
    choice: Choice,
    shadow: Option<Shadow>,
    context: Written,
    reason: &'static str,
    /// In microseconds; `None` for no-send.
    send_at: Option<i64>,
    /// In microseconds.
    expires_at: i64,
    /// What is at stake with the send, if the campaign competes for contacts.
    stake: Option<f64>,
}

/// Decides for `customer_ids`: the campaign decided under, and one answer each, in their order.
pub fn decide_many(
    campaign: &str,
    customer_ids: &[String],
    context: Option<&Map<String, Value>>,
) -> Result<(Rc<Campaign>, Vec<Answer>)> {
    if customer_ids.len() > LARGEST_BATCH {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("a batch may have at most {LARGEST_BATCH} customers"),
        )
        .hint("Use CALL decisioning.decide_all(campaign), or several batches."));
    }
    let mut round = prepare(campaign)?;
    let mut known = round.assignments(customer_ids)?;
    let mut canonical: Vec<String> = known.iter().map(|(id, _)| id.clone()).collect();
    let mut answers: HashMap<String, Answer> = HashMap::with_capacity(canonical.len());

    for turn in 0..ROUNDS {
        // What kept somebody from deciding may have been a change of the configuration.
        if turn > 0 {
            round = snapshot::latest(|| prepare(campaign))?;
        }
        // Sorted, so that batches lock in the same order and cannot deadlock.
        known.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        known.dedup_by(|a, b| a.0 == b.0);
        // Not by the customer's id in the log: it may be that of somebody who was merged into him.
        let open: HashMap<Uuid, &String> =
            known.iter().filter_map(|(id, assignment)| Some((assignment.as_ref()?.open()?, id))).collect();
        if !open.is_empty() {
            for decision in as_owner_by_key(|| logged(&round, open.keys().copied().collect()))? {
                if let Some(id) = open.get(&decision.decision_id) {
                    answers.insert((*id).clone(), round.answer(decision));
                }
            }
        }
        known.retain(|(id, _)| !answers.contains_key(id));
        if known.is_empty() {
            break;
        }
        let model = &round.compiled.model;
        let now = settings::timestamp(round.now)?;
        let ids: Vec<String> = known.iter().map(|(id, _)| id.clone()).collect();
        let mut customers = context::read_customers(&round.campaign, &model.encoder, &ids, now)?;
        let entries = entry::latest(&round.campaign, &ids, round.now)?;
        let mut arrivals = Vec::with_capacity(customers.len());
        for (n, (id, assignment)) in known.iter_mut().enumerate() {
            if n % 1024 == 0 {
                interrupt::check();
            }
            let assignment = assignment.take().unwrap_or_else(Assignment::first);
            let entry = entries.get(id).filter(|entry| Some(entry.at) > assignment.entered_at()).copied();
            let reason = match customers.remove(id).filter(|customer| customer.in_audience) {
                Some(_) if entry.is_none() && !round.campaign.entries.is_empty() => entry::NO_ENTRY,
                Some(customer) => {
                    arrivals.push((customer, assignment, entry));
                    continue;
                }
                None => NOT_IN_AUDIENCE,
            };
            answers.insert(id.clone(), Answer::Outside { customer_id: id.clone(), reason });
        }
        let entrants = enter_all(&round, arrivals, context)?;
        for decision in constrain_and_log(&round, entrants)? {
            answers.insert(decision.customer_id.clone(), round.answer(decision));
        }
        known.retain(|(id, _)| !answers.contains_key(id));
        if known.is_empty() {
            break;
        }
        let left: Vec<String> = known.into_iter().map(|(id, _)| id).collect();
        known = round.assignments(&left)?;
        // What kept somebody from deciding may have been that he was merged into another.
        for (before, (id, _)) in left.iter().zip(&known).filter(|(before, (id, _))| *before != id) {
            canonical.iter_mut().filter(|known| *known == before).for_each(|known| known.clone_from(id));
        }
        known.retain(|(id, _)| !answers.contains_key(id));
    }
    if !known.is_empty() {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            "other sessions keep deciding for the same customers",
        )
        .hint("Retry the transaction."));
    }
    let answers = canonical
        .iter()
        .map(|id| answers.get(id).cloned().ok_or_else(|| Error::corrupted(format!("no answer for customer \"{id}\""))))
        .collect::<Result<_>>()?;
    Ok((round.campaign, answers))
}

fn prepare(name: &str) -> Result<Round> {
    let (campaign, model_version) = campaign::load(name)?;
    let hint = match campaign.status {
        Status::Active => None,
        Status::Draft => Some("Start it with decisioning.start_campaign."),
        Status::Paused => Some("Resume it with decisioning.start_campaign."),
        Status::Ended => Some("An ended campaign does not decide; create a new one."),
    };
    if let Some(hint) = hint {
        let status = format!("{:?}", campaign.status).to_lowercase();
        return Err(Error::state(format!("campaign \"{name}\" is not active"))
            .detail(format!("It is {status}."))
            .hint(hint));
    }
    let compiled = model::current(&campaign, model_version)?;
    let now = settings::now_micros()?;
    let period = period(now, &campaign.time_zone).map_err(|error| Error::invalid(error.to_string()))?;
    let candidates = Rc::new(Candidates::of(&campaign, now));
    let scopes = budget::scopes(&campaign);
    let mode = mode::in_force(&campaign);
    Ok(Round { salt: campaign.salt(), compiled, now, period, candidates, scopes, mode, campaign })
}

pub fn parse_group(text: &str) -> Result<Group> {
    Group::parse(text).ok_or_else(|| Error::corrupted(format!("unknown treatment group \"{text}\"")))
}

/// Decisions of the log, by id. Runs as the owner.
fn logged(round: &Round, decision_ids: Vec<Uuid>) -> Result<Vec<Decision>> {
    query::read_latest(
        round.writes(),
        "SELECT d.customer_id, d.decision_id, d.action_id, d.content::text, d.send_at, d.propensity, d.reason, d.expires_at,
                d.treatment_group
         FROM decisioning.decisions d WHERE d.decision_id = ANY ($1)",
        &[decision_ids.into()],
        |row| {
            Ok(Decision {
                customer_id: row.value(1)?,
                decision_id: row.value(2)?,
                action_id: Some(row.value::<i32>(3)?).filter(|id| *id > 0),
                content: row.get(4)?,
                send_at: row.get(5)?,
                propensity: row.value(6)?,
                reason: row.value(7)?,
                expires_at: row.get(8)?,
                group: parse_group(&row.value::<String>(9)?)?,
                new: false,
            })
        },
    )
}

/// What guardrails know of customers, and their groups and contexts.
fn enter_all(
    round: &Round,
    mut arrivals: Vec<(Customer, Assignment, Option<Entry>)>,
    context: Option<&Map<String, Value>>,
) -> Result<Vec<Entrant>> {
    let subject = |(customer, assignment, _): &mut (Customer, Assignment, Option<Entry>)| {
        (std::mem::take(&mut customer.flags), assignment.first_exposed_at(), assignment.contacts())
    };
    let known: Vec<_> = arrivals.iter_mut().map(subject).collect();
    if round.campaign.guardrails.are_shared() && round.writes() {
        let ids: Vec<&str> = arrivals.iter().map(|(customer, ..)| customer.customer_id.as_str()).collect();
        as_owner_by_key(|| guardrail::lock(&ids))?;
    }
    let subjects = arrivals.iter().zip(known).map(|((customer, ..), (flags, exposed_at, contacts))| Subject {
        customer_id: &customer.customer_id,
        flags,
        exposed_at,
        contacts,
    });
    let contested = round.campaign.priority.is_some();
    let standings = guardrail::read(&round.campaign, subjects.collect(), round.now, contested, round.writes())?;
    let mut entrants = Vec::with_capacity(arrivals.len());
    for (n, ((customer, assignment, entry), standing)) in arrivals.into_iter().zip(standings).enumerate() {
        if n % 1024 == 0 {
            interrupt::check();
        }
        entrants.push(enter(round, customer, assignment, entry, standing, context)?);
    }
    Ok(entrants)
}

/// Group and context of one customer.
fn enter(
    round: &Round,
    mut customer: Customer,
    mut assignment: Assignment,
    entry: Option<Entry>,
    standing: Standing,
    context: Option<&Map<String, Value>>,
) -> Result<Entrant> {
    let Round { campaign, compiled, salt, now, .. } = round;
    let encoder = &compiled.model.encoder;
    if let Some(context) = context {
        context::override_features(encoder, &mut customer.observation, context)?;
    }
    let mut encoded = vec![0.0; encoder.width()];
    encoder.encode(&customer.observation, &mut encoded);
    assignment.draw(campaign, salt, &customer.customer_id, customer.household.as_deref(), round.writes())?;
    let ordinal = assignment.ordinal + 1;
    let millis = u64::try_from(now / 1000).map_err(|_| Error::invalid("decisions before 1970 cannot be logged"))?;
    Ok(Entrant {
        group: assignment.treated_as(campaign),
        ordinal,
        overlap: assignment.overlap(),
        held: assignment.held().cloned(),
        assignment,
        entry,
        decision_id: salt.decision_id(&customer.customer_id, ordinal, millis),
        context: Context::new(encoder, customer.observation, context)?,
        encoded,
        household: customer.household.map(|name| offer::household(salt, &name)),
        time_zone: customer.time_zone,
        jurisdiction: customer.jurisdiction,
        locale: customer.locale,
        treatable: campaign.guardrails.treatable(&standing, round.candidates.arms.iter().copied().flatten()),
        standing,
        customer_id: customer.customer_id,
    })
}

/// Chooses for all, and logs what nobody else decided meanwhile; a preview only chooses.
fn constrain_and_log(round: &Round, mut entrants: Vec<Entrant>) -> Result<Vec<Decision>> {
    let Round { campaign, compiled, candidates, scopes, .. } = round;
    // Turns by the hash in the decision ids, so that what is scarce does not always go to the same customers.
    let in_turn = !scopes.is_empty() || campaign.household_column.is_some();
    if in_turn {
        entrants.sort_unstable_by_key(|entrant| entrant.decision_id);
    }
    let frame = Frame { campaign, compiled, candidates, scopes, now: round.now };
    if round.mode == Mode::Preview {
        let preview = |entrant: Entrant| {
            let mut constraints = Constraints::look(frame, &entrant.prospect())?;
            decision(round, &propose_alone(round, &mut constraints, 0, &entrant)?)
        };
        return entrants.into_iter().map(preview).collect();
    }
    let prospects: Vec<Prospect<'_>> = entrants.iter().map(Entrant::prospect).collect();
    let mut constraints = Constraints::hold(frame, &prospects)?;
    let decisions = if in_turn {
        let mut proposals = Vec::with_capacity(entrants.len());
        for (at, entrant) in entrants.iter().enumerate() {
            if at % 1024 == 0 {
                interrupt::check();
            }
            proposals.push(propose_alone(round, &mut constraints, at, entrant)?);
        }
        proposals.sort_unstable_by(|a, b| a.entrant.customer_id.cmp(&b.entrant.customer_id));
        reserve_and_log(round, proposals)?
    } else {
        decide_ahead(round, &mut constraints, &entrants)?
    };
    let closes_at = settings::timestamp(round.now + round.window())?;
    constraints.record(decisions.iter().map(|decision| decision.decision_id), closes_at)?;
    Ok(decisions)
}

/// Where no choice depends on those before, they are made ahead, while what was chosen is written.
fn decide_ahead(round: &Round, constraints: &mut Constraints<'_>, entrants: &[Entrant]) -> Result<Vec<Decision>> {
    let alternatives: Vec<_> = entrants
        .iter()
        .enumerate()
        .map(|(at, entrant)| {
            if at % 1024 == 0 {
                interrupt::check();
            }
            Alternatives::of(round, constraints, at, entrant)
        })
        .collect::<Result<_>>()?;
    let questions = entrants.iter().zip(&alternatives);
    let questions: Vec<_> = questions.map(|(entrant, left)| Question::new(round, entrant, &left.candidates)).collect();
    let mut decisions = Vec::with_capacity(entrants.len());
    let mut next = entrants.iter().zip(&alternatives).enumerate();
    threads::ahead(&questions, PIECE, Question::answer, |answers| {
        interrupt::check();
        let mut proposals = Vec::with_capacity(answers.len());
        for (answer, (at, (entrant, left))) in answers.into_iter().zip(next.by_ref()) {
            proposals.push(propose(round, constraints, at, entrant, left.clone(), answer?)?);
        }
        decisions.extend(reserve_and_log(round, proposals)?);
        Ok(())
    })?;
    Ok(decisions)
}

/// What a customer may get.
#[derive(Clone)]
struct Alternatives {
    candidates: Rc<Candidates>,
    removed: Removed,
    moments: Option<Moments>,
}

impl Alternatives {
    fn of(round: &Round, constraints: &Constraints<'_>, at: usize, entrant: &Entrant) -> Result<Self> {
        let Remaining { left, removed, moments, required } = constraints.remaining(at, &entrant.prospect())?;
        let candidates = match left {
            None if !required => round.candidates.clone(),
            left => Rc::new(left.unwrap_or_else(|| (*round.candidates).clone()).for_group(entrant.group, required)),
        };
        Ok(Alternatives { candidates, removed, moments })
    }
}

fn propose_alone<'a>(
    round: &Round,
    constraints: &mut Constraints<'_>,
    at: usize,
    entrant: &'a Entrant,
) -> Result<Proposal<'a>> {
    let left = Alternatives::of(round, constraints, at, entrant)?;
    let answer = Question::new(round, entrant, &left.candidates).answer()?;
    propose(round, constraints, at, entrant, left, answer)
}

fn propose<'a>(
    round: &Round,
    constraints: &mut Constraints<'_>,
    at: usize,
    entrant: &'a Entrant,
    Alternatives { candidates, removed, moments }: Alternatives,
    question::Answer { choice, shadow, context }: question::Answer,
) -> Result<Proposal<'a>> {
    let Round { campaign, now, .. } = round;
    let shadow = shadow.map(|choice| Shadow::new(choice, &candidates.ids));
    let arm = candidates.arms[choice.chosen];
    let held = constraints.take(at, &entrant.prospect(), Uuid::from_bytes(entrant.decision_id), arm);

    let send_at = match (arm, moments) {
        (None, _) => None,
        (Some(arm), Some(moments)) => moments[arm].clone().ok(),
        (Some(arm), None) => campaign.guardrails.moment(campaign, &entrant.place(), arm, *now)?.ok(),
    };
    let in_time_until = match (arm, send_at) {
        (Some(arm), Some(at)) => Some(campaign.guardrails.in_time_until(campaign, &entrant.place(), arm, *now, at)?),
        _ => None,
    };
    let expires_at = entrant.expires_at(round, in_time_until);
    let reason = reason(entrant.group, entrant.assignment.in_global_holdout(), &candidates, &removed, shadow.is_some());
    let stake = arm.and_then(|arm| constraints.stake(&entrant.encoded, arm));
    Ok(Proposal { entrant, held, candidates, removed, choice, shadow, context, reason, send_at, expires_at, stake })
}

fn action_id(campaign: &Campaign, name: &str) -> Option<i32> {
    campaign.actions.iter().find(|action| action.action == name).map(|action| action.action_id)
}

/// Writes the assignments that nobody changed since they were read, and logs those decisions.
fn reserve_and_log(round: &Round, proposals: Vec<Proposal<'_>>) -> Result<Vec<Decision>> {
    let proposals = assignment::reserve(round, proposals)?;
    if proposals.is_empty() {
        return Ok(Vec::new());
    }
    let decisions: Vec<Decision> = proposals.iter().map(|proposal| decision(round, proposal)).collect::<Result<_>>()?;
    log(round, &proposals, &decisions)?;
    Ok(decisions)
}

fn decision(round: &Round, proposal: &Proposal<'_>) -> Result<Decision> {
    let chosen = proposal.choice.chosen;
    let action = proposal.candidates.arms[chosen].map(|arm| &round.campaign.actions[arm]);
    Ok(Decision {
        decision_id: Uuid::from_bytes(proposal.entrant.decision_id),
        customer_id: proposal.entrant.customer_id.clone(),
        group: proposal.entrant.group,
        action_id: action.map(|action| action.action_id),
        content: action.and_then(|action| action.content_for(proposal.entrant.locale.as_deref())).map(Value::to_string),
        send_at: proposal.send_at.map(settings::timestamp).transpose()?,
        propensity: proposal.choice.propensities[chosen],
        reason: proposal.reason.to_owned(),
        expires_at: Some(settings::timestamp(proposal.expires_at)?),
        new: true,
    })
}

pub fn action_name(campaign: &Campaign, action_id: Option<i32>) -> &str {
    action_id.and_then(|id| campaign.action(id)).map_or(NO_SEND, |action| &action.action)
}
