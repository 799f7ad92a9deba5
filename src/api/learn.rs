//! Learn: absorb what is new, exactly once.
//!
//! Every decision and every outcome waits in the inbox from the transaction that wrote it until the transaction that
//! absorbs it. "Absorbed" therefore means "not in the inbox", for decisions and for outcomes alike, and the reward that
//! the sums hold for an absorbed decision is the one that absorbed outcomes give it.
//!
//! A decision is absorbed when its window has closed. Until then it counts in every model anew, by what is known of it at
//! the time.

use std::collections::HashMap;
use std::rc::Rc;

use decisioning_core::decide::Unit;
use decisioning_core::features::Encoder;
use decisioning_core::learn::{
    fit, linearise, Arm, Delays, FitError, Layout, Link, Observed, Posterior, Reporting, Rows, Scales, Seen, Statistics,
};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::budget;
use super::campaign::{self, Campaign, Target};
use super::log::{customer_ids, reward_of, Logged, Reader, Reward, ABSORBED};
use super::model::{self, Learned, LearnedPart};
use super::{now, ramp, source};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::interrupt;
use crate::pg::query;
use crate::pg::settings;
use crate::pg::threads::{self, without_signals};

/// Decisions absorbed at a time; bounds the memory that one step holds.
const CHUNK: i64 = 50_000;

/// Rows of the log that a refit reads at a time: few, so that their memory is used again at once.
const FETCH: usize = 8192;

/// Open decisions that count in a model, those that close first before others: bounds the memory and the time of a call.
const OPEN_LIMIT: i64 = 1_000_000;

/// With nothing else new, open decisions are looked at again when this share of their window has passed.
const OPEN_REFRESH: f64 = 1.0 / 64.0;

/// Refit from the log once it has grown by this factor since the sums were last linearised: the work stays
/// proportional to the log, and predictions stay near those of a full refit.
const RELINEARISE: f64 = 1.5;

/// Refit too when this share of all rewards changed after their decision was absorbed: a correction moves the linear
/// term only, which is exact for the data but drifts from where the curvature was taken.
const CORRECTED: f64 = 0.02;

/// A refit reads this many half-lives of the log; what is older would count by less than a thousandth.
const HALF_LIVES: f64 = 10.0;

/// Most steps of the prior scales towards their fixed point.
const SCALE_STEPS: usize = 20;

/// Channel under which sends of a campaign without channels are counted; no-send is the empty one.
const ANY_CHANNEL: &str = "send";

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

/// What all steps of one call share.
struct Session<'a> {
    campaign: &'a Campaign,
    reader: Reader<'a>,
    layout: &'a Layout,
    arms: Vec<Arm>,
    /// In microseconds.
    now: i64,
}

impl<'a> Session<'a> {
    fn new(campaign: &'a Campaign, encoder: &'a Encoder, encoder_version: i32, layout: &'a Layout) -> Result<Self> {
        let arms = campaign.actions.iter().map(|action| layout.arm(&action.dimensions)).collect();
        let reader = Reader::new(campaign, encoder, encoder_version);
        Ok(Session { campaign, reader, layout, arms, now: settings::now_micros()? })
    }

    fn name(&self) -> &str {
        &self.campaign.campaign
    }

    /// Share of the attribution window from `start` to `end`, both in microseconds.
    fn share(&self, start: i64, end: i64) -> f64 {
        (end - start) as f64 / (self.campaign.window_seconds() * 1e6)
    }

    /// Name under which delays of an arm are counted.
    fn channel(&self, arm: Option<u32>) -> &str {
        arm.map_or("", |arm| {
            self.campaign.actions[arm as usize].dimensions.get("channel").map_or(ANY_CHANNEL, String::as_str)
        })
    }

    /// What decisions say of a part of the model, as rows to fit; those of long ago are discounted. `reporting` says what
    /// silence means for open ones.
    fn rows(&self, part: &LearnedPart, logged: &[Logged], reporting: Option<&Reporting>) -> Result<Rows> {
        let mut rows =
            Rows::new(part.target.link(), self.layout.columns.len()).with_threads(threads::for_maintenance());
        for (n, Logged { observed, decided_at, reward, .. }) in logged.iter().enumerate() {
            if n % TICK == 0 {
                interrupt::check();
            }
            let Some(reward) = reward.of(&part.target, part.unit.as_ref()) else { continue };
            let mut observed = Observed { reward, ..observed.clone() };
            observed.weight *= self.campaign.discount(self.now - decided_at);
            if let Some(reporting) = reporting.filter(|_| part.target.link().is_logistic()) {
                observed.reported = reporting.at(self.channel(observed.arm), self.share(*decided_at, self.now));
            }
            rows.push(&observed).map_err(|_| misfit(self.campaign))?;
        }
        Ok(rows)
    }

    /// Counts the delays of closed decisions.
    fn add_delays(&self, logged: &[Logged], part: &mut LearnedPart) {
        for logged in logged {
            if let Some(recorded_at) = logged.recorded_at(&part.target) {
                let weight = self.campaign.discount(self.now - logged.decided_at);
                let delay = self.share(logged.decided_at, recorded_at);
                part.delays.add(self.channel(logged.observed.arm), delay, weight);
            }
        }
    }

    /// The open decisions.
    fn open(&self) -> Result<Vec<Logged>> {
        let sql = format!(
            "WITH open AS MATERIALIZED (
                 SELECT w.decision_id FROM decisioning._inbox w
                 WHERE w.campaign = $1 AND w.closes_at > $2 AND w.decision_id IS NOT NULL
                 ORDER BY w.closes_at, w.decision_id LIMIT $3)
             {}",
            self.reader.statement_of("open")
        );
        query::write_large(
            &sql,
            &[self.name().into(), settings::timestamp(self.now)?.into(), OPEN_LIMIT.into()],
            |row| self.reader.logged(row),
        )
    }

    /// Open decisions as rows, under the delays known by now.
    fn open_rows(&self, part: &LearnedPart, open: &[Logged]) -> Result<Rows> {
        let seen: Vec<Seen<'_>> = open
            .iter()
            .filter_map(|logged| {
                logged.recorded_at(&part.target).map(|recorded_at| Seen {
                    channel: self.channel(logged.observed.arm),
                    delay: self.share(logged.decided_at, recorded_at),
                    age: self.share(logged.decided_at, self.now),
                })
            })
            .collect();
        self.rows(part, open, Some(&part.delays.reporting(&seen)))
    }

    /// The mode of the prior, the sums so far and `batches`.
    fn fit(&self, part: &LearnedPart, batches: &[&Rows]) -> Result<Vec<f64>> {
        fit(self.layout, &part.prior(self.layout), &self.arms, &part.statistics, &part.mean, |visit| {
            batches.iter().for_each(|rows| {
                interrupt::check();
                without_signals(|| visit(rows));
            });
            Ok(())
        })
        .map(|fitted| fitted.mode)
        .map_err(|error| self.unsolvable(error))
    }

    /// The prior scales that make `sums` most probable, and the posterior under them.
    fn estimate_scales(&self, part: &LearnedPart, sums: &Statistics) -> Result<(Scales, Posterior)> {
        let found = part.scales.estimate(part.target.link(), self.layout, sums, SCALE_STEPS);
        found.ok_or_else(|| self.unsolvable(FitError::Singular))
    }

    fn linearise(&self, at: &[f64], rows: &Rows) -> Result<Statistics> {
        linearise(self.layout, &self.arms, at, |visit| {
            without_signals(|| visit(rows));
            Ok(())
        })
        .map_err(|error| self.unsolvable(error))
    }

    fn unsolvable(&self, error: FitError<Error>) -> Error {
        match error {
            FitError::Rows(error) => error,
            FitError::Mismatch => misfit(self.campaign),
            _ => Error::corrupted(format!("the model of campaign \"{}\" cannot be fitted", self.name()))
                .detail("The current version stays in use.")
                .hint("Run decisioning.rebuild_model to refit it from the log."),
        }
    }
}

fn misfit(campaign: &Campaign) -> Error {
    Error::corrupted(format!("a decision of campaign \"{}\" does not fit its model", campaign.campaign))
        .detail("The current version stays in use.")
}

/// Locks the learning state, so that one session learns a campaign at a time; returns it with its model version and
/// when it was written. Runs as the owner.
fn lock(campaign: &Campaign) -> Result<(i64, i64, Learned)> {
    let damaged = || {
        Error::corrupted(format!("learning state of campaign \"{}\" is damaged", campaign.campaign))
            .hint("Run decisioning.rebuild_model to refit it from the log.")
    };
    let name = campaign.campaign.as_str();
    let (version, learned_at, mut learned) = query::write(
        "SELECT l.model_version, l.decisions, l.outcomes, l.open_decisions, l.linearised, l.responses, l.corrections,
                l.learned_at
         FROM decisioning._learner l WHERE l.campaign = $1 FOR UPDATE",
        &[name.into()],
        |row| {
            let learned = Learned {
                parts: Vec::new(),
                decisions: row.value(2)?,
                outcomes: row.value(3)?,
                open_decisions: row.value(4)?,
                linearised: row.value(5)?,
                responses: row.value(6)?,
                corrections: row.value(7)?,
            };
            Ok((row.value::<i64>(1)?, settings::micros(row.value(8)?).ok_or_else(damaged)?, learned))
        },
    )?
    .into_iter()
    .next()
    .ok_or_else(|| {
        Error::state(format!("campaign \"{name}\" has nothing to learn yet"))
            .hint("Start it with decisioning.start_campaign, or import history with decisioning.import_decisions.")
    })?;
    learned.parts = query::write(
        "SELECT p.part, p.unit::text, p.statistics, p.delays::text, p.scales::text, m.coefficients
         FROM decisioning._learner_part p
         JOIN decisioning._model_part m ON m.campaign = p.campaign AND m.model_version = $2 AND m.part = p.part
         WHERE p.campaign = $1 ORDER BY p.part <> 'response', p.part",
        &[name.into(), version.into()],
        |row| {
            Ok(LearnedPart {
                target: Target::parse(&row.value::<String>(1)?)?,
                unit: row.get::<String>(2)?.map(|unit| serde_json::from_str(&unit)).transpose()?,
                statistics: Statistics::from_bytes(&row.value::<Vec<u8>>(3)?).ok_or_else(damaged)?,
                delays: serde_json::from_str(&row.value::<String>(4)?)?,
                scales: serde_json::from_str(&row.value::<String>(5)?)?,
                mean: row.value(6)?,
            })
        },
    )?;
    if learned.parts.first().is_none_or(|part| part.target != Target::Response) {
        return Err(damaged());
    }
    Ok((version, learned_at, learned))
}

/// The encoder for the columns as they are now: that of `model`, unless features came or went. Features that stay keep
/// their standardisation, so what was learned of them holds. Runs as the caller.
fn adapted_encoder(campaign: &Campaign, model: &model::Model) -> Result<Option<Encoder>> {
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
    let step = as_owner(|| {
        make_partitions()?;
        absorb(&campaign, adapted)
    })?;
    ramp::follow(name)?;
    Ok(step)
}

/// Runs as the owner.
fn absorb(campaign: &Campaign, adapted: Option<Encoder>) -> Result<Step> {
    let name = campaign.campaign.as_str();
    let (version, learned_at, mut learned) = lock(campaign)?;
    let previous = model::load(name, version)?;
    let (encoder, encoder_version, layout) = match adapted {
        Some(encoder) => {
            let layout = model::lay_out(campaign, &encoder)?;
            let encoder_version = model::store_encoder(name, &encoder)?;
            (Rc::new(encoder), encoder_version, layout)
        }
        None => (previous.encoder.clone(), previous.encoder_version, model::lay_out(campaign, &previous.encoder)?),
    };
    let rearranged = layout != previous.layout || encoder_version != previous.encoder_version;
    if layout != previous.layout {
        let positions = layout.positions_in(&previous.layout);
        learned.parts.iter_mut().for_each(|part| part.rearrange(&layout, &positions));
    }
    // What was learned on top of one offset says little on top of another.
    let reset = encoder.offset() != previous.encoder.offset();
    let retargeted = retarget(&mut learned, campaign.targets(), &layout) || reset;
    let session = Session::new(campaign, &encoder, encoder_version, &layout)?;
    learned.fade(campaign.discount(session.now - learned_at));

    let absorbed = absorb_outcomes(&session, &mut learned)?;
    let new_outcomes = absorbed.len() as i64;
    let waiting = Waiting::count(&session)?;
    let new = waiting.due > 0 || new_outcomes > 0 || rearranged || retargeted;
    let refresh = waiting.open > 0 && session.share(learned_at, session.now) >= OPEN_REFRESH;
    if !new && !refresh && waiting.open == learned.open_decisions {
        budget::settle(campaign, absorbed, session.now)?;
        return Ok(Step { model_version: version, new_decisions: 0, new_outcomes, learned });
    }
    learned.open_decisions = waiting.open;
    let decisions = (learned.decisions + waiting.due) as f64;
    let grown = waiting.due > 0 && decisions >= learned.linearised as f64 * RELINEARISE;
    let corrected = learned.corrections > learned.responses * CORRECTED;
    let open = if grown || corrected || retargeted {
        learned.decisions += take_all_due(&session)?;
        refit(&session, &mut learned)?;
        session.open()?
    } else {
        let mut due = take_due(&session)?;
        while due.len() as i64 == CHUNK {
            absorb_decisions(&session, &mut learned, &due, &[])?;
            pgrx::notice!("learn: {} of {} decisions absorbed", learned.decisions, decisions);
            due = take_due(&session)?;
        }
        let open = session.open()?;
        absorb_decisions(&session, &mut learned, &due, &open)?;
        open
    };
    let version = finish(&session, encoder_version, &mut learned, &open)?;
    budget::settle(campaign, absorbed, session.now)?;
    Ok(Step { model_version: version, new_decisions: waiting.due, new_outcomes, learned })
}

/// Makes the parts those of `targets`. Returns whether one is new, and has to be fitted from the log.
fn retarget(learned: &mut Learned, targets: Vec<Target>, layout: &Layout) -> bool {
    let mut known = std::mem::take(&mut learned.parts);
    let mut new = false;
    for target in targets {
        let part = known.iter().position(|part| part.target == target).map(|at| known.swap_remove(at));
        new |= part.is_none();
        learned.parts.push(part.unwrap_or_else(|| LearnedPart::new(target, layout)));
    }
    new
}

/// Corrects absorbed decisions whose reward changes with the waiting outcomes, then takes those out of the inbox. Returns their ids.
fn absorb_outcomes(session: &Session<'_>, learned: &mut Learned) -> Result<Vec<i64>> {
    let name = session.name();
    let mut absorbed = Vec::new();
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
             SELECT {columns}, d.decided_at, before.given, before.worth, before.harms, after.given, after.worth, after.harms
             FROM touched
             CROSS JOIN LATERAL (
                 SELECT d.* FROM decisioning.decisions d WHERE d.decision_id = touched.decision_id OFFSET 0) AS d
             CROSS JOIN LATERAL {before} AS before
             CROSS JOIN LATERAL {after} AS after",
            columns = session.reader.columns(),
            ids = customer_ids("o.customer_id"),
            before = reward_of(ABSORBED),
            after = reward_of(&format!("(o.outcome_id = ANY ($2) OR {ABSORBED})")),
        );
        let corrections = query::write(&sql, &[name.into(), waiting.clone().into()], |row| {
            let mut observed = session.reader.observed(row, 1)?;
            let decided_at = settings::micros(row.value(6)?).unwrap_or(session.now);
            observed.weight *= session.campaign.discount(session.now - decided_at);
            Ok(Correction { observed, before: Reward::read(row, 7)?, after: Reward::read(row, 10)? })
        })?;
        correct(session, learned, &corrections)?;
        let deleted = query::execute(
            "DELETE FROM decisioning._inbox w WHERE w.campaign = $1 AND w.outcome_id = ANY ($2)",
            &[name.into(), waiting.clone().into()],
        )?;
        absorbed.extend(waiting);
        learned.outcomes += deleted as i64;
    }
}

/// An absorbed decision whose reward changes.
struct Correction {
    observed: Observed,
    before: Reward,
    after: Reward,
}

/// Moves the sums from the rewards before to those after. For worth this is exact. For events the linear term moves and the
/// curvature stays where it was taken.
fn correct(session: &Session<'_>, learned: &mut Learned, corrections: &[Correction]) -> Result<()> {
    let mut row = Vec::new();
    for part in &mut learned.parts {
        let link = part.target.link();
        let width = session.layout.columns.len();
        let (mut gone, mut come) = (Rows::new(link, width), Rows::new(link, width));
        for Correction { observed, before, after } in corrections {
            let rewards = [before, after].map(|reward| reward.of(&part.target, part.unit.as_ref()));
            if rewards[0] == rewards[1] {
                continue;
            }
            match (link, rewards) {
                (Link::Logistic | Link::LogisticAlone, [Some(before), Some(after)]) => {
                    let arm = observed.arm.and_then(|arm| session.arms.get(arm as usize));
                    session.layout.design(&observed.encoded, arm, &mut row);
                    part.statistics.correct(&row, observed.weight * (after - before));
                    learned.corrections += observed.weight;
                    if part.target == Target::Response {
                        learned.responses += observed.weight * (after - before);
                    }
                }
                (_, rewards) => {
                    for (rows, reward) in [&mut gone, &mut come].into_iter().zip(rewards) {
                        if let Some(reward) = reward {
                            let observed = Observed { reward, ..observed.clone() };
                            rows.push(&observed).map_err(|_| misfit(session.campaign))?;
                        }
                    }
                }
            }
        }
        let mut gone = session.linearise(&part.mean, &gone)?;
        gone.scale(-1.0);
        part.statistics.merge(&gone);
        part.statistics.merge(&session.linearise(&part.mean, &come)?);
    }
    Ok(())
}

/// Decisions that are not absorbed yet.
struct Waiting {
    /// Their window has closed.
    due: i64,
    open: i64,
}

impl Waiting {
    fn count(session: &Session<'_>) -> Result<Self> {
        let waiting = query::write(
            "SELECT count(*) FILTER (WHERE w.closes_at <= $2), count(*) FILTER (WHERE w.closes_at > $2)
             FROM decisioning._inbox w WHERE w.campaign = $1 AND w.decision_id IS NOT NULL",
            &[session.name().into(), settings::timestamp(session.now)?.into()],
            |row| Ok(Waiting { due: row.value(1)?, open: row.value(2)? }),
        )?;
        waiting.into_iter().next().ok_or_else(|| Error::corrupted("the inbox cannot be counted"))
    }
}

/// Takes up to [`CHUNK`] decisions whose window has closed out of the inbox.
fn take_due(session: &Session<'_>) -> Result<Vec<Logged>> {
    let sql = format!(
        "WITH due AS MATERIALIZED (
             DELETE FROM decisioning._inbox w
             WHERE w.decision_id = ANY (ARRAY(
                 SELECT i.decision_id FROM decisioning._inbox i
                 WHERE i.campaign = $1 AND i.closes_at <= $2 AND i.decision_id IS NOT NULL
                 ORDER BY i.closes_at, i.decision_id LIMIT $3))
             RETURNING w.decision_id)
         {}",
        session.reader.statement_of("due")
    );
    query::write_large(&sql, &[session.name().into(), settings::timestamp(session.now)?.into(), CHUNK.into()], |row| {
        session.reader.logged(row)
    })
}

/// Takes all decisions whose window has closed out of the inbox; returns how many.
fn take_all_due(session: &Session<'_>) -> Result<i64> {
    let taken = query::execute(
        "DELETE FROM decisioning._inbox w WHERE w.campaign = $1 AND w.closes_at <= $2 AND w.decision_id IS NOT NULL",
        &[session.name().into(), settings::timestamp(session.now)?.into()],
    )?;
    Ok(taken as i64)
}

/// Adds closed decisions to the sums, linearised where they and the open ones put the mode.
fn absorb_decisions(session: &Session<'_>, learned: &mut Learned, due: &[Logged], open: &[Logged]) -> Result<()> {
    for part in &mut learned.parts {
        session.add_delays(due, part);
        let closed = session.rows(part, due, None)?;
        let open = session.open_rows(part, open)?;
        part.mean = session.fit(part, &[&closed, &open])?;
        part.statistics.merge(&session.linearise(&part.mean, &closed)?);
        if part.target == Target::Response {
            learned.responses += closed.rewarded();
        }
    }
    learned.decisions += due.len() as i64;
    Ok(())
}

/// Refits the sums to convergence from the log of absorbed decisions, and the prior scales with them.
fn refit(session: &Session<'_>, learned: &mut Learned) -> Result<()> {
    let nothing = Statistics::new(session.layout.len());
    for part in &mut learned.parts {
        if part.target == Target::Worth {
            part.unit = unit(session)?;
        }
        let mut log = Log::new(session, part);
        let mut fit_log = |part: &mut LearnedPart| {
            let (prior, start) = (part.prior(session.layout), part.mean.clone());
            fit(session.layout, &prior, &session.arms, &nothing, &start, |visit| log.visit(part, visit))
                .map_err(|error| session.unsolvable(error))
        };
        let first = fit_log(part)?;
        part.scales = session.estimate_scales(part, &first.sums)?.0;
        part.mean = first.mode;
        let second = fit_log(part)?;
        part.statistics = second.sums;
        part.mean = second.mode;
        if part.target == Target::Response {
            learned.responses = log.rewarded;
        }
    }
    learned.linearised = learned.decisions;
    learned.corrections = 0.0;
    Ok(())
}

/// Start of what a refit reads.
fn horizon(session: &Session<'_>) -> Result<TimestampWithTimeZone> {
    let age = session.campaign.half_life().map_or(i64::MAX, |half_life| (half_life * HALF_LIVES) as i64);
    settings::timestamp(session.now.saturating_sub(age).max(0))
}

/// The statement that reads all absorbed decisions of campaign $1 since $2.
fn absorbed(session: &Session<'_>) -> String {
    session.reader.statement(
        "decisioning.decisions d",
        "d.campaign = $1 AND d.decided_at > $2
         AND NOT EXISTS (SELECT FROM decisioning._inbox p WHERE p.decision_id = d.decision_id)",
    )
}

/// How worth is counted: winsorised at its 1st and 99th percentile, and standardised; `None` before any response.
fn unit(session: &Session<'_>) -> Result<Option<Unit>> {
    let sql = format!(
        "WITH worths AS MATERIALIZED (SELECT r.worth FROM ({}) AS r WHERE r.given),
         bounds AS (
             SELECT percentile_cont(0.01) WITHIN GROUP (ORDER BY w.worth) AS low,
                    percentile_cont(0.99) WITHIN GROUP (ORDER BY w.worth) AS high
             FROM worths w)
         SELECT avg(greatest(least(w.worth, b.high), b.low)), stddev_pop(greatest(least(w.worth, b.high), b.low)),
                min(b.low), min(b.high)
         FROM worths w CROSS JOIN bounds b HAVING count(*) > 0",
        absorbed(session)
    );
    let found = query::write_large(&sql, &[session.name().into(), horizon(session)?.into()], |row| {
        let spread = row.value::<f64>(2)?;
        // What is always the same has no scale of its own.
        let scale = if spread > 0.0 { spread } else { 1.0 };
        Ok(Unit { centre: row.value(1)?, scale, low: row.value(3)?, high: row.value(4)? })
    })?;
    Ok(found.into_iter().next())
}

/// The log of absorbed decisions, as rows of one part of the model, to be read several times. Rows that fit into
/// maintenance_work_mem are read once, others in every pass, with flat memory.
struct Log<'a> {
    session: &'a Session<'a>,
    sql: String,
    /// What has been read; `None` once it is more than fits into `budget` rows.
    kept: Option<Vec<Rows>>,
    complete: bool,
    budget: usize,
    /// Σ weight · reward of the last reading.
    rewarded: f64,
}

impl<'a> Log<'a> {
    fn new(session: &'a Session<'a>, part: &LearnedPart) -> Self {
        let sql = match part.target {
            Target::Worth => format!("SELECT * FROM ({}) AS r WHERE r.given", absorbed(session)),
            Target::Response | Target::Harm(_) => absorbed(session),
        };
        let budget = settings::maintenance_memory() / (4 * session.layout.columns.len() + 32);
        Log { session, sql, kept: Some(Vec::new()), complete: false, budget, rewarded: 0.0 }
    }

    /// Hands over all rows; whenever it reads them, `part` gets their delays.
    fn visit(&mut self, part: &mut LearnedPart, visit: &mut dyn FnMut(&Rows)) -> Result<()> {
        if let (Some(kept), true) = (&self.kept, self.complete) {
            for rows in kept {
                interrupt::check();
                without_signals(|| visit(rows));
            }
            return Ok(());
        }
        let session = self.session;
        part.delays = Delays::default();
        self.rewarded = 0.0;
        query::stream(
            &self.sql,
            &[session.name().into(), horizon(session)?.into()],
            FETCH,
            |row| session.reader.logged(row),
            |logged| {
                session.add_delays(&logged, part);
                let mut rows = session.rows(part, &logged, None)?;
                self.rewarded += rows.rewarded();
                without_signals(|| visit(&rows));
                let size = self.kept.iter().flatten().map(Rows::len).sum::<usize>();
                match &mut self.kept {
                    // Few large batches: sums over a batch are spread over the coefficients once.
                    Some(kept) if size + rows.len() <= self.budget => match kept.last_mut() {
                        Some(last) if last.len() < CHUNK as usize => {
                            last.append(&mut rows).map_err(|_| misfit(session.campaign))?
                        }
                        _ => kept.push(rows),
                    },
                    _ => self.kept = None,
                }
                Ok(())
            },
        )?;
        self.complete = true;
        Ok(())
    }
}

/// Estimates the prior scales, and stores the next model version. `open` counts in it, but not in the sums.
fn finish(session: &Session<'_>, encoder_version: i32, learned: &mut Learned, open: &[Logged]) -> Result<i64> {
    let mut posteriors = Vec::with_capacity(learned.parts.len());
    for part in &mut learned.parts {
        let open = session.open_rows(part, open)?;
        let mode = session.fit(part, &[&open])?;
        let mut sums = part.statistics.clone();
        sums.merge(&session.linearise(&mode, &open)?);
        let (scales, posterior) = session.estimate_scales(part, &sums)?;
        part.scales = scales;
        posteriors.push(posterior);
    }
    let version = model::store(session.campaign, encoder_version, session.layout, learned, &posteriors)?;
    budget::look(session.campaign, version, session.now)?;
    Ok(version)
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
            name!(open_decisions, i64),
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
        step.learned.open_decisions,
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
        let mut learned = lock_for_rebuild(&campaign)?;
        let layout = model::lay_out(&campaign, &encoder)?;
        let encoder_version = model::store_encoder(name, &encoder)?;
        learned.parts = Learned::new(campaign.targets(), &layout).parts;
        let session = Session::new(&campaign, &encoder, encoder_version, &layout)?;
        learned.open_decisions = Waiting::count(&session)?.open;
        refit(&session, &mut learned)?;
        let open = session.open()?;
        let version = finish(&session, encoder_version, &mut learned, &open)?;
        Ok((version, learned.decisions, learned.outcomes))
    })?;
    Ok(TableIterator::once(row))
}

/// Like [`lock`], but takes nothing from the learning state, which may be what is damaged, but the count of outcomes.
fn lock_for_rebuild(campaign: &Campaign) -> Result<Learned> {
    let outcomes = query::write(
        "SELECT l.outcomes FROM decisioning._learner l WHERE l.campaign = $1 FOR UPDATE",
        &[campaign.campaign.as_str().into()],
        |row| row.value::<i64>(1),
    )?
    .into_iter()
    .next()
    .ok_or_else(|| {
        Error::state(format!("campaign \"{}\" has no model yet", campaign.campaign))
            .hint("Start it with decisioning.start_campaign.")
    })?;
    let decisions = query::write(
        "SELECT count(*) FROM decisioning.decisions d
         WHERE d.campaign = $1 AND NOT EXISTS (SELECT FROM decisioning._inbox p WHERE p.decision_id = d.decision_id)",
        &[campaign.campaign.as_str().into()],
        |row| row.value::<i64>(1),
    )?;
    Ok(Learned { decisions: decisions.into_iter().next().unwrap_or(0), outcomes, ..Learned::default() })
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
