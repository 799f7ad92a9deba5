//! The way to a decision: one path for one customer and for a million.
//!
//! canonical id → open decision? → context → group → candidates → choice → reserve → log. Nothing but budgets and households
//! is locked while the user's relation is read and the choice is made: the assignment row is written only if it is still as
//! it was read, and customers whom another session decided for in between are read again.

mod append;
mod candidates;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use decisioning_core::decide::{choose, next_slot, period, Choice, Group, Period, Salt, Scope};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{PgSqlErrorCode, Uuid};
use serde_json::{Map, Value};

use super::budget;
use super::campaign::{self, Campaign, Status, NO_SEND};
use super::constraint::{Constraints, Frame, Prospect, Removed};
use super::context::{self, Customer};
use super::mode::{self, Shadow};
use super::model::{self, Compiled};
use super::offer::{self, Held};
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner_by_key;
use crate::pg::settings::Mode;
use crate::pg::{query, settings};

pub use candidates::{rule, Candidates};

use append::log;
use candidates::reason;

/// Sessions that keep losing the race for the same customers give up after so many rounds.
const ROUNDS: usize = 20;

/// A batch larger than this would hold too much in memory at once.
pub const LARGEST_BATCH: usize = 100_000;

/// What decide answers for one customer.
#[derive(Clone)]
pub enum Answer {
    Outside {
        customer_id: String,
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
    /// A preview must also work where nothing can be written.
    fn writes(&self) -> bool {
        self.mode != Mode::Preview
    }

    fn answer(&self, decision: Decision) -> Answer {
        match self.mode {
            Mode::Live | Mode::Shadow => Answer::Decided(Rc::new(decision)),
            Mode::Preview => Answer::Previewed(Rc::new(decision)),
        }
    }
}

/// The assignment row as read.
struct Assignment {
    /// As assigned; a ramp may have moved the customer since.
    group: Group,
    ramped: bool,
    ordinal: i64,
    overlap: i32,
    /// The offer sent last.
    held: Option<Held>,
    /// The decision of the current period, even one later than now: now is the start of the transaction, and another may
    /// have been quicker.
    open: Option<Uuid>,
}

impl Assignment {
    fn first(campaign: &Campaign, bucket: u16) -> Self {
        Assignment {
            group: campaign.shares().group(bucket),
            ramped: false,
            ordinal: 0,
            overlap: 0,
            held: None,
            open: None,
        }
    }
}

/// A customer to decide for.
struct Entrant {
    customer_id: String,
    time_zone: Option<String>,
    household: Option<Uuid>,
    bucket: u16,
    assigned: Group,
    /// Group that the customer is treated as.
    group: Group,
    ordinal: i64,
    overlap: i32,
    held: Option<Held>,
    decision_id: [u8; 16],
    encoded: Vec<f32>,
    context: String,
}

impl Entrant {
    fn prospect(&self) -> Prospect<'_> {
        Prospect { encoded: &self.encoded, held: self.held.as_ref(), household: self.household }
    }
}

/// A decision made but not yet reserved.
struct Proposal {
    entrant: Entrant,
    candidates: Rc<Candidates>,
    removed: Removed,
    choice: Choice,
    shadow: Option<Shadow>,
    reason: &'static str,
    send_at: i64,
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
    let (round, mut known) = as_owner_by_key(|| {
        let round = prepare(campaign)?;
        let known = assignments(&round, customer_ids)?;
        Ok((round, known))
    })?;
    let canonical: Vec<String> = known.iter().map(|(id, _)| id.clone()).collect();
    let mut answers: HashMap<String, Answer> = HashMap::with_capacity(canonical.len());

    for _ in 0..ROUNDS {
        // Sorted, so that batches lock in the same order and cannot deadlock.
        known.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        known.dedup_by(|a, b| a.0 == b.0);
        let open: Vec<Uuid> = known.iter().filter_map(|(_, assignment)| assignment.as_ref()?.open).collect();
        if !open.is_empty() {
            for decision in as_owner_by_key(|| logged(&round, open))? {
                answers.insert(decision.customer_id.clone(), round.answer(decision));
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
        let mut entrants = Vec::with_capacity(customers.len());
        for (n, (id, assignment)) in known.iter().enumerate() {
            if n % 1024 == 0 {
                crate::pg::interrupt::check();
            }
            match customers.remove(id).filter(|customer| customer.in_audience) {
                None => drop(answers.insert(id.clone(), Answer::Outside { customer_id: id.clone() })),
                Some(customer) => entrants.push(enter(&round, customer, assignment.as_ref(), context)?),
            }
        }
        for decision in as_owner_by_key(|| constrain_and_log(&round, entrants))? {
            answers.insert(decision.customer_id.clone(), round.answer(decision));
        }
        known.retain(|(id, _)| !answers.contains_key(id));
        if known.is_empty() {
            break;
        }
        let left: Vec<String> = known.into_iter().map(|(id, _)| id).collect();
        known = as_owner_by_key(|| assignments(&round, &left))?;
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

/// Runs as the owner.
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
    let candidates = Rc::new(Candidates::of(&campaign));
    let scopes = budget::scopes(&campaign);
    let mode = mode::in_force(&campaign);
    Ok(Round { salt: campaign.salt()?, compiled, now, period, candidates, scopes, mode, campaign })
}

/// Canonical id of each given id: merged and source-qualified ids are resolved. Runs as the owner.
pub fn canonical_ids(customer_ids: &[String]) -> Result<Vec<String>> {
    let aliases: HashMap<String, String> = query::read(
        "SELECT a.alias, a.customer_id FROM decisioning._alias a WHERE a.alias = ANY ($1)",
        &[customer_ids.to_vec().into()],
        |row| Ok((row.value(1)?, row.value(2)?)),
    )?
    .into_iter()
    .collect();
    Ok(customer_ids.iter().map(|id| aliases.get(id).unwrap_or(id).clone()).collect())
}

pub fn parse_group(text: &str) -> Result<Group> {
    Group::parse(text).ok_or_else(|| Error::corrupted(format!("unknown treatment group \"{text}\"")))
}

/// Canonical id and assignment, if any, of each of `ids`, which may be aliases, in their order. The latest, because a later round
/// must see what others committed meanwhile. One look-up per id (OFFSET 0), since the plan may be from when the tables were
/// empty. Runs as the owner.
fn assignments(round: &Round, ids: &[String]) -> Result<Vec<(String, Option<Assignment>)>> {
    let mut found = query::read_latest(
        round.writes(),
        "SELECT coalesce(a.customer_id, n.id), s.treatment_group, s.ordinal,
                (SELECT count(*) FROM unnest(s.recent_decisions) AS r(at)
                 WHERE r.at > $3 - $4 * interval '1 second' AND r.at <= $3)::integer,
                CASE WHEN s.period_ends_at > $3 AND s.decided_at < $5 THEN s.decision_id END,
                n.position, s.ramped_at IS NOT NULL, s.offer, s.offered_at
         FROM unnest($2::text[]) WITH ORDINALITY AS n(id, position)
         LEFT JOIN LATERAL (
             SELECT a.customer_id FROM decisioning._alias a WHERE a.alias = n.id OFFSET 0) AS a ON true
         LEFT JOIN LATERAL (
             SELECT s.* FROM decisioning._assignment s
             WHERE s.customer_id = coalesce(a.customer_id, n.id) AND s.campaign = $1 OFFSET 0) AS s ON true",
        &[
            round.campaign.campaign.as_str().into(),
            ids.to_vec().into(),
            settings::timestamp(round.now)?.into(),
            round.campaign.window_seconds().into(),
            settings::timestamp(round.period.end)?.into(),
        ],
        |row| {
            let assignment = match row.get::<String>(2)? {
                None => None,
                Some(group) => Some(Assignment {
                    group: parse_group(&group)?,
                    ramped: row.value(7)?,
                    ordinal: row.value(3)?,
                    overlap: row.value(4)?,
                    held: offer::held(row, 8)?,
                    open: row.get(5)?,
                }),
            };
            Ok((row.value::<i64>(6)?, (row.value(1)?, assignment)))
        },
    )?;
    found.sort_unstable_by_key(|(position, _)| *position);
    Ok(found.into_iter().map(|(_, known)| known).collect())
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

/// Group and context of one customer.
fn enter(
    round: &Round,
    mut customer: Customer,
    assignment: Option<&Assignment>,
    context: Option<&Map<String, Value>>,
) -> Result<Entrant> {
    let Round { campaign, compiled, salt, now, .. } = round;
    let encoder = &compiled.model.encoder;
    if let Some(context) = context {
        context::override_features(encoder, &mut customer.observation, context)?;
    }
    let mut encoded = vec![0.0; encoder.width()];
    encoder.encode(&customer.observation, &mut encoded);
    let bucket = salt.bucket(&customer.customer_id);
    let first = Assignment::first(campaign, bucket);
    let Assignment { group: assigned, ramped, ordinal, overlap, held, .. } = assignment.unwrap_or(&first);
    let ordinal = ordinal + 1;
    let millis = u64::try_from(now / 1000).map_err(|_| Error::invalid("decisions before 1970 cannot be logged"))?;
    Ok(Entrant {
        bucket,
        assigned: *assigned,
        group: campaign.treated_as(*assigned, bucket, *ramped),
        ordinal,
        overlap: overlap + 1,
        held: held.clone(),
        decision_id: salt.decision_id(&customer.customer_id, ordinal, millis),
        context: context::document(encoder, &customer.observation, context)?,
        encoded,
        household: customer.household.map(|name| offer::household(salt, &name)),
        time_zone: customer.time_zone,
        customer_id: customer.customer_id,
    })
}

/// Chooses for all, and logs what nobody else decided meanwhile; a preview only chooses. Runs as the owner.
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
            decision(round, &propose(round, &mut constraints, 0, entrant)?)
        };
        return entrants.into_iter().map(preview).collect();
    }
    let prospects: Vec<Prospect<'_>> = entrants.iter().map(Entrant::prospect).collect();
    let mut constraints = Constraints::hold(frame, &prospects)?;
    let mut proposals = Vec::with_capacity(entrants.len());
    for (at, entrant) in entrants.into_iter().enumerate() {
        if at % 1024 == 0 {
            crate::pg::interrupt::check();
        }
        let proposal = propose(round, &mut constraints, at, entrant)?;
        proposals.push(proposal);
    }
    if in_turn {
        proposals.sort_unstable_by(|a, b| a.entrant.customer_id.cmp(&b.entrant.customer_id));
    }
    let decisions = reserve_and_log(round, proposals)?;
    let closes_at = settings::timestamp(round.now + (campaign.window_seconds() * 1e6) as i64)?;
    constraints.record(decisions.iter().map(|decision| decision.decision_id), closes_at)?;
    Ok(decisions)
}

/// Candidates and choice of one customer.
fn propose(round: &Round, constraints: &mut Constraints<'_>, at: usize, mut entrant: Entrant) -> Result<Proposal> {
    let Round { campaign, compiled, salt, now, candidates, .. } = round;
    let (candidates, removed) = match constraints.remaining(at, &entrant.prospect()) {
        Some((remaining, removed)) => (Rc::new(remaining), removed),
        None => (candidates.clone(), Removed::new()),
    };
    let choose = |group| {
        let name = |name: &str| action_id(campaign, name);
        let rule = rule(group, &campaign.rules, compiled, &candidates, name, &entrant.encoded);
        choose(&rule, &candidates.arms, &mut salt.random(&entrant.customer_id, entrant.ordinal))
    };
    let (choice, shadow) = match mode::shadows(round.mode, entrant.group) {
        false => (choose(entrant.group), None),
        true => (choose(Group::Control), Some(Shadow::new(choose(entrant.group), &candidates.ids))),
    };
    let arm = candidates.arms[choice.chosen];
    entrant.held = constraints.take(at, &entrant.prospect(), Uuid::from_bytes(entrant.decision_id), arm);

    let slot = arm.and_then(|arm| campaign.actions[arm].dimensions.get("slot"));
    // An unknown zone of a customer falls back to the campaign's.
    let zone = entrant.time_zone.as_deref().unwrap_or(&campaign.time_zone);
    let send_at = next_slot(*now, zone, slot.map(String::as_str))
        .or_else(|_| next_slot(*now, &campaign.time_zone, slot.map(String::as_str)))
        .map_err(|error| Error::invalid(error.to_string()))?;
    let reason = reason(entrant.group, &candidates, &removed, shadow.is_some());
    Ok(Proposal { entrant, candidates, removed, choice, shadow, reason, send_at })
}

fn action_id(campaign: &Campaign, name: &str) -> Option<i32> {
    campaign.actions.iter().find(|action| action.action == name).map(|action| action.action_id)
}

/// Writes the assignments that nobody changed since they were read, and logs those decisions. Runs as the owner.
fn reserve_and_log(round: &Round, mut proposals: Vec<Proposal>) -> Result<Vec<Decision>> {
    if proposals.is_empty() {
        return Ok(Vec::new());
    }
    let Round { campaign, now, period, candidates, .. } = round;
    let name = campaign.campaign.as_str();
    let (now, ends) = (settings::timestamp(*now)?, settings::timestamp(period.end)?);
    let reserved: HashSet<String> = query::write(
        "INSERT INTO decisioning._assignment AS s (customer_id, campaign, treatment_group, bucket, epoch, exposed_at,
             treatable, ordinal, decision_id, decided_at, period_ends_at, recent_decisions, ramped_at, offer, offered_at)
         SELECT n.customer_id, $1, n.treatment_group, n.bucket, $2, $3, $4, n.ordinal, n.decision_id, $3, $5, ARRAY[$3],
                CASE WHEN n.ramped THEN $3 END, n.offer, n.offered_at
         FROM unnest($6::text[], $7::text[], $8::int2[], $9::int8[], $10::uuid[], $12::boolean[], $13::text[],
                     $14::timestamptz[])
              AS n(customer_id, treatment_group, bucket, ordinal, decision_id, ramped, offer, offered_at)
         ON CONFLICT (customer_id, campaign) DO UPDATE
         SET ordinal = excluded.ordinal, decision_id = excluded.decision_id, decided_at = excluded.decided_at,
             period_ends_at = excluded.period_ends_at, ramped_at = coalesce(s.ramped_at, excluded.ramped_at),
             offer = excluded.offer, offered_at = excluded.offered_at,
             recent_decisions = ARRAY(SELECT r.at FROM unnest(s.recent_decisions) AS r(at)
                                      WHERE r.at > $3 - $11 * interval '1 second' AND r.at <= $3) || $3
         WHERE s.ordinal = excluded.ordinal - 1
         RETURNING s.customer_id",
        &[
            name.into(),
            campaign.edition.epoch.into(),
            now.into(),
            candidates.any_send().into(),
            ends.into(),
            column(&proposals, |p| p.entrant.customer_id.clone()).into(),
            column(&proposals, |p| p.entrant.assigned.as_str().to_owned()).into(),
            column(&proposals, |p| p.entrant.bucket as i16).into(),
            column(&proposals, |p| p.entrant.ordinal).into(),
            column(&proposals, |p| Uuid::from_bytes(p.entrant.decision_id)).into(),
            campaign.window_seconds().into(),
            column(&proposals, |p| p.entrant.group != p.entrant.assigned).into(),
            column(&proposals, |p| p.entrant.held.as_ref().map(|held| held.offer.clone())).into(),
            proposals
                .iter()
                .map(|p| p.entrant.held.as_ref().map(|held| settings::timestamp(held.since)).transpose())
                .collect::<Result<Vec<_>>>()?
                .into(),
        ],
        |row| row.value::<String>(1),
    )?
    .into_iter()
    .collect();
    proposals.retain(|proposal| reserved.contains(&proposal.entrant.customer_id));
    if proposals.is_empty() {
        return Ok(Vec::new());
    }

    let decisions: Vec<Decision> = proposals.iter().map(|proposal| decision(round, proposal)).collect::<Result<_>>()?;
    log(round, &proposals, &decisions)?;
    Ok(decisions)
}

fn column<T, U>(rows: &[T], value: impl Fn(&T) -> U) -> Vec<U> {
    rows.iter().map(value).collect()
}

fn decision(round: &Round, proposal: &Proposal) -> Result<Decision> {
    let chosen = proposal.choice.chosen;
    let action = proposal.candidates.arms[chosen].map(|arm| &round.campaign.actions[arm]);
    Ok(Decision {
        decision_id: Uuid::from_bytes(proposal.entrant.decision_id),
        customer_id: proposal.entrant.customer_id.clone(),
        group: proposal.entrant.group,
        action_id: action.map(|action| action.action_id),
        content: action.and_then(|action| action.content.as_ref()).map(Value::to_string),
        send_at: action.map(|_| settings::timestamp(proposal.send_at)).transpose()?,
        propensity: proposal.choice.propensities[chosen],
        reason: proposal.reason.to_owned(),
        expires_at: Some(settings::timestamp(round.period.end)?),
        new: true,
    })
}

pub fn action_name(campaign: &Campaign, action_id: Option<i32>) -> &str {
    action_id.and_then(|id| campaign.action(id)).map_or(NO_SEND, |action| &action.action)
}
