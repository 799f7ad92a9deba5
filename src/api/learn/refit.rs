//! The sums anew, from the log.

use std::collections::BTreeMap;

use decisioning_core::decide::Unit;
use decisioning_core::learn::{fit, linearise, Delays, Epochs, Rows, Statistics};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::Uuid;

use super::session::Session;
use super::CHUNK;
use crate::api::campaign::Target;
use crate::api::log::{Logged, HALF_LIVES};
use crate::api::model::{Learned, LearnedPart};
use crate::pg::error::Result;
use crate::pg::threads::without_signals;
use crate::pg::{interrupt, query, settings};

/// Decisions from which a refit starts: so many are fitted to convergence before all are looked at.
const SAMPLE: i64 = 25_000;

/// Refits the sums to convergence from the log of absorbed decisions, and the prior scales with them.
///
/// The mode of a sample is near that of all: one step from there says enough of the prior scales (the one-step estimator; van der
/// Vaart, "Asymptotic Statistics", 1998, §5.7), and the mode under these is found from it in few passes over the log.
pub fn refit(session: &Session<'_>, learned: &mut Learned) -> Result<()> {
    let nothing = Statistics::new(session.layout.len());
    for part in &mut learned.parts {
        if part.target == Target::Worth {
            part.unit = unit(session)?;
        }
        let mut sums = part.sums.emptied();
        sums.begin(i64::MIN, session.now, session.window());
        let log = Log::new(session, part, &sums, learned.decisions)?;
        let sampled = session.fit(part, &nothing, &part.mean, &[&log.sample])?;
        let around = linearise(session.layout, &session.arms, &sampled, |visit| log.visit(part, &sums, visit))
            .map_err(|error| session.unsolvable(error))?;
        let (scales, posterior) = session.estimate_scales(part, &around)?;
        part.scales = scales;
        let prior = part.prior(session.layout);
        part.mean = fit(session.layout, &prior, &session.arms, &nothing, &posterior.mean, |visit| {
            log.visit(part, &sums, visit)
        })
        .map_err(|error| session.unsolvable(error))?
        .mode;
        part.sums = log.sums(part, sums)?;
        if part.target == Target::Response {
            learned.responses = log.rewarded;
        }
        learned.absorbed_until = learned.absorbed_until.max(log.latest);
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

/// Rows of one epoch.
struct Batch {
    /// When one of them was decided, in microseconds.
    decided_at: i64,
    rows: Rows,
}

/// The log of absorbed decisions, as rows of one part of the model, to be looked at several times. Rows that fit into
/// maintenance_work_mem are read once, others in every pass, with flat memory.
struct Log<'a> {
    session: &'a Session<'a>,
    sql: String,
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
    /// Reads the log of about `decisions`, by these `epochs`; `part` gets the delays of its rewards.
    fn new(session: &'a Session<'a>, part: &mut LearnedPart, epochs: &Epochs, decisions: i64) -> Result<Self> {
        let sql = match part.target {
            Target::Worth => format!("SELECT * FROM ({}) AS r WHERE r.given", absorbed(session)),
            Target::Response | Target::Harm(_) => absorbed(session),
        };
        let budget = settings::maintenance_memory() / (4 * session.layout.columns.len() + 32);
        let every = u64::try_from(decisions / SAMPLE).unwrap_or_default().max(1);
        let mut log =
            Log { session, sql, kept: Some(Vec::new()), sample: session.no_rows(part), rewarded: 0.0, latest: 0 };
        let Log { kept, sample, rewarded, latest, sql, .. } = &mut log;
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
        read(session, part, epochs, sql, see, |batch| {
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

    /// Hands over all rows.
    fn visit(&self, part: &LearnedPart, epochs: &Epochs, visit: &mut dyn FnMut(&Rows)) -> Result<()> {
        self.each(part, epochs, |batch| {
            interrupt::check();
            without_signals(|| visit(&batch.rows));
            Ok(())
        })
    }

    /// The sums over all rows, linearised where `part` is, in these `epochs`.
    fn sums(&self, part: &LearnedPart, epochs: Epochs) -> Result<Epochs> {
        let mut sums = epochs.clone();
        self.each(part, &epochs, |batch| {
            sums.at(batch.decided_at).merge(&self.session.linearise(&part.mean, &[&batch.rows])?);
            Ok(())
        })?;
        Ok(sums)
    }

    fn each(&self, part: &LearnedPart, epochs: &Epochs, mut f: impl FnMut(&Batch) -> Result<()>) -> Result<()> {
        match &self.kept {
            Some(kept) => kept.iter().try_for_each(f),
            None => read(self.session, part, epochs, &self.sql, |_, _| Ok(()), |batch| f(&batch)),
        }
    }
}

/// Reads what `sql` finds of the log, and hands it over by decision, with the random bits of its id, and as rows in batches, each of
/// one epoch. They are large, because sums over one are spread over the coefficients once.
fn read(
    session: &Session<'_>,
    part: &LearnedPart,
    epochs: &Epochs,
    sql: &str,
    mut see: impl FnMut(&Logged, u64) -> Result<()>,
    mut consume: impl FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let mut batches: BTreeMap<usize, Batch> = BTreeMap::new();
    query::each_large(sql, &[session.name().into(), horizon(session)?.into()], |row| {
        let logged = session.reader.logged(row)?;
        let random = row.value::<Uuid>(7)?.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        see(&logged, random)?;
        let empty = || Batch { decided_at: logged.decided_at, rows: session.no_rows(part) };
        let batch = batches.entry(epochs.position(logged.decided_at)).or_insert_with(empty);
        session.add(&mut batch.rows, part, &logged, None)?;
        if batch.rows.len() == CHUNK as usize {
            consume(std::mem::replace(batch, empty()))?;
        }
        Ok(())
    })?;
    batches.into_values().try_for_each(consume)
}
