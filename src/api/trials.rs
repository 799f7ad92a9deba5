//! Logged decisions whose choice was random, as measurement reads them: customer by customer, with what came of them.

use std::collections::HashMap;

use decisioning_core::measure::Trial;
use pgrx::datum::TimestampWithTimeZone;

use super::campaign::Campaign;
use super::evaluate::RANDOM_DECISIONS;
use super::log::{decisions, rewards};
use super::now;
use crate::pg::error::{Error, Result};
use crate::pg::query::{self, Argument, Row};

/// Rows per fetch.
const FETCH: usize = 10_000;

/// What chooses at random; the position is the group of a trial.
pub const GROUPS: [&str; 3] = ["explore", "optimise", "imported"];

/// The random decisions of a campaign since some time whose window has closed.
pub struct Trials<'a> {
    campaign: &'a Campaign,
    since: Option<TimestampWithTimeZone>,
    now: TimestampWithTimeZone,
    /// The log, or a sample of it, as SQL.
    log: String,
    /// Positions of actions by id; no-send is the first.
    position: HashMap<i32, usize>,
    /// Actions that were ever imported: an imported decision does not say what else it could have been.
    imported: Vec<usize>,
}

/// A decision as it is read.
struct Past {
    customer_id: String,
    group: String,
    action_id: i32,
    propensity: f64,
    responded: bool,
    worth: f64,
    candidates: Option<(Vec<i32>, Vec<f64>)>,
    context: Option<String>,
}

impl<'a> Trials<'a> {
    /// From a share of the pages of the log. Runs as the owner, like all the rest.
    pub fn new(campaign: &'a Campaign, since: Option<TimestampWithTimeZone>, share: f64) -> Result<Self> {
        let ids = [0].into_iter().chain(campaign.actions.iter().map(|action| action.action_id));
        let position = ids.zip(0..).collect();
        let log = decisions(share);
        let mut trials = Trials { campaign, since, now: now()?, log, position, imported: Vec::new() };
        let sql = format!(
            "SELECT array_agg(DISTINCT d.action_id) FROM {} WHERE {RANDOM_DECISIONS} AND d.origin = 'import'",
            trials.log
        );
        let imported = query::read_one(&sql, &trials.arguments(), |row| row.get::<Vec<i32>>(1))?.flatten();
        trials.imported =
            imported.unwrap_or_default().iter().filter_map(|id| trials.position.get(id).copied()).collect();
        Ok(trials)
    }

    fn arguments(&self) -> Vec<Argument<'_>> {
        let until: Option<TimestampWithTimeZone> = None;
        vec![
            self.campaign.campaign.as_str().into(),
            self.since.into(),
            until.into(),
            self.campaign.window_seconds().into(),
            self.now.into(),
        ]
    }

    /// Actions, no-send included.
    pub fn actions(&self) -> usize {
        self.position.len()
    }

    /// Contexts of about `most` decisions, spread evenly: the random bits of their ids put them in order.
    pub fn contexts(&self, most: i64, mut consume: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut arguments = self.arguments();
        arguments.push(most.into());
        let sql = format!(
            "SELECT d.context::text FROM {} WHERE {RANDOM_DECISIONS}
             ORDER BY substr(uuid_send(d.decision_id), 9), d.decision_id LIMIT ${}",
            self.log,
            arguments.len()
        );
        query::stream(
            &sql,
            &arguments,
            FETCH,
            |row| row.value::<String>(1),
            |batch| batch.iter().try_for_each(|context| consume(context)),
        )
    }

    /// Hands over every decision, those of one customer together, with the context if it is wanted.
    pub fn stream(
        &self,
        with_context: bool,
        mut consume: impl FnMut(&Trial<'_>, Option<&str>) -> Result<()>,
    ) -> Result<()> {
        let sql = format!(
            "WITH {rewards}
             SELECT coalesce(b.customer_id, d.customer_id) COLLATE \"C\", d.treatment_group, d.action_id, d.propensity,
                    coalesce(reward.given, false), coalesce(reward.worth, 0),
                    CASE WHEN d.origin <> 'import' THEN d.candidates END, CASE WHEN d.origin <> 'import' THEN d.propensities END,
                    {context}
             FROM {log}
             LEFT JOIN rewards reward ON reward.decision_id = d.decision_id
             LEFT JOIN decisioning._log_alias b ON b.alias = d.customer_id
             WHERE {RANDOM_DECISIONS}
             ORDER BY 1, d.decision_id",
            log = self.log,
            rewards = rewards(&self.log, RANDOM_DECISIONS, "true"),
            context = if with_context { "d.context::text" } else { "NULL::text" },
        );
        let misfit =
            || Error::corrupted(format!("a decision of \"{}\" does not fit its campaign", self.campaign.campaign));
        query::stream(&sql, &self.arguments(), FETCH, Past::read, |batch| {
            batch.into_iter().try_for_each(|past| {
                let live = past.candidates.as_ref().map(|(ids, propensities)| self.possible(ids, propensities));
                let (candidates, propensities) = match &live {
                    Some((candidates, propensities)) => (candidates, propensities.as_slice()),
                    None => (&self.imported, [].as_slice()),
                };
                let trial = Trial {
                    customer: &past.customer_id,
                    group: GROUPS.iter().position(|group| *group == past.group).ok_or_else(misfit)?,
                    candidates,
                    propensities,
                    taken: *self.position.get(&past.action_id).ok_or_else(misfit)?,
                    propensity: past.propensity,
                    responded: past.responded,
                    worth: past.worth,
                };
                consume(&trial, past.context.as_deref())
            })
        })
    }

    /// The positions of candidates that could have been taken, with their propensities.
    fn possible(&self, ids: &[i32], propensities: &[f64]) -> (Vec<usize>, Vec<f64>) {
        let all = ids.iter().zip(propensities).filter(|(_, propensity)| **propensity > 0.0);
        all.filter_map(|(id, propensity)| Some((*self.position.get(id)?, *propensity))).unzip()
    }
}

impl Past {
    fn read(row: &Row<'_, '_>) -> Result<Self> {
        Ok(Past {
            customer_id: row.value(1)?,
            group: row.value(2)?,
            action_id: row.value(3)?,
            propensity: row.value(4)?,
            responded: row.value(5)?,
            worth: row.value(6)?,
            candidates: row.get(7)?.zip(row.get(8)?),
            context: row.get(9)?,
        })
    }
}
