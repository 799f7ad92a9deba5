//! What each action brings, corrected for the policy having chosen to whom.

use std::collections::HashMap;

use decisioning_core::measure::{Brought, Performance, Trial};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Campaign, NO_SEND};
use super::evaluate::{checked_confidence, RANDOM_DECISIONS};
use super::log::rewards;
use super::now;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query::{self, Argument};

/// Rows per fetch.
const FETCH: usize = 10_000;

/// What chooses at random; the position is the group of a trial.
const GROUPS: [&str; 3] = ["explore", "optimise", "imported"];

#[pg_extern(sql = false)]
fn action_performance(
    campaign: Option<&str>,
    since: Option<TimestampWithTimeZone>,
    confidence: Option<f64>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(action, String),
            name!(decisions, i64),
            name!(responses, i64),
            name!(raw_rate, Option<f64>),
            name!(response_rate, Option<f64>),
            name!(lower, Option<f64>),
            name!(upper, Option<f64>),
            name!(uplift, Option<f64>),
            name!(uplift_lower, Option<f64>),
            name!(uplift_upper, Option<f64>),
            name!(worth_per_decision, Option<f64>),
            name!(effective_decisions, f64),
            name!(largest_weight, Option<f64>),
            name!(basis, String),
        ),
    >,
    ErrorReport,
> {
    let name = required(campaign, "campaign")?;
    let confidence = checked_confidence(confidence)?;
    let (actions, found) = as_owner(|| {
        let (campaign, _) = campaign::load(name)?;
        let actions: Vec<String> =
            [NO_SEND.to_owned()].into_iter().chain(campaign.actions.iter().map(|a| a.action.clone())).collect();
        Ok((actions, estimate(&campaign, since, confidence)?))
    })?;
    let known = actions.into_iter().zip(found).filter(|(_, found)| found.possible > 0.0);
    let rows: Vec<_> = known
        .map(|(action, found)| {
            let Brought { rate, uplift, .. } = found;
            let taken = found.decisions > 0.0;
            (
                action,
                found.decisions as i64,
                found.responses as i64,
                taken.then(|| found.responses / found.decisions),
                rate.map(|rate| rate.value),
                rate.map(|rate| rate.lower),
                rate.map(|rate| rate.upper),
                uplift.map(|uplift| uplift.value),
                uplift.map(|uplift| uplift.lower),
                uplift.map(|uplift| uplift.upper),
                found.worth,
                found.effective,
                taken.then_some(found.largest_weight),
                if rate.is_some() { "inverse propensity" } else { "too few" }.to_owned(),
            )
        })
        .collect();
    Ok(TableIterator::new(rows))
}

/// A logged decision.
struct Past {
    customer_id: String,
    group: String,
    action_id: i32,
    propensity: f64,
    responded: bool,
    worth: f64,
    /// Candidates and their propensities; `None` in an imported decision, which does not say.
    candidates: Option<(Vec<i32>, Vec<f64>)>,
}

/// What each action brings, by position, no-send first. Runs as the owner.
fn estimate(campaign: &Campaign, since: Option<TimestampWithTimeZone>, confidence: f64) -> Result<Vec<Brought>> {
    let position: HashMap<i32, usize> =
        [0].into_iter().chain(campaign.actions.iter().map(|action| action.action_id)).zip(0..).collect();
    let known = |ids: &[i32]| ids.iter().filter_map(|id| position.get(id).copied()).collect::<Vec<usize>>();
    let until: Option<TimestampWithTimeZone> = None;
    let arguments: [Argument<'_>; 5] = [
        campaign.campaign.as_str().into(),
        since.into(),
        until.into(),
        campaign.window_seconds().into(),
        now()?.into(),
    ];
    // An imported decision could have been whatever was ever imported.
    let sql = format!(
        "SELECT array_agg(DISTINCT d.action_id) FROM decisioning.decisions d WHERE {RANDOM_DECISIONS} AND d.origin = 'import'"
    );
    let imported = query::read_one(&sql, &arguments, |row| row.get::<Vec<i32>>(1))?.flatten().unwrap_or_default();
    let imported = known(&imported);
    let sql = format!(
        "WITH {rewards}
         SELECT coalesce(b.customer_id, d.customer_id) COLLATE \"C\", d.treatment_group, d.action_id, d.propensity,
                coalesce(reward.given, false), coalesce(reward.worth, 0),
                CASE WHEN d.origin <> 'import' THEN d.candidates END, CASE WHEN d.origin <> 'import' THEN d.propensities END
         FROM decisioning.decisions d
         LEFT JOIN rewards reward ON reward.decision_id = d.decision_id
         LEFT JOIN decisioning._log_alias b ON b.alias = d.customer_id
         WHERE {RANDOM_DECISIONS}
         ORDER BY 1, d.decision_id",
        rewards = rewards("decisioning.decisions d", RANDOM_DECISIONS, "true"),
    );
    let decode = |row: &query::Row<'_, '_>| {
        Ok(Past {
            customer_id: row.value(1)?,
            group: row.value(2)?,
            action_id: row.value(3)?,
            propensity: row.value(4)?,
            responded: row.value(5)?,
            worth: row.value(6)?,
            candidates: row.get(7)?.zip(row.get(8)?),
        })
    };
    let mut performance = Performance::new(GROUPS.len(), position.len());
    let misfit = || Error::corrupted(format!("a decision of \"{}\" does not fit its campaign", campaign.campaign));
    query::stream(&sql, &arguments, FETCH, decode, |batch| {
        batch.into_iter().try_for_each(|past| {
            let live = past.candidates.map(|(ids, propensities)| possible(&position, &ids, &propensities));
            let (candidates, propensities) = live.unwrap_or_else(|| (imported.clone(), Vec::new()));
            performance.add(&Trial {
                customer: &past.customer_id,
                group: GROUPS.iter().position(|group| *group == past.group).ok_or_else(misfit)?,
                candidates: &candidates,
                propensities: &propensities,
                taken: *position.get(&past.action_id).ok_or_else(misfit)?,
                propensity: past.propensity,
                responded: past.responded,
                worth: past.worth,
            });
            Ok(())
        })
    })?;
    Ok(performance.estimates(confidence))
}

/// The positions of candidates that could have been taken, with their propensities.
fn possible(position: &HashMap<i32, usize>, ids: &[i32], propensities: &[f64]) -> (Vec<usize>, Vec<f64>) {
    let all = ids.iter().zip(propensities).filter(|(_, propensity)| **propensity > 0.0);
    all.filter_map(|(id, propensity)| Some((*position.get(id)?, *propensity))).unzip()
}
