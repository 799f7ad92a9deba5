//! Budgets: who draws on which, and what is left while candidates are considered one customer after the other.
//!
//! Amounts are whole millionths of the budget's unit, so that sums are exact in any order.

/// Parts of a budget's period, so that sessions need not wait for each other.
pub const SLOTS: usize = 64;

/// One send, where sends are counted.
const SEND: i64 = 1_000_000;

/// An amount in millionths; beyond what they can hold, the largest.
pub fn millionths(amount: f64) -> i64 {
    (amount * 1e6).round() as i64
}

/// `total` in equal parts. No part has another sign than the total: while any slot is overdrawn, no other has anything.
pub fn spread(total: i64) -> [i64; SLOTS] {
    let (each, rest) = (total.div_euclid(SLOTS as i64), total.rem_euclid(SLOTS as i64));
    std::array::from_fn(|slot| each + i64::from((slot as i64) < rest))
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draws {
    /// What a send is expected to cost.
    Cost,
    /// Sends.
    Sends,
}

/// What draws on a budget.
#[derive(Clone, Debug)]
pub struct Scope {
    pub draws: Draws,
    /// By arm.
    pub arms: Vec<bool>,
}

impl Scope {
    /// What a send of `arm`, expected to cost `cost`, needs of the budget.
    pub fn need(&self, arm: usize, cost: i64) -> i64 {
        match self.draws {
            _ if !self.arms[arm] => 0,
            Draws::Cost => cost.max(0),
            Draws::Sends => SEND,
        }
    }
}

/// What a customer's candidates may need of one budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Of the dearest candidate.
    pub most: i64,
    /// Of the cheapest that needs anything; with less than this nobody is served.
    pub least: Option<i64>,
}

impl Demand {
    /// The demand of both, one after the other.
    pub fn and(self, other: Demand) -> Demand {
        let least = self.least.into_iter().chain(other.least).min();
        Demand { most: self.most.saturating_add(other.most), least }
    }
}

/// What candidates (arm and expected cost of each send) may need of `scope`.
pub fn demand(scope: &Scope, candidates: impl IntoIterator<Item = (usize, i64)>) -> Demand {
    let mut demand = Demand::default();
    for need in candidates.into_iter().map(|(arm, cost)| scope.need(arm, cost)).filter(|need| *need > 0) {
        demand.most = demand.most.max(need);
        demand.least = Some(demand.least.map_or(need, |least| least.min(need)));
    }
    demand
}

/// What is held of each budget and not yet given out.
#[derive(Clone, Debug)]
pub struct Ledger<'a> {
    scopes: &'a [Scope],
    left: Vec<i64>,
}

impl<'a> Ledger<'a> {
    /// `held` by budget, as `scopes`.
    pub fn new(scopes: &'a [Scope], held: Vec<i64>) -> Self {
        Ledger { scopes, left: held }
    }

    /// The first budget that cannot pay for a send.
    pub fn lacking(&self, arm: usize, cost: i64) -> Option<usize> {
        let short = |(scope, left): (&Scope, &i64)| {
            let need = scope.need(arm, cost);
            need > 0 && need > *left
        };
        self.scopes.iter().zip(&self.left).position(short)
    }

    /// Pays for a send that no budget is lacking for.
    pub fn pay(&mut self, arm: usize, cost: i64) {
        for (scope, left) in self.scopes.iter().zip(&mut self.left) {
            *left -= scope.need(arm, cost);
        }
    }

    pub fn left(&self) -> &[i64] {
        &self.left
    }
}
