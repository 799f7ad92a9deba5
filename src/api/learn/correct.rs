//! Outcomes that change the reward of decisions absorbed before.

use std::collections::BTreeMap;

use decisioning_core::learn::{Link, Observed, Rows};
use pgrx::Uuid;

use super::session::{misfit, Session};
use super::CHUNK;
use crate::api::campaign::Target;
use crate::api::log::{reached_by, reward_of, Reward, ABSORBED};
use crate::api::model::Learned;
use crate::pg::error::Result;
use crate::pg::query::{self, Row};
use crate::pg::settings;

/// Corrects absorbed decisions whose reward changed with the identity of their customer. Returns their ids. Comes before new
/// outcomes are absorbed, which takes for granted that the sums hold the rewards by identities as they are.
pub fn reassess(session: &Session<'_>, learned: &mut Learned) -> Result<Vec<Uuid>> {
    let mut assessed = Vec::new();
    loop {
        let sql = format!(
            "WITH taken AS MATERIALIZED (
                 DELETE FROM decisioning._reassessment r
                 WHERE r.campaign = $1 AND r.decision_id = ANY (ARRAY(
                     SELECT i.decision_id FROM decisioning._reassessment i
                     WHERE i.campaign = $1 ORDER BY i.decision_id LIMIT $2))
                 RETURNING r.decision_id, r.given, r.worth, r.harms)
             SELECT {columns}, d.decided_at, t.given, t.worth, t.harms, after.given, after.worth, after.harms, d.decision_id
             FROM taken t
             CROSS JOIN LATERAL (
                 SELECT d.* FROM decisioning.decisions d WHERE d.decision_id = t.decision_id OFFSET 0) AS d
             CROSS JOIN LATERAL {after} AS after",
            columns = session.reader.columns(),
            after = reward_of(ABSORBED),
        );
        let rows = query::write(&sql, &[session.name().into(), CHUNK.into()], |row| {
            Ok((Correction::read(session, row)?, row.value::<Uuid>(13)?))
        })?;
        let (corrections, ids): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        correct(session, learned, &corrections)?;
        let last = (ids.len() as i64) < CHUNK;
        assessed.extend(ids);
        if last {
            return Ok(assessed);
        }
    }
}

/// Corrects absorbed decisions whose reward changes with the waiting outcomes, then takes those out of the inbox. Returns their ids.
pub fn absorb_outcomes(session: &Session<'_>, learned: &mut Learned) -> Result<Vec<i64>> {
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
            "WITH {reached},
             touched AS MATERIALIZED (
                 SELECT f.decision_id FROM reached f
                 WHERE NOT EXISTS (SELECT FROM decisioning._inbox p WHERE p.decision_id = f.decision_id))
             SELECT {columns}, d.decided_at, before.given, before.worth, before.harms, after.given, after.worth, after.harms
             FROM touched
             CROSS JOIN LATERAL (
                 SELECT d.* FROM decisioning.decisions d WHERE d.decision_id = touched.decision_id OFFSET 0) AS d
             CROSS JOIN LATERAL {before} AS before
             CROSS JOIN LATERAL {after} AS after",
            columns = session.reader.columns(),
            // Those that happen after the window of the last absorbed decision reach none.
            reached = reached_by("$2", "o.occurred_at - g.attribution_seconds * interval '1 second' < $3"),
            before = reward_of(ABSORBED),
            after = reward_of(&format!("(o.outcome_id = ANY ($2) OR {ABSORBED})")),
        );
        let arguments = [name.into(), waiting.clone().into(), settings::timestamp(learned.absorbed_until)?.into()];
        let corrections = query::write(&sql, &arguments, |row| Correction::read(session, row))?;
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
    /// In microseconds.
    decided_at: i64,
    before: Reward,
    after: Reward,
}

impl Correction {
    /// Reads the reader's columns, `decided_at`, and both rewards.
    fn read(session: &Session<'_>, row: &Row<'_, '_>) -> Result<Self> {
        let mut observed = session.reader.observed(row, 1)?;
        let decided_at = settings::micros(row.value(6)?).unwrap_or(session.now);
        observed.weight *= session.campaign.discount(session.now - decided_at);
        Ok(Correction { observed, decided_at, before: Reward::read(row, 7)?, after: Reward::read(row, 10)? })
    }
}

/// Moves the sums from the rewards before to those after. For worth this is exact. For events the linear term moves and the
/// curvature stays where it was taken.
fn correct(session: &Session<'_>, learned: &mut Learned, corrections: &[Correction]) -> Result<()> {
    let mut row = Vec::new();
    for part in &mut learned.parts {
        let link = part.target.link();
        let width = session.layout.columns.len();
        // By epoch, with the time of a decision in it.
        let mut moved: BTreeMap<usize, (i64, [Rows; 2])> = BTreeMap::new();
        for Correction { observed, decided_at, before, after } in corrections {
            let rewards = [before, after].map(|reward| reward.of(&part.target, part.unit.as_ref()));
            if rewards[0] == rewards[1] {
                continue;
            }
            match (link, rewards) {
                (Link::Logistic | Link::LogisticAlone, [Some(before), Some(after)]) => {
                    let arm = observed.arm.and_then(|arm| session.arms.get(arm as usize));
                    session.layout.design(&observed.encoded, arm, &mut row);
                    part.sums.at(*decided_at).correct(&row, observed.weight * (after - before));
                    learned.corrections += observed.weight;
                    if part.target == Target::Response {
                        learned.responses += observed.weight * (after - before);
                    }
                }
                (_, rewards) => {
                    let (_, moved) = moved
                        .entry(part.sums.position(*decided_at))
                        .or_insert_with(|| (*decided_at, [Rows::new(link, width), Rows::new(link, width)]));
                    for (rows, reward) in moved.iter_mut().zip(rewards) {
                        if let Some(reward) = reward {
                            let observed = Observed { reward, ..observed.clone() };
                            rows.push(&observed).map_err(|_| misfit(session.campaign))?;
                        }
                    }
                }
            }
        }
        for (decided_at, [gone, come]) in moved.into_values() {
            let mut gone = session.linearise(&part.mean, &[&gone])?;
            gone.scale(-1.0);
            let sums = part.sums.at(decided_at);
            sums.merge(&gone);
            sums.merge(&session.linearise(&part.mean, &[&come])?);
        }
    }
    Ok(())
}
