//! Are the groups what they should be? If not, no difference between them means anything.

use std::collections::BTreeMap;

use decisioning_core::decide::{Group, BUCKETS};
use decisioning_core::measure::{chi_square, sequential_balance, Drawn, Finding};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::census::Census;
use super::feature_balance as features;
use super::{campaign, now};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Below this, groups are not what they should be.
const LEVEL: f64 = 0.001;

/// Nobody is compared.
const NONE: &str = "false";

/// Monday of the week of exposure, as days from 2000-01-01.
const WEEK: &str = "date_trunc('week', s.exposed_at AT TIME ZONE c.time_zone)::date - '2000-01-01'::date";

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
    draws: BTreeMap<usize, Draw>,
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

/// The parts of a census: campaigns, or weeks of them.
fn parts(census: &Census, weekly: bool) -> BTreeMap<(String, Option<Date>), Part> {
    let dispersions = dispersions(census);
    let mut parts: BTreeMap<(String, Option<Date>), Part> = BTreeMap::new();
    for drawn in &census.drawn {
        let name = &drawn.campaign;
        let Some(period) = census.periods.get(name, drawn.stratum) else { continue };
        let week = drawn.at.filter(|_| weekly).map(Date::saturating_from_raw);
        let part = parts.entry((name.clone(), week)).or_default();
        part.acknowledged_at = census.acknowledged.get(name).copied();
        part.dispersion = dispersions.get(name.as_str()).copied().unwrap_or(1.0);
        let new = || Draw {
            shares: period.shares.exact(),
            global: period.global,
            all: [0.0; 4],
            unacknowledged: [0.0; 4],
            kept: 0.0,
        };
        let draw = part.draws.entry(drawn.stratum).or_insert_with(new);
        draw.all[drawn.group as usize] += drawn.customers;
        draw.unacknowledged[drawn.group as usize] += drawn.unacknowledged;
        let threshold = (f64::from(BUCKETS) * period.global).round();
        if drawn.held.is_some_and(|bucket| f64::from(bucket) >= threshold) {
            draw.kept += drawn.customers;
        }
    }
    parts
}

/// Index of dispersion of the sizes of buckets, of campaigns that draw households: a compound Poisson variable, for which it is E[s²] / E[s] of
/// the sizes s of households.
fn dispersions(census: &Census) -> BTreeMap<&str, f64> {
    let mut sizes: BTreeMap<&str, BTreeMap<i16, f64>> = BTreeMap::new();
    for drawn in &census.drawn {
        if let Some(bucket) = drawn.bucket {
            *sizes.entry(&drawn.campaign).or_default().entry(bucket).or_default() += drawn.customers;
        }
    }
    let dispersion = |sizes: BTreeMap<i16, f64>| {
        let mean_of = |of: fn(f64) -> f64| sizes.values().copied().map(of).sum::<f64>() / f64::from(BUCKETS);
        let (mean, square) = (mean_of(|size| size), mean_of(|size| size * size));
        ((square - mean * mean) / mean).max(1.0)
    };
    sizes.into_iter().map(|(name, sizes)| (name, dispersion(sizes))).collect()
}

/// How many times the variance of independent customers counts of a campaign's customers have at most. Runs as the owner.
pub fn dispersion(campaign: &str) -> Result<f64> {
    let census = Census::take(Some(campaign), now()?, None, NONE)?;
    let dispersion = dispersions(&census).into_values().next();
    Ok(dispersion.unwrap_or(1.0))
}

/// A group with the finding about all groups of its campaign, or of a week of it.
pub struct GroupBalance {
    pub campaign: String,
    pub week: Option<Date>,
    pub group: Group,
    pub customers: f64,
    pub expected: f64,
    pub statistic: Option<f64>,
    pub p_value: f64,
    pub acknowledged_at: Option<TimestampWithTimeZone>,
}

impl GroupBalance {
    pub fn balanced(&self) -> bool {
        self.p_value >= LEVEL
    }
}

/// Groups with anybody in them, or expected.
pub fn groups(census: &Census, weekly: bool) -> Vec<GroupBalance> {
    let mut groups = Vec::new();
    for ((campaign, week), part) in parts(census, weekly) {
        let Balance { customers, expected, statistic, p_value } = part.balance();
        let acknowledged_at = part.acknowledged_at;
        let there = |group: &Group| customers[*group as usize] > 0.0 || expected[*group as usize] > 0.0;
        groups.extend(Group::ALL.into_iter().filter(there).map(|group| GroupBalance {
            campaign: campaign.clone(),
            week,
            group,
            customers: customers[group as usize],
            expected: expected[group as usize],
            statistic,
            p_value,
            acknowledged_at,
        }));
    }
    groups
}

/// Campaigns whose groups cannot be compared, and what that is called. Runs as the owner.
pub fn invalid(campaign: Option<&str>, census: &Census) -> Result<BTreeMap<String, Finding>> {
    let mut found: BTreeMap<String, Finding> =
        features::unlike(campaign)?.into_iter().map(|name| (name, Finding::Unlike)).collect();
    let unbalanced = parts(census, false).into_iter().filter(|(_, part)| part.balance().p_value < LEVEL);
    found.extend(unbalanced.map(|((name, _), _)| (name, Finding::Invalid)));
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
    let groups = as_owner(|| {
        if let Some(campaign) = campaign {
            campaign::load(campaign)?;
        }
        let now = now()?;
        let census = Census::take(campaign, now, weekly.then_some(WEEK), NONE)?;
        Ok(groups(&census, weekly))
    })?;
    let row = |group: GroupBalance| {
        let balanced = group.balanced();
        (
            group.campaign,
            group.week,
            group.group.as_str(),
            group.customers as i64,
            group.expected,
            group.statistic,
            group.p_value,
            balanced,
            group.acknowledged_at,
        )
    };
    Ok(TableIterator::new(groups.into_iter().map(row).collect::<Vec<_>>()))
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
        let p_value = parts(&Census::take(Some(name), now, None, NONE)?, false)
            .into_values()
            .next()
            .map(|part| part.balance().p_value);
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
