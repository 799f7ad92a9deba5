//! Customers that somebody should look at: large ones, and those that little holds together.

use std::collections::{BTreeMap, HashMap};

use decisioning_core::identity::{Linkage, Matching, Records};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::stored::{self, Sources, Stored};
use super::wanted::probability_of;
use super::{model, rules, source};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::{interrupt, query};

/// Records from which on a customer is worth a look, however alike they are.
const MANY_RECORDS: usize = 21;

/// Customer, records, why, source and key of the record in doubt, its match weight and probability.
type Row = (String, i64, Vec<String>, Option<String>, Option<String>, Option<f64>, Option<f64>);

#[pg_extern(sql = false)]
fn review_customers(
    customers: Option<i32>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(customer_id, String),
            name!(records, i64),
            name!(reasons, Vec<String>),
            name!(source, Option<String>),
            name!(record_key, Option<String>),
            name!(weight, Option<f64>),
            name!(probability, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let customers = required(customers, "customers")?;
    if customers < 1 {
        return Err(Error::invalid("customers must be at least 1")
            .hint("It says how many customers are looked at.")
            .into());
    }
    Ok(TableIterator::new(as_owner(|| review(customers.into()))?))
}

fn review(most: i64) -> Result<Vec<Row>> {
    let all_sources = source::load()?;
    let sources = Sources::of(&all_sources);
    let mut loaded: HashMap<i64, Stored> = HashMap::new();
    stored::load(&stored::members(&candidates(most)?)?, &sources, &mut loaded)?;

    let mut records = Records::with(rules::load()?, sources.names(), rules::nicknames()?)?;
    for record in loaded.values() {
        let handle = records.add(record.source, &record.key)?;
        records.describe(handle, &record.fields, sources.country(record.source))?;
    }
    let matching = Matching::new(records)?;
    let mut persons: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for record in loaded.values() {
        let number = matching.record(sources.name(record.source), &record.key);
        if let (Some(customer), Some(number)) = (record.customer_id.as_deref(), number) {
            persons.entry(customer).or_default().push(number);
        }
    }
    persons.values_mut().for_each(|records| records.sort_unstable());

    let (customers, members): (Vec<&str>, Vec<Vec<u32>>) = persons.into_iter().unzip();
    let mut rows = Vec::new();
    let model = model::load()?;
    let doubts = match &model {
        Some(model) => {
            let (parameters, frequencies) = (&model.parameters, &model::frequencies()?);
            let linkage = Linkage { parameters, frequencies, blocking: &model.blocking, threads: 1 };
            matching.doubts(&linkage, &members, &mut interrupt::check)?
        }
        None => vec![None; members.len()],
    };
    for ((customer, members), doubt) in customers.into_iter().zip(&members).zip(doubts) {
        let is_low = doubt
            .zip(model.as_ref())
            .is_some_and(|(doubt, model)| f64::from(doubt.weight) < model.parameters.threshold);
        let reasons: Vec<String> = [("low_cohesion", is_low), ("many_records", members.len() >= MANY_RECORDS)]
            .into_iter()
            .filter(|reason| reason.1)
            .map(|reason| reason.0.to_owned())
            .collect();
        if !reasons.is_empty() {
            let record = doubt.map(|doubt| matching.source_and_key(doubt.record));
            let weight = doubt.map(|doubt| f64::from(doubt.weight));
            rows.push((
                customer.to_owned(),
                members.len() as i64,
                reasons,
                record.map(|record| record.0.to_owned()),
                record.map(|record| record.1.to_owned()),
                weight,
                weight.map(probability_of),
            ));
        }
    }
    rows.sort_by(|a, b| {
        let weight = |row: &Row| row.5.unwrap_or(f64::INFINITY);
        weight(a).total_cmp(&weight(b)).then(b.1.cmp(&a.1)).then_with(|| a.0.cmp(&b.0))
    });
    Ok(rows)
}

/// Customers of the most records, those that the weakest links hold together, and those that identifiers alone joined; `most`
/// of each at most. Runs as the owner.
fn candidates(most: i64) -> Result<Vec<String>> {
    query::read(
        "WITH persons AS (
             SELECT r.customer_id, count(*) AS records FROM decisioning._record r GROUP BY r.customer_id HAVING count(*) > 1),
         links AS (
             SELECT r.customer_id, min(l.weight) AS weakest, count(*) AS links
             FROM decisioning._link l JOIN decisioning._record r ON r.record_number = l.left_number GROUP BY r.customer_id)
         (SELECT p.customer_id FROM persons p ORDER BY p.records DESC, p.customer_id LIMIT $1)
         UNION
         (SELECT l.customer_id FROM links l ORDER BY l.weakest, l.customer_id LIMIT $1)
         UNION
         (SELECT p.customer_id FROM persons p LEFT JOIN links l ON l.customer_id = p.customer_id
          WHERE coalesce(l.links, 0) < p.records - 1 ORDER BY p.records DESC, p.customer_id LIMIT $1)",
        &[most.into()],
        |row| row.value::<String>(1),
    )
}
