//! Learn: absorb what is new, exactly once.
//!
//! Every decision and every outcome waits in the inbox from the transaction that wrote it until the transaction that
//! absorbs it. "Absorbed" therefore means "not in the inbox", for decisions and for outcomes alike, and the reward that
//! the sums hold for an absorbed decision is the one that absorbed outcomes give it.

use std::collections::HashMap;
use std::rc::Rc;

use decisioning_core::features::Encoder;
use decisioning_core::learn::{fit, Arm, FitError, Layout, Observed, Posterior, Statistics};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::Uuid;

use super::campaign::{self, Campaign};
use super::model::{self, Learned, Model};
use super::{context, now, source};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::interrupt;
use crate::pg::query::{self, Row};

/// Decisions absorbed at a time; bounds the memory that one step holds.
const CHUNK: i64 = 50_000;

/// Refit from the log once it has grown by this factor since the sums were last linearised: the work stays
/// proportional to the log, and predictions stay near those of a full refit.
const RELINEARISE: f64 = 1.5;

/// Refit too when this share of all rewards changed after their decision was absorbed: a correction moves the linear
/// term only, which is exact for the data but drifts from where the curvature was taken.
const CORRECTED: f64 = 0.02;

/// Rows between two looks at the user's wish to cancel.
const TICK: usize = 4096;

/// Makes the partitions of this and the next three months. Runs as the owner.
pub fn make_partitions() -> Result<()> {
    query::execute(
        "SELECT decisioning._make_partition($1 + n * interval '1 month') FROM generate_series(0, 3) AS n",
        &[now()?.into()],
    )?;
    Ok(())
}

/// Every id that a customer is or was known by, as an SQL array: outcomes and decisions keep the id they were recorded
/// with. An expression and not a function, because SQL functions with subqueries are not inlined.
fn customer_ids(id: &str) -> String {
    let canonical =
        format!("coalesce((SELECT a.customer_id FROM decisioning._customer_alias a WHERE a.alias = {id}), {id})");
    format!(
        "ARRAY[{id}, {canonical}]
         || ARRAY(SELECT b.alias FROM decisioning._customer_alias b WHERE b.customer_id = {canonical})"
    )
}

/// Events of the reward goals in the window of decision `d` that satisfy `condition`, as SQL over alias `d`.
/// Aliases of the customer count, so that an outcome recorded before or after a merge finds its decision.
pub fn events_in_window(condition: &str) -> String {
    format!(
        "(SELECT coalesce(sum(o.events), 0) > 0
          FROM decisioning.campaign_goals g
          JOIN decisioning.goals k ON k.goal = g.goal AND k.kind IN ('conversion', 'value')
          JOIN decisioning.outcomes o ON o.goal = g.goal AND o.occurred_at >= d.decided_at
               AND o.occurred_at < d.decided_at + g.attribution_seconds * interval '1 second'
               AND o.customer_id = ANY ({ids})
          WHERE g.campaign = d.campaign AND {condition})",
        ids = customer_ids("d.customer_id"),
    )
}

const ABSORBED: &str = "NOT EXISTS (SELECT FROM decisioning._inbox w
                                    WHERE w.outcome_id = o.outcome_id AND w.campaign = d.campaign)";

/// Columns that [`Reader::observed`] reads.
pub const OBSERVED: &str = "d.action_id, d.overlap, d.encoder_version, d.encoded, d.context::text";

/// Decodes logged decisions under the encoder of a model.
pub struct Reader<'a> {
    encoder: &'a Encoder,
    encoder_version: i32,
    arms: HashMap<i32, u32>,
}

impl<'a> Reader<'a> {
    pub fn new(campaign: &Campaign, encoder: &'a Encoder, encoder_version: i32) -> Self {
        let arms = campaign.actions.iter().zip(0..).map(|(action, arm)| (action.action_id, arm)).collect();
        Reader { encoder, encoder_version, arms }
    }

    /// Reads [`OBSERVED`] from column `first` on. A context logged under another encoder is encoded anew.
    pub fn observed(&self, row: &Row<'_, '_>, first: usize, reward: bool) -> Result<Observed> {
        let action_id = row.value::<i32>(first)?;
        let encoded = if row.value::<i32>(first + 2)? == self.encoder_version {
            row.value::<Vec<f32>>(first + 3)?
        } else {
            let observation = context::from_document(self.encoder, &row.value::<String>(first + 4)?)?;
            let mut encoded = vec![0.0; self.encoder.width()];
            self.encoder.encode(&observation, &mut encoded);
            encoded
        };
        if encoded.len() != self.encoder.width() {
            return Err(Error::corrupted("a logged context has another width than its encoder"));
        }
        let arm = match action_id {
            0 => None,
            id => Some(*self.arms.get(&id).ok_or_else(|| Error::corrupted(format!("action {id} is not configured")))?),
        };
        Ok(Observed {
            encoded,
            arm,
            weight: 1.0 / f64::from(row.value::<i32>(first + 1)?.max(1)),
            reward: f64::from(u8::from(reward)),
        })
    }
}

fn arms(campaign: &Campaign, layout: &Layout) -> Vec<Arm> {
    campaign.actions.iter().map(|action| layout.arm(&action.dimensions)).collect()
}

/// Locks the learning state, so that one session learns a campaign at a time. Runs as the owner.
fn lock(campaign: &Campaign) -> Result<(i64, Learned)> {
    query::write(
        "SELECT l.model_version, l.decisions, l.outcomes, l.linearised, l.statistics, l.responses, l.corrections
         FROM decisioning._learner l WHERE l.campaign = $1 FOR UPDATE",
        &[campaign.campaign.as_str().into()],
        |row| {
            let statistics = Statistics::from_bytes(&row.value::<Vec<u8>>(5)?).ok_or_else(|| {
                Error::corrupted(format!("learning state of campaign \"{}\" is damaged", campaign.campaign))
                    .hint("Run decisioning.rebuild_model to refit it from the log.")
            })?;
            let learned = Learned {
                statistics,
                decisions: row.value(2)?,
                outcomes: row.value(3)?,
                linearised: row.value(4)?,
                responses: row.value(6)?,
                corrections: row.value(7)?,
            };
            Ok((row.value::<i64>(1)?, learned))
        },
    )?
    .into_iter()
    .next()
    .ok_or_else(|| {
        Error::state(format!("campaign \"{}\" has nothing to learn yet", campaign.campaign))
            .hint("Start it with decisioning.start_campaign, or import history with decisioning.import_decisions.")
    })
}

/// The encoder for the columns as they are now: that of `model`, unless features came or went. Features that stay keep
/// their standardisation, so what was learned of them holds. Runs as the caller.
fn adapted_encoder(campaign: &Campaign, model: &Model) -> Result<Option<Encoder>> {
    let relation = campaign.customers();
    let declared = model::declared(campaign, &relation.columns()?);
    let current: Vec<_> = model
        .encoder
        .features
        .iter()
        .map(|feature| (feature.name.clone(), model::declaration(&feature.kind)))
        .collect();
    if declared.len() == current.len() && declared.iter().all(|feature| current.contains(feature)) {
        return Ok(None);
    }
    let mut fresh = model::profile(campaign)?;
    for feature in &mut fresh.features {
        let kept = model.encoder.features.iter().find(|known| {
            known.name == feature.name && model::declaration(&known.kind) == model::declaration(&feature.kind)
        });
        if let Some(kept) = kept {
            feature.kind = kept.kind.clone();
        }
    }
    // Kept categories may have another number of levels than the fresh profile, so the variances no longer line up.
    let names = fresh.column_names();
    let known: HashMap<String, f64> =
        model.encoder.column_names().into_iter().zip(model.encoder.variances.iter().copied()).collect();
    fresh.variances = names.iter().map(|name| known.get(name).copied().unwrap_or(0.25)).collect();
    Ok(Some(fresh))
}

/// What one call of learn did.
struct Step {
    model_version: i64,
    new_decisions: i64,
    new_outcomes: i64,
    learned: Learned,
}

fn learn_campaign(name: &str) -> Result<Step> {
    let (campaign, model_version) = as_owner(|| campaign::load(name))?;
    let goals: Vec<String> = campaign.goals.iter().map(|goal| goal.goal.clone()).collect();
    source::ingest(Some(&goals), false)?;
    let compiled = as_owner(|| model::current(&campaign, model_version))?;
    let adapted = adapted_encoder(&campaign, &compiled.model)?;
    as_owner(|| {
        make_partitions()?;
        absorb(&campaign, adapted)
    })
}

/// Runs as the owner.
fn absorb(campaign: &Campaign, adapted: Option<Encoder>) -> Result<Step> {
    let name = campaign.campaign.as_str();
    let (mut version, mut learned) = lock(campaign)?;
    let previous = model::load(name, version)?;
    let (encoder, encoder_version, layout) = match adapted {
        Some(encoder) => {
            let layout = model::lay_out(campaign, &encoder)?;
            let encoder_version = model::store_encoder(name, &encoder)?;
            (Rc::new(encoder), encoder_version, layout)
        }
        None => (previous.encoder.clone(), previous.encoder_version, model::lay_out(campaign, &previous.encoder)?),
    };
    let rearranged = layout != previous.layout;
    let mut mean = previous.mean;
    if rearranged {
        let positions = layout.positions_in(&previous.layout);
        learned.statistics = learned.statistics.rearranged(&positions);
        let (prior, _) = layout.prior();
        mean = positions.iter().zip(prior).map(|(at, prior)| at.map_or(prior, |at| mean[at])).collect();
    }
    let arms = arms(campaign, &layout);
    let reader = Reader::new(campaign, &encoder, encoder_version);

    let new_outcomes = absorb_outcomes(campaign, &reader, &layout, &arms, &mut learned)?;
    let mut new_decisions = 0;
    loop {
        let chunk = absorb_decisions(campaign, &reader, &layout, &arms, &mut learned, &mut mean)?;
        new_decisions += chunk;
        if chunk < CHUNK {
            break;
        }
        pgrx::notice!("learn: {new_decisions} decisions absorbed so far");
    }
    let grown = learned.decisions as f64 >= learned.linearised as f64 * RELINEARISE;
    let corrected = learned.corrections > learned.responses * CORRECTED;
    if learned.linearised == 0 && new_decisions <= CHUNK && !corrected {
        learned.linearised = learned.decisions; // a single chunk is linearised at the mode it was fitted at
    } else if learned.decisions > 0 && (grown || corrected) {
        learned = refit(campaign, &reader, &layout, &arms, &mean, learned.outcomes)?;
    }
    if new_decisions > 0 || new_outcomes > 0 || rearranged || encoder_version != previous.encoder_version {
        version = model::store(campaign, encoder_version, &layout, &learned)?;
    }
    Ok(Step { model_version: version, new_decisions, new_outcomes, learned })
}

/// Corrects absorbed decisions whose reward changes with the waiting outcomes, then takes those out of the inbox.
fn absorb_outcomes(
    campaign: &Campaign,
    reader: &Reader<'_>,
    layout: &Layout,
    arms: &[Arm],
    learned: &mut Learned,
) -> Result<i64> {
    let name = campaign.campaign.as_str();
    let mut absorbed = 0;
    loop {
        let waiting: Vec<i64> = query::write(
            "SELECT w.outcome_id FROM decisioning._inbox w
             WHERE w.campaign = $1 AND w.closes_at = '-infinity' AND w.outcome_id IS NOT NULL LIMIT $2",
            &[name.into(), CHUNK.into()],
            |row| row.value(1),
        )?;
        if waiting.is_empty() {
            return Ok(absorbed);
        }
        let sql = format!(
            // From the few new outcomes to their decisions by index, whatever the planner believes of fresh tables: hence
            // MATERIALIZED and OFFSET 0.
            "WITH late AS MATERIALIZED (
                 SELECT DISTINCT o.customer_id, o.occurred_at, g.attribution_seconds
                 FROM unnest($2::bigint[]) AS n(outcome_id)
                 JOIN decisioning.outcomes o ON o.outcome_id = n.outcome_id
                 JOIN decisioning.campaign_goals g ON g.campaign = $1 AND g.goal = o.goal),
             touched AS MATERIALIZED (
                 SELECT DISTINCT f.decision_id
                 FROM late o
                 CROSS JOIN LATERAL (
                     SELECT d.decision_id FROM decisioning.decisions d
                     WHERE d.campaign = $1 AND d.customer_id = ANY ({ids}) AND d.decided_at <= o.occurred_at
                       AND d.decided_at > o.occurred_at - o.attribution_seconds * interval '1 second'
                     OFFSET 0) AS f
                 WHERE NOT EXISTS (SELECT FROM decisioning._inbox p WHERE p.decision_id = f.decision_id))
             SELECT {OBSERVED}, {before}, {after}
             FROM touched
             CROSS JOIN LATERAL (
                 SELECT d.* FROM decisioning.decisions d WHERE d.decision_id = touched.decision_id OFFSET 0) AS d",
            ids = customer_ids("o.customer_id"),
            before = events_in_window(ABSORBED),
            after = events_in_window(&format!("(o.outcome_id = ANY ($2) OR {ABSORBED})")),
        );
        let corrections = query::write(&sql, &[name.into(), waiting.clone().into()], |row| {
            let (before, after) = (row.value::<bool>(6)?, row.value::<bool>(7)?);
            Ok((reader.observed(row, 1, after)?, f64::from(u8::from(after)) - f64::from(u8::from(before))))
        })?;
        let mut row = Vec::new();
        for (observed, change) in corrections.iter().filter(|(_, change)| *change != 0.0) {
            layout.design(&observed.encoded, observed.arm.and_then(|arm| arms.get(arm as usize)), &mut row);
            learned.statistics.correct(&row, observed.weight * change);
            learned.responses += observed.weight * change;
            learned.corrections += observed.weight;
        }
        let deleted = query::execute(
            "DELETE FROM decisioning._inbox w WHERE w.campaign = $1 AND w.outcome_id = ANY ($2)",
            &[name.into(), waiting.into()],
        )? as i64;
        absorbed += deleted;
        learned.outcomes += deleted;
    }
}

/// Absorbs up to [`CHUNK`] decisions whose window has closed; returns how many.
fn absorb_decisions(
    campaign: &Campaign,
    reader: &Reader<'_>,
    layout: &Layout,
    arms: &[Arm],
    learned: &mut Learned,
    mean: &mut Vec<f64>,
) -> Result<i64> {
    let name = campaign.campaign.as_str();
    let sql = format!(
        "SELECT d.decision_id, {OBSERVED}, {reward}
         FROM (SELECT w.decision_id FROM decisioning._inbox w
               WHERE w.campaign = $1 AND w.closes_at <= $2 AND w.decision_id IS NOT NULL
               ORDER BY w.closes_at, w.decision_id LIMIT $3) AS due
         JOIN decisioning.decisions d ON d.decision_id = due.decision_id
         ORDER BY d.decision_id",
        reward = events_in_window(ABSORBED),
    );
    let rows = query::write(&sql, &[name.into(), now()?.into(), CHUNK.into()], |row| {
        let reward = row.value::<bool>(7)?;
        Ok((row.value::<Uuid>(1)?, reader.observed(row, 2, reward)?))
    })?;
    if rows.is_empty() {
        return Ok(0);
    }
    let (ids, observed): (Vec<Uuid>, Vec<Observed>) = rows.into_iter().unzip();
    let sums = fit(layout, arms, &learned.statistics, mean, |visit| {
        for (n, observed) in observed.iter().enumerate() {
            if n % TICK == 0 {
                interrupt::check();
            }
            visit(observed);
        }
        Ok(())
    })
    .map_err(|error| unsolvable(campaign, error))?;
    learned.statistics.merge(&sums);
    learned.responses += observed.iter().map(|observed| observed.weight * observed.reward).sum::<f64>();
    let posterior =
        Posterior::of(layout, &learned.statistics).ok_or_else(|| unsolvable(campaign, FitError::<Error>::Singular))?;
    *mean = posterior.mean;
    let deleted =
        query::execute("DELETE FROM decisioning._inbox w WHERE w.decision_id = ANY ($1)", &[ids.into()])? as i64;
    learned.decisions += deleted;
    Ok(deleted)
}

fn unsolvable(campaign: &Campaign, error: FitError<Error>) -> Error {
    match error {
        FitError::Rows(error) => error,
        FitError::Mismatch => {
            Error::corrupted(format!("a decision of campaign \"{}\" does not fit its model", campaign.campaign))
                .detail("The current version stays in use.")
        }
        _ => Error::corrupted(format!("the model of campaign \"{}\" cannot be fitted", campaign.campaign))
            .detail("The current version stays in use.")
            .hint("Run decisioning.rebuild_model to refit it from the log."),
    }
}

/// Learning state of all absorbed decisions, refitted to convergence from the log in several passes with flat memory.
fn refit(
    campaign: &Campaign,
    reader: &Reader<'_>,
    layout: &Layout,
    arms: &[Arm],
    start: &[f64],
    outcomes: i64,
) -> Result<Learned> {
    let sql = format!(
        "SELECT {OBSERVED}, {reward} FROM decisioning.decisions d
         WHERE d.campaign = $1 AND NOT EXISTS (SELECT FROM decisioning._inbox p WHERE p.decision_id = d.decision_id)
         ORDER BY d.decision_id",
        reward = events_in_window(ABSORBED),
    );
    let (mut decisions, mut responses) = (0, 0.0);
    let statistics = fit(layout, arms, &Statistics::new(layout.len()), start, |visit| {
        (decisions, responses) = (0, 0.0);
        query::stream(
            &sql,
            &[campaign.campaign.as_str().into()],
            CHUNK as usize,
            |row| reader.observed(row, 1, row.value::<bool>(6)?),
            |observed| {
                decisions += observed.len() as i64;
                for (n, observed) in observed.iter().enumerate() {
                    if n % TICK == 0 {
                        interrupt::check();
                    }
                    responses += observed.weight * observed.reward;
                    visit(observed);
                }
                Ok(())
            },
        )
    })
    .map_err(|error| unsolvable(campaign, error))?;
    Ok(Learned { statistics, decisions, outcomes, linearised: decisions, responses, corrections: 0.0 })
}

#[pg_extern(sql = false)]
fn learn(
    campaign: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(model_version, i64),
            name!(new_decisions, i64),
            name!(new_outcomes, i64),
            name!(decisions, i64),
            name!(outcomes, i64),
        ),
    >,
    ErrorReport,
> {
    let step = learn_campaign(required(campaign, "campaign")?)?;
    Ok(TableIterator::once((
        step.model_version,
        step.new_decisions,
        step.new_outcomes,
        step.learned.decisions,
        step.learned.outcomes,
    )))
}

#[pg_extern(sql = false)]
fn rebuild_model(
    campaign: Option<&str>,
) -> std::result::Result<
    TableIterator<'static, (name!(model_version, i64), name!(decisions, i64), name!(outcomes, i64))>,
    ErrorReport,
> {
    let name = required(campaign, "campaign")?;
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    let encoder = model::profile(&campaign)?;
    let row = as_owner(|| {
        let outcomes = lock_for_rebuild(&campaign)?;
        let layout = model::lay_out(&campaign, &encoder)?;
        let encoder_version = model::store_encoder(name, &encoder)?;
        let reader = Reader::new(&campaign, &encoder, encoder_version);
        let (start, _) = layout.prior();
        let learned = refit(&campaign, &reader, &layout, &arms(&campaign, &layout), &start, outcomes)?;
        let version = model::store(&campaign, encoder_version, &layout, &learned)?;
        Ok((version, learned.decisions, outcomes))
    })?;
    Ok(TableIterator::once(row))
}

/// Like [`lock`], but does not need the sums, which may be what is damaged.
fn lock_for_rebuild(campaign: &Campaign) -> Result<i64> {
    query::write(
        "SELECT l.outcomes FROM decisioning._learner l WHERE l.campaign = $1 FOR UPDATE",
        &[campaign.campaign.as_str().into()],
        |row| row.value::<i64>(1),
    )?
    .into_iter()
    .next()
    .ok_or_else(|| {
        Error::state(format!("campaign \"{}\" has no model yet", campaign.campaign))
            .hint("Start it with decisioning.start_campaign.")
    })
}

#[pg_extern(sql = false)]
fn maintain() -> std::result::Result<(), ErrorReport> {
    let campaigns = as_owner(|| {
        make_partitions()?;
        query::read(
            "SELECT c.campaign FROM decisioning.campaigns c JOIN decisioning._learner l ON l.campaign = c.campaign
             WHERE c.status IN ('active', 'paused') ORDER BY c.campaign",
            &[],
            |row| row.value::<String>(1),
        )
    })?;
    for campaign in campaigns {
        learn_campaign(&campaign)?;
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn _coefficient_names(layout: pgrx::JsonB) -> std::result::Result<Vec<String>, ErrorReport> {
    let layout: Layout = serde_json::from_value(layout.0).map_err(Error::from)?;
    Ok(layout.coefficient_names())
}
