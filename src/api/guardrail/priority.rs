//! Priority: which campaign gets a contact when a cap over all campaigns leaves one, and several want it.
//!
//! A campaign with a priority lays a *stake* to each send it decides on: priority × what the send is expected to add. Deciders of such
//! campaigns see past reservations of other such campaigns with a lower stake that are not made yet; those find out when their
//! turn to be dispatched or claimed comes, and are `preempted`.

use std::collections::HashMap;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid};

use crate::api::configuration;
use crate::api::configure::check_editable;
use crate::pg::bulk;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// Notes what is at stake.
pub fn record(stakes: &[(Uuid, f64)]) -> Result<()> {
    if stakes.is_empty() {
        return Ok(());
    }
    bulk::append(c"_stake", [c"decision_id", c"stake"], stakes.len(), |n| {
        Ok([stakes[n].0.into_datum(), stakes[n].1.into_datum()])
    })
}

/// What is at stake for decisions, of those for which something is. Runs as the owner.
pub fn stakes(decision_ids: &[Uuid]) -> Result<HashMap<Uuid, f64>> {
    let rows = query::write(
        "SELECT k.decision_id, k.stake FROM decisioning._stake k WHERE k.decision_id = ANY ($1)",
        &[decision_ids.to_vec().into()],
        |row| Ok((row.value(1)?, row.value(2)?)),
    )?;
    Ok(rows.into_iter().collect())
}

/// Forgets the stakes of what is made, or will not be. Runs as the owner.
pub fn forget_settled() -> Result<()> {
    query::execute(
        "DELETE FROM decisioning._stake k
         WHERE NOT EXISTS (SELECT FROM decisioning._outbox o WHERE o.decision_id = k.decision_id)
           AND NOT EXISTS (SELECT FROM decisioning.sends s
                           WHERE s.decision_id = k.decision_id AND s.status = 'queued' AND s.delivery = 'claimed')",
        &[],
    )?;
    Ok(())
}

#[pg_extern(sql = false)]
fn set_priority(campaign: Option<&str>, priority: Option<f64>) -> std::result::Result<(), ErrorReport> {
    let campaign = required(campaign, "campaign")?;
    if priority.is_some_and(|priority| !(priority > 0.0 && priority.is_finite())) {
        return Err(Error::invalid("priority must be positive")
            .hint("It multiplies what a send is expected to add: 2 counts twice as much as 1. NULL takes no part.")
            .into());
    }
    as_owner(|| {
        check_editable(campaign)?;
        configuration::execute(
            "UPDATE decisioning.campaigns c SET priority = $2 WHERE c.campaign = $1",
            &[campaign.into(), priority.into()],
        )
    })?;
    Ok(())
}
