//! Configure: budgets.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::api::campaign;
use crate::api::configure::{amount as checked_amount, check_editable};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// More than this cannot be counted in millionths.
const LARGEST: f64 = 1e12;

fn one_of<'a>(value: Option<&'a str>, name: &str, known: &[&str]) -> Result<&'a str> {
    let value = required(value, name)?;
    if known.contains(&value) {
        return Ok(value);
    }
    Err(Error::invalid(format!("unknown {name} of a budget \"{value}\"")).hint(format!("Use {}.", known.join(", "))))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn set_budget(
    campaign: Option<&str>,
    amount: Option<f64>,
    period: Option<&str>,
    unit: Option<&str>,
    action: Option<&str>,
    dimension: Option<&str>,
    level: Option<&str>,
    ends_at: Option<TimestampWithTimeZone>,
) -> std::result::Result<String, ErrorReport> {
    let campaign = required(campaign, "campaign")?;
    let amount = checked_amount(amount, "amount")?;
    if amount > LARGEST {
        return Err(Error::invalid(format!("amount must be at most {LARGEST}")).into());
    }
    let period = one_of(period, "period", &["day", "week", "month", "total"])?;
    let unit = one_of(unit, "unit", &["cost", "sends"])?;
    if dimension.is_some() != level.is_some() || (action.is_some() && level.is_some()) {
        return Err(Error::invalid("the scope of a budget is an action, or a dimension and a level, or neither")
            .hint("For example dimension => 'offer', level => '10_percent'.")
            .into());
    }
    if ends_at.is_some() && period != "total" {
        return Err(Error::invalid("ends_at is for budgets in total")
            .detail(format!("A budget per {period} ends with every {period}."))
            .into());
    }
    as_owner(|| {
        check_editable(campaign)?;
        let (loaded, _) = campaign::load(campaign)?;
        let in_scope = |known: &campaign::Action| match (action, dimension, level) {
            (Some(name), _, _) => known.action == name,
            (_, Some(dimension), Some(level)) => known.dimensions.get(dimension).is_some_and(|of| of == level),
            _ => true,
        };
        if (action.is_some() || level.is_some()) && !loaded.actions.iter().any(in_scope) {
            let what = match (action, dimension, level) {
                (_, Some(dimension), Some(level)) => format!("action with {dimension} = {level}"),
                _ => format!("action \"{}\"", action.unwrap_or_default()),
            };
            return Err(Error::missing(format!("campaign \"{campaign}\" has no {what}"))
                .hint("SELECT action, dimensions FROM decisioning.actions lists them."));
        }
        let arguments = || {
            [
                campaign.into(),
                amount.into(),
                period.into(),
                unit.into(),
                action.into(),
                dimension.into(),
                level.into(),
                ends_at.into(),
            ]
        };
        // Not ON CONFLICT: an insertion that comes to nothing would open an epoch all the same.
        let mut set = query::write(
            "UPDATE decisioning.budgets b SET amount = $2, ends_at = $8
             WHERE b.campaign = $1 AND b.period = $3 AND b.unit = $4
               AND (b.action, b.dimension, b.level) IS NOT DISTINCT FROM ($5, $6, $7)
             RETURNING b.budget",
            &arguments(),
            |row| row.value::<String>(1),
        )?;
        if set.is_empty() {
            set = query::write(
                "INSERT INTO decisioning.budgets AS b (campaign, amount, period, unit, action, dimension, level, ends_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING b.budget",
                &arguments(),
                |row| row.value::<String>(1),
            )?;
        }
        set.into_iter().next().ok_or_else(|| Error::corrupted("the budget was not stored"))
    })
    .map_err(Into::into)
}

#[pg_extern(sql = false)]
fn remove_budget(campaign: Option<&str>, budget: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let (campaign, budget) = (required(campaign, "campaign")?, required(budget, "budget")?);
    as_owner(|| {
        check_editable(campaign)?;
        let removed = query::execute(
            "DELETE FROM decisioning.budgets b WHERE b.campaign = $1 AND b.budget = $2",
            &[campaign.into(), budget.into()],
        )?;
        match removed {
            0 => Err(Error::missing(format!("campaign \"{campaign}\" has no budget \"{budget}\""))
                .hint("SELECT budget FROM decisioning.budgets lists them.")),
            _ => Ok(()),
        }
    })
    .map_err(Into::into)
}
