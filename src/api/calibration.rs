//! Calibration: does what was predicted happen as often as predicted?

use std::collections::hash_map::{Entry, HashMap};

use decisioning_core::learn::{Arm, Layout, Link};
use decisioning_core::measure::Calibration;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Campaign};
use super::evaluate::checked_confidence;
use super::log::{decisions, rewards};
use super::model::sigmoid;
use super::now;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Rows per fetch.
const FETCH: usize = 10_000;

/// Closed decisions `d` of campaign $1 that were made here, since $2, with a window of $3 seconds, now being $4, and of the goals that there
/// are now: of others, something else was predicted. What a version said is known as long as it is kept (`thin_log`).
const CLOSED: &str = "
    d.campaign = $1 AND EXISTS (SELECT FROM decisioning._model m WHERE m.campaign = d.campaign AND m.model_version = d.model_version) AND ($2::timestamptz IS NULL OR d.decided_at >= $2)
    AND d.decided_at + $3 * interval '1 second' <= $4
    AND d.epoch >= (SELECT coalesce(max(e.epoch), 0) FROM decisioning.epochs e
                    JOIN decisioning.goals k ON k.goal = coalesce(e.after, e.before) ->> 'goal' AND k.kind IN ('conversion', 'value')
                    WHERE e.campaign = $1 AND e.relation = 'campaign_goals'
                      AND e.before -> 'attribution_window' IS DISTINCT FROM e.after -> 'attribution_window')";

#[pg_extern(sql = false)]
fn calibration(
    campaign: Option<&str>,
    since: Option<TimestampWithTimeZone>,
    bins: Option<i32>,
    confidence: Option<f64>,
    sample: Option<f64>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(bin, i32),
            name!(decisions, i64),
            name!(predicted, f64),
            name!(observed, f64),
            name!(lower, f64),
            name!(upper, f64),
            name!(calibrated, bool),
        ),
    >,
    ErrorReport,
> {
    let campaign = required(campaign, "campaign")?;
    let bins = required(bins, "bins")?;
    if !(1..=1000).contains(&bins) {
        return Err(Error::invalid("bins must be between 1 and 1000").into());
    }
    let confidence = checked_confidence(confidence)?;
    let sample = required(sample, "sample")?;
    if !(sample > 0.0 && sample <= 1.0) {
        return Err(Error::invalid("sample must be above 0 and at most 1")
            .hint("It is the share of the pages of the log that is looked at.")
            .into());
    }
    let counted = as_owner(|| {
        let (campaign, _) = campaign::load(campaign)?;
        count(&campaign, since, sample)
    })?;
    let rows: Vec<_> = (1..)
        .zip(counted.bins(bins as usize, confidence))
        .map(|(at, bin)| {
            let inside = (bin.lower..=bin.upper).contains(&bin.predicted);
            (at, bin.count as i64, bin.predicted, bin.observed, bin.lower, bin.upper, inside)
        })
        .collect();
    Ok(TableIterator::new(rows))
}

/// What a model version said of responses.
struct Version {
    layout: Layout,
    coefficients: Vec<f64>,
    /// By `action_id`.
    arms: HashMap<i32, Arm>,
}

impl Version {
    fn load(campaign: &Campaign, version: i64) -> Result<Self> {
        let (layout, coefficients) = query::read_one(
            "SELECT m.layout::text, p.coefficients
             FROM decisioning._model m
             JOIN decisioning._model_part p ON p.campaign = m.campaign AND p.model_version = m.model_version
             WHERE m.campaign = $1 AND m.model_version = $2 AND p.part = 'response'",
            &[campaign.campaign.as_str().into(), version.into()],
            |row| Ok((serde_json::from_str::<Layout>(&row.value::<String>(1)?)?, row.value::<Vec<f64>>(2)?)),
        )?
        .filter(|(layout, coefficients)| layout.len() == coefficients.len())
        .ok_or_else(|| Error::corrupted(format!("model {version} of campaign \"{}\" is missing", campaign.campaign)))?;
        let arms = campaign.actions.iter().map(|action| (action.action_id, layout.arm(&action.dimensions))).collect();
        Ok(Version { layout, coefficients, arms })
    }

    /// Probability of a response to an action (0 is no-send); `None` if the decision is not one of this version.
    fn probability(&self, encoded: &[f32], action_id: i32) -> Option<f64> {
        let arm = self.arms.get(&action_id);
        let fits = encoded.len() == self.layout.columns.len() && (action_id == 0 || arm.is_some());
        fits.then(|| sigmoid(self.layout.predictor(Link::Logistic, &self.coefficients, encoded, arm)))
    }
}

/// Predictions of the versions that decided, which had not seen what came of it. Runs as the owner.
fn count(campaign: &Campaign, since: Option<TimestampWithTimeZone>, sample: f64) -> Result<Calibration> {
    let log = decisions(sample);
    let sql = format!(
        "WITH {rewards}
         SELECT d.model_version, d.encoded, d.action_id, coalesce(reward.given, false), d.overlap
         FROM {log} LEFT JOIN rewards reward ON reward.decision_id = d.decision_id
         WHERE {CLOSED}",
        rewards = rewards(&log, CLOSED, "true"),
    );
    let arguments = [campaign.campaign.as_str().into(), since.into(), campaign.window_seconds().into(), now()?.into()];
    let mut versions: HashMap<i64, Version> = HashMap::new();
    let mut calibration = Calibration::default();
    query::stream(
        &sql,
        &arguments,
        FETCH,
        |row| Ok((row.value(1)?, row.reals(2)?, row.value(3)?, row.value(4)?, row.value::<i32>(5)?)),
        |batch| {
            for (version, encoded, action_id, given, overlap) in batch {
                let known = match versions.entry(version) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => unknown.insert(Version::load(campaign, version)?),
                };
                let predicted = known.probability(&encoded, action_id).ok_or_else(|| {
                    Error::corrupted(format!("a decision of \"{}\" does not fit its model", campaign.campaign))
                })?;
                calibration.add(predicted, given, f64::from(overlap));
            }
            Ok(())
        },
    )?;
    Ok(calibration)
}
