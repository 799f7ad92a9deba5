//! Sources: the user's tables of persons, read in place.

use decisioning_core::identity::{normalise, Country, FieldKind, Identifier, Records, SourceNumber, ONLINE};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::Value;

use super::kind_of;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::relation::{quote_identifier, Column, ColumnKind, RelationName};
use crate::pg::{interrupt, query};

/// Rows per fetch.
const FETCH: usize = 10_000;

/// One row of decisioning.sources.
pub struct Source {
    pub name: String,
    relation: RelationName,
    key: String,
    /// Column and kind, in order of the column's name.
    fields: Vec<(String, FieldKind)>,
    pub default_country: Option<Country>,
}

/// What reading a source came to.
pub struct Read {
    pub rows: u64,
    /// Rows without a key: they cannot be referred to.
    pub without_key: u64,
}

/// All sources in the order in which they were added. Runs as the owner.
pub fn load() -> Result<Vec<Source>> {
    query::read(
        "SELECT s.source, s.source_schema, s.source_relation, s.record_key, s.fields, s.default_country
         FROM decisioning.sources s ORDER BY s.position",
        &[],
        |row| {
            let JsonB(fields) = row.value::<JsonB>(5)?;
            let country = row.get::<String>(6)?;
            Ok(Source {
                name: row.value(1)?,
                relation: RelationName { schema: row.value(2)?, name: row.value(3)? },
                key: row.value(4)?,
                fields: parse_fields(&fields)?,
                default_country: country.map(|country| country.parse()).transpose()?,
            })
        },
    )
}

fn parse_fields(document: &Value) -> Result<Vec<(String, FieldKind)>> {
    let Value::Object(fields) = document else {
        return Err(Error::invalid("fields must be a JSON object")
            .hint("Map columns to kinds, such as {\"mail\": \"email\", \"user_id\": \"external_id\"}."));
    };
    fields
        .iter()
        .map(|(column, kind)| match kind {
            Value::String(kind) => Ok((column.clone(), kind_of(kind)?)),
            _ => Err(Error::invalid(format!("kind of field \"{column}\" must be a text"))),
        })
        .collect()
}

impl Source {
    /// Reads the keys and identifiers as the caller.
    ///
    /// # Errors
    /// The relation or one of the columns is gone; a key is too long; the caller may not read it.
    pub fn read(&self, number: SourceNumber, records: &mut Records) -> Result<Read> {
        let columns = self.relation.columns()?;
        self.check(&columns)?;
        let mut selected = vec![format!("r.{}::pg_catalog.text", quote_identifier(&self.key))];
        let mut identifiers: Vec<(Identifier, usize)> = Vec::new();
        let mut country = None;
        for (column, kind) in &self.fields {
            match kind {
                FieldKind::Identifier(identifier) => match records.column(identifier) {
                    Some(number) => identifiers.push((identifier.clone(), number)),
                    None => continue,
                },
                FieldKind::Country => country = Some(selected.len()),
                _ => continue,
            }
            selected.push(format!("r.{}::pg_catalog.text", quote_identifier(column)));
        }
        let width = selected.len();
        let places: Vec<usize> = (1..width).filter(|place| Some(*place) != country).collect();
        let statement = format!("SELECT {} FROM {} AS r", selected.join(", "), self.relation.quoted());

        let mut read = Read { rows: 0, without_key: 0 };
        query::stream(
            &statement,
            &[],
            FETCH,
            |row| (1..=width).map(|ordinal| row.get::<String>(ordinal)).collect::<Result<Vec<_>>>(),
            |rows| {
                interrupt::check();
                for row in rows {
                    let Some(key) = &row[0] else {
                        read.without_key += 1;
                        continue;
                    };
                    read.rows += 1;
                    let record = records.add(number, key).map_err(|error| {
                        Error::from(error).hint(format!("Choose another key column for source \"{}\".", self.name))
                    })?;
                    let own_country = country.and_then(|place| row[place].as_ref()?.parse().ok());
                    let country = own_country.or(self.default_country);
                    for ((identifier, column), place) in identifiers.iter().zip(&places) {
                        let Some(raw) = &row[*place] else { continue };
                        if let Some(value) = normalise(identifier.kind, raw, country) {
                            records.identify(record, *column, &value)?;
                        }
                    }
                }
                Ok(())
            },
        )?;
        Ok(read)
    }

    /// Whether the relation has the columns that are used, with values that make sense as text.
    fn check(&self, columns: &[Column]) -> Result<()> {
        let fields = self.fields.iter().map(|(column, _)| column.as_str());
        for name in std::iter::once(self.key.as_str()).chain(fields) {
            if self.relation.column(columns, name)?.kind == ColumnKind::Other {
                return Err(Error::new(
                    PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                    format!("column \"{name}\" of relation {} cannot be a field", self.relation.quoted()),
                )
                .detail("Keys and fields are texts, numbers, booleans, dates, times and uuids.")
                .hint(format!("Offer it as text in a view, and use the view as source \"{}\".", self.name)));
            }
        }
        Ok(())
    }
}

#[pg_extern(sql = false)]
fn add_source(
    source: Option<&str>,
    relation: Option<pg_sys::Oid>,
    key: Option<&str>,
    fields: Option<JsonB>,
    default_country: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let JsonB(fields) = required(fields, "fields")?;
    let relation = RelationName::of(required(relation, "relation")?)?;
    let source = Source {
        name: required(source, "source")?.to_owned(),
        relation,
        key: required(key, "key")?.to_owned(),
        fields: parse_fields(&fields)?,
        default_country: default_country.map(str::parse).transpose().map_err(Error::from)?,
    };
    add(&source, fields)?;
    Ok(source.name)
}

fn add(source: &Source, fields: Value) -> Result<()> {
    if source.name.is_empty() || source.name.len() > 100 || source.name.contains(':') || source.name == ONLINE {
        return Err(Error::invalid(format!("\"{}\" cannot be the name of a source", source.name))
            .detail("Names have 1 to 100 bytes and no colon, because source:key is an id; \"online\" is built in."));
    }
    source.check(&source.relation.columns()?)?;
    as_owner(|| {
        // Two sources added at once shall not both be the first.
        query::execute("LOCK TABLE decisioning.sources IN SHARE ROW EXCLUSIVE MODE", &[])?;
        let added = query::write(
            "INSERT INTO decisioning.sources (source, source_schema, source_relation, record_key, fields, default_country)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (source) DO NOTHING RETURNING source",
            &[
                source.name.as_str().into(),
                source.relation.schema.as_str().into(),
                source.relation.name.as_str().into(),
                source.key.as_str().into(),
                JsonB(fields).into(),
                source.default_country.map(Country::code).into(),
            ],
            |row| row.value::<String>(1),
        )?;
        if added.is_empty() {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("source \"{}\" already exists", source.name),
            )
            .hint("Remove it with decisioning.remove_source(source), or update its row in decisioning.sources."));
        }
        Ok(())
    })
}

#[pg_extern(sql = false)]
fn remove_source(source: Option<&str>) -> std::result::Result<(), ErrorReport> {
    Ok(remove(required(source, "source")?)?)
}

fn remove(source: &str) -> Result<()> {
    let removed = as_owner(|| {
        query::write(
            "DELETE FROM decisioning.sources s WHERE s.source = $1 RETURNING s.source",
            &[source.into()],
            |row| row.value::<String>(1),
        )
    })?;
    if removed.is_empty() {
        return Err(unknown(source)?);
    }
    Ok(())
}

/// The error for a source that does not exist.
pub fn unknown(source: &str) -> Result<Error> {
    let names: Vec<String> = as_owner(load)?.into_iter().map(|source| source.name).collect();
    let hint = if names.is_empty() {
        "Add it with decisioning.add_source(source, relation, key, fields).".to_owned()
    } else {
        format!("Sources are: {}.", names.join(", "))
    };
    Ok(Error::missing(format!("source \"{source}\" does not exist")).hint(hint))
}
