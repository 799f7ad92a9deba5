//! What treatment does to the groups besides what it is for: identities that merge, and contacts and money that run out.

use std::collections::BTreeMap;

use decisioning_core::measure::independence;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::pipeline::parse_group;
use super::{campaign, now};
use crate::pg::error::{required, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Groups that differ at this level do so not by chance.
const LEVEL: f64 = 0.001;

/// Of what there is so much in each group: customers or decisions in all, and those it is about.
type Counts = BTreeMap<&'static str, (f64, f64)>;

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
            name!(p_value, Option<f64>),
            name!(alike, bool),
        ),
    >,
    ErrorReport,
> {
    let name = required(campaign, "campaign")?;
    let found = as_owner(|| {
        campaign::load(name)?;
        differences(name)
    })?;
    let rows = found.into_iter().flat_map(|(topic, groups)| {
        let table: Vec<Vec<f64>> = groups.values().map(|(all, affected)| vec![*affected, all - affected]).collect();
        let p_value = independence(&table).map(|found| found.p_value);
        let alike = p_value.is_none_or(|p_value| p_value >= LEVEL);
        groups
            .into_iter()
            .map(move |(group, (all, affected))| {
                (topic.clone(), group, all as i64, affected as i64, affected / all.max(1.0), p_value, alike)
            })
            .collect::<Vec<_>>()
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// By topic: customers who were merged, and who turned out to be of two groups; decisions that lost a candidate to a cap, and to a
/// budget. Runs as the owner.
fn differences(campaign: &str) -> Result<BTreeMap<String, Counts>> {
    let mut found: BTreeMap<String, Counts> = BTreeMap::new();
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
            let group = parse_group(&row.value::<String>(2)?)?;
            let counts = (row.value::<i64>(3)? as f64, row.value::<i64>(4)? as f64);
            found.entry(row.value(1)?).or_default().insert(group.as_str(), counts);
            Ok(())
        },
    )?;
    Ok(found)
}
