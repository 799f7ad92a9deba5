//! Decisions in the inbox: those that are not absorbed yet.

use pgrx::Uuid;

use super::session::Session;
use super::CHUNK;
use crate::api::log::Logged;
use crate::pg::error::{Error, Result};
use crate::pg::{query, settings};

/// Decisions taken out of the inbox at a time: each time reads all of it. Bounds the memory for their ids.
const TAKEN: i64 = 20 * CHUNK;

/// What waits to be learned.
pub struct Waiting {
    /// Decisions whose window has closed.
    pub due: i64,
    /// Decisions whose window is open.
    pub open: i64,
    /// Whether anything else does: outcomes, or decisions whose customer is another than he was.
    pub changes: bool,
}

impl Waiting {
    pub fn count(session: &Session<'_>) -> Result<Self> {
        let waiting = query::write(
            "SELECT count(*) FILTER (WHERE w.closes_at <= $2), count(*) FILTER (WHERE w.closes_at > $2),
                    EXISTS (SELECT FROM decisioning._inbox o
                            WHERE o.campaign = $1 AND o.closes_at = '-infinity' AND o.outcome_id IS NOT NULL)
                    OR EXISTS (SELECT FROM decisioning._reassessment r WHERE r.campaign = $1)
             FROM decisioning._inbox w WHERE w.campaign = $1 AND w.decision_id IS NOT NULL",
            &[session.name().into(), settings::timestamp(session.now)?.into()],
            |row| Ok(Waiting { due: row.value(1)?, open: row.value(2)?, changes: row.value(3)? }),
        )?;
        waiting.into_iter().next().ok_or_else(|| Error::corrupted("the inbox cannot be counted"))
    }
}

/// Takes all decisions whose window has closed out of the inbox; returns how many.
pub fn take_all_due(session: &Session<'_>) -> Result<i64> {
    let taken = query::execute(
        "DELETE FROM decisioning._inbox w WHERE w.campaign = $1 AND w.closes_at <= $2 AND w.decision_id IS NOT NULL",
        &[session.name().into(), settings::timestamp(session.now)?.into()],
    )?;
    Ok(taken as i64)
}

/// Decisions whose window has closed, on their way from the inbox: those that closed first before others.
pub struct Due<'a> {
    session: &'a Session<'a>,
    sql: String,
    /// Taken and not read, the last of them first.
    taken: Vec<Uuid>,
}

impl<'a> Due<'a> {
    pub fn new(session: &'a Session<'a>) -> Self {
        let sql = format!(
            "WITH due AS MATERIALIZED (SELECT n.decision_id FROM unnest($2::uuid[]) AS n(decision_id)){}",
            session.reader.statement_of("due")
        );
        Due { session, sql, taken: Vec::new() }
    }

    /// The next [`CHUNK`], fewer at the end; the oldest first.
    pub fn next(&mut self) -> Result<Vec<Logged>> {
        if self.taken.is_empty() {
            self.take()?;
        }
        let next = self.taken.split_off(self.taken.len().saturating_sub(CHUNK as usize));
        if next.is_empty() {
            return Ok(Vec::new());
        }
        let arguments = [self.session.name().into(), next.into()];
        let mut due = query::write_large(&self.sql, &arguments, |row| self.session.reader.logged(row))?;
        due.sort_by_key(|logged| logged.decided_at);
        Ok(due)
    }

    /// By where they lie: nobody moves rows of the inbox, and one session at a time learns a campaign.
    fn take(&mut self) -> Result<()> {
        let mut taken = query::write(
            "DELETE FROM decisioning._inbox w WHERE w.ctid = ANY (ARRAY(
                 SELECT i.ctid FROM decisioning._inbox i
                 WHERE i.campaign = $1 AND i.closes_at <= $2 AND i.decision_id IS NOT NULL
                 ORDER BY i.closes_at, i.decision_id LIMIT $3))
             RETURNING w.closes_at, w.decision_id",
            &[self.session.name().into(), settings::timestamp(self.session.now)?.into(), TAKEN.into()],
            |row| Ok((settings::micros(row.value(1)?), row.value::<Uuid>(2)?)),
        )?;
        taken.sort_unstable_by(|a, b| b.cmp(a));
        self.taken = taken.into_iter().map(|(_, id)| id).collect();
        Ok(())
    }
}
