//! Are the groups alike? Features as they were at exposure must not tell groups apart.

use std::collections::{BTreeMap, BTreeSet};

use decisioning_core::decide::Group;
use decisioning_core::measure::independence_within;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::balance;
use super::census::Periods;
use super::maintained::Steps;
use super::{campaign, now};
use crate::pg::error::{required, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Level of the test of all features together. It is looked at daily: in sixty days 1.5 to 1.9 % of fair campaigns fall below 0.001, and 0.2
/// to 0.3 % below this (`features` in `benches/statistics`).
const LEVEL: f64 = 0.0001;

/// Customers who are looked at; of more, a sample by their hash.
const LOOKED_AT: i64 = 200_000;

/// A feature's values that are told apart; others are one.
const MOST_LEVELS: usize = 20;

/// Customers by group, in the order of [`Group::ALL`].
type Counts = [f64; 4];

/// Customers of a feature by stratum, which is who was drawn under the same shares, and level: those who come under other shares are
/// other people as well. All strata have the same levels.
type Strata = BTreeMap<usize, Vec<Counts>>;

/// What is found of a feature.
struct Finding {
    feature: String,
    customers: f64,
    levels: usize,
    statistic: f64,
    p_value: f64,
    balanced: bool,
}

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
        look(name)
    })?;
    let row = |found: Finding| {
        let Finding { feature, customers, levels, statistic, p_value, balanced } = found;
        (feature, customers as i64, levels as i32, statistic, p_value, balanced)
    };
    Ok(TableIterator::new(found.into_iter().map(row).collect::<Vec<_>>()))
}

/// Runs as the owner.
fn look(campaign: &str) -> Result<Vec<Finding>> {
    let features = features(campaign)?;
    let tested = features.len() as f64;
    // Members of a household, who are drawn together, are alike at most.
    let dispersion = balance::dispersion(campaign)?;
    let finding = |(feature, strata): (String, Strata)| {
        let table = |levels: &Vec<Counts>| -> Vec<Vec<f64>> {
            (0..4).map(|group| levels.iter().map(|level| level[group] / dispersion).collect()).collect()
        };
        let found = independence_within(&strata.values().map(table).collect::<Vec<_>>());
        let (statistic, p_value) = found.map_or((0.0, 1.0), |found| (found.statistic, found.p_value));
        Finding {
            feature,
            customers: strata.values().flatten().flatten().sum(),
            levels: strata.values().map(Vec::len).max().unwrap_or(0),
            statistic,
            p_value,
            // One of many features: Bonferroni.
            balanced: p_value * tested >= LEVEL,
        }
    };
    Ok(features.into_iter().map(finding).collect())
}

/// Customers who were exposed since imbalance was last acknowledged, by feature, value and group: numbers by tenths of their
/// distribution. Who is in the global holdout was drawn otherwise. Runs as the owner.
fn features(campaign: &str) -> Result<BTreeMap<String, Strata>> {
    let periods = Periods::read(Some(campaign))?;
    let mut features: BTreeMap<String, Strata> = BTreeMap::new();
    // Levels of each feature, in the order in which they come, which is that of all customers.
    let mut levels: BTreeMap<String, BTreeMap<i64, usize>> = BTreeMap::new();
    query::read(
        "WITH chosen AS MATERIALIZED (
             SELECT s.customer_id, s.exposed_at, s.treatment_group, s.epoch
             FROM decisioning._assignment s
             WHERE s.campaign = $1 AND s.exposed_at <= $2 AND NOT s.global_holdout
               AND s.exposed_at > coalesce((SELECT max(a.acknowledged_at) FROM decisioning.balance_acknowledgements a WHERE a.campaign = $1), '-infinity')
               AND abs(hashtext(s.customer_id)::bigint) %
                   (SELECT 1 + count(*) / $3 FROM decisioning._assignment n WHERE n.campaign = $1) = 0),
         exposed AS (
             SELECT c.treatment_group, c.epoch, f.key AS feature, jsonb_typeof(f.value) AS type, f.value
             FROM chosen c
             LEFT JOIN (SELECT n.washed_at, n.renewed_at FROM decisioning.renewals n WHERE n.campaign = $1 ORDER BY n.draw DESC LIMIT 1) AS r
                 ON true
             CROSS JOIN LATERAL (
                 SELECT d.context FROM decisioning.decisions d
                 WHERE d.customer_id = c.customer_id AND d.campaign = $1
                   -- Who was drawn anew during a wash-out counts from its end.
                   AND d.decided_at >= CASE WHEN c.exposed_at = r.washed_at THEN r.renewed_at ELSE c.exposed_at END
                 ORDER BY d.decided_at LIMIT 1) AS d
             CROSS JOIN LATERAL jsonb_each(d.context) AS f),
         numbered AS (
             SELECT e.feature, e.treatment_group, e.epoch, (e.value #>> '{}')::float8 AS x,
                    ntile(10) OVER (PARTITION BY e.feature ORDER BY (e.value #>> '{}')::float8)::bigint AS level
             FROM exposed e WHERE e.type = 'number'),
         levels AS (
             -- Equal numbers are in the tenth of the first of them.
             SELECT n.feature, n.treatment_group, n.epoch, min(n.level) OVER (PARTITION BY n.feature, n.x) AS level FROM numbered n
             UNION ALL
             SELECT e.feature, e.treatment_group, e.epoch, 10 + dense_rank() OVER (PARTITION BY e.feature ORDER BY e.value) AS level
             FROM exposed e WHERE e.type <> 'number')
         -- The most frequent of all customers are told apart: those of one group would be those that it has by chance more of.
         SELECT l.feature, l.level, l.treatment_group, l.epoch, count(*) FROM levels l GROUP BY 1, 2, 3, 4
         ORDER BY 1, sum(count(*)) OVER (PARTITION BY l.feature, l.level) DESC, 2, 3, 4",
        &[campaign.into(), now()?.into(), LOOKED_AT.into()],
        |row| {
            let (feature, level): (String, i64) = (row.value(1)?, row.value(2)?);
            let Some(group) = Group::parse(&row.value::<String>(3)?) else { return Ok(()) };
            let Some(stratum) = periods.stratum(campaign, row.value(4)?) else { return Ok(()) };
            let known = levels.entry(feature.clone()).or_default();
            let next = known.len().min(MOST_LEVELS - 1);
            let at = *known.entry(level).or_insert(next);
            let counts = features.entry(feature).or_default().entry(stratum).or_default();
            if counts.len() <= at {
                counts.resize(at + 1, [0.0; 4]);
            }
            counts[at][group as usize] += row.value::<i64>(5)? as f64;
            Ok(())
        },
    )?;
    Ok(features)
}

/// Campaigns whose last check found groups that are not alike. Runs as the owner.
pub fn unlike(campaign: Option<&str>) -> Result<BTreeSet<String>> {
    let found = query::read(
        "SELECT DISTINCT f.campaign FROM decisioning._feature_balance f WHERE NOT f.balanced AND ($1 IS NULL OR f.campaign = $1)",
        &[campaign.into()],
        |row| row.value(1),
    )?;
    Ok(found.into_iter().collect())
}

/// Forgets the last check. Runs as the owner.
pub fn forget(campaign: &str) -> Result<()> {
    query::execute("DELETE FROM decisioning._feature_balance f WHERE f.campaign = $1", &[campaign.into()])?;
    Ok(())
}

/// Checks campaigns that run, once a day.
pub fn keep_all(steps: &mut Steps) -> Result<()> {
    steps.every_day("balance of features", "_feature_balance", "checked_at", keep)
}

/// Runs as the owner.
fn keep(campaign: &str) -> Result<()> {
    let found = look(campaign)?;
    forget(campaign)?;
    for Finding { feature, customers, p_value, balanced, .. } in found {
        query::execute(
            "INSERT INTO decisioning._feature_balance (campaign, feature, checked_at, customers, p_value, balanced)
             VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                campaign.into(),
                feature.into(),
                now()?.into(),
                (customers as i64).into(),
                p_value.into(),
                balanced.into(),
            ],
        )?;
    }
    Ok(())
}
