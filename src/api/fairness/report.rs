//! The report: shares by value of the attribute, with intervals and verdicts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use decisioning_core::measure::{parity, Parity, Share, Verdict};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::api::campaign::{self, Campaign};
use crate::api::pipeline::canonical_ids;
use crate::api::{configure, now};
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
            .hint("List the features of the campaign without it, in its document: decisioning.export_configuration gives it, decisioning.configure applies it."));
    }
    Ok(())
}

/// Decisions for a customer, and those of them that had each level.
#[derive(Default)]
struct Treatment {
    decisions: f64,
    levels: BTreeMap<String, f64>,
}

/// How each customer was treated, under today's ids. Runs as the owner.
fn treatments(name: &str, dimension: &str, since: Option<TimestampWithTimeZone>) -> Result<HashMap<String, Treatment>> {
    let mut found: HashMap<String, Treatment> = HashMap::new();
    query::stream(
        "SELECT coalesce(l.customer_id, d.customer_id), a.dimensions ->> $2, count(*)
         FROM decisioning.decisions d
         LEFT JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action_id = d.action_id
         LEFT JOIN decisioning._log_alias l ON l.alias = d.customer_id
         WHERE d.campaign = $1 AND d.treatment_group = 'optimise' AND d.origin = 'live'
           AND d.decided_at >= coalesce($3, $4 - interval '90 days')
         GROUP BY 1, 2",
        &[name.into(), dimension.into(), since.into(), now()?.into()],
        FETCH,
        |row| Ok((row.value::<String>(1)?, row.get::<String>(2)?, row.value::<i64>(3)? as f64)),
        |batch| {
            for (customer, level, decisions) in batch {
                let treatment = found.entry(customer).or_default();
                treatment.decisions += decisions;
                if let Some(level) = level {
                    *treatment.levels.entry(level).or_default() += decisions;
                }
            }
            Ok(())
        },
    )?;
    Ok(found)
}

/// Customers of one value of the attribute, and of those who got a level, in what part of their decisions each did.
#[derive(Default)]
struct Group {
    customers: f64,
    got: BTreeMap<String, Vec<f64>>,
}

/// What is asked.
pub struct Question<'a> {
    pub attribute: &'a str,
    pub dimension: &'a str,
    /// Value that others are compared with; `None` is the one with the largest share.
    pub reference: Option<&'a str>,
    pub minimum_ratio: f64,
    pub minimum_customers: f64,
    pub since: Option<TimestampWithTimeZone>,
}

/// Customers with a value of the attribute, and a level.
pub struct Finding {
    pub value: String,
    pub level: String,
    pub customers: i64,
    /// Customers who got it at all.
    got: i64,
    pub parity: Parity,
}

impl Finding {
    fn verdict(&self) -> &'static str {
        match self.parity.verdict {
            Verdict::TooFew => "too few",
            Verdict::Reference => "reference",
            Verdict::Fair => "fair",
            Verdict::Suspect => "suspect",
            Verdict::Adverse => "adverse",
        }
    }

    pub fn is_adverse(&self) -> bool {
        matches!(self.parity.verdict, Verdict::Adverse)
    }
}

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
            name!(ratio_upper, Option<f64>),
            name!(verdict, String),
        ),
    >,
    ErrorReport,
> {
    let (name, attribute) = (required(campaign, "campaign")?, required(attribute, "attribute")?);
    let question = Question {
        attribute,
        dimension: required(dimension, "dimension")?,
        reference,
        minimum_ratio: configure::share(minimum_ratio, "minimum_ratio", 1.0)?,
        minimum_customers: f64::from(required(minimum_customers, "minimum_customers")?),
        since,
    };
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    let row = |finding: Finding| {
        let verdict = finding.verdict().to_owned();
        let Finding { value, level, customers, got, parity } = finding;
        let Parity { share, lower, upper, ratio, ratio_upper, .. } = parity;
        (value, level, customers, got, share, lower, upper, ratio, ratio_upper, verdict)
    };
    Ok(TableIterator::new(findings(&campaign, &question)?.into_iter().map(row).collect::<Vec<_>>()))
}

/// A question that the campaign and its customers relation can answer.
///
/// # Errors
/// No such dimension or attribute, or the model learns from the attribute.
pub fn check(campaign: &Campaign, attribute: &str, dimension: &str) -> Result<()> {
    if !campaign.actions.iter().any(|action| action.dimensions.contains_key(dimension)) {
        return Err(Error::missing(format!(
            "no action of campaign \"{}\" has a dimension \"{dimension}\"",
            campaign.campaign
        ))
        .hint("SELECT action, dimensions FROM decisioning.actions lists them."));
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
    check_attribute(campaign, attribute, &features)
}

/// Who got what, by level and value. Reads the customers relation as the caller.
pub fn findings(campaign: &Campaign, question: &Question<'_>) -> Result<Vec<Finding>> {
    let Question { attribute, dimension, reference, minimum_ratio, minimum_customers, since } = *question;
    check(campaign, attribute, dimension)?;
    let mut treatments = as_owner(|| treatments(&campaign.campaign, dimension, since))?;
    if treatments.is_empty() {
        return Ok(Vec::new());
    }
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let relation = campaign.customers();
    let columns = relation.columns()?;
    let key = relation.column(&columns, &campaign.customer_key)?;
    let sql = format!(
        "SELECT {}, coalesce({}, '(unknown)') FROM {} AS relation WHERE relation.{} IS NOT NULL",
        key.text("relation"),
        relation.column(&columns, attribute)?.text("relation"),
        relation.quoted(),
        quote_identifier(&key.name),
    );
    query::stream(
        &sql,
        &[],
        FETCH,
        |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?)),
        |batch| {
            let (ids, values): (Vec<String>, Vec<String>) = batch.into_iter().unzip();
            for (id, value) in as_owner(|| canonical_ids(&ids))?.iter().zip(values) {
                // Of several rows of one person, the first counts.
                let Some(Treatment { decisions, levels }) = treatments.remove(id) else { continue };
                let group = groups.entry(value).or_default();
                group.customers += 1.0;
                levels.into_iter().for_each(|(level, had)| group.got.entry(level).or_default().push(had / decisions));
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
    let mut findings = Vec::new();
    for &level in &all {
        let of = |group: &Group| {
            let mut share = Share::new(group.customers);
            group.got.get(level).into_iter().flatten().for_each(|part| share.add(*part));
            share
        };
        let shares: Vec<Share> = groups.values().map(of).collect();
        let found = parity(&shares, place, minimum_ratio, minimum_customers, all.len());
        for ((value, group), parity) in groups.iter().zip(found) {
            let (customers, got) = (group.customers as i64, group.got.get(level).map_or(0, Vec::len) as i64);
            findings.push(Finding { value: value.clone(), level: level.clone(), customers, got, parity });
        }
    }
    Ok(findings)
}
