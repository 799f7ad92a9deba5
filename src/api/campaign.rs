//! A campaign's configuration, compiled once per epoch and backend.
//!
//! The cache needs no invalidation messages: every configuration change gives the campaign a new epoch, which each
//! call reads with its own snapshot. What is cached for an epoch can never be stale, in any isolation level.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use decisioning_core::decide::{Salt, Shares};
use decisioning_core::learn::Dimensions;
use serde::Deserialize;

use crate::pg::error::{Error, Result};
use crate::pg::query;
use crate::pg::relation::RelationName;

/// Name of the action that stays quiet.
pub const NO_SEND: &str = "no_send";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Draft,
    Active,
    Paused,
    Ended,
}

/// One campaign in one epoch.
#[derive(Debug, Deserialize)]
pub struct Campaign {
    pub campaign: String,
    pub status: Status,
    #[serde(flatten)]
    pub edition: Edition,
    customers_schema: String,
    customers_relation: String,
    pub customer_key: String,
    pub audience: Option<String>,
    pub features: Option<Vec<String>>,
    pub time_zone: String,
    pub time_zone_column: Option<String>,
    #[serde(flatten)]
    pub rules: Rules,
    pub temper: f64,
    /// In seconds; `None` never forgets.
    half_life_seconds: Option<f64>,
    pub coefficient_limit: i32,
    /// By `action_id`.
    pub actions: Vec<Action>,
    pub goals: Vec<CampaignGoal>,
}

/// What cached things belong to. The salt tells a campaign from one of the same name and epoch in an extension that was
/// dropped and created again meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Edition {
    pub epoch: i64,
    salt: String,
}

impl Edition {
    /// Editions of one campaign, perhaps before and after a change.
    pub fn same_campaign(&self, other: &Edition) -> bool {
        self.salt == other.salt
    }
}

/// What the choice depends on besides model and candidates; a replay takes it from the epoch of the decision.
#[derive(Clone, Debug, Deserialize)]
pub struct Rules {
    pub holdout_share: f64,
    pub control_share: f64,
    pub explore_share: f64,
    pub explore_no_send: f64,
    pub control_action: Option<String>,
    pub propensity_floor: f64,
}

#[derive(Debug, Deserialize)]
pub struct Action {
    pub action: String,
    pub action_id: i32,
    pub dimensions: Dimensions,
    pub content: Option<serde_json::Value>,
    pub customer_reason: Option<String>,
    pub status: String,
}

#[derive(Debug, Deserialize)]
pub struct CampaignGoal {
    pub goal: String,
    pub kind: String,
    pub attribution_seconds: f64,
}

impl Action {
    pub fn approved(&self) -> bool {
        self.status == "approved"
    }
}

impl Campaign {
    pub fn customers(&self) -> RelationName {
        RelationName { schema: self.customers_schema.clone(), name: self.customers_relation.clone() }
    }

    pub fn salt(&self) -> Result<Salt> {
        salt(&self.edition.salt)
    }

    pub fn shares(&self) -> Shares {
        let Rules { holdout_share: holdout, control_share: control, explore_share: explore, .. } = self.rules;
        Shares { holdout, control, explore }
    }

    /// Goals whose events make a decision a success: engagement ranks nothing here and harm is no success.
    pub fn reward_goals(&self) -> impl Iterator<Item = &CampaignGoal> {
        self.goals.iter().filter(|goal| matches!(goal.kind.as_str(), "conversion" | "value"))
    }

    /// Longest attribution window of the reward goals, in seconds: a decision closes after it.
    pub fn window_seconds(&self) -> f64 {
        self.reward_goals().map(|goal| goal.attribution_seconds).fold(0.0, f64::max)
    }

    /// Age at which a decision counts half, in microseconds.
    pub fn half_life(&self) -> Option<f64> {
        self.half_life_seconds.map(|seconds| seconds * 1e6)
    }

    /// What is left of the weight of a decision after `age` microseconds; never more than all.
    pub fn discount(&self, age: i64) -> f64 {
        self.half_life().map_or(1.0, |half_life| (-age.max(0) as f64 / half_life).exp2())
    }

    pub fn action(&self, action_id: i32) -> Option<&Action> {
        self.actions.iter().find(|action| action.action_id == action_id)
    }
}

fn salt(uuid: &str) -> Result<Salt> {
    let hex: String = uuid.chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&hex, 16)
        .map(|bits| Salt(bits.to_be_bytes()))
        .map_err(|_| Error::corrupted("salt of the campaign is not a uuid"))
}

thread_local! {
    static CAMPAIGNS: RefCell<HashMap<String, Rc<Campaign>>> = RefCell::new(HashMap::new());
}

/// The campaign and its current model version. Runs as the owner.
///
/// # Errors
/// No such campaign.
pub fn load(name: &str) -> Result<(Rc<Campaign>, Option<i64>)> {
    let (edition, model_version) = query::read_one(
        "SELECT c.epoch, c.salt::text, l.model_version FROM decisioning.campaigns c
         LEFT JOIN decisioning._learner l ON l.campaign = c.campaign WHERE c.campaign = $1",
        &[name.into()],
        |row| Ok((Edition { epoch: row.value(1)?, salt: row.value(2)? }, row.get::<i64>(3)?)),
    )?
    .ok_or_else(|| unknown(name))?;
    let cached = CAMPAIGNS.with_borrow(|campaigns| campaigns.get(name).cloned());
    if let Some(campaign) = cached.filter(|campaign| campaign.edition == edition) {
        return Ok((campaign, model_version));
    }
    let campaign = Rc::new(read(name)?);
    CAMPAIGNS.with_borrow_mut(|campaigns| campaigns.insert(name.to_owned(), campaign.clone()));
    Ok((campaign, model_version))
}

/// Everything in one statement, so that it is all of one snapshot.
fn read(name: &str) -> Result<Campaign> {
    let document = query::read_one(
        "SELECT (to_jsonb(c) || jsonb_build_object(
             'actions', coalesce((
                 SELECT jsonb_agg(jsonb_build_object('action', a.action, 'action_id', a.action_id, 'status', a.status,
                     'dimensions', a.dimensions, 'content', a.content, 'customer_reason', a.customer_reason)
                     ORDER BY a.action_id)
                 FROM decisioning.actions a WHERE a.campaign = c.campaign), '[]'),
             'goals', coalesce((
                 SELECT jsonb_agg(jsonb_build_object('goal', g.goal, 'kind', k.kind,
                     'attribution_seconds', g.attribution_seconds) ORDER BY g.goal)
                 FROM decisioning.campaign_goals g JOIN decisioning.goals k ON k.goal = g.goal
                 WHERE g.campaign = c.campaign), '[]')))::text
         FROM decisioning.campaigns c WHERE c.campaign = $1",
        &[name.into()],
        |row| row.value::<String>(1),
    )?
    .ok_or_else(|| unknown(name))?;
    Ok(serde_json::from_str(&document)?)
}

fn unknown(name: &str) -> Error {
    Error::missing(format!("campaign \"{name}\" does not exist"))
        .hint("SELECT campaign, status FROM decisioning.campaigns lists them; decisioning.create_campaign makes one.")
}
