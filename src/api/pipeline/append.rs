//! What was decided, appended to the log, to the learner's inbox and to the outbox.

use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::ffi::CString;

use decisioning_core::decide::month;
use pgrx::pg_sys::Datum;
use pgrx::IntoDatum;

use super::{action_name, Decision, Proposal, Round};
use crate::api::guardrail::priority;
use crate::pg::error::{Error, Result};
use crate::pg::{bulk, datum, settings};

/// Name of the partition of the log for decisions of a moment, as `_make_partition` makes them.
fn partition(at: i64) -> Result<CString> {
    let (year, month) = month(at).map_err(|error| Error::invalid(error.to_string()))?;
    CString::new(format!("decisions_{year:04}_{month:02}"))
        .map_err(|_| Error::corrupted("a month contains a zero byte"))
}

/// Appends decisions to the log and to the learner's inbox, and those that are to be sent to the outbox.
pub fn log(round: &Round, proposals: &[Proposal<'_>], decisions: &[Decision]) -> Result<()> {
    let Round { campaign, compiled, .. } = round;
    let name = campaign.campaign.as_str();
    let now = settings::timestamp(round.now)?;
    let mut contents: HashMap<&str, Datum> = HashMap::new();
    for content in decisions.iter().filter_map(|decision| decision.content.as_deref()) {
        if let Entry::Vacant(entry) = contents.entry(content) {
            entry.insert(datum::jsonb(content)?);
        }
    }
    let partition = partition(round.now)?;
    bulk::append_to_partition(
        c"decisions",
        [&partition, c"decisions_default"],
        [
            c"decision_id",
            c"customer_id",
            c"campaign",
            c"treatment_group",
            c"action",
            c"action_id",
            c"propensity",
            c"reason",
            c"decided_at",
            c"expires_at",
            c"send_at",
            c"origin",
            c"ordinal",
            c"overlap",
            c"epoch",
            c"model_version",
            c"encoder_version",
            c"candidates",
            c"propensities",
            c"encoded",
            c"context",
            c"content",
            c"shadow_action_id",
            c"shadow_propensities",
            c"removed",
        ],
        decisions.len(),
        |n| {
            let (proposal, decision) = (&proposals[n], &decisions[n]);
            Ok([
                decision.decision_id.into_datum(),
                decision.customer_id.as_str().into_datum(),
                name.into_datum(),
                decision.group.as_str().into_datum(),
                action_name(campaign, decision.action_id).into_datum(),
                decision.action_id.unwrap_or(0).into_datum(),
                decision.propensity.into_datum(),
                decision.reason.as_str().into_datum(),
                now.into_datum(),
                decision.expires_at.into_datum(),
                decision.send_at.into_datum(),
                "live".into_datum(),
                proposal.entrant.ordinal.into_datum(),
                proposal.entrant.overlap.into_datum(),
                campaign.edition.epoch.into_datum(),
                compiled.model.version.into_datum(),
                compiled.model.encoder_version.into_datum(),
                Some(datum::array(&proposal.candidates.ids)),
                Some(datum::array(&proposal.choice.propensities)),
                Some(datum::array(&proposal.entrant.encoded)),
                Some(proposal.context.to_datum()?),
                decision.content.as_deref().and_then(|content| contents.get(content).copied()),
                proposal.shadow.as_ref().map(|shadow| shadow.action_id).into_datum(),
                proposal.shadow.as_ref().map(|shadow| datum::array(&shadow.choice.propensities)),
                removed(proposal)?,
            ])
        },
    )?;
    let closes_at = settings::timestamp(round.now + round.window())?;
    bulk::append(c"_inbox", [c"campaign", c"closes_at", c"decision_id"], decisions.len(), |n| {
        Ok([name.into_datum(), closes_at.into_datum(), decisions[n].decision_id.into_datum()])
    })?;
    let stakes = proposals.iter().zip(decisions).filter(|(_, decision)| decision.send_at.is_some());
    let stakes: Vec<_> = stakes.filter_map(|(one, decision)| Some((decision.decision_id, one.stake?))).collect();
    priority::record(&stakes)?;
    let sends: Vec<&Decision> = decisions.iter().filter(|decision| decision.send_at.is_some()).collect();
    if sends.is_empty() {
        return Ok(());
    }
    bulk::append(c"_outbox", [c"campaign", c"send_at", c"decision_id"], sends.len(), |n| {
        Ok([name.into_datum(), sends[n].send_at.into_datum(), sends[n].decision_id.into_datum()])
    })
}

fn removed(proposal: &Proposal<'_>) -> Result<Option<Datum>> {
    match proposal.removed.is_empty() {
        true => Ok(None),
        false => Ok(Some(datum::jsonb(&serde_json::to_string(&proposal.removed)?)?)),
    }
}
