//! Off-policy evaluation: what would another policy have earned on logged decisions?

use std::collections::HashMap;

use decisioning_core::decide::{propensities, Rule};
use decisioning_core::learn::Observed;
use decisioning_core::measure::PolicyValue;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Campaign, NO_SEND};
use super::log::{events_in_window, Reader};
use super::model::{self, Compiled};
use super::now;
use super::pipeline::Candidates;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Rows per fetch.
const FETCH: usize = 10_000;

type EvaluationRow = (String, String, Option<f64>, Option<f64>, Option<f64>, Option<f64>, i64, f64, f64, bool);

#[pg_extern(sql = false)]
fn evaluate_policy(
    campaign: Option<&str>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    confidence: Option<f64>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(policy, String),
            name!(estimator, String),
            name!(value, Option<f64>),
            name!(standard_error, Option<f64>),
            name!(lower, Option<f64>),
            name!(upper, Option<f64>),
            name!(decisions, i64),
            name!(effective_decisions, f64),
            name!(largest_weight, f64),
            name!(in_sample, bool),
        ),
    >,
    ErrorReport,
> {
    let name = required(campaign, "campaign")?;
    let confidence = required(confidence, "confidence")?;
    if !(confidence > 0.0 && confidence < 1.0) {
        return Err(Error::invalid("confidence must be between 0 and 1").into());
    }
    let rows = as_owner(|| {
        let (campaign, model_version) = campaign::load(name)?;
        let compiled = model::current(&campaign, model_version)?;
        evaluate(&campaign, &compiled, since, until, confidence)
    })?;
    Ok(TableIterator::new(rows))
}

/// Runs as the owner. Only decisions that were random count: a decision that could not have been another says nothing
/// of other policies.
fn evaluate(
    campaign: &Campaign,
    compiled: &Compiled,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    confidence: f64,
) -> Result<Vec<EvaluationRow>> {
    let candidates = Candidates::of(campaign);
    let position: HashMap<i32, usize> = candidates.ids.iter().copied().zip(0..).collect();
    let reader = Reader::new(campaign, &compiled.model.encoder, compiled.model.encoder_version);
    let sql = format!(
        "SELECT {columns}, {reward}, d.propensity,
                NOT EXISTS (SELECT FROM decisioning._inbox p WHERE p.decision_id = d.decision_id)
         FROM decisioning.decisions d
         WHERE d.campaign = $1 AND d.treatment_group IN ('imported', 'explore', 'optimise') AND d.propensity < 1
           AND ($2::timestamptz IS NULL OR d.decided_at >= $2) AND ($3::timestamptz IS NULL OR d.decided_at < $3)
           AND d.decided_at + $4 * interval '1 second' <= $5
         ORDER BY d.decision_id",
        columns = reader.columns(),
        reward = events_in_window("true"),
    );
    let mut learned = PolicyValue::default();
    let mut random = PolicyValue::default();
    let mut fixed: Vec<PolicyValue> = vec![PolicyValue::default(); candidates.ids.len()];
    let mut logged = PolicyValue::default();
    let (mut decisions, mut in_sample) = (0_i64, false);
    let uniform = 1.0 / candidates.ids.len() as f64;
    query::stream(
        &sql,
        &[
            campaign.campaign.as_str().into(),
            since.into(),
            until.into(),
            campaign.window_seconds().into(),
            now()?.into(),
        ],
        FETCH,
        |row| {
            let reward = f64::from(u8::from(row.value::<bool>(6)?));
            let observed = Observed { reward, ..reader.observed(row, 1)? };
            Ok((row.value::<i32>(1)?, observed, row.value::<f64>(7)?, row.value::<bool>(8)?))
        },
        |rows| {
            for (action_id, observed, propensity, absorbed) in rows {
                decisions += 1;
                in_sample |= absorbed;
                logged.add(1.0, observed.reward);
                // An action that is not a candidate now has probability 0 under every policy but the logged one.
                let Some(at) = position.get(&action_id) else {
                    std::iter::once(&mut learned)
                        .chain([&mut random])
                        .chain(&mut fixed)
                        .for_each(|value| value.add(0.0, 0.0));
                    continue;
                };
                let rule = Rule::Learned {
                    policy: &compiled.policy,
                    terms: &compiled.terms,
                    encoded: &observed.encoded,
                    floor: campaign.rules.propensity_floor,
                };
                learned.add(propensities(&rule, &candidates.arms)[*at] / propensity, observed.reward);
                random.add(uniform / propensity, observed.reward);
                for (candidate, value) in fixed.iter_mut().enumerate() {
                    value.add(if candidate == *at { 1.0 / propensity } else { 0.0 }, observed.reward);
                }
            }
            Ok(())
        },
    )?;
    if decisions == 0 {
        return Err(Error::state(format!(
            "campaign \"{}\" has no closed decisions with propensities below 1 in this time",
            campaign.campaign
        ))
        .hint("Import history with decisioning.import_decisions, or wait until attribution windows close."));
    }
    let names = candidates.ids.iter().map(|id| match campaign.action(*id) {
        Some(action) => format!("always {}", action.action),
        None => format!("always {NO_SEND}"),
    });
    let policies = [("learned".to_owned(), learned), ("logged".to_owned(), logged), ("random".to_owned(), random)];
    Ok(policies
        .into_iter()
        .chain(names.zip(fixed))
        .map(|(policy, value)| {
            let estimate = value.estimate(confidence);
            let of = |part: fn(&decisioning_core::measure::PolicyEstimate) -> f64| estimate.as_ref().map(part);
            (
                policy,
                "snips".to_owned(),
                of(|e| e.mean),
                of(|e| e.standard_error),
                of(|e| e.lower),
                of(|e| e.upper),
                decisions,
                of(|e| e.effective_rows).unwrap_or(0.0),
                of(|e| e.largest_weight).unwrap_or(0.0),
                in_sample,
            )
        })
        .collect())
}
