//! The sums anew, from the log.

use decisioning_core::decide::Unit;
use decisioning_core::learn::{fit, Delays, Rows, Statistics};
use pgrx::datum::TimestampWithTimeZone;

use super::session::{misfit, Session};
use super::CHUNK;
use crate::api::campaign::Target;
use crate::api::log::HALF_LIVES;
use crate::api::model::{Learned, LearnedPart};
use crate::pg::error::Result;
use crate::pg::threads::without_signals;
use crate::pg::{interrupt, query, settings};

/// Rows of the log that a refit reads at a time: few, so that their memory is used again at once.
const FETCH: usize = 8192;

/// Refits the sums to convergence from the log of absorbed decisions, and the prior scales with them.
pub fn refit(session: &Session<'_>, learned: &mut Learned) -> Result<()> {
    let nothing = Statistics::new(session.layout.len());
    for part in &mut learned.parts {
        if part.target == Target::Worth {
            part.unit = unit(session)?;
        }
        let mut log = Log::new(session, part);
        let mut fit_log = |part: &mut LearnedPart| {
            let (prior, start) = (part.prior(session.layout), part.mean.clone());
            fit(session.layout, &prior, &session.arms, &nothing, &start, |visit| log.visit(part, visit))
                .map_err(|error| session.unsolvable(error))
        };
        let first = fit_log(part)?;
        part.scales = session.estimate_scales(part, &first.sums)?.0;
        part.mean = first.mode;
        let second = fit_log(part)?;
        part.statistics = second.sums;
        part.mean = second.mode;
        if part.target == Target::Response {
            learned.responses = log.rewarded;
        }
    }
    // Rewards were read by identities as they are.
    query::execute("DELETE FROM decisioning._reassessment r WHERE r.campaign = $1", &[session.name().into()])?;
    learned.linearised = learned.decisions;
    learned.corrections = 0.0;
    Ok(())
}

/// Start of what a refit reads.
fn horizon(session: &Session<'_>) -> Result<TimestampWithTimeZone> {
    let age = session.campaign.half_life().map_or(i64::MAX, |half_life| (half_life * HALF_LIVES) as i64);
    settings::timestamp(session.now.saturating_sub(age).max(0))
}

/// The statement that reads all absorbed decisions of campaign $1 since $2.
fn absorbed(session: &Session<'_>) -> String {
    session.reader.statement(
        "decisioning.decisions d",
        "d.campaign = $1 AND d.decided_at > $2
         AND NOT EXISTS (SELECT FROM decisioning._inbox p WHERE p.decision_id = d.decision_id)",
    )
}

/// How worth is counted: winsorised at its 1st and 99th percentile, and standardised; `None` before any response.
fn unit(session: &Session<'_>) -> Result<Option<Unit>> {
    let sql = format!(
        "WITH worths AS MATERIALIZED (SELECT r.worth FROM ({}) AS r WHERE r.given),
         bounds AS (
             SELECT percentile_cont(0.01) WITHIN GROUP (ORDER BY w.worth) AS low,
                    percentile_cont(0.99) WITHIN GROUP (ORDER BY w.worth) AS high
             FROM worths w)
         SELECT avg(greatest(least(w.worth, b.high), b.low)), stddev_pop(greatest(least(w.worth, b.high), b.low)),
                min(b.low), min(b.high)
         FROM worths w CROSS JOIN bounds b HAVING count(*) > 0",
        absorbed(session)
    );
    let found = query::write_large(&sql, &[session.name().into(), horizon(session)?.into()], |row| {
        let spread = row.value::<f64>(2)?;
        // What is always the same has no scale of its own.
        let scale = if spread > 0.0 { spread } else { 1.0 };
        Ok(Unit { centre: row.value(1)?, scale, low: row.value(3)?, high: row.value(4)? })
    })?;
    Ok(found.into_iter().next())
}

/// The log of absorbed decisions, as rows of one part of the model, to be read several times. Rows that fit into
/// maintenance_work_mem are read once, others in every pass, with flat memory.
struct Log<'a> {
    session: &'a Session<'a>,
    sql: String,
    /// What has been read; `None` once it is more than fits into `budget` rows.
    kept: Option<Vec<Rows>>,
    complete: bool,
    budget: usize,
    /// Σ weight · reward of the last reading.
    rewarded: f64,
}

impl<'a> Log<'a> {
    fn new(session: &'a Session<'a>, part: &LearnedPart) -> Self {
        let sql = match part.target {
            Target::Worth => format!("SELECT * FROM ({}) AS r WHERE r.given", absorbed(session)),
            Target::Response | Target::Harm(_) => absorbed(session),
        };
        let budget = settings::maintenance_memory() / (4 * session.layout.columns.len() + 32);
        Log { session, sql, kept: Some(Vec::new()), complete: false, budget, rewarded: 0.0 }
    }

    /// Hands over all rows; whenever it reads them, `part` gets their delays.
    fn visit(&mut self, part: &mut LearnedPart, visit: &mut dyn FnMut(&Rows)) -> Result<()> {
        if let (Some(kept), true) = (&self.kept, self.complete) {
            for rows in kept {
                interrupt::check();
                without_signals(|| visit(rows));
            }
            return Ok(());
        }
        let session = self.session;
        part.delays = Delays::default();
        self.rewarded = 0.0;
        query::stream(
            &self.sql,
            &[session.name().into(), horizon(session)?.into()],
            FETCH,
            |row| session.reader.logged(row),
            |logged| {
                session.add_delays(&logged, part);
                let mut rows = session.rows(part, &logged, None)?;
                self.rewarded += rows.rewarded();
                without_signals(|| visit(&rows));
                let size = self.kept.iter().flatten().map(Rows::len).sum::<usize>();
                match &mut self.kept {
                    // Few large batches: sums over a batch are spread over the coefficients once.
                    Some(kept) if size + rows.len() <= self.budget => match kept.last_mut() {
                        Some(last) if last.len() < CHUNK as usize => {
                            last.append(&mut rows).map_err(|_| misfit(session.campaign))?
                        }
                        _ => kept.push(rows),
                    },
                    _ => self.kept = None,
                }
                Ok(())
            },
        )?;
        self.complete = true;
        Ok(())
    }
}
