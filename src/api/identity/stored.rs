//! Records as they are kept, read back for matching.

use std::collections::HashMap;

use decisioning_core::identity::{Country, Fields, Matching, Records, SourceNumber, ONLINE};

use super::source::{self, Source};
use super::{field, rules};
use crate::pg::error::{Error, Result};
use crate::pg::{query, scan};

/// Rows per fetch and statement.
const CHUNK: usize = 10_000;

/// A record as it is kept.
pub struct Stored {
    pub source: SourceNumber,
    pub key: String,
    /// Canonical id after the last run; `None` for a record that is new.
    pub customer_id: Option<String>,
    pub fields: Fields,
}

/// The sources by number: the user's, in order, and the built-in one.
pub struct Sources<'a> {
    names: Vec<&'a str>,
    countries: Vec<Option<Country>>,
    numbers: HashMap<&'a str, SourceNumber>,
}

impl<'a> Sources<'a> {
    pub fn of(sources: &'a [Source]) -> Self {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).chain([ONLINE]).collect();
        // What is shown online is read as in the primary source.
        let online = sources.first().and_then(|source| source.default_country);
        let countries = sources.iter().map(|source| source.default_country).chain([online]).collect();
        let numbers = names.iter().enumerate().map(|(number, name)| (*name, number as SourceNumber)).collect();
        Sources { names, countries, numbers }
    }

    pub fn names(&self) -> &[&'a str] {
        &self.names
    }

    pub fn name(&self, number: SourceNumber) -> &'a str {
        self.names[usize::from(number)]
    }

    pub fn country(&self, number: SourceNumber) -> Option<Country> {
        self.countries[usize::from(number)]
    }

    /// `None` for a source that was removed.
    pub fn number(&self, name: &str) -> Option<SourceNumber> {
        self.numbers.get(name).copied()
    }
}

/// Everything that is kept. Runs as the owner.
pub fn all() -> Result<Matching> {
    let sources = source::load()?;
    let sources = Sources::of(&sources);
    let mut records = Records::with(rules::load()?, sources.names(), rules::nicknames()?)?;
    let mut fields = Fields::new();
    scan::scan(
        "SELECT r.source, r.record_key, f.fields FROM decisioning._record r
         JOIN decisioning._record_field f ON f.record_number = r.record_number",
        &[],
        CHUNK,
        |row| {
            let (Some(source), Some(key), Some(document)) = (row.text(0)?, row.text(1)?, row.bytes(2)?) else {
                return Err(Error::corrupted("a record has no key"));
            };
            if let Some(number) = sources.number(source) {
                field::read(document, &mut fields)?;
                let record = records.add(number, key)?;
                records.describe(record, &fields, sources.country(number))?;
            }
            Ok(())
        },
        || Ok(()),
    )?;
    Ok(Matching::new(records)?)
}

/// Adds the records with these numbers to `into`. Runs as the owner.
pub fn load(record_numbers: &[i64], sources: &Sources<'_>, into: &mut HashMap<i64, Stored>) -> Result<()> {
    let mut record_numbers = record_numbers.to_vec();
    record_numbers.sort_unstable();
    for chunk in record_numbers.chunks(CHUNK) {
        scan::by_key(
            "SELECT r.record_number, r.source, r.record_key, r.customer_id, f.fields
             FROM unnest($1::bigint[]) AS n(record_number)
             CROSS JOIN LATERAL (SELECT r.* FROM decisioning._record r
                                 WHERE r.record_number = n.record_number OFFSET 0) AS r
             CROSS JOIN LATERAL (SELECT f.fields FROM decisioning._record_field f
                                 WHERE f.record_number = n.record_number OFFSET 0) AS f",
            &[chunk.to_vec().into()],
            |row| {
                let (Some(number), Some(source), Some(key), Some(customer), Some(document)) =
                    (row.number(0)?, row.text(1)?, row.text(2)?, row.text(3)?, row.bytes(4)?)
                else {
                    return Err(Error::corrupted("a record has no key"));
                };
                if let Some(source) = sources.number(source) {
                    let mut fields = Fields::new();
                    field::read(document, &mut fields)?;
                    let customer_id = Some(customer.to_owned());
                    into.insert(number, Stored { source, key: key.to_owned(), customer_id, fields });
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// Numbers of the records of customers. Runs as the owner.
pub fn members(customer_ids: &[String]) -> Result<Vec<i64>> {
    let mut members = Vec::new();
    for chunk in customer_ids.chunks(CHUNK) {
        members.extend(query::read(
            "SELECT r.record_number FROM unnest($1::text[]) AS n(customer_id)
             CROSS JOIN LATERAL (SELECT r.record_number FROM decisioning._record r
                                 WHERE r.customer_id = n.customer_id OFFSET 0) AS r",
            &[chunk.to_vec().into()],
            |row| row.value::<i64>(1),
        )?);
    }
    Ok(members)
}

/// Who holds normalised identifiers, each as kind and value: customers, `None` for nobody. Runs as the owner.
pub fn owners(identifiers: &[(String, String)]) -> Result<HashMap<(String, String), Option<String>>> {
    let mut owners = HashMap::new();
    for chunk in identifiers.chunks(CHUNK) {
        let kinds: Vec<&str> = chunk.iter().map(|identifier| identifier.0.as_str()).collect();
        let values: Vec<&str> = chunk.iter().map(|identifier| identifier.1.as_str()).collect();
        owners.extend(query::read(
            "SELECT u.kind, u.value, i.customer_id FROM unnest($1::text[], $2::text[]) AS u (kind, value)
             CROSS JOIN LATERAL (SELECT i.customer_id FROM decisioning._identifier i
                                 WHERE i.kind = u.kind AND i.value = u.value OFFSET 0) AS i",
            &[kinds.into(), values.into()],
            |row| Ok(((row.value::<String>(1)?, row.value::<String>(2)?), row.get::<String>(3)?)),
        )?);
    }
    Ok(owners)
}

/// Customers who are called one of these. Runs as the owner.
pub fn customers_called(ids: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for ids in ids.chunks(CHUNK) {
        found.extend(query::read(
            "SELECT DISTINCT r.customer_id FROM decisioning._record r WHERE r.customer_id = ANY ($1)",
            &[ids.to_vec().into()],
            |row| row.value::<String>(1),
        )?);
    }
    Ok(found)
}
