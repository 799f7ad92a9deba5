//! Lift: what campaigns have changed, by intention to treat.

mod answer;
mod line;
mod over_time;
mod parts;
mod question;
mod totals;

use decisioning_core::measure::Bounded;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

pub use answer::ask;
pub use line::{lines, Line, Measure};
pub use over_time::Moment;
pub use question::{Cell, Known, Question, Span, Subject};

use super::census::Census;
use super::evaluate::checked_confidence;
use super::{campaign, now};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use question::Covariate;
use totals::Totals;

/// A campaign as it stands and as it came about, read at once.
pub struct Overview {
    /// Who was exposed, by day.
    pub census: Census,
    pub lines: Vec<Line>,
    pub moments: Vec<Moment>,
}

/// Runs as the owner.
pub fn overview(question: &Question) -> Result<Overview> {
    let by = over_time::By::Day;
    let census = question.census(Some(by))?;
    let mut totals = Totals::read(question, Some(by), &census.periods)?;
    let lines = line::lines_of(question, &census, &mut totals)?;
    let moments = over_time::moments(question, by, &census, &mut totals)?;
    Ok(Overview { census, lines, moments })
}

/// Seconds of an interval; a day is 24 hours and a month 30 days.
fn seconds(interval: Option<Interval>, name: &str) -> Result<Option<f64>> {
    let Some(interval) = interval else { return Ok(None) };
    let seconds = interval.as_micros() as f64 / 1e6;
    if seconds > 0.0 && seconds <= 100.0 * 366.0 * 86_400.0 {
        Ok(Some(seconds))
    } else {
        Err(Error::invalid(format!("{name} must be longer than nothing, and at most 100 years")))
    }
}

/// Whether only customers count who could have been sent something at exposure.
fn treatable(population: Option<&str>) -> Result<bool> {
    match required(population, "population")? {
        "treatable" => Ok(true),
        "everybody" => Ok(false),
        other => Err(Error::invalid(format!("unknown population \"{other}\""))
            .hint("Populations are treatable (who could have been sent something when exposed) and everybody.")),
    }
}

fn covariate(feature: Option<&str>, history: Option<f64>) -> Result<Option<Covariate>> {
    match (feature, history) {
        (Some(_), Some(_)) => Err(Error::invalid("covariate and history cannot both be given")
            .hint("covariate names a feature; history takes the goal itself in the time before exposure.")),
        (Some(feature), None) => Ok(Some(Covariate::Feature(feature.to_owned()))),
        (None, history) => Ok(history.map(Covariate::History)),
    }
}

/// A feature that no first decision knows as a number would take nothing away. Runs as the owner.
fn check_covariate(question: &Question) -> Result<()> {
    let Some(Covariate::Feature(feature)) = &question.covariate else { return Ok(()) };
    let campaigns = question.campaign.as_ref().map(|campaign| vec![campaign.clone()]);
    let first =
        "SELECT FROM decisioning.decisions d WHERE d.ordinal = 1 AND ($1::text[] IS NULL OR d.campaign = ANY ($1))";
    let sql = format!(
        "SELECT EXISTS ({first}) AND NOT EXISTS ({first} AND jsonb_typeof(d.context -> $2) IN ('number', 'boolean'))"
    );
    let is_unknown = query::read_one(&sql, &[campaigns.into(), feature.as_str().into()], |row| row.value::<bool>(1))?;
    match is_unknown {
        Some(true) => {
            Err(Error::missing(format!("no decision knows a feature \"{feature}\" that is a number or boolean"))
                .hint("Name a column of the customers relation that the campaign learns from."))
        }
        _ => Ok(()),
    }
}

/// One row of the function.
fn row(
    line: Line,
) -> (
    String,
    String,
    String,
    &'static str,
    &'static str,
    &'static str,
    i64,
    i64,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    &'static str,
    bool,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
) {
    let readout = line.readout.as_ref();
    let fixed = readout.and_then(|readout| readout.fixed);
    let fixed_relative = readout.and_then(|readout| readout.fixed_relative);
    let relative = readout.and_then(|readout| readout.always_valid_relative);
    let lower = |bounds: Option<Bounded>| bounds.map(|bounds| bounds.lower);
    let upper = |bounds: Option<Bounded>| bounds.map(|bounds| bounds.upper);
    (
        line.subject.campaign,
        line.subject.goal,
        line.kind,
        line.measure.as_str(),
        line.treated_group,
        line.baseline_group,
        line.treated_customers as i64,
        line.baseline_customers as i64,
        line.means.map(|means| means[0]),
        line.means.map(|means| means[1]),
        readout.map(|readout| readout.difference),
        lower(line.bounds),
        upper(line.bounds),
        readout.and_then(|readout| readout.relative),
        lower(relative),
        upper(relative),
        line.finding.as_str(),
        line.headline,
        lower(fixed),
        upper(fixed),
        lower(fixed_relative),
        upper(fixed_relative),
        readout.and_then(|readout| readout.p_value),
        readout.and_then(|readout| readout.detectable),
        readout.and_then(|readout| readout.variance_removed),
        line.winsorised_at,
    )
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn lift(
    campaign: Option<&str>,
    confidence: Option<f64>,
    as_of: Option<TimestampWithTimeZone>,
    horizon: Option<Interval>,
    goal: Option<&str>,
    population: Option<&str>,
    mixed: Option<bool>,
    covariate_feature: Option<&str>,
    history: Option<Interval>,
    winsorise: Option<f64>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(campaign, String),
            name!(goal, String),
            name!(kind, String),
            name!(measure, &'static str),
            name!(treated_group, &'static str),
            name!(baseline_group, &'static str),
            name!(treated_customers, i64),
            name!(baseline_customers, i64),
            name!(treated_mean, Option<f64>),
            name!(baseline_mean, Option<f64>),
            name!(absolute_lift, Option<f64>),
            name!(lower, Option<f64>),
            name!(upper, Option<f64>),
            name!(relative_lift, Option<f64>),
            name!(relative_lower, Option<f64>),
            name!(relative_upper, Option<f64>),
            name!(verdict, &'static str),
            name!(headline, bool),
            name!(fixed_lower, Option<f64>),
            name!(fixed_upper, Option<f64>),
            name!(fixed_relative_lower, Option<f64>),
            name!(fixed_relative_upper, Option<f64>),
            name!(p_value, Option<f64>),
            name!(detectable_lift, Option<f64>),
            name!(variance_removed, Option<f64>),
            name!(winsorised_at, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let span = seconds(horizon, "horizon")?.map_or(Span::SinceExposure, Span::For);
    let question = Question {
        goal: goal.map(str::to_owned),
        span,
        treatable: treatable(population)?,
        mixed: required(mixed, "mixed")?,
        covariate: covariate(covariate_feature, seconds(history, "history")?)?,
        winsorise: quantile(winsorise)?,
        ..Question::new(campaign, as_of.map_or_else(now, Ok)?, checked_confidence(confidence)?)
    };
    let found = as_owner(|| {
        check_covariate(&question)?;
        answer(campaign, &question)
    })?;
    Ok(TableIterator::new(found.into_iter().map(row).collect::<Vec<_>>()))
}

fn quantile(winsorise: Option<f64>) -> Result<f64> {
    let quantile = required(winsorise, "winsorise")?;
    if quantile > 0.5 && quantile <= 1.0 {
        Ok(quantile)
    } else {
        Err(Error::invalid("winsorise must be above 0.5 and at most 1").hint(
            "It is the quantile of customers' totals beyond which they count as that; 1 leaves them as they are.",
        ))
    }
}

/// The lines of a campaign that must exist, or of all. Runs as the owner.
fn answer(campaign: Option<&str>, question: &Question) -> Result<Vec<Line>> {
    if let Some(name) = campaign {
        let (campaign, _) = campaign::load(name)?;
        if let Some(goal) = &question.goal {
            if !campaign.goals.iter().any(|known| known.goal == *goal) {
                return Err(Error::missing(format!("campaign \"{name}\" has no goal \"{goal}\""))
                    .hint("SELECT goal FROM decisioning.campaign_goals lists them."));
            }
        }
    }
    lines(question)
}

#[pg_extern(sql = false)]
fn lift_before_exposure(
    campaign: Option<&str>,
    period: Option<Interval>,
    confidence: Option<f64>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(campaign, String),
            name!(goal, String),
            name!(measure, &'static str),
            name!(treated_group, &'static str),
            name!(baseline_group, &'static str),
            name!(treated_customers, i64),
            name!(baseline_customers, i64),
            name!(treated_mean, Option<f64>),
            name!(baseline_mean, Option<f64>),
            name!(absolute_lift, Option<f64>),
            name!(lower, Option<f64>),
            name!(upper, Option<f64>),
            name!(p_value, Option<f64>),
            name!(alike, bool),
        ),
    >,
    ErrorReport,
> {
    let span = Span::Before(required(seconds(period, "period")?, "period")?);
    let question = Question { span, ..Question::new(campaign, now()?, checked_confidence(confidence)?) };
    let found = as_owner(|| answer(campaign, &question))?;
    let row = |line: Line| {
        let readout = line.readout.as_ref();
        let p_value = readout.and_then(|readout| readout.p_value);
        let fixed = readout.and_then(|readout| readout.fixed);
        (
            line.subject.campaign,
            line.subject.goal,
            line.measure.as_str(),
            line.treated_group,
            line.baseline_group,
            line.treated_customers as i64,
            line.baseline_customers as i64,
            line.means.map(|means| means[0]),
            line.means.map(|means| means[1]),
            readout.map(|readout| readout.difference),
            fixed.map(|fixed| fixed.lower),
            fixed.map(|fixed| fixed.upper),
            p_value,
            p_value.is_none_or(|p_value| p_value >= ALIKE),
        )
    };
    Ok(TableIterator::new(found.into_iter().map(row).collect::<Vec<_>>()))
}

/// Groups whose past differs at this level are not alike.
const ALIKE: f64 = 0.001;
