//! What units did, as an aggregate: the totals of which samples are made.

use decisioning_core::measure::{Response, Responses};
use pgrx::datum::Internal;
use pgrx::itemptr::item_pointer_to_u64;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::aggregate;
use crate::pg::error::{Error, Result};

/// Bytes that fit into one value.
const MOST_BYTES: usize = 1 << 30;

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // those of the aggregate
fn _responses_add(
    state: Internal,
    unit: Option<pg_sys::ItemPointerData>,
    cluster: Option<i32>,
    part: Option<i32>,
    events: Option<f64>,
    value: Option<f64>,
    covariate: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Internal, ErrorReport> {
    let (Some(unit), Some(cluster), Some(part)) = (unit, cluster, part) else { return Ok(state) };
    let (Some(events), Some(value)) = (events, value) else { return Ok(state) };
    if !events.is_finite() || !value.is_finite() {
        return Err(Error::invalid("responses add up finite numbers only").into());
    }
    let sums = [events, value, covariate.unwrap_or(f64::NAN)];
    let response = Response::new(item_pointer_to_u64(unit), cluster, part, sums);
    Ok(aggregate::change(
        state,
        fcinfo,
        || Ok(Responses::default()),
        |responses: &mut Responses| {
            responses.add(response);
            Ok(())
        },
    )?)
}

#[pg_extern(sql = false)]
fn _responses_combine(
    state: Internal,
    other: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Internal, ErrorReport> {
    let Some(other) = aggregate::read(other, |other: &mut Responses| Ok(std::mem::take(other)))? else {
        return Ok(state);
    };
    Ok(aggregate::change(
        state,
        fcinfo,
        || Ok(Responses::default()),
        |responses: &mut Responses| {
            responses.merge(other);
            Ok(())
        },
    )?)
}

fn bytes(responses: &mut Responses) -> Result<Vec<u8>> {
    let bytes = responses.to_bytes();
    if bytes.len() + pg_sys::VARHDRSZ >= MOST_BYTES {
        let error = Error::new(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("{} customers of one group responded, which is too many to compare them", responses.totals().len()),
        );
        return Err(error.hint("Ask about a shorter horizon."));
    }
    Ok(bytes)
}

#[pg_extern(sql = false)]
fn _responses_bytes(state: Internal) -> std::result::Result<Option<Vec<u8>>, ErrorReport> {
    Ok(aggregate::read(state, bytes)?)
}

#[pg_extern(sql = false)]
fn _responses_receive(bytes: &[u8], _internal: Internal) -> std::result::Result<Internal, ErrorReport> {
    let responses = Responses::from_bytes(bytes).ok_or_else(|| Error::corrupted("the bytes are not responses"))?;
    Ok(aggregate::wrap(responses))
}
