//! What is keyed by customer follows when identities change, and comes back when they change back.
//!
//! Nothing that was logged or assigned is moved. Rows of `_assignment` stay under the id they were made for, and say into
//! whom it was merged; whoever decides reads them along with his own. Outcomes and decisions keep their ids, and meet by
//! aliases. Only what learners have summed up must be told: rewards that a change of identity gives or takes.

use std::collections::HashMap;

use super::guardrail;
use super::log::{canonical_id, reward_of, ABSORBED, HALF_LIVES};
use super::now;
use crate::pg::error::Result;
use crate::pg::memory::scratch;
use crate::pg::snapshot::latest;
use crate::pg::{interrupt, query};

/// Ids per statement.
const CHUNK: usize = 20_000;

/// Days after which a row that only keeps a merged id from deciding apart has done its duty: whoever looked at identities
/// before the merge is through.
const GUARD_DAYS: f64 = 1.0;

/// Ids whose records went to other customers, and where.
#[derive(Debug, Default)]
pub struct Changes {
    moves: Vec<(String, String)>,
}

impl Changes {
    /// Of pairs of a former id and the id that its records, or some of them, have now, or an alias and whom it stands for.
    pub fn new(moves: Vec<(String, String)>) -> Self {
        Changes { moves }
    }

    /// Every id, with the number of the group of ids that are connected by moves.
    fn groups(&self) -> Vec<(&str, i32)> {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut parents: Vec<usize> = Vec::new();
        fn root(parents: &mut [usize], mut at: usize) -> usize {
            while parents[at] != at {
                parents[at] = parents[parents[at]];
                at = parents[at];
            }
            at
        }
        for (from, into) in &self.moves {
            let [a, b] = [from, into].map(|id| {
                let number = *numbers.entry(id).or_insert(parents.len());
                if number == parents.len() {
                    parents.push(number);
                }
                root(&mut parents, number)
            });
            parents[a.max(b)] = a.min(b);
        }
        let mut groups: Vec<(&str, i32)> =
            numbers.into_iter().map(|(id, number)| (id, root(&mut parents, number) as i32)).collect();
        groups.sort_unstable_by(|a, b| (a.1, a.0).cmp(&(b.1, b.0)));
        groups
    }

    /// Every id, in order.
    pub fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.groups().into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }
}

/// Keeps learners from summing up rewards while identities change. To be taken before any lock that others wait for, since
/// learning may take a while. Runs as the owner.
pub fn lock_learners() -> Result<()> {
    query::write("SELECT FROM decisioning._learner l ORDER BY l.campaign FOR UPDATE", &[], |_| Ok(()))?;
    Ok(())
}

/// To be called before identities change, with the learners locked: notes which rewards learners have summed up for decisions
/// that the outcomes of these customers reach. Runs as the owner.
pub fn note_rewards(changes: &Changes) -> Result<()> {
    if changes.moves.is_empty() || is_idle()? {
        return Ok(());
    }
    let sql = format!(
        "WITH changed AS (SELECT n.id, n.number FROM unnest($1::text[], $2::integer[]) AS n(id, number)),
         known AS MATERIALIZED (
             SELECT c.id, c.number FROM changed c
             UNION
             SELECT b.alias, c.number FROM changed c JOIN decisioning._log_alias b ON b.customer_id = c.id),
         reached AS MATERIALIZED (
             SELECT DISTINCT f.decision_id, g.campaign
             FROM known k
             JOIN decisioning.outcomes o ON o.customer_id = k.id
             JOIN decisioning.campaign_goals g ON g.goal = o.goal
             JOIN decisioning.campaigns c ON c.campaign = g.campaign
             JOIN known l ON l.number = k.number
             CROSS JOIN LATERAL (
                 SELECT d.decision_id FROM decisioning.decisions d
                 WHERE d.campaign = g.campaign AND d.customer_id = l.id AND d.decided_at <= o.occurred_at
                   AND d.decided_at > o.occurred_at - g.attribution_seconds * interval '1 second'
                   AND (c.half_life_seconds IS NULL OR d.decided_at > $3 - $4 * c.half_life_seconds * interval '1 second')
                 OFFSET 0) AS f)
         INSERT INTO decisioning._reassessment (campaign, decision_id, given, worth, harms)
         SELECT d.campaign, d.decision_id, reward.given, reward.worth, reward.harms
         FROM reached r
         CROSS JOIN LATERAL (
             SELECT d.* FROM decisioning.decisions d WHERE d.decision_id = r.decision_id OFFSET 0) AS d
         CROSS JOIN LATERAL {reward} AS reward
         WHERE NOT EXISTS (SELECT FROM decisioning._inbox p WHERE p.decision_id = r.decision_id)
         ON CONFLICT DO NOTHING",
        reward = reward_of(ABSORBED),
    );
    let groups = changes.groups();
    for chunk in whole_groups(&groups) {
        interrupt::check();
        let ids: Vec<&str> = chunk.iter().map(|(id, _)| *id).collect();
        let numbers: Vec<i32> = chunk.iter().map(|(_, number)| *number).collect();
        let now = now()?;
        scratch(|| query::execute(&sql, &[ids.into(), numbers.into(), now.into(), HALF_LIVES.into()]))?;
    }
    // A learner that began before with an older view of the world must not go on with it.
    query::execute(
        "UPDATE decisioning._learner l SET learned_at = l.learned_at
         WHERE l.campaign IN (SELECT r.campaign FROM decisioning._reassessment r)",
        &[],
    )?;
    Ok(())
}

/// Whether no campaign was ever started and nothing was logged, so that there is nothing to follow. Nothing is until the end of
/// the transaction, then.
fn is_idle() -> Result<bool> {
    let looks_idle = || {
        let started = query::write(
            "SELECT EXISTS (SELECT FROM decisioning.campaigns c WHERE c.status <> 'draft')
                 OR EXISTS (SELECT FROM decisioning._assignment) OR EXISTS (SELECT FROM decisioning.decisions)
                 OR EXISTS (SELECT FROM decisioning._log_alias) OR EXISTS (SELECT FROM decisioning.suppressions)",
            &[],
            |row| row.value::<bool>(1),
        )?;
        Ok(started == [false])
    };
    if !looks_idle()? {
        return Ok(false);
    }
    // Whoever is just starting or importing one, recording an outcome under an alias or suppressing somebody is waited for.
    query::execute("LOCK TABLE decisioning.campaigns IN SHARE MODE", &[])?;
    query::execute("LOCK TABLE decisioning.suppressions IN SHARE ROW EXCLUSIVE MODE", &[])?;
    query::execute("LOCK TABLE decisioning._log_alias IN SHARE ROW EXCLUSIVE MODE", &[])?;
    latest(looks_idle)
}

/// Chunks of about [`CHUNK`] ids that keep groups together.
fn whole_groups<'a>(groups: &'a [(&'a str, i32)]) -> Vec<&'a [(&'a str, i32)]> {
    let mut chunks = Vec::new();
    let mut rest = groups;
    while rest.len() > CHUNK {
        let number = rest[CHUNK].1;
        let start = rest.partition_point(|(_, of)| *of < number);
        let end = if start > 0 { start } else { rest.partition_point(|(_, of)| *of <= number) };
        let (chunk, after) = rest.split_at(end);
        chunks.push(chunk);
        rest = after;
    }
    if !rest.is_empty() {
        chunks.push(rest);
    }
    chunks
}

/// To be called last of all, with identities changed: whoever decides for one of these customers waits from here to the end of
/// the transaction, and then decides for whom they have become. Runs as the owner.
pub fn follow(changes: &Changes) -> Result<()> {
    if changes.moves.is_empty() || is_idle()? {
        return Ok(());
    }
    query::execute(
        "WITH done AS (
             DELETE FROM decisioning._assignment_guard g WHERE g.placed_at < $1 - $2 * interval '1 day'
             RETURNING g.customer_id, g.campaign)
         DELETE FROM decisioning._assignment s USING done d
         WHERE s.customer_id = d.customer_id AND s.campaign = d.campaign
           AND s.exposed_at = 'infinity' AND s.ordinal = 0 AND s.united IS NULL",
        &[now()?.into(), GUARD_DAYS.into()],
    )?;
    // Who is about to record an outcome under an id that was not in the log so far waits, or has done so; so does who is about to
    // suppress somebody.
    query::execute("LOCK TABLE decisioning.suppressions IN SHARE ROW EXCLUSIVE MODE", &[])?;
    query::execute("LOCK TABLE decisioning._log_alias IN SHARE ROW EXCLUSIVE MODE", &[])?;
    for ids in changes.ids().chunks(CHUNK) {
        interrupt::check();
        scratch(|| {
            follow_in_log(ids)?;
            guardrail::follow(ids)?;
            follow_some(ids)
        })?;
    }
    Ok(())
}

/// Tells the log who its ids are.
fn follow_in_log(ids: &[&str]) -> Result<()> {
    query::execute(
        "WITH resolved AS MATERIALIZED (
             SELECT c.id, coalesce((SELECT a.customer_id FROM decisioning._alias a WHERE a.alias = c.id LIMIT 1), c.id) AS customer_id
             FROM (SELECT n.id FROM unnest($1::text[]) AS n(id)
                   UNION SELECT l.alias FROM decisioning._log_alias l WHERE l.customer_id = ANY ($1)) AS c),
         canonical AS (
             DELETE FROM decisioning._log_alias l USING resolved r WHERE l.alias = r.id AND r.customer_id = r.id)
         INSERT INTO decisioning._log_alias AS l (alias, customer_id)
         SELECT r.id, r.customer_id FROM resolved r WHERE r.customer_id <> r.id
         ON CONFLICT (alias) DO UPDATE SET customer_id = excluded.customer_id
         WHERE l.customer_id <> excluded.customer_id",
        &[ids.to_vec().into()],
    )?;
    Ok(())
}

/// Tells the log who an outcome belongs to whose id is not that of its customer. Runs as the owner.
pub fn name_in_log(customer_ids: &[String]) -> Result<()> {
    let mut given = customer_ids.to_vec();
    given.sort_unstable();
    given.dedup();
    let unknown = query::read(
        "SELECT a.alias FROM decisioning._alias a
         WHERE a.alias = ANY ($1) AND a.customer_id <> a.alias
           AND NOT EXISTS (SELECT FROM decisioning._log_alias l WHERE l.alias = a.alias)",
        &[given.into()],
        |row| row.value::<String>(1),
    )?;
    if unknown.is_empty() {
        return Ok(());
    }
    // The same lock as that of the statement after it, which so sees what a change of identities has left.
    query::execute("LOCK TABLE decisioning._log_alias IN ROW EXCLUSIVE MODE", &[])?;
    query::execute(
        "INSERT INTO decisioning._log_alias (alias, customer_id)
         SELECT a.alias, a.customer_id FROM decisioning._alias a WHERE a.alias = ANY ($1) AND a.customer_id <> a.alias
         ORDER BY a.alias
         ON CONFLICT (alias) DO NOTHING",
        &[unknown.into()],
    )?;
    Ok(())
}

/// Rows of _assignment that are no exposure: columns and values, as SQL, for `id` in campaign `c`.
const COLUMNS: &str =
    "customer_id, campaign, treatment_group, bucket, epoch, exposed_at, treatable, ordinal, decision_id,
                       decided_at, period_ends_at, recent_decisions";
const NOT_EXPOSED: &str = "n.id, c.campaign, 'holdout', 0, c.epoch, 'infinity', false, 0,
                           '00000000-0000-0000-0000-000000000000', '-infinity', '-infinity', '{}'";

fn follow_some(ids: &[&str]) -> Result<()> {
    // Locks what is there and guards what is not, in the order in which decisions lock: who has decided for one of these ids,
    // but not yet committed, is waited for; who is going to, waits.
    query::execute(
        &format!(
            "WITH ids AS MATERIALIZED (
                 SELECT n.id, {canonical} AS canonical_id
                 FROM (SELECT n.id FROM unnest($1::text[]) AS n(id)
                       UNION SELECT m.merged_id FROM decisioning._merged_assignment m WHERE m.customer_id = ANY ($1)) AS n),
             heirs AS MATERIALIZED (
                 SELECT DISTINCT i.canonical_id AS id, s.campaign
                 FROM ids i JOIN decisioning._assignment s ON s.customer_id = i.id
                 WHERE i.id <> i.canonical_id AND (s.exposed_at < 'infinity' OR s.ordinal > 0)),
             placed AS (
                 INSERT INTO decisioning._assignment AS s ({COLUMNS})
                 SELECT {NOT_EXPOSED}
                 FROM ids n CROSS JOIN decisioning.campaigns c
                 WHERE c.status = 'active'
                   AND (n.id <> n.canonical_id OR (n.id, c.campaign) IN (SELECT h.id, h.campaign FROM heirs h))
                 ORDER BY n.id COLLATE \"C\", c.campaign
                 ON CONFLICT (customer_id, campaign) DO UPDATE SET ordinal = s.ordinal WHERE false
                 RETURNING s.customer_id, s.campaign)
             INSERT INTO decisioning._assignment_guard (customer_id, campaign, placed_at)
             SELECT p.customer_id, p.campaign, $2 FROM placed p
             ON CONFLICT (customer_id, campaign) DO UPDATE SET placed_at = excluded.placed_at",
            canonical = canonical_id("n.id"),
        ),
        &[ids.to_vec().into(), now()?.into()],
    )?;
    // Whose assignments are part of whom.
    let changed: Vec<(String, String)> = query::write(
        &format!(
            "WITH touched AS MATERIALIZED (
                 SELECT s.customer_id, s.campaign, s.exposed_at < 'infinity' OR s.ordinal > 0 AS counts,
                        {canonical} AS canonical_id
                 FROM decisioning._assignment s
                 WHERE s.customer_id = ANY (ARRAY(
                     SELECT n.id FROM unnest($1::text[]) AS n(id)
                     UNION SELECT m.merged_id FROM decisioning._merged_assignment m WHERE m.customer_id = ANY ($1)))),
             marked AS (
                 UPDATE decisioning._assignment s SET merged_into = nullif(t.canonical_id, t.customer_id)
                 FROM touched t
                 WHERE s.customer_id = t.customer_id AND s.campaign = t.campaign
                   AND s.merged_into IS DISTINCT FROM nullif(t.canonical_id, t.customer_id)),
             gone AS (
                 DELETE FROM decisioning._merged_assignment m USING touched t
                 WHERE m.merged_id = t.customer_id AND m.campaign = t.campaign AND m.customer_id <> t.canonical_id
                 RETURNING m.customer_id, m.campaign),
             come AS (
                 INSERT INTO decisioning._merged_assignment (customer_id, campaign, merged_id)
                 SELECT t.canonical_id, t.campaign, t.customer_id FROM touched t
                 WHERE t.canonical_id <> t.customer_id AND t.counts
                 ON CONFLICT DO NOTHING
                 RETURNING customer_id, campaign)
             SELECT g.customer_id, g.campaign FROM gone g UNION SELECT c.customer_id, c.campaign FROM come c",
            canonical = canonical_id("s.customer_id"),
        ),
        &[ids.to_vec().into()],
        |row| Ok((row.value(1)?, row.value(2)?)),
    )?;
    if changed.is_empty() {
        return Ok(());
    }
    let (customers, campaigns): (Vec<String>, Vec<String>) = changed.into_iter().unzip();
    unite(customers, campaigns)
}

/// Tells customers that who was merged into them has changed. A decision that is on its way for one of them is made anew.
fn unite(customers: Vec<String>, campaigns: Vec<String>) -> Result<()> {
    // Where nobody decides at present, who has no row of his own gets one here.
    query::execute(
        &format!(
            "INSERT INTO decisioning._assignment ({COLUMNS})
             SELECT {NOT_EXPOSED}
             FROM unnest($1::text[], $2::text[]) AS n(id, campaign) JOIN decisioning.campaigns c ON c.campaign = n.campaign
             ON CONFLICT (customer_id, campaign) DO NOTHING"
        ),
        &[customers.clone().into(), campaigns.clone().into()],
    )?;
    query::execute(
        "UPDATE decisioning._assignment s SET united = coalesce(s.united, 0) + 1
         FROM unnest($1::text[], $2::text[]) AS n(customer_id, campaign)
         WHERE s.customer_id = n.customer_id AND s.campaign = n.campaign",
        &[customers.clone().into(), campaigns.clone().into()],
    )?;
    query::execute(
        "WITH persons AS MATERIALIZED (
             SELECT n.campaign, array_agg(s.customer_id) AS customers, count(DISTINCT s.treatment_group) > 1 AS mixed
             FROM unnest($1::text[], $2::text[]) AS n(customer_id, campaign)
             CROSS JOIN LATERAL (
                 SELECT n.customer_id AS id
                 UNION ALL
                 SELECT m.merged_id FROM decisioning._merged_assignment m
                 WHERE m.customer_id = n.customer_id AND m.campaign = n.campaign) AS i
             JOIN decisioning._assignment s ON s.customer_id = i.id AND s.campaign = n.campaign
             WHERE s.exposed_at < 'infinity'
             GROUP BY n.customer_id, n.campaign
             HAVING count(*) > 1)
         UPDATE decisioning._assignment s
         SET merged_at = coalesce(s.merged_at, $3), mixed_at = CASE WHEN p.mixed THEN coalesce(s.mixed_at, $3) ELSE s.mixed_at END
         FROM persons p CROSS JOIN LATERAL unnest(p.customers) AS c(customer_id)
         WHERE s.customer_id = c.customer_id AND s.campaign = p.campaign
           AND (s.merged_at IS NULL OR p.mixed AND s.mixed_at IS NULL)",
        &[customers.into(), campaigns.into(), now()?.into()],
    )?;
    Ok(())
}
