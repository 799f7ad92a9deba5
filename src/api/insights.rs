//! For whom which lever works better or worse than for others.

use decisioning_core::learn::Dimensions;
use decisioning_core::measure::{insights as find, Feature, Half, Insight, Known, Levers, Log, Sampled};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use super::campaign::{self, Campaign};
use super::maintained::Steps;
use super::trials::{Trials, GROUPS};
use super::{log, now};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::{interrupt, query};

/// Decisions that are held in memory; beyond, they are sampled.
const DECISIONS: i64 = 300_000;

/// Contexts from which features are cut.
const CONTEXTS: i64 = 20_000;

#[pg_extern(sql = false)]
fn insights(
    campaign: Option<&str>,
    since: Option<TimestampWithTimeZone>,
    false_discovery_rate: Option<f64>,
    most: Option<i32>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(segment, String),
            name!(dimension, String),
            name!(level, String),
            name!(customers, i64),
            name!(decisions, i64),
            name!(response_rate, Option<f64>),
            name!(baseline_rate, Option<f64>),
            name!(ratio, Option<f64>),
            name!(lower, Option<f64>),
            name!(upper, Option<f64>),
            name!(q_value, f64),
            name!(confirmed, bool),
            name!(sentence, String),
        ),
    >,
    ErrorReport,
> {
    let name = required(campaign, "campaign")?;
    let rate = required(false_discovery_rate, "false_discovery_rate")?;
    if !(rate > 0.0 && rate < 1.0) {
        return Err(Error::invalid("false_discovery_rate must be between 0 and 1")
            .hint("0.1 lets one in ten findings be chance, before they are confirmed.")
            .into());
    }
    let most = required(most, "most")?;
    if !(1..=1000).contains(&most) {
        return Err(Error::invalid("most must be between 1 and 1000").into());
    }
    let found = as_owner(|| {
        let (campaign, _) = campaign::load(name)?;
        let mut found = read(&campaign, since)?;
        Ok(find(&mut found, rate, most as usize, &mut interrupt::check))
    })?;
    Ok(TableIterator::new(found.into_iter().map(encode).collect::<Vec<_>>()))
}

#[rustfmt::skip]
fn encode(
    insight: Insight,
) -> (String, String, String, i64, i64, Option<f64>, Option<f64>, Option<f64>, Option<f64>, Option<f64>, f64, bool, String) {
    let seen = insight.seen;
    (
        insight.segment,
        insight.dimension,
        insight.level,
        insight.customers as i64,
        insight.decisions as i64,
        seen.map(|seen| seen.rate),
        seen.map(|seen| seen.baseline),
        seen.map(|seen| seen.ratio.estimate),
        seen.map(|seen| seen.ratio.lower),
        seen.map(|seen| seen.ratio.upper),
        insight.q_value,
        insight.confirmed,
        insight.sentence,
    )
}

/// The random decisions of a campaign with the levels of their features. Runs as the owner.
fn read(campaign: &Campaign, since: Option<TimestampWithTimeZone>) -> Result<Log> {
    let share = log::share(&campaign.campaign, DECISIONS)?;
    if share < 1.0 {
        pgrx::notice!(
            "insights of campaign \"{}\" are from a sample of about {DECISIONS} decisions",
            campaign.campaign
        );
    }
    let trials = Trials::new(campaign, since, share)?;
    let mut sample = Sampled::default();
    trials.contexts(CONTEXTS, |context| {
        sample.add(known(context)?);
        Ok(())
    })?;
    let dimensions: Vec<Option<&Dimensions>> =
        [None].into_iter().chain(campaign.actions.iter().map(|action| Some(&action.dimensions))).collect();
    let mut log = Log::new(sample.features(), Levers::new(&dimensions), GROUPS.len());
    let salt = campaign.salt();
    trials.stream(true, |trial, context| {
        let context: Map<String, Value> = serde_json::from_str(context.unwrap_or("{}"))?;
        let levels: Vec<u8> = log.features.iter().map(|feature| level(feature, &context)).collect();
        let half = if salt.confirms(trial.customer) { Half::Confirmation } else { Half::Discovery };
        log.add(trial, half, levels);
        Ok(())
    })?;
    Ok(log)
}

fn level(feature: &Feature, context: &Map<String, Value>) -> u8 {
    feature.level(&context.get(&feature.name).map_or(Known::Missing, value))
}

/// What a logged context says, by feature. Lists and documents are not features.
fn known(context: &str) -> Result<Vec<(String, Known)>> {
    let context: Map<String, Value> = serde_json::from_str(context)?;
    let plain = context.into_iter().filter(|(_, known)| !known.is_array() && !known.is_object());
    Ok(plain.map(|(name, known)| (name, value(&known))).collect())
}

fn value(value: &Value) -> Known {
    match value {
        Value::Bool(x) => Known::Boolean(*x),
        Value::Number(x) => x.as_f64().map_or(Known::Missing, Known::Number),
        Value::String(text) => Known::Text(text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => Known::Missing,
    }
}

/// Looks for insights of campaigns that run, once a day.
pub fn keep_all(steps: &mut Steps) -> Result<()> {
    steps.every_day("insights", "_insights_found", "found_at", |campaign| {
        query::execute(
            "INSERT INTO decisioning._insights_found (campaign, found_at, insights)
             SELECT $1, $2, coalesce(jsonb_agg(to_jsonb(i)), '[]') FROM decisioning.insights($1) AS i WHERE i.confirmed
             ON CONFLICT (campaign) DO UPDATE SET found_at = excluded.found_at, insights = excluded.insights",
            &[campaign.into(), now()?.into()],
        )?;
        Ok(())
    })
}
