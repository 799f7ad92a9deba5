//! The guardrail: a campaign that treats a value of an attribute adversely raises an alarm, or is paused, and is not started or
//! ramped, unless somebody says why it may.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::report::{check, findings, Finding, Question};
use crate::api::campaign;
use crate::api::configuration;
use crate::api::configure::{self, check_editable};
use crate::api::maintained::Steps;
use crate::api::now;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, caller_name};
use crate::pg::query;

/// One row of decisioning.fairness_guardrails.
struct Guardrail {
    attribute: String,
    dimension: String,
    reference: Option<String>,
    minimum_ratio: f64,
    minimum_customers: i32,
    pauses: bool,
    /// Somebody has said why it may be so, and that holds now.
    overridden: bool,
}

/// A guardrail and what it found adverse.
struct Breach {
    guardrail: Guardrail,
    found: Vec<Finding>,
}

impl Breach {
    fn detail(&self) -> String {
        let Guardrail { attribute, dimension, minimum_ratio, .. } = &self.guardrail;
        let one = |finding: &Finding| {
            let ratio = finding.parity.ratio.unwrap_or_default();
            format!(
                "{attribute} {} gets {dimension} {} at {ratio:.2} of the rate of others",
                finding.value, finding.level
            )
        };
        let all: Vec<String> = self.found.iter().map(one).collect();
        format!("{}, less than {minimum_ratio}", all.join("; "))
    }
}

/// Runs as the owner.
fn guardrails(campaign: &str) -> Result<Vec<Guardrail>> {
    query::write(
        "SELECT g.attribute, g.dimension, g.reference, g.minimum_ratio, g.minimum_customers, g.response = 'pause',
                coalesce(g.overridden_until > $2, false)
         FROM decisioning.fairness_guardrails g WHERE g.campaign = $1 ORDER BY g.attribute, g.dimension",
        &[campaign.into(), now()?.into()],
        |row| {
            Ok(Guardrail {
                attribute: row.value(1)?,
                dimension: row.value(2)?,
                reference: row.get(3)?,
                minimum_ratio: row.value(4)?,
                minimum_customers: row.value(5)?,
                pauses: row.value(6)?,
                overridden: row.value(7)?,
            })
        },
    )
}

/// Guardrails of a campaign that are broken. Reads the customers relation as the caller.
fn breaches(name: &str) -> Result<Vec<Breach>> {
    let guardrails = as_owner(|| guardrails(name))?;
    if guardrails.is_empty() {
        return Ok(Vec::new());
    }
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    let mut broken = Vec::new();
    for guardrail in guardrails {
        let question = Question {
            attribute: &guardrail.attribute,
            dimension: &guardrail.dimension,
            reference: guardrail.reference.as_deref(),
            minimum_ratio: guardrail.minimum_ratio,
            minimum_customers: f64::from(guardrail.minimum_customers),
            since: None,
        };
        let mut found = findings(&campaign, &question)?;
        found.retain(Finding::is_adverse);
        if !found.is_empty() {
            broken.push(Breach { guardrail, found });
        }
    }
    Ok(broken)
}

/// # Errors
/// The campaign treats a value adversely, and nobody has said why it may.
pub fn enforce(name: &str) -> Result<()> {
    match breaches(name)?.into_iter().find(|breach| !breach.guardrail.overridden) {
        None => Ok(()),
        Some(breach) => {
            let Guardrail { attribute, dimension, .. } = &breach.guardrail;
            Err(Error::state(format!("campaign \"{name}\" breaks its fairness guardrail on {attribute}"))
                .detail(breach.detail() + ".")
                .hint(format!(
                    "Change what makes the difference (decisioning.guardrail_funnel, decisioning.explain), or say why it may be so, \
                     which is logged: decisioning.override_fairness('{name}', '{attribute}', reason => …, dimension => '{dimension}')."
                )))
        }
    }
}

type AlertRow = (String, String, String, String, String, i64, f64, Option<f64>, String);

/// Looks at the guardrails of a campaign, and does what those that are broken say.
pub fn follow(name: &str) -> Result<Vec<AlertRow>> {
    let mut rows = Vec::new();
    for breach in breaches(name)? {
        let Guardrail { attribute, dimension, pauses, overridden, .. } = &breach.guardrail;
        let outcome = match (overridden, pauses) {
            (true, _) => "overridden",
            (false, true) => "paused",
            (false, false) => "alerted",
        };
        as_owner(|| {
            for finding in &breach.found {
                record(name, &breach.guardrail, finding, outcome)?;
            }
            if outcome == "paused" {
                query::execute(
                    "UPDATE decisioning.campaigns SET status = 'paused' WHERE campaign = $1 AND status = 'active'",
                    &[name.into()],
                )?;
            }
            Ok(())
        })?;
        if !overridden {
            let paused = if *pauses { "; the campaign is paused" } else { "" };
            pgrx::warning!("fairness of campaign \"{name}\": {}{paused}", breach.detail());
        }
        for Finding { value, level, customers, parity, .. } in &breach.found {
            let name = name.to_owned();
            let of = (attribute.clone(), dimension.clone(), value.clone(), level.clone());
            rows.push((name, of.0, of.1, of.2, of.3, *customers, parity.share, parity.ratio, outcome.to_owned()));
        }
    }
    Ok(rows)
}

/// Runs as the owner.
fn record(name: &str, guardrail: &Guardrail, finding: &Finding, outcome: &str) -> Result<()> {
    query::execute(
        "INSERT INTO decisioning.fairness_alerts (campaign, attribute, dimension, value, level, alerted_at, alerted_on, customers, share,
             ratio, outcome)
         SELECT c.campaign, $2, $3, $4, $5, $6, ($6 AT TIME ZONE c.time_zone)::date, $7, $8, $9, $10
         FROM decisioning.campaigns c WHERE c.campaign = $1
         ON CONFLICT (campaign, attribute, dimension, value, level, alerted_on, outcome) DO NOTHING",
        &[
            name.into(),
            guardrail.attribute.as_str().into(),
            guardrail.dimension.as_str().into(),
            finding.value.as_str().into(),
            finding.level.as_str().into(),
            now()?.into(),
            finding.customers.into(),
            finding.parity.share.into(),
            finding.parity.ratio.into(),
            outcome.into(),
        ],
    )?;
    Ok(())
}

/// All campaigns with a guardrail that are active.
pub fn follow_all(steps: &mut Steps) -> Result<()> {
    steps.each(
        "fairness",
        "SELECT DISTINCT g.campaign FROM decisioning.fairness_guardrails g JOIN decisioning.campaigns c USING (campaign)
         WHERE c.status = 'active' ORDER BY 1",
        &[],
        |campaign| follow(campaign).map(drop),
    )
}

#[pg_extern(sql = false)]
fn check_fairness(
    campaign: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(campaign, String),
            name!(attribute, String),
            name!(dimension, String),
            name!(value, String),
            name!(level, String),
            name!(customers, i64),
            name!(share, f64),
            name!(ratio, Option<f64>),
            name!(outcome, String),
        ),
    >,
    ErrorReport,
> {
    let campaign = required(campaign, "campaign")?;
    as_owner(|| campaign::load(campaign))?;
    Ok(TableIterator::new(follow(campaign)?))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn set_fairness_guardrail(
    campaign: Option<&str>,
    attribute: Option<&str>,
    dimension: Option<&str>,
    reference: Option<&str>,
    minimum_ratio: Option<f64>,
    minimum_customers: Option<i32>,
    response: Option<&str>,
) -> std::result::Result<(), ErrorReport> {
    let (name, attribute) = (required(campaign, "campaign")?, required(attribute, "attribute")?);
    let (dimension, response) = (required(dimension, "dimension")?, required(response, "response")?);
    let minimum_ratio = configure::share(minimum_ratio, "minimum_ratio", 1.0)?;
    let minimum_customers = required(minimum_customers, "minimum_customers")?;
    if minimum_ratio == 0.0 {
        return Err(Error::invalid("minimum_ratio must be above 0").hint("0.8 is the four-fifths rule.").into());
    }
    if !["alert", "pause"].contains(&response) {
        return Err(Error::invalid(format!("unknown response \"{response}\""))
            .hint("Responses are alert and pause.")
            .into());
    }
    if minimum_customers < 1 {
        return Err(Error::invalid("minimum_customers must be at least 1").into());
    }
    let (campaign, _) = as_owner(|| {
        check_editable(name)?;
        campaign::load(name)
    })?;
    check(&campaign, attribute, dimension)?;
    as_owner(|| {
        configuration::execute(
            "INSERT INTO decisioning.fairness_guardrails (campaign, attribute, dimension, reference, minimum_ratio, minimum_customers,
                 response)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (campaign, attribute, dimension) DO UPDATE
             SET reference = excluded.reference, minimum_ratio = excluded.minimum_ratio,
                 minimum_customers = excluded.minimum_customers, response = excluded.response",
            &[
                name.into(),
                attribute.into(),
                dimension.into(),
                reference.into(),
                minimum_ratio.into(),
                minimum_customers.into(),
                response.into(),
            ],
        )
    })?;
    Ok(())
}

/// # Errors
/// The guardrail is not there.
fn must_exist(name: &str, attribute: &str, dimension: &str, rows: u64) -> Result<()> {
    match rows {
        0 => {
            Err(Error::missing(format!("campaign \"{name}\" has no fairness guardrail on {attribute} and {dimension}"))
                .hint("SELECT attribute, dimension FROM decisioning.fairness_guardrails lists them."))
        }
        _ => Ok(()),
    }
}

#[pg_extern(sql = false)]
fn remove_fairness_guardrail(
    campaign: Option<&str>,
    attribute: Option<&str>,
    dimension: Option<&str>,
) -> std::result::Result<(), ErrorReport> {
    let (name, attribute) = (required(campaign, "campaign")?, required(attribute, "attribute")?);
    let dimension = required(dimension, "dimension")?;
    as_owner(|| {
        let removed = query::execute(
            "DELETE FROM decisioning.fairness_guardrails g WHERE g.campaign = $1 AND g.attribute = $2 AND g.dimension = $3",
            &[name.into(), attribute.into(), dimension.into()],
        )?;
        must_exist(name, attribute, dimension, removed as u64)
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
fn override_fairness(
    campaign: Option<&str>,
    attribute: Option<&str>,
    reason: Option<&str>,
    until: Option<TimestampWithTimeZone>,
    dimension: Option<&str>,
) -> std::result::Result<(), ErrorReport> {
    let (name, attribute) = (required(campaign, "campaign")?, required(attribute, "attribute")?);
    let (reason, dimension) = (required(reason, "reason")?.trim(), required(dimension, "dimension")?);
    if reason.is_empty() {
        return Err(Error::invalid("reason must not be empty").hint("It is what an auditor will read.").into());
    }
    as_owner(|| {
        let changed = configuration::execute(
            "UPDATE decisioning.fairness_guardrails g
             SET override_reason = $4, overridden_by = $5, overridden_until = coalesce($6, $7 + interval '30 days')
             WHERE g.campaign = $1 AND g.attribute = $2 AND g.dimension = $3",
            &[
                name.into(),
                attribute.into(),
                dimension.into(),
                reason.into(),
                caller_name().into(),
                until.into(),
                now()?.into(),
            ],
        )?;
        must_exist(name, attribute, dimension, changed as u64)
    })?;
    Ok(())
}
