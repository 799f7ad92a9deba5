//! Who was drawn into which group: counted once, for the comparison of the groups and for the check that they are what they should be.

use std::collections::BTreeMap;

use decisioning_core::decide::{Group, Shares};
use pgrx::prelude::*;

use super::pipeline::parse_group;
use crate::pg::error::Result;
use crate::pg::query::{self, Argument};

/// A time in which the shares of a campaign's groups did not change.
pub struct Period {
    pub starts: i64,
    /// Shares of those who are not in the global holdout, and its own.
    pub shares: Shares,
    pub global: f64,
}

/// The periods of campaigns, in order. Customers of one are a stratum: they were drawn with the same chances.
pub struct Periods(BTreeMap<String, Vec<Period>>);

impl Periods {
    /// Runs as the owner.
    pub fn read(campaign: Option<&str>) -> Result<Self> {
        let mut periods: BTreeMap<String, Vec<Period>> = BTreeMap::new();
        query::read(
            "SELECT p.campaign, p.epoch, p.holdout_share, p.control_share, p.explore_share, p.global_share
             FROM decisioning._share_periods p WHERE $1 IS NULL OR p.campaign = $1 ORDER BY p.campaign, p.epoch",
            &[campaign.into()],
            |row| {
                let shares = Shares { holdout: row.value(3)?, control: row.value(4)?, explore: row.value(5)? };
                let period = Period { starts: row.value(2)?, shares, global: row.value(6)? };
                periods.entry(row.value(1)?).or_default().push(period);
                Ok(())
            },
        )?;
        Ok(Periods(periods))
    }

    /// The stratum of customers who were drawn at an epoch of a campaign; `None` if there was no period.
    pub fn stratum(&self, campaign: &str, epoch: i64) -> Option<usize> {
        let periods = self.0.get(campaign)?;
        periods.partition_point(|period| period.starts <= epoch).checked_sub(1)
    }

    fn any_global(&self) -> bool {
        self.0.values().flatten().any(|period| period.global > 0.0)
    }

    pub fn get(&self, campaign: &str, stratum: usize) -> Option<&Period> {
        self.0.get(campaign)?.get(stratum)
    }
}

/// Customers who were drawn alike, into the same group.
pub struct Drawn {
    pub campaign: String,
    /// Time of exposure, as asked for.
    pub at: Option<i32>,
    pub stratum: usize,
    pub group: Group,
    /// Their bucket in the global holdout, if they are in it.
    pub held: Option<i16>,
    /// Their bucket, where households are drawn.
    pub bucket: Option<i16>,
    pub customers: f64,
    /// Those who came since imbalance was last acknowledged.
    pub unacknowledged: f64,
    /// Those whom a comparison counts.
    pub compared: f64,
}

/// The campaigns that are asked about: one, or NULL for all. A list, since the planner makes a nested loop of a join with what
/// equals a constant, and has no workers for it.
pub fn only(campaign: Option<&str>) -> Argument<'static> {
    campaign.map(|campaign| vec![campaign.to_owned()]).into()
}

/// All who were exposed by a moment.
pub struct Census {
    pub periods: Periods,
    /// When imbalance was last acknowledged, by campaign.
    pub acknowledged: BTreeMap<String, TimestampWithTimeZone>,
    pub drawn: Vec<Drawn>,
}

impl Census {
    /// Counts the customers of a campaign, or of all, in parallel, by a whole number `at`, if given, and with a condition `compared`:
    /// SQL over assignments `s`, with the moment as `$2`; `at` also over their campaigns `c`. Runs as the owner.
    pub fn take(
        campaign: Option<&str>,
        as_of: TimestampWithTimeZone,
        at: Option<&str>,
        compared: &str,
    ) -> Result<Self> {
        let periods = Periods::read(campaign)?;
        let households: Vec<String> = query::read(
            "SELECT c.campaign FROM decisioning.campaigns c WHERE c.unit = 'household' AND ($1 IS NULL OR c.campaign = $1)",
            &[campaign.into()],
            |row| row.value(1),
        )?;
        // What is not needed is left out: a join would take as long as the count, and columns that could have ten thousand values keep
        // the planner from counting in parallel.
        let bucket =
            if households.is_empty() { "NULL::smallint" } else { "CASE WHEN s.campaign = ANY ($3) THEN s.bucket END" };
        let held =
            if periods.any_global() { "CASE WHEN s.global_holdout THEN s.global_bucket END" } else { "NULL::smallint" };
        let (at, campaigns) = match at {
            Some(at) => (at, "JOIN decisioning.campaigns c ON c.campaign = s.campaign"),
            None => ("NULL::integer", ""),
        };
        let acknowledged = acknowledged(campaign, as_of)?;
        let (unacknowledged, acknowledgements) = if acknowledged.is_empty() {
            ("count(*)", "")
        } else {
            (
                "count(*) FILTER (WHERE k.at IS NULL OR s.exposed_at > k.at)",
                "LEFT JOIN (SELECT a.campaign, max(a.acknowledged_at) AS at FROM decisioning.balance_acknowledgements a
                            WHERE a.acknowledged_at <= $2 GROUP BY a.campaign) AS k ON k.campaign = s.campaign",
            )
        };
        let sql = format!(
            "SELECT s.campaign, {at}, s.epoch, s.treatment_group, {held}, {bucket}, count(*), {unacknowledged},
                    count(*) FILTER (WHERE {compared})
             FROM decisioning._assignment s {campaigns} {acknowledgements}
             WHERE s.exposed_at <= $2 AND ($1 IS NULL OR s.campaign = ANY ($1)) GROUP BY 1, 2, 3, 4, 5, 6"
        );
        let found = query::read_large(&sql, &[only(campaign), as_of.into(), households.into()], |row| {
            let campaign: String = row.value(1)?;
            let Some(stratum) = periods.stratum(&campaign, row.value(3)?) else { return Ok(None) };
            Ok(Some(Drawn {
                campaign,
                at: row.get(2)?,
                stratum,
                group: parse_group(&row.value::<String>(4)?)?,
                held: row.get(5)?,
                bucket: row.get(6)?,
                customers: row.value::<i64>(7)? as f64,
                unacknowledged: row.value::<i64>(8)? as f64,
                compared: row.value::<i64>(9)? as f64,
            }))
        })?;
        Ok(Census { periods, acknowledged, drawn: found.into_iter().flatten().collect() })
    }
}

fn acknowledged(
    campaign: Option<&str>,
    as_of: TimestampWithTimeZone,
) -> Result<BTreeMap<String, TimestampWithTimeZone>> {
    let found = query::read(
        "SELECT a.campaign, max(a.acknowledged_at) FROM decisioning.balance_acknowledgements a
         WHERE a.acknowledged_at <= $2 AND ($1 IS NULL OR a.campaign = $1) GROUP BY a.campaign",
        &[campaign.into(), as_of.into()],
        |row| Ok((row.value(1)?, row.value(2)?)),
    )?;
    Ok(found.into_iter().collect())
}
