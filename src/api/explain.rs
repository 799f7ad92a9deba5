//! Preview, explain and replay: decisions one can look into.

use std::rc::Rc;

use decisioning_core::decide::{choose, period, propensities, Group, Terms};
use decisioning_core::learn::Layout;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};

use super::budget;
use super::campaign::{self, Action, Campaign, Rules, NO_SEND};
use super::constraint::{self, Constraints, Prospect, Remaining, Removed};
use super::context;
use super::decide::context_object;
use super::entry::{self, NO_ENTRY};
use super::global_holdout::GLOBAL_HOLDOUT;
use super::guardrail::{self, Place, Subject, MUST_SEND};
use super::model::{self, Compiled};
use super::offer;
use super::pipeline::{action_name, parse_group, rule, Assignment, Candidates, Moment, NOT_IN_AUDIENCE};
use super::privacy::forget::check_known;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::{query, settings};

/// Features named in an explanation.
const CONTRIBUTIONS: usize = 5;

type PreviewRow = (String, bool, Option<String>, Option<f64>, Option<f64>, Option<f64>, Option<f64>, Option<String>);

#[pg_extern(sql = false)]
fn preview(
    customer_id: Option<&str>,
    campaign: Option<&str>,
    context: Option<JsonB>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(action, String),
            name!(candidate, bool),
            name!(removed_by, Option<String>),
            name!(probability, Option<f64>),
            name!(uplift, Option<f64>),
            name!(net_uplift, Option<f64>),
            name!(propensity, Option<f64>),
            name!(treatment_group, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let customer_id = required(customer_id, "customer_id")?;
    let name = required(campaign, "campaign")?;
    let given = context_object(context)?;
    let (campaign, compiled, id, assigned) = as_owner(|| {
        let (campaign, model_version) = campaign::load(name)?;
        let compiled = model::current(&campaign, model_version)?;
        let now = settings::now_micros()?;
        let period_end = period(now, &campaign.time_zone).map_err(|error| Error::invalid(error.to_string()))?.end;
        let moment = Moment { campaign: &campaign, now, period_end };
        let (id, assigned) = moment.assignments(&[customer_id.to_owned()], false)?.remove(0);
        Ok((campaign, compiled, id, assigned))
    })?;
    let model = &compiled.model;
    let now = settings::now_micros()?;
    let mut customers =
        context::read_customers(&campaign, &model.encoder, std::slice::from_ref(&id), settings::timestamp(now)?)?;
    let customer = customers.remove(&id).filter(|customer| customer.in_audience);
    let actions = campaign.actions.iter().map(|action| action.action.clone());
    let entries = entry::latest(&campaign, std::slice::from_ref(&id), now)?;
    let entered_at = assigned.as_ref().and_then(Assignment::entered_at);
    let is_due = campaign.entries.is_empty() || entries.values().any(|entry| Some(entry.at) > entered_at);
    let reason = if customer.is_none() { NOT_IN_AUDIENCE } else { NO_ENTRY };
    let Some(mut customer) = customer.filter(|_| is_due) else {
        let rows: Vec<PreviewRow> = std::iter::once(NO_SEND.to_owned())
            .chain(actions)
            .map(|action| (action, false, Some(reason.to_owned()), None, None, None, None, None))
            .collect();
        return Ok(TableIterator::new(rows));
    };
    if let Some(given) = &given {
        context::override_features(&model.encoder, &mut customer.observation, given)?;
    }
    let mut encoded = vec![0.0; model.encoder.width()];
    model.encoder.encode(&customer.observation, &mut encoded);
    let salt = campaign.salt();
    let mut assignment = assigned.unwrap_or_else(Assignment::first);
    assignment.draw(&campaign, &salt, &id, customer.household.as_deref(), false)?;
    let group = assignment.treated_as(&campaign);
    let approved = Candidates::of(&campaign, now);
    let household = customer.household.as_deref().map(|name| offer::household(&salt, name));
    let (exposed_at, contacts) = (assignment.first_exposed_at(), assignment.contacts());
    let subject = Subject { customer_id: &id, flags: std::mem::take(&mut customer.flags), exposed_at, contacts };
    let standing = guardrail::read(&campaign, vec![subject], now, campaign.priority.is_some(), false)?.remove(0);
    let place = Place { zone: customer.time_zone.as_deref(), jurisdiction: customer.jurisdiction.as_deref() };
    let prospect = Prospect { encoded: &encoded, held: assignment.held(), household, standing: &standing, place };
    let scopes = budget::scopes(&campaign);
    let remaining = as_owner(|| {
        let (campaign, compiled) = (&*campaign, &*compiled);
        let frame = constraint::Frame { campaign, compiled, candidates: &approved, scopes: &scopes, now };
        Constraints::look(frame, &prospect)?.remaining(0, &prospect)
    })?;
    let Remaining { left, removed, required, .. } = remaining;
    let candidates = left.unwrap_or(approved).for_group(group, required);

    let rule = rule(group, &campaign.rules, &compiled, &candidates, |name| find(&campaign, name), &encoded);
    let weights = propensities(&rule, &candidates.arms);

    let (no_send, quiet) = (compiled.probability(&encoded, None), compiled.net_worth(&encoded, None));
    let quiet_at = candidates.arms.iter().position(Option::is_none);
    let mut rows: Vec<PreviewRow> = vec![(
        NO_SEND.to_owned(),
        quiet_at.is_some(),
        quiet_at.is_none().then(|| MUST_SEND.to_owned()),
        Some(no_send),
        Some(0.0),
        Some(0.0),
        quiet_at.map(|at| weights[at]),
        Some(group.as_str().to_owned()),
    )];
    for (arm, action) in campaign.actions.iter().enumerate() {
        let position = candidates.arms.iter().position(|candidate| *candidate == Some(arm));
        let sent = compiled.probability(&encoded, Some(arm));
        rows.push((
            action.action.clone(),
            position.is_some(),
            position.is_none().then(|| removed_by(&removed, action)),
            Some(sent),
            Some(sent - no_send),
            Some(compiled.net_worth(&encoded, Some(arm)) - quiet),
            position.map(|at| weights[at]),
            Some(group.as_str().to_owned()),
        ));
    }
    Ok(TableIterator::new(rows))
}

fn removed_by(removed: &Removed, action: &Action) -> String {
    let by = removed.iter().find(|(_, actions)| actions.contains(&action.action_id));
    // An approved action that is no candidate, and that nothing has removed, was approved until now.
    let status = if action.status == "approved" { "ended" } else { &action.status };
    by.map_or_else(|| format!("approval: {status}"), |(by, _)| by.clone())
}

fn find(campaign: &Campaign, name: &str) -> Option<i32> {
    campaign.actions.iter().find(|action| action.action == name).map(|action| action.action_id)
}

/// A logged decision, with what is needed to look into it.
struct Logged {
    campaign: Rc<Campaign>,
    rules: Rules,
    compiled: Compiled,
    customer_id: String,
    group: String,
    action_id: i32,
    propensity: f64,
    propensities: Vec<f64>,
    ordinal: i64,
    candidates: Candidates,
    removed: Removed,
    encoded: Vec<f32>,
    /// What would have been chosen, and its propensities, if the decision was made in shadow mode.
    shadow: Option<(i32, Vec<f64>)>,
    model_version: i64,
    epoch: i64,
    reason: String,
    decided_at: String,
    overlap: i32,
}

/// Reads a decision as the owner.
///
/// # Errors
/// No such decision, or an imported one, whose choice was made elsewhere.
fn load(decision_id: Uuid) -> Result<Logged> {
    let row = query::read_one(
        "SELECT d.campaign, d.customer_id, d.treatment_group, d.action_id, d.propensity, d.propensities, d.ordinal,
                d.candidates, d.encoded, d.model_version, d.epoch, d.reason, d.decided_at::text, d.overlap, d.origin,
                (SELECT e.after::text FROM decisioning.epochs e
                 WHERE e.campaign = d.campaign AND e.relation = 'campaigns' AND e.epoch <= d.epoch AND e.after IS NOT NULL
                 ORDER BY e.epoch DESC LIMIT 1),
                d.shadow_action_id, d.shadow_propensities, d.removed::text
         FROM decisioning.decisions d WHERE d.decision_id = $1",
        &[decision_id.into()],
        |row| {
            if row.value::<String>(15)? != "live" {
                return Err(Error::state(format!("decision {decision_id} was imported"))
                    .detail("Its choice was made elsewhere; only its propensity is known."));
            }
            let (campaign, _) = campaign::load(&row.value::<String>(1)?)?;
            let rules: Rules = serde_json::from_str(&row.value::<String>(16)?)?;
            let model_version = row.value::<i64>(10)?;
            let mut compiled = model::compile(&campaign, Rc::new(model::load(&campaign.campaign, model_version)?));
            compiled.terms = campaign::at_epoch(&campaign, &rules, row.value(11)?)?.terms(&compiled.model.targets(), &compiled.model.prices);
            let ids: Vec<i32> = row.value(8)?;
            let arm = |id: &i32| campaign.actions.iter().position(|action| action.action_id == *id);
            let candidates = Candidates { arms: ids.iter().map(arm).collect(), ids };
            Ok(Logged {
                rules,
                compiled,
                customer_id: row.value(2)?,
                group: row.value(3)?,
                action_id: row.value(4)?,
                propensity: row.value(5)?,
                propensities: row.value(6)?,
                ordinal: row.value(7)?,
                candidates,
                removed: row.get::<String>(19)?.map_or(Ok(Removed::new()), |removed| serde_json::from_str(&removed))?,
                encoded: row.value(9)?,
                shadow: row.get::<i32>(17)?.zip(row.get::<Vec<f64>>(18)?),
                model_version,
                epoch: row.value(11)?,
                reason: row.value(12)?,
                decided_at: row.value(13)?,
                overlap: row.value(14)?,
                campaign,
            })
        },
    )?;
    row.ok_or_else(|| {
        Error::missing(format!("decision {decision_id} does not exist"))
            .hint("SELECT decision_id FROM decisioning.decisions WHERE customer_id = … lists those of a customer.")
    })
}

#[pg_extern(sql = false)]
fn replay(
    decision_id: Option<Uuid>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(matches, bool),
            name!(action, String),
            name!(replayed_action, String),
            name!(propensity, f64),
            name!(replayed_propensity, f64),
            name!(replayed_propensities, Vec<f64>),
        ),
    >,
    ErrorReport,
> {
    let decision_id = required(decision_id, "decision_id")?;
    let logged = as_owner(|| {
        let logged = load(decision_id)?;
        check_known(&logged.customer_id)?;
        Ok(logged)
    })?;
    let Logged { campaign, rules, compiled, candidates, encoded, .. } = &logged;
    let group = parse_group(&logged.group)?;
    let salt = campaign.salt();
    let repeat = |group| {
        let rule = rule(group, rules, compiled, candidates, |name| find(campaign, name), encoded);
        let choice = choose(&rule, &candidates.arms, &mut salt.random(&logged.customer_id, logged.ordinal));
        (candidates.ids[choice.chosen], choice)
    };
    let (replayed, choice) = repeat(if logged.shadow.is_some() { Group::Control } else { group });
    let shadow_matches = logged.shadow.as_ref().is_none_or(|(action_id, propensities)| {
        let (replayed, choice) = repeat(group);
        replayed == *action_id && choice.propensities == *propensities
    });
    let matches = shadow_matches && replayed == logged.action_id && choice.propensities == logged.propensities;
    let name = |id: i32| action_name(campaign, Some(id)).to_owned();
    Ok(TableIterator::once((
        matches,
        name(logged.action_id),
        name(replayed),
        logged.propensity,
        choice.propensities[choice.chosen],
        choice.propensities,
    )))
}

#[pg_extern(sql = false)]
fn explain(
    decision_id: Option<Uuid>,
) -> std::result::Result<
    TableIterator<
        'static,
        (name!(step, i32), name!(subject, String), name!(explanation, String), name!(number, Option<f64>)),
    >,
    ErrorReport,
> {
    let decision_id = required(decision_id, "decision_id")?;
    let (logged, send) = as_owner(|| Ok((load(decision_id)?, send_of(decision_id)?)))?;
    let mut rows = story(&logged);
    rows.extend(send.map(|explanation| ("send".to_owned(), explanation, None)));
    Ok(TableIterator::new(
        rows.into_iter()
            .enumerate()
            .map(|(at, (subject, explanation, number))| (at as i32 + 1, subject, explanation, number)),
    ))
}

/// What became of the send, if it was dispatched. Runs as the owner.
fn send_of(decision_id: Uuid) -> Result<Option<String>> {
    query::read_one(
        "SELECT format('the send is %s since %s%s', m.status, m.occurred_at, ' (' || m.reason || ')') FROM decisioning.sends m
         WHERE m.decision_id = $1",
        &[decision_id.into()],
        |row| row.value(1),
    )
}

fn story(logged: &Logged) -> Vec<(String, String, Option<f64>)> {
    let Logged { campaign, compiled, candidates, .. } = logged;
    let action = action_name(campaign, Some(logged.action_id));
    let mut rows = Vec::new();
    let mut say = |subject: &str, explanation: String, number: Option<f64>| {
        rows.push((subject.to_owned(), explanation, number));
    };
    say(
        "decision",
        format!(
            "customer {} got {action} in campaign {} at {}",
            logged.customer_id, campaign.campaign, logged.decided_at
        ),
        None,
    );
    let group = match logged.group.as_str() {
        "holdout" if logged.reason == GLOBAL_HOLDOUT => {
            "the customer is in the global holdout, which no campaign contacts"
        }
        "holdout" => "the customer is in the holdout, which is never contacted",
        "control" => "the customer is in the control group, which always gets the control action",
        "explore" => "the customer is in the explore group, which gets a random action",
        _ => "the customer is in the optimise group, which gets what the model expects to work best",
    };
    say("group", group.to_owned(), None);
    say(
        "candidates",
        format!(
            "candidates passed the guardrails{} ({})",
            if candidates.ids.contains(&0) { ", no_send included" } else { ", no_send is none" },
            logged.reason
        ),
        Some(candidates.ids.len() as f64),
    );
    let mut considered = logged.action_id;
    if let Some((would_be, propensities)) = &logged.shadow {
        considered = *would_be;
        let at = candidates.ids.iter().position(|id| id == would_be);
        let meaning = format!(
            "{} would have been chosen; in shadow mode the control rule decides",
            action_name(campaign, Some(*would_be))
        );
        say("shadow", meaning, at.and_then(|at| propensities.get(at)).copied());
    }
    if let (Some(feature), Some(at)) = (compiled.model.encoder.offset(), compiled.model.encoder.offset_column()) {
        let meaning = format!("log-odds by {}, which the model starts from", feature.name);
        say("offset", meaning, logged.encoded.get(at as usize).map(|x| f64::from(*x)));
    }
    for (by, actions) in &logged.removed {
        let names: Vec<&str> = actions.iter().map(|id| action_name(campaign, Some(*id))).collect();
        say("removed", format!("{by} kept out {}", names.join(", ")), Some(actions.len() as f64));
    }
    if logged.group == "optimise" {
        let arm = |id: i32| campaign.actions.iter().position(|known| known.action_id == id);
        let quiet = compiled.probability(&logged.encoded, None);
        say("no_send", "estimated probability of the goal without a message".to_owned(), Some(quiet));
        if let Some(chosen) = arm(considered) {
            let sent = compiled.probability(&logged.encoded, Some(chosen));
            let action = action_name(campaign, Some(considered));
            say(action, "estimated probability of the goal with this action".to_owned(), Some(sent));
            say("uplift", format!("{:+.2} percentage points over no_send", 100.0 * (sent - quiet)), Some(sent - quiet));
            if compiled.terms != Terms::free(campaign.actions.len()) {
                let net = compiled.net_worth(&logged.encoded, Some(chosen)) - compiled.net_worth(&logged.encoded, None);
                let unit = campaign.currency.as_deref().unwrap_or("units of value");
                say("net uplift", format!("expected gain over no_send, net of costs, in {unit}"), Some(net));
            }
            for (name, log_odds) in
                contributions(&compiled.model.layout, &compiled.model.response().mean, logged, chosen)
            {
                let direction = match log_odds {
                    0.0 => "speaks neither for nor against",
                    for_it if for_it > 0.0 => "speaks for",
                    _ => "speaks against",
                };
                say(&name, format!("{direction} sending it, log-odds"), Some(log_odds));
            }
        }
        say(
            "model",
            format!("model version {} in configuration epoch {}", logged.model_version, logged.epoch),
            Some(logged.model_version as f64),
        );
        say(
            "floor",
            "probability that the choice was spread evenly over all candidates".to_owned(),
            Some(logged.rules.propensity_floor),
        );
    }
    say("propensity", format!("probability that this choice was {action}"), Some(logged.propensity));
    say(
        "overlap",
        format!(
            "decisions whose attribution windows were open with it; it is learned with weight 1/{}",
            logged.overlap
        ),
        Some(f64::from(logged.overlap)),
    );
    rows
}

/// The largest terms of the log-odds over no-send.
fn contributions(layout: &Layout, mean: &[f64], logged: &Logged, arm: usize) -> Vec<(String, f64)> {
    let names = layout.coefficient_names();
    let mut row = Vec::new();
    layout.design(&logged.encoded, Some(&logged.compiled.arms[arm]), &mut row);
    let mut terms: Vec<(String, f64)> = row
        .iter()
        .filter(|(at, _)| *at as usize >= layout.send_offset())
        .map(|(at, x)| (names[*at as usize].clone(), mean[*at as usize] * x))
        .collect();
    terms.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    terms.truncate(CONTRIBUTIONS);
    terms
}
