//! The form of a document: sections, names, "schema.name" for relations, and nothing that is a default.

use serde_json::{Map, Value};

use super::registry::{Form, Section, SECTIONS};
use super::rows::{self, Column, Row};
use crate::pg::error::{Error, Result};
use crate::pg::query;
use crate::pg::relation::RelationName;

/// A document that was read: the rows of each section that it has, by its keys and not yet of the types of the columns.
pub struct Document {
    pub campaign: String,
    pub sections: Vec<(&'static Section, Vec<Row>)>,
}

/// Checks the form; what the rows say is checked when they are applied.
///
/// # Errors
/// Not an object, no campaign, unknown keys.
pub fn parse(document: Value) -> Result<Document> {
    let Value::Object(mut document) = document else {
        return Err(Error::invalid("a document must be an object")
            .hint("decisioning.export_configuration(campaign) shows what one looks like."));
    };
    let campaign = match document.remove("campaign") {
        Some(Value::String(campaign)) => campaign,
        _ => {
            return Err(Error::invalid("a document must name its campaign")
                .hint("For example {\"campaign\": \"winback\", \"settings\": {…}}."))
        }
    };
    let mut sections = Vec::new();
    for section in &SECTIONS {
        if let Some(value) = document.remove(section.name) {
            sections.push((section, rows_of(section, value)?));
        }
    }
    match document.keys().next() {
        Some(name) => Err(unknown(name, SECTIONS.iter().map(|section| section.name.to_owned()))),
        None => Ok(Document { campaign, sections }),
    }
}

fn unknown(path: &str, known: impl Iterator<Item = String>) -> Error {
    Error::invalid(format!("unknown key \"{path}\" in the document"))
        .hint(format!("Known are: {}.", known.collect::<Vec<_>>().join(", ")))
}

fn no_object(path: &str) -> Error {
    Error::invalid(format!("\"{path}\" in the document must be an object"))
        .hint("decisioning.export_configuration(campaign) shows what a section looks like.")
}

fn rows_of(section: &Section, value: Value) -> Result<Vec<Row>> {
    match (section.form, value) {
        (Form::Single, Value::Object(row)) => Ok(vec![row]),
        (Form::Named, Value::Object(named)) => {
            let row = |(name, value)| match value {
                Value::Object(mut row) => {
                    let key = section.key.first().copied().unwrap_or_default();
                    match row.insert(key.to_owned(), Value::String(name)) {
                        None => Ok(row),
                        Some(_) => {
                            Err(Error::invalid(format!("unknown key \"{}.{key}\" in the document", section.name))
                                .hint("The name of a row is the key it stands under."))
                        }
                    }
                }
                _ => Err(no_object(&format!("{}.{name}", section.name))),
            };
            named.into_iter().map(row).collect()
        }
        (Form::List, Value::Array(list)) => {
            let row = |value| match value {
                Value::Object(row) => Ok(row),
                _ => Err(no_object(&format!("{}[]", section.name))),
            };
            list.into_iter().map(row).collect()
        }
        (Form::List, _) => Err(Error::invalid(format!("\"{}\" in the document must be a list", section.name))
            .hint("Its rows have no names: write [{…}, {…}].")),
        _ => Err(no_object(section.name)),
    }
}

/// The row of a table that a row of a document means. Runs as the owner.
///
/// # Errors
/// Unknown keys, values that are missing, values of another type.
pub fn table_row(section: &Section, columns: &[Column], mut given: Row) -> Result<Row> {
    let path = rows::path(section, &given);
    let is_hidden = |name: &str| section.relation.is_some_and(|relation| relation.columns.contains(&name));
    let known = |name: &str| columns.iter().any(|column| column.name == name && !is_hidden(name));
    let relation_name = section.relation.map(|relation| relation.name);
    if let Some(name) = given.keys().find(|name| !known(name) && relation_name != Some(name.as_str())) {
        let hidden_key = (section.form == Form::Named).then(|| section.key.first().copied().unwrap_or_default());
        let names = columns.iter().map(|column| column.name.as_str());
        let names = names.filter(|name| !is_hidden(name) && hidden_key != Some(*name)).chain(relation_name);
        return Err(unknown(&format!("{path}.{name}"), names.map(str::to_owned)));
    }
    let missing = |name: &str| Error::invalid(format!("\"{path}.{name}\" is missing in the document"));
    if let Some(relation) = section.relation {
        let Some(Value::String(text)) = given.remove(relation.name) else {
            return Err(missing(relation.name).hint("Give it as \"schema.name\"."));
        };
        let parts = query::read_one("SELECT parse_ident($1)", &[text.as_str().into()], |row| {
            row.value::<Vec<Option<String>>>(1)
        })?;
        let parts: Vec<String> = parts.into_iter().flatten().flatten().collect();
        if parts.len() != 2 {
            return Err(Error::invalid(format!("\"{path}.{}\" must name a schema and a relation", relation.name))
                .detail(format!("Given: {text}."))
                .hint("Give it as \"schema.name\"."));
        }
        for (column, part) in relation.columns.into_iter().zip(parts) {
            given.insert(column.to_owned(), part.into());
        }
    }
    for column in columns.iter().filter(|column| column.required) {
        if given.get(&column.name).is_none_or(Value::is_null) {
            return Err(missing(&column.name).hint("It has no default."));
        }
    }
    rows::canonical(section, columns, given)
}

/// A row of a table as a document has it, in full.
pub fn document_row(section: &Section, columns: &[Column], row: &Row) -> Row {
    let declared = |name: &str| columns.iter().any(|column| column.name == name) || section.shown.contains(&name);
    let mut written: Row =
        row.iter().filter(|(name, _)| declared(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(relation) = section.relation {
        let [schema, name] = relation.columns.map(|column| match written.remove(column) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        });
        written.insert(relation.name.to_owned(), RelationName { schema, name }.quoted().into());
    }
    written
}

/// The document of a campaign. Runs as the owner.
pub fn write(campaign: &str) -> Result<Map<String, Value>> {
    let mut document = Map::new();
    document.insert("campaign".to_owned(), campaign.into());
    for section in &SECTIONS {
        let columns = rows::columns(section)?;
        let (mut named, mut list) = (Map::new(), Vec::new());
        for row in rows::read(section, campaign, false)?.values() {
            let mut written = document_row(section, &columns, row);
            written.retain(|name, value| {
                let default = columns.iter().find(|column| column.name == *name).map(|column| &column.default);
                !section.shown.contains(&name.as_str()) && default != Some(value)
            });
            match section.form {
                Form::Single => named = written,
                Form::Named => {
                    let key = section.key.first().and_then(|key| written.remove(*key));
                    named.insert(key.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(), written.into());
                }
                Form::List => list.push(Value::Object(written)),
            }
        }
        let value = if section.form == Form::List { Value::Array(list) } else { Value::Object(named) };
        document.insert(section.name.to_owned(), value);
    }
    Ok(document)
}
