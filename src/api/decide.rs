//! Decide: the SQL functions around the pipeline.

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{AllocatedByRust, JsonB, Uuid};
use serde_json::{Map, Value};

use super::campaign::{self, Campaign};
use super::context;
use super::entry::{self, NO_ENTRY};
use super::mode;
use super::pipeline::{action_name, decide_many, Answer, LARGEST_BATCH};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::settings::{self, Mode};
use crate::pg::{composite, transaction};

/// Refuses what cannot be committed, before any work is done. `instead` does the same in the caller's transaction.
#[pg_extern(sql = false)]
fn _refuse_transaction_block(procedure: &str, instead: &str) -> std::result::Result<(), ErrorReport> {
    if !transaction::is_block() {
        return Ok(());
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
        format!("{procedure} commits as it goes and cannot run inside a transaction block"),
    )
    .hint(format!(
        "Call it outside of a transaction, as the only statement: with autocommit, in dbt in a hook with transaction: false. \
         decisioning.{instead} works in the caller's transaction."
    ))
    .into())
}

type DecisionTuple = PgHeapTuple<'static, AllocatedByRust>;

/// A row of type decisioning.decision.
fn tuple(campaign: &Campaign, answer: &Answer) -> Result<DecisionTuple> {
    let attributes = match answer {
        Answer::Outside { customer_id, reason } => {
            let mut attributes = vec![None; 16];
            attributes[1] = customer_id.as_str().into_datum();
            attributes[2] = campaign.campaign.as_str().into_datum();
            attributes[13] = (*reason).into_datum();
            attributes
        }
        Answer::Decided(decision) | Answer::Previewed(decision) => {
            let previewed = matches!(answer, Answer::Previewed(_));
            let action = decision.action_id.and_then(|id| campaign.action(id));
            let level = |dimension: &str| action.and_then(|action| action.dimensions.get(dimension)).into_datum();
            let dimensions = action.map(|action| {
                let levels = action.dimensions.iter().map(|(d, l)| (d.clone(), Value::String(l.clone())));
                JsonB(Value::Object(levels.collect()))
            });
            let content = decision.content.as_deref().map(serde_json::from_str).transpose()?;
            vec![
                Some(decision.decision_id).filter(|_| !previewed).into_datum(),
                decision.customer_id.as_str().into_datum(),
                campaign.campaign.as_str().into_datum(),
                decision.group.as_str().into_datum(),
                action_name(campaign, decision.action_id).into_datum(),
                level("message"),
                level("offer"),
                level("channel"),
                level("slot"),
                dimensions.into_datum(),
                content.map(JsonB).into_datum(),
                decision.send_at.into_datum(),
                decision.propensity.into_datum(),
                if previewed { "preview" } else { &decision.reason }.into_datum(),
                action.and_then(|action| action.customer_reason.as_deref()).into_datum(),
                decision.expires_at.into_datum(),
            ]
        }
    };
    composite::form(c"decision", attributes)
}

fn decide_one(
    customer_id: Option<String>,
    campaign: Option<&str>,
    context: Option<JsonB>,
    strict: Option<bool>,
) -> Result<DecisionTuple> {
    let customer_id = required(customer_id, "customer_id")?;
    let name = required(campaign, "campaign")?;
    let context = context_object(context)?;
    let (campaign, answers) = decide_many(name, &[customer_id], context.as_ref())?;
    let answer = answers.first().ok_or_else(|| Error::corrupted("no decision was made"))?;
    if let (Answer::Outside { customer_id, reason }, Some(true)) = (answer, strict) {
        let what = if *reason == NO_ENTRY { "has not entered" } else { "is not in the audience of" };
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
            format!("customer \"{customer_id}\" {what} campaign \"{name}\""),
        )
        .hint("Call without strict to get a row without an action instead."));
    }
    tuple(&campaign, answer)
}

pub fn context_object(context: Option<JsonB>) -> Result<Option<Map<String, Value>>> {
    match context {
        None | Some(JsonB(Value::Null)) => Ok(None),
        Some(JsonB(Value::Object(context))) => Ok(Some(context)),
        Some(_) => Err(Error::invalid("context must be a JSON object").hint("For example '{\"device\": \"phone\"}'.")),
    }
}

#[pg_extern(sql = false)]
fn decide(
    customer_id: Option<&str>,
    campaign: Option<&str>,
    context: Option<JsonB>,
    strict: Option<bool>,
) -> std::result::Result<pgrx::composite_type!('static, "decisioning.decision"), ErrorReport> {
    Ok(decide_one(customer_id.map(str::to_owned), campaign, context, strict)?)
}

#[pg_extern(sql = false)]
fn decide_bigint(
    customer_id: Option<i64>,
    campaign: Option<&str>,
    context: Option<JsonB>,
    strict: Option<bool>,
) -> std::result::Result<pgrx::composite_type!('static, "decisioning.decision"), ErrorReport> {
    Ok(decide_one(customer_id.map(|id| id.to_string()), campaign, context, strict)?)
}

#[pg_extern(sql = false)]
fn decide_uuid(
    customer_id: Option<Uuid>,
    campaign: Option<&str>,
    context: Option<JsonB>,
    strict: Option<bool>,
) -> std::result::Result<pgrx::composite_type!('static, "decisioning.decision"), ErrorReport> {
    Ok(decide_one(customer_id.map(|id| id.to_string()), campaign, context, strict)?)
}

#[pg_extern(sql = false)]
fn decide_batch(
    customer_ids: Option<Vec<Option<String>>>,
    campaign: Option<&str>,
) -> std::result::Result<SetOfIterator<'static, pgrx::composite_type!('static, "decisioning.decision")>, ErrorReport> {
    let name = required(campaign, "campaign")?;
    let (campaign, answers) = decide_many(name, &batch(customer_ids)?, None)?;
    let rows = answers.iter().map(|answer| tuple(&campaign, answer)).collect::<Result<Vec<_>>>()?;
    Ok(SetOfIterator::new(rows))
}

fn batch(customer_ids: Option<Vec<Option<String>>>) -> Result<Vec<String>> {
    required(customer_ids, "customer_ids")?.into_iter().map(|id| required(id, "customer_ids element")).collect()
}

#[pg_extern(sql = false)]
fn _decide_chunk(
    customer_ids: Option<Vec<Option<String>>>,
    campaign: Option<&str>,
) -> std::result::Result<
    TableIterator<'static, (name!(decided, i64), name!(open, i64), name!(outside, i64))>,
    ErrorReport,
> {
    let (mut decided, mut open, mut outside) = (0, 0, 0);
    for answer in decide_many(required(campaign, "campaign")?, &batch(customer_ids)?, None)?.1 {
        match answer {
            Answer::Outside { .. } => outside += 1,
            Answer::Decided(decision) if decision.new => decided += 1,
            Answer::Decided(_) => open += 1,
            Answer::Previewed(_) => {}
        }
    }
    Ok(TableIterator::once((decided, open, outside)))
}

#[pg_extern(sql = false)]
fn _audience_chunks(
    campaign: Option<&str>,
    chunk_size: Option<i32>,
) -> std::result::Result<TableIterator<'static, (name!(customer_ids, Vec<String>), name!(customers, i64))>, ErrorReport>
{
    let name = required(campaign, "campaign")?;
    let size = required(chunk_size, "chunk_size")?;
    if !(1..=LARGEST_BATCH as i32).contains(&size) {
        return Err(Error::invalid(format!("chunk_size must be between 1 and {LARGEST_BATCH}")).into());
    }
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    if mode::in_force(&campaign) == Mode::Preview {
        pgrx::notice!("campaign \"{name}\" is in preview mode: nothing is written");
    }
    if !campaign.entries.is_empty() {
        let due = entry::due(&campaign, settings::now_micros()?)?;
        let customers = due.len() as i64;
        let chunks: Vec<Vec<String>> = due.chunks(size as usize).map(<[String]>::to_vec).collect();
        return Ok(TableIterator::new(chunks.into_iter().map(move |chunk| (chunk, customers))));
    }
    let (customers, mut ids) = context::audience(&campaign)?;
    let chunks = std::iter::from_fn(move || match ids.fetch(size as usize, |row| row.value::<String>(1)) {
        Ok(chunk) => Some(chunk).filter(|chunk| !chunk.is_empty()),
        Err(error) => error.raise(),
    });
    Ok(TableIterator::new(chunks.map(move |chunk| (chunk, customers))))
}
