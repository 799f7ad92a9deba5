//! Configure: campaigns.

use decisioning_core::measure::Plan;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Status};
use super::fairness::guardrail as fairness;
use super::{learn, model};
use crate::api::configuration;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::relation::{check_predicate, Column, ColumnKind, RelationName};
use crate::pg::{query, settings};

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn create_campaign(
    campaign: Option<&str>,
    customers: Option<pg_sys::Oid>,
    customer_key: Option<&str>,
    audience: Option<&str>,
    features: Option<Vec<Option<String>>>,
    time_zone: Option<&str>,
    holdout_share: Option<f64>,
    control_share: Option<f64>,
    explore_share: Option<f64>,
    control_action: Option<&str>,
    propensity_floor: Option<f64>,
    temper: Option<f64>,
    half_life: Option<pgrx::datum::Interval>,
    offset_column: Option<&str>,
    offset_scale: Option<&str>,
    minimum_uplift: Option<f64>,
    offer_consistency: Option<pgrx::datum::Interval>,
    household_column: Option<&str>,
    unit: Option<&str>,
    currency: Option<&str>,
    description: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let name = required(campaign, "campaign")?;
    let key = required(customer_key, "customer_key")?;
    let relation = RelationName::of(required(customers, "customers")?)?;
    let [holdout, control, explore] = [
        share(holdout_share, "holdout_share", 1.0)?,
        share(control_share, "control_share", 1.0)?,
        share(explore_share, "explore_share", 1.0)?,
    ];
    if holdout + control + explore > 1.0 + 1e-9 {
        return Err(Error::invalid("shares of holdout, control and explore exceed 1")
            .hint("The optimise group gets what they leave.")
            .into());
    }
    if control > 0.0 && control_action.is_none() {
        return Err(Error::invalid("a control group needs a control_action")
            .hint("Name the business-as-usual action that control customers always get.")
            .into());
    }
    let floor = share(propensity_floor, "propensity_floor", 0.1)?;
    let temper = share(temper, "temper", 1.0)?;
    let minimum_uplift = amount(minimum_uplift, "minimum_uplift")?;
    if currency.is_some_and(|code| code.len() != 3 || !code.bytes().all(|c| c.is_ascii_uppercase())) {
        return Err(Error::invalid("currency must be an ISO 4217 code").hint("For example 'EUR'.").into());
    }

    let columns = relation.columns()?;
    if relation.column(&columns, key)?.kind == ColumnKind::Other {
        return Err(Error::invalid(format!("column \"{key}\" cannot be a customer key"))
            .hint("Use a text, number or uuid column.")
            .into());
    }
    let features: Option<Vec<String>> = features.map(|features| features.into_iter().flatten().collect());
    for feature in features.iter().flatten() {
        if relation.column(&columns, feature)?.kind == ColumnKind::Other {
            return Err(Error::invalid(format!("column \"{feature}\" cannot be a feature"))
                .detail("Features are numbers, booleans, text, enums, dates and times.")
                .into());
        }
    }
    if let Some(audience) = audience {
        check_predicate(&relation, audience, "audience", false)?;
    }
    let offset_scale = required(offset_scale, "offset_scale")?;
    if let Some(column) = offset_column {
        check_offset(&relation, relation.column(&columns, column)?, offset_scale)?;
    }
    if let Some(column) = household_column {
        relation.column(&columns, column)?;
    }
    let unit = required(unit, "unit")?;
    match (unit, household_column) {
        ("customer", _) | ("household", Some(_)) => {}
        ("household", None) => {
            return Err(Error::invalid("unit household needs a household_column")
                .hint("Name the column that is equal for the members of a household; decisioning.golden_records has household_id.")
                .into())
        }
        _ => return Err(Error::invalid(format!("unknown unit \"{unit}\"")).hint("Units are customer and household.").into()),
    }
    let (zone, zone_column) = match time_zone {
        None => (session_zone()?, None),
        Some(text) if columns.iter().any(|column| column.name == text) => (session_zone()?, Some(text)),
        Some(text) if is_zone(text) => (text.to_owned(), None),
        Some(text) => {
            return Err(Error::invalid(format!(
                "time_zone \"{text}\" is neither a column of {} nor a time zone",
                relation.quoted()
            ))
            .hint("Give an IANA name such as 'Europe/Berlin', or a column that holds one per customer.")
            .into())
        }
    };
    let customers = audience_size(&relation, key, audience)?;

    as_owner(|| {
        let inserted = configuration::execute(
            "INSERT INTO decisioning.campaigns (campaign, customers_schema, customers_relation, customer_key, audience,
                 features, time_zone, time_zone_column, holdout_share, control_share, explore_share, control_action,
                 propensity_floor, temper, half_life, minimum_uplift, offer_consistency, household_column, currency,
                 description, offset_column, offset_scale, unit)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
             ON CONFLICT (campaign) DO NOTHING",
            &[
                name.into(),
                relation.schema.as_str().into(),
                relation.name.as_str().into(),
                key.into(),
                audience.into(),
                features.into(),
                zone.as_str().into(),
                zone_column.into(),
                holdout.into(),
                control.into(),
                explore.into(),
                control_action.into(),
                floor.into(),
                temper.into(),
                half_life.into(),
                minimum_uplift.into(),
                offer_consistency.into(),
                household_column.into(),
                currency.into(),
                description.into(),
                offset_column.into(),
                offset_scale.into(),
                unit.into(),
            ],
        )?;
        if inserted == 0 {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("campaign \"{name}\" already exists"),
            )
            .hint("Choose another name, or edit its row in decisioning.campaigns."));
        }
        learn::make_partitions()
    })?;
    Ok(detectable(name, customers, holdout, 1.0 - holdout - control - explore))
}

pub fn share(value: Option<f64>, name: &str, most: f64) -> Result<f64> {
    let value = required(value, name)?;
    if (0.0..=most).contains(&value) {
        Ok(value)
    } else {
        Err(Error::invalid(format!("{name} must be between 0 and {most}")).detail(format!("Given: {value}.")))
    }
}

/// A cost or a least gain: finite and not negative.
pub fn amount(value: Option<f64>, name: &str) -> Result<f64> {
    let value = required(value, name)?;
    if (0.0..=f64::MAX).contains(&value) {
        Ok(value)
    } else {
        Err(Error::invalid(format!("{name} must be a finite amount, and not negative"))
            .detail(format!("Given: {value}.")))
    }
}

/// Whether a column can be the offset of a model. Its values are read as the caller.
fn check_offset(relation: &RelationName, column: &Column, scale: &str) -> Result<()> {
    if !matches!(scale, "probability" | "log_odds") {
        return Err(Error::invalid(format!("offset_scale \"{scale}\" is not known"))
            .hint("It is 'probability' (0 to 1) or 'log_odds'."));
    }
    if column.kind != ColumnKind::Numeric {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{}\" is not a number", column.name),
        ));
    }
    let value = format!("relation.{}::pg_catalog.numeric", crate::pg::relation::quote_identifier(&column.name));
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {} AS relation
         WHERE {value} OPERATOR(pg_catalog.<) 0.0 OR {value} OPERATOR(pg_catalog.>) 1.0",
        relation.quoted(),
    );
    let outside = query::read_one(&sql, &[], |row| row.value::<i64>(1))?.unwrap_or(0);
    if scale == "probability" && outside > 0 {
        return Err(Error::invalid(format!("column \"{}\" has values that are not probabilities", column.name))
            .detail(format!("{outside} rows are not between 0 and 1."))
            .hint("Give offset_scale => 'log_odds' if they are log-odds, or a column with probabilities."));
    }
    Ok(())
}

fn is_zone(text: &str) -> bool {
    decisioning_core::decide::period(0, text).is_ok()
}

/// The session's time zone if it has an IANA name, else UTC.
fn session_zone() -> Result<String> {
    let zone = query::read_one("SELECT pg_catalog.current_setting('TimeZone')", &[], |row| row.value::<String>(1))?;
    Ok(zone.filter(|zone| is_zone(zone)).unwrap_or_else(|| "UTC".to_owned()))
}

/// Customers in the audience now, counted as the caller.
pub fn audience_size(relation: &RelationName, key: &str, audience: Option<&str>) -> Result<i64> {
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {} AS relation WHERE {} IS NOT NULL AND (\n{}\n) IS TRUE",
        relation.quoted(),
        crate::pg::relation::quote_identifier(key),
        audience.unwrap_or("true"),
    );
    Ok(query::read_one(&sql, &[], |row| row.value::<i64>(1))?.unwrap_or(0))
}

/// What the audience makes detectable, in a sentence.
fn detectable(name: &str, customers: i64, holdout: f64, treated: f64) -> String {
    let sizes = (customers as f64 * treated, customers as f64 * holdout);
    let relative = |base: f64| {
        let plan = Plan { variance: base * (1.0 - base), responding: base, power: 0.8, confidence: 0.95 };
        let difference = plan.detectable(sizes.0, sizes.1)?;
        Some(format!("{:.0} % of a base rate of {:.0} %", 100.0 * difference / base, 100.0 * base))
    };
    let found: Vec<String> = [0.02, 0.05, 0.10].into_iter().filter_map(relative).collect();
    let power = if holdout <= 0.0 || treated <= 0.0 {
        "without a holdout and an optimise group no lift can be measured".to_owned()
    } else if found.is_empty() {
        "lift can be measured once 30 of the holdout respond".to_owned()
    } else {
        format!("smallest detectable lift (80 % power, 95 % confidence however often one looks): {}", found.join(", "))
    };
    format!("campaign \"{name}\": {customers} customers in the audience, {:.0} in holdout; {power}", sizes.1)
}

#[pg_extern(sql = false)]
fn start_campaign(campaign: Option<&str>, mode: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let name = required(campaign, "campaign")?;
    if mode.is_some_and(|mode| !matches!(mode, "live" | "shadow" | "preview")) {
        return Err(Error::invalid("mode must be live, shadow or preview").into());
    }
    let (loaded, model_version) = as_owner(|| campaign::load(name))?;
    match loaded.status {
        Status::Active => return Ok(as_owner(|| set_mode(name, mode))?),
        Status::Ended => {
            return Err(Error::state(format!("campaign \"{name}\" has ended"))
                .hint("Create a new campaign; import_decisions can give it this one's history.")
                .into())
        }
        Status::Draft | Status::Paused => {}
    }
    let now = settings::now_micros()?;
    if !loaded.actions.iter().any(|action| action.is_approved(now)) {
        return Err(Error::state(format!("campaign \"{name}\" has no approved action"))
            .hint("Add actions with decisioning.add_action or add_action_grid and approve them with decisioning.approve_action.")
            .into());
    }
    if loaded.reward_goals().next().is_none() {
        return Err(Error::state(format!("campaign \"{name}\" has no goal of kind conversion or value"))
            .hint("Add one with decisioning.add_goal and decisioning.add_campaign_goal.")
            .into());
    }
    if let Some(control) = &loaded.rules.control_action {
        let known = control == campaign::NO_SEND
            || loaded.actions.iter().any(|action| action.action == *control && action.is_approved(now));
        if !known {
            return Err(Error::state(format!("control action \"{control}\" is not an approved action")).into());
        }
    }
    fairness::enforce(name)?;
    if model_version.is_none() {
        model::initialise(&loaded)?;
    }
    as_owner(|| {
        learn::make_partitions()?;
        set_mode(name, mode)?;
        query::execute(
            "UPDATE decisioning.campaigns SET status = 'active', started_at = coalesce(started_at, $2)
             WHERE campaign = $1",
            &[name.into(), super::now()?.into()],
        )
    })?;
    Ok(())
}

/// Changes the mode of a campaign, if one is given. Runs as the owner.
fn set_mode(name: &str, mode: Option<&str>) -> Result<()> {
    query::execute(
        "UPDATE decisioning.campaigns SET mode = $2 WHERE campaign = $1 AND mode <> $2",
        &[name.into(), mode.into()],
    )?;
    Ok(())
}

#[pg_extern(sql = false)]
fn pause_campaign(campaign: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let name = required(campaign, "campaign")?;
    as_owner(|| match campaign::load(name)?.0.status {
        Status::Active => {
            query::execute("UPDATE decisioning.campaigns SET status = 'paused' WHERE campaign = $1", &[name.into()])
        }
        Status::Paused => Ok(0),
        Status::Draft | Status::Ended => {
            Err(Error::state(format!("campaign \"{name}\" is not active")).hint("Only an active campaign can pause."))
        }
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
fn end_campaign(campaign: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let name = required(campaign, "campaign")?;
    as_owner(|| match campaign::load(name)?.0.status {
        Status::Ended => Ok(0),
        _ => query::execute(
            "UPDATE decisioning.campaigns SET status = 'ended', ended_at = $2 WHERE campaign = $1",
            &[name.into(), super::now()?.into()],
        ),
    })?;
    Ok(())
}

/// Configuration may change while a campaign runs, but not when it is over. Runs as the owner.
pub fn check_editable(campaign: &str) -> Result<()> {
    match campaign::load(campaign)?.0.status {
        Status::Ended => Err(Error::state(format!("campaign \"{campaign}\" has ended"))),
        _ => Ok(()),
    }
}
