//! Off-policy evaluation of any log: a relation with propensities and target probabilities.

use decisioning_core::decide::Salt;
use decisioning_core::evaluate::{Estimator, Evaluation, Term};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::evaluate::checked_confidence;
use crate::pg::error::{required, Error, Result};
use crate::pg::query;
use crate::pg::relation::quote_identifier;

/// Rows per fetch.
const FETCH: usize = 10_000;

/// The bootstrap of a log is seeded by its customers alone.
const SALT: Salt = Salt([0; 16]);

/// The mean weight is 1, but for chance, if the log could have taken all that the target plays. Refused below
/// 1 − `UNSUPPORTED`, if that is more than `ERRORS` standard errors away.
const UNSUPPORTED: f64 = 0.01;
const ERRORS: f64 = 5.0;

type LogRow = (String, f64, f64, f64, f64, f64, f64, i64, f64, f64, f64);

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn evaluate_log(
    log: Option<pg_sys::Oid>,
    reward: Option<&str>,
    propensity: Option<&str>,
    target_probability: Option<&str>,
    predicted: Option<&str>,
    expected: Option<&str>,
    customer_key: Option<&str>,
    confidence: Option<f64>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(estimator, String),
            name!(value, f64),
            name!(standard_error, f64),
            name!(lower, f64),
            name!(upper, f64),
            name!(bootstrap_lower, f64),
            name!(bootstrap_upper, f64),
            name!(decisions, i64),
            name!(effective_decisions, f64),
            name!(largest_weight, f64),
            name!(mean_weight, f64),
        ),
    >,
    ErrorReport,
> {
    let confidence = checked_confidence(confidence)?;
    if predicted.is_some() != expected.is_some() {
        return Err(Error::invalid("predicted and expected must be given together")
            .hint("predicted is the modelled reward of the logged action, expected that under the target policy.")
            .into());
    }
    let columns = [
        Some(required(reward, "reward")?),
        Some(required(propensity, "propensity")?),
        Some(required(target_probability, "target_probability")?),
        predicted,
        expected,
    ];
    let (evaluation, decisions) = read(required(log, "log")?, columns, customer_key)?;
    let estimators = if predicted.is_some() { &Estimator::ALL[..] } else { &[Estimator::Ips, Estimator::Snips] };
    Ok(TableIterator::new(estimates(&evaluation, decisions, estimators, confidence)?))
}

/// Reads the log as the caller.
fn read(log: pg_sys::Oid, columns: [Option<&str>; 5], customer_key: Option<&str>) -> Result<(Evaluation, i64)> {
    let relation = query::read_one("SELECT $1::regclass::text", &[log.into()], |row| row.value::<String>(1))?
        .ok_or_else(|| Error::missing("relation does not exist"))?;
    let number = |column: Option<&str>| match column {
        Some(column) => format!("log.{}::pg_catalog.float8", quote_identifier(column)),
        None => "0::pg_catalog.float8".to_owned(),
    };
    let customer = customer_key.map_or("NULL".to_owned(), |key| format!("log.{}", quote_identifier(key)));
    let sql = format!("SELECT {}, {customer}::pg_catalog.text FROM {relation} AS log", columns.map(number).join(", "));
    let (mut evaluation, mut decisions) = (Evaluation::new(1), 0_i64);
    query::stream(
        &sql,
        &[],
        FETCH,
        |row| {
            let numbers = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
            Ok((numbers, row.get::<String>(6)?))
        },
        |rows| {
            for (numbers, customer) in rows {
                decisions += 1;
                // Without a customer, every row is drawn by itself.
                let customer = customer.unwrap_or_else(|| format!("row {decisions}"));
                evaluation.add(&[term(numbers)?], &mut SALT.resampling(&customer));
            }
            Ok(())
        },
    )?;
    Ok((evaluation, decisions))
}

fn term(numbers: [Option<f64>; 5]) -> Result<Term> {
    let [Some(reward), Some(propensity), Some(target), Some(predicted), Some(expected)] = numbers else {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "a row of the log lacks its reward, propensity, target probability or modelled reward",
        )
        .hint("Evaluate a view of the rows where all of them are known."));
    };
    if ![reward, predicted, expected].iter().all(|x| x.is_finite()) {
        return Err(Error::invalid("a reward in the log is not a finite number"));
    }
    if !(propensity > 0.0 && propensity <= 1.0) {
        return Err(Error::invalid(format!("propensity {propensity} in the log is not in (0, 1]"))
            .hint("It is the probability with which the logged action was chosen, so it cannot have been 0."));
    }
    if !(0.0..=1.0).contains(&target) {
        return Err(Error::invalid(format!("target probability {target} in the log is not in [0, 1]")));
    }
    Ok(Term { weight: target / propensity, reward, predicted, expected })
}

fn estimates(
    evaluation: &Evaluation,
    decisions: i64,
    estimators: &[Estimator],
    confidence: f64,
) -> Result<Vec<LogRow>> {
    if decisions == 0 {
        return Err(Error::state("the log is empty"));
    }
    let (mean_weight, error) = evaluation.mean_weight(0);
    if mean_weight <= 0.0 || mean_weight + ERRORS * error < 1.0 - UNSUPPORTED {
        return Err(Error::state("the log has no overlap with the target policy")
            .detail(format!("Its weights, target probability / propensity, average {mean_weight:.3} and not 1."))
            .hint("The target plays actions that were hardly logged: try them at random first, or leave them out."));
    }
    Ok(estimators
        .iter()
        .filter_map(|estimator| Some((estimator, evaluation.estimate(0, *estimator, confidence)?)))
        .map(|(estimator, e)| {
            (
                estimator.as_str().to_owned(),
                e.value,
                e.standard_error,
                e.lower,
                e.upper,
                e.bootstrap_lower,
                e.bootstrap_upper,
                decisions,
                evaluation.effective_rows(0),
                evaluation.largest_weight(0),
                mean_weight,
            )
        })
        .collect())
}
