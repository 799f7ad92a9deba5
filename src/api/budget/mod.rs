//! Budgets: what a campaign may spend, held before a choice is made and settled when outcomes are known.

mod configure;
mod pace;
mod settle;
mod slots;

use std::collections::HashMap;

use decisioning_core::decide::{calendar_period, Calendar, Cost, Draws, Period, Scope};
use serde::Deserialize;

use super::campaign::{Action, Campaign};
use crate::pg::error::{Error, Result};

pub use pace::{look, Prices};
pub use settle::{forget_old_reservations, give_back, settle, take_again};
pub use slots::{available, hold, record, Reservation};

/// One budget as configured.
#[derive(Clone, Debug, Deserialize)]
pub struct Budget {
    #[serde(rename = "budget")]
    pub name: String,
    action: Option<String>,
    dimension: Option<String>,
    level: Option<String>,
    unit: String,
    period: String,
    amount: f64,
    /// In microseconds.
    #[serde(default)]
    ends_micros: Option<i64>,
    /// Of its last change; not known of budgets of the past, which only their prices are needed of.
    #[serde(default)]
    epoch: i64,
}

impl Budget {
    pub fn draws(&self) -> Draws {
        if self.unit == "sends" {
            Draws::Sends
        } else {
            Draws::Cost
        }
    }

    /// What a removed candidate is marked with.
    pub fn removal(&self) -> String {
        format!("budget {}", self.name)
    }

    pub fn covers(&self, action: &Action) -> bool {
        match (&self.action, &self.dimension, &self.level) {
            (Some(name), _, _) => action.action == *name,
            (_, Some(dimension), Some(level)) => action.dimensions.get(dimension) == Some(level),
            _ => true,
        }
    }

    /// Units that a send of an action with this cost takes: at once, and when there is a response.
    pub fn takes(&self, cost: Cost) -> Cost {
        match self.draws() {
            Draws::Cost => cost,
            Draws::Sends => Cost { send: 1.0, ..Cost::default() },
        }
    }

    /// The period that holds `now`; a total begins with time itself, and ends when it is told to, if ever.
    fn period(&self, now: i64, zone: &str) -> Result<Period> {
        let calendar = match self.period.as_str() {
            "day" => Calendar::Day,
            "week" => Calendar::Week,
            "month" => Calendar::Month,
            _ => return Ok(Period { start: 0, end: self.ends_micros.unwrap_or(i64::MAX) }),
        };
        calendar_period(now, zone, calendar).map_err(|error| Error::invalid(error.to_string()))
    }
}

/// A budget in its current period.
pub struct Account<'a> {
    campaign: &'a str,
    pub budget: &'a Budget,
    period: Period,
}

/// The accounts of all budgets of a campaign, by name.
pub fn accounts(campaign: &Campaign, now: i64) -> Result<Vec<Account<'_>>> {
    let account = |budget| {
        let period = Budget::period(budget, now, &campaign.time_zone)?;
        Ok(Account { campaign: &campaign.campaign, budget, period })
    };
    campaign.budgets.iter().map(account).collect()
}

/// Who draws on the budgets of a campaign.
pub fn scopes(campaign: &Campaign) -> Vec<Scope> {
    let scope = |budget: &Budget| Scope {
        draws: budget.draws(),
        arms: campaign.actions.iter().map(|action| budget.covers(action)).collect(),
    };
    campaign.budgets.iter().map(scope).collect()
}

/// The cost of an action as the choice sees it: with the prices of the budgets that it draws on.
pub fn priced(budgets: &[Budget], prices: &Prices, action: &Action) -> Cost {
    let (mut factor, mut per_send) = (1.0, 0.0);
    for budget in budgets.iter().filter(|budget| budget.covers(action)) {
        let price = prices.get(&budget.name).copied().unwrap_or(0.0);
        match budget.draws() {
            Draws::Cost => factor += price,
            Draws::Sends => per_send += price,
        }
    }
    action.cost.priced(factor, per_send)
}

/// Budgets by name, from the rows that configured them.
pub fn from_rows(rows: HashMap<String, String>) -> Result<Vec<Budget>> {
    let mut budgets: Vec<Budget> = rows.values().map(|row| Ok(serde_json::from_str(row)?)).collect::<Result<_>>()?;
    budgets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(budgets)
}
