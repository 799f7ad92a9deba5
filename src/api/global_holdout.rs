//! The global holdout: customers whom no campaign contacts, and what all campaigns together add.

use decisioning_core::decide::{self, Salt};
use decisioning_core::measure::{read_out, Arms, Responders, Sample};
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
#[serde(from = "Row")]
pub struct GlobalHoldout(pub decide::GlobalHoldout);

#[derive(Deserialize)]
struct Row {
    #[serde(deserialize_with = "campaign::salt")]
    salt: Salt,
    share: f64,
    most: f64,
}

impl From<Row> for GlobalHoldout {
    fn from(Row { salt, share, most }: Row) -> Self {
        GlobalHoldout(decide::GlobalHoldout { salt, share, most })
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

/// The difference of two means, of customers of whom so many have responded.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn _total_difference(
    treated_count: f64,
    treated_mean: f64,
    treated_squares: f64,
    treated_responders: i64,
    baseline_count: f64,
    baseline_mean: f64,
    baseline_squares: f64,
    baseline_responders: i64,
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
    let of = |count: f64, mean: f64, squares: f64| {
        Sample::of_products(count, [mean, 0.0, 0.0], [squares, 0.0, 0.0, 0.0, 0.0, 0.0]).per_unit()
    };
    let arms = Arms {
        treated: of(treated_count, treated_mean, treated_squares),
        baseline: of(baseline_count, baseline_mean, baseline_squares),
    };
    let responders = Responders { treated: treated_responders as f64, baseline: baseline_responders as f64 };
    let found = read_out(&[arms], responders, false, confidence);
    let bounds = found.and_then(|found| found.always_valid);
    let fixed = found.and_then(|found| found.fixed);
    Ok(TableIterator::once((
        found.map(|found| found.difference),
        bounds.map(|bounds| bounds.lower),
        bounds.map(|bounds| bounds.upper),
        fixed.map(|fixed| fixed.lower),
        fixed.map(|fixed| fixed.upper),
    )))
}
