//! The sums anew, from the log.

use std::ops::Range;

use decisioning_core::decide::Unit;
use decisioning_core::learn::{fit, linearise, CrossSearch, Delays, Drift, Epoch, Epochs, Prior, Rows, Statistics};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::Uuid;

use super::session::Session;
use super::CHUNK;
use crate::api::campaign::Target;
use crate::api::log::{Logged, HALF_LIVES};
use crate::api::model::{coefficient_limit, Learned, LearnedPart};
use crate::pg::error::Result;
use crate::pg::threads::without_signals;
use crate::pg::{interrupt, query, settings};

/// Decisions from which a refit starts: so many are fitted to convergence before all are looked at.
const SAMPLE: i64 = 25_000;

/// Decisions of all times.
const ALWAYS: Range<i64> = i64::MIN..i64::MAX;

/// Refits the sums of the response from the log of absorbed decisions. Returns crosses of features that the log speaks for and the model
/// does not have.
pub fn refit_response(session: &Session<'_>, learned: &mut Learned) -> Result<Vec<(u32, u32)>> {
    let Session { reader, layout, arms, campaign, .. } = session;
    let decisions = learned.decisions;
    let Some(part) = learned.parts.first_mut() else { return Ok(Vec::new()) };
    let (log, since) = refit(session, part, decisions)?;
    learned.responses = log.rewarded;
    learned.absorbed_until = learned.absorbed_until.max(log.latest);
    let room = CrossSearch::room(reader.encoder, layout, coefficient_limit(campaign));
    if room == 0 {
        return Ok(Vec::new());
    }
    let mut search = CrossSearch::new(reader.encoder, layout, arms, &part.mean);
    log.visit(part, &since, &mut |rows| search.add(rows))?;
    Ok(search.found(room))
}

/// Refits the sums of all other parts, after those of the response.
pub fn refit_others(session: &Session<'_>, learned: &mut Learned) -> Result<()> {
    for part in learned.parts.iter_mut().skip(1) {
        refit(session, part, learned.decisions)?;
    }
    // Rewards were read by identities as they are.
    query::execute("DELETE FROM decisioning._reassessment r WHERE r.campaign = $1", &[session.name().into()])?;
    learned.linearised = learned.decisions;
    learned.corrections = 0.0;
    Ok(())
}

/// Refits the sums of a part to convergence from the log of so many absorbed decisions, and the prior scales with them. Returns the log, and the
/// time that the model is of: since the last drift.
///
/// The mode of a sample is near that of all: one step from there says enough of the prior scales (the one-step estimator; van der
/// Vaart, "Asymptotic Statistics", 1998, §5.7), and the mode under these is found from it in few passes over the log.
fn refit<'a>(session: &'a Session<'a>, part: &mut LearnedPart, decisions: i64) -> Result<(Log<'a>, Range<i64>)> {
    let nothing = Statistics::new(session.layout.len());
    if part.target == Target::Worth {
        part.unit = unit(session)?;
    }
    part.sums = part.sums.emptied(session.now, session.window());
    let log = Log::new(session, part, decisions)?;
    let fitted = |part: &LearnedPart, prior: &Prior, known: &Statistics, start: &[f64], decided: &Range<i64>| {
        fit(session.layout, prior, &session.arms, known, start, |visit| log.visit(part, decided, visit))
            .map(|fitted| fitted.mode)
            .map_err(|error| session.unsolvable(error))
    };
    let sampled = session.fit(part, &nothing, &part.mean, &[&log.sample])?;
    let around = linearise(session.layout, &session.arms, &sampled, |visit| log.visit(part, &ALWAYS, visit))
        .map_err(|error| session.unsolvable(error))?;
    let around = [around];
    part.scales = session.estimate_scales(part, &around)?;
    let prior = part.prior(session.layout);
    part.mean = fitted(part, &prior, &nothing, &session.posterior(&prior, &around)?.mean, &ALWAYS)?;
    log.sum_up(part, &ALWAYS)?;
    let closed: Vec<&Epoch> = part.sums.iter().filter(|epoch| !epoch.sums.is_zero()).collect();
    let stages: Vec<&Statistics> = closed.iter().map(|epoch| &epoch.sums).collect();
    let drift = Drift::estimate(session.layout, &prior, &stages, interrupt::check);
    part.drifted_at = drift.as_ref().map(|drift| closed[drift.before].since);
    part.drift = drift.map(|drift| drift.shares).unwrap_or_default();
    let since = part.drifted_at.unwrap_or(ALWAYS.start)..ALWAYS.end;
    if let Some(drifted_at) = part.drifted_at {
        // Each side of a drift is linearised in its own world, not between the two.
        let before = ALWAYS.start..drifted_at;
        part.scales = session.estimate_scales(part, &session.worlds(part, std::iter::empty()))?;
        let prior = part.prior(session.layout);
        part.sums.empty();
        let pooled = std::mem::take(&mut part.mean);
        part.mean = fitted(part, &prior, &nothing, &pooled, &before)?;
        log.sum_up(part, &before)?;
        part.mean = fitted(part, &prior, &session.known(part, drifted_at), &pooled, &since)?;
        log.sum_up(part, &since)?;
    }
    Ok((log, since))
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

/// Rows of one epoch.
struct Batch {
    /// When that begins, in microseconds.
    since: i64,
    rows: Rows,
}

/// The log of absorbed decisions, as rows of one part of the model, to be looked at several times. Rows that fit into
/// maintenance_work_mem are read once, others in every pass, with flat memory.
struct Log<'a> {
    session: &'a Session<'a>,
    sql: String,
    /// When epochs begin, in microseconds.
    beginnings: Vec<i64>,
    /// What has been read; `None` if it is more than fits.
    kept: Option<Vec<Batch>>,
    /// One in so many decisions, which counts for the others.
    sample: Rows,
    /// Σ weight · reward.
    rewarded: f64,
    /// When the latest decision was decided, in microseconds; 0 if there is none.
    latest: i64,
}

impl<'a> Log<'a> {
    /// Reads the log of about `decisions`, by the epochs of `part`, which gets the delays of its rewards.
    fn new(session: &'a Session<'a>, part: &mut LearnedPart, decisions: i64) -> Result<Self> {
        let sql = match part.target {
            Target::Worth => format!("SELECT * FROM ({}) AS r WHERE r.given", absorbed(session)),
            Target::Response | Target::Harm(_) => absorbed(session),
        };
        let budget = settings::maintenance_memory() / (4 * session.layout.columns.len() + 32);
        let every = u64::try_from(decisions / SAMPLE).unwrap_or_default().max(1);
        let mut log = Log {
            session,
            sql,
            beginnings: part.sums.iter().map(|epoch| epoch.since).collect(),
            kept: Some(Vec::new()),
            sample: session.no_rows(part),
            rewarded: 0.0,
            latest: 0,
        };
        let Log { kept, sample, rewarded, latest, sql, beginnings, .. } = &mut log;
        let mut delays = Delays::default();
        let mut size = 0;
        let see = |logged: &Logged, random: u64| {
            session.add_delay(&mut delays, &part.target, logged);
            *latest = logged.decided_at.max(*latest);
            // Workers hand rows over in no order: the sample is the same for all of them.
            if random.is_multiple_of(every) {
                session.add(sample, part, logged, None)
            } else {
                Ok(())
            }
        };
        read(session, part, beginnings, sql, see, |batch| {
            *rewarded += batch.rows.rewarded();
            size += batch.rows.len();
            match kept {
                Some(batches) if size <= budget => batches.push(batch),
                _ => *kept = None,
            }
            Ok(())
        })?;
        log.sample.scale(every as f64);
        part.delays = delays;
        Ok(log)
    }

    /// Hands over all rows of the epochs that begin in a time.
    fn visit(&self, part: &LearnedPart, decided: &Range<i64>, visit: &mut dyn FnMut(&Rows)) -> Result<()> {
        self.each(part, decided, |batch| {
            interrupt::check();
            without_signals(|| visit(&batch.rows));
            Ok(())
        })
    }

    /// Adds these rows to the sums of `part`, linearised where it is.
    fn sum_up(&self, part: &mut LearnedPart, decided: &Range<i64>) -> Result<()> {
        let mut sums = std::mem::replace(&mut part.sums, Epochs::new(0));
        self.each(part, decided, |batch| {
            sums.at(batch.since).merge(&self.session.linearise(&part.mean, &[&batch.rows])?);
            Ok(())
        })?;
        part.sums = sums;
        Ok(())
    }

    fn each(&self, part: &LearnedPart, decided: &Range<i64>, mut f: impl FnMut(&Batch) -> Result<()>) -> Result<()> {
        let mut f = |batch: &Batch| if decided.contains(&batch.since) { f(batch) } else { Ok(()) };
        match &self.kept {
            Some(kept) => kept.iter().try_for_each(f),
            None => read(self.session, part, &self.beginnings, &self.sql, |_, _| Ok(()), |batch| f(&batch)),
        }
    }
}

/// Reads what `sql` finds of the log, and hands it over by decision, with the random bits of its id, and as rows in batches, each of
/// one epoch. They are large, because sums over one are spread over the coefficients once.
fn read(
    session: &Session<'_>,
    part: &LearnedPart,
    beginnings: &[i64],
    sql: &str,
    mut see: impl FnMut(&Logged, u64) -> Result<()>,
    mut consume: impl FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let empty = |since| Batch { since, rows: session.no_rows(part) };
    let mut batches: Vec<Batch> = beginnings.iter().map(|since| empty(*since)).collect();
    let mut waiting = 0;
    query::each_large(sql, &[session.name().into(), horizon(session)?.into()], |row| {
        let logged = session.reader.logged(row)?;
        let random = row.value::<Uuid>(7)?.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        see(&logged, random)?;
        let epoch = beginnings.partition_point(|since| *since <= logged.decided_at).saturating_sub(1);
        let rows = &mut batches[epoch].rows;
        let before = rows.len();
        session.add(rows, part, &logged, None)?;
        waiting += rows.len() - before;
        if waiting >= CHUNK as usize {
            if let Some(largest) = batches.iter_mut().max_by_key(|batch| batch.rows.len()) {
                let largest = std::mem::replace(largest, empty(largest.since));
                waiting -= largest.rows.len();
                consume(largest)?;
            }
        }
        Ok(())
    })?;
    batches.into_iter().filter(|batch| !batch.rows.is_empty()).try_for_each(consume)
}
