//! Learn: absorb what is new, exactly once.
//!
//! Every decision and every outcome waits in the inbox from the transaction that wrote it until the transaction that
//! absorbs it. "Absorbed" therefore means "not in the inbox", for decisions and for outcomes alike, and the reward that
//! the sums hold for an absorbed decision is the one that absorbed outcomes give it.
//!
//! A decision is absorbed when its window has closed. Until then it counts in every model anew, by what is known of it at
//! the time. Sums are kept by when decisions were made: what came later says how far the world has drifted from what was before.

mod correct;
mod inbox;
mod refit;
mod session;
pub mod sums;

use std::collections::HashMap;
use std::rc::Rc;

use decisioning_core::features::{Encoder, Feature};
use decisioning_core::learn::{Drift, Epochs, Layout, Rows, Statistics};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::Uuid;

use super::campaign::{self, Campaign, Target};
use super::delivery;
use super::fairness::guardrail as fairness;
use super::log::Logged;
use super::maintained::{Failed, Steps};
use super::model::{self, Current, Learned, LearnedPart};
use super::{brand, budget, follow};
use super::{feature_balance, guardrail_cost, insights, now, ramp, source, stop};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, impatient};
use crate::pg::transaction::attempt;
use crate::pg::{interrupt, query, settings};

use correct::{absorb_outcomes, reassess};
use inbox::{take_all_due, Due, Waiting};
use refit::{refit_others, refit_response};
use session::Session;

/// Decisions absorbed at a time; bounds the memory that one step holds.
const CHUNK: i64 = 50_000;

/// With nothing else new, open decisions are looked at again when this share of their window has passed.
const OPEN_REFRESH: f64 = 1.0 / 64.0;

/// Refit from the log once it has grown by this factor since the sums were last linearised: the work stays
/// proportional to the log, and predictions stay near those of a full refit.
const RELINEARISE: f64 = 1.5;

/// Refit too when this share of all rewards changed after their decision was absorbed: a correction moves the linear
/// term only, which is exact for the data but drifts from where the curvature was taken.
const CORRECTED: f64 = 0.02;

/// How often one call of learn looks for crosses of features again with those that it found.
const ROUNDS: usize = 4;

/// Most coefficients that a campaign may have (coefficient_limit).
const LARGEST_LAYOUT: usize = 4096;

/// Months, from this one on, without a partition of which it is time to speak.
const URGENT: i32 = 2;

/// Makes the partitions of this and the next three months. One that is attached is locked out of by whoever reads the log, and whoever
/// decides would queue behind it: where somebody does, it is left for the next time. Runs as the owner.
pub fn make_partitions() -> Result<()> {
    for month in 0..=3 {
        let made = attempt(|| {
            impatient(|| {
                let sql = "SELECT decisioning._make_partition($1 + $2 * interval '1 month')";
                query::execute(sql, &[now()?.into(), month.into()])
            })
        });
        match made {
            Ok(_) => {}
            Err(failure) if failure.sql_error_code() == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                if month < URGENT {
                    let what = if month == 0 { "this month" } else { "the next month" };
                    Error::new(failure.sql_error_code(), format!("the log has no partition for {what} yet"))
                        .detail("A transaction that has read the log keeps it from being attached. Decisions go to decisioning.decisions_default until it is.")
                        .hint("End transactions that are idle, and call decisioning.maintain() again.")
                        .warn();
                }
                break;
            }
            Err(failure) => return Err(failure.error(failure.message())),
        }
    }
    Ok(())
}

/// Locks the learning state. Runs as the owner.
fn lock_learner(name: &str) -> Result<()> {
    query::write("SELECT FROM decisioning._learner l WHERE l.campaign = $1 FOR UPDATE", &[name.into()], |_| Ok(()))?;
    Ok(())
}

/// Locks the learning state, so that one session learns a campaign at a time; returns it, without its sums, with its model version
/// and when it was written. Runs as the owner.
fn lock(campaign: &Campaign) -> Result<(i64, i64, String, Learned)> {
    let damaged = || sums::damaged(campaign);
    let name = campaign.campaign.as_str();
    let (version, learned_at, reward_rule, mut learned) = query::write(
        "SELECT l.model_version, l.decisions, l.outcomes, l.open_decisions, l.linearised, l.responses, l.corrections,
                l.learned_at, l.absorbed_until, l.goals
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
                absorbed_until: settings::micros(row.value(9)?).ok_or_else(damaged)?,
            };
            let learned_at = settings::micros(row.value(8)?).ok_or_else(damaged)?;
            Ok((row.value::<i64>(1)?, learned_at, row.value::<String>(10)?, learned))
        },
    )?
    .into_iter()
    .next()
    .ok_or_else(|| {
        Error::state(format!("campaign \"{name}\" has nothing to learn yet"))
            .hint("Start it with decisioning.start_campaign, or import history with decisioning.import_decisions.")
    })?;
    learned.parts = query::write(
        "SELECT p.part, p.unit::text, p.delays::text, p.scales::text, m.coefficients,
                m.drift::text, m.drifted_at
         FROM decisioning._learner_part p
         JOIN decisioning._model_part m ON m.campaign = p.campaign AND m.model_version = $2 AND m.part = p.part
         WHERE p.campaign = $1 ORDER BY p.part <> 'response', p.part",
        &[name.into(), version.into()],
        |row| {
            Ok(LearnedPart {
                target: Target::parse(&row.value::<String>(1)?)?,
                unit: row.get::<String>(2)?.map(|unit| serde_json::from_str(&unit)).transpose()?,
                sums: Epochs::new(0),
                delays: serde_json::from_str(&row.value::<String>(3)?)?,
                scales: serde_json::from_str(&row.value::<String>(4)?)?,
                mean: row.value(5)?,
                drift: serde_json::from_str(&row.value::<String>(6)?)?,
                drifted_at: row.get(7)?.map(|at| settings::micros(at).ok_or_else(damaged)).transpose()?,
            })
        },
    )?;
    if learned.parts.first().is_none_or(|part| part.target != Target::Response) {
        return Err(damaged());
    }
    Ok((version, learned_at, reward_rule, learned))
}

/// The encoder for the columns as they are now: that of `model`, unless features came or went. Features that stay keep
/// their standardisation, so what was learned of them holds. It has no crosses yet. Runs as the caller.
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
    reached: Reached,
}

/// What changed rewards: budgets are still to be settled for it.
#[derive(Default)]
pub struct Reached {
    /// The new outcomes, by id.
    pub outcomes: Vec<i64>,
    /// Decisions whose customer is another than he was.
    pub decisions: Vec<Uuid>,
}

fn learn_campaign(name: &str) -> Result<(Rc<Campaign>, Step)> {
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    let goals: Vec<String> = campaign.goals.iter().map(|goal| goal.goal.clone()).collect();
    // Whoever forgets a customer locks learners before events.
    as_owner(|| lock_learner(name))?;
    source::ingest(Some(&goals), false)?;
    learn_recorded(name)
}

/// The same without reading sources.
fn learn_recorded(name: &str) -> Result<(Rc<Campaign>, Step)> {
    ramp::follow(name)?;
    let (campaign, model_version) = as_owner(|| campaign::load(name))?;
    let compiled = as_owner(|| model::current(&campaign, model_version))?;
    let adapted = adapted_encoder(&campaign, &compiled.model)?;
    let step = as_owner(|| absorb(&campaign, adapted))?;
    Ok((campaign, step))
}

/// Settles the budgets of a campaign that has learned. Runs as the owner.
fn settle(campaign: &Campaign, reached: Reached) -> Result<()> {
    budget::settle(campaign, reached, settings::now_micros()?)
}

/// Whether a feature of another type had the name of this one.
fn is_retyped(feature: &Feature, before: &Encoder) -> bool {
    let known = before.features.iter().find(|known| known.name == feature.name);
    known.is_some_and(|known| model::declaration(&known.kind) != model::declaration(&feature.kind))
}

/// Runs as the owner.
fn absorb(campaign: &Campaign, adapted: Option<Encoder>) -> Result<Step> {
    let name = campaign.campaign.as_str();
    let (version, learned_at, reward_rule, mut learned) = lock(campaign)?;
    let previous = model::load(name, version)?;
    // Another session may have adapted it meanwhile, or found crosses.
    let (encoder, encoder_version, layout) =
        match adapted.filter(|adapted| adapted.features != previous.encoder.features) {
            Some(encoder) => {
                let encoder = encoder.crossed_like(&previous.encoder);
                let layout = model::lay_out(campaign, &encoder)?;
                let encoder_version = model::store_encoder(name, &encoder, None)?;
                (Rc::new(encoder), encoder_version, layout)
            }
            None => (previous.encoder.clone(), previous.encoder_version, model::lay_out(campaign, &previous.encoder)?),
        };
    let rearranged = layout != previous.layout || encoder_version != previous.encoder_version;
    let targets = campaign.targets();
    let is_known = |target: &Target| learned.parts.iter().any(|part| part.target == *target);
    // What was learned on top of one offset says little on top of another, nor what was learned of a number of a boolean of its name;
    // and rewards by other goals are other rewards.
    let retargeted = encoder.offset() != previous.encoder.offset()
        || !targets.iter().all(is_known)
        || reward_rule != campaign.reward_rule()
        || encoder.features.iter().any(|feature| is_retyped(feature, &previous.encoder));
    let session = Session::new(campaign, &encoder, encoder_version, &layout)?;
    let waiting = Waiting::count(&session)?;
    let new = waiting.due > 0 || waiting.changes || rearranged || retargeted;
    let refresh = waiting.open > 0 && session.share(learned_at, session.now) >= OPEN_REFRESH;
    if !new && !refresh && waiting.open == learned.open_decisions {
        let reached = Reached::default();
        return Ok(Step { model_version: version, new_decisions: 0, new_outcomes: 0, learned, reached });
    }
    for part in &mut learned.parts {
        part.sums = sums::read(campaign, part, learned_at)?;
    }
    if layout != previous.layout {
        let positions = layout.positions_in(&previous.layout);
        learned.parts.iter_mut().for_each(|part| part.rearrange(&layout, &positions));
    }
    retarget(&mut learned, targets, &layout);
    learned.fade(campaign.discount(session.now - learned_at));

    let decisions = reassess(&session, &mut learned)?;
    let outcomes = absorb_outcomes(&session, &mut learned)?;
    let new_outcomes = outcomes.len() as i64;
    let reached = Reached { outcomes, decisions };
    learned.open_decisions = waiting.open;
    let decisions = (learned.decisions + waiting.due) as f64;
    let grown = waiting.due > 0 && decisions >= learned.linearised as f64 * RELINEARISE;
    let corrected = learned.corrections > learned.responses * CORRECTED;
    let mut designs = Default::default();
    let (session, open) = if grown || corrected || retargeted {
        learned.decisions += take_all_due(&session)?;
        let session = refit_with_crosses(session, &mut learned, &mut designs)?;
        let open = session.open()?;
        (session, open)
    } else {
        let mut all_due = Due::new(&session);
        let mut due = all_due.next()?;
        while due.len() as i64 == CHUNK {
            absorb_decisions(&session, &mut learned, &due, &[])?;
            pgrx::notice!("learn: {} of {} decisions absorbed", learned.decisions, decisions);
            due = all_due.next()?;
        }
        let open = session.open()?;
        absorb_decisions(&session, &mut learned, &due, &open)?;
        (session, open)
    };
    let version = finish(&session, &mut learned, &open)?;
    Ok(Step { model_version: version, new_decisions: waiting.due, new_outcomes, learned, reached })
}

/// An encoder that was stored, and the layout for it.
struct Design {
    encoder: Encoder,
    encoder_version: i32,
    layout: Layout,
}

/// Refits from the log; and if that speaks for crosses of features, again with these, for as long as it does. `designs` are to hold what
/// is then new.
fn refit_with_crosses<'a>(
    mut session: Session<'a>,
    learned: &mut Learned,
    designs: &'a mut [Option<Design>; ROUNDS],
) -> Result<Session<'a>> {
    let mut crosses = refit_response(&session, learned)?;
    for design in designs {
        if crosses.is_empty() {
            break;
        }
        let campaign = session.campaign;
        let encoder = session.reader.encoder.crossed(&crosses);
        let layout = model::lay_out(campaign, &encoder)?;
        let encoder_version = model::store_encoder(session.name(), &encoder, Some(session.reader.encoder_version))?;
        let columns = &layout.columns[session.layout.columns.len()..];
        pgrx::notice!("the model of campaign \"{}\" grows by {}", session.name(), columns.join(", "));
        let positions = layout.positions_in(session.layout);
        learned.parts.iter_mut().for_each(|part| part.rearrange(&layout, &positions));
        let Design { encoder, encoder_version, layout } = design.insert(Design { encoder, encoder_version, layout });
        // Of the same moment: what is due has been taken.
        session = Session { now: session.now, ..Session::new(campaign, encoder, *encoder_version, layout)? };
        crosses = refit_response(&session, learned)?;
    }
    refit_others(&session, learned)?;
    Ok(session)
}

/// Makes the parts those of `targets`: what is new of them knows only the prior.
fn retarget(learned: &mut Learned, targets: Vec<Target>, layout: &Layout) {
    let mut known = std::mem::take(&mut learned.parts);
    for target in targets {
        let part = known.iter().position(|part| part.target == target).map(|at| known.swap_remove(at));
        learned.parts.push(part.unwrap_or_else(|| LearnedPart::new(target, layout)));
    }
}

/// Adds closed decisions, the oldest first, to the sums, linearised where they and the open ones put the mode. After a drift that
/// is where what is known from before counts less: or else what they say would be read as if it were of both worlds.
fn absorb_decisions(session: &Session<'_>, learned: &mut Learned, due: &[Logged], open: &[Logged]) -> Result<()> {
    let Some((first, last)) = due.first().zip(due.last()) else { return Ok(()) };
    for part in &mut learned.parts {
        due.iter().for_each(|logged| session.add_delay(&mut part.delays, &part.target, logged));
        part.sums.begin(first.decided_at, session.now, session.window());
        let epoch = |logged: &Logged| part.sums.position(logged.decided_at);
        let closed = due
            .chunk_by(|a, b| epoch(a) == epoch(b))
            .map(|due| Ok((due[0].decided_at, session.rows(part, due, None)?)))
            .collect::<Result<Vec<(i64, Rows)>>>()?;
        let open = session.open_rows(part, open)?;
        let batches: Vec<&Rows> = closed.iter().map(|(_, rows)| rows).chain(&open).collect();
        part.mean = session.fit(part, &session.known(part, first.decided_at), &part.mean, &batches)?;
        for (decided_at, rows) in &closed {
            part.sums.at(*decided_at).merge(&session.linearise(&part.mean, &[rows])?);
            if part.target == Target::Response {
                learned.responses += rows.rewarded();
            }
        }
    }
    learned.decisions += due.len() as i64;
    learned.absorbed_until = learned.absorbed_until.max(last.decided_at);
    Ok(())
}

/// Estimates the prior scales and how far the world has drifted, and stores the next model version. `open` counts in it, but
/// not in the sums.
fn finish(session: &Session<'_>, learned: &mut Learned, open: &[Logged]) -> Result<i64> {
    let mut current = Vec::with_capacity(learned.parts.len());
    for part in &mut learned.parts {
        part.sums.settle(session.now, session.window(), part.drifted_at);
        let stages = session.open_stages(part, open)?;
        let batches: Vec<&Rows> = stages.iter().flat_map(|stage| &stage.rows).collect();
        let mode = session.fit(part, &part.sums.total(), &part.mean, &batches)?;
        let open = stages
            .iter()
            .map(|stage| session.linearise(&mode, &stage.rows.iter().collect::<Vec<_>>()))
            .collect::<Result<Vec<_>>>()?;
        let worlds = session.worlds(part, stages.iter().map(|stage| stage.since).zip(&open));
        part.scales = session.estimate_scales(part, &worlds)?;
        let prior = part.prior(session.layout);
        let all: Vec<&Statistics> = part.sums.iter().map(|epoch| &epoch.sums).chain(&open).collect();
        current.push(match Drift::estimate(session.layout, &prior, &all, interrupt::check) {
            Some(drift) => session.after_drift(part, drift, &mode, &stages)?,
            None => Current::steady(session.posterior(&prior, &worlds)?),
        });
    }
    let version = model::store(session.campaign, session.reader.encoder_version, session.layout, learned, &current)?;
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
    let (campaign, step) = learn_campaign(required(campaign, "campaign")?)?;
    as_owner(delivery::clear_outbox)?;
    as_owner(|| settle(&campaign, step.reached))?;
    as_owner(delivery::keep_house)?;
    as_owner(make_partitions)?;
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
        let encoder_version = model::store_encoder(name, &encoder, None)?;
        learned.parts = Learned::new(campaign.targets(), &layout).parts;
        for part in &mut learned.parts {
            part.sums = Epochs::beginning(layout.len(), sums::beginnings(&campaign, &part.target)?);
        }
        let session = Session::new(&campaign, &encoder, encoder_version, &layout)?;
        learned.open_decisions = Waiting::count(&session)?.open;
        let mut designs = Default::default();
        let session = refit_with_crosses(session, &mut learned, &mut designs)?;
        let open = session.open()?;
        let version = finish(&session, &mut learned, &open)?;
        Ok((version, learned.decisions, learned.outcomes))
    })?;
    Ok(TableIterator::once(row))
}

/// Like [`lock`], but takes nothing from the learning state, which may be what is damaged, but the count of outcomes. (When epochs
/// begin is kept too: a drift is looked for between the same decisions.)
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
fn maintain() -> std::result::Result<
    TableIterator<
        'static,
        (name!(campaign, Option<String>), name!(step, String), name!(error, String), name!(hint, Option<String>)),
    >,
    ErrorReport,
> {
    let mut steps = Steps::default();
    // Whoever forgets a customer locks learners before events, and learning reads events first.
    as_owner(follow::lock_learners)?;
    let learned = learn_all(&mut steps)?;
    fairness::follow_all(&mut steps)?;
    guardrail_cost::keep_all(&mut steps)?;
    feature_balance::keep_all(&mut steps)?;
    insights::keep_all(&mut steps)?;
    // Dates of rules and claims have passed: decisions that are under way end first, hence not before what takes long.
    steps.take("brand rules", None, || as_owner(brand::reassess));
    stop::check_all(&mut steps)?;
    steps.take("outbox", None, || as_owner(delivery::clear_outbox));
    let sources = as_owner(|| delivery::sources(false))?;
    as_owner(delivery::begin_reports)?;
    // Nobody can change any send, or send under a budget that is settled, from here to the end of the transaction: hence after all that
    // takes long. Budgets come before contacts are amended, in the order in which deciders lock. What learning has taken out of the inbox
    // is settled, or learning is undone with it: no step of its own.
    for (campaign, step) in learned {
        as_owner(|| settle(&campaign, step.reached))?;
    }
    for source in sources {
        let step = format!("delivery source \"{}\"", source.name);
        steps.take(&step, None, || delivery::ingest_source(&source));
    }
    steps.take("deliveries", None, || as_owner(delivery::keep_house));
    steps.take("budgets", None, || as_owner(budget::forget_old_reservations));
    // A new partition locks out whoever reads the log until the transaction ends.
    steps.take("partitions", None, || as_owner(make_partitions));
    let failed = steps.failed.into_iter().map(|Failed { campaign, step, error, hint }| (campaign, step, error, hint));
    Ok(TableIterator::new(failed.collect::<Vec<_>>()))
}

/// Reads the outcome sources of all campaigns that run, each once, and learns for those of which all were read.
fn learn_all(steps: &mut Steps) -> Result<Vec<(Rc<Campaign>, Step)>> {
    let campaigns = as_owner(|| {
        query::read(
            "SELECT c.campaign, ARRAY(SELECT g.goal FROM decisioning.campaign_goals g WHERE g.campaign = c.campaign)
             FROM decisioning.campaigns c JOIN decisioning._learner l ON l.campaign = c.campaign
             WHERE c.status IN ('active', 'paused') ORDER BY c.campaign",
            &[],
            |row| Ok((row.value::<String>(1)?, row.value::<Vec<String>>(2)?)),
        )
    })?;
    let mut goals: Vec<String> = campaigns.iter().flat_map(|(_, goals)| goals).cloned().collect();
    goals.sort_unstable();
    goals.dedup();
    let mut unread = HashMap::new();
    for source in as_owner(|| source::sources(Some(&goals), false))? {
        let step = format!("outcome source \"{}\"", source.name);
        if steps.take(&step, None, || source::ingest_source(&source)).is_none() {
            unread.insert(source.goal, source.name);
        }
    }
    let learn = |(name, goals): &(String, Vec<String>)| {
        steps.take("learning", Some(name), || match goals.iter().find_map(|goal| unread.get(goal)) {
            None => learn_recorded(name),
            Some(source) => Err(Error::state(format!("outcome source \"{source}\" could not be read")).hint(
                "It learns again when the source can be read or is removed: what is not seen would look like failure.",
            )),
        })
    };
    Ok(campaigns.iter().filter_map(learn).collect())
}

#[pg_extern(sql = false)]
fn _coefficient_names(layout: pgrx::JsonB) -> std::result::Result<Vec<String>, ErrorReport> {
    let layout: Layout = serde_json::from_value(layout.0).map_err(Error::from)?;
    if !layout.is_consistent() || layout.len() > LARGEST_LAYOUT {
        return Err(Error::invalid("this is not the layout of a model").into());
    }
    Ok(layout.coefficient_names())
}
