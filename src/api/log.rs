//! The log as the learner reads it: decisions with the rewards that outcomes give them.

use std::collections::{BTreeMap, HashMap};

use decisioning_core::decide::Unit;
use decisioning_core::features::Encoder;
use decisioning_core::learn::Observed;
use pgrx::prelude::*;

use super::campaign::{Campaign, Target};
use super::context;
use crate::pg::error::{Error, Result};
use crate::pg::query::{self, Row};
use crate::pg::settings;

/// Half-lives of the log that matter: what is older would count by less than a thousandth.
pub const HALF_LIVES: f64 = 10.0;

/// The log as SQL, with decisions `d`; or a share of its pages, always the same ones.
pub fn decisions(share: f64) -> String {
    if share < 1.0 {
        format!("decisioning.decisions d TABLESAMPLE SYSTEM ({}) REPEATABLE (0)", 100.0 * share)
    } else {
        "decisioning.decisions d".to_owned()
    }
}

/// The share of the pages of the log with about so many decisions of a campaign; 1 if it has no more. Runs as the owner.
pub fn share(campaign: &str, most: i64) -> Result<f64> {
    let found =
        query::read_one("SELECT decisioning._log_share($1, $2)", &[campaign.into(), most.into()], |row| row.value(1))?;
    Ok(found.unwrap_or(1.0))
}

/// The customer that an id in the log stands for, as an SQL expression.
pub fn canonical_id(id: &str) -> String {
    format!("coalesce((SELECT a.customer_id FROM decisioning._log_alias a WHERE a.alias = {id}), {id})")
}

/// Every id that a customer is or was known by in the log, as an SQL array: outcomes and decisions keep the id they were recorded
/// with. An expression and not a function, because SQL functions with subqueries are not inlined.
pub fn customer_ids(id: &str) -> String {
    let canonical = canonical_id(id);
    format!(
        "ARRAY[{id}, {canonical}]
         || ARRAY(SELECT b.alias FROM decisioning._log_alias b WHERE b.customer_id = {canonical})"
    )
}

/// Goals `k` of a campaign (`g`) that its model learns of, as SQL.
pub const LEARNED: &str = "(k.kind IN ('conversion', 'value') OR k.kind = 'harm' AND g.value IS NOT NULL)";

/// What outcome `o` of goal `k` is worth to a campaign (`g`), as SQL.
const WORTH: &str =
    "CASE WHEN k.kind = 'value' AND g.value IS NULL THEN o.value ELSE coalesce(g.value, 1) * o.events END";

/// The reward of a decision from its sums by goal `s(goal, kind, events, worth)`, as SQL for [`Reward::read`].
const REWARD: &str = "coalesce(sum(s.events) FILTER (WHERE s.kind <> 'harm'), 0) > 0 AS given,
    coalesce(sum(s.worth) FILTER (WHERE s.kind <> 'harm'), 0)::float8 AS worth,
    coalesce(array_agg(s.goal ORDER BY s.goal) FILTER (WHERE s.kind = 'harm' AND s.events > 0), '{}') AS harms";

/// The reward of decision `d` by outcomes `o` that satisfy `condition`, as an SQL subquery. Aliases of the customer count,
/// so that an outcome recorded before or after a merge finds its decision.
pub fn reward_of(condition: &str) -> String {
    format!(
        "(SELECT {REWARD}
          FROM (SELECT g.goal, k.kind, sum(o.events) AS events, sum({WORTH}) AS worth
                FROM decisioning.campaign_goals g
                JOIN decisioning.goals k ON k.goal = g.goal AND {LEARNED}
                JOIN decisioning.outcomes o ON o.goal = g.goal AND o.occurred_at >= d.decided_at
                     AND o.occurred_at < d.decided_at + g.attribution_seconds * interval '1 second'
                     AND o.customer_id = ANY ({ids})
                WHERE g.campaign = d.campaign AND {condition}
                GROUP BY g.goal, k.kind) AS s)",
        ids = customer_ids("d.customer_id"),
    )
}

/// An outcome `o` that learning of the campaign of `d` has absorbed, as SQL.
pub const ABSORBED: &str = "NOT EXISTS (SELECT FROM decisioning._inbox w
                                        WHERE w.outcome_id = o.outcome_id AND w.campaign = d.campaign)";

/// The common table expression `reached(decision_id)`: decisions of campaign $1 into whose windows the outcomes fall whose ids
/// are the array `outcomes`. From the few outcomes to their decisions by index, whatever the planner believes of fresh
/// tables: hence MATERIALIZED and OFFSET 0. `condition` says of which outcomes `o` of a campaign goal `g`.
pub fn reached_by(outcomes: &str, condition: &str) -> String {
    format!(
        "late AS MATERIALIZED (
             SELECT DISTINCT o.customer_id, o.occurred_at, g.attribution_seconds
             FROM unnest({outcomes}::bigint[]) AS n(outcome_id)
             JOIN decisioning.outcomes o ON o.outcome_id = n.outcome_id
             JOIN decisioning.campaign_goals g ON g.campaign = $1 AND g.goal = o.goal
             WHERE {condition}),
         reached AS MATERIALIZED (
             SELECT DISTINCT f.decision_id
             FROM late o
             CROSS JOIN LATERAL (
                 SELECT d.decision_id FROM decisioning.decisions d
                 WHERE d.campaign = $1 AND d.customer_id = ANY ({ids}) AND d.decided_at <= o.occurred_at
                   AND d.decided_at > o.occurred_at - o.attribution_seconds * interval '1 second'
                 OFFSET 0) AS f)",
        ids = customer_ids("o.customer_id"),
    )
}

/// The common table expression `rewards` of decisions `d` of campaign $1, by outcomes `o` that satisfy `outcomes`: one row
/// for each decision with events in its window.
pub fn rewards(from: &str, condition: &str, outcomes: &str) -> String {
    format!(
        "sums AS (
             SELECT d.decision_id, o.goal, o.kind, sum(o.events) AS events, sum(o.worth) AS worth,
                    min(ARRAY[o.recorded_at, o.occurred_at]) FILTER (WHERE o.events > 0) AS first
             FROM {from}
             LEFT JOIN decisioning._log_alias b ON b.alias = d.customer_id
             JOIN (SELECT coalesce(a.customer_id, o.customer_id) AS canonical_id, o.outcome_id, o.goal, k.kind, o.events,
                          {WORTH} AS worth, o.occurred_at, o.recorded_at,
                          o.occurred_at - g.attribution_seconds * interval '1 second' AS opened_at
                   FROM decisioning.campaign_goals g
                   JOIN decisioning.goals k ON k.goal = g.goal AND {LEARNED}
                   JOIN decisioning.outcomes o ON o.goal = g.goal
                   LEFT JOIN decisioning._log_alias a ON a.alias = o.customer_id
                   WHERE g.campaign = $1) AS o
                 ON o.canonical_id = coalesce(b.customer_id, d.customer_id)
                 AND o.occurred_at >= d.decided_at AND o.opened_at < d.decided_at
             WHERE {condition} AND {outcomes}
             GROUP BY d.decision_id, o.goal, o.kind),
         rewards AS MATERIALIZED (
             SELECT s.decision_id, {REWARD},
                    min(s.first) FILTER (WHERE s.kind <> 'harm') AS response,
                    coalesce(array_agg(s.first[1] ORDER BY s.goal)
                             FILTER (WHERE s.kind = 'harm' AND s.events > 0), '{{}}') AS harms_recorded_at,
                    coalesce(array_agg(s.first[2] ORDER BY s.goal)
                             FILTER (WHERE s.kind = 'harm' AND s.events > 0), '{{}}') AS harmed_at
             FROM sums s GROUP BY s.decision_id)"
    )
}

/// What happened in the window of a decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reward {
    /// There was an event of a conversion or value goal.
    pub given: bool,
    /// What those events are worth.
    pub worth: f64,
    /// Harm goals with an event.
    pub harms: Vec<String>,
}

impl Reward {
    /// Reads `given, worth, harms` from column `first` on; harms may be NULL for none.
    pub fn read(row: &Row<'_, '_>, first: usize) -> Result<Self> {
        let harms = row.get(first + 2)?.unwrap_or_default();
        Ok(Reward { given: row.value(first)?, worth: row.value(first + 1)?, harms })
    }

    /// What a part of the model is to predict; `None` if it says nothing of this decision.
    pub fn of(&self, target: &Target, unit: Option<&Unit>) -> Option<f64> {
        let indicator = |happened: bool| Some(f64::from(u8::from(happened)));
        match target {
            Target::Response => indicator(self.given),
            Target::Harm(goal) => indicator(self.harms.contains(goal)),
            Target::Worth => unit.filter(|_| self.given).map(|unit| unit.standardise(self.worth)),
        }
    }
}

/// When an event happened and when it was recorded, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Happened {
    pub at: i64,
    pub recorded_at: i64,
}

/// A logged decision with its reward.
pub struct Logged {
    /// Without a reward.
    pub observed: Observed,
    /// When it was decided, in microseconds.
    pub decided_at: i64,
    pub reward: Reward,
    /// Its conversion or value event that was recorded first.
    response: Option<Happened>,
    /// That of each harm.
    harms: Vec<Happened>,
}

impl Logged {
    /// The event that a part of the model predicts.
    pub fn happened(&self, target: &Target) -> Option<Happened> {
        match target {
            Target::Response => self.response.filter(|_| self.reward.given),
            Target::Harm(goal) => {
                let at = self.reward.harms.iter().position(|harm| harm == goal)?;
                self.harms.get(at).copied()
            }
            Target::Worth => None,
        }
    }
}

/// Decodes logged decisions under the encoder of a model.
pub struct Reader<'a> {
    pub encoder: &'a Encoder,
    pub encoder_version: i32,
    /// Widths of the versions of the encoder that have the same features, and maybe other crosses; its own is one.
    alike: BTreeMap<i32, usize>,
    arms: HashMap<i32, u32>,
}

impl<'a> Reader<'a> {
    /// Runs as the owner.
    pub fn new(campaign: &Campaign, encoder: &'a Encoder, encoder_version: i32) -> Result<Self> {
        let arms = campaign.actions.iter().zip(0..).map(|(action, arm)| (action.action_id, arm)).collect();
        let alike = query::read(
            "SELECT a.encoder_version, coalesce(jsonb_array_length(a.definition -> 'crosses'), 0)
             FROM decisioning._encoder e
             JOIN decisioning._encoder a ON a.campaign = e.campaign AND a.features_version = e.features_version
             WHERE e.campaign = $1 AND e.encoder_version = $2",
            &[campaign.campaign.as_str().into(), encoder_version.into()],
            |row| Ok((row.value::<i32>(1)?, row.value::<i32>(2)?)),
        )?;
        let width = |crosses: i32| encoder.feature_width() + usize::try_from(crosses).unwrap_or_default();
        let alike = alike.into_iter().map(|(version, crosses)| (version, width(crosses)));
        let alike = alike.chain([(encoder_version, encoder.width())]).collect();
        Ok(Reader { encoder, encoder_version, alike, arms })
    }

    /// The columns of decision `d` that [`observed`](Self::observed) reads. Contexts are long, and needed only if they
    /// must be encoded anew.
    pub fn columns(&self) -> String {
        let alike: Vec<String> = self.alike.keys().map(i32::to_string).collect();
        format!(
            "d.action_id, d.overlap, d.encoder_version, d.encoded,
             CASE WHEN d.encoder_version NOT IN ({}) THEN d.context::text END",
            alike.join(", ")
        )
    }

    /// A statement that reads decisions `d` of campaign $1 with their rewards by absorbed outcomes, for
    /// [`logged`](Self::logged). `from` and `condition` say which. Few decisions have a reward, so that it is set-wise:
    /// rewards first, all at once, and not an index lookup per decision. What is read of a decision is taken by itself (OFFSET 0),
    /// so that parallel workers hand over no more than that.
    pub fn statement(&self, from: &str, condition: &str) -> String {
        format!("WITH {}", self.rewards_and_decisions(from, condition))
    }

    /// The same for the decisions whose `decision_id` a common table expression lists, as what follows its definition.
    pub fn statement_of(&self, listed: &str) -> String {
        // The ids are ordered by time, so that their range lies together in the log.
        let bound =
            |order: &str| format!("(SELECT b.decision_id FROM {listed} b ORDER BY b.decision_id {order} LIMIT 1)");
        let from = format!("{listed} l JOIN decisioning.decisions d ON d.decision_id = l.decision_id");
        let condition = format!("d.decision_id BETWEEN {} AND {}", bound("ASC"), bound("DESC"));
        format!(", {}", self.rewards_and_decisions(&from, &condition))
    }

    fn rewards_and_decisions(&self, from: &str, condition: &str) -> String {
        format!(
            "{rewards}
             SELECT d.*, coalesce(reward.given, false) AS given, coalesce(reward.worth, 0) AS worth, reward.harms,
                    reward.response[1], reward.response[2], reward.harms_recorded_at, reward.harmed_at
             FROM (SELECT {columns}, d.decided_at, d.decision_id FROM {from} WHERE {condition} OFFSET 0) AS d
             LEFT JOIN rewards reward ON reward.decision_id = d.decision_id",
            rewards = rewards(from, condition, ABSORBED),
            columns = self.columns(),
        )
    }

    /// Reads [`columns`](Self::columns) from column `first` on, as a decision without a reward. A context logged under
    /// an encoder of other features is encoded anew.
    pub fn observed(&self, row: &Row<'_, '_>, first: usize) -> Result<Observed> {
        let action_id = row.value::<i32>(first)?;
        let version = row.value::<i32>(first + 2)?;
        let encoded = match self.alike.get(&version) {
            Some(width) => {
                let encoded = row.reals(first + 3)?;
                if encoded.len() != *width {
                    return Err(Error::corrupted("a logged context has another width than its encoder"));
                }
                if version == self.encoder_version {
                    encoded
                } else {
                    self.encoder.recrossed(encoded)
                }
            }
            None => {
                let observation = context::from_document(self.encoder, &row.value::<String>(first + 4)?)?;
                let mut encoded = vec![0.0; self.encoder.width()];
                self.encoder.encode(&observation, &mut encoded);
                encoded
            }
        };
        let arm = match action_id {
            0 => None,
            id => Some(*self.arms.get(&id).ok_or_else(|| Error::corrupted(format!("action {id} is not configured")))?),
        };
        Ok(Observed {
            encoded,
            arm,
            weight: 1.0 / f64::from(row.value::<i32>(first + 1)?.max(1)),
            reward: 0.0,
            reported: 1.0,
        })
    }

    /// Reads a row of [`statement`](Self::statement).
    pub fn logged(&self, row: &Row<'_, '_>) -> Result<Logged> {
        let endless = || Error::corrupted("a logged decision or outcome has no finite time");
        let observed = self.observed(row, 1)?;
        let decided_at = settings::micros(row.value(6)?).ok_or_else(endless)?;
        // Most decisions have no event: nothing is read of what they do not have.
        if row.is_null(10) {
            return Ok(Logged { observed, decided_at, reward: Reward::default(), response: None, harms: Vec::new() });
        }
        let micros = |at: TimestampWithTimeZone| settings::micros(at).ok_or_else(endless);
        let times = |column| -> Result<Vec<i64>> {
            row.value::<Vec<TimestampWithTimeZone>>(column)?.into_iter().map(micros).collect()
        };
        let response = match (row.get(11)?, row.get(12)?) {
            (Some(recorded_at), Some(at)) => Some(Happened { at: micros(at)?, recorded_at: micros(recorded_at)? }),
            _ => None,
        };
        let harms = times(13)?.into_iter().zip(times(14)?).map(|(recorded_at, at)| Happened { at, recorded_at });
        Ok(Logged { observed, decided_at, reward: Reward::read(row, 8)?, response, harms: harms.collect() })
    }
}
