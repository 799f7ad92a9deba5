//! Off-policy evaluation: what would another policy have earned on logged decisions?

use std::collections::{HashMap, HashSet};

use decisioning_core::decide::{propensities, Rule, Salt};
use decisioning_core::evaluate::{Estimator, Evaluation, RewardModel, Term};
use decisioning_core::learn::{Link, Observed, Rows};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde::Deserialize;

use super::campaign::{self, Campaign, NO_SEND};
use super::log::{rewards, Reader};
use super::model::{self, Compiled};
use super::now;
use super::pipeline::Candidates;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::{interrupt, query, settings};

/// Rows per fetch.
const FETCH: usize = 10_000;

/// Decisions between two looks at the user's wish to cancel: many policies make each one dear.
const TICK: i64 = 256;

/// Customers are split into so many parts; the reward model that judges one has learned from the others.
const FOLDS: usize = 2;

/// Share of a policy's choices that the log may not have been able to make: it bounds what they can add to a rate.
const UNSUPPORTED: f64 = 0.01;

/// Changes that act on which decisions come about at all.
const SEQUENTIAL: [&str; 10] = [
    "attribution_window",
    "audience",
    "budget",
    "cadence",
    "decision_period",
    "frequency_caps",
    "period",
    "quiet_hours",
    "stop_rules",
    "time_zone",
];

/// Rules that are other than the campaign's.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    propensity_floor: Option<f64>,
    #[serde(default)]
    paused_actions: Vec<String>,
}

impl Changes {
    /// # Errors
    /// A change that one-step weights cannot value, or one that is not known.
    fn parse(document: JsonB, campaign: &Campaign) -> Result<Self> {
        let sequential = document.0.as_object().and_then(|o| o.keys().find(|key| SEQUENTIAL.contains(&key.as_str())));
        if let Some(key) = sequential {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("a change of \"{key}\" cannot be valued from the log"),
            )
            .detail("It changes which decisions come about; the log only says what each decision would have earned.")
            .hint("Run it for a random group of customers, in a campaign of its own, and compare the groups."));
        }
        let changes: Changes = serde_json::from_value(document.0).map_err(|error| {
            Error::invalid(format!("changes cannot be read: {error}"))
                .hint("For example {\"propensity_floor\": 0.05, \"paused_actions\": [\"sms\"]}.")
        })?;
        if changes.propensity_floor.is_some_and(|floor| !(0.0..=1.0).contains(&floor)) {
            return Err(Error::invalid("propensity_floor must be between 0 and 1"));
        }
        match changes.paused_actions.iter().find(|name| campaign.actions.iter().all(|action| action.action != **name)) {
            Some(name) => Err(Error::missing(format!("campaign \"{}\" has no action \"{name}\"", campaign.campaign))),
            None => Ok(changes),
        }
    }
}

/// A policy to value.
enum Target {
    Learned,
    Logged,
    Random,
    /// The candidate at this position.
    Always(usize),
}

/// A logged decision whose choice was random.
struct Past {
    observed: Observed,
    action_id: i32,
    propensity: f64,
    /// The model has learned from it.
    absorbed: bool,
    customer_id: String,
    /// Actions that could have been taken; `None` in an imported decision, which does not say.
    possible: Option<Vec<i32>>,
    /// Actions that guardrails did not let any policy take.
    barred: Vec<i32>,
}

/// What all steps of one call share.
pub struct Session<'a> {
    pub campaign: &'a Campaign,
    pub compiled: &'a Compiled,
    pub reader: Reader<'a>,
    candidates: Candidates,
    floor: f64,
    salt: Salt,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    pub now: TimestampWithTimeZone,
}

/// Closed decisions `d` of campaign $1 that were random, from $2 to $3, with a window of $4 seconds, now being $5. A
/// decision that could not have been another says nothing of other policies; what `thin_log` has left says the wrong things, since sends
/// may have stayed and others not.
pub const RANDOM_DECISIONS: &str = "
    d.campaign = $1 AND d.treatment_group IN ('imported', 'explore', 'optimise') AND d.propensity < 1
    AND d.decided_at >= coalesce((SELECT t.until FROM decisioning._thinned t), '-infinity')
    AND ($2::timestamptz IS NULL OR d.decided_at >= $2) AND ($3::timestamptz IS NULL OR d.decided_at < $3)
    AND d.decided_at + $4 * interval '1 second' <= $5";

impl<'a> Session<'a> {
    /// All random decisions of a campaign, and its current policy. Runs as the owner.
    pub fn new(campaign: &'a Campaign, compiled: &'a Compiled) -> Result<Self> {
        Ok(Session {
            reader: Reader::new(campaign, &compiled.model.encoder, compiled.model.encoder_version)?,
            candidates: Candidates::of(campaign, settings::now_micros()?),
            floor: campaign.rules.propensity_floor,
            salt: campaign.salt(),
            campaign,
            compiled,
            since: None,
            until: None,
            now: now()?,
        })
    }

    fn arguments(&self) -> [query::Argument<'_>; 5] {
        [
            self.campaign.campaign.as_str().into(),
            self.since.into(),
            self.until.into(),
            self.campaign.window_seconds().into(),
            self.now.into(),
        ]
    }

    /// The number of decisions, and the actions that imported ones took.
    ///
    /// # Errors
    /// There are none.
    pub fn count(&self) -> Result<(usize, HashSet<i32>)> {
        self.counted()?.ok_or_else(|| {
            Error::state(format!(
                "campaign \"{}\" has no closed decisions with propensities below 1 in this time",
                self.campaign.campaign
            ))
            .hint("Import history with decisioning.import_decisions, or wait until attribution windows close.")
        })
    }

    /// The same; `None` if there are none.
    pub fn counted(&self) -> Result<Option<(usize, HashSet<i32>)>> {
        let sql = format!(
            "SELECT count(*), array_agg(DISTINCT d.action_id) FILTER (WHERE d.origin = 'import')
             FROM decisioning.decisions d WHERE {RANDOM_DECISIONS}"
        );
        let row = |row: &query::Row<'_, '_>| Ok((row.value::<i64>(1)?, row.get::<Vec<i32>>(2)?));
        let (count, imported) = query::read_one(&sql, &self.arguments(), row)?.unwrap_or_default();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok((count > 0).then(|| (count, imported.unwrap_or_default().into_iter().collect())))
    }

    /// Hands over the decisions in order of time.
    fn stream(&self, consume: impl FnMut(Vec<Past>) -> Result<()>) -> Result<()> {
        let sql = format!(
            "WITH {rewards}
             SELECT {columns}, coalesce(reward.given, false), d.propensity, p.decision_id IS NULL,
                    coalesce(b.customer_id, d.customer_id),
                    CASE WHEN d.origin <> 'import' THEN ARRAY(
                        SELECT c.action_id FROM unnest(d.candidates, d.propensities) AS c(action_id, propensity)
                        WHERE c.propensity > 0) END,
                    CASE WHEN d.origin <> 'import' THEN ARRAY(
                        SELECT a.action_id::integer FROM jsonb_each(d.removed) AS r
                        CROSS JOIN LATERAL jsonb_array_elements_text(r.value) AS a(action_id)
                        UNION SELECT 0 WHERE 0 <> ALL (d.candidates)) ELSE '{{}}' END
             FROM decisioning.decisions d
             LEFT JOIN rewards reward ON reward.decision_id = d.decision_id
             LEFT JOIN decisioning._inbox p ON p.decision_id = d.decision_id
             LEFT JOIN decisioning._log_alias b ON b.alias = d.customer_id
             WHERE {RANDOM_DECISIONS}
             ORDER BY d.decision_id",
            rewards = rewards("decisioning.decisions d", RANDOM_DECISIONS, "true"),
            columns = self.reader.columns(),
        );
        let decode = |row: &query::Row<'_, '_>| {
            let reward = f64::from(u8::from(row.value::<bool>(6)?));
            Ok(Past {
                // A policy's value is a mean over decisions, so each counts once, overlapping or not.
                observed: Observed { weight: 1.0, reward, ..self.reader.observed(row, 1)? },
                action_id: row.value(1)?,
                propensity: row.value(7)?,
                absorbed: row.value(8)?,
                customer_id: row.value(9)?,
                possible: row.get(10)?,
                barred: row.value(11)?,
            })
        };
        query::stream(&sql, &self.arguments(), FETCH, decode, consume)
    }

    /// The reward model, by position, that has not seen a customer.
    pub fn fold(&self, customer_id: &str) -> usize {
        self.salt.fold(customer_id, FOLDS)
    }

    /// Propensities of the learned policy for candidates in an encoded context.
    pub fn learned(&self, encoded: &[f32], arms: &[Option<usize>]) -> Vec<f64> {
        let Compiled { policy, terms, .. } = self.compiled;
        propensities(&Rule::Learned { policy, terms, encoded, floor: self.floor }, arms)
    }

    /// Propensities, of all candidates, of the learned policy and of one that takes all alike, where some are barred: guardrails hold
    /// whatever the policy.
    fn under_guardrails(&self, past: &Past) -> [Vec<f64>; 2] {
        let Candidates { ids, arms } = &self.candidates;
        let open: Vec<usize> = (0..ids.len()).filter(|at| !past.barred.contains(&ids[*at])).collect();
        let (mut learned, mut uniform) = (vec![0.0; ids.len()], vec![0.0; ids.len()]);
        if !open.is_empty() {
            let candidates: Vec<Option<usize>> = open.iter().map(|at| arms[*at]).collect();
            for (at, propensity) in open.iter().zip(self.learned(&past.observed.encoded, &candidates)) {
                learned[*at] = propensity;
                uniform[*at] = 1.0 / open.len() as f64;
            }
        }
        [learned, uniform]
    }

    /// A reward model for each fold, fitted to the customers of the others: to all their decisions, or to evenly spaced
    /// ones that fit into maintenance_work_mem.
    pub fn reward_models(&self, count: usize) -> Result<Vec<RewardModel<'_>>> {
        let width = self.compiled.model.layout.columns.len();
        let step = count.div_ceil((settings::maintenance_memory() / (4 * width + 32)).max(1));
        let misfit =
            || Error::corrupted(format!("a decision of \"{}\" does not fit its model", self.campaign.campaign));
        // By fold and batch, so that one can be left out.
        let mut parts: Vec<Vec<Rows>> = vec![Vec::new(); FOLDS];
        let mut place = 0;
        self.stream(|batch| {
            let mut rows = vec![Rows::new(Link::Logistic, width); FOLDS];
            for past in &batch {
                if place % step == 0 {
                    rows[self.fold(&past.customer_id)].push(&past.observed).map_err(|_| misfit())?;
                }
                place += 1;
            }
            parts.iter_mut().zip(rows).for_each(|(part, rows)| part.push(rows));
            Ok(())
        })?;
        (0..FOLDS)
            .map(|fold| {
                let others = parts.iter().enumerate().filter(|(part, _)| *part != fold);
                let others: Vec<&Rows> = others.flat_map(|(_, part)| part).collect();
                RewardModel::fit(&self.compiled.model.layout, &self.compiled.arms, &others, interrupt::check)
                    .map_err(|error| Error::corrupted(format!("the reward model cannot be fitted: {error}")))
            })
            .collect()
    }

    fn name_of(&self, target: &Target) -> String {
        match target {
            Target::Learned => "learned".to_owned(),
            Target::Logged => "logged".to_owned(),
            Target::Random => "random".to_owned(),
            Target::Always(at) => {
                let action = self.campaign.action(self.candidates.ids[*at]);
                format!("always {}", action.map_or(NO_SEND, |action| &action.action))
            }
        }
    }

    /// All policies, or the one that is named.
    fn targets(&self, name: Option<&str>) -> Result<Vec<Target>> {
        let fixed = (0..self.candidates.ids.len()).map(Target::Always);
        let all: Vec<Target> = [Target::Learned, Target::Logged, Target::Random].into_iter().chain(fixed).collect();
        let Some(name) = name else { return Ok(all) };
        let names: Vec<String> = all.iter().map(|target| self.name_of(target)).collect();
        match names.iter().position(|known| known == name) {
            Some(at) => Ok(all.into_iter().skip(at).take(1).collect()),
            None => Err(Error::missing(format!("there is no policy \"{name}\" to value"))
                .hint(format!("Policies are: {}.", names.join(", ")))),
        }
    }
}

type EvaluationRow = (
    String,
    String,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    i64,
    f64,
    f64,
    f64,
    bool,
);

#[pg_extern(sql = false)]
fn evaluate_policy(
    campaign: Option<&str>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    confidence: Option<f64>,
    policy: Option<&str>,
    changes: Option<JsonB>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(policy, String),
            name!(estimator, String),
            name!(value, Option<f64>),
            name!(standard_error, Option<f64>),
            name!(lower, Option<f64>),
            name!(upper, Option<f64>),
            name!(bootstrap_lower, Option<f64>),
            name!(bootstrap_upper, Option<f64>),
            name!(decisions, i64),
            name!(effective_decisions, f64),
            name!(largest_weight, f64),
            name!(overlap, f64),
            name!(in_sample, bool),
        ),
    >,
    ErrorReport,
> {
    let name = required(campaign, "campaign")?;
    let confidence = checked_confidence(confidence)?;
    let rows = as_owner(|| {
        let (campaign, model_version) = campaign::load(name)?;
        let changes = changes.map(|document| Changes::parse(document, &campaign)).transpose()?.unwrap_or_default();
        let compiled = model::current(&campaign, model_version)?;
        let all = Session::new(&campaign, &compiled)?;
        let paused = |arm: usize| changes.paused_actions.contains(&campaign.actions[arm].action);
        let session = Session {
            candidates: all.candidates.without(paused),
            floor: changes.propensity_floor.unwrap_or(all.floor),
            since,
            until,
            ..all
        };
        evaluate(&session, policy, confidence)
    })?;
    Ok(TableIterator::new(rows))
}

/// The confidence of an interval, which lies between 0 and 1.
pub fn checked_confidence(confidence: Option<f64>) -> Result<f64> {
    let confidence = required(confidence, "confidence")?;
    if confidence > 0.0 && confidence < 1.0 {
        Ok(confidence)
    } else {
        Err(Error::invalid("confidence must be between 0 and 1").hint("0.95 is usual."))
    }
}

/// Runs as the owner.
fn evaluate(session: &Session<'_>, policy: Option<&str>, confidence: f64) -> Result<Vec<EvaluationRow>> {
    let targets = session.targets(policy)?;
    let (count, imported) = session.count()?;
    let models = session.reward_models(count)?;
    let Candidates { ids, arms } = &session.candidates;
    let position: HashMap<i32, usize> = ids.iter().copied().zip(0..).collect();
    let mut evaluation = Evaluation::new(targets.len());
    let mut overlaps = vec![0.0; targets.len()];
    let (mut decisions, mut in_sample) = (0_i64, false);
    session.stream(|batch| {
        for past in batch {
            let Past { observed, propensity, .. } = &past;
            if decisions % TICK == 0 {
                interrupt::check();
            }
            decisions += 1;
            in_sample |= past.absorbed;
            let model = &models[session.fold(&past.customer_id)];
            let predicted = model.predict(&observed.encoded, observed.arm.map(|arm| arm as usize));
            let modelled: Vec<f64> = arms.iter().map(|arm| model.predict(&observed.encoded, *arm)).collect();
            let possible = |id: &i32| past.possible.as_ref().map_or(imported.contains(id), |ids| ids.contains(id));
            let supported: Vec<f64> = ids.iter().map(|id| f64::from(u8::from(possible(id)))).collect();
            let [learned, uniform] = session.under_guardrails(&past);
            // An action that is not a candidate now has probability 0 under every policy but the logged one.
            let at = position.get(&past.action_id).copied();
            let terms: Vec<Term> = targets
                .iter()
                .zip(&mut overlaps)
                .map(|(target, overlap)| {
                    let of = |probabilities: &[f64]| {
                        let mean = |x: &[f64]| -> f64 { probabilities.iter().zip(x).map(|(p, x)| p * x).sum() };
                        (at.map_or(0.0, |at| probabilities[at]) / propensity, mean(&modelled), mean(&supported))
                    };
                    let (weight, expected, support) = match target {
                        Target::Learned => of(&learned),
                        Target::Random => of(&uniform),
                        Target::Logged => (1.0, predicted, 1.0),
                        Target::Always(fixed) if at == Some(*fixed) => (1.0 / propensity, modelled[*fixed], 1.0),
                        Target::Always(fixed) => (0.0, modelled[*fixed], supported[*fixed]),
                    };
                    *overlap += support;
                    Term { weight, reward: observed.reward, predicted, expected }
                })
                .collect();
            evaluation.add(&terms, &mut session.salt.resampling(&past.customer_id));
        }
        Ok(())
    })?;

    let mut rows = Vec::with_capacity(targets.len() * Estimator::ALL.len());
    let mut refused = Vec::new();
    for (target, name) in targets.iter().map(|target| session.name_of(target)).enumerate() {
        let overlap = overlaps[target] / decisions as f64;
        let valued = overlap >= 1.0 - UNSUPPORTED && evaluation.effective_rows(target) > 0.0;
        if !valued {
            refused.push(format!("{name} {:.1} %, {:.0}", 100.0 * overlap, evaluation.effective_rows(target)));
        }
        for estimator in Estimator::ALL {
            let estimate = valued.then(|| evaluation.estimate(target, estimator, confidence)).flatten();
            rows.push((
                name.clone(),
                estimator.as_str().to_owned(),
                estimate.map(|e| e.value),
                estimate.map(|e| e.standard_error),
                estimate.map(|e| e.lower),
                estimate.map(|e| e.upper),
                estimate.map(|e| e.bootstrap_lower),
                estimate.map(|e| e.bootstrap_upper),
                decisions,
                evaluation.effective_rows(target),
                evaluation.largest_weight(target),
                overlap,
                in_sample,
            ));
        }
    }
    report_refused(session.campaign, &refused, policy.is_some())?;
    Ok(rows)
}

/// Says which policies have no overlap with the log: an error if one was asked for, else a warning.
fn report_refused(campaign: &Campaign, refused: &[String], error: bool) -> Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    let missing = Error::state(format!(
        "the log of campaign \"{}\" has no overlap with some policies",
        campaign.campaign
    ))
    .detail(format!("Share of choices that the log could have made, and effective decisions: {}.", refused.join("; ")))
    .hint("Let the explore group play the actions that are missing, or evaluate from when they were approved (since). An action that guardrails kept from some customers cannot be valued for all.");
    if error {
        return Err(missing);
    }
    ErrorReport::from(missing).report(PgLogLevel::WARNING);
    Ok(())
}
