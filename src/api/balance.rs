//! Are the groups what they should be? If not, no difference between them means anything.

use std::collections::{BTreeMap, BTreeSet};

use decisioning_core::decide::{Group, Shares, BUCKETS};
use decisioning_core::measure::{chi_square, independence, sequential_balance, Drawn};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

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
    shares: Counts,
    /// All customers, and those who came since imbalance was last acknowledged.
    all: Counts,
    unacknowledged: Counts,
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
        let expected = sum(&|draw, group| draw.all.iter().sum::<f64>() * draw.shares[group]);
        let scaled = |counts: &Counts| counts.map(|count| count / self.dispersion);
        let drawn: Vec<Drawn> = draws()
            .map(|draw| Drawn { observed: scaled(&draw.unacknowledged).to_vec(), shares: draw.shares.to_vec() })
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
fn parts(campaign: Option<&str>, weekly: bool, as_of: TimestampWithTimeZone) -> Result<BTreeMap<(String, Option<Date>), Part>> {
    let week = if weekly { "date_trunc('week', s.exposed_at AT TIME ZONE c.time_zone)::date" } else { "NULL::date" };
    let sql = format!(
        "WITH {STRATA}, acknowledged AS (
             SELECT a.campaign, max(a.acknowledged_at) AS at FROM decisioning.balance_acknowledgements a
             WHERE a.acknowledged_at < $2 GROUP BY a.campaign),
         drawn AS (
             SELECT s.campaign, {week} AS week, width_bucket(s.epoch, a.starts) AS stratum, s.treatment_group, count(*) AS customers,
                    count(*) FILTER (WHERE k.at IS NULL OR s.exposed_at > k.at) AS unacknowledged
             FROM decisioning._assignment s
             JOIN strata a ON a.campaign = s.campaign
             JOIN decisioning.campaigns c ON c.campaign = s.campaign
             LEFT JOIN acknowledged k ON k.campaign = s.campaign
             WHERE s.exposed_at <= $2 GROUP BY 1, 2, 3, 4)
         SELECT d.campaign, d.week, d.stratum, d.treatment_group, d.customers, d.unacknowledged, p.holdout_share, p.control_share,
                p.explore_share, k.at
         FROM drawn d
         JOIN strata a ON a.campaign = d.campaign
         JOIN decisioning._share_periods p ON p.campaign = d.campaign AND p.epoch = a.starts[greatest(d.stratum, 1)]
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
        let new = || Draw { shares: shares.exact(), all: [0.0; 4], unacknowledged: [0.0; 4] };
        let draw = part.draws.entry(row.value(3)?).or_insert_with(new);
        draw.all[group] = row.value::<i64>(5)? as f64;
        draw.unacknowledged[group] = row.value::<i64>(6)? as f64;
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

/// Campaigns whose groups are not what they should be. Runs as the owner.
pub fn unbalanced(campaign: Option<&str>, as_of: TimestampWithTimeZone) -> Result<BTreeSet<String>> {
    let parts = parts(campaign, false, as_of)?;
    Ok(parts.into_iter().filter(|(_, part)| part.balance().p_value < LEVEL).map(|((name, _), _)| name).collect())
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
            (name.clone(), week, group, customers[at] as i64, expected[at], statistic, p_value, balanced, part.acknowledged_at)
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
        let Some(p_value) = p_value.filter(|p_value| *p_value < LEVEL) else {
            return Err(Error::state(format!("the groups of campaign \"{name}\" are as large as they should be"))
                .detail("There is nothing to acknowledge."));
        };
        query::execute(
            "INSERT INTO decisioning.balance_acknowledgements (campaign, acknowledged_at, acknowledged_by, p_value, reason)
             VALUES ($1, $2, decisioning._caller(), $3, $4)
             ON CONFLICT (campaign, acknowledged_at) DO UPDATE SET reason = excluded.reason, p_value = excluded.p_value",
            &[name.into(), now.into(), p_value.into(), reason.into()],
        )
    })?;
    Ok(())
}

/// A feature's values that are told apart; others are one.
const MOST_LEVELS: usize = 20;

#[pg_extern(sql = false)]
fn feature_balance(
    campaign: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(feature, String),
            name!(customers, i64),
            name!(levels, i32),
            name!(statistic, f64),
            name!(p_value, f64),
            name!(balanced, bool),
        ),
    >,
    ErrorReport,
> {
    let name = required(campaign, "campaign")?;
    let found = as_owner(|| {
        campaign::load(name)?;
        features(name)
    })?;
    let tested = found.len() as f64;
    let rows = found.into_iter().map(|(feature, levels)| {
        let customers = levels.iter().flatten().sum::<f64>() as i64;
        let table: Vec<Vec<f64>> = (0..4).map(|group| levels.iter().map(|level| level[group]).collect()).collect();
        let found = independence(&table);
        let (statistic, p_value) = found.map_or((0.0, 1.0), |found| (found.statistic, found.p_value));
        // One of many features: Bonferroni.
        (feature, customers, levels.len() as i32, statistic, p_value, p_value * tested >= LEVEL)
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Customers by feature, value and group, as they were when exposed: numbers by tenths of their distribution. Runs as the owner.
fn features(campaign: &str) -> Result<BTreeMap<String, Vec<Counts>>> {
    let mut features: BTreeMap<String, Vec<Counts>> = BTreeMap::new();
    let mut levels: BTreeMap<(String, i64), usize> = BTreeMap::new();
    query::read_large(
        "WITH exposed AS (
             SELECT d.treatment_group, f.key AS feature, jsonb_typeof(f.value) AS type, f.value
             FROM decisioning.decisions d CROSS JOIN LATERAL jsonb_each(d.context) AS f
             WHERE d.campaign = $1 AND d.ordinal = 1 AND d.origin = 'live'),
         numbered AS (
             SELECT e.feature, e.treatment_group,
                    ntile(10) OVER (PARTITION BY e.feature ORDER BY (e.value #>> '{}')::float8)::bigint AS level, (e.value #>> '{}')::float8 AS x
             FROM exposed e WHERE e.type = 'number'),
         levels AS (
             -- Equal numbers are in the tenth of the first of them.
             SELECT n.feature, n.treatment_group, min(n.level) OVER (PARTITION BY n.feature, n.x) AS level FROM numbered n
             UNION ALL
             SELECT e.feature, e.treatment_group, 10 + dense_rank() OVER (PARTITION BY e.feature ORDER BY e.value) AS level
             FROM exposed e WHERE e.type <> 'number')
         SELECT l.feature, l.level, l.treatment_group, count(*) FROM levels l GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC, 2, 3",
        &[campaign.into()],
        |row| {
            let (feature, level): (String, i64) = (row.value(1)?, row.value(2)?);
            let Some(group) = Group::parse(&row.value::<String>(3)?) else { return Ok(()) };
            let counts = features.entry(feature.clone()).or_default();
            let at = *levels.entry((feature, level)).or_insert_with(|| {
                if counts.len() < MOST_LEVELS {
                    counts.push([0.0; 4]);
                }
                counts.len() - 1
            });
            counts[at][group as usize] += row.value::<i64>(4)? as f64;
            Ok(())
        },
    )?;
    Ok(features)
}
