//! The customers relation, read in place with the caller's rights.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use decisioning_core::features::{Declared, Encoder, FeatureKind, Observation, Value};
use serde::ser::{SerializeMap, Serializer};
use serde_json::Map;

use super::campaign::{Campaign, Edition};
use super::model;
use crate::pg::error::{Error, Result};
use crate::pg::guard::for_texts;
use crate::pg::query::{self, Cursor, Row};
use crate::pg::relation::{check_condition, quote_identifier, Column, ColumnKind, RelationName};
use crate::pg::{datum, jsonb};

/// Rows per fetch when the whole audience is read.
const FETCH: usize = 10_000;

/// Text longer than this is cut before it is compared with known categories.
const TEXT_LENGTH: usize = 200;

/// One customer as the relation has it.
pub struct Customer {
    pub customer_id: String,
    pub in_audience: bool,
    pub time_zone: Option<String>,
    pub household: Option<String>,
    pub jurisdiction: Option<String>,
    pub locale: Option<String>,
    /// What guardrails ask of the relation, in their order.
    pub flags: Vec<bool>,
    pub observation: Observation,
}

/// How features are read: one result column each, a number or a text.
struct Reading {
    /// The columns as SQL, each after a comma.
    columns: String,
    /// For each feature, whether it is a number.
    numeric: Vec<bool>,
    /// Features that the relation no longer provides as they were.
    lost: Vec<String>,
}

impl Reading {
    /// Expressions for `features` over columns as they are now. `now` is the SQL that ages are counted to.
    fn new(features: &[(String, Declared)], columns: &[Column], now: &str) -> Self {
        let (mut selected, mut numeric, mut lost) = (String::new(), Vec::new(), Vec::new());
        for (name, declared) in features {
            let column = columns.iter().find(|column| column.name == *name);
            let type_name = column.map(|column| column.type_name.as_str());
            let quoted = format!("relation.{}", quote_identifier(name));
            let age = |at: &str| {
                format!(
                    "CASE WHEN pg_catalog.isfinite({at})
                     THEN pg_catalog.date_part('epoch', {now} OPERATOR(pg_catalog.-) {at}) OPERATOR(pg_catalog./) 86400.0::float8 END"
                )
            };
            let read = match (declared, column.map(|column| column.kind)) {
                (Declared::Numeric | Declared::Offset(_), Some(ColumnKind::Numeric)) => match type_name {
                    Some("smallint" | "integer" | "bigint" | "double precision") => Some(quoted),
                    // Others by way of numeric: money has no other, and real would not be what it is written as.
                    _ => Some(format!("{quoted}::pg_catalog.numeric")),
                },
                (Declared::Numeric, Some(ColumnKind::Boolean)) | (Declared::Boolean, Some(ColumnKind::Boolean)) => {
                    Some(format!("{quoted}::int::float8"))
                }
                (Declared::Age, Some(ColumnKind::Time)) => Some(age(&quoted)),
                (Declared::Age, Some(ColumnKind::LocalTime)) => {
                    Some(age(&format!("({quoted}::pg_catalog.timestamp AT TIME ZONE 'UTC')")))
                }
                (Declared::Category, Some(ColumnKind::Text | ColumnKind::Boolean)) => {
                    Some(format!("pg_catalog.\"left\"({quoted}::pg_catalog.text, {TEXT_LENGTH})"))
                }
                _ => None,
            };
            if read.is_none() {
                lost.push(name.clone());
            }
            let is_number = *declared != Declared::Category;
            let kind = if is_number { "float8" } else { "text" };
            selected.push_str(&format!(", ({})::pg_catalog.{kind}", read.as_deref().unwrap_or("NULL")));
            numeric.push(is_number);
        }
        Reading { columns: selected, numeric, lost }
    }

    /// Reads the features from column `first` of a result row on.
    fn observation(&self, row: &Row<'_, '_>, first: usize) -> Result<Observation> {
        let value = |(at, numeric): (usize, &bool)| {
            Ok(match numeric {
                true => row.get::<f64>(first + at)?.map_or(Value::Missing, Value::Number),
                false => row.get::<String>(first + at)?.map_or(Value::Missing, Value::Text),
            })
        };
        self.numeric.iter().enumerate().map(value).collect()
    }
}

/// A statement over the customers relation, valid while its columns stay as they were.
struct Statement {
    edition: Edition,
    features: Vec<(String, Declared)>,
    shape: u64,
    /// Of the customer with id $1, at $2.
    one: String,
    /// Of all customers with ids $1.
    many: String,
    reading: Reading,
}

impl Statement {
    /// Versions of an encoder do not tell: a transaction that is rolled back frees its number.
    fn is_of(&self, encoder: &Encoder) -> bool {
        let of_encoder = encoder.features.iter().map(|feature| (&feature.name, model::declaration(&feature.kind)));
        self.features.iter().map(|(name, declared)| (name, *declared)).eq(of_encoder)
    }
}

thread_local! {
    static STATEMENTS: RefCell<HashMap<String, Rc<Statement>>> = RefCell::new(HashMap::new());
}

/// Reads `customer_ids` under an encoder, as the caller. Customers whom the relation does not have are left out.
///
/// A feature whose column was dropped or changed its type is missing, with a warning, until the next `learn` or
/// `rebuild_model` makes an encoder for the columns as they are.
///
/// # Errors
/// The relation or its key is gone, or it has several rows for one customer.
pub fn read_customers(
    campaign: &Campaign,
    encoder: &Encoder,
    customer_ids: &[String],
    now: pgrx::datum::TimestampWithTimeZone,
) -> Result<HashMap<String, Customer>> {
    let statement = statement(campaign, encoder)?;
    let mut customers = HashMap::with_capacity(customer_ids.len());
    let decode = |row: &Row<'_, '_>| {
        Ok(Customer {
            customer_id: row.value(1)?,
            in_audience: row.value(2)?,
            time_zone: row.get(3)?,
            household: row.get(4)?,
            jurisdiction: row.get(5)?,
            locale: row.get(6)?,
            flags: row.get::<Vec<bool>>(7)?.unwrap_or_default(),
            observation: statement.reading.observation(row, 8)?,
        })
    };
    // For one customer planning would cost more than reading; for many it pays.
    let rows = for_texts(|| match customer_ids {
        [id] => query::read_by_kept_plan(&statement.one, &[id.as_str().into(), now.into()], decode),
        _ => query::read(&statement.many, &[customer_ids.to_vec().into(), now.into()], decode),
    })?;
    for customer in rows {
        if let Some(twice) = customers.insert(customer.customer_id.clone(), customer) {
            return Err(Error::new(
                pgrx::PgSqlErrorCode::ERRCODE_CARDINALITY_VIOLATION,
                format!(
                    "{} has more than one row for customer \"{}\"",
                    campaign.customers().quoted(),
                    twice.customer_id
                ),
            )
            .hint("The customers relation must have one row per customer: aggregate it or add a filter."));
        }
    }
    Ok(customers)
}

fn statement(campaign: &Campaign, encoder: &Encoder) -> Result<Rc<Statement>> {
    let relation = campaign.customers();
    let shape = relation.shape();
    let cached = STATEMENTS.with_borrow(|statements| statements.get(&campaign.campaign).cloned());
    if let Some(statement) = cached {
        if statement.edition == campaign.edition && statement.is_of(encoder) && Some(statement.shape) == shape {
            return Ok(statement);
        }
    }
    let columns = relation.columns()?;
    let key = relation.column(&columns, &campaign.customer_key)?;
    let features: Vec<(String, Declared)> =
        encoder.features.iter().map(|feature| (feature.name.clone(), model::declaration(&feature.kind))).collect();
    let reading = Reading::new(&features, &columns, "$2");
    if !reading.lost.is_empty() {
        pgrx::warning!(
            "{} no longer has, or has with another type: {}; treated as missing until decisioning.learn adapts the model",
            relation.quoted(),
            reading.lost.join(", ")
        );
    }
    let text = |column: &Option<String>| -> Result<String> {
        Ok(match column {
            Some(column) => relation.column(&columns, column)?.text("relation"),
            None => "NULL::text".to_owned(),
        })
    };
    let (zone, household) = (text(&campaign.time_zone_column)?, text(&campaign.household_column)?);
    let (jurisdiction, locale) = (text(&campaign.jurisdiction_column)?, text(&campaign.locale_column)?);
    let flags = match campaign.guardrails.flags.as_slice() {
        [] => "NULL::pg_catalog.bool[]".to_owned(),
        flags => {
            let each = flags.iter().map(|flag| format!("(\n{}\n) IS TRUE", flag.condition));
            format!("ARRAY[{}]", each.collect::<Vec<_>>().join(", "))
        }
    };
    check_conditions(campaign)?;
    let audience = audience_of(campaign, &columns)?;
    let sql = |condition: String| {
        format!(
            "SELECT {}, (\n{}\n) IS TRUE, {zone}, {household}, {jurisdiction}, {locale}, {flags}{} FROM {} AS relation
             WHERE {}",
            key.text("relation"),
            audience,
            reading.columns,
            relation.quoted(),
            key.equals("relation", &condition),
        )
    };
    let statement = Rc::new(Statement {
        edition: campaign.edition.clone(),
        features,
        shape: shape.unwrap_or_default(),
        one: sql(format!("$1::pg_catalog.text::{}", key.type_name)),
        many: sql(format!("ANY ($1::pg_catalog.text[]::{}[])", key.type_name)),
        reading,
    });
    STATEMENTS.with_borrow_mut(|statements| statements.insert(campaign.campaign.clone(), statement.clone()));
    Ok(statement)
}

/// Conditions over the customers relation that deciding reads, and what they are.
pub fn conditions(campaign: &Campaign) -> impl Iterator<Item = (String, &str)> {
    let audience = campaign.audience.as_deref().map(|audience| ("audience", audience));
    let flags = campaign.guardrails.flags.iter().map(|flag| (flag.name.as_str(), flag.condition.as_str()));
    audience
        .into_iter()
        .chain(flags)
        .map(|(name, condition)| (format!("the {name} of campaign \"{}\"", campaign.campaign), condition))
}

/// # Errors
/// The first of the conditions that the customers relation has no answer to, as it is now.
fn check_conditions(campaign: &Campaign) -> Result<()> {
    conditions(campaign).try_for_each(|(name, condition)| check_condition(&campaign.customers(), condition, &name))
}

/// Who is decided for, as SQL over the customers relation: the audience, but those who have not consented to be profiled.
fn audience_of(campaign: &Campaign, columns: &[Column]) -> Result<String> {
    let audience = campaign.audience.as_deref().unwrap_or("true");
    Ok(match &campaign.profiling_column {
        None => audience.to_owned(),
        Some(consent) => {
            let consent = quote_identifier(&campaign.customers().column(columns, consent)?.name);
            format!("(\n{audience}\n) AND relation.{consent} IS TRUE")
        }
    })
}

/// How many customers the audience has, and their ids in bytewise order. Runs as the caller.
pub fn audience(campaign: &Campaign) -> Result<(i64, Cursor)> {
    let relation = campaign.customers();
    let columns = relation.columns()?;
    let key = relation.column(&columns, &campaign.customer_key)?;
    check_conditions(campaign)?;
    let audience = format!(
        "{} AS relation WHERE relation.{} IS NOT NULL AND (\n{}\n) IS TRUE",
        relation.quoted(),
        quote_identifier(&key.name),
        audience_of(campaign, &columns)?,
    );
    let count = format!("SELECT pg_catalog.count(*) FROM {audience}");
    let customers = query::read_one(&count, &[], |row| row.value(1))?.unwrap_or(0);
    let ids = format!("SELECT {} COLLATE pg_catalog.\"C\" FROM {audience} ORDER BY 1", key.text("relation"));
    Ok((customers, Cursor::open(&ids, &[])?))
}

/// Streams the features of the whole audience, as the caller, with flat memory.
pub fn stream_audience(
    campaign: &Campaign,
    features: &[(String, Declared)],
    mut consume: impl FnMut(Observation),
) -> Result<()> {
    let relation = campaign.customers();
    let columns = relation.columns()?;
    let reading = Reading::new(features, &columns, "$1");
    let sql = format!(
        "SELECT $1::pg_catalog.timestamptz{} FROM {} AS relation WHERE (\n{}\n) IS TRUE",
        reading.columns,
        relation.quoted(),
        audience_of(campaign, &columns)?,
    );
    query::stream(
        &sql,
        &[super::now()?.into()],
        FETCH,
        |row| reading.observation(row, 2),
        |observations| {
            observations.into_iter().for_each(&mut consume);
            Ok(())
        },
    )
}

/// The features of an encoder over another relation of the user (history to import): result columns over `relation` as SQL,
/// each after a comma, and a reader from the first of them on. Columns that the relation does not have are missing.
pub fn reading_of(
    encoder: &Encoder,
    relation: &RelationName,
    now: &str,
) -> Result<(String, impl Fn(&Row<'_, '_>, usize) -> Result<Observation>)> {
    let features: Vec<(String, Declared)> =
        encoder.features.iter().map(|feature| (feature.name.clone(), model::declaration(&feature.kind))).collect();
    let reading = Reading::new(&features, &relation.columns()?, now);
    Ok((reading.columns.clone(), move |row: &Row<'_, '_>, first| reading.observation(row, first)))
}

/// Lets the caller's context override features by name.
///
/// # Errors
/// A value of the wrong type.
pub fn override_features(
    encoder: &Encoder,
    observation: &mut Observation,
    context: &Map<String, serde_json::Value>,
) -> Result<()> {
    for (feature, value) in encoder.features.iter().zip(observation) {
        let Some(given) = context.get(&feature.name) else { continue };
        let declared = model::declaration(&feature.kind);
        *value = match (declared, given) {
            (_, serde_json::Value::Null) => Value::Missing,
            (Declared::Category, serde_json::Value::String(text)) => {
                Value::Text(text.chars().take(TEXT_LENGTH).collect())
            }
            (Declared::Boolean, serde_json::Value::Bool(flag)) => Value::Number(f64::from(u8::from(*flag))),
            (Declared::Numeric | Declared::Age | Declared::Offset(_), serde_json::Value::Number(number)) => {
                number.as_f64().map_or(Value::Missing, Value::Number)
            }
            _ => {
                let wanted = match declared {
                    Declared::Category => "text",
                    Declared::Boolean => "true or false",
                    Declared::Numeric | Declared::Offset(_) => "a number",
                    Declared::Age => "an age in days",
                };
                return Err(Error::invalid(format!("context value of \"{}\" must be {wanted}", feature.name))
                    .detail(format!("Given: {given}.")));
            }
        };
    }
    Ok(())
}

/// The context as logged, as JSON: every feature by name, and what else the caller said.
pub fn document(
    encoder: &Encoder,
    observation: &[Value],
    context: Option<&Map<String, serde_json::Value>>,
) -> Result<String> {
    let mut text = Vec::with_capacity(32 * observation.len());
    let mut serializer = serde_json::Serializer::new(&mut text);
    let mut document = serializer.serialize_map(None)?;
    for (feature, value) in encoder.features.iter().zip(observation) {
        match value {
            Value::Missing => document.serialize_entry(&feature.name, &())?,
            Value::Number(x) if matches!(feature.kind, FeatureKind::Boolean) => {
                document.serialize_entry(&feature.name, &(*x != 0.0))?
            }
            Value::Number(x) => document.serialize_entry(&feature.name, x)?,
            Value::Text(text) => document.serialize_entry(&feature.name, text)?,
        }
    }
    let is_feature = |name: &str| encoder.features.iter().any(|feature| feature.name == name);
    for (name, value) in context.into_iter().flatten().filter(|(name, _)| !is_feature(name)) {
        document.serialize_entry(name, value)?;
    }
    document.end()?;
    String::from_utf8(text).map_err(|_| Error::corrupted("a context is not text"))
}

/// The context as logged, on its way there.
pub enum Context {
    Features(Observation),
    /// With something else, as JSON.
    Document(String),
}

impl Context {
    pub fn new(
        encoder: &Encoder,
        observation: Observation,
        context: Option<&Map<String, serde_json::Value>>,
    ) -> Result<Self> {
        let is_feature = |name: &String| encoder.features.iter().any(|feature| feature.name == *name);
        match context {
            Some(given) if !given.keys().all(is_feature) => {
                Ok(Context::Document(document(encoder, &observation, context)?))
            }
            _ => Ok(Context::Features(observation)),
        }
    }

    /// As jsonb, to be made on any thread. Runs under the encoder that it was made with.
    pub fn written(&self, encoder: &Encoder) -> Result<Written> {
        let observation = match self {
            Context::Features(observation) => observation,
            Context::Document(document) => return Ok(Written::Text(document.clone())),
        };
        let members = encoder.features.iter().zip(observation).map(|(feature, value)| {
            let value = match value {
                Value::Missing => jsonb::Value::Null,
                Value::Number(x) if matches!(feature.kind, FeatureKind::Boolean) => jsonb::Value::Bool(*x != 0.0),
                Value::Number(x) => jsonb::Value::Number(*x),
                Value::Text(text) => jsonb::Value::Text(text),
            };
            (feature.name.as_str(), value)
        });
        Ok(Written::Stored(jsonb::object(&mut members.collect::<Vec<_>>())?))
    }
}

/// A context as it is logged.
pub enum Written {
    /// As jsonb is stored.
    Stored(Vec<u8>),
    /// As text, for Postgres to parse.
    Text(String),
}

impl Written {
    /// In the current memory context.
    pub fn to_datum(&self) -> Result<pgrx::pg_sys::Datum> {
        match self {
            Written::Stored(bytes) => datum::varlena(bytes),
            Written::Text(document) => datum::jsonb(document),
        }
    }
}

/// Reads a logged context back under an encoder, which may be another than the one it was logged with.
pub fn from_document(encoder: &Encoder, document: &str) -> Result<Observation> {
    let document: Map<String, serde_json::Value> = serde_json::from_str(document)?;
    Ok(encoder
        .features
        .iter()
        .map(|feature| match (model::declaration(&feature.kind), document.get(&feature.name)) {
            (Declared::Category, Some(serde_json::Value::String(text))) => Value::Text(text.clone()),
            (Declared::Numeric | Declared::Age | Declared::Offset(_), Some(serde_json::Value::Number(number))) => {
                number.as_f64().map_or(Value::Missing, Value::Number)
            }
            (Declared::Numeric | Declared::Boolean, Some(serde_json::Value::Bool(flag))) => {
                Value::Number(f64::from(u8::from(*flag)))
            }
            (Declared::Boolean, Some(serde_json::Value::Number(number))) => {
                number.as_f64().map_or(Value::Missing, |number| Value::Number(f64::from(u8::from(number != 0.0))))
            }
            (Declared::Category, Some(serde_json::Value::Bool(flag))) => Value::Text(flag.to_string()),
            _ => Value::Missing,
        })
        .collect())
}
