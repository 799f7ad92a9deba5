//! Why two records are, or are not, alike; and what records say in the spelling that is compared.

use decisioning_core::identity::{explain, normalised, Country, Explained, FieldKind, Fields, Records, Rules, ONLINE};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;

use super::stored::Sources;
use super::wanted::probability_of;
use super::{field, model, rules, source};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::scan;

/// A record to explain.
struct Side {
    fields: Fields,
    /// Where national numbers and dates belong.
    country: Option<Country>,
    source: String,
}

impl Side {
    fn explained(&self) -> Explained<'_> {
        Explained { fields: &self.fields, country: self.country, source: &self.source }
    }
}

/// Step, comparison, level, values, m, u, adjustment, weight, sum so far, probability.
type StepRow =
    (i32, String, Option<String>, Option<String>, Option<String>, Option<f64>, Option<f64>, f64, f64, f64, f64);

#[pg_extern(sql = false)]
fn explain_match(
    source_a: Option<&str>,
    key_a: Option<&str>,
    source_b: Option<&str>,
    key_b: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(step, i32),
            name!(comparison, String),
            name!(level, Option<String>),
            name!(value_a, Option<String>),
            name!(value_b, Option<String>),
            name!(m, Option<f64>),
            name!(u, Option<f64>),
            name!(frequency_adjustment, f64),
            name!(weight, f64),
            name!(cumulative, f64),
            name!(probability, f64),
        ),
    >,
    ErrorReport,
> {
    let a = (required(source_a, "source_a")?, required(key_a, "key_a")?);
    let b = (required(source_b, "source_b")?, required(key_b, "key_b")?);
    Ok(TableIterator::new(as_owner(|| {
        let sources = source::load()?;
        let sources = Sources::of(&sources);
        steps(&stored(a.0, a.1, &sources)?, &stored(b.0, b.1, &sources)?)
    })?))
}

#[pg_extern(sql = false)]
fn explain_match_of_documents(
    record_a: Option<JsonB>,
    record_b: Option<JsonB>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(step, i32),
            name!(comparison, String),
            name!(level, Option<String>),
            name!(value_a, Option<String>),
            name!(value_b, Option<String>),
            name!(m, Option<f64>),
            name!(u, Option<f64>),
            name!(frequency_adjustment, f64),
            name!(weight, f64),
            name!(cumulative, f64),
            name!(probability, f64),
        ),
    >,
    ErrorReport,
> {
    let (JsonB(a), JsonB(b)) = (required(record_a, "record_a")?, required(record_b, "record_b")?);
    Ok(TableIterator::new(as_owner(|| {
        // Documents are read as in the primary source.
        let country = source::load()?.first().and_then(|primary| primary.default_country);
        let shown = |document| {
            Ok::<_, Error>(Side { fields: Fields::from_json(document)?, country, source: ONLINE.to_owned() })
        };
        steps(&shown(&a)?, &shown(&b)?)
    })?))
}

/// A record as the last run read it.
fn stored(name: &str, key: &str, sources: &Sources<'_>) -> Result<Side> {
    let Some(number) = sources.number(name) else { return Err(source::unknown(name)?) };
    let mut fields = None;
    scan::by_key(
        "SELECT f.fields FROM decisioning._record r
         JOIN decisioning._record_field f ON f.record_number = r.record_number
         WHERE r.source = $1 AND r.record_key = $2",
        &[name.into(), key.into()],
        |row| {
            if let Some(document) = row.bytes(0)? {
                let mut read = Fields::new();
                field::read(document, &mut read)?;
                fields = Some(read);
            }
            Ok(())
        },
    )?;
    let fields = fields.ok_or_else(|| {
        Error::missing(format!("source \"{name}\" has no record \"{key}\""))
            .hint("Records are known from the last CALL decisioning.resolve_all() on.")
    })?;
    Ok(Side { fields, country: sources.country(number), source: name.to_owned() })
}

fn steps(a: &Side, b: &Side) -> Result<Vec<StepRow>> {
    let model = model::load()?.ok_or_else(|| {
        Error::state("nothing was trained yet").hint(
            "CALL decisioning.resolve_all() trains once sources have names, birth dates, addresses, companies or texts.",
        )
    })?;
    let (match_rules, nicknames) = (rules::load()?, rules::nicknames()?);
    let frequencies = {
        let mut records = Records::with(match_rules.clone(), &["a", "b"], nicknames.clone())?;
        let mut values = Vec::new();
        for (number, side) in [a, b].into_iter().enumerate() {
            let record = records.add(number as u16, "")?;
            records.describe(record, &side.fields, side.country)?;
            let of_record = records.attribute_values(record).into_iter();
            values.extend(of_record.map(|(attribute, value)| (attribute, value.to_owned())));
        }
        model::frequencies_of(&values)?
    };
    let steps = explain(a.explained(), b.explained(), &match_rules, &nicknames, &model.parameters, &frequencies)?;
    let rows = steps.into_iter().zip(1..).map(|(step, number)| {
        (
            number,
            step.comparison.to_owned(),
            Some(step.level.to_owned()).filter(|level| !level.is_empty()),
            step.left,
            step.right,
            step.m,
            step.u,
            step.tf_adjustment,
            step.weight,
            step.cumulative,
            probability_of(step.cumulative),
        )
    });
    Ok(rows.collect())
}

#[pg_extern(sql = false)]
fn _normalised(
    source: Option<&str>,
    fields: Option<JsonB>,
) -> std::result::Result<TableIterator<'static, (name!(comparison, String), name!(value, String))>, ErrorReport> {
    let (name, JsonB(fields)) = (required(source, "source")?, required(fields, "fields")?);
    Ok(TableIterator::new(as_owner(|| {
        let sources = source::load()?;
        let country = {
            let sources = Sources::of(&sources);
            sources.number(name).and_then(|number| sources.country(number))
        };
        spelt(&Fields::from_json(&fields)?, country, &rules::load()?)
    })?))
}

/// Values in the spelling that is compared, under what they are compared as.
fn spelt(fields: &Fields, country: Option<Country>, rules: &Rules) -> Result<Vec<(String, String)>> {
    use decisioning_core::identity::Standing;
    let country = fields.get(&FieldKind::Country).and_then(|country| country.parse().ok()).or(country);
    let mut values = Vec::new();
    for (kind, raw) in fields.iter() {
        match kind {
            FieldKind::Identifier(identifier) => {
                let value = rules.normalise(identifier.kind, raw, country);
                let counts = |value: &String| rules.standing(identifier, value) != Standing::Blocked;
                values.extend(value.filter(counts).map(|value| (identifier.to_string(), value)));
            }
            kind => values.extend(
                normalised(kind, raw, country)
                    .into_iter()
                    .map(|(attribute, value)| (attribute.name().to_owned(), value)),
            ),
        }
    }
    Ok(values)
}
