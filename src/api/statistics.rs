//! Sufficient statistics as aggregates over decisions, wherever these are.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use decisioning_core::learn::{Accumulator, Observed, Point, PointError, Scales, Serialised, Statistics};
use pgrx::datum::Internal;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Target};
use super::model;
use crate::pg::aggregate;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

impl From<PointError> for Error {
    #[track_caller]
    fn from(error: PointError) -> Self {
        match error {
            PointError::Damaged => Error::corrupted("the bytes are not a point of linearisation, or are damaged")
                .hint("Points come from decisioning._linearisation_point and decisioning._newton_step."),
            PointError::UnknownAction(_) => Error::invalid(error.to_string())
                .hint("Take a new point with decisioning._linearisation_point: actions may have been added."),
            PointError::Misfit(_) => Error::invalid(error.to_string())
                .detail("It has another number of columns, a number that is not finite, or a reward that cannot be."),
            PointError::OtherLength { .. } => {
                Error::invalid(error.to_string()).hint("Merge statistics that were taken at the same point.")
            }
            _ => Error::corrupted(error.to_string()),
        }
    }
}

/// Sums that were handed in.
fn statistics_of(bytes: &[u8]) -> Result<Statistics> {
    Statistics::from_bytes(bytes).ok_or_else(|| {
        Error::corrupted("the bytes are not statistics, or are damaged")
            .hint("Statistics come from the aggregates decisioning._statistics, _partial and _merge.")
    })
}

/// Points kept by a backend.
const KEPT_POINTS: usize = 16;

thread_local! {
    /// Points by checksum: rows come one by one, each with its point. The bytes under a known checksum are not read again.
    static POINTS: RefCell<HashMap<u64, Rc<Point>>> = RefCell::new(HashMap::new());
}

fn point_of(bytes: &[u8]) -> Result<(u64, Rc<Point>)> {
    let key = Point::key(bytes)?;
    if let Some(point) = POINTS.with_borrow(|points| points.get(&key).cloned()) {
        return Ok((key, point));
    }
    let point = Rc::new(Point::from_bytes(bytes)?);
    POINTS.with_borrow_mut(|points| {
        if points.len() >= KEPT_POINTS {
            points.clear();
        }
        points.insert(key, point.clone());
    });
    Ok((key, point))
}

/// One row of an aggregate; `None` if anything is NULL.
fn row(
    point: Option<&[u8]>,
    action_id: Option<i32>,
    encoded: Option<pgrx::Array<'_, f32>>,
    weight: Option<f64>,
    reward: Option<f64>,
) -> Result<Option<(u64, Rc<Point>, Observed)>> {
    let (Some(point), Some(action_id), Some(encoded), Some(weight), Some(reward)) =
        (point, action_id, encoded, weight, reward)
    else {
        return Ok(None);
    };
    let Some(encoded) = encoded.iter().collect::<Option<Vec<f32>>>() else { return Ok(None) };
    let (key, point) = point_of(point)?;
    let observed = point.observed(action_id, encoded, weight, reward)?;
    Ok(Some((key, point, observed)))
}

/// The state of `_statistics`: sums, and the checksum of the point at which its first row was taken.
struct Taken {
    sums: Accumulator,
    point: Option<u64>,
}

#[pg_extern(sql = false)]
fn _statistics_add(
    state: Internal,
    point: Option<&[u8]>,
    action_id: Option<i32>,
    encoded: Option<pgrx::Array<'_, f32>>,
    weight: Option<f64>,
    reward: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Internal, ErrorReport> {
    let Some((key, point, observed)) = row(point, action_id, encoded, weight, reward)? else { return Ok(state) };
    let create = || Ok(Taken { sums: Accumulator::new(point.clone()), point: Some(key) });
    Ok(aggregate::change(state, fcinfo, create, |taken: &mut Taken| {
        if *taken.point.get_or_insert(key) != key {
            return Err(Error::invalid("the rows of one aggregate have several points of linearisation")
                .hint("Aggregate each point by itself: GROUP BY it."));
        }
        Ok(taken.sums.add(&point, &observed)?)
    })?)
}

#[pg_extern(sql = false)]
fn _statistics_combine(
    state: Internal,
    other: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Internal, ErrorReport> {
    let other = aggregate::read(other, |other: &mut Taken| Ok(other.sums.sums()?.clone()))?;
    let Some(mut other) = other.map(Accumulator::of) else { return Ok(state) };
    let empty = Statistics::new(other.sums().map_err(Error::from)?.len());
    let create = || Ok(Taken { sums: Accumulator::of(empty), point: None });
    Ok(aggregate::change(state, fcinfo, create, |taken: &mut Taken| Ok(taken.sums.merge(&mut other)?))?)
}

#[pg_extern(sql = false)]
fn _statistics_bytes(state: Internal) -> std::result::Result<Option<Vec<u8>>, ErrorReport> {
    Ok(aggregate::read(state, |taken: &mut Taken| Ok(taken.sums.sums()?.to_bytes()))?)
}

#[pg_extern(sql = false)]
fn _statistics_receive(bytes: &[u8], _internal: Internal) -> std::result::Result<Internal, ErrorReport> {
    Ok(aggregate::wrap(Taken { sums: Accumulator::of(statistics_of(bytes)?), point: None }))
}

#[pg_extern(sql = false)]
fn _partial_add(
    state: Internal,
    point: Option<&[u8]>,
    action_id: Option<i32>,
    encoded: Option<pgrx::Array<'_, f32>>,
    weight: Option<f64>,
    reward: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Internal, ErrorReport> {
    let Some((_, point, observed)) = row(point, action_id, encoded, weight, reward)? else { return Ok(state) };
    let create = || Ok(Statistics::new(point.len()).to_bytes());
    Ok(aggregate::change_bytes(state, fcinfo, create, |bytes| Ok(Serialised::new(bytes)?.add(&point, &observed)?))?)
}

#[pg_extern(sql = false)]
fn _merge_add(
    state: Internal,
    statistics: Option<&[u8]>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Internal, ErrorReport> {
    let Some(statistics) = statistics.map(statistics_of).transpose()? else { return Ok(state) };
    let create = || Ok(Statistics::new(statistics.len()).to_bytes());
    Ok(aggregate::change_bytes(state, fcinfo, create, |bytes| Ok(Serialised::new(bytes)?.merge(&statistics)?))?)
}

#[pg_extern(sql = false)]
fn _linearisation_point(campaign: Option<&str>, part: Option<&str>) -> std::result::Result<Vec<u8>, ErrorReport> {
    let (name, part) = (required(campaign, "campaign")?, required(part, "part")?);
    let target = Target::parse(part)?;
    let bytes = as_owner(|| {
        let (campaign, version) = campaign::load(name)?;
        let compiled = model::current(&campaign, version)?;
        let model = &compiled.model;
        let known = model.parts.iter().find(|known| known.target == target).ok_or_else(|| {
            Error::missing(format!("the model of campaign \"{name}\" has no part \"{part}\""))
                .hint("decisioning.models lists the parts of every model.")
        })?;
        let scales = query::read_one(
            "SELECT p.scales::text FROM decisioning._model_part p
             WHERE p.campaign = $1 AND p.model_version = $2 AND p.part = $3",
            &[name.into(), model.version.into(), part.into()],
            |row| row.value::<String>(1),
        )?;
        let scales: Scales = scales.map(|scales| serde_json::from_str(&scales)).transpose()?.unwrap_or_default();
        let actions: BTreeMap<_, _> =
            campaign.actions.iter().map(|action| (action.action_id, action.dimensions.clone())).collect();
        let point = Point::new(target.link(), model.layout.clone(), scales, known.mean.clone(), actions)?;
        Ok(point.to_bytes()?)
    })?;
    Ok(bytes)
}

#[pg_extern(sql = false)]
fn _newton_step(
    point: &[u8],
    statistics: &[u8],
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(next_point, Vec<u8>),
            name!(coefficients, Vec<f64>),
            name!(standard_errors, Vec<f64>),
            name!(moved, f64),
        ),
    >,
    ErrorReport,
> {
    let point = Point::from_bytes(point).map_err(Error::from)?;
    let step = point.step(&statistics_of(statistics)?).map_err(Error::from)?;
    let next = step.next.to_bytes().map_err(Error::from)?;
    Ok(TableIterator::once((next, step.posterior.mean.clone(), step.posterior.standard_errors(), step.moved)))
}
