//! The price of a budget: what a unit of it is worth, learned from how fast it is spent.
//!
//! Maximising uplift under a budget is maximising uplift less price × spend, at the price where demand meets the budget
//! (the Lagrangian dual; Balseiro and Gur, "Learning in repeated auctions with budgets", 2019). The price follows demand in
//! the logarithm: where decisions ask for twice of what the plan has for each, it rises, else it falls.

use serde::{Deserialize, Serialize};

/// Step of the logarithm of the price per logarithm of demand over plan.
const GAIN: f64 = 0.4;

/// A single look tells of chance too: demand is believed up to this factor, as a logarithm.
const MOST: f64 = 1.0;

/// The logarithm of the price stays below this.
const HIGHEST: f64 = 8.0;

/// The plan is to be through before the end by this share of the period: what is unspent in the end has gained nothing,
/// while the little that is lacking then costs little.
const SPARE: f64 = 0.05;

/// Looks closer together than this share of the period are taken together.
const SHORTEST: f64 = 1.0 / 200.0;

/// Time over which traffic is averaged, in microseconds: two days.
const MEMORY: f64 = 2.0 * 86_400.0 * 1e6;

/// What is known of the demand for one budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// 0 is free.
    pub log_price: f64,
    /// Decisions, discounted with their age, and the time they took.
    decisions: f64,
    time: f64,
}

/// What happened since the last look, and what is ahead. Times in microseconds, amounts in any one unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Since the last look.
    pub elapsed: f64,
    /// Decisions in that time, of customers who were refused too.
    pub decisions: f64,
    /// Those which lost a candidate because the budget could not pay.
    pub refused: f64,
    /// Spent by the others.
    pub spent: f64,
    /// Of the current period.
    pub amount: f64,
    pub length: f64,
    pub amount_left: f64,
    pub time_left: f64,
}

impl Pace {
    /// The pace after a look; `None` if it comes too soon after the last one, which then counts with the next.
    pub fn after(&self, progress: &Progress) -> Option<Pace> {
        let Progress { elapsed, decisions, refused, spent, amount, length, amount_left, time_left } = *progress;
        let sound = elapsed > 0.0 && length.is_finite() && elapsed >= SHORTEST * length;
        if !sound {
            return None;
        }
        let kept = (-elapsed / MEMORY).exp();
        let next = Pace {
            log_price: self.log_price,
            decisions: kept * self.decisions + decisions,
            time: kept * self.time + elapsed,
        };
        let served = decisions - refused;
        if served <= 0.0 || amount <= 0.0 {
            return Some(next); // nothing to be learned: nobody came, or nothing was left for anybody
        }
        // What each decision asks for, and what the plan has for each until the next look, which is expected after the same
        // time. A look too late for this period plans for an average of the next.
        let looks_left = ((time_left - SPARE * length) / elapsed).floor().max(1.0);
        let this_period = time_left >= elapsed && amount_left > 0.0;
        let plan = if this_period { amount_left / looks_left } else { amount * elapsed / length };
        let expected = next.decisions / next.time * elapsed;
        let excess = (spent / served) / (plan / expected);
        let step = GAIN * excess.max(f64::MIN_POSITIVE).ln().clamp(-MOST, MOST);
        Some(Pace { log_price: (self.log_price + step).clamp(0.0, HIGHEST), ..next })
    }
}

/// The price of a unit: 0 at a `log_price` of 0, and with a unit of `scale` that one spends for a gain of about as much.
pub fn price(log_price: f64, scale: f64) -> f64 {
    scale * log_price.exp_m1()
}
