//! Outcomes: signed, append-only, idempotent on goal and event.

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::Uuid;

use super::follow::name_in_log;
use super::log::LEARNED;
use super::pipeline::canonical_ids;
use super::{goal, now};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::{query, settings};

/// Clocks differ; an event later than this after now is a mistake.
const FUTURE_MICROS: i64 = 24 * 3_600_000_000;

/// An event as its sender tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub event_id: String,
    pub customer_id: String,
    pub value: f64,
    pub occurred_at: TimestampWithTimeZone,
    pub decision_id: Option<Uuid>,
}

/// What recording changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub recorded: i64,
    pub adjusted: i64,
    pub reversed: i64,
}

/// A row of the append-only log.
struct Entry {
    event: Event,
    kind: &'static str,
    events: i16,
    value: f64,
}

/// The truth about an event as known so far.
struct Known {
    customer_id: String,
    value: f64,
    occurred_at: TimestampWithTimeZone,
    reversed: bool,
}

/// Records events of one goal, under the ids that were given: whose they are may change, and is looked up when it matters. An
/// event that is known is left alone if nothing changed, adjusted if its value did, and reversed and recorded again if its
/// customer or time did. Of the same event given twice, the last counts. Runs as
/// the owner; the key rows of the events are locked in order of their ids.
pub fn record(goal: &str, source: Option<&str>, events: Vec<Event>) -> Result<Recorded> {
    let mut latest: std::collections::BTreeMap<String, Event> = std::collections::BTreeMap::new();
    for event in events {
        latest.insert(event.event_id.clone(), event);
    }
    let events: Vec<Event> = latest.into_values().collect();
    if events.is_empty() {
        return Ok(Recorded::default());
    }

    let given: Vec<String> = events.iter().map(|event| event.customer_id.clone()).collect();
    name_in_log(&given)?;

    // New keys first: a concurrent session that records the same event waits here and then finds it known.
    let ids: Vec<String> = events.iter().map(|event| event.event_id.clone()).collect();
    let inserted: std::collections::HashSet<String> = query::write(
        "INSERT INTO decisioning._outcome_key AS k (goal, event_id, customer_id, value, occurred_at, outcome_source)
         SELECT $1, n.event_id, n.customer_id, n.value, n.occurred_at, $2
         FROM unnest($3::text[], $4::text[], $5::float8[], $6::timestamptz[]) AS n(event_id, customer_id, value, occurred_at)
         ON CONFLICT (goal, event_id) DO NOTHING
         RETURNING k.event_id",
        &[
            goal.into(),
            source.into(),
            ids.clone().into(),
            events.iter().map(|event| event.customer_id.clone()).collect::<Vec<_>>().into(),
            events.iter().map(|event| event.value).collect::<Vec<_>>().into(),
            events.iter().map(|event| event.occurred_at).collect::<Vec<_>>().into(),
        ],
        |row| row.value::<String>(1),
    )?
    .into_iter()
    .collect();
    let mut known: HashMap<String, Known> = HashMap::new();
    if inserted.len() < events.len() {
        known = query::write(
            "SELECT k.event_id, k.customer_id, k.value, k.occurred_at, k.reversed FROM decisioning._outcome_key k
             WHERE k.goal = $1 AND k.event_id = ANY ($2) ORDER BY k.event_id FOR UPDATE",
            &[goal.into(), ids.into()],
            |row| {
                let known = Known {
                    customer_id: row.value(2)?,
                    value: row.value(3)?,
                    occurred_at: row.value(4)?,
                    reversed: row.value(5)?,
                };
                Ok((row.value::<String>(1)?, known))
            },
        )?
        .into_iter()
        .collect();
    }

    let mut owners = HashMap::new();
    if !known.is_empty() {
        let given = events.iter().map(|event| &event.customer_id).chain(known.values().map(|known| &known.customer_id));
        let given: Vec<String> = given.cloned().collect();
        owners = given.iter().cloned().zip(canonical_ids(&given)?).collect();
    }

    let mut counts = Recorded::default();
    let (mut entries, mut changed) = (Vec::new(), Vec::new());
    for mut event in events {
        if inserted.contains(&event.event_id) {
            counts.recorded += 1;
            entries.push(Entry { kind: "event", events: 1, value: event.value, event });
            continue;
        }
        let Some(known) = known.get(&event.event_id) else {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!("event \"{}\" is being recorded by another session", event.event_id),
            )
            .hint("Retry the transaction."));
        };
        // The same customer by another of his ids is no change.
        let moved =
            owners.get(&known.customer_id) != owners.get(&event.customer_id) || known.occurred_at != event.occurred_at;
        if !known.reversed && !moved && known.value == event.value {
            continue;
        }
        if !known.reversed && !moved {
            event.customer_id.clone_from(&known.customer_id);
            counts.adjusted += 1;
            entries.push(Entry {
                kind: "adjustment",
                events: 0,
                value: event.value - known.value,
                event: event.clone(),
            });
        } else {
            if known.reversed {
                counts.recorded += 1;
            } else {
                counts.adjusted += 1;
                entries.push(reversal(event.event_id.clone(), known));
            }
            entries.push(Entry { kind: "event", events: 1, value: event.value, event: event.clone() });
        }
        changed.push(event);
    }
    update_keys(goal, source, &changed, false)?;
    append(goal, source, &entries)?;
    Ok(counts)
}

/// Takes back events that are no longer there. Runs as the owner.
pub fn reverse(goal: &str, source: Option<&str>, event_ids: Vec<String>) -> Result<i64> {
    let known = query::write(
        "SELECT k.event_id, k.customer_id, k.value, k.occurred_at FROM decisioning._outcome_key k
         WHERE k.goal = $1 AND k.event_id = ANY ($2) AND NOT k.reversed ORDER BY k.event_id FOR UPDATE",
        &[goal.into(), event_ids.into()],
        |row| {
            let known =
                Known { customer_id: row.value(2)?, value: row.value(3)?, occurred_at: row.value(4)?, reversed: false };
            Ok((row.value::<String>(1)?, known))
        },
    )?;
    let entries: Vec<Entry> = known.iter().map(|(event_id, known)| reversal(event_id.clone(), known)).collect();
    let events: Vec<Event> = entries.iter().map(|entry| entry.event.clone()).collect();
    update_keys(goal, source, &events, true)?;
    append(goal, source, &entries)?;
    Ok(entries.len() as i64)
}

fn reversal(event_id: String, known: &Known) -> Entry {
    let event = Event {
        event_id,
        customer_id: known.customer_id.clone(),
        value: known.value,
        occurred_at: known.occurred_at,
        decision_id: None,
    };
    Entry { kind: "reversal", events: -1, value: -known.value, event }
}

fn update_keys(goal: &str, source: Option<&str>, events: &[Event], reversed: bool) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    query::execute(
        "UPDATE decisioning._outcome_key k
         SET customer_id = n.customer_id, value = n.value, occurred_at = n.occurred_at, reversed = $2,
             outcome_source = coalesce($3, k.outcome_source)
         FROM unnest($4::text[], $5::text[], $6::float8[], $7::timestamptz[]) AS n(event_id, customer_id, value, occurred_at)
         WHERE k.goal = $1 AND k.event_id = n.event_id",
        &[
            goal.into(),
            reversed.into(),
            source.into(),
            events.iter().map(|event| event.event_id.clone()).collect::<Vec<_>>().into(),
            events.iter().map(|event| event.customer_id.clone()).collect::<Vec<_>>().into(),
            events.iter().map(|event| event.value).collect::<Vec<_>>().into(),
            events.iter().map(|event| event.occurred_at).collect::<Vec<_>>().into(),
        ],
    )?;
    Ok(())
}

/// Appends to the log, and to the inbox of every campaign that works for the goal.
fn append(goal: &str, source: Option<&str>, entries: &[Entry]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "WITH appended AS (
             INSERT INTO decisioning.outcomes (goal, event_id, customer_id, kind, events, value, occurred_at, recorded_at,
                 decision_id, outcome_source)
             SELECT $1, n.event_id, n.customer_id, n.kind, n.events, n.value, n.occurred_at, $2, n.decision_id, $3
             FROM unnest($4::text[], $5::text[], $6::text[], $7::int2[], $8::float8[], $9::timestamptz[], $10::uuid[])
                  AS n(event_id, customer_id, kind, events, value, occurred_at, decision_id)
             RETURNING outcome_id)
         INSERT INTO decisioning._inbox (campaign, closes_at, outcome_id)
         SELECT g.campaign, '-infinity', a.outcome_id
         FROM appended a CROSS JOIN decisioning.campaign_goals g
         JOIN decisioning.goals k ON k.goal = g.goal AND {LEARNED}
         WHERE g.goal = $1"
    );
    query::execute(
        &sql,
        &[
            goal.into(),
            now()?.into(),
            source.into(),
            entries.iter().map(|entry| entry.event.event_id.clone()).collect::<Vec<_>>().into(),
            entries.iter().map(|entry| entry.event.customer_id.clone()).collect::<Vec<_>>().into(),
            entries.iter().map(|entry| entry.kind.to_owned()).collect::<Vec<_>>().into(),
            entries.iter().map(|entry| entry.events).collect::<Vec<_>>().into(),
            entries.iter().map(|entry| entry.value).collect::<Vec<_>>().into(),
            entries.iter().map(|entry| entry.event.occurred_at).collect::<Vec<_>>().into(),
            entries.iter().map(|entry| entry.event.decision_id).collect::<Vec<_>>().into(),
        ],
    )?;
    Ok(())
}

/// Refuses what can only be a mistake.
pub fn check(event: &Event, now_micros: i64) -> Result<()> {
    let Event { event_id, value, .. } = event;
    if event_id.is_empty() {
        return Err(Error::invalid("event_id must not be empty"));
    }
    if !value.is_finite() {
        return Err(Error::invalid(format!("value of event \"{event_id}\" must be a finite number"))
            .detail(format!("Given: {value}.")));
    }
    let Some(at) = settings::micros(event.occurred_at) else {
        return Err(Error::invalid(format!("event \"{event_id}\" must have a finite time")));
    };
    if at > now_micros.saturating_add(FUTURE_MICROS) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
            format!("event \"{event_id}\" occurred more than a day from now"),
        )
        .hint("Check the unit and the time zone of occurred_at."));
    }
    Ok(())
}

/// When known events occurred: one that is sent again without a time keeps its first.
fn first_times(goal: &str, event_ids: &[String]) -> Result<HashMap<String, TimestampWithTimeZone>> {
    let times = query::read(
        "SELECT k.event_id, k.occurred_at FROM decisioning._outcome_key k WHERE k.goal = $1 AND k.event_id = ANY ($2)",
        &[goal.into(), event_ids.to_vec().into()],
        |row| Ok((row.value::<String>(1)?, row.value(2)?)),
    )?;
    Ok(times.into_iter().collect())
}

#[pg_extern(sql = false)]
fn record_outcome(
    goal: Option<&str>,
    event_id: Option<&str>,
    customer_id: Option<&str>,
    value: Option<f64>,
    occurred_at: Option<TimestampWithTimeZone>,
    decision_id: Option<Uuid>,
) -> std::result::Result<String, ErrorReport> {
    let goal = required(goal, "goal")?;
    let event_id = required(event_id, "event_id")?;
    let counts = as_owner(|| {
        goal::check_goal(goal)?;
        let customer_id = match (customer_id, decision_id) {
            (Some(_), Some(_)) | (None, None) => return Err(Error::invalid("give either customer_id or decision_id")),
            (Some(""), None) => return Err(Error::invalid("customer_id must not be empty")),
            (Some(customer_id), None) => customer_id.to_owned(),
            (None, Some(decision_id)) => query::read_one(
                "SELECT d.customer_id FROM decisioning.decisions d WHERE d.decision_id = $1",
                &[decision_id.into()],
                |row| row.value::<String>(1),
            )?
            .ok_or_else(|| Error::missing(format!("decision {decision_id} does not exist")))?,
        };
        let occurred_at = match occurred_at {
            Some(at) => at,
            None => first_times(goal, &[event_id.to_owned()])?.remove(event_id).map_or_else(now, Ok)?,
        };
        let event =
            Event { event_id: event_id.to_owned(), customer_id, value: value.unwrap_or(1.0), occurred_at, decision_id };
        check(&event, settings::now_micros()?)?;
        record(goal, None, vec![event])
    })?;
    Ok(match counts {
        Recorded { recorded: 1.., .. } => "recorded",
        Recorded { adjusted: 1.., .. } => "adjusted",
        _ => "unchanged",
    }
    .to_owned())
}

#[pg_extern(sql = false)]
fn record_outcomes(
    goal: Option<&str>,
    event_ids: Option<Vec<Option<String>>>,
    customer_ids: Option<Vec<Option<String>>>,
    amounts: Option<Vec<Option<f64>>>,
    occurred_at: Option<Vec<Option<TimestampWithTimeZone>>>,
) -> std::result::Result<i64, ErrorReport> {
    let goal = required(goal, "goal")?;
    let event_ids = required(event_ids, "event_ids")?;
    let customer_ids = required(customer_ids, "customer_ids")?;
    let lengths = [
        customer_ids.len(),
        amounts.as_ref().map_or(event_ids.len(), Vec::len),
        occurred_at.as_ref().map_or(event_ids.len(), Vec::len),
    ];
    if lengths.iter().any(|length| *length != event_ids.len()) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_ARRAY_ELEMENT_ERROR,
            "event_ids, customer_ids, amounts and occurred_at must have the same length",
        )
        .into());
    }
    let counts = as_owner(|| {
        goal::check_goal(goal)?;
        let (now, now_micros) = (now()?, settings::now_micros()?);
        let known: Vec<String> = event_ids.iter().flatten().cloned().collect();
        let mut first_times = match &occurred_at {
            Some(times) if times.iter().all(Option::is_some) => HashMap::new(),
            _ => first_times(goal, &known)?,
        };
        let events = event_ids
            .into_iter()
            .zip(customer_ids)
            .enumerate()
            .map(|(at, (event_id, customer_id))| {
                let event_id = required(event_id, "event_ids element")?;
                let given = occurred_at.as_ref().and_then(|times| times[at]);
                let event = Event {
                    occurred_at: given.or_else(|| first_times.remove(&event_id)).unwrap_or(now),
                    event_id,
                    customer_id: required(customer_id.filter(|id| !id.is_empty()), "customer_ids element")?,
                    value: amounts.as_ref().and_then(|amounts| amounts[at]).unwrap_or(1.0),
                    decision_id: None,
                };
                check(&event, now_micros)?;
                Ok(event)
            })
            .collect::<Result<Vec<_>>>()?;
        record(goal, None, events)
    })?;
    Ok(counts.recorded + counts.adjusted)
}
