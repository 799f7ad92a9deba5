//! The log as the learner reads it: decisions with the rewards that outcomes give them.

use std::collections::HashMap;

use decisioning_core::features::Encoder;
use decisioning_core::learn::Observed;

use super::campaign::Campaign;
use super::context;
use crate::pg::error::{Error, Result};
use crate::pg::query::Row;
use crate::pg::settings;

/// Every id that a customer is or was known by, as an SQL array: outcomes and decisions keep the id they were recorded
/// with. An expression and not a function, because SQL functions with subqueries are not inlined.
pub fn customer_ids(id: &str) -> String {
    let canonical =
        format!("coalesce((SELECT a.customer_id FROM decisioning._customer_alias a WHERE a.alias = {id}), {id})");
    format!(
        "ARRAY[{id}, {canonical}]
         || ARRAY(SELECT b.alias FROM decisioning._customer_alias b WHERE b.customer_id = {canonical})"
    )
}

/// Whether there is an event of the reward goals in the window of decision `d`, as an SQL expression over outcomes `o`
/// that satisfy `condition`. Aliases of the customer count, so that an outcome recorded before or after a merge finds its
/// decision.
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

/// An outcome `o` that learning of the campaign of `d` has absorbed, as SQL.
pub const ABSORBED: &str = "NOT EXISTS (SELECT FROM decisioning._inbox w
                                        WHERE w.outcome_id = o.outcome_id AND w.campaign = d.campaign)";

/// The common table expression `rewards` of decisions `d`, by outcomes `o` that satisfy `outcomes`: one row for each
/// decision with events in its window.
pub fn rewards(from: &str, condition: &str, outcomes: &str) -> String {
    format!(
        "rewards AS MATERIALIZED (
             SELECT d.decision_id, sum(o.events) > 0 AS given,
                    min(o.recorded_at) FILTER (WHERE o.events > 0) AS recorded_at
             FROM {from}
             LEFT JOIN decisioning._customer_alias b ON b.alias = d.customer_id
             JOIN (SELECT coalesce(a.customer_id, o.customer_id) AS canonical_id, o.outcome_id, o.events, o.occurred_at,
                          o.recorded_at, o.occurred_at - g.attribution_seconds * interval '1 second' AS opened_at
                   FROM decisioning.campaign_goals g
                   JOIN decisioning.goals k ON k.goal = g.goal AND k.kind IN ('conversion', 'value')
                   JOIN decisioning.outcomes o ON o.goal = g.goal
                   LEFT JOIN decisioning._customer_alias a ON a.alias = o.customer_id
                   WHERE g.campaign = $1) AS o
                 ON o.canonical_id = coalesce(b.customer_id, d.customer_id)
                 AND o.occurred_at >= d.decided_at AND o.opened_at < d.decided_at
             WHERE {condition} AND {outcomes}
             GROUP BY d.decision_id)"
    )
}

/// A logged decision with its reward.
pub struct Logged {
    pub observed: Observed,
    /// When it was decided, in microseconds.
    pub decided_at: i64,
    /// When its reward was recorded, in microseconds.
    pub recorded_at: Option<i64>,
}

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

    /// The columns of decision `d` that [`observed`](Self::observed) reads. Contexts are long, and needed only if they
    /// must be encoded anew.
    pub fn columns(&self) -> String {
        format!(
            "d.action_id, d.overlap, d.encoder_version, d.encoded,
             CASE WHEN d.encoder_version <> {} THEN d.context::text END",
            self.encoder_version
        )
    }

    /// A statement that reads decisions `d` of campaign $1 with their rewards by absorbed outcomes, for
    /// [`logged`](Self::logged). `from` and `condition` say which. Few decisions have a reward, so that it is set-wise:
    /// rewards first, all at once, and not an index lookup per decision.
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
             SELECT {columns}, d.decided_at, coalesce(reward.given, false), reward.recorded_at
             FROM {from} LEFT JOIN rewards reward ON reward.decision_id = d.decision_id
             WHERE {condition}",
            rewards = rewards(from, condition, ABSORBED),
            columns = self.columns(),
        )
    }

    /// Reads [`columns`](Self::columns) from column `first` on. A context logged under another encoder is encoded anew.
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
            reported: 1.0,
        })
    }

    /// Reads a row of [`statement`](Self::statement).
    pub fn logged(&self, row: &Row<'_, '_>) -> Result<Logged> {
        let observed = self.observed(row, 1, row.value(7)?)?;
        let decided_at =
            settings::micros(row.value(6)?).ok_or_else(|| Error::corrupted("a logged decision has no finite time"))?;
        let recorded_at = row.get(8)?.and_then(settings::micros).filter(|_| observed.reward > 0.0);
        Ok(Logged { observed, decided_at, recorded_at })
    }
}
