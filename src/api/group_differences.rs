//! What treatment does to the groups besides what it is for: identities that merge, and contacts and money that run out.

use std::collections::BTreeMap;

use decisioning_core::measure::{independence, same_mean, Sample, Variable};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::balance;
use super::pipeline::parse_group;
use super::{campaign, now};
use crate::pg::error::{required, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Groups that differ at this level do so not by chance.
const LEVEL: f64 = 0.001;

/// What is counted of a group.
struct Counts {
    /// Customers or decisions in all, and those it is about.
    all: f64,
    affected: f64,
    /// What it is measured in: those it is about, or money.
    amount: f64,
    /// How many times the variance of independent ones such counts have.
    dispersion: f64,
    /// By customer, if it is money.
    spent: Option<Sample>,
}

/// By topic and group.
type Topics = BTreeMap<String, BTreeMap<&'static str, Counts>>;

#[pg_extern(sql = false)]
fn group_differences(
    campaign: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(topic, String),
            name!(treatment_group, &'static str),
            name!(counted, i64),
            name!(affected, i64),
            name!(rate, f64),
            name!(share, Option<f64>),
            name!(p_value, Option<f64>),
            name!(alike, bool),
        ),
    >,
    ErrorReport,
> {
    let name = required(campaign, "campaign")?;
    let found = as_owner(|| {
        campaign::load(name)?;
        let mut topics = differences(name, balance::dispersion(name)?)?;
        topics.extend(budgets(name)?);
        Ok(topics)
    })?;
    let rows = found.into_iter().flat_map(|(topic, groups)| {
        let p_value = p_value(&groups);
        let alike = p_value.is_none_or(|p_value| p_value >= LEVEL);
        let total: f64 = groups.values().map(|counts| counts.amount).sum();
        let row = |(group, counts): (&'static str, Counts)| {
            let share = (total > 0.0).then(|| counts.amount / total);
            let rate = counts.amount / counts.all.max(1.0);
            (topic.clone(), group, counts.all as i64, counts.affected as i64, rate, share, p_value, alike)
        };
        groups.into_iter().map(row).collect::<Vec<_>>()
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Of rates that are the same, or of the same spending per customer in all groups that may be sent something.
fn p_value(groups: &BTreeMap<&'static str, Counts>) -> Option<f64> {
    if groups.values().any(|counts| counts.spent.is_some()) {
        let sent = groups.iter().filter(|(group, _)| **group != "holdout");
        return same_mean(&sent.filter_map(|(_, counts)| counts.spent).collect::<Vec<_>>());
    }
    let rate = |counts: &Counts| {
        [counts.affected, counts.all - counts.affected].map(|count| count / counts.dispersion).to_vec()
    };
    let rates: Vec<Vec<f64>> = groups.values().map(rate).collect();
    independence(&rates).map(|found| found.p_value)
}

/// Customers who were merged, and who turned out to be of two groups; decisions that lost a candidate to a cap, and to a budget.
/// `dispersion` is that of counts of customers. Runs as the owner.
fn differences(campaign: &str, dispersion: f64) -> Result<Topics> {
    let mut found = Topics::new();
    query::read_large(
        "SELECT t.topic, s.treatment_group, s.customers, CASE t.topic WHEN 'merged customers' THEN s.merged ELSE s.mixed END
         FROM (SELECT s.treatment_group, count(*) AS customers, count(s.merged_at) AS merged, count(s.mixed_at) AS mixed
               FROM decisioning._assignment s WHERE s.campaign = $1 AND s.exposed_at < $2 GROUP BY 1) AS s
         CROSS JOIN (VALUES ('merged customers'), ('customers of two groups')) AS t(topic)
         UNION ALL
         SELECT t.topic, d.treatment_group, d.decisions, CASE t.topic WHEN 'decisions under a cap' THEN d.capped ELSE d.broke END
         FROM (SELECT d.treatment_group, count(*) AS decisions, count(*) FILTER (WHERE r.capped) AS capped, count(*) FILTER (WHERE r.broke) AS broke
               FROM decisioning.decisions d
               CROSS JOIN LATERAL (SELECT coalesce(bool_or(k.key LIKE 'cap: %'), false) AS capped,
                                          coalesce(bool_or(k.key LIKE 'budget%'), false) AS broke
                                   FROM jsonb_object_keys(coalesce(d.removed, '{}')) AS k(key)) AS r
               WHERE d.campaign = $1 AND d.origin = 'live' GROUP BY 1) AS d
         CROSS JOIN (VALUES ('decisions under a cap'), ('decisions without budget')) AS t(topic)",
        &[campaign.into(), now()?.into()],
        |row| {
            let (topic, all, affected) = (row.value::<String>(1)?, row.value::<i64>(3)? as f64, row.value::<i64>(4)? as f64);
            let group = parse_group(&row.value::<String>(2)?)?.as_str();
            let counts = Counts { all, affected, amount: affected, dispersion, spent: None };
            found.entry(topic).or_default().insert(group, counts);
            Ok(())
        },
    )?;
    // Decisions for one customer are alike at most: so many count as one.
    let all = |topic: &BTreeMap<&str, Counts>| topic.values().map(|counts| counts.all).sum::<f64>();
    let customers = found.get("merged customers").map_or(1.0, all);
    for (_, topic) in found.iter_mut().filter(|(topic, _)| topic.starts_with("decisions")) {
        let each = (all(topic) / customers).max(1.0);
        topic.values_mut().for_each(|counts| counts.dispersion *= each);
    }
    Ok(found)
}

/// What each group was charged to each budget, as far back as budgets remember. Runs as the owner.
fn budgets(campaign: &str) -> Result<Topics> {
    let mut found = Topics::new();
    query::read_large(
        "WITH charged AS (
             SELECT r.budget, d.treatment_group, d.customer_id, sum(r.charged) / 1e6::float8 AS amount
             FROM decisioning._reservation r JOIN decisioning.decisions d ON d.decision_id = r.decision_id
             WHERE r.campaign = $1 AND r.charged > 0 GROUP BY 1, 2, 3)
         SELECT b.budget, s.treatment_group, s.customers, coalesce(n.customers, 0), coalesce(n.amount, 0), coalesce(n.squares, 0)
         FROM decisioning.budgets b
         CROSS JOIN (SELECT s.treatment_group, count(*) AS customers
                     FROM decisioning._assignment s WHERE s.campaign = $1 AND s.exposed_at < $2 GROUP BY 1) AS s
         LEFT JOIN (SELECT c.budget, c.treatment_group, count(*) AS customers, sum(c.amount) AS amount, sum(c.amount * c.amount) AS squares
                    FROM charged c GROUP BY 1, 2) AS n ON n.budget = b.budget AND n.treatment_group = s.treatment_group
         WHERE b.campaign = $1",
        &[campaign.into(), now()?.into()],
        |row| {
            let (all, affected) = (row.value::<i64>(3)? as f64, row.value::<i64>(4)? as f64);
            let spent = Sample::of_sums(all, row.value(5)?, row.value(6)?);
            let group = parse_group(&row.value::<String>(2)?)?.as_str();
            let counts = Counts { all, affected, amount: all * spent.mean(Variable::Outcome), dispersion: 1.0, spent: Some(spent) };
            found.entry(format!("charged to {}", row.value::<String>(1)?)).or_default().insert(group, counts);
            Ok(())
        },
    )?;
    Ok(found)
}
