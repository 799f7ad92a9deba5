//! Sums as they are kept: a row for each epoch of each part of the model.

use decisioning_core::learn::{Epoch, Epochs, Statistics};
use pgrx::datum::TimestampWithTimeZone;

use crate::api::campaign::{self, Campaign, Target};
use crate::api::model::{Learned, LearnedPart};
use crate::pg::error::{Error, Result};
use crate::pg::{query, settings};

pub fn damaged(campaign: &Campaign) -> Error {
    Error::corrupted(format!("learning state of campaign \"{}\" is damaged", campaign.campaign))
        .hint("Run decisioning.rebuild_model to refit it from the log.")
}

/// The sums of a part of the model, as they were at `learned_at`. Runs as the owner.
pub fn read(campaign: &Campaign, part: &LearnedPart, learned_at: i64) -> Result<Epochs> {
    let (name, target) = (campaign.campaign.as_str(), part.target.name());
    let written = query::write(
        "SELECT p.epochs FROM decisioning._learner_part p WHERE p.campaign = $1 AND p.part = $2",
        &[name.into(), target.as_str().into()],
        |row| row.value::<i32>(1),
    )?;
    let epochs = query::write(
        "SELECT e.since, e.discounted_to, e.half_life, e.statistics FROM decisioning._learner_epoch e
         WHERE e.campaign = $1 AND e.part = $2 ORDER BY e.since",
        &[name.into(), target.as_str().into()],
        |row| {
            let (since, discounted_to) = (settings::micros(row.value(1)?), settings::micros(row.value(2)?));
            let half_life: Option<f64> = row.get(3)?;
            let sums = Statistics::from_bytes(&row.value::<Vec<u8>>(4)?);
            let (Some(since), Some(discounted_to), Some(mut sums)) = (since, discounted_to, sums) else {
                return Ok(None);
            };
            sums.scale(campaign::discount(half_life.map(|seconds| seconds * 1e6), learned_at - discounted_to));
            // From here on it fades at another pace.
            let changed = half_life != campaign.half_life_seconds;
            Ok(Some(Epoch { since, sums, changed }))
        },
    )?;
    let complete = written.first().is_some_and(|written| usize::try_from(*written) == Ok(epochs.len()));
    let epochs = epochs.into_iter().collect::<Option<Vec<_>>>().filter(|_| complete);
    epochs.and_then(|epochs| Epochs::of(part.mean.len(), epochs)).ok_or_else(|| damaged(campaign))
}

/// When the epochs of a part of the model begin. Nothing that may be damaged is read. Runs as the owner.
pub fn beginnings(campaign: &Campaign, target: &Target) -> Result<Vec<i64>> {
    let epochs = query::write(
        "SELECT e.since FROM decisioning._learner_epoch e WHERE e.campaign = $1 AND e.part = $2",
        &[campaign.campaign.as_str().into(), target.name().into()],
        |row| Ok(settings::micros(row.value(1)?)),
    )?;
    Ok(epochs.into_iter().flatten().collect())
}

/// Keeps the sums as they are `now`; those that have only faded stay as they were written, with the time of that. Runs as the owner.
pub fn store(campaign: &Campaign, learned: &Learned, now: TimestampWithTimeZone) -> Result<()> {
    let name = campaign.campaign.as_str();
    let (mut parts, mut beginnings) = (Vec::new(), Vec::new());
    for part in &learned.parts {
        let target = part.target.name();
        for epoch in part.sums.iter() {
            let since = settings::timestamp(epoch.since)?;
            if epoch.changed {
                query::execute(
                    "INSERT INTO decisioning._learner_epoch (campaign, part, since, discounted_to, half_life, statistics)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (campaign, part, since) DO UPDATE SET discounted_to = excluded.discounted_to,
                         half_life = excluded.half_life, statistics = excluded.statistics",
                    &[
                        name.into(),
                        target.as_str().into(),
                        since.into(),
                        now.into(),
                        campaign.half_life_seconds.into(),
                        epoch.sums.to_bytes().into(),
                    ],
                )?;
            }
            parts.push(target.clone());
            beginnings.push(since);
        }
    }
    query::execute(
        "DELETE FROM decisioning._learner_epoch e
         WHERE e.campaign = $1 AND NOT EXISTS (
             SELECT FROM unnest($2::text[], $3::timestamptz[]) AS k(part, since)
             WHERE k.part = e.part AND k.since = e.since)",
        &[name.into(), parts.into(), beginnings.into()],
    )?;
    Ok(())
}
