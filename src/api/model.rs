//! Encoders and models: stored per version, compiled once per backend.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use decisioning_core::decide::{Cost, Policy, Terms, Unit};
use decisioning_core::features::{Declared, Encoder, FeatureKind, Profile};
use decisioning_core::learn::{Arm, Delays, DrawBank, Epochs, Layout, Posterior, Prior, Roles, Scales};

use super::budget::Prices;
use super::campaign::{Campaign, CurrentModel, Edition, Target};
use super::context;
use super::learn::sums;
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use crate::pg::relation::{Column, ColumnKind};
use crate::pg::settings;

/// A model version with its encoder.
pub struct Model {
    pub version: i64,
    pub encoder_version: i32,
    pub encoder: Rc<Encoder>,
    pub layout: Layout,
    /// The response first.
    pub parts: Vec<ModelPart>,
    pub prices: Prices,
}

/// What a model version knows of one target.
pub struct ModelPart {
    pub target: Target,
    /// Posterior mean.
    pub mean: Vec<f64>,
    /// Of the worth of a response.
    pub unit: Option<Unit>,
    bank: DrawBank,
}

/// A model compiled for the actions of one epoch: arm `i` is `campaign.actions[i]`.
pub struct Compiled {
    pub model: Rc<Model>,
    pub policy: Policy,
    pub terms: Terms,
    pub arms: Vec<Arm>,
    edition: Edition,
}

impl Model {
    /// The response's part, which every model has.
    pub fn response(&self) -> &ModelPart {
        &self.parts[0]
    }

    /// What the model can predict: not worth, before it has seen any.
    pub fn targets(&self) -> Vec<Target> {
        let known = |part: &&ModelPart| part.target != Target::Worth || part.unit.is_some();
        self.parts.iter().filter(known).map(|part| part.target.clone()).collect()
    }
}

impl Compiled {
    /// Probability of a response at the posterior mean.
    pub fn probability(&self, encoded: &[f32], arm: Option<usize>) -> f64 {
        sigmoid(self.predictor(self.model.response(), encoded, arm))
    }

    /// What an arm (`None` is no-send) is expected to be worth net of its costs, at the posterior mean.
    pub fn net_worth(&self, encoded: &[f32], arm: Option<usize>) -> f64 {
        let Terms { harms, costs, .. } = &self.terms;
        let cost = arm.map(|arm| costs[arm]).unwrap_or_default();
        let parts = self.model.parts.iter().filter(|part| matches!(part.target, Target::Harm(_)));
        let harm: f64 = parts.zip(harms).map(|(part, each)| each * sigmoid(self.predictor(part, encoded, arm))).sum();
        let margin = self.worth(encoded, arm) * (1.0 - cost.on_goal_share) - cost.on_goal;
        self.probability(encoded, arm) * margin + harm - cost.send
    }

    /// What a send of `arm` is expected to cost.
    pub fn expected_cost(&self, cost: Cost, encoded: &[f32], arm: usize) -> f64 {
        if cost.on_goal == 0.0 && cost.on_goal_share == 0.0 {
            return cost.send;
        }
        cost.expected(self.probability(encoded, Some(arm)), self.worth(encoded, Some(arm)))
    }

    /// What a response is expected to be worth.
    fn worth(&self, encoded: &[f32], arm: Option<usize>) -> f64 {
        let part = self.model.parts.iter().find_map(|part| Some((part, part.unit?)));
        part.map_or(self.terms.value, |(part, unit)| {
            (unit.centre + unit.scale * self.predictor(part, encoded, arm)).clamp(unit.low, unit.high)
        })
    }

    fn predictor(&self, part: &ModelPart, encoded: &[f32], arm: Option<usize>) -> f64 {
        self.model.layout.predictor(part.target.link(), &part.mean, encoded, arm.map(|arm| &self.arms[arm]))
    }
}

pub fn sigmoid(eta: f64) -> f64 {
    1.0 / (1.0 + (-eta).exp())
}

thread_local! {
    /// The current model of each campaign. It is immutable, and which it is and the epoch are read anew by every call.
    static COMPILED: RefCell<HashMap<String, (CurrentModel, Rc<Compiled>)>> = RefCell::new(HashMap::new());
}

/// The compiled current model.
pub fn current(campaign: &Campaign, current: Option<CurrentModel>) -> Result<Rc<Compiled>> {
    let current = current.ok_or_else(|| {
        Error::state(format!("campaign \"{}\" has no model yet", campaign.campaign))
            .hint("Start it with decisioning.start_campaign, or import history with decisioning.import_decisions.")
    })?;
    let cached = COMPILED.with_borrow(|compiled| compiled.get(&campaign.campaign).cloned());
    let cached = cached
        .filter(|(known, compiled)| *known == current && compiled.edition.same_campaign(&campaign.edition))
        .map(|(_, compiled)| compiled);
    let model = match cached {
        Some(compiled) if compiled.edition == campaign.edition => return Ok(compiled),
        Some(compiled) => compiled.model.clone(),
        None => Rc::new(as_owner(|| load(&campaign.campaign, current.version))?),
    };
    let compiled = Rc::new(compile(campaign, model));
    COMPILED.with_borrow_mut(|all| all.insert(campaign.campaign.clone(), (current, compiled.clone())));
    Ok(compiled)
}

/// Compiles a model for the campaign's actions.
pub fn compile(campaign: &Campaign, model: Rc<Model>) -> Compiled {
    let arms: Vec<Arm> = campaign.actions.iter().map(|action| model.layout.arm(&action.dimensions)).collect();
    let mut policy = Policy::new(model.layout.clone(), model.response().bank.clone(), &arms);
    for part in &model.parts {
        let bank = part.bank.clone();
        policy = match (&part.target, part.unit) {
            (Target::Worth, Some(unit)) => policy.with_worth(bank, unit, &arms),
            (Target::Harm(_), _) => policy.with_harm(bank, &arms),
            _ => policy,
        };
    }
    let terms = campaign.terms(&model.targets(), &model.prices);
    Compiled { model, policy, terms, arms, edition: campaign.edition.clone() }
}

/// A model version from its rows. Runs as the owner.
pub fn load(campaign: &str, version: i64) -> Result<Model> {
    let damaged = || Error::corrupted(format!("model {version} of campaign \"{campaign}\" is damaged"));
    let (encoder_version, encoder, layout, prices) = query::read_one(
        "SELECT m.encoder_version, e.definition::text, m.layout::text, m.prices::text
         FROM decisioning._model m
         JOIN decisioning._encoder e ON e.campaign = m.campaign AND e.encoder_version = m.encoder_version
         WHERE m.campaign = $1 AND m.model_version = $2",
        &[campaign.into(), version.into()],
        |row| Ok((row.value::<i32>(1)?, row.value::<String>(2)?, row.value::<String>(3)?, row.value::<String>(4)?)),
    )?
    .ok_or_else(|| {
        Error::missing(format!("version {version} of the model of campaign \"{campaign}\" is not kept"))
            .hint("decisioning.thin_log removes old versions with the decisions that they made.")
    })?;
    let prices = serde_json::from_str(&prices)?;
    let layout: Layout = serde_json::from_str(&layout)?;
    let encoder: Encoder = serde_json::from_str(&encoder)?;
    let parts = query::read(
        "SELECT p.part, p.unit::text, p.coefficients, p.draw_bank FROM decisioning._model_part p
         WHERE p.campaign = $1 AND p.model_version = $2 ORDER BY p.part <> 'response', p.part",
        &[campaign.into(), version.into()],
        |row| {
            let unit = row.get::<String>(2)?.map(|unit| serde_json::from_str(&unit)).transpose()?;
            Ok(ModelPart {
                target: Target::parse(&row.value::<String>(1)?)?,
                unit,
                mean: row.value(3)?,
                bank: DrawBank::from_bytes(&row.value::<Vec<u8>>(4)?, layout.len()).ok_or_else(damaged)?,
            })
        },
    )?;
    let fits = encoder.is_consistent()
        && encoder.width() == layout.columns.len()
        && parts.first().is_some_and(|part| part.target == Target::Response)
        && parts.iter().all(|part| part.mean.len() == layout.len());
    if !fits {
        return Err(damaged());
    }
    Ok(Model { version, encoder_version, encoder: Rc::new(encoder), layout, parts, prices })
}

/// Stores an encoder and returns its version. `alike` is a version with the same features and other crosses, if there is one. Runs as the
/// owner.
pub fn store_encoder(campaign: &str, encoder: &Encoder, alike: Option<i32>) -> Result<i32> {
    let definition = serde_json::to_string(encoder)?;
    query::write(
        "WITH next AS (
             SELECT coalesce(max(e.encoder_version), 0) + 1 AS version, max(e.features_version) FILTER (WHERE e.encoder_version = $3) AS alike
             FROM decisioning._encoder e WHERE e.campaign = $1)
         INSERT INTO decisioning._encoder (campaign, encoder_version, features_version, definition)
         SELECT $1, n.version, coalesce(n.alike, n.version), $2::jsonb FROM next n
         RETURNING encoder_version",
        &[campaign.into(), definition.into(), alike.into()],
        |row| row.value::<i32>(1),
    )?
    .into_iter()
    .next()
    .ok_or_else(|| Error::corrupted("encoder was not stored"))
}

/// What a campaign's features are now: those it lists, or every usable column but its key, its time zone and its offset,
/// which comes last.
pub fn declared(campaign: &Campaign, columns: &[Column]) -> Vec<(String, Declared)> {
    let is_offset = |column: &Column| campaign.offset().is_some_and(|(name, _)| name == column.name);
    let offset = columns
        .iter()
        .filter(|column| column.kind == ColumnKind::Numeric)
        .find_map(|column| campaign.offset().filter(|_| is_offset(column)))
        .map(|(name, scale)| (name.to_owned(), Declared::Offset(scale)));
    columns
        .iter()
        .filter(|column| match &campaign.features {
            Some(features) => features.contains(&column.name),
            None => {
                column.name != campaign.customer_key
                    && Some(&column.name) != campaign.time_zone_column.as_ref()
                    && !is_offset(column)
                    && Some(&column.name) != campaign.household_column.as_ref()
            }
        })
        .filter_map(|column| {
            let declared = match column.kind {
                ColumnKind::Numeric => Declared::Numeric,
                ColumnKind::Boolean => Declared::Boolean,
                ColumnKind::Time | ColumnKind::LocalTime => Declared::Age,
                ColumnKind::Text => Declared::Category,
                ColumnKind::Other => return None,
            };
            Some((column.name.clone(), declared))
        })
        .chain(offset)
        .collect()
}

/// What a fitted feature was declared as.
pub fn declaration(kind: &FeatureKind) -> Declared {
    match kind {
        FeatureKind::Numeric { .. } => Declared::Numeric,
        FeatureKind::Age { .. } => Declared::Age,
        FeatureKind::Boolean => Declared::Boolean,
        FeatureKind::Category { .. } => Declared::Category,
        FeatureKind::Offset { scale, .. } => Declared::Offset(*scale),
    }
}

/// Fits an encoder to the campaign's audience as it is now. Runs as the caller.
pub fn profile(campaign: &Campaign) -> Result<Encoder> {
    let relation = campaign.customers();
    let columns = relation.columns()?;
    let names = declared(campaign, &columns);
    let mut profile = Profile::new(names.clone(), campaign.salt().profile_seed());
    context::stream_audience(campaign, &names, |observation| profile.add(observation))?;
    Ok(profile.encoder())
}

/// Layout for an encoder and all actions of a campaign.
pub fn lay_out(campaign: &Campaign, encoder: &Encoder) -> Result<Layout> {
    let limit = coefficient_limit(campaign);
    let actions = campaign.actions.iter().map(|action| &action.dimensions);
    let roles = Roles { offset: encoder.offset_column(), curves: encoder.hinges() };
    let layout = Layout::with_roles(encoder.column_names(), roles, &encoder.variances, actions, limit);
    layout.map_err(|error| {
        Error::new(pgrx::PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, error.to_string())
            .hint("Use fewer dimension levels, or raise coefficient_limit of the campaign.")
    })
}

pub fn coefficient_limit(campaign: &Campaign) -> usize {
    usize::try_from(campaign.coefficient_limit).unwrap_or(1024)
}

/// What a campaign has learned, and from how much.
#[derive(Default)]
pub struct Learned {
    /// As the campaign's targets, the response first.
    pub parts: Vec<LearnedPart>,
    pub decisions: i64,
    pub outcomes: i64,
    /// Decisions whose window is open, counted in the model but not in the sums.
    pub open_decisions: i64,
    /// Decisions at the last re-linearisation.
    pub linearised: i64,
    /// When the latest of the absorbed decisions was decided, in microseconds since 1970, at which it starts.
    pub absorbed_until: i64,
    /// Weighted number of decisions with a reward.
    pub responses: f64,
    /// Weighted number of rewards changed after the fact since the last re-linearisation.
    pub corrections: f64,
}

/// What has been learned of one target.
pub struct LearnedPart {
    pub target: Target,
    /// Of the worth of a response, once there is one.
    pub unit: Option<Unit>,
    /// Sums over absorbed decisions, discounted to the time of learning.
    pub sums: Epochs,
    /// Delays of absorbed events, discounted likewise.
    pub delays: Delays,
    pub scales: Scales,
    /// Where the last model was, to start the next from.
    pub mean: Vec<f64>,
    /// What the last model found of a drift: by lever, and when, in microseconds.
    pub drift: BTreeMap<String, f64>,
    pub drifted_at: Option<i64>,
}

impl LearnedPart {
    /// Knows only the prior.
    pub fn new(target: Target, layout: &Layout) -> Self {
        let scales = Scales::default();
        LearnedPart {
            unit: None,
            sums: Epochs::new(layout.len()),
            delays: Delays::default(),
            mean: Prior::new(target.link(), layout, &scales).mean,
            scales,
            target,
            drift: BTreeMap::new(),
            drifted_at: None,
        }
    }

    pub fn prior(&self, layout: &Layout) -> Prior {
        Prior::new(self.target.link(), layout, &self.scales)
    }

    /// Moves to another layout: what is new starts from the prior.
    pub fn rearrange(&mut self, layout: &Layout, positions: &[Option<usize>]) {
        self.sums = self.sums.rearranged(positions);
        let prior = self.prior(layout).mean;
        self.mean = positions.iter().zip(prior).map(|(at, prior)| at.map_or(prior, |at| self.mean[at])).collect();
    }
}

impl Learned {
    /// Knows only the prior.
    pub fn new(targets: Vec<Target>, layout: &Layout) -> Self {
        let parts = targets.into_iter().map(|target| LearnedPart::new(target, layout)).collect();
        Learned { parts, ..Learned::default() }
    }

    /// Discounts everything by `factor`.
    pub fn fade(&mut self, factor: f64) {
        for part in &mut self.parts {
            part.sums.scale(factor);
            part.delays.scale(factor);
        }
        self.responses *= factor;
        self.corrections *= factor;
    }
}

/// What the next model version knows of a part.
pub struct Current {
    pub posterior: Posterior,
    /// By lever, the share of the prior variance of its effects that is new since it drifted; none in a world that stays.
    pub drift: BTreeMap<String, f64>,
    /// When it drifted, in microseconds.
    pub drifted_at: Option<i64>,
}

impl Current {
    /// What is known of a world that stays.
    pub fn steady(posterior: Posterior) -> Self {
        Current { posterior, drift: BTreeMap::new(), drifted_at: None }
    }
}

/// Writes the next model version and the learning state; `current` is what it knows of the parts. Runs as the owner.
pub fn store(
    campaign: &Campaign,
    encoder_version: i32,
    layout: &Layout,
    learned: &Learned,
    current: &[Current],
) -> Result<i64> {
    let name = campaign.campaign.as_str();
    let version = query::read_one(
        "SELECT coalesce(max(model_version), 0) + 1 FROM decisioning._model WHERE campaign = $1",
        &[name.into()],
        |row| row.value::<i64>(1),
    )?
    .unwrap_or(1);
    let now = super::now()?;
    query::execute(
        "INSERT INTO decisioning._model (campaign, model_version, encoder_version, created_at, decisions, outcomes,
             open_decisions, layout)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb)",
        &[
            name.into(),
            version.into(),
            encoder_version.into(),
            now.into(),
            learned.decisions.into(),
            learned.outcomes.into(),
            learned.open_decisions.into(),
            serde_json::to_string(layout)?.into(),
        ],
    )?;
    query::execute(
        "INSERT INTO decisioning._learner (campaign, model_version, decisions, outcomes, open_decisions, linearised,
             absorbed_until, responses, corrections, learned_at, goals)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (campaign) DO UPDATE SET model_version = excluded.model_version, decisions = excluded.decisions,
             outcomes = excluded.outcomes, open_decisions = excluded.open_decisions, linearised = excluded.linearised,
             absorbed_until = excluded.absorbed_until, responses = excluded.responses, corrections = excluded.corrections,
             learned_at = excluded.learned_at, goals = excluded.goals",
        &[
            name.into(),
            version.into(),
            learned.decisions.into(),
            learned.outcomes.into(),
            learned.open_decisions.into(),
            learned.linearised.into(),
            settings::timestamp(learned.absorbed_until)?.into(),
            learned.responses.into(),
            learned.corrections.into(),
            now.into(),
            campaign.reward_rule().into(),
        ],
    )?;
    query::execute("DELETE FROM decisioning._learner_part p WHERE p.campaign = $1", &[name.into()])?;
    for (at, (part, Current { posterior, drift, drifted_at })) in learned.parts.iter().zip(current).enumerate() {
        let tempers = layout.tempers(campaign.temper, &posterior.conditional_errors());
        let seed = campaign.salt().bank_seed(version).wrapping_add(at as u64);
        let bank = DrawBank::sample(posterior, &tempers, seed);
        let (target, scales) = (part.target.name(), serde_json::to_string(&part.scales)?);
        let unit = part.unit.map(|unit| serde_json::to_string(&unit)).transpose()?;
        query::execute(
            "INSERT INTO decisioning._model_part (campaign, model_version, part, unit, scales, coefficients,
                 standard_errors, draw_bank, drift, drifted_at)
             VALUES ($1, $2, $3, $4::jsonb, $5::jsonb, $6, $7, $8, $9::jsonb, $10)",
            &[
                name.into(),
                version.into(),
                target.as_str().into(),
                unit.as_deref().into(),
                scales.as_str().into(),
                posterior.mean.clone().into(),
                posterior.standard_errors().into(),
                bank.to_bytes().into(),
                serde_json::to_string(drift)?.into(),
                drifted_at.map(settings::timestamp).transpose()?.into(),
            ],
        )?;
        query::execute(
            "INSERT INTO decisioning._learner_part (campaign, part, unit, delays, scales, epochs)
             VALUES ($1, $2, $3::jsonb, $4::jsonb, $5::jsonb, $6)",
            &[
                name.into(),
                target.as_str().into(),
                unit.as_deref().into(),
                serde_json::to_string(&part.delays)?.into(),
                scales.as_str().into(),
                i32::try_from(part.sums.iter().len()).unwrap_or(i32::MAX).into(),
            ],
        )?;
    }
    sums::store(campaign, learned, now)?;
    Ok(version)
}

/// Gives a campaign its first encoder and a model that knows only the prior. Profiles the audience as the caller.
pub fn initialise(campaign: &Campaign) -> Result<()> {
    let encoder = profile(campaign)?;
    as_owner(|| {
        let encoder_version = store_encoder(&campaign.campaign, &encoder, None)?;
        let layout = lay_out(campaign, &encoder)?;
        let left_out = layout.left_out(&encoder.variances);
        if !left_out.is_empty() {
            pgrx::notice!(
                "the model of campaign \"{}\" leaves out, to stay under {} coefficients: {}",
                campaign.campaign,
                campaign.coefficient_limit,
                left_out.join(", ")
            );
        }
        let learned = Learned::new(campaign.targets(), &layout);
        let prior = |part: &LearnedPart| Posterior::of(&part.prior(&layout), &part.sums.total());
        let current = learned
            .parts
            .iter()
            .map(|part| prior(part).map(Current::steady))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::corrupted("the prior cannot be solved"))?;
        store(campaign, encoder_version, &layout, &learned, &current)?;
        Ok(())
    })
}
