//! A campaign's configuration, compiled once per epoch and backend.
//!
//! The cache needs no invalidation messages: every configuration change gives the campaign a new epoch, which each
//! call reads with its own snapshot. What is cached for an epoch can never be stale, in any isolation level.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use decisioning_core::brand::Locales;
use decisioning_core::decide::{Cost, Group, Salt, Shares, Terms};
use decisioning_core::features::OffsetScale;
use decisioning_core::learn::{Dimensions, Link};
use pgrx::Uuid;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::budget::{self, Budget, Prices};
use super::entry::EntrySource;
use super::global_holdout::GlobalHoldout;
use super::guardrail::{Exit, Guardrails, Rows};

use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::lookup::Lookup;
use crate::pg::query;
use crate::pg::relation::RelationName;
use crate::pg::settings::Mode;

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

/// What is assigned to a group as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Customer,
    Household,
}

/// One campaign in one epoch.
#[derive(Clone, Debug, Deserialize)]
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
    pub offset_column: Option<String>,
    offset_scale: OffsetScale,
    pub time_zone: String,
    pub time_zone_column: Option<String>,
    /// Zone of customers whose own is not known, where one must be.
    pub fallback_time_zone: Option<String>,
    pub jurisdiction_column: Option<String>,
    pub locale_column: Option<String>,
    /// With the consent to be profiled.
    pub profiling_column: Option<String>,
    /// Weight of what its sends are expected to add, where campaigns compete for a contact; `None` takes no part.
    pub priority: Option<f64>,
    /// How far ahead a send may be put off.
    pub send_horizon_seconds: f64,
    /// How long after its moment a send may still be made.
    pub send_within_seconds: f64,
    pub household_column: Option<String>,
    unit: Unit,
    /// How often its groups were drawn anew.
    #[serde(default)]
    pub draw: i32,
    /// From when on those count, in microseconds; `None` for the first ones.
    #[serde(default)]
    pub washed_micros: Option<i64>,
    #[serde(flatten)]
    pub rules: Rules,
    pub mode: Mode,
    /// Share of the control group that has moved to optimise.
    pub control_ramped: f64,
    /// The next step of a ramp on evidence; `None` if there is none.
    pub ramp_step: Option<f64>,
    pub ramp_confidence: f64,
    pub ramp_goal: Option<String>,
    pub temper: f64,
    /// In seconds; `None` never forgets.
    pub half_life_seconds: Option<f64>,
    /// `None` lets offers change at any time.
    pub offer_consistency_seconds: Option<f64>,
    pub currency: Option<String>,
    pub coefficient_limit: i32,
    /// By `action_id`.
    pub actions: Vec<Action>,
    pub goals: Vec<CampaignGoal>,
    /// By name.
    pub budgets: Vec<Budget>,
    /// What makes customers due; empty if they always are.
    pub entries: Vec<EntrySource>,
    /// `None` if there is none, or its share is 0.
    pub global_holdout: Option<GlobalHoldout>,
    guardrail_rows: Rows,
    #[serde(skip)]
    pub guardrails: Guardrails,
}

/// What cached things belong to. The salt tells a campaign from one of the same name and epoch in an extension that was
/// dropped and created again meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Edition {
    pub epoch: i64,
    #[serde(deserialize_with = "salt")]
    salt: Salt,
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
    pub minimum_uplift: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Action {
    pub action: String,
    pub action_id: i32,
    pub dimensions: Dimensions,
    pub content: Option<serde_json::Value>,
    contents: Vec<Variant>,
    #[serde(skip)]
    locales: Locales,
    pub customer_reason: Option<String>,
    pub category: Option<String>,
    pub transactional: bool,
    pub status: String,
    /// When a rule about content ends the approval, in microseconds.
    approved_until: Option<i64>,
    #[serde(flatten)]
    pub cost: Cost,
}

/// Content of an action for a locale.
#[derive(Clone, Debug, Deserialize)]
struct Variant {
    locale: String,
    content: serde_json::Value,
}

#[derive(Clone, Debug, Deserialize)]
pub struct CampaignGoal {
    pub goal: String,
    pub kind: String,
    /// Worth of one event.
    pub value: Option<f64>,
    pub attribution_seconds: f64,
    exit_policy: String,
    cool_down_seconds: Option<f64>,
}

/// What a part of a model predicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Whether there is an event of a conversion or value goal in the window.
    Response,
    /// What the events of a response are worth.
    Worth,
    /// Whether there is an event of this harm goal in the window.
    Harm(String),
}

const HARM: &str = "harm: ";

impl Target {
    pub fn name(&self) -> String {
        match self {
            Target::Response => "response".to_owned(),
            Target::Worth => "worth".to_owned(),
            Target::Harm(goal) => format!("{HARM}{goal}"),
        }
    }

    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "response" => Ok(Target::Response),
            "worth" => Ok(Target::Worth),
            _ => name
                .strip_prefix(HARM)
                .map(|goal| Target::Harm(goal.to_owned()))
                .ok_or_else(|| Error::corrupted(format!("unknown part of a model \"{name}\""))),
        }
    }

    pub fn link(&self) -> Link {
        match self {
            Target::Worth => Link::Gaussian,
            Target::Response => Link::Logistic,
            Target::Harm(_) => Link::LogisticAlone,
        }
    }
}

impl Action {
    /// Whether it may be chosen at `now`, in microseconds.
    pub fn is_approved(&self, now: i64) -> bool {
        self.status == "approved" && self.approved_until.is_none_or(|until| now < until)
    }

    /// The content for somebody of a locale.
    pub fn content_for(&self, locale: Option<&str>) -> Option<&serde_json::Value> {
        let variant = locale.filter(|_| !self.contents.is_empty()).and_then(|locale| self.locales.choose(locale));
        variant.map(|at| &self.contents[at].content).or(self.content.as_ref())
    }
}

impl Campaign {
    pub fn customers(&self) -> RelationName {
        RelationName { schema: self.customers_schema.clone(), name: self.customers_relation.clone() }
    }

    pub fn salt(&self) -> Salt {
        self.edition.salt
    }

    /// The column of the customers relation that is the offset of the model, and its scale.
    pub fn offset(&self) -> Option<(&str, OffsetScale)> {
        self.offset_column.as_deref().map(|column| (column, self.offset_scale))
    }

    pub fn shares(&self) -> Shares {
        let Rules { holdout_share: holdout, control_share: control, explore_share: explore, .. } = self.rules;
        Shares { holdout, control, explore }
    }

    /// The bucket that a customer is drawn into: with all of his household, where that is the unit and he has one.
    pub fn bucket(&self, salt: &Salt, customer_id: &str, household: Option<&str>) -> u16 {
        match (self.unit, household) {
            (Unit::Household, Some(household)) => salt.bucket(&format!("household {household}"), self.draw),
            _ => salt.bucket(customer_id, self.draw),
        }
    }

    /// The group that a customer of `assigned` is treated as: a ramp moves control customers to optimise, and not back. Those who are there
    /// it moves all at once. Were they to move when they are next decided for, because shares have changed and with them who has moved,
    /// control would keep those who bought and are not decided for any more.
    pub fn treated_as(&self, assigned: Group, moved: Moved) -> Group {
        let moved = match moved {
            Moved::Before(moved) => moved || self.control_ramped >= 1.0,
            Moved::Now(bucket) => bucket < self.shares().ramp_bound(self.control_ramped),
        };
        match assigned {
            Group::Control if moved => Group::Optimise,
            _ => assigned,
        }
    }

    /// Goals whose events make a decision a success: engagement ranks nothing here and harm is no success.
    pub fn reward_goals(&self) -> impl Iterator<Item = &CampaignGoal> {
        self.goals.iter().filter(|goal| matches!(goal.kind.as_str(), "conversion" | "value"))
    }

    /// Harm goals that count in the choice: those with a value.
    fn harm_goals(&self) -> impl Iterator<Item = &CampaignGoal> {
        self.goals.iter().filter(|goal| goal.kind == "harm" && goal.value.is_some())
    }

    /// Longest attribution window of what is learned, in seconds: a decision closes after it.
    pub fn window_seconds(&self) -> f64 {
        self.reward_goals().chain(self.harm_goals()).map(|goal| goal.attribution_seconds).fold(0.0, f64::max)
    }

    /// What the model predicts.
    pub fn targets(&self) -> Vec<Target> {
        let worth = self.fixed_value().is_none().then_some(Target::Worth);
        let harms = self.harm_goals().map(|goal| Target::Harm(goal.goal.clone()));
        [Target::Response].into_iter().chain(worth).chain(harms).collect()
    }

    /// What the rewards of decisions go by, as a text that changes with it.
    pub fn reward_rule(&self) -> String {
        let of_goal = |goal: &CampaignGoal| {
            format!("{:?}: {} within {} s, worth {:?}", goal.goal, goal.kind, goal.attribution_seconds, goal.value)
        };
        let rules: Vec<String> = self.reward_goals().chain(self.harm_goals()).map(of_goal).collect();
        rules.join("; ")
    }

    /// Worth of a response if it is the same for all.
    pub fn fixed_value(&self) -> Option<f64> {
        let mut values = self.reward_goals().map(|goal| match goal.kind.as_str() {
            "value" => goal.value,
            _ => Some(goal.value.unwrap_or(1.0)),
        });
        let first = values.next().unwrap_or(Some(1.0));
        first.filter(|_| values.all(|value| value == first))
    }

    /// What responses, harm and sends are worth, for a model of `targets` and the prices of budgets. Before anything is known of the worth of
    /// responses, nothing can be net of costs, and only responses count.
    pub fn terms(&self, targets: &[Target], prices: &Prices) -> Terms {
        let worth = targets.contains(&Target::Worth);
        let Some(value) = self.fixed_value().or(worth.then_some(0.0)) else {
            return Terms::free(self.actions.len());
        };
        let harm = |target: &Target| match target {
            Target::Harm(goal) => {
                Some(self.harm_goals().find(|known| known.goal == *goal).and_then(|goal| goal.value).unwrap_or(0.0))
            }
            Target::Response | Target::Worth => None,
        };
        Terms {
            value,
            harms: targets.iter().filter_map(harm).collect(),
            costs: self.actions.iter().map(|action| budget::priced(&self.budgets, prices, action)).collect(),
            minimum_uplift: self.rules.minimum_uplift,
        }
    }

    /// Age at which a decision counts half, in microseconds.
    pub fn half_life(&self) -> Option<f64> {
        self.half_life_seconds.map(|seconds| seconds * 1e6)
    }

    /// What is left of the weight of a decision after `age` microseconds; never more than all.
    pub fn discount(&self, age: i64) -> f64 {
        discount(self.half_life(), age)
    }

    pub fn action(&self, action_id: i32) -> Option<&Action> {
        self.actions.iter().find(|action| action.action_id == action_id)
    }
}

/// What is left of the weight of a decision after `age`, with this half-life, both in microseconds.
pub fn discount(half_life: Option<f64>, age: i64) -> f64 {
    half_life.map_or(1.0, |half_life| (-age.max(0) as f64 / half_life).exp2())
}

/// How a ramp finds a customer.
pub enum Moved {
    /// Exposed already, and moved if it has.
    Before(bool),
    /// Drawn into a bucket now.
    Now(u16),
}

/// Which model a campaign decides by: its version, and the transaction that made it the current one. A transaction that is
/// rolled back frees the number of its version for another model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentModel {
    pub version: i64,
    writer: i64,
}

/// A salt as documents have it: a uuid.
pub fn salt<'de, D: Deserializer<'de>>(document: D) -> std::result::Result<Salt, D::Error> {
    let uuid = String::deserialize(document)?;
    let hex: String = uuid.chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&hex, 16)
        .map(|bits| Salt(bits.to_be_bytes()))
        .map_err(|_| D::Error::custom("a salt is not a uuid"))
}

thread_local! {
    static CAMPAIGNS: RefCell<HashMap<String, Rc<Campaign>>> = RefCell::new(HashMap::new());
}

/// Which edition of a campaign is in force.
///
/// # Errors
/// No such campaign.
pub fn edition(name: &str) -> Result<Edition> {
    Lookup::open(c"campaigns", [c"epoch", c"salt"])?
        .find(&[name], |row| Ok(Edition { epoch: row.value(0)?, salt: Salt(*row.value::<Uuid>(1)?.as_bytes()) }))?
        .ok_or_else(|| unknown(name))
}

/// The campaign and its current model.
///
/// # Errors
/// No such campaign.
pub fn load(name: &str) -> Result<(Rc<Campaign>, Option<CurrentModel>)> {
    let edition = edition(name)?;
    let current = Lookup::open(c"_learner", [c"model_version"])?
        .find(&[name], |row| Ok(CurrentModel { version: row.value(0)?, writer: row.writer() }))?;
    let cached = CAMPAIGNS.with_borrow(|campaigns| campaigns.get(name).cloned());
    if let Some(campaign) = cached.filter(|campaign| campaign.edition == edition) {
        return Ok((campaign, current));
    }
    let campaign = Rc::new(as_owner(|| read(name))?);
    CAMPAIGNS.with_borrow_mut(|campaigns| campaigns.insert(name.to_owned(), campaign.clone()));
    Ok((campaign, current))
}

/// Everything in one statement, so that it is all of one snapshot. Runs as the owner.
fn read(name: &str) -> Result<Campaign> {
    let document = query::read_one(
        "SELECT (to_jsonb(c) || jsonb_build_object(
             'washed_micros', (extract(epoch FROM c.washed_at) * 1000000)::bigint,
             'actions', coalesce((
                 SELECT jsonb_agg(jsonb_build_object('action', a.action, 'action_id', a.action_id, 'status', a.status,
                     'dimensions', a.dimensions, 'content', a.content, 'customer_reason', a.customer_reason,
                     'category', a.category, 'transactional', a.transactional,
                     'cost_send', a.cost_send, 'cost_on_goal', a.cost_on_goal,
                     'cost_on_goal_share', a.cost_on_goal_share,
                     'approved_until', (extract(epoch FROM a.approved_until) * 1000000)::bigint,
                     'contents', coalesce((
                         SELECT jsonb_agg(jsonb_build_object('locale', v.locale, 'content', v.content) ORDER BY v.locale)
                         FROM decisioning.action_contents v
                         WHERE v.campaign = a.campaign AND v.action = a.action), '[]'))
                     ORDER BY a.action_id)
                 FROM decisioning.actions a WHERE a.campaign = c.campaign), '[]'),
             'goals', coalesce((
                 SELECT jsonb_agg(jsonb_build_object('goal', g.goal, 'kind', k.kind, 'value', g.value,
                     'attribution_seconds', g.attribution_seconds, 'exit_policy', g.exit_policy,
                     'cool_down_seconds', g.cool_down_seconds) ORDER BY g.goal)
                 FROM decisioning.campaign_goals g JOIN decisioning.goals k ON k.goal = g.goal
                 WHERE g.campaign = c.campaign), '[]'),
             'budgets', coalesce((
                 SELECT jsonb_agg(to_jsonb(b) || jsonb_build_object('ends_micros',
                     (extract(epoch FROM b.ends_at) * 1000000)::bigint) ORDER BY b.budget)
                 FROM decisioning.budgets b WHERE b.campaign = c.campaign), '[]'),
             'entries', coalesce((
                 SELECT jsonb_agg(to_jsonb(n) || jsonb_build_object('valid_seconds', extract(epoch FROM n.valid_for))
                     ORDER BY n.entry_source)
                 FROM decisioning.entry_sources n WHERE n.campaign = c.campaign), '[]'),
             'global_holdout', (SELECT to_jsonb(h) FROM decisioning.global_holdout h WHERE h.share > 0),
             'guardrail_rows', jsonb_build_object(
                 'eligibility', coalesce((
                     SELECT jsonb_agg(to_jsonb(e) ORDER BY e.rule) FROM decisioning.eligibility_rules e
                     WHERE e.campaign = c.campaign), '[]'),
                 'consent_columns', coalesce((
                     SELECT jsonb_agg(to_jsonb(n) ORDER BY n.consent_column, n.channel) FROM decisioning.consent_columns n
                     WHERE n.campaign = c.campaign), '[]'),
                 'consent_sources', coalesce((
                     SELECT jsonb_agg(to_jsonb(n) ORDER BY n.consent_source) FROM decisioning.consent_sources n
                     WHERE coalesce(n.campaign, c.campaign) = c.campaign), '[]'),
                 'caps', coalesce((
                     SELECT jsonb_agg(to_jsonb(f) || jsonb_build_object(
                         'ramp_starts', (extract(epoch FROM f.ramp_starts_at) * 1000000)::bigint,
                         'ramp_ends', (extract(epoch FROM f.ramp_ends_at) * 1000000)::bigint) ORDER BY f.cap)
                     FROM decisioning.frequency_caps f WHERE coalesce(f.campaign, c.campaign) = c.campaign), '[]'),
                 'quiet_hours', coalesce((
                     SELECT jsonb_agg(to_jsonb(q) ORDER BY q.rule) FROM decisioning.quiet_hours q
                     WHERE coalesce(q.campaign, c.campaign) = c.campaign), '[]'),
                 'order', coalesce((
                     SELECT jsonb_agg(to_jsonb(r) ORDER BY r.rule) FROM decisioning.order_rules r
                     WHERE r.campaign = c.campaign), '[]'))))::text
         FROM decisioning.campaigns c WHERE c.campaign = $1",
        &[name.into()],
        |row| row.value::<String>(1),
    )?
    .ok_or_else(|| unknown(name))?;
    let mut campaign: Campaign = serde_json::from_str(&document)?;
    for action in &mut campaign.actions {
        action.locales = Locales::new(action.contents.iter().map(|variant| variant.locale.as_str()));
    }
    let exit = |goal: &CampaignGoal| {
        let cool_down = goal.cool_down_seconds.map(|seconds| seconds * 1e6);
        (goal.exit_policy != "stay").then(|| Exit { goal: goal.goal.clone(), cool_down })
    };
    let exits = campaign.goals.iter().filter_map(exit).collect();
    campaign.guardrails = Guardrails::compile(std::mem::take(&mut campaign.guardrail_rows), exits, &campaign.actions)?;
    Ok(campaign)
}

/// The campaign with the rules, costs, goals and budgets of an earlier epoch. Runs as the owner.
pub fn at_epoch(campaign: &Campaign, rules: &Rules, epoch: i64) -> Result<Campaign> {
    let mut past = Campaign { rules: rules.clone(), ..campaign.clone() };
    let latest = |relation: &str, key: &str| -> Result<HashMap<String, String>> {
        let rows = query::read(
            "SELECT DISTINCT ON (name) coalesce(e.after, e.before) ->> $3 AS name, e.after::text
             FROM decisioning.epochs e WHERE e.campaign = $1 AND e.relation = $2 AND e.epoch <= $4
             ORDER BY name, e.epoch DESC",
            &[campaign.campaign.as_str().into(), relation.into(), key.into(), epoch.into()],
            |row| Ok((row.value::<String>(1)?, row.get::<String>(2)?)),
        )?;
        Ok(rows.into_iter().filter_map(|(name, after)| Some((name, after?))).collect())
    };
    let costs = latest("actions", "action")?;
    for action in &mut past.actions {
        if let Some(row) = costs.get(&action.action) {
            action.cost = serde_json::from_str(row)?;
        }
    }
    past.budgets = budget::from_rows(latest("budgets", "budget")?)?;
    #[derive(Deserialize)]
    struct Worth {
        value: Option<f64>,
    }
    let kinds: HashMap<String, String> = query::read(
        "SELECT DISTINCT ON (goal) e.after ->> 'goal' AS goal, e.after ->> 'kind'
         FROM decisioning.epochs e WHERE e.relation = 'goals' AND e.after IS NOT NULL AND e.epoch <= $1
         ORDER BY goal, e.epoch DESC",
        &[epoch.into()],
        |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?)),
    )?
    .into_iter()
    .collect();
    // Goals that were taken away since come back. A choice goes by kinds and values alone.
    past.goals.clear();
    for (goal, row) in latest("campaign_goals", "goal")? {
        let known = campaign.goals.iter().find(|known| known.goal == goal);
        past.goals.push(CampaignGoal {
            kind: kinds.get(&goal).or(known.map(|known| &known.kind)).cloned().unwrap_or_default(),
            value: serde_json::from_str::<Worth>(&row)?.value,
            attribution_seconds: known.map_or(0.0, |known| known.attribution_seconds),
            exit_policy: "stay".to_owned(),
            cool_down_seconds: None,
            goal,
        });
    }
    past.goals.sort_by(|a, b| a.goal.cmp(&b.goal));
    Ok(past)
}

fn unknown(name: &str) -> Error {
    Error::missing(format!("campaign \"{name}\" does not exist"))
        .hint("SELECT campaign, status FROM decisioning.campaigns lists them; decisioning.create_campaign makes one.")
}
