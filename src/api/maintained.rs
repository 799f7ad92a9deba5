//! What `maintain` does, step by step: one that fails does not keep the others.

use super::now;
use crate::pg::error::Result;
use crate::pg::guard::as_owner;
use crate::pg::query::{self, Argument};
use crate::pg::transaction::attempt;

/// A step that was undone.
pub struct Failed {
    /// `None` if it is about all campaigns.
    pub campaign: Option<String>,
    pub step: String,
    pub error: String,
    pub hint: Option<String>,
}

/// The steps of one call, of which those that failed are kept.
#[derive(Default)]
pub struct Steps {
    pub failed: Vec<Failed>,
}

impl Steps {
    /// Takes a step. If it fails, it is undone, and there is a warning.
    pub fn take<T>(&mut self, step: &str, campaign: Option<&str>, f: impl FnOnce() -> Result<T>) -> Option<T> {
        match attempt(f) {
            Ok(done) => Some(done),
            Err(failure) => {
                failure.warn(&match campaign {
                    Some(campaign) => format!("{step} of campaign \"{campaign}\""),
                    None => step.to_owned(),
                });
                self.failed.push(Failed {
                    campaign: campaign.map(str::to_owned),
                    step: step.to_owned(),
                    error: failure.message().to_owned(),
                    hint: failure.hint().map(str::to_owned),
                });
                None
            }
        }
    }

    /// Takes a step for each campaign that `sql`, run as the owner, lists.
    pub fn each(
        &mut self,
        step: &str,
        sql: &str,
        arguments: &[Argument<'_>],
        f: impl Fn(&str) -> Result<()>,
    ) -> Result<()> {
        for campaign in as_owner(|| query::read(sql, arguments, |row| row.value::<String>(1)))? {
            self.take(step, Some(&campaign), || f(&campaign));
        }
        Ok(())
    }

    /// Calls `keep`, as the owner, for each campaign that runs and of which the latest row of a table of ours is older than a day.
    pub fn every_day(
        &mut self,
        step: &str,
        table: &str,
        kept_at: &str,
        keep: impl Fn(&str) -> Result<()>,
    ) -> Result<()> {
        let sql = format!(
            "SELECT c.campaign FROM decisioning.campaigns c
             WHERE c.status IN ('active', 'paused')
               AND NOT EXISTS (SELECT FROM decisioning.{table} k WHERE k.campaign = c.campaign AND k.{kept_at} > $1 - interval '20 hours')
             ORDER BY 1"
        );
        self.each(step, &sql, &[now()?.into()], |campaign| as_owner(|| keep(campaign)))
    }
}
