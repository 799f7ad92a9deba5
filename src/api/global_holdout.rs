//! The global holdout: customers whom no campaign contacts, and what all campaigns together add.

use decisioning_core::decide;
use decisioning_core::measure::{always_valid, difference, Moments};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde::Deserialize;

use super::campaign;
use super::guardrail::configure::wait_for_decisions;
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Reason of a decision to stay quiet because of the global holdout.
pub const GLOBAL_HOLDOUT: &str = "global_holdout";

/// The global holdout as a campaign knows it; part of its configuration in an epoch.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Row")]
pub struct GlobalHoldout(pub decide::GlobalHoldout);

#[derive(Deserialize)]
struct Row {
    salt: String,
    share: f64,
    most: f64,
}

impl TryFrom<Row> for GlobalHoldout {
    type Error = String;

    fn try_from(row: Row) -> std::result::Result<Self, String> {
        let salt = campaign::salt(&row.salt).map_err(|error| error.message().to_owned())?;
        Ok(GlobalHoldout(decide::GlobalHoldout { salt, share: row.share, most: row.most }))
    }
}

#[pg_extern(sql = false)]
fn set_global_holdout(share: Option<f64>) -> std::result::Result<(), ErrorReport> {
    let share = super::configure::share(share, "share", 1.0)?;
    Ok(as_owner(|| set(share))?)
}

/// Runs as the owner.
fn set(share: f64) -> Result<()> {
    // Who is exposed from now on is drawn under this share, and nobody under it is exposed earlier.
    wait_for_decisions()?;
    let changed = query::execute("UPDATE decisioning.global_holdout SET share = $1", &[share.into()])?;
    if changed == 0 && share > 0.0 {
        query::execute("INSERT INTO decisioning.global_holdout (share) VALUES ($1)", &[share.into()])?;
    }
    Ok(())
}

/// The difference of two means with bounds that hold however often one looks, and with those of a single look.
#[pg_extern(sql = false)]
fn _total_difference(
    treated_count: f64,
    treated_mean: f64,
    treated_squares: f64,
    baseline_count: f64,
    baseline_mean: f64,
    baseline_squares: f64,
    confidence: f64,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(absolute, Option<f64>),
            name!(lower, Option<f64>),
            name!(upper, Option<f64>),
            name!(fixed_lower, Option<f64>),
            name!(fixed_upper, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    if !(confidence > 0.0 && confidence < 1.0) {
        return Err(Error::invalid("confidence must be between 0 and 1").into());
    }
    let treated = Moments { count: treated_count, mean: treated_mean, squares: treated_squares };
    let baseline = Moments { count: baseline_count, mean: baseline_mean, squares: baseline_squares };
    let found = difference(treated, baseline, confidence);
    let bounds = found.map(|found| always_valid(&found, treated_count + baseline_count, confidence));
    Ok(TableIterator::once((
        found.map(|found| found.absolute),
        bounds.map(|(lower, _)| lower),
        bounds.map(|(_, upper)| upper),
        found.map(|found| found.lower),
        found.map(|found| found.upper),
    )))
}
