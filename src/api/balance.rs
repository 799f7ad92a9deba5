//! Are the groups what they should be? If not, no difference between them means anything.

use std::collections::{BTreeMap, BTreeSet};

use decisioning_core::decide::{Group, Shares, BUCKETS};
use decisioning_core::measure::{chi_square, sequential_balance, Drawn};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::feature_balance as features;
use super::lift::STRATA;
use super::{campaign, now};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Below this, groups are not what they should be.
const LEVEL: f64 = 0.001;

/// Customers by group, in the order of [`Group::ALL`].
type Counts = [f64; 4];

/// Groups that were drawn under the same shares.
struct Draw {
    /// Shares of those who are not in the global holdout, and its own.
    shares: Counts,
    global: f64,
    /// All customers, and those who came since imbalance was last acknowledged.
    all: Counts,
    unacknowledged: Counts,
    /// Those who stayed in the global holdout when it became smaller.
    kept: f64,
}

impl Draw {
    /// Shares that are to be expected: the global holdout is drawn first, and is part of the holdout.
    fn expected(&self) -> Counts {
        let kept = self.kept / self.all.iter().sum::<f64>().max(1.0);
        let global = (self.global + kept).min(1.0);
        let mut shares = self.shares.map(|share| (1.0 - global) * share);
        shares[Group::Holdout as usize] += global;
        shares
    }
}

/// What is looked at as one: a campaign, or a week of it.
#[derive(Default)]
struct Part {
    draws: BTreeMap<i32, Draw>,
    acknowledged_at: Option<TimestampWithTimeZone>,
    /// How many times the variance of independent customers the sizes of groups have.
    dispersion: f64,
}

/// The finding about a part.
struct Balance {
    customers: Counts,
    expected: Counts,
    statistic: Option<f64>,
    p_value: f64,
}

impl Part {
    /// Customers who were drawn together count as less than one each, so that sizes vary as much as those of independent ones.
    fn balance(&self) -> Balance {
        let draws = || self.draws.values();
        let sum = |of: &dyn Fn(&Draw, usize) -> f64| -> Counts {
            std::array::from_fn(|group| draws().map(|draw| of(draw, group)).sum())
        };
        let customers = sum(&|draw, group| draw.all[group]);
        let expected = sum(&|draw, group| draw.all.iter().sum::<f64>() * draw.expected()[group]);
        let scaled = |counts: &Counts| counts.map(|count| count / self.dispersion);
        let drawn: Vec<Drawn> = draws()
            .map(|draw| Drawn { observed: scaled(&draw.unacknowledged).to_vec(), shares: draw.expected().to_vec() })
            .collect();
        Balance {
            customers,
            expected,
            statistic: chi_square(&scaled(&customers), &scaled(&expected)).map(|(statistic, _)| statistic),
            p_value: sequential_balance(&drawn),
        }
    }
}

/// Customers exposed before a moment, by campaign and, if asked for, week of the campaign. Runs as the owner.
fn parts(
    campaign: Option<&str>,
    weekly: bool,
    as_of: TimestampWithTimeZone,
) -> Result<BTreeMap<(String, Option<Date>), Part>> {
    let week = if weekly { "date_trunc('week', s.exposed_at AT TIME ZONE c.time_zone)::date" } else { "NULL::date" };
    let sql = format!(
        "WITH {STRATA}, periods AS MATERIALIZED (
             SELECT p.*, row_number() OVER (PARTITION BY p.campaign ORDER BY p.epoch)::integer AS stratum FROM decisioning._share_periods p),
         acknowledged AS NOT MATERIALIZED (
             SELECT a.campaign, max(a.acknowledged_at) AS at FROM decisioning.balance_acknowledgements a
             WHERE a.acknowledged_at <= $2 GROUP BY a.campaign),
         counted AS (
             SELECT s.campaign, {week} AS week, s.epoch, s.treatment_group, CASE WHEN s.global_holdout THEN s.global_bucket END AS held,
                    count(*) AS customers, count(*) FILTER (WHERE k.at IS NULL OR s.exposed_at > k.at) AS unacknowledged
             FROM decisioning._assignment s
             JOIN decisioning.campaigns c ON c.campaign = s.campaign
             LEFT JOIN acknowledged k ON k.campaign = s.campaign
             WHERE s.exposed_at <= $2 AND ($1 IS NULL OR s.campaign = $1) GROUP BY 1, 2, 3, 4, 5),
         drawn AS (
             SELECT n.campaign, n.week, p.stratum, n.treatment_group, sum(n.customers)::bigint AS customers,
                    sum(n.unacknowledged)::bigint AS unacknowledged,
                    coalesce(sum(n.customers) FILTER (WHERE n.held >= round(10000 * p.global_share)), 0)::bigint AS kept
             FROM counted n
             JOIN strata a ON a.campaign = n.campaign
             JOIN periods p ON p.campaign = n.campaign AND p.stratum = width_bucket(n.epoch, a.starts)
             GROUP BY 1, 2, 3, 4)
         SELECT d.campaign, d.week, d.stratum, d.treatment_group, d.customers, d.unacknowledged, p.holdout_share, p.control_share,
                p.explore_share, k.at, p.global_share, d.kept
         FROM drawn d
         JOIN periods p ON p.campaign = d.campaign AND p.stratum = d.stratum
         LEFT JOIN acknowledged k ON k.campaign = d.campaign"
    );
    let dispersions = dispersions(campaign, as_of)?;
    let mut parts: BTreeMap<(String, Option<Date>), Part> = BTreeMap::new();
    query::read_large(&sql, &[campaign.into(), as_of.into()], |row| {
        let name: String = row.value(1)?;
        let group = Group::parse(&row.value::<String>(4)?).ok_or_else(|| Error::corrupted("unknown group"))? as usize;
        let shares = Shares { holdout: row.value(7)?, control: row.value(8)?, explore: row.value(9)? };
        let dispersion = dispersions.get(&name).copied().unwrap_or(1.0);
        let part = parts.entry((name, row.get(2)?)).or_default();
        (part.acknowledged_at, part.dispersion) = (row.get(10)?, dispersion);
        let global: f64 = row.value(11)?;
        let new = || Draw { shares: shares.exact(), global, all: [0.0; 4], unacknowledged: [0.0; 4], kept: 0.0 };
        let draw = part.draws.entry(row.value(3)?).or_insert_with(new);
        draw.all[group] = row.value::<i64>(5)? as f64;
        draw.unacknowledged[group] = row.value::<i64>(6)? as f64;
        draw.kept += row.value::<i64>(12)? as f64;
        Ok(())
    })?;
    Ok(parts)
}

/// Index of dispersion of the sizes of buckets, of campaigns that draw households: a compound Poisson variable, for which it is E[s²] / E[s] of
/// the sizes s of households. Runs as the owner.
fn dispersions(campaign: Option<&str>, as_of: TimestampWithTimeZone) -> Result<BTreeMap<String, f64>> {
    let buckets = f64::from(BUCKETS);
    let found = query::read_large(
        "SELECT b.campaign, sum(b.size)::float8, sum(b.size * b.size)::float8
         FROM (SELECT s.campaign, s.bucket, count(*) AS size
               FROM decisioning._assignment s JOIN decisioning.campaigns c ON c.campaign = s.campaign AND c.unit = 'household'
               WHERE s.exposed_at <= $2 AND ($1 IS NULL OR s.campaign = $1) GROUP BY 1, 2) AS b
         GROUP BY b.campaign",
        &[campaign.into(), as_of.into()],
        |row| Ok((row.value::<String>(1)?, row.value::<f64>(2)? / buckets, row.value::<f64>(3)? / buckets)),
    )?;
    Ok(found.into_iter().map(|(name, mean, square)| (name, ((square - mean * mean) / mean).max(1.0))).collect())
}

/// Campaigns whose groups are not what they should be: in size, or by the last check of features. Runs as the owner.
pub fn unbalanced(campaign: Option<&str>, as_of: TimestampWithTimeZone) -> Result<BTreeSet<String>> {
    let parts = parts(campaign, false, as_of)?;
    let mut found = features::unlike(campaign)?;
    found.extend(parts.into_iter().filter(|(_, part)| part.balance().p_value < LEVEL).map(|((name, _), _)| name));
    Ok(found)
}

#[pg_extern(sql = false)]
fn group_balance(
    campaign: Option<&str>,
    weekly: Option<bool>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(campaign, String),
            name!(week, Option<Date>),
            name!(treatment_group, &'static str),
            name!(customers, i64),
            name!(expected, f64),
            name!(statistic, Option<f64>),
            name!(p_value, f64),
            name!(balanced, bool),
            name!(acknowledged_at, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    let weekly = required(weekly, "weekly")?;
    let parts = as_owner(|| {
        if let Some(campaign) = campaign {
            campaign::load(campaign)?;
        }
        parts(campaign, weekly, now()?)
    })?;
    let rows = parts.into_iter().flat_map(|((name, week), part)| {
        let Balance { customers, expected, statistic, p_value } = part.balance();
        let there = move |at: &usize| customers[*at] > 0.0 || expected[*at] > 0.0;
        let row = move |at: usize| {
            let group = Group::ALL[at].as_str();
            let balanced = p_value >= LEVEL;
            (
                name.clone(),
                week,
                group,
                customers[at] as i64,
                expected[at],
                statistic,
                p_value,
                balanced,
                part.acknowledged_at,
            )
        };
        (0..4).filter(there).map(row).collect::<Vec<_>>()
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

#[pg_extern(sql = false)]
fn acknowledge_imbalance(campaign: Option<&str>, reason: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let (name, reason) = (required(campaign, "campaign")?, required(reason, "reason")?);
    if reason.trim().is_empty() {
        return Err(Error::invalid("reason must say why the readout may be used nevertheless").into());
    }
    as_owner(|| {
        campaign::load(name)?;
        let now = now()?;
        let p_value = parts(Some(name), false, now)?.into_values().next().map(|part| part.balance().p_value);
        let unlike = features::unlike(Some(name))?.contains(name);
        let Some(p_value) = p_value.filter(|p_value| unlike || *p_value < LEVEL) else {
            return Err(Error::state(format!("the groups of campaign \"{name}\" are what they should be"))
                .detail("There is nothing to acknowledge."));
        };
        features::forget(name)?;
        query::execute(
            "INSERT INTO decisioning.balance_acknowledgements (campaign, acknowledged_at, acknowledged_by, p_value, reason)
             VALUES ($1, $2, decisioning._caller(), $3, $4)
             ON CONFLICT (campaign, acknowledged_at) DO UPDATE SET reason = excluded.reason, p_value = excluded.p_value",
            &[name.into(), now.into(), p_value.into(), reason.into()],
        )
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
fn _sequential_balance(observed: Vec<Option<f64>>, shares: Vec<Option<f64>>) -> Option<f64> {
    let numbers = |numbers: Vec<Option<f64>>| numbers.into_iter().collect::<Option<Vec<f64>>>();
    let (observed, shares) = (numbers(observed)?, numbers(shares)?);
    (observed.len() == shares.len()).then(|| sequential_balance(&[Drawn { observed, shares }]))
}
