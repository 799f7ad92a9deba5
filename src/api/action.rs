//! Configure: actions, one by one or as a grid, and their approval.

use std::collections::BTreeMap;

use decisioning_core::decide::is_slot;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::Value;

use super::campaign;
use super::configure::{amount, check_editable, share};
use crate::api::configuration;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;

/// A grid larger than this is a mistake: nobody approves that many actions, and no audience can tell them apart.
const LARGEST_GRID: usize = 10_000;

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
    cost_send: Option<f64>,
    cost_on_goal: Option<f64>,
    cost_on_goal_share: Option<f64>,
    category: Option<&str>,
    transactional: Option<bool>,
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
    notice_slots(levels.get("slot").and_then(Value::as_str));
    let cost_send = amount(cost_send, "cost_send")?;
    let cost_on_goal = amount(cost_on_goal, "cost_on_goal")?;
    let cost_on_goal_share = share(cost_on_goal_share, "cost_on_goal_share", 1.0)?;
    as_owner(|| {
        check_editable(campaign)?;
        let added = configuration::execute(
            "INSERT INTO decisioning.actions (campaign, action, dimensions, content, customer_reason, cost_send,
                 cost_on_goal, cost_on_goal_share, category, transactional)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, false)) ON CONFLICT (campaign, action) DO NOTHING",
            &[
                campaign.into(),
                action.into(),
                JsonB(Value::Object(levels)).into(),
                content.into(),
                customer_reason.into(),
                cost_send.into(),
                cost_on_goal.into(),
                cost_on_goal_share.into(),
                category.into(),
                transactional.into(),
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

/// Says of slots whose hours are not known that they are sent at once: it may be meant.
pub fn notice_slots<'a>(slots: impl IntoIterator<Item = &'a str>) {
    for slot in slots.into_iter().filter(|slot| !is_slot(slot)) {
        Error::invalid(format!("slot \"{slot}\" has no hours: its actions are sent at once"))
            .hint("Slots with hours are morning, midday, afternoon, evening, and times such as 09:30.")
            .notice();
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
    notice_slots(
        grid.iter().filter(|(dimension, _)| dimension == "slot").flat_map(|(_, levels)| levels).map(String::as_str),
    );
    let added = as_owner(|| {
        check_editable(campaign)?;
        configuration::execute(
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
        configuration::execute(
            "UPDATE decisioning.actions a SET status = 'approved'
             WHERE a.campaign = $1 AND a.action = $2 AND a.status <> 'approved'",
            &[campaign.into(), action.into()],
        )
    })?;
    Ok(action.to_owned())
}

#[pg_extern(sql = false)]
fn pause_action(campaign: Option<&str>, action: Option<&str>) -> std::result::Result<String, ErrorReport> {
    let (campaign, action) = (required(campaign, "campaign")?, required(action, "action")?);
    as_owner(|| {
        check_action(campaign, action)?;
        configuration::execute(
            "UPDATE decisioning.actions a SET status = 'paused'
             WHERE a.campaign = $1 AND a.action = $2 AND a.status <> 'paused'",
            &[campaign.into(), action.into()],
        )
    })?;
    Ok(action.to_owned())
}

/// Runs as the owner.
pub fn check_action(campaign: &str, action: &str) -> Result<()> {
    let (loaded, _) = campaign::load(campaign)?;
    if loaded.actions.iter().any(|known| known.action == action) {
        return Ok(());
    }
    Err(Error::missing(format!("campaign \"{campaign}\" has no action \"{action}\""))
        .hint("SELECT action, status FROM decisioning.actions lists them."))
}
