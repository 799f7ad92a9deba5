//! Stop rules: alarms about harm, and campaigns that pause by themselves.

use decisioning_core::measure::{always_valid, Difference};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign;
use super::configure::check_editable;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Customers who must have reached the goal before anything is said.
const FEWEST: f64 = 30.0;

/// What a rule sees.
struct Sight {
    campaign: String,
    stop_rule: String,
    goal: String,
    treated_group: String,
    baseline_group: String,
    treated_rate: f64,
    baseline_rate: f64,
    difference: f64,
    lower: f64,
    upper: f64,
    breached: bool,
    pauses: bool,
}

/// Two standard errors of an interval at 95 %, as shares of its length.
const LENGTH_OF_95: f64 = 3.919_927_969_080_108;

/// What the rules of active campaigns see. Runs as the owner.
fn look(campaign: Option<&str>) -> Result<Vec<Sight>> {
    let sights = query::write(
        "WITH watched AS MATERIALIZED (
             SELECT f.*
             FROM (SELECT DISTINCT r.campaign FROM decisioning.stop_rules r JOIN decisioning.campaigns c USING (campaign)
                   WHERE c.status = 'active' AND ($1 IS NULL OR r.campaign = $1)) AS c
             CROSS JOIN LATERAL decisioning.lift(c.campaign, 0.95) AS f)
         SELECT r.campaign, r.stop_rule, r.goal, l.treated_group, l.baseline_group, l.treated_mean, l.baseline_mean,
                l.absolute_lift, l.upper - l.lower, (l.treated_customers + l.baseline_customers)::float8, r.tolerated, r.confidence,
                k.kind = 'harm', r.response = 'pause',
                greatest(l.treated_mean * l.treated_customers, l.baseline_mean * l.baseline_customers)
         FROM decisioning.stop_rules r
         JOIN decisioning.goals k ON k.goal = r.goal
         CROSS JOIN LATERAL (
             SELECT * FROM watched f
             WHERE f.campaign = r.campaign AND f.goal = r.goal AND f.measure = 'conversion rate' AND f.treated_group IN ('optimise', 'explore')
               AND f.baseline_group IN ('holdout', 'control') AND f.verdict <> 'invalid: sample ratio' AND f.absolute_lift IS NOT NULL
             ORDER BY f.baseline_group = 'holdout' DESC, f.treated_group = 'optimise' DESC LIMIT 1) AS l
         ORDER BY r.campaign, r.stop_rule",
        &[campaign.into()],
        |row| {
            let absolute: f64 = row.value(8)?;
            let found = Difference {
                absolute,
                standard_error: row.value::<f64>(9)? / LENGTH_OF_95,
                lower: absolute,
                upper: absolute,
                p_value: 1.0,
                relative: None,
            };
            let (tolerated, is_harm): (f64, bool) = (row.value(11)?, row.value(13)?);
            let (lower, upper) = always_valid(&found, row.value(10)?, row.value(12)?);
            let sight = Sight {
                campaign: row.value(1)?,
                stop_rule: row.value(2)?,
                goal: row.value(3)?,
                treated_group: row.value(4)?,
                baseline_group: row.value(5)?,
                treated_rate: row.value(6)?,
                baseline_rate: row.value(7)?,
                difference: absolute,
                lower,
                upper,
                breached: if is_harm { lower > tolerated } else { upper < -tolerated },
                pauses: row.value(14)?,
            };
            Ok((row.value::<f64>(15)? >= FEWEST).then_some(sight))
        },
    )?;
    Ok(sights.into_iter().flatten().collect())
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
                sight.treated_group.as_str().into(),
                sight.baseline_group.as_str().into(),
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

/// For all campaigns. Runs as the owner.
pub fn check() -> Result<()> {
    act(None).map(drop)
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
            name!(treated_group, String),
            name!(baseline_group, String),
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
            Some(_) => query::execute(
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
