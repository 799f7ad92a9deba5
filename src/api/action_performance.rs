//! What each action brings, corrected for the policy having chosen to whom.

use decisioning_core::measure::{Brought, Performance};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Campaign, NO_SEND};
use super::evaluate::checked_confidence;
use super::trials::{Trials, GROUPS};
use crate::pg::error::{required, Result};
use crate::pg::guard::as_owner;

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
                rate.map(|rate| rate.estimate),
                rate.map(|rate| rate.lower),
                rate.map(|rate| rate.upper),
                uplift.map(|uplift| uplift.estimate),
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

/// What each action brings, by position, no-send first. Runs as the owner.
fn estimate(campaign: &Campaign, since: Option<TimestampWithTimeZone>, confidence: f64) -> Result<Vec<Brought>> {
    let trials = Trials::new(campaign, since, 1.0)?;
    let mut performance = Performance::new(GROUPS.len(), trials.actions());
    trials.stream(false, |trial, _| {
        performance.add(trial);
        Ok(())
    })?;
    Ok(performance.estimates(confidence))
}
