//! Fairness: who gets which level, across an attribute that the model does not see.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use decisioning_core::measure::{parity, Share, Verdict};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Campaign};
use super::configure;
use super::now;
use super::pipeline::canonical_ids;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use crate::pg::relation::quote_identifier;

/// Rows per fetch.
const FETCH: usize = 10_000;

/// What the model learns from cannot be compared as if it did not.
fn check_attribute(campaign: &Campaign, attribute: &str, features: &[String]) -> Result<()> {
    if features.iter().any(|feature| feature == attribute) {
        return Err(Error::invalid(format!("\"{attribute}\" is a feature of campaign \"{}\"", campaign.campaign))
            .detail("The model chooses by it, so that the levels differ on purpose.")
            .hint("Leave it out of the features of the campaign: UPDATE decisioning.campaigns SET features = …"));
    }
    Ok(())
}

/// Levels that each customer got, under today's ids; an empty set for who got none. Runs as the owner.
fn levels(
    name: &str,
    dimension: &str,
    since: Option<TimestampWithTimeZone>,
) -> Result<HashMap<String, BTreeSet<String>>> {
    let mut found: HashMap<String, BTreeSet<String>> = HashMap::new();
    query::stream(
        "SELECT coalesce(l.customer_id, d.customer_id), a.dimensions ->> $2
         FROM decisioning.decisions d
         LEFT JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action_id = d.action_id
         LEFT JOIN decisioning._log_alias l ON l.alias = d.customer_id
         WHERE d.campaign = $1 AND d.treatment_group = 'optimise' AND d.origin = 'live'
           AND d.decided_at >= coalesce($3, $4 - interval '90 days')
         GROUP BY 1, 2",
        &[name.into(), dimension.into(), since.into(), now()?.into()],
        FETCH,
        |row| Ok((row.value::<String>(1)?, row.get::<String>(2)?)),
        |batch| {
            for (customer, level) in batch {
                found.entry(customer).or_default().extend(level);
            }
            Ok(())
        },
    )?;
    Ok(found)
}

/// Customers of one value of the attribute, and how many of them got each level.
#[derive(Default)]
struct Group {
    customers: f64,
    got: BTreeMap<String, f64>,
}

type FairnessRow = (String, String, i64, i64, f64, f64, f64, Option<f64>, String);

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn fairness(
    campaign: Option<&str>,
    attribute: Option<&str>,
    dimension: Option<&str>,
    reference: Option<&str>,
    minimum_ratio: Option<f64>,
    minimum_customers: Option<i32>,
    since: Option<TimestampWithTimeZone>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(value, String),
            name!(level, String),
            name!(customers, i64),
            name!(got, i64),
            name!(share, f64),
            name!(lower, f64),
            name!(upper, f64),
            name!(ratio, Option<f64>),
            name!(verdict, String),
        ),
    >,
    ErrorReport,
> {
    let (name, attribute) = (required(campaign, "campaign")?, required(attribute, "attribute")?);
    let dimension = required(dimension, "dimension")?;
    let minimum_ratio = configure::share(minimum_ratio, "minimum_ratio", 1.0)?;
    let minimum_customers = f64::from(required(minimum_customers, "minimum_customers")?);
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    if !campaign.actions.iter().any(|action| action.dimensions.contains_key(dimension)) {
        return Err(Error::missing(format!("no action of campaign \"{name}\" has a dimension \"{dimension}\""))
            .hint("SELECT action, dimensions FROM decisioning.actions lists them.")
            .into());
    }
    let relation = campaign.customers();
    let columns = relation.columns()?;
    relation.column(&columns, attribute)?;
    let features = campaign.features.clone().unwrap_or_else(|| {
        let apart = [
            Some(campaign.customer_key.as_str()),
            campaign.time_zone_column.as_deref(),
            campaign.offset_column.as_deref(),
        ];
        columns.iter().map(|column| column.name.clone()).filter(|name| !apart.contains(&Some(name.as_str()))).collect()
    });
    check_attribute(&campaign, attribute, &features)?;

    let got = as_owner(|| levels(name, dimension, since))?;
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let sql = format!(
        "SELECT relation.{}::text, coalesce(relation.{}::text, '(unknown)') FROM {} AS relation WHERE relation.{0} IS NOT NULL",
        quote_identifier(&campaign.customer_key),
        quote_identifier(attribute),
        relation.quoted(),
    );
    query::stream(
        &sql,
        &[],
        FETCH,
        |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?)),
        |batch| {
            let (ids, values): (Vec<String>, Vec<String>) = batch.into_iter().unzip();
            for (id, value) in as_owner(|| canonical_ids(&ids))?.iter().zip(values) {
                let Some(levels) = got.get(id) else { continue };
                let group = groups.entry(value).or_default();
                group.customers += 1.0;
                levels.iter().for_each(|level| *group.got.entry(level.clone()).or_default() += 1.0);
            }
            Ok(())
        },
    )?;
    let place = match reference {
        None => None,
        Some(value) => Some(groups.keys().position(|known| known == value).ok_or_else(|| {
            let known: Vec<&str> = groups.keys().map(String::as_str).collect();
            Error::missing(format!("no customer who was decided for has {attribute} \"{value}\""))
                .hint(format!("Values are: {}.", known.join(", ")))
        })?),
    };
    let all: BTreeSet<&String> = groups.values().flat_map(|group| group.got.keys()).collect();
    let mut rows: Vec<FairnessRow> = Vec::new();
    for level in all {
        let of = |group: &Group| Share {
            customers: group.customers,
            got: group.got.get(level).copied().unwrap_or_default(),
        };
        let shares: Vec<Share> = groups.values().map(of).collect();
        let found = parity(&shares, place, minimum_ratio, minimum_customers);
        for ((value, share), found) in groups.keys().zip(&shares).zip(found) {
            let verdict = match found.verdict {
                Verdict::TooFew => "too few",
                Verdict::Reference => "reference",
                Verdict::Fair => "fair",
                Verdict::Suspect => "suspect",
                Verdict::Adverse => "adverse",
            };
            let (customers, got) = (share.customers as i64, share.got as i64);
            let (lower, upper) = (found.lower, found.upper);
            rows.push((
                value.clone(),
                level.clone(),
                customers,
                got,
                found.share,
                lower,
                upper,
                found.ratio,
                verdict.to_owned(),
            ));
        }
    }
    Ok(TableIterator::new(rows))
}
