//! How identities compare with labelled records.

use std::collections::HashMap;

use decisioning_core::identity::{Linkage, Matching, Records};
use decisioning_core::measure::Agreement;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::stored::{self, Sources, Stored};
use super::wanted::{probability_of, weight_of};
use super::{model, rules, source};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::relation::RelationName;
use crate::pg::{query, scan, threads};

/// Probabilities at which pairs are counted.
const THRESHOLDS: [f64; 11] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999];

/// Rows per fetch and statement.
const CHUNK: usize = 10_000;

/// Threshold, pairs, precision, recall, F1.
type Row = (Option<f64>, i64, Option<f64>, Option<f64>, Option<f64>);

#[pg_extern(sql = false)]
fn identity_accuracy(
    labels: Option<pg_sys::Oid>,
    source_column: Option<&str>,
    key_column: Option<&str>,
    person_column: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(threshold, Option<f64>),
            name!(pairs, i64),
            name!(precision, Option<f64>),
            name!(recall, Option<f64>),
            name!(f1, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let labels = RelationName::of(required(labels, "labels")?)?;
    let columns = [
        required(source_column, "source_column")?,
        required(key_column, "key_column")?,
        required(person_column, "person_column")?,
    ];
    let labels = read(&labels, columns)?;
    Ok(TableIterator::new(as_owner(|| compare(labels))?))
}

/// Reads source, key and person of the labelled records, as the caller.
fn read(relation: &RelationName, names: [&str; 3]) -> Result<HashMap<(String, String), String>> {
    let columns = relation.columns()?;
    let texts = names.map(|name| Ok::<_, Error>(relation.column(&columns, name)?.text("l")));
    let selected = texts.into_iter().collect::<Result<Vec<_>>>()?.join(", ");
    let mut labels = HashMap::new();
    scan::scan(
        &format!("SELECT {selected} FROM {} AS l", relation.quoted()),
        &[],
        CHUNK,
        |row| {
            if let (Some(source), Some(key), Some(person)) = (row.text(0)?, row.text(1)?, row.text(2)?) {
                labels.insert((source.to_owned(), key.to_owned()), person.to_owned());
            }
            Ok(())
        },
        || Ok(()),
    )?;
    Ok(labels)
}

/// Runs as the owner.
fn compare(labels: HashMap<(String, String), String>) -> Result<Vec<Row>> {
    let all_sources = source::load()?;
    let sources = Sources::of(&all_sources);
    let mut loaded: HashMap<i64, Stored> = HashMap::new();
    let names: Vec<&(String, String)> = labels.keys().collect();
    for chunk in names.chunks(CHUNK) {
        let (of, keys): (Vec<&str>, Vec<&str>) = chunk.iter().map(|name| (name.0.as_str(), name.1.as_str())).unzip();
        let numbers = query::read(
            "SELECT r.record_number FROM unnest($1::text[], $2::text[]) AS n(source, record_key)
             JOIN decisioning._record r ON r.source = n.source AND r.record_key = n.record_key",
            &[of.into(), keys.into()],
            |row| row.value::<i64>(1),
        )?;
        stored::load(&numbers, &sources, &mut loaded)?;
    }
    if loaded.is_empty() {
        return Err(Error::state("none of the labelled records is known").hint(
            "The columns must hold source and key of records, as in decisioning.identity_map, after resolve_all.",
        ));
    }
    let label_of = |source: &str, key: &str| labels.get(&(source.to_owned(), key.to_owned())).map(String::as_str);
    let persons = loaded.values().filter_map(|record| {
        Some((label_of(sources.name(record.source), &record.key)?, record.customer_id.as_deref()?))
    });
    let mut rows = vec![row(None, &Agreement::of_groups(persons))];

    let Some(model) = model::load()? else { return Ok(rows) };
    let mut records = Records::with(rules::load()?, sources.names(), rules::nicknames()?)?;
    let mut people: HashMap<&str, u64> = HashMap::new();
    for record in loaded.values() {
        let added = records.add(record.source, &record.key)?;
        records.describe(added, &record.fields, sources.country(record.source))?;
        if let Some(label) = label_of(sources.name(record.source), &record.key) {
            *people.entry(label).or_default() += 1;
        }
    }
    let matching = Matching::new(records)?;
    let mut parameters = model.parameters.clone();
    parameters.review_threshold = weight_of(THRESHOLDS[0]);
    let linkage = Linkage {
        parameters: &parameters,
        frequencies: &model::frequencies()?,
        blocking: &model.blocking,
        threads: threads::for_maintenance(),
    };
    let pairs = threads::quietly(|quiet| matching.alike(&linkage, &|_| true, &mut || quiet.check()))?;
    let actual: u64 = people.values().map(|records| records * (records - 1) / 2).sum();
    let pairs: Vec<(f64, bool)> = pairs
        .iter()
        .map(|pair| {
            let [older, younger] = [pair.older, pair.younger].map(|record| {
                let (source, key) = matching.source_and_key(record);
                label_of(source, key)
            });
            (probability_of(f64::from(pair.weight)), older == younger)
        })
        .collect();
    rows.extend(THRESHOLDS.map(|threshold| {
        let joined = pairs.iter().filter(|pair| pair.0 >= threshold);
        let (mut found, mut right) = (0, 0);
        joined.for_each(|pair| (found, right) = (found + 1, right + u64::from(pair.1)));
        row(Some(threshold), &Agreement { actual, found, right })
    }));
    Ok(rows)
}

fn row(threshold: Option<f64>, agreement: &Agreement) -> Row {
    let pairs = i64::try_from(agreement.found).unwrap_or(i64::MAX);
    (threshold, pairs, agreement.precision(), agreement.recall(), agreement.f1())
}
