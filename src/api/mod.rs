//! The SQL surface, one file per capability. Each function decodes its arguments, calls `core` and encodes the
//! result; the declarations are in `sql/`.

mod action;
mod action_performance;
mod balance;
mod brand;
mod budget;
mod calibration;
mod campaign;
mod census;
mod configuration;
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
mod feature_balance;
mod follow;
mod global_holdout;
mod goal;
mod group_differences;
mod guardrail;
mod guardrail_cost;
mod health;
mod identity;
mod import;
mod insights;
mod learn;
mod lift;
mod log;
mod maintained;
mod measure;
mod mode;
mod model;
mod offer;
mod outcome;
mod pipeline;
mod power;
mod privacy;
mod ramp;
mod readiness;
mod renew;
mod report;
mod responses;
mod retention;
mod source;
mod statistics;
mod stop;
mod trials;

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
