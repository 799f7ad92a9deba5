//! Statistics behind the measuring views.

use decisioning_core::measure::{chi_square, difference, Moments};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::error::Error;

#[pg_extern(sql = false)]
fn _difference(
    treated_count: f64,
    treated_mean: f64,
    treated_squares: f64,
    control_count: f64,
    control_mean: f64,
    control_squares: f64,
    confidence: f64,
) -> Result<
    TableIterator<
        'static,
        (
            name!(absolute, Option<f64>),
            name!(lower, Option<f64>),
            name!(upper, Option<f64>),
            name!(relative, Option<f64>),
            name!(relative_lower, Option<f64>),
            name!(relative_upper, Option<f64>),
            name!(p_value, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    if !(confidence > 0.0 && confidence < 1.0) {
        return Err(Error::invalid("confidence must be between 0 and 1").into());
    }
    let treated = Moments { count: treated_count, mean: treated_mean, squares: treated_squares };
    let control = Moments { count: control_count, mean: control_mean, squares: control_squares };
    let found = difference(treated, control, confidence);
    let relative = found.and_then(|found| found.relative);
    Ok(TableIterator::once((
        found.map(|found| found.absolute),
        found.map(|found| found.lower),
        found.map(|found| found.upper),
        relative.map(|(relative, _, _)| relative),
        relative.map(|(_, lower, _)| lower),
        relative.map(|(_, _, upper)| upper),
        found.map(|found| found.p_value),
    )))
}

#[pg_extern(sql = false)]
fn _chi_square(
    observed: Vec<f64>,
    expected: Vec<f64>,
) -> TableIterator<'static, (name!(statistic, Option<f64>), name!(p_value, Option<f64>))> {
    let found = chi_square(&observed, &expected);
    TableIterator::once((found.map(|(statistic, _)| statistic), found.map(|(_, p)| p)))
}
