//! Ramp: customers of the control group move to optimise, in the order of their buckets, once and dated.
//!
//! Buckets come from a hash of the customer alone, so those who have moved and those who have not are alike, and those who
//! have not stay a fair comparison for lift.

use decisioning_core::measure::Finding;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Campaign, Status};
use super::evaluate::checked_confidence;
use super::fairness::guardrail as fairness;
use super::lift::{self, Line, Measure, Question};
use super::now;
use crate::api::configuration;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

#[pg_extern(sql = false)]
fn ramp_control(campaign: Option<&str>, share: Option<f64>) -> std::result::Result<i64, ErrorReport> {
    let name = required(campaign, "campaign")?;
    let share = super::configure::share(share, "share", 1.0)?;
    fairness::enforce(name)?;
    Ok(as_owner(|| {
        let (campaign, _) = campaign::load(name)?;
        check(&campaign)?;
        if share < campaign.control_ramped {
            return Err(Error::invalid(format!("a ramp of campaign \"{name}\" cannot go back"))
                .detail(format!("{:.1} % of its control group have moved.", 100.0 * campaign.control_ramped))
                .hint("Who has been in optimise is no control any more; pause the campaign to stop its sends."));
        }
        ramp(&campaign, share)
    })?)
}

/// A campaign that can ramp: it has a control group, and is not over.
fn check(campaign: &Campaign) -> Result<()> {
    if campaign.rules.control_share <= 0.0 {
        return Err(Error::state(format!("campaign \"{}\" has no control group", campaign.campaign))
            .hint("Give create_campaign a control_share and a control_action."));
    }
    match campaign.status {
        Status::Ended => Err(Error::state(format!("campaign \"{}\" has ended", campaign.campaign))),
        Status::Draft | Status::Active | Status::Paused => Ok(()),
    }
}

/// Moves the first `share` of the control group, in all, and returns how many customers moved now. Customers who are new
/// later move when they come. Runs as the owner.
fn ramp(campaign: &Campaign, share: f64) -> Result<i64> {
    let name = campaign.campaign.as_str();
    query::execute(
        "UPDATE decisioning.campaigns SET control_ramped = $2, ramped_at = $3 WHERE campaign = $1 AND control_ramped < $2",
        &[name.into(), share.into(), now()?.into()],
    )?;
    // In the order in which batches of decisions lock.
    let moved = query::execute(
        "WITH moving AS MATERIALIZED (
             SELECT s.customer_id FROM decisioning._assignment s
             WHERE s.campaign = $1 AND s.treatment_group = 'control' AND s.ramped_at IS NULL AND s.bucket < $2
               AND s.exposed_at < 'infinity'
             ORDER BY s.customer_id COLLATE \"C\" FOR UPDATE)
         UPDATE decisioning._assignment s SET ramped_at = $3
         FROM moving m WHERE s.campaign = $1 AND s.customer_id = m.customer_id",
        &[name.into(), i32::from(campaign.shares().ramp_bound(share)).into(), now()?.into()],
    )?;
    Ok(i64::try_from(moved).unwrap_or(i64::MAX))
}

#[pg_extern(sql = false)]
fn ramp_when_better(
    campaign: Option<&str>,
    step: Option<f64>,
    confidence: Option<f64>,
    goal: Option<&str>,
) -> std::result::Result<Option<f64>, ErrorReport> {
    let name = required(campaign, "campaign")?;
    let confidence = checked_confidence(confidence)?;
    let step = step.map(|step| super::configure::share(Some(step), "step", 1.0)).transpose()?;
    as_owner(|| {
        let (campaign, _) = campaign::load(name)?;
        check(&campaign)?;
        let goal = match (step, goal) {
            (Some(_), goal) => Some(goal_of(&campaign, goal)?),
            (None, _) => None,
        };
        configuration::execute(
            "UPDATE decisioning.campaigns SET ramp_step = $2, ramp_confidence = $3, ramp_goal = $4 WHERE campaign = $1",
            &[name.into(), step.filter(|step| *step > 0.0).into(), confidence.into(), goal.into()],
        )
    })?;
    Ok(follow(name)?)
}

/// The goal whose lift decides: the one named, or the only one.
fn goal_of(campaign: &Campaign, goal: Option<&str>) -> Result<String> {
    let known: Vec<&str> = campaign.reward_goals().map(|goal| goal.goal.as_str()).collect();
    match (goal, known.as_slice()) {
        (None, [only]) => Ok((*only).to_owned()),
        (Some(goal), known) if known.contains(&goal) => Ok(goal.to_owned()),
        _ => Err(Error::invalid(format!("a ramp of campaign \"{}\" must know its goal", campaign.campaign))
            .hint(format!("Give goal: one of {}.", known.join(", ")))),
    }
}

/// Takes the next step of a campaign that ramps on evidence, if there is any evidence: that optimise is better than the
/// control customers who have not moved, and does not harm them more. At most one step per attribution window, so that
/// there is something new to see. Returns the share that has moved by now; `None` if the campaign does not ramp.
pub fn follow(name: &str) -> Result<Option<f64>> {
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    if campaign.ramp_step.is_some() {
        if let Err(error) = fairness::enforce(name) {
            pgrx::notice!("ramp of campaign \"{name}\" stays: {}", error.message());
            return Ok(Some(campaign.control_ramped));
        }
    }
    as_owner(|| {
        let (campaign, _) = campaign::load(name)?;
        let Some((step, goal)) = campaign.ramp_step.zip(campaign.ramp_goal.as_deref()) else { return Ok(None) };
        let moved = campaign.control_ramped;
        if moved >= 1.0 || campaign.status != Status::Active || !is_due(&campaign)? {
            return Ok(Some(moved));
        }
        let waits = |why: String| {
            pgrx::notice!("ramp of campaign \"{name}\" stays at {:.0} % of control: {why}", 100.0 * moved);
            Ok(Some(moved))
        };
        let evidence = evidence(&campaign)?;
        if let Some(harm) = evidence.iter().find(|line| line.kind == "harm" && line.finding == Finding::Negative) {
            return waits(format!("optimise has more of \"{}\"", harm.subject.goal));
        }
        let Some((found, readout)) =
            evidence.iter().filter(|line| line.subject.goal == goal).find_map(|line| Some((line, line.readout?)))
        else {
            return waits(format!("there is no lift of \"{goal}\" yet"));
        };
        let bounds = found.bounds.or(readout.fixed);
        let bounds =
            bounds.map(|bounds| format!(" ({:+.4} to {:+.4})", bounds.lower, bounds.upper)).unwrap_or_default();
        let interval = format!("lift of {} over control {:+.4}{bounds}", found.measure.as_str(), readout.difference);
        if found.finding != Finding::Positive {
            return waits(format!("{}, {interval}", found.finding.as_str()));
        }
        let share = (moved + step).min(1.0);
        ramp(&campaign, share)?;
        pgrx::notice!("ramp of campaign \"{name}\" goes to {:.0} % of control: {interval}", 100.0 * share);
        Ok(Some(share))
    })
}

/// Whether an attribution window has passed since the start or the last step.
fn is_due(campaign: &Campaign) -> Result<bool> {
    let due = query::read_one(
        "SELECT coalesce(c.ramped_at, c.started_at) + $2 * interval '1 second' <= $3
         FROM decisioning.campaigns c WHERE c.campaign = $1",
        &[campaign.campaign.as_str().into(), campaign.window_seconds().into(), now()?.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(due.flatten().unwrap_or(false))
}

/// Lift of optimise over control: of the goal by what it counts, and of every harm by its rate.
fn evidence(campaign: &Campaign) -> Result<Vec<Line>> {
    let question = Question::new(Some(&campaign.campaign), now()?, campaign.ramp_confidence);
    let counts = |line: &Line| {
        (line.treated_group, line.baseline_group) == ("optimise", "control")
            && line.measure == Measure::of(&line.kind)[0]
    };
    Ok(lift::lines(&question)?.into_iter().filter(counts).collect())
}
