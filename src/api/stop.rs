//! Stop rules: alarms about harm, and campaigns that pause by themselves.

use std::collections::btree_map::{BTreeMap, Entry};

use decisioning_core::measure::{alarm_bounds, Rate, FEWEST_RESPONDERS};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign;
use super::configure::check_editable;
use super::lift::{self, Line, Measure, Question};
use super::maintained::Steps;
use crate::api::configuration;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// What a rule sees.
struct Sight {
    campaign: String,
    stop_rule: String,
    goal: String,
    treated_group: &'static str,
    baseline_group: &'static str,
    treated_rate: f64,
    baseline_rate: f64,
    difference: f64,
    lower: f64,
    upper: f64,
    breached: bool,
    pauses: bool,
}

/// A stop rule of an active campaign.
struct Rule {
    campaign: String,
    stop_rule: String,
    goal: String,
    tolerated: f64,
    confidence: f64,
    is_harm: bool,
    pauses: bool,
}

impl Rule {
    /// What it sees: the goal in the groups that are sent something, and in those that are not. Bounds are made of what both groups do,
    /// so that a group in which nobody responds yet raises no false alarm.
    fn see(self, lines: &[Line]) -> Option<Sight> {
        let comparable = |line: &&Line| {
            line.subject.goal == self.goal
                && line.measure == Measure::ConversionRate
                && line.baseline_group != "explore"
        };
        // Lines come with the comparison that counts first.
        let line = lines.iter().find(comparable)?;
        if !line.finding.is_valid() {
            let Rule { campaign, stop_rule, .. } = self;
            Error::state(format!("stop rule \"{stop_rule}\" of campaign \"{campaign}\" sees nothing: its groups cannot be compared"))
                .detail(format!("The finding about them is \"{}\".", line.finding.as_str()))
                .hint("See decisioning.group_balance and feature_balance; acknowledge_imbalance has them compared nevertheless.")
                .warn();
            return None;
        }
        let readout = line.readout?;
        let [of, over] = line.responders;
        if of.max(over) < FEWEST_RESPONDERS {
            return None;
        }
        let treated = Rate { customers: line.treated_customers, responders: of };
        let baseline = Rate { customers: line.baseline_customers, responders: over };
        let bounds = alarm_bounds(treated, baseline, readout.difference, readout.standard_error, self.confidence);
        Some(Sight {
            campaign: self.campaign,
            stop_rule: self.stop_rule,
            goal: self.goal,
            treated_group: line.treated_group,
            baseline_group: line.baseline_group,
            treated_rate: readout.treated,
            baseline_rate: readout.baseline,
            difference: bounds.estimate,
            lower: bounds.lower,
            upper: bounds.upper,
            breached: if self.is_harm { bounds.lower > self.tolerated } else { bounds.upper < -self.tolerated },
            pauses: self.pauses,
        })
    }
}

/// What the rules of active campaigns see. Runs as the owner.
fn look(campaign: Option<&str>) -> Result<Vec<Sight>> {
    let rules = query::write(
        "SELECT r.campaign, r.stop_rule, r.goal, r.tolerated, r.confidence, k.kind = 'harm', r.response = 'pause'
         FROM decisioning.stop_rules r
         JOIN decisioning.goals k ON k.goal = r.goal
         JOIN decisioning.campaigns c ON c.campaign = r.campaign AND c.status = 'active'
         WHERE $1 IS NULL OR r.campaign = $1
         ORDER BY r.campaign, r.stop_rule",
        &[campaign.into()],
        |row| {
            Ok(Rule {
                campaign: row.value(1)?,
                stop_rule: row.value(2)?,
                goal: row.value(3)?,
                tolerated: row.value(4)?,
                confidence: row.value(5)?,
                is_harm: row.value(6)?,
                pauses: row.value(7)?,
            })
        },
    )?;
    let mut lines: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    let mut sights = Vec::new();
    for rule in rules {
        let lines = match lines.entry(rule.campaign.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let question = Question::new(Some(&rule.campaign), super::now()?, 0.95);
                unknown.insert(lift::lines(&question)?)
            }
        };
        sights.extend(rule.see(lines));
    }
    Ok(sights)
}

/// Looks at the rules and does what those that are breached say. Runs as the owner.
fn act(campaign: Option<&str>) -> Result<Vec<Sight>> {
    let sights = look(campaign)?;
    for sight in sights.iter().filter(|sight| sight.breached) {
        query::execute(
            "INSERT INTO decisioning.stop_alerts (campaign, stop_rule, goal, alerted_at, alerted_on, treated_group, baseline_group,
                 treated_rate, baseline_rate, lower, upper, paused)
             SELECT c.campaign, $2, $3, $4, ($4 AT TIME ZONE c.time_zone)::date, $5, $6, $7, $8, $9, $10, $11
             FROM decisioning.campaigns c WHERE c.campaign = $1
             ON CONFLICT (campaign, stop_rule, alerted_on) DO UPDATE SET paused = stop_alerts.paused OR excluded.paused",
            &[
                sight.campaign.as_str().into(),
                sight.stop_rule.as_str().into(),
                sight.goal.as_str().into(),
                super::now()?.into(),
                sight.treated_group.into(),
                sight.baseline_group.into(),
                sight.treated_rate.into(),
                sight.baseline_rate.into(),
                sight.lower.into(),
                sight.upper.into(),
                sight.pauses.into(),
            ],
        )?;
        if sight.pauses {
            query::execute(
                "UPDATE decisioning.campaigns SET status = 'paused' WHERE campaign = $1 AND status = 'active'",
                &[sight.campaign.as_str().into()],
            )?;
        }
        pgrx::warning!(
            "stop rule \"{}\" of campaign \"{}\": {} of {} is {:.4}, of {} {:.4}{}",
            sight.stop_rule,
            sight.campaign,
            sight.goal,
            sight.treated_group,
            sight.treated_rate,
            sight.baseline_group,
            sight.baseline_rate,
            if sight.pauses { "; the campaign is paused" } else { "" }
        );
    }
    Ok(sights)
}

/// For all campaigns.
pub fn check_all(steps: &mut Steps) -> Result<()> {
    steps.each(
        "stop rules",
        "SELECT DISTINCT r.campaign FROM decisioning.stop_rules r JOIN decisioning.campaigns c USING (campaign)
         WHERE c.status = 'active' ORDER BY 1",
        &[],
        |campaign| as_owner(|| act(Some(campaign)).map(drop)),
    )
}

#[pg_extern(sql = false)]
fn check_stop_rules(
    campaign: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(campaign, String),
            name!(stop_rule, String),
            name!(goal, String),
            name!(treated_group, &'static str),
            name!(baseline_group, &'static str),
            name!(difference, f64),
            name!(lower, f64),
            name!(upper, f64),
            name!(breached, bool),
        ),
    >,
    ErrorReport,
> {
    let sights = as_owner(|| {
        if let Some(campaign) = campaign {
            campaign::load(campaign)?;
        }
        act(campaign)
    })?;
    let row = |sight: Sight| {
        let Sight {
            campaign, stop_rule, goal, treated_group, baseline_group, difference, lower, upper, breached, ..
        } = sight;
        (campaign, stop_rule, goal, treated_group, baseline_group, difference, lower, upper, breached)
    };
    Ok(TableIterator::new(sights.into_iter().map(row).collect::<Vec<_>>()))
}

#[pg_extern(sql = false)]
fn add_stop_rule(
    campaign: Option<&str>,
    goal: Option<&str>,
    tolerated: Option<f64>,
    response: Option<&str>,
    confidence: Option<f64>,
    stop_rule: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let (campaign, goal) = (required(campaign, "campaign")?, required(goal, "goal")?);
    let (tolerated, response) = (required(tolerated, "tolerated")?, required(response, "response")?);
    let confidence = required(confidence, "confidence")?;
    if !(0.0..1.0).contains(&tolerated) {
        return Err(Error::invalid("tolerated must be a share, at least 0 and below 1")
            .hint("It is the difference that is still accepted: 0.002 is two customers in a thousand.")
            .into());
    }
    if !["alert", "pause"].contains(&response) {
        return Err(Error::invalid(format!("unknown response \"{response}\""))
            .hint("Responses are alert and pause.")
            .into());
    }
    if !(confidence > 0.5 && confidence < 1.0) {
        return Err(Error::invalid("confidence must be above 0.5 and below 1").into());
    }
    let name = stop_rule.map_or_else(|| goal.to_owned(), str::to_owned);
    as_owner(|| {
        check_editable(campaign)?;
        let (loaded, _) = campaign::load(campaign)?;
        match loaded.goals.iter().find(|known| known.goal == goal).map(|known| known.kind.as_str()) {
            None => Err(Error::missing(format!("campaign \"{campaign}\" has no goal \"{goal}\""))
                .hint("Add it with decisioning.add_campaign_goal(campaign, goal).")),
            Some("engagement") => Err(Error::invalid(format!("goal \"{goal}\" is an engagement goal"))
                .hint("Opens and clicks are no harm, and no success: watch a conversion, value or harm goal.")),
            Some(_) => configuration::execute(
                "INSERT INTO decisioning.stop_rules (campaign, stop_rule, goal, tolerated, response, confidence)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (campaign, stop_rule) DO UPDATE
                 SET goal = excluded.goal, tolerated = excluded.tolerated, response = excluded.response, confidence = excluded.confidence",
                &[
                    campaign.into(),
                    name.as_str().into(),
                    goal.into(),
                    tolerated.into(),
                    response.into(),
                    confidence.into(),
                ],
            ),
        }
    })?;
    Ok(name)
}

#[pg_extern(sql = false)]
fn remove_stop_rule(campaign: Option<&str>, stop_rule: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let (campaign, name) = (required(campaign, "campaign")?, required(stop_rule, "stop_rule")?);
    as_owner(|| {
        let removed = query::execute(
            "DELETE FROM decisioning.stop_rules r WHERE r.campaign = $1 AND r.stop_rule = $2",
            &[campaign.into(), name.into()],
        )?;
        match removed {
            0 => Err(Error::missing(format!("campaign \"{campaign}\" has no stop rule \"{name}\""))
                .hint("SELECT stop_rule FROM decisioning.stop_rules lists them.")),
            _ => Ok(()),
        }
    })?;
    Ok(())
}
