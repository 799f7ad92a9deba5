//! Units summed up, as an aggregate: what every comparison of groups is made of.

use decisioning_core::measure::{Sample, SAMPLE_BYTES};
use pgrx::datum::Internal;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::aggregate;
use crate::pg::error::{Error, Result};

fn sample(bytes: &[u8]) -> Result<Sample> {
    Sample::from_bytes(bytes).ok_or_else(|| {
        Error::corrupted("the bytes are not a sample, or are damaged")
            .hint("Samples come from the aggregate decisioning._sample.")
    })
}

/// Changes the state, which is a sample as bytes.
fn change(
    state: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
    change: impl FnOnce(&mut Sample) -> Result<()>,
) -> std::result::Result<Internal, ErrorReport> {
    let create = || Ok(Sample::default().to_bytes().to_vec());
    Ok(aggregate::change_bytes(state, fcinfo, create, |bytes| {
        let mut changed = sample(bytes)?;
        change(&mut changed)?;
        let known: &mut [u8; SAMPLE_BYTES] = bytes.try_into().map_err(|_| Error::corrupted("a sample is damaged"))?;
        *known = changed.to_bytes();
        Ok(())
    })?)
}

#[pg_extern(sql = false)]
fn _sample_add(
    state: Internal,
    outcome: Option<f64>,
    denominator: Option<f64>,
    covariate: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Internal, ErrorReport> {
    let (Some(outcome), Some(denominator), Some(covariate)) = (outcome, denominator, covariate) else {
        return Ok(state);
    };
    let unit = [outcome, denominator, covariate];
    if !unit.iter().all(|number| number.is_finite()) {
        return Err(Error::invalid("a sample takes finite numbers only").into());
    }
    change(state, fcinfo, |sample| {
        sample.add(unit);
        Ok(())
    })
}

#[pg_extern(sql = false)]
fn _sample_merge(
    state: Internal,
    other: Option<&[u8]>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Internal, ErrorReport> {
    let Some(other) = other.map(sample).transpose()? else { return Ok(state) };
    change(state, fcinfo, |sample| {
        sample.merge(&other);
        Ok(())
    })
}

#[pg_extern(sql = false)]
fn _entropy(shares: pgrx::Array<'_, f64>) -> f64 {
    shares.iter().flatten().filter(|share| *share > 0.0).map(|share| -share * share.ln()).sum()
}
