//! Encoders and models: stored per version, compiled once per backend.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use decisioning_core::decide::Policy;
use decisioning_core::features::{Declared, Encoder, FeatureKind, Profile};
use decisioning_core::learn::{Arm, Delays, DrawBank, Layout, Posterior, Scales, Statistics};

use super::campaign::{Campaign, Edition};
use super::context;
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use crate::pg::relation::{Column, ColumnKind};

/// A model version with its encoder.
pub struct Model {
    pub version: i64,
    pub encoder_version: i32,
    pub encoder: Rc<Encoder>,
    pub layout: Layout,
    /// Posterior means, to show probabilities.
    pub mean: Vec<f64>,
    bank: DrawBank,
}

/// A model compiled for the actions of one epoch: arm `i` is `campaign.actions[i]`.
pub struct Compiled {
    pub model: Rc<Model>,
    pub policy: Policy,
    pub arms: Vec<Arm>,
    edition: Edition,
}

thread_local! {
    /// The current model of each campaign. Versions are immutable and epochs are read anew by every call.
    static COMPILED: RefCell<HashMap<String, Rc<Compiled>>> = RefCell::new(HashMap::new());
}

/// The compiled current model. Runs as the owner.
pub fn current(campaign: &Campaign, version: Option<i64>) -> Result<Rc<Compiled>> {
    let version = version.ok_or_else(|| {
        Error::state(format!("campaign \"{}\" has no model yet", campaign.campaign))
            .hint("Start it with decisioning.start_campaign, or import history with decisioning.import_decisions.")
    })?;
    let cached = COMPILED.with_borrow(|compiled| compiled.get(&campaign.campaign).cloned());
    let cached = cached
        .filter(|compiled| compiled.model.version == version && compiled.edition.same_campaign(&campaign.edition));
    let model = match cached {
        Some(compiled) if compiled.edition == campaign.edition => return Ok(compiled),
        Some(compiled) => compiled.model.clone(),
        None => Rc::new(load(&campaign.campaign, version)?),
    };
    let compiled = Rc::new(compile(campaign, model));
    COMPILED.with_borrow_mut(|all| all.insert(campaign.campaign.clone(), compiled.clone()));
    Ok(compiled)
}

/// Compiles a model for the campaign's actions.
pub fn compile(campaign: &Campaign, model: Rc<Model>) -> Compiled {
    let arms: Vec<Arm> = campaign.actions.iter().map(|action| model.layout.arm(&action.dimensions)).collect();
    let policy = Policy::new(model.layout.clone(), model.bank.clone(), &arms);
    Compiled { model, policy, arms, edition: campaign.edition.clone() }
}

/// A model version from its row. Runs as the owner.
pub fn load(campaign: &str, version: i64) -> Result<Model> {
    let row = query::read_one(
        "SELECT m.encoder_version, e.definition::text, m.layout::text, m.coefficients, m.draw_bank
         FROM decisioning._model m
         JOIN decisioning._encoder e ON e.campaign = m.campaign AND e.encoder_version = m.encoder_version
         WHERE m.campaign = $1 AND m.model_version = $2",
        &[campaign.into(), version.into()],
        |row| {
            Ok((
                row.value::<i32>(1)?,
                row.value::<String>(2)?,
                row.value::<String>(3)?,
                row.value::<Vec<f64>>(4)?,
                row.value::<Vec<u8>>(5)?,
            ))
        },
    )?;
    let damaged = || Error::corrupted(format!("model {version} of campaign \"{campaign}\" is missing or damaged"));
    let (encoder_version, encoder, layout, mean, bank) = row.ok_or_else(damaged)?;
    let layout: Layout = serde_json::from_str(&layout)?;
    let encoder: Encoder = serde_json::from_str(&encoder)?;
    let bank = DrawBank::from_bytes(&bank, layout.len()).ok_or_else(damaged)?;
    if mean.len() != layout.len() || encoder.width() != layout.columns.len() {
        return Err(damaged());
    }
    Ok(Model { version, encoder_version, encoder: Rc::new(encoder), layout, mean, bank })
}

/// Stores an encoder and returns its version. Runs as the owner.
pub fn store_encoder(campaign: &str, encoder: &Encoder) -> Result<i32> {
    let definition = serde_json::to_string(encoder)?;
    query::write(
        "INSERT INTO decisioning._encoder (campaign, encoder_version, definition)
         SELECT $1, coalesce(max(e.encoder_version), 0) + 1, $2::jsonb FROM decisioning._encoder e WHERE e.campaign = $1
         RETURNING encoder_version",
        &[campaign.into(), definition.into()],
        |row| row.value::<i32>(1),
    )?
    .into_iter()
    .next()
    .ok_or_else(|| Error::corrupted("encoder was not stored"))
}

/// What a campaign's features are now: those it lists, or every usable column but its key and time zone.
pub fn declared(campaign: &Campaign, columns: &[Column]) -> Vec<(String, Declared)> {
    columns
        .iter()
        .filter(|column| match &campaign.features {
            Some(features) => features.contains(&column.name),
            None => column.name != campaign.customer_key && Some(&column.name) != campaign.time_zone_column.as_ref(),
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
        .collect()
}

/// What a fitted feature was declared as.
pub fn declaration(kind: &FeatureKind) -> Declared {
    match kind {
        FeatureKind::Numeric { .. } => Declared::Numeric,
        FeatureKind::Age { .. } => Declared::Age,
        FeatureKind::Boolean => Declared::Boolean,
        FeatureKind::Category { .. } => Declared::Category,
    }
}

/// Fits an encoder to the campaign's audience as it is now. Runs as the caller.
pub fn profile(campaign: &Campaign) -> Result<Encoder> {
    let relation = campaign.customers();
    let columns = relation.columns()?;
    let names = declared(campaign, &columns);
    let mut profile = Profile::new(names.clone(), campaign.salt()?.profile_seed());
    context::stream_audience(campaign, &names, |observation| profile.add(observation))?;
    Ok(profile.encoder())
}

/// Layout for an encoder and all actions of a campaign.
pub fn lay_out(campaign: &Campaign, encoder: &Encoder) -> Result<Layout> {
    let limit = usize::try_from(campaign.coefficient_limit).unwrap_or(1024);
    let actions = campaign.actions.iter().map(|action| &action.dimensions);
    Layout::new(encoder.column_names(), &encoder.variances, actions, limit).map_err(|error| {
        Error::new(pgrx::PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, error.to_string())
            .hint("Use fewer dimension levels, or raise coefficient_limit of the campaign.")
    })
}

/// What a campaign has learned, and from how much.
#[derive(Default)]
pub struct Learned {
    /// Sums over absorbed decisions, discounted to the time of learning.
    pub statistics: Statistics,
    /// Delays of absorbed rewards, discounted likewise.
    pub delays: Delays,
    pub scales: Scales,
    pub decisions: i64,
    pub outcomes: i64,
    /// Decisions whose window is open, counted in the model but not in the sums.
    pub open_decisions: i64,
    /// Decisions at the last re-linearisation.
    pub linearised: i64,
    /// Weighted number of decisions with a reward.
    pub responses: f64,
    /// Weighted number of rewards changed after the fact since the last re-linearisation.
    pub corrections: f64,
}

impl Learned {
    /// Discounts everything by `factor`.
    pub fn fade(&mut self, factor: f64) {
        self.statistics.scale(factor);
        self.delays.scale(factor);
        self.responses *= factor;
        self.corrections *= factor;
    }
}

/// Writes the next model version and the learning state. Runs as the owner.
pub fn store(
    campaign: &Campaign,
    encoder_version: i32,
    layout: &Layout,
    learned: &Learned,
    posterior: &Posterior,
) -> Result<i64> {
    let version = query::read_one(
        "SELECT coalesce(max(model_version), 0) + 1 FROM decisioning._model WHERE campaign = $1",
        &[campaign.campaign.as_str().into()],
        |row| row.value::<i64>(1),
    )?
    .unwrap_or(1);
    let standard_errors = posterior.standard_errors();
    let tempers = layout.tempers(campaign.temper, &posterior.conditional_errors());
    let bank = DrawBank::sample(posterior, &tempers, campaign.salt()?.bank_seed(version));
    let now = super::now()?;
    query::execute(
        "INSERT INTO decisioning._model (campaign, model_version, encoder_version, created_at, decisions, outcomes,
             open_decisions, layout, scales, coefficients, standard_errors, draw_bank)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9::jsonb, $10, $11, $12)",
        &[
            campaign.campaign.as_str().into(),
            version.into(),
            encoder_version.into(),
            now.into(),
            learned.decisions.into(),
            learned.outcomes.into(),
            learned.open_decisions.into(),
            serde_json::to_string(layout)?.into(),
            serde_json::to_string(&learned.scales)?.into(),
            posterior.mean.clone().into(),
            standard_errors.into(),
            bank.to_bytes().into(),
        ],
    )?;
    query::execute(
        "INSERT INTO decisioning._learner (campaign, model_version, decisions, outcomes, open_decisions, linearised,
             responses, corrections, statistics, delays, scales, learned_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11::jsonb, $12)
         ON CONFLICT (campaign) DO UPDATE SET model_version = excluded.model_version, decisions = excluded.decisions,
             outcomes = excluded.outcomes, open_decisions = excluded.open_decisions, linearised = excluded.linearised,
             responses = excluded.responses, corrections = excluded.corrections, statistics = excluded.statistics,
             delays = excluded.delays, scales = excluded.scales, learned_at = excluded.learned_at",
        &[
            campaign.campaign.as_str().into(),
            version.into(),
            learned.decisions.into(),
            learned.outcomes.into(),
            learned.open_decisions.into(),
            learned.linearised.into(),
            learned.responses.into(),
            learned.corrections.into(),
            learned.statistics.to_bytes().into(),
            serde_json::to_string(&learned.delays)?.into(),
            serde_json::to_string(&learned.scales)?.into(),
            now.into(),
        ],
    )?;
    Ok(version)
}

/// Gives a campaign its first encoder and a model that knows only the prior. Profiles the audience as the caller.
pub fn initialise(campaign: &Campaign) -> Result<()> {
    let encoder = profile(campaign)?;
    as_owner(|| {
        let encoder_version = store_encoder(&campaign.campaign, &encoder)?;
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
        let learned = Learned { statistics: Statistics::new(layout.len()), ..Learned::default() };
        let (_, posterior) = learned
            .scales
            .estimate(&layout, &learned.statistics, 0)
            .ok_or_else(|| Error::corrupted("the prior cannot be solved"))?;
        store(campaign, encoder_version, &layout, &learned, &posterior)?;
        Ok(())
    })
}
