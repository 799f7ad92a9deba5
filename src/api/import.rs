//! History: decisions that something else made, with the propensities it had.

use std::collections::{HashMap, HashSet};

use decisioning_core::features::Observation;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::Uuid;

use super::campaign::{self, Campaign, Status, NO_SEND};
use super::pipeline::canonical_ids;
use super::{context, model, retention};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use crate::pg::relation::{check_predicate, quote_identifier, ColumnKind, RelationName};
use crate::pg::settings;
use crate::pg::snapshot::latest;

/// Rows per chunk.
const CHUNK: usize = 10_000;

struct Past {
    customer_id: String,
    action: String,
    decided_at: TimestampWithTimeZone,
    propensity: f64,
    overlap: i32,
    observation: Observation,
}

#[pg_extern(sql = false)]
fn import_decisions(
    campaign: Option<&str>,
    relation: Option<pg_sys::Oid>,
    customer_key: Option<&str>,
    action: Option<&str>,
    decided_at: Option<&str>,
    propensity: Option<&str>,
    filter: Option<&str>,
) -> std::result::Result<i64, ErrorReport> {
    let name = required(campaign, "campaign")?;
    let relation = RelationName::of(required(relation, "relation")?)?;
    let customer_key = required(customer_key, "customer_key")?;
    let action = required(action, "action")?;
    let decided_at = required(decided_at, "decided_at")?;
    let propensity = required(propensity, "propensity")?;

    let (campaign, model_version) = as_owner(|| campaign::load(name))?;
    if campaign.status == Status::Ended {
        return Err(Error::state(format!("campaign \"{name}\" has ended")).into());
    }
    if campaign.window_seconds() <= 0.0 {
        return Err(Error::state(format!("campaign \"{name}\" has no goal of kind conversion or value"))
            .hint("Add one with decisioning.add_campaign_goal: its window says when a decision is closed.")
            .into());
    }
    if model_version.is_none() {
        model::initialise(&campaign)?;
    }
    let compiled = as_owner(|| {
        retention::lock_shape()?;
        let (campaign, model_version) = campaign::load(name)?;
        model::current(&campaign, model_version)
    })?;

    let columns = relation.columns()?;
    let column = |name: &str| -> Result<String> {
        Ok(format!("relation.{}", quote_identifier(&relation.column(&columns, name)?.name)))
    };
    let at = match relation.column(&columns, decided_at)?.kind {
        ColumnKind::Time => column(decided_at)?,
        ColumnKind::LocalTime => format!("({}::pg_catalog.timestamp AT TIME ZONE 'UTC')", column(decided_at)?),
        _ => {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column \"{decided_at}\" is not a date or time"),
            )
            .into())
        }
    };
    if relation.column(&columns, propensity)?.kind != ColumnKind::Numeric {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{propensity}\" is not a number"),
        )
        .into());
    }
    if let Some(filter) = filter {
        check_predicate(&relation, filter, "filter", true)?;
    }
    let offset = compiled.model.encoder.offset().map(|feature| feature.name.as_str());
    if let Some(offset) = offset.filter(|name| !columns.iter().any(|column| column.name == *name)) {
        pgrx::warning!("{} has no column \"{offset}\": the offset of its decisions is the median", relation.quoted());
    }
    // Ages are counted to the time of the decision.
    let (features, observation) = context::reading_of(&compiled.model.encoder, &relation, &at)?;
    let key = column(customer_key)?;
    let sql = format!(
        "SELECT {}, {}, {at}, {}::pg_catalog.numeric::float8,
                (pg_catalog.count(*) OVER (PARTITION BY {key} ORDER BY {at}
                    RANGE BETWEEN '{window} seconds'::pg_catalog.interval PRECEDING AND CURRENT ROW))::int{features}
         FROM {} AS relation WHERE (\n{}\n) IS TRUE",
        relation.column(&columns, customer_key)?.text("relation"),
        relation.column(&columns, action)?.text("relation"),
        column(propensity)?,
        relation.quoted(),
        filter.unwrap_or("true"),
        window = campaign.window_seconds(),
    );
    let (mut imported, mut repeated, mut seen) = (0, 0, HashSet::new());
    query::stream(
        &sql,
        &[],
        CHUNK,
        |row| {
            let not_null = |name: &str| {
                Error::new(
                    PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                    format!("column \"{name}\" of {} has a null", relation.quoted()),
                )
                .hint("Leave such rows out with filter.")
            };
            Ok(Past {
                customer_id: row.get(1)?.ok_or_else(|| not_null(customer_key))?,
                action: row.get(2)?.ok_or_else(|| not_null(action))?,
                decided_at: row.get(3)?.ok_or_else(|| not_null(decided_at))?,
                propensity: row.get(4)?.ok_or_else(|| not_null(propensity))?,
                overlap: row.value(5)?,
                observation: observation(row, 6)?,
            })
        },
        |rows| {
            let stored = as_owner(|| store(&campaign, &compiled, rows))?;
            imported += stored.new;
            repeated += stored.ids.into_iter().filter(|id| !seen.insert(*id.as_bytes())).count();
            Ok(())
        },
    )?;
    if repeated > 0 {
        let message = format!("{repeated} rows have the customer and the time of another, and were left out");
        Error::new(PgSqlErrorCode::ERRCODE_WARNING, message)
            .hint("A customer is decided for once at a time: give the time of each decision, not its day, or leave rows out with filter.")
            .warn();
    }
    Ok(imported)
}

/// Decisions that were stored, or are there already.
struct Stored {
    ids: Vec<Uuid>,
    new: i64,
}

/// Runs as the owner.
fn store(campaign: &Campaign, compiled: &model::Compiled, rows: Vec<Past>) -> Result<Stored> {
    let actions: HashMap<&str, i32> = campaign
        .actions
        .iter()
        .map(|action| (action.action.as_str(), action.action_id))
        .chain([(NO_SEND, 0)])
        .collect();
    let encoder = &compiled.model.encoder;
    let customers: Vec<String> = rows.iter().map(|row| row.customer_id.clone()).collect();
    // A run that found nothing to follow in the log waits for us, or we for it.
    query::execute("LOCK TABLE decisioning.campaigns IN ROW EXCLUSIVE MODE", &[])?;
    let canonical = latest(|| canonical_ids(&customers))?;
    let salt = campaign.salt();
    let now_micros = settings::now_micros()?;
    let (mut ids, mut action_ids, mut contexts, mut encoded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (row, customer) in rows.iter().zip(&canonical) {
        let action_id = actions.get(row.action.as_str()).ok_or_else(|| {
            Error::missing(format!("campaign \"{}\" has no action \"{}\"", campaign.campaign, row.action))
                .hint("Add the actions of the past with decisioning.add_action first; no_send is always there.")
        })?;
        if !(row.propensity > 0.0 && row.propensity <= 1.0) {
            return Err(Error::invalid(format!(
                "propensity {} of customer \"{customer}\" is not in (0, 1]",
                row.propensity
            ))
            .hint(
                "It is the probability with which the action was chosen; rows where it is not known cannot be used.",
            ));
        }
        let at = settings::micros(row.decided_at)
            .ok_or_else(|| Error::invalid(format!("decision of customer \"{customer}\" must have a finite time")))?;
        if at > now_micros {
            return Err(Error::invalid(format!("decision of customer \"{customer}\" lies in the future")));
        }
        let millis = u64::try_from(at / 1000).map_err(|_| Error::invalid("decisions before 1970 cannot be logged"))?;
        // The time takes the place of the ordinal, so importing twice gives the same id; negative ones are never live.
        ids.push(Uuid::from_bytes(salt.decision_id(customer, -at, millis)));
        action_ids.push(*action_id);
        contexts.push(context::document(encoder, &row.observation, None)?);
        let start = encoded.len();
        encoded.resize(start + encoder.width(), 0.0);
        encoder.encode(&row.observation, &mut encoded[start..]);
    }
    query::execute(
        "SELECT decisioning._make_partition(m.at)
         FROM (SELECT DISTINCT date_trunc('month', t.at, 'UTC') AS at FROM unnest($1::timestamptz[]) AS t(at)) m",
        &[rows.iter().map(|row| row.decided_at).collect::<Vec<_>>().into()],
    )?;
    let inserted = query::execute(
        "WITH inserted AS (
             INSERT INTO decisioning.decisions (decision_id, customer_id, campaign, treatment_group, action, action_id,
                 propensity, reason, decided_at, origin, ordinal, overlap, epoch, model_version, encoder_version,
                 candidates, propensities, encoded, context)
             SELECT n.decision_id, n.customer_id, $1, 'imported', n.action, n.action_id, n.propensity, 'imported',
                    n.decided_at, 'import', 0, n.overlap, $2, NULL, $3, ARRAY[n.action_id], ARRAY[n.propensity],
                    $4[(n.row - 1) * $5 + 1 : n.row * $5], n.context::jsonb
             FROM unnest($6::uuid[], $7::text[], $8::text[], $9::int4[], $10::float8[], $11::timestamptz[], $12::int4[],
                         $13::text[]) WITH ORDINALITY
                  AS n(decision_id, customer_id, action, action_id, propensity, decided_at, overlap, context, row)
             ON CONFLICT DO NOTHING
             RETURNING decision_id, decided_at)
         INSERT INTO decisioning._inbox (campaign, closes_at, decision_id)
         SELECT $1, i.decided_at + $14 * interval '1 second', i.decision_id FROM inserted i",
        &[
            campaign.campaign.as_str().into(),
            campaign.edition.epoch.into(),
            compiled.model.encoder_version.into(),
            encoded.into(),
            (encoder.width() as i64).into(),
            ids.clone().into(),
            canonical.into(),
            rows.iter().map(|row| row.action.clone()).collect::<Vec<_>>().into(),
            action_ids.into(),
            rows.iter().map(|row| row.propensity).collect::<Vec<_>>().into(),
            rows.iter().map(|row| row.decided_at).collect::<Vec<_>>().into(),
            rows.iter().map(|row| row.overlap).collect::<Vec<_>>().into(),
            contexts.into(),
            campaign.window_seconds().into(),
        ],
    )?;
    Ok(Stored { ids, new: inserted as i64 })
}
