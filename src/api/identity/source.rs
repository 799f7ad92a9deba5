//! Sources: the user's tables of persons, read in place.

use decisioning_core::identity::{Country, FieldKind, ONLINE};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::Value;

use super::kind_of;
use crate::api::now;
use crate::api::source::check_lookback;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use crate::pg::relation::{Column, ColumnKind, RelationName};

/// One row of decisioning.sources.
pub struct Source {
    pub name: String,
    pub relation: RelationName,
    pub key: String,
    /// Column and kind, in order of the column's name.
    pub fields: Vec<(String, FieldKind)>,
    pub default_country: Option<Country>,
    /// Column with the time of a row's last change.
    pub changed_at: Option<String>,
    /// Read changes from here on, if the run before read up to somewhere that is not still to come: the clock may have been set back.
    pub changed_since: Option<TimestampWithTimeZone>,
}

/// All sources in the order in which they were added. Runs as the owner.
pub fn load() -> Result<Vec<Source>> {
    query::read(
        "SELECT s.source, s.source_schema, s.source_relation, s.record_key, s.fields, s.default_country, s.changed_at,
                CASE WHEN t.changed_until <= $1 THEN t.changed_until - s.lookback END
         FROM decisioning.sources s LEFT JOIN decisioning._source_state t ON t.source = s.source ORDER BY s.position",
        &[now()?.into()],
        |row| {
            let JsonB(fields) = row.value::<JsonB>(5)?;
            let country = row.get::<String>(6)?;
            Ok(Source {
                name: row.value(1)?,
                relation: RelationName { schema: row.value(2)?, name: row.value(3)? },
                key: row.value(4)?,
                fields: parse_fields(&fields)?,
                default_country: country.map(|country| country.parse()).transpose()?,
                changed_at: row.get(7)?,
                changed_since: row.get(8)?,
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
    /// Kinds of its fields.
    pub fn kinds(&self) -> impl Iterator<Item = &FieldKind> {
        self.fields.iter().map(|(_, kind)| kind)
    }

    /// Whether the relation has the columns that are used, with values that make sense as text.
    pub fn check(&self, columns: &[Column]) -> Result<()> {
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
        if let Some(name) = &self.changed_at {
            if !matches!(self.relation.column(columns, name)?.kind, ColumnKind::Time | ColumnKind::LocalTime) {
                return Err(Error::new(
                    PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                    format!("column \"{name}\" of relation {} is not a time", self.relation.quoted()),
                )
                .hint("Name a column of type timestamptz, timestamp or date as changed_at, or none."));
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
    changed_at: Option<&str>,
    lookback: Option<Interval>,
) -> std::result::Result<String, ErrorReport> {
    let JsonB(fields) = required(fields, "fields")?;
    let relation = RelationName::of(required(relation, "relation")?)?;
    let source = Source {
        name: required(source, "source")?.to_owned(),
        relation,
        key: required(key, "key")?.to_owned(),
        fields: parse_fields(&fields)?,
        default_country: default_country.map(str::parse).transpose().map_err(Error::from)?,
        changed_at: changed_at.map(str::to_owned),
        changed_since: None,
    };
    let lookback = required(lookback, "lookback")?;
    check_lookback(lookback, "100 years", "decisioning.resolve_all(full => true) reads everything.")?;
    add(&source, fields, lookback)?;
    Ok(source.name)
}

fn add(source: &Source, fields: Value, lookback: Interval) -> Result<()> {
    if source.name.is_empty() || source.name.len() > 100 || source.name.contains(':') || source.name == ONLINE {
        return Err(Error::invalid(format!("\"{}\" cannot be the name of a source", source.name))
            .detail("Names have 1 to 100 bytes and no colon, because source:key is an id; \"online\" is built in."));
    }
    source.check(&source.relation.columns()?)?;
    as_owner(|| {
        // Two sources added at once shall not both be the first.
        query::execute("LOCK TABLE decisioning.sources IN SHARE ROW EXCLUSIVE MODE", &[])?;
        let added = query::write(
            "INSERT INTO decisioning.sources (source, source_schema, source_relation, record_key, fields, default_country,
                 changed_at, lookback)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (source) DO NOTHING RETURNING source",
            &[
                source.name.as_str().into(),
                source.relation.schema.as_str().into(),
                source.relation.name.as_str().into(),
                source.key.as_str().into(),
                JsonB(fields).into(),
                source.default_country.map(Country::code).into(),
                source.changed_at.as_deref().into(),
                lookback.into(),
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
