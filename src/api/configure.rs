//! Configure: campaigns, actions, goals and outcome sources.

use std::collections::BTreeMap;

use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::Value;

use super::campaign::{self, Status};
use super::{learn, model};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, caller_name};
use crate::pg::query;
use crate::pg::relation::{check_predicate, ColumnKind, RelationName};

/// A grid larger than this is a mistake: nobody approves that many actions, and no audience can tell them apart.
const LARGEST_GRID: usize = 10_000;

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
        check_predicate(&relation, audience, "audience")?;
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
        let inserted = query::execute(
            "INSERT INTO decisioning.campaigns (campaign, customers_schema, customers_relation, customer_key, audience,
                 features, time_zone, time_zone_column, holdout_share, control_share, explore_share, control_action,
                 propensity_floor, temper, description)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
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
                description.into(),
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

fn share(value: Option<f64>, name: &str, most: f64) -> Result<f64> {
    let value = required(value, name)?;
    if (0.0..=most).contains(&value) {
        Ok(value)
    } else {
        Err(Error::invalid(format!("{name} must be between 0 and {most}")).detail(format!("Given: {value}.")))
    }
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
fn audience_size(relation: &RelationName, key: &str, audience: Option<&str>) -> Result<i64> {
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
        decisioning_core::measure::minimum_detectable_difference(base, sizes.0, sizes.1)
            .map(|difference| format!("{:.0} % of a base rate of {:.0} %", 100.0 * difference / base, 100.0 * base))
    };
    let found: Vec<String> = [0.02, 0.05, 0.10].into_iter().filter_map(relative).collect();
    let power = if found.is_empty() {
        "without a holdout and an optimise group no lift can be measured".to_owned()
    } else {
        format!("smallest detectable lift (80 % power, 5 % level): {}", found.join(", "))
    };
    format!("campaign \"{name}\": {customers} customers in the audience, {:.0} in holdout; {power}", sizes.1)
}

#[pg_extern(sql = false)]
fn start_campaign(campaign: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let name = required(campaign, "campaign")?;
    let (loaded, model_version) = as_owner(|| campaign::load(name))?;
    match loaded.status {
        Status::Active => return Ok(()),
        Status::Ended => {
            return Err(Error::state(format!("campaign \"{name}\" has ended"))
                .hint("Create a new campaign; import_decisions can give it this one's history.")
                .into())
        }
        Status::Draft | Status::Paused => {}
    }
    if !loaded.actions.iter().any(|action| action.approved()) {
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
            || loaded.actions.iter().any(|action| action.action == *control && action.approved());
        if !known {
            return Err(Error::state(format!("control action \"{control}\" is not an approved action")).into());
        }
    }
    if model_version.is_none() {
        model::initialise(&loaded)?;
    }
    as_owner(|| {
        learn::make_partitions()?;
        query::execute(
            "UPDATE decisioning.campaigns SET status = 'active', started_at = coalesce(started_at, $2)
             WHERE campaign = $1",
            &[name.into(), super::now()?.into()],
        )
    })?;
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

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn add_action(
    campaign: Option<&str>,
    action: Option<&str>,
    message: Option<&str>,
    offer: Option<&str>,
    channel: Option<&str>,
    slot: Option<&str>,
    dimensions: Option<JsonB>,
    content: Option<JsonB>,
    customer_reason: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let campaign = required(campaign, "campaign")?;
    let action = required(action, "action")?;
    let mut levels = match dimensions {
        None => serde_json::Map::new(),
        Some(JsonB(Value::Object(levels))) => levels,
        Some(_) => return Err(not_levels("dimensions").into()),
    };
    for (dimension, level) in [("message", message), ("offer", offer), ("channel", channel), ("slot", slot)] {
        if let Some(level) = level {
            levels.insert(dimension.to_owned(), Value::String(level.to_owned()));
        }
    }
    if levels.is_empty() {
        return Err(Error::invalid(format!("action \"{action}\" has no dimension"))
            .hint("Give it at least one of message, offer, channel, slot or dimensions.")
            .into());
    }
    as_owner(|| {
        check_editable(campaign)?;
        let added = query::execute(
            "INSERT INTO decisioning.actions (campaign, action, dimensions, content, customer_reason)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (campaign, action) DO NOTHING",
            &[
                campaign.into(),
                action.into(),
                JsonB(Value::Object(levels)).into(),
                content.into(),
                customer_reason.into(),
            ],
        )?;
        match added {
            0 => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("action \"{action}\" of campaign \"{campaign}\" already exists"),
            )),
            _ => Ok(action.to_owned()),
        }
    })
    .map_err(Into::into)
}

fn not_levels(argument: &str) -> Error {
    Error::invalid(format!("{argument} must be an object of dimension names"))
        .hint("For example '{\"channel\": \"email\", \"offer\": \"10_percent\"}'.")
}

/// Configuration may change while a campaign runs, but not when it is over. Runs as the owner.
fn check_editable(campaign: &str) -> Result<()> {
    match campaign::load(campaign)?.0.status {
        Status::Ended => Err(Error::state(format!("campaign \"{campaign}\" has ended"))),
        _ => Ok(()),
    }
}

#[pg_extern(sql = false)]
fn add_action_grid(
    campaign: Option<&str>,
    dimensions: Option<JsonB>,
    excluded: Option<JsonB>,
) -> std::result::Result<i32, ErrorReport> {
    let campaign = required(campaign, "campaign")?;
    let grid = grid(required(dimensions, "dimensions")?.0)?;
    let excluded = excluded_combinations(excluded.map_or(Value::Array(Vec::new()), |excluded| excluded.0), &grid)?;
    let mut names = Vec::new();
    let mut documents = Vec::new();
    for combination in combinations(&grid)? {
        let is_excluded = excluded.iter().any(|levels| {
            levels.iter().all(|(dimension, level)| combination.iter().any(|(d, l)| d == dimension && l == level))
        });
        if !is_excluded {
            names.push(combination.iter().map(|(_, level)| *level).collect::<Vec<_>>().join("/"));
            let levels: serde_json::Map<String, Value> =
                combination.iter().map(|(d, l)| ((*d).to_owned(), Value::String((*l).to_owned()))).collect();
            documents.push(Value::Object(levels).to_string());
        }
    }
    let added = as_owner(|| {
        check_editable(campaign)?;
        query::execute(
            "INSERT INTO decisioning.actions (campaign, action, dimensions)
             SELECT $1, n.action, n.dimensions::jsonb
             FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS n(action, dimensions, position)
             WHERE NOT EXISTS (SELECT FROM decisioning.actions a
                               WHERE a.campaign = $1 AND (a.action = n.action OR a.dimensions = n.dimensions::jsonb))
             ORDER BY n.position",
            &[campaign.into(), names.into(), documents.into()],
        )
    })?;
    Ok(i32::try_from(added).unwrap_or(i32::MAX))
}

type Grid = Vec<(String, Vec<String>)>;

/// Dimensions in the order message, offer, channel, slot, then the others by name (jsonb keeps no order).
fn grid(document: Value) -> Result<Grid> {
    let malformed = || {
        Error::invalid("dimensions must map each dimension to a list of levels")
            .hint("For example '{\"channel\": [\"email\", \"sms\"], \"offer\": [\"none\", \"10_percent\"]}'.")
    };
    let Value::Object(dimensions) = document else { return Err(malformed()) };
    let mut grid = Vec::new();
    for (dimension, levels) in dimensions {
        let Value::Array(levels) = levels else { return Err(malformed()) };
        let levels: Vec<String> = levels
            .into_iter()
            .map(|level| match level {
                Value::String(level) if !level.is_empty() => Ok(level),
                _ => Err(malformed()),
            })
            .collect::<Result<_>>()?;
        if levels.is_empty() {
            return Err(malformed());
        }
        grid.push((dimension, levels));
    }
    if grid.is_empty() {
        return Err(malformed());
    }
    let rank =
        |name: &str| ["message", "offer", "channel", "slot"].iter().position(|known| *known == name).unwrap_or(4);
    grid.sort_by(|a, b| (rank(&a.0), &a.0).cmp(&(rank(&b.0), &b.0)));
    Ok(grid)
}

fn excluded_combinations(document: Value, grid: &Grid) -> Result<Vec<BTreeMap<String, String>>> {
    let malformed = || {
        Error::invalid("excluded must be a list of partial combinations")
            .hint("For example '[{\"channel\": \"sms\", \"message\": \"new_in\"}]'.")
    };
    let excluded: Vec<BTreeMap<String, String>> = serde_json::from_value(document).map_err(|_| malformed())?;
    for (dimension, level) in excluded.iter().flatten() {
        if !grid.iter().any(|(name, levels)| name == dimension && levels.contains(level)) {
            return Err(Error::invalid(format!("excluded level {dimension} = {level} is not in the grid"))
                .hint("Check the spelling: it would exclude nothing."));
        }
    }
    if excluded.iter().any(BTreeMap::is_empty) {
        return Err(malformed());
    }
    Ok(excluded)
}

/// Every combination of levels, the last dimension varying fastest.
fn combinations(grid: &Grid) -> Result<Vec<Vec<(&str, &str)>>> {
    let size = grid.iter().try_fold(1_usize, |size, (_, levels)| size.checked_mul(levels.len()));
    if size.is_none_or(|size| size > LARGEST_GRID) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("the grid has more than {LARGEST_GRID} combinations"),
        )
        .hint("Use fewer levels, or add the actions you mean one by one with decisioning.add_action."));
    }
    Ok(grid.iter().fold(vec![Vec::new()], |combinations, (dimension, levels)| {
        combinations
            .iter()
            .flat_map(|combination| {
                levels.iter().map(move |level| {
                    let mut longer: Vec<(&str, &str)> = combination.clone();
                    longer.push((dimension, level));
                    longer
                })
            })
            .collect()
    }))
}

#[pg_extern(sql = false)]
fn approve_action(campaign: Option<&str>, action: Option<&str>) -> std::result::Result<String, ErrorReport> {
    let (campaign, action) = (required(campaign, "campaign")?, required(action, "action")?);
    as_owner(|| {
        check_action(campaign, action)?;
        query::execute(
            "UPDATE decisioning.actions a
             SET status = 'approved', approved_by = $3, approved_at = clock_timestamp(),
                 approved_content_hash = md5(jsonb_build_array(a.dimensions, a.content, a.customer_reason)::text)
             WHERE a.campaign = $1 AND a.action = $2 AND a.status <> 'approved'",
            &[campaign.into(), action.into(), caller_name().into()],
        )
    })?;
    Ok(action.to_owned())
}

#[pg_extern(sql = false)]
fn pause_action(campaign: Option<&str>, action: Option<&str>) -> std::result::Result<String, ErrorReport> {
    let (campaign, action) = (required(campaign, "campaign")?, required(action, "action")?);
    as_owner(|| {
        check_action(campaign, action)?;
        query::execute(
            "UPDATE decisioning.actions a SET status = 'paused'
             WHERE a.campaign = $1 AND a.action = $2 AND a.status <> 'paused'",
            &[campaign.into(), action.into()],
        )
    })?;
    Ok(action.to_owned())
}

/// Runs as the owner.
fn check_action(campaign: &str, action: &str) -> Result<()> {
    let (loaded, _) = campaign::load(campaign)?;
    if loaded.actions.iter().any(|known| known.action == action) {
        return Ok(());
    }
    Err(Error::missing(format!("campaign \"{campaign}\" has no action \"{action}\""))
        .hint("SELECT action, status FROM decisioning.actions lists them."))
}

#[pg_extern(sql = false)]
fn add_goal(
    goal: Option<&str>,
    kind: Option<&str>,
    description: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let (goal, kind) = (required(goal, "goal")?, required(kind, "kind")?);
    if !["conversion", "value", "engagement", "harm"].contains(&kind) {
        return Err(Error::invalid(format!("unknown kind of goal \"{kind}\""))
            .hint("Kinds are conversion, value, engagement and harm.")
            .into());
    }
    as_owner(|| {
        let added = query::execute(
            "INSERT INTO decisioning.goals (goal, kind, description) VALUES ($1, $2, $3) ON CONFLICT (goal) DO NOTHING",
            &[goal.into(), kind.into(), description.into()],
        )?;
        match added {
            0 => Err(Error::new(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, format!("goal \"{goal}\" already exists"))),
            _ => Ok(goal.to_owned()),
        }
    })
    .map_err(Into::into)
}

/// Runs as the owner.
pub fn check_goal(goal: &str) -> Result<()> {
    query::read_one("SELECT 1 FROM decisioning.goals WHERE goal = $1", &[goal.into()], |_| Ok(()))?.ok_or_else(|| {
        Error::missing(format!("goal \"{goal}\" does not exist")).hint("Add it with decisioning.add_goal(goal, kind).")
    })
}

#[pg_extern(sql = false)]
fn add_campaign_goal(
    campaign: Option<&str>,
    goal: Option<&str>,
    value: Option<f64>,
    attribution_window: Option<Interval>,
) -> std::result::Result<(), ErrorReport> {
    let (campaign, goal) = (required(campaign, "campaign")?, required(goal, "goal")?);
    let window = required(attribution_window, "attribution_window")?;
    if value.is_some_and(|value| !value.is_finite()) {
        return Err(Error::invalid("value must be a finite number").into());
    }
    as_owner(|| {
        check_editable(campaign)?;
        check_goal(goal)?;
        let positive =
            query::read_one("SELECT $1 > interval '0' AND $1 <= interval '366 days'", &[window.into()], |row| {
                row.value::<bool>(1)
            })?;
        if positive != Some(true) {
            return Err(Error::invalid("attribution_window must be positive and at most 366 days"));
        }
        let added = query::execute(
            "INSERT INTO decisioning.campaign_goals (campaign, goal, value, attribution_window)
             VALUES ($1, $2, $3, $4) ON CONFLICT (campaign, goal) DO NOTHING",
            &[campaign.into(), goal.into(), value.into(), window.into()],
        )?;
        match added {
            0 => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("campaign \"{campaign}\" already has goal \"{goal}\""),
            )),
            _ => Ok(()),
        }
    })
    .map_err(Into::into)
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn add_outcome_source(
    goal: Option<&str>,
    relation: Option<pg_sys::Oid>,
    customer_key: Option<&str>,
    occurred_at: Option<&str>,
    value: Option<&str>,
    event_id: Option<&str>,
    filter: Option<&str>,
    lookback: Option<Interval>,
    outcome_source: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let goal = required(goal, "goal")?;
    let relation = RelationName::of(required(relation, "relation")?)?;
    let customer_key = required(customer_key, "customer_key")?;
    let occurred_at = required(occurred_at, "occurred_at")?;
    let event_id = required(event_id, "event_id").map_err(|error| {
        error.hint("Name the column that identifies an event: it is what makes re-reading the table harmless.")
    })?;
    let lookback = required(lookback, "lookback")?;

    let columns = relation.columns()?;
    relation.column(&columns, customer_key)?;
    relation.column(&columns, event_id)?;
    let wrong = |name: &str, what: &str| {
        Error::new(PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH, format!("column \"{name}\" is not {what}"))
    };
    if !matches!(relation.column(&columns, occurred_at)?.kind, ColumnKind::Time | ColumnKind::LocalTime) {
        return Err(wrong(occurred_at, "a date or time").into());
    }
    if let Some(value) = value {
        if relation.column(&columns, value)?.kind != ColumnKind::Numeric {
            return Err(wrong(value, "a number").into());
        }
    }
    if let Some(filter) = filter {
        check_predicate(&relation, filter, "filter")?;
    }
    let name =
        outcome_source.map_or_else(|| format!("{goal} from {}.{}", relation.schema, relation.name), str::to_owned);
    as_owner(|| {
        check_goal(goal)?;
        let added = query::execute(
            "INSERT INTO decisioning.outcome_sources (outcome_source, goal, source_schema, source_relation, customer_key,
                 occurred_at, event_id, value, filter, lookback)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (outcome_source) DO NOTHING",
            &[
                name.as_str().into(),
                goal.into(),
                relation.schema.as_str().into(),
                relation.name.as_str().into(),
                customer_key.into(),
                occurred_at.into(),
                event_id.into(),
                value.into(),
                filter.into(),
                lookback.into(),
            ],
        )?;
        match added {
            0 => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("outcome source \"{name}\" already exists"),
            )
            .hint("Give another name in outcome_source.")),
            _ => Ok(name),
        }
    })
    .map_err(Into::into)
}
