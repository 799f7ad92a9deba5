//! Rows of the configuration tables as JSON, by section. Runs as the owner, under the settings for documents.

use std::collections::BTreeMap;

use pgrx::JsonB;
use serde_json::{Map, Value};

use super::registry::{Section, OMITTED};
use crate::pg::error::Result;
use crate::pg::query;

/// A row by its columns.
pub type Row = Map<String, Value>;
/// Rows by what identifies them within their section.
pub type Rows = BTreeMap<String, Row>;

/// A column that people declare.
pub struct Column {
    pub name: String,
    /// Whether a row needs a value that has no default.
    pub required: bool,
    pub default: Value,
}

/// The declared columns of a section with their defaults, as the catalogue has them.
pub fn columns(section: &Section) -> Result<Vec<Column>> {
    let found = query::read(
        "SELECT a.attname::text, a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
         FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = ('decisioning.' || quote_ident($1))::regclass AND a.attnum > 0 AND NOT a.attisdropped
           AND a.attgenerated = '' ORDER BY a.attnum",
        &[section.table.into()],
        |row| Ok((row.value::<String>(1)?, row.value::<bool>(2)?, row.get::<String>(3)?)),
    )?;
    let mut columns = Vec::new();
    for (name, not_null, expression) in found {
        if OMITTED.contains(&name.as_str()) || section.omitted.contains(&name.as_str()) {
            continue;
        }
        let default = match &expression {
            None => Value::Null,
            Some(expression) => {
                query::read_one(&format!("SELECT to_jsonb({expression})"), &[], |row| row.value::<JsonB>(1))?
                    .map_or(Value::Null, |json| json.0)
            }
        };
        columns.push(Column { required: not_null && expression.is_none(), name, default });
    }
    Ok(columns)
}

/// What identifies a row: its key columns in order.
pub fn identity(section: &Section, row: &Row) -> String {
    let key: Vec<&Value> = section.key.iter().map(|column| row.get(*column).unwrap_or(&Value::Null)).collect();
    serde_json::json!(key).to_string()
}

/// The key columns of a row alone, to find it by.
pub fn key(section: &Section, row: &Row) -> Value {
    section.key.iter().map(|column| (*column, row.get(*column).cloned().unwrap_or(Value::Null))).collect()
}

/// Where a row stands in a document.
pub fn path(section: &Section, row: &Row) -> String {
    let key: Vec<&str> = section.key.iter().filter_map(|column| row.get(*column).and_then(Value::as_str)).collect();
    if key.is_empty() {
        section.name.to_owned()
    } else {
        format!("{}.{}", section.name, key.join(" "))
    }
}

/// The rows of a section that belong to a campaign, or all rows of a table that campaigns share.
pub fn read(section: &Section, campaign: &str, all: bool) -> Result<Rows> {
    let scope = if all { "$1::text IS NOT NULL" } else { section.scope };
    let rows = query::read(
        &format!("SELECT to_jsonb(t) FROM decisioning.{} AS t WHERE {scope}", section.table),
        &[campaign.into()],
        |row| row.value::<JsonB>(1),
    )?;
    let objects = rows.into_iter().filter_map(|json| match json.0 {
        Value::Object(row) => Some(row),
        _ => None,
    });
    Ok(objects.map(|row| (identity(section, &row), row)).collect())
}

/// A row as the table would have it: values of the types of its columns, and defaults where nothing is given.
pub fn canonical(section: &Section, columns: &[Column], mut given: Row) -> Result<Row> {
    for column in columns {
        given.entry(column.name.clone()).or_insert_with(|| column.default.clone());
    }
    let json = query::read_one(
        &format!("SELECT to_jsonb(jsonb_populate_record(NULL::decisioning.{}, $1))", section.table),
        &[JsonB(Value::Object(given)).into()],
        |row| row.value::<JsonB>(1),
    )?;
    let mut row = match json.map(|json| json.0) {
        Some(Value::Object(row)) => row,
        _ => Row::new(),
    };
    row.retain(|name, _| columns.iter().any(|column| column.name == *name));
    // Days are set in lower case.
    if let Some(Value::Array(days)) = row.get_mut("weekdays") {
        for day in days {
            *day = day.as_str().map_or(Value::Null, |day| day.to_lowercase().into());
        }
    }
    Ok(row)
}
