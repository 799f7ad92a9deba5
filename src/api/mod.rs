//! The SQL surface, one file per capability. Each function decodes its arguments, calls `core` and encodes the
//! result; the declarations are in `sql/`.

mod action;
mod brand;
mod budget;
mod calibration;
mod campaign;
mod configure;
mod constraint;
mod context;
mod decide;
mod delivery;
mod documents;
mod entry;
mod evaluate;
mod evaluate_log;
mod explain;
mod fairness;
mod follow;
mod goal;
mod guardrail;
mod guardrail_cost;
mod identity;
mod import;
mod learn;
mod log;
mod measure;
mod mode;
mod model;
mod offer;
mod outcome;
mod pipeline;
mod privacy;
mod ramp;
mod report;
mod source;
mod statistics;
mod stop;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::error::Result;
use crate::pg::settings;

/// Now, as the extension sees it.
fn now() -> Result<TimestampWithTimeZone> {
    settings::timestamp(settings::now_micros()?)
}

#[pg_extern(sql = false)]
fn _now() -> std::result::Result<TimestampWithTimeZone, ErrorReport> {
    Ok(now()?)
}
