//! What is left of a budget, in slots.
//!
//! A session takes from the slot of its process first, which nobody else writes as a rule, and gathers from all of them
//! before it gives up. Locks are taken by budget and then by slot, and before those of assignments, so that calls cannot
//! deadlock. Whatever is taken is taken in the caller's transaction: a rollback gives it back.

use decisioning_core::decide::{millionths, spread, Cost, Demand, SLOTS};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::Uuid;

use super::Account;
use crate::pg::error::{Error, Result};
use crate::pg::{query, settings};

/// Slot of this session, as SQL.
const OWN_SLOT: &str = "(pg_backend_pid() % 64)::smallint";

impl Account<'_> {
    fn starts_at(&self) -> Result<TimestampWithTimeZone> {
        settings::timestamp(self.period.start)
    }

    fn ends_at(&self) -> Result<Option<TimestampWithTimeZone>> {
        (self.period.end < i64::MAX).then(|| settings::timestamp(self.period.end)).transpose()
    }

    /// When the plan for the period begins: with the calendar, or for a total when it was first drawn on. In microseconds.
    pub fn plan_starts_at(&self) -> Result<Option<i64>> {
        if self.period.start > 0 {
            return Ok(Some(self.period.start));
        }
        let opened = query::write(
            "SELECT p.opened_at FROM decisioning._budget_period p
             WHERE p.campaign = $1 AND p.budget = $2 AND p.starts_at = $3",
            &[self.campaign.into(), self.budget.name.as_str().into(), self.starts_at()?.into()],
            |row| row.value(1),
        )?;
        Ok(opened.into_iter().next().and_then(settings::micros))
    }

    fn amount(&self) -> i64 {
        millionths(self.budget.amount)
    }

    /// What is left by what is committed, and whether that is of the budget as it is configured now. A session that still
    /// sees an older amount leaves the newer one alone. `latest` sees what was committed a moment ago; else it only reads.
    pub fn total(&self, latest: bool) -> Result<(i64, bool)> {
        let sql = "SELECT p.amount, p.epoch,
                          (SELECT sum(s.available)::bigint FROM decisioning._budget_slot s
                           WHERE s.campaign = p.campaign AND s.budget = p.budget AND s.starts_at = p.starts_at)
                   FROM decisioning._budget_period p WHERE p.campaign = $1 AND p.budget = $2 AND p.starts_at = $3";
        let arguments = [self.campaign.into(), self.budget.name.as_str().into(), self.starts_at()?.into()];
        let decode = |row: &query::Row<'_, '_>| Ok((row.value(1)?, row.value(2)?, row.value(3)?));
        let rows: Vec<(i64, i64, i64)> =
            if latest { query::write(sql, &arguments, decode)? } else { query::read(sql, &arguments, decode)? };
        Ok(match rows.first() {
            None => (self.amount(), false),
            Some((amount, epoch, total)) if *epoch < self.budget.epoch => (total + self.amount() - amount, false),
            Some((_, _, total)) => (*total, true),
        })
    }

    /// What each of some decisions holds of the account. Runs as the owner.
    pub fn held_by(&self, decision_ids: &[Uuid]) -> Result<Vec<(Uuid, i64)>> {
        query::write(
            "SELECT r.decision_id, r.charged FROM decisioning._reservation r
             WHERE r.decision_id = ANY ($1) AND r.campaign = $2 AND r.budget = $3 AND r.starts_at = $4 AND NOT r.cancelled",
            &[
                decision_ids.to_vec().into(),
                self.campaign.into(),
                self.budget.name.as_str().into(),
                self.starts_at()?.into(),
            ],
            |row| Ok((row.value(1)?, row.value(2)?)),
        )
    }

    /// Opens the period, or brings it to the amount that is configured now.
    fn open(&self) -> Result<()> {
        let (campaign, budget, starts_at) = (self.campaign, self.budget.name.as_str(), self.starts_at()?);
        query::execute(
            "INSERT INTO decisioning._budget_period (campaign, budget, starts_at, ends_at, opened_at, amount, settled, epoch)
             VALUES ($1, $2, $3, $4, $5, 0, 0, 0) ON CONFLICT (campaign, budget, starts_at) DO NOTHING",
            &[campaign.into(), budget.into(), starts_at.into(), self.ends_at()?.into(), crate::api::now()?.into()],
        )?;
        query::execute(
            "INSERT INTO decisioning._budget_slot (campaign, budget, starts_at, slot, amount, available)
             SELECT $1, $2, $3, slot, 0, 0 FROM generate_series(0, 63) AS slot
             ON CONFLICT (campaign, budget, starts_at, slot) DO NOTHING",
            &[campaign.into(), budget.into(), starts_at.into()],
        )?;
        let known = query::write(
            "SELECT p.amount, p.epoch FROM decisioning._budget_period p
             WHERE p.campaign = $1 AND p.budget = $2 AND p.starts_at = $3 FOR UPDATE",
            &[campaign.into(), budget.into(), starts_at.into()],
            |row| Ok((row.value::<i64>(1)?, row.value::<i64>(2)?)),
        )?;
        let (amount, epoch) = *known.first().ok_or_else(|| damaged(budget))?;
        if epoch >= self.budget.epoch {
            return Ok(());
        }
        query::execute(
            "UPDATE decisioning._budget_period p SET amount = $4, epoch = $5, ends_at = $6
             WHERE p.campaign = $1 AND p.budget = $2 AND p.starts_at = $3",
            &[
                campaign.into(),
                budget.into(),
                starts_at.into(),
                self.amount().into(),
                self.budget.epoch.into(),
                self.ends_at()?.into(),
            ],
        )?;
        let slots = Slots::lock(campaign, budget, starts_at)?;
        slots.write(slots.total + self.amount() - amount, self.amount())
    }

    /// Takes `wanted` if the slot of this session has it, and is of the amount that is configured now.
    fn take_from_own_slot(&self, wanted: i64) -> Result<bool> {
        let taken = query::write(
            "SELECT decisioning._take_from_slot($1, $2, $3, $4, $5)",
            &[
                self.campaign.into(),
                self.budget.name.as_str().into(),
                self.starts_at()?.into(),
                self.amount().into(),
                wanted.into(),
            ],
            |row| row.value::<bool>(1),
        )?;
        Ok(taken.contains(&true))
    }

    /// Takes what is demanded, or what is left of it; nothing if it would serve nobody.
    fn gather(&self, demand: Demand) -> Result<i64> {
        let (total, current) = self.total(true)?;
        let serves = |total: i64| demand.least.is_some_and(|least| least <= total);
        if !serves(total) {
            return Ok(0);
        }
        if !current {
            self.open()?;
        }
        let slots = Slots::lock(self.campaign, &self.budget.name, self.starts_at()?)?;
        if !serves(slots.total) {
            return Ok(0);
        }
        let taken = demand.most.min(slots.total);
        slots.write(slots.total - taken, slots.amount)?;
        Ok(taken)
    }
}

/// All slots of a period, locked in order.
pub struct Slots<'a> {
    campaign: &'a str,
    budget: &'a str,
    starts_at: TimestampWithTimeZone,
    amount: i64,
    total: i64,
}

impl<'a> Slots<'a> {
    fn lock(campaign: &'a str, budget: &'a str, starts_at: TimestampWithTimeZone) -> Result<Self> {
        let slots = query::write(
            "SELECT s.available, s.amount FROM decisioning._budget_slot s
             WHERE s.campaign = $1 AND s.budget = $2 AND s.starts_at = $3 ORDER BY s.slot FOR UPDATE",
            &[campaign.into(), budget.into(), starts_at.into()],
            |row| Ok((row.value::<i64>(1)?, row.value::<i64>(2)?)),
        )?;
        if slots.len() != SLOTS {
            return Err(damaged(budget));
        }
        let total = slots.iter().map(|(available, _)| available).sum();
        Ok(Slots { campaign, budget, starts_at, amount: slots[0].1, total })
    }

    fn write(&self, total: i64, amount: i64) -> Result<()> {
        query::execute(
            "UPDATE decisioning._budget_slot s SET available = n.available, amount = $4
             FROM unnest($5::bigint[]) WITH ORDINALITY AS n(available, position)
             WHERE s.campaign = $1 AND s.budget = $2 AND s.starts_at = $3 AND s.slot = n.position - 1",
            &[
                self.campaign.into(),
                self.budget.into(),
                self.starts_at.into(),
                amount.into(),
                spread(total).to_vec().into(),
            ],
        )?;
        Ok(())
    }
}

fn damaged(budget: &str) -> Error {
    Error::corrupted(format!("the state of budget \"{budget}\" is damaged"))
}

/// Takes `more` (negative: gives back) of a period that may be over, and counts `settled` as spent.
pub fn charge(campaign: &str, budget: &str, starts_at: TimestampWithTimeZone, more: i64, settled: i64) -> Result<()> {
    query::execute(
        "UPDATE decisioning._budget_period p SET settled = p.settled + $4
         WHERE p.campaign = $1 AND p.budget = $2 AND p.starts_at = $3",
        &[campaign.into(), budget.into(), starts_at.into(), settled.into()],
    )?;
    if more == 0 {
        return Ok(());
    }
    let slots = Slots::lock(campaign, budget, starts_at)?;
    slots.write(slots.total - more, slots.amount)
}

/// What is left of each account, as far as it is committed. Only reads. Runs as the owner.
pub fn available(accounts: &[Account<'_>]) -> Result<Vec<i64>> {
    accounts.iter().map(|account| Ok(account.total(false)?.0.max(0))).collect()
}

/// Takes what the customers of a call may need of each account, or what is left of it. One account after the other: whoever
/// waits for the slots of one holds none of those that follow. Runs as the owner.
pub fn hold(accounts: &[Account<'_>], demands: &[Demand]) -> Result<Vec<i64>> {
    accounts
        .iter()
        .zip(demands)
        .map(|(account, demand)| match demand.most {
            0 => Ok(0),
            most if account.take_from_own_slot(most)? => Ok(most),
            _ => account.gather(*demand),
        })
        .collect()
}

/// What one decision needs of one account.
pub struct Reservation {
    pub decision_id: Uuid,
    /// Position of the account.
    pub account: usize,
    pub amount: i64,
    /// Units that the send takes: at once, and when there is a response.
    pub takes: Cost,
}

/// Records what is reserved until `closes_at`, and gives back what was held beyond it. Runs as the owner.
pub fn record(
    accounts: &[Account<'_>],
    mut held: Vec<i64>,
    reservations: &[Reservation],
    closes_at: TimestampWithTimeZone,
) -> Result<()> {
    let Some(campaign) = accounts.first().map(|account| account.campaign) else { return Ok(()) };
    reservations.iter().for_each(|reservation| held[reservation.account] -= reservation.amount);
    if reservations.is_empty() && held.iter().all(|unused| *unused == 0) {
        return Ok(());
    }
    let column = |value: fn(&Cost) -> f64| -> Vec<f64> { reservations.iter().map(|at| value(&at.takes)).collect() };
    let sql = format!(
        "WITH back AS (
             UPDATE decisioning._budget_slot s SET available = s.available + n.unused
             FROM unnest($2::text[], $3::timestamptz[], $4::bigint[]) AS n(budget, starts_at, unused)
             WHERE s.campaign = $1 AND s.budget = n.budget AND s.starts_at = n.starts_at AND s.slot = {OWN_SLOT}
               AND n.unused > 0)
         INSERT INTO decisioning._reservation (decision_id, campaign, budget, starts_at, closes_at, on_send, on_goal,
             on_goal_share, reserved, charged)
         SELECT n.decision_id, $1, ($2::text[])[n.account + 1], ($3::timestamptz[])[n.account + 1], $5, n.on_send, n.on_goal,
                n.on_goal_share, n.amount, n.amount
         FROM unnest($6::uuid[], $7::integer[], $8::bigint[], $9::float8[], $10::float8[], $11::float8[])
              AS n(decision_id, account, amount, on_send, on_goal, on_goal_share)"
    );
    query::execute(
        &sql,
        &[
            campaign.into(),
            accounts.iter().map(|account| account.budget.name.clone()).collect::<Vec<_>>().into(),
            accounts.iter().map(Account::starts_at).collect::<Result<Vec<_>>>()?.into(),
            held.into(),
            closes_at.into(),
            reservations.iter().map(|at| at.decision_id).collect::<Vec<_>>().into(),
            reservations.iter().map(|at| at.account as i32).collect::<Vec<_>>().into(),
            reservations.iter().map(|at| at.amount).collect::<Vec<_>>().into(),
            column(|cost| cost.send).into(),
            column(|cost| cost.on_goal).into(),
            column(|cost| cost.on_goal_share).into(),
        ],
    )?;
    Ok(())
}
