//! What all steps of one call of learn share.

use decisioning_core::features::Encoder;
use decisioning_core::learn::{
    fit, linearise, Arm, Delays, Drift, FitError, Layout, Posterior, Prior, Reporting, Response, Rows, Scales, Seen,
    Statistics,
};

use super::CHUNK;
use crate::api::campaign::{Campaign, Target};
use crate::api::log::{Happened, Logged, Reader};
use crate::api::model::{Current, LearnedPart};
use crate::pg::error::{Error, Result};
use crate::pg::threads::{self, without_signals};
use crate::pg::{interrupt, query, settings};

/// Open decisions that count in a model, those that close first before others: bounds the memory and the time of a call.
const OPEN_LIMIT: i64 = 1_000_000;

/// Most steps of the prior scales towards their fixed point.
const SCALE_STEPS: usize = 20;

/// Parts of the window between which the world may have drifted.
const STAGES: usize = 3;

/// Channel under which sends of a campaign without channels are counted; no-send is the empty one.
const ANY_CHANNEL: &str = "send";

/// Rows between two looks at the user's wish to cancel.
const TICK: usize = 4096;

/// Open decisions of about the same age.
pub struct Stage {
    /// When they begin, in microseconds.
    pub since: i64,
    pub rows: Vec<Rows>,
}

/// What all steps of one call share.
pub struct Session<'a> {
    pub campaign: &'a Campaign,
    pub reader: Reader<'a>,
    pub layout: &'a Layout,
    pub arms: Vec<Arm>,
    /// In microseconds.
    pub now: i64,
    /// When earlier versions were learned, in order.
    pub looks: Vec<i64>,
}

impl<'a> Session<'a> {
    pub fn new(campaign: &'a Campaign, encoder: &'a Encoder, encoder_version: i32, layout: &'a Layout) -> Result<Self> {
        let arms = campaign.actions.iter().map(|action| layout.arm(&action.dimensions)).collect();
        let reader = Reader::new(campaign, encoder, encoder_version)?;
        let looks = query::write(
            "SELECT m.created_at FROM decisioning._model m WHERE m.campaign = $1 ORDER BY m.created_at",
            &[campaign.campaign.as_str().into()],
            |row| Ok(settings::micros(row.value(1)?)),
        )?;
        let looks = looks.into_iter().flatten().collect();
        Ok(Session { campaign, reader, layout, arms, now: settings::now_micros()?, looks })
    }

    pub fn name(&self) -> &str {
        &self.campaign.campaign
    }

    /// The attribution window, in microseconds.
    pub fn window(&self) -> f64 {
        self.campaign.window_seconds() * 1e6
    }

    /// Share of the attribution window from `start` to `end`, both in microseconds.
    pub fn share(&self, start: i64, end: i64) -> f64 {
        (end - start) as f64 / self.window()
    }

    /// Name under which delays of an arm are counted.
    pub fn channel(&self, arm: Option<u32>) -> &str {
        arm.map_or("", |arm| {
            self.campaign.actions[arm as usize].dimensions.get("channel").map_or(ANY_CHANNEL, String::as_str)
        })
    }

    /// No rows yet, to fit a part of the model to.
    pub fn no_rows(&self, part: &LearnedPart) -> Rows {
        Rows::new(part.target.link(), self.layout.columns.len()).with_threads(threads::for_maintenance())
    }

    /// Adds what a decision says of a part of the model; one of long ago is discounted. `reporting` says what silence means if
    /// it is open.
    pub fn add(
        &self,
        rows: &mut Rows,
        part: &LearnedPart,
        logged: &Logged,
        reporting: Option<&Reporting>,
    ) -> Result<()> {
        let Logged { observed, decided_at, reward, .. } = logged;
        let Some(reward) = reward.of(&part.target, part.unit.as_ref()) else { return Ok(()) };
        let weight = observed.weight * self.campaign.discount(self.now - decided_at);
        let reported = match reporting.filter(|_| part.target.link().is_logistic()) {
            Some(reporting) => reporting.at(self.channel(observed.arm), self.share(*decided_at, self.now)),
            None => observed.reported,
        };
        let response = Response { weight, reward, reported };
        rows.add(&observed.encoded, observed.arm, response).map_err(|_| misfit(self.campaign))
    }

    /// What several say, as [`add`](Self::add).
    pub fn rows(&self, part: &LearnedPart, logged: &[Logged], reporting: Option<&Reporting>) -> Result<Rows> {
        let mut rows = self.no_rows(part);
        for (n, logged) in logged.iter().enumerate() {
            if n % TICK == 0 {
                interrupt::check();
            }
            self.add(&mut rows, part, logged, reporting)?;
        }
        Ok(rows)
    }

    /// When an event could be known. What is read once a day is all recorded at that time, and says when it was looked at and not
    /// how late events are: it could be known since it happened, or since the last look that did not see it. Nobody looked for what came of
    /// decisions that were made elsewhere, before there was a model, and are imported.
    fn visible_at(&self, decided_at: i64, happened: Happened) -> i64 {
        if self.looks.first().is_none_or(|first| decided_at < *first) {
            return happened.at.min(happened.recorded_at);
        }
        let unseen = self.looks.partition_point(|look| *look < happened.recorded_at);
        let since = unseen.checked_sub(1).map_or(i64::MIN, |look| self.looks[look].saturating_add(1));
        happened.at.max(since).min(happened.recorded_at)
    }

    /// Counts the delay of a closed decision.
    pub fn add_delay(&self, delays: &mut Delays, target: &Target, logged: &Logged) {
        if let Some(happened) = logged.happened(target) {
            let weight = self.campaign.discount(self.now - logged.decided_at);
            let delay = self.share(logged.decided_at, self.visible_at(logged.decided_at, happened));
            // What was known only after the window has nothing to say of silence within it: the decision was closed without it.
            if delay <= 1.0 {
                delays.add(self.channel(logged.observed.arm), delay, weight);
            }
        }
    }

    /// The open decisions, oldest first.
    pub fn open(&self) -> Result<Vec<Logged>> {
        let sql = format!(
            "WITH open AS MATERIALIZED (
                 SELECT w.decision_id FROM decisioning._inbox w
                 WHERE w.campaign = $1 AND w.closes_at > $2 AND w.decision_id IS NOT NULL
                 ORDER BY w.closes_at, w.decision_id LIMIT $3)
             {}",
            self.reader.statement_of("open")
        );
        let mut open = query::write_large(
            &sql,
            &[self.name().into(), settings::timestamp(self.now)?.into(), OPEN_LIMIT.into()],
            |row| self.reader.logged(row),
        )?;
        open.sort_by_key(|logged| logged.decided_at);
        Ok(open)
    }

    /// What silence means for open decisions, by the delays known by now.
    fn reporting(&self, part: &LearnedPart, open: &[Logged]) -> Reporting {
        let seen: Vec<Seen<'_>> = open
            .iter()
            .filter_map(|logged| {
                logged.happened(&part.target).map(|happened| Seen {
                    channel: self.channel(logged.observed.arm),
                    delay: self.share(logged.decided_at, self.visible_at(logged.decided_at, happened)),
                    age: self.share(logged.decided_at, self.now),
                })
            })
            .collect();
        part.delays.reporting(&seen)
    }

    /// Open decisions as batches of rows.
    pub fn open_rows(&self, part: &LearnedPart, open: &[Logged]) -> Result<Vec<Rows>> {
        let reporting = self.reporting(part, open);
        open.chunks(CHUNK as usize).map(|open| self.rows(part, open, Some(&reporting))).collect()
    }

    /// The same by age: those of each part of the window by themselves, the oldest first, as `open` is.
    pub fn open_stages(&self, part: &LearnedPart, open: &[Logged]) -> Result<Vec<Stage>> {
        let reporting = self.reporting(part, open);
        let mut rest = open;
        (0..STAGES)
            .rev()
            .map(|younger| {
                let age = |parts: usize| self.now - (self.window() * parts as f64 / STAGES as f64) as i64;
                let end = rest.partition_point(|logged| logged.decided_at < age(younger));
                let (stage, after) = rest.split_at(if younger == 0 { rest.len() } else { end });
                rest = after;
                let rows = stage.chunks(CHUNK as usize).map(|open| self.rows(part, open, Some(&reporting)));
                Ok(Stage { since: age(younger + 1), rows: rows.collect::<Result<_>>()? })
            })
            .collect()
    }

    /// The mode of the prior, the sums so far and `batches`.
    pub fn fit(&self, part: &LearnedPart, sums: &Statistics, start: &[f64], batches: &[&Rows]) -> Result<Vec<f64>> {
        fit(self.layout, &part.prior(self.layout), &self.arms, sums, start, |visit| {
            batches.iter().for_each(|rows| {
                interrupt::check();
                without_signals(|| visit(rows));
            });
            Ok(())
        })
        .map(|fitted| fitted.mode)
        .map_err(|error| self.unsolvable(error))
    }

    /// What the sums of a part say of decisions since a time: where the last model found a drift before it, that counts.
    pub fn known(&self, part: &LearnedPart, since: i64) -> Statistics {
        let Some(drifted_at) = part.drifted_at.filter(|at| *at <= since) else { return part.sums.total() };
        let (past, after) = part.sums.parted(drifted_at);
        match Drift::after(self.layout, &part.prior(self.layout), &past, &part.drift) {
            Some(mut known) => {
                known.merge(&after);
                known
            }
            None => part.sums.total(),
        }
    }

    /// What is known of a part if the world has drifted, before one of its epochs or of these stages of open decisions.
    pub fn after_drift(&self, part: &LearnedPart, drift: Drift, start: &[f64], open: &[Stage]) -> Result<Current> {
        let Drift { shares, before, past: mut sums } = drift;
        part.sums.iter().skip(before).for_each(|epoch| sums.merge(&epoch.sums));
        let open_before = before.saturating_sub(part.sums.iter().len());
        let since: Vec<&Rows> = open.iter().skip(open_before).flat_map(|stage| &stage.rows).collect();
        let mode = self.fit(part, &sums, start, &since)?;
        sums.merge(&self.linearise(&mode, &since)?);
        let posterior = self.posterior(&part.prior(self.layout), &[sums])?;
        let drifted_at =
            part.sums.iter().map(|epoch| epoch.since).chain(open.iter().map(|stage| stage.since)).nth(before);
        Ok(Current { posterior, drift: shares, drifted_at })
    }

    /// The sums of a part with those of open decisions, by when they were made: of the world as it was before the drift that the last
    /// model found, and since; of one world if it found none.
    pub fn worlds<'s>(&self, part: &LearnedPart, open: impl Iterator<Item = (i64, &'s Statistics)>) -> Vec<Statistics> {
        let drifted_at = part.drifted_at.unwrap_or(i64::MIN);
        let (mut before, mut since) = part.sums.parted(drifted_at);
        open.for_each(|(at, sums)| if at < drifted_at { &mut before } else { &mut since }.merge(sums));
        part.drifted_at.map(|_| before).into_iter().chain([since]).collect()
    }

    /// The prior scales that make these sums most probable, those of each world for themselves.
    pub fn estimate_scales(&self, part: &LearnedPart, worlds: &[Statistics]) -> Result<Scales> {
        let worlds: Vec<&Statistics> = worlds.iter().collect();
        let found = part.scales.estimate(part.target.link(), self.layout, &worlds, SCALE_STEPS, interrupt::check);
        found.ok_or_else(|| self.unsolvable(FitError::Singular))
    }

    /// What all these sums say.
    pub fn posterior(&self, prior: &Prior, sums: &[Statistics]) -> Result<Posterior> {
        let mut all = Statistics::new(self.layout.len());
        sums.iter().for_each(|sums| all.merge(sums));
        Posterior::of(prior, &all).ok_or_else(|| self.unsolvable(FitError::Singular))
    }

    pub fn linearise(&self, at: &[f64], batches: &[&Rows]) -> Result<Statistics> {
        linearise(self.layout, &self.arms, at, |visit| {
            batches.iter().for_each(|rows| {
                interrupt::check();
                without_signals(|| visit(rows));
            });
            Ok(())
        })
        .map_err(|error| self.unsolvable(error))
    }

    pub fn unsolvable(&self, error: FitError<Error>) -> Error {
        match error {
            FitError::Rows(error) => error,
            FitError::Mismatch => misfit(self.campaign),
            FitError::Singular | FitError::NotConverged => {
                let why = if matches!(error, FitError::NotConverged) {
                    "It did not converge"
                } else {
                    "Its equations have no solution"
                };
                Error::corrupted(format!("the model of campaign \"{}\" cannot be fitted", self.name()))
                    .detail(format!("{why}. The current version stays in use."))
                    .hint("Run decisioning.rebuild_model to refit it from the log.")
            }
            _ => Error::corrupted(format!("the model of campaign \"{}\" cannot be fitted", self.name()))
                .detail("The current version stays in use."),
        }
    }
}

pub fn misfit(campaign: &Campaign) -> Error {
    Error::corrupted(format!("a decision of campaign \"{}\" does not fit its model", campaign.campaign))
        .detail("The current version stays in use.")
}
