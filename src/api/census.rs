//! Who was drawn into which group: counted once, for the comparison of the groups and for the check that they are what they should be.

use std::collections::BTreeMap;

use decisioning_core::decide::{Group, Shares};
use pgrx::prelude::*;

use super::pipeline::parse_group;
use crate::pg::error::Result;
use crate::pg::query;

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

    pub fn get(&self, campaign: &str, stratum: usize) -> Option<&Period> {
        self.0.get(campaign)?.get(stratum)
    }
}

/// Customers who were drawn alike, into the same group.
pub struct Drawn {
    pub campaign: String,
    /// Week of exposure, if asked for.
    pub week: Option<Date>,
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

/// All who were exposed by a moment.
pub struct Census {
    pub periods: Periods,
    pub drawn: Vec<Drawn>,
}

impl Census {
    /// Counts the customers of a campaign, or of all, in parallel; `compared` is a condition on assignments `s` with the moment
    /// as `$2`. Runs as the owner.
    pub fn take(campaign: Option<&str>, as_of: TimestampWithTimeZone, weekly: bool, compared: &str) -> Result<Self> {
        let periods = Periods::read(campaign)?;
        let week =
            if weekly { "date_trunc('week', s.exposed_at AT TIME ZONE c.time_zone)::date" } else { "NULL::date" };
        let sql = format!(
            "SELECT s.campaign, {week}, s.epoch, s.treatment_group, CASE WHEN s.global_holdout THEN s.global_bucket END,
                    CASE c.unit WHEN 'household' THEN s.bucket END, count(*),
                    count(*) FILTER (WHERE k.at IS NULL OR s.exposed_at > k.at), count(*) FILTER (WHERE {compared})
             FROM decisioning._assignment s
             JOIN decisioning.campaigns c ON c.campaign = s.campaign
             LEFT JOIN (SELECT a.campaign, max(a.acknowledged_at) AS at FROM decisioning.balance_acknowledgements a
                        WHERE a.acknowledged_at <= $2 GROUP BY a.campaign) AS k ON k.campaign = s.campaign
             WHERE s.exposed_at <= $2 AND ($1 IS NULL OR s.campaign = $1) GROUP BY 1, 2, 3, 4, 5, 6"
        );
        let found = query::read_large(&sql, &[campaign.into(), as_of.into()], |row| {
            let campaign: String = row.value(1)?;
            let Some(stratum) = periods.stratum(&campaign, row.value(3)?) else { return Ok(None) };
            Ok(Some(Drawn {
                campaign,
                week: row.get(2)?,
                stratum,
                group: parse_group(&row.value::<String>(4)?)?,
                held: row.get(5)?,
                bucket: row.get(6)?,
                customers: row.value::<i64>(7)? as f64,
                unacknowledged: row.value::<i64>(8)? as f64,
                compared: row.value::<i64>(9)? as f64,
            }))
        })?;
        Ok(Census { periods, drawn: found.into_iter().flatten().collect() })
    }
}
