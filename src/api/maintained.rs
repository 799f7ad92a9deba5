//! What `maintain` keeps up for campaigns that run.

use super::now;
use crate::pg::error::Result;
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Calls `keep`, as the owner, for each campaign of which the latest row of a table of ours is older than a day; `what` it keeps is for
/// warnings. A campaign that fails does not keep the others from it.
pub fn every_day(what: &str, table: &str, kept_at: &str, keep: impl Fn(&str) -> Result<()>) -> Result<()> {
    let sql = format!(
        "SELECT c.campaign FROM decisioning.campaigns c
         WHERE c.status IN ('active', 'paused')
           AND NOT EXISTS (SELECT FROM decisioning.{table} k WHERE k.campaign = c.campaign AND k.{kept_at} > $1 - interval '20 hours')
         ORDER BY 1"
    );
    let due = as_owner(|| query::read(&sql, &[now()?.into()], |row| row.value::<String>(1)))?;
    for campaign in due {
        if let Err(error) = as_owner(|| keep(&campaign)) {
            pgrx::warning!("{what} of campaign \"{campaign}\": {}", error.message());
        }
    }
    Ok(())
}
