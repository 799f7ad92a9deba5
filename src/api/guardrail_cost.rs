//! What guardrails cost: the responses that the learned policy would have had more, had a rule not removed its candidates.
//!
//! For each day and rule, over the decisions of the optimise group that lost a candidate to it: the value of today's policy with
//! those candidates less its value without, doubly robust. Nobody was ever sent what was removed in the very context in which it was,
//! so that this part rests on the reward model, which knows the action from other contexts; without those nothing is said.

use std::collections::{BTreeMap, HashMap};

use decisioning_core::evaluate::{Choice, Contrast};
use decisioning_core::learn::Observed;
use pgrx::datum::Date;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign;
use super::constraint::Removed;
use super::evaluate::Session;
use super::log::rewards;
use super::maintained::Steps;
use super::model;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::{interrupt, query};

/// Rows per fetch.
const FETCH: usize = 10_000;

/// Decisions that must have taken an action before the reward model is believed about it.
const FEWEST: i64 = 50;

/// Share of choices, on actions of which too little is known, above which nothing is said.
const UNSUPPORTED: f64 = 0.01;

/// Days that are looked back at most.
const DAYS: i32 = 35;

/// A decision that lost candidates.
struct Past {
    decided_on: Date,
    observed: Observed,
    action_id: i32,
    reward: f64,
    propensity: f64,
    customer_id: String,
    candidates: Vec<i32>,
    removed: Removed,
}

/// What a rule costs on a day.
#[derive(Default)]
struct Cost {
    contrast: Contrast,
    /// Probability of choices of which too little is known, summed over decisions.
    unsupported: f64,
}

/// Decisions `d` of campaign $1 that lost candidates, of days from $2 on, all of whose windows of $3 seconds are over at $4.
const AFFECTED: &str = "
    d.campaign = $1 AND d.treatment_group = 'optimise' AND d.origin = 'live' AND d.removed IS NOT NULL
    AND d.decided_at >= ($2::date)::timestamp AT TIME ZONE (SELECT c.time_zone FROM decisioning.campaigns c WHERE c.campaign = $1)
    AND d.decided_at < date_trunc('day', ($4 - $3 * interval '1 second')
            AT TIME ZONE (SELECT c.time_zone FROM decisioning.campaigns c WHERE c.campaign = $1))
        AT TIME ZONE (SELECT c.time_zone FROM decisioning.campaigns c WHERE c.campaign = $1)";

/// Estimates the days that are over and not estimated yet, or all of them anew; returns how many rows were written. Runs as the
/// owner.
fn estimate(name: &str, anew: bool) -> Result<i64> {
    let (campaign, model_version) = campaign::load(name)?;
    let compiled = model::current(&campaign, model_version)?;
    let session = Session::new(&campaign, &compiled)?;
    let since = first_day(name, anew)?;
    let affected = query::read_one(
        &format!("SELECT EXISTS (SELECT FROM decisioning.decisions d WHERE {AFFECTED})"),
        &[name.into(), since.into(), campaign.window_seconds().into(), session.now.into()],
        |row| row.value::<bool>(1),
    )?;
    if affected != Some(true) {
        return Ok(0);
    }
    let Some((count, _)) = session.counted()? else { return Ok(0) };
    let models = session.reward_models(count)?;
    let known = known_actions(&session)?;
    let arm = |id: i32| match id {
        0 => Some(None),
        id => campaign.actions.iter().position(|action| action.action_id == id).map(Some),
    };
    let mut costs: BTreeMap<(Date, String), Cost> = BTreeMap::new();
    stream(&session, since, |past| {
        let model = &models[session.fold(&past.customer_id)];
        let encoded = &past.observed.encoded;
        for (rule, gone) in &past.removed {
            // No-send first, as candidates always are.
            let mut ids: Vec<i32> = past.candidates.iter().chain(gone).copied().collect();
            ids.sort_unstable();
            let Some(arms) = ids.iter().map(|id| arm(*id)).collect::<Option<Vec<Option<usize>>>>() else { continue };
            let (kept, kept_arms): (Vec<i32>, Vec<Option<usize>>) =
                ids.iter().zip(&arms).filter(|(id, _)| !gone.contains(id)).map(|(id, arm)| (*id, *arm)).unzip();
            let without: HashMap<i32, f64> = kept.into_iter().zip(session.learned(encoded, &kept_arms)).collect();
            let choices: Vec<Choice> = ids
                .iter()
                .zip(&arms)
                .zip(session.learned(encoded, &arms))
                .map(|((id, arm), with)| Choice {
                    with,
                    without: without.get(id).copied().unwrap_or(0.0),
                    predicted: model.predict(encoded, *arm),
                })
                .collect();
            let cost = costs.entry((past.decided_on, rule.clone())).or_default();
            let unknown = ids.iter().zip(&choices).filter(|(id, _)| gone.contains(id) && !known.contains(id));
            cost.unsupported += unknown.map(|(_, choice)| choice.with).sum::<f64>();
            let taken = ids.iter().position(|id| *id == past.action_id);
            cost.contrast.add(&choices, taken, past.propensity, past.reward);
        }
        Ok(())
    })?;
    write(name, session.compiled.model.version, costs)
}

/// From when on there is something to estimate. Runs as the owner.
fn first_day(name: &str, anew: bool) -> Result<Date> {
    let day = query::read_one(
        "SELECT greatest(($2 AT TIME ZONE c.time_zone)::date - $3,
                         CASE WHEN NOT $4 THEN (SELECT max(k.decided_on) + 1 FROM decisioning._guardrail_cost k WHERE k.campaign = $1) END)
         FROM decisioning.campaigns c WHERE c.campaign = $1",
        &[name.into(), super::now()?.into(), DAYS.into(), anew.into()],
        |row| row.value(1),
    )?;
    day.ok_or_else(|| Error::corrupted("a campaign is gone"))
}

/// Actions that enough decisions took. Runs as the owner.
fn known_actions(session: &Session<'_>) -> Result<Vec<i32>> {
    query::read(
        "SELECT d.action_id FROM decisioning.decisions d
         WHERE d.campaign = $1 AND d.treatment_group IN ('imported', 'explore', 'optimise') AND d.propensity < 1
           AND d.decided_at + $2 * interval '1 second' <= $3
         GROUP BY 1 HAVING count(*) >= $4",
        &[
            session.campaign.campaign.as_str().into(),
            session.campaign.window_seconds().into(),
            session.now.into(),
            FEWEST.into(),
        ],
        |row| row.value(1),
    )
}

/// Hands over the decisions that lost candidates. Runs as the owner.
fn stream(session: &Session<'_>, since: Date, mut consume: impl FnMut(Past) -> Result<()>) -> Result<()> {
    let sql = format!(
        "WITH {rewards}
         SELECT {columns}, coalesce(reward.given, false), d.propensity, coalesce(b.customer_id, d.customer_id), d.candidates,
                d.removed::text, (d.decided_at AT TIME ZONE c.time_zone)::date
         FROM decisioning.decisions d
         JOIN decisioning.campaigns c ON c.campaign = d.campaign
         LEFT JOIN rewards reward ON reward.decision_id = d.decision_id
         LEFT JOIN decisioning._log_alias b ON b.alias = d.customer_id
         WHERE {AFFECTED}",
        rewards = rewards("decisioning.decisions d", AFFECTED, "true"),
        columns = session.reader.columns(),
    );
    let decode = |row: &query::Row<'_, '_>| {
        Ok(Past {
            observed: session.reader.observed(row, 1)?,
            action_id: row.value(1)?,
            reward: f64::from(u8::from(row.value::<bool>(6)?)),
            propensity: row.value(7)?,
            customer_id: row.value(8)?,
            candidates: row.value(9)?,
            removed: serde_json::from_str(&row.value::<String>(10)?)?,
            decided_on: row.value(11)?,
        })
    };
    let campaign = session.campaign;
    let arguments =
        [campaign.campaign.as_str().into(), since.into(), campaign.window_seconds().into(), session.now.into()];
    let mut seen = 0_usize;
    query::stream(&sql, &arguments, FETCH, decode, |batch| {
        batch.into_iter().try_for_each(|past| {
            // Policies are dear.
            if seen.is_multiple_of(256) {
                interrupt::check();
            }
            seen += 1;
            consume(past)
        })
    })
}

/// Runs as the owner.
fn write(name: &str, model_version: i64, costs: BTreeMap<(Date, String), Cost>) -> Result<i64> {
    let mut written = 0;
    for ((decided_on, rule), cost) in costs {
        let Some(total) = cost.contrast.total() else { continue };
        let supported = cost.unsupported <= UNSUPPORTED * total.decisions;
        query::execute(
            "INSERT INTO decisioning._guardrail_cost (campaign, decided_on, guardrail, decisions, lost_responses, standard_error,
                 model_version)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (campaign, decided_on, guardrail) DO UPDATE
             SET decisions = excluded.decisions, lost_responses = excluded.lost_responses, standard_error = excluded.standard_error,
                 model_version = excluded.model_version",
            &[
                name.into(),
                decided_on.into(),
                rule.into(),
                (total.decisions as i64).into(),
                supported.then_some(total.value).into(),
                supported.then_some(total.standard_error).into(),
                model_version.into(),
            ],
        )?;
        written += 1;
    }
    Ok(written)
}

/// All campaigns that run.
pub fn keep_all(steps: &mut Steps) -> Result<()> {
    steps.each(
        "cost of guardrails",
        "SELECT c.campaign FROM decisioning.campaigns c JOIN decisioning._learner l USING (campaign)
         WHERE c.status IN ('active', 'paused') ORDER BY 1",
        &[],
        |campaign| as_owner(|| estimate(campaign, false).map(drop)),
    )
}

#[pg_extern(sql = false)]
fn estimate_guardrail_costs(campaign: Option<&str>) -> std::result::Result<i64, ErrorReport> {
    let campaign = required(campaign, "campaign")?;
    Ok(as_owner(|| estimate(campaign, true))?)
}
