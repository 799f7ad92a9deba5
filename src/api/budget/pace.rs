//! The price of each budget, from how fast it was spent.

use std::collections::HashMap;

use decisioning_core::decide::{millionths, price, Draws, Pace, Progress};

use super::{accounts, Account};
use crate::api::campaign::Campaign;
use crate::pg::error::{Error, Result};
use crate::pg::{query, settings};

/// Price of a unit by budget.
pub type Prices = HashMap<String, f64>;

/// A send may be worth about this share of a response, which is where its price starts from.
const SCALE: f64 = 0.01;

/// The last look at a budget.
#[derive(Default)]
struct Look {
    pace: Pace,
    /// In microseconds.
    at: i64,
}

/// Looks at how fast every budget was spent since the last time, and gives a model version the prices that follow. Runs as
/// the owner.
pub fn look(campaign: &Campaign, model_version: i64, now: i64) -> Result<()> {
    if campaign.budgets.is_empty() {
        return Ok(());
    }
    let (name, scale) = (campaign.campaign.as_str(), scale(campaign, model_version)?);
    let mut prices = Prices::new();
    for account in accounts(campaign, now)? {
        let budget = account.budget.name.as_str();
        let Some(last) = last_look(&account)? else { continue };
        let mut log_price = last.pace.log_price;
        if let Some(next) = last.pace.after(&progress(&account, last.at, now)?) {
            log_price = next.log_price;
            query::execute(
                "INSERT INTO decisioning._pace (campaign, budget, pace, looked_at) VALUES ($1, $2, $3::jsonb, $4)
                 ON CONFLICT (campaign, budget) DO UPDATE SET pace = excluded.pace, looked_at = excluded.looked_at",
                &[name.into(), budget.into(), serde_json::to_string(&next)?.into(), settings::timestamp(now)?.into()],
            )?;
        }
        let scale = if account.budget.draws() == Draws::Sends { scale } else { 1.0 };
        prices.insert(budget.to_owned(), if account.period.end > now { price(log_price, scale) } else { 0.0 });
    }
    query::execute(
        "UPDATE decisioning._model m SET prices = $3::jsonb WHERE m.campaign = $1 AND m.model_version = $2",
        &[name.into(), model_version.into(), serde_json::to_string(&prices)?.into()],
    )?;
    Ok(())
}

/// The last look, or the time when the budget was first drawn on; `None` before that.
fn last_look(account: &Account<'_>) -> Result<Option<Look>> {
    let found = query::write(
        "SELECT p.pace::text, coalesce(p.looked_at, f.opened_at)
         FROM (SELECT min(b.opened_at) AS opened_at FROM decisioning._budget_period b
               WHERE b.campaign = $1 AND b.budget = $2) AS f
         LEFT JOIN decisioning._pace p ON p.campaign = $1 AND p.budget = $2
         WHERE f.opened_at IS NOT NULL",
        &[account.campaign.into(), account.budget.name.as_str().into()],
        |row| {
            let pace = row.get::<String>(1)?.map(|pace| serde_json::from_str(&pace)).transpose()?;
            let at = settings::micros(row.value(2)?).ok_or_else(|| Error::corrupted("a budget has no finite time"))?;
            Ok(Look { pace: pace.unwrap_or_default(), at })
        },
    )?;
    Ok(found.into_iter().next())
}

/// What happened to an account since `last`.
fn progress(account: &Account<'_>, last: i64, now: i64) -> Result<Progress> {
    let counts = query::write(
        "SELECT count(*), count(*) FILTER (WHERE d.removed ? $3),
                coalesce((SELECT sum(r.reserved) FROM decisioning._reservation r
                          WHERE r.campaign = $1 AND r.budget = $2 AND r.decision_id >= decisioning._uuid_floor($4)
                            AND r.decision_id < decisioning._uuid_floor($5)), 0)::float8
         FROM decisioning.decisions d
         WHERE d.campaign = $1 AND d.origin = 'live' AND d.decision_id >= decisioning._uuid_floor($4)
           AND d.decision_id < decisioning._uuid_floor($5)",
        &[
            account.campaign.into(),
            account.budget.name.as_str().into(),
            account.budget.removal().into(),
            settings::timestamp(last)?.into(),
            settings::timestamp(now)?.into(),
        ],
        |row| Ok((row.value::<i64>(1)?, row.value::<i64>(2)?, row.value::<f64>(3)?)),
    )?;
    let (decisions, refused, spent) = counts.first().copied().unwrap_or_default();
    let length = if account.period.end == i64::MAX {
        f64::INFINITY
    } else {
        (account.period.end - account.plan_starts_at()?.unwrap_or(now)) as f64
    };
    Ok(Progress {
        elapsed: (now - last) as f64,
        decisions: decisions as f64,
        refused: refused as f64,
        spent,
        amount: millionths(account.budget.amount) as f64,
        length,
        amount_left: account.total(true)?.0 as f64,
        time_left: (account.period.end - now) as f64,
    })
}

/// Where the price of a send starts from.
fn scale(campaign: &Campaign, model_version: i64) -> Result<f64> {
    let centre = query::write(
        "SELECT (p.unit ->> 'centre')::float8 FROM decisioning._model_part p
         WHERE p.campaign = $1 AND p.model_version = $2 AND p.part = 'worth'",
        &[campaign.campaign.as_str().into(), model_version.into()],
        |row| row.get::<f64>(1),
    )?;
    let worth = campaign.fixed_value().or(centre.into_iter().next().flatten()).unwrap_or(1.0);
    Ok(SCALE * worth.abs().max(f64::MIN_POSITIVE))
}
