//! Whether a rule means anything: what would never bind is a mistake, or is still to come.

use decisioning_core::guardrail::{Facts, Selector};
use pgrx::JsonB;

use crate::api::campaign::{self, Campaign};
use crate::api::configure::check_editable;
use crate::pg::error::{Error, Result};
use crate::pg::query;

/// A selector that means no action of its campaign is a mistake, unless actions are still to come.
fn check_selects(campaign: &Campaign, selector: &Selector) -> Result<()> {
    if campaign.actions.is_empty() || campaign.actions.iter().any(|action| selector.matches(action)) {
        return Ok(());
    }
    Err(Error::missing(format!("campaign \"{}\" has no action with {selector}", campaign.campaign))
        .hint("SELECT action, dimensions, category FROM decisioning.actions lists them."))
}

/// The campaign that a rule is for, if it is for one, has actions that it means. Runs as the owner.
pub fn scope(campaign: Option<&str>, selector: &Selector) -> Result<()> {
    let Some(name) = campaign else { return check_known(selector) };
    check_editable(name)?;
    check_selects(&campaign::load(name)?.0, selector)
}

/// A selector of a rule for all campaigns names dimensions that actions have; levels may still be to come. Runs as the owner.
fn check_known(selector: &Selector) -> Result<()> {
    let known = dimensions(None)?;
    if let Some(name) = selector.names().find(|name| !is_dimension(&known, name)) {
        return Err(unknown_dimension(name, &known));
    }
    let actions: Vec<KnownAction> =
        query::read("SELECT a.action, a.dimensions, a.category FROM decisioning.actions a", &[], |row| {
            Ok(KnownAction { action: row.value(1)?, dimensions: row.value::<JsonB>(2)?.0, category: row.get(3)? })
        })?;
    if !actions.is_empty() && !actions.iter().any(|action| selector.matches(action)) {
        Error::missing(format!("no action of any campaign has {selector}"))
            .hint("The rule binds actions that are added later. SELECT campaign, action, dimensions, category FROM decisioning.actions lists those there are.")
            .notice();
    }
    Ok(())
}

/// What selectors ask about an action of any campaign.
struct KnownAction {
    action: String,
    dimensions: serde_json::Value,
    category: Option<String>,
}

impl Facts for KnownAction {
    fn action(&self) -> &str {
        &self.action
    }
    fn level(&self, dimension: &str) -> Option<&str> {
        self.dimensions.get(dimension)?.as_str()
    }
    fn category(&self) -> Option<&str> {
        self.category.as_deref()
    }
}

/// Dimensions of the actions of a campaign, or of all; none if there are no actions yet. Runs as the owner.
fn dimensions(campaign: Option<&str>) -> Result<Vec<String>> {
    query::read(
        "SELECT DISTINCT k.name FROM decisioning.actions a CROSS JOIN LATERAL jsonb_object_keys(a.dimensions) AS k(name)
         WHERE $1 IS NULL OR a.campaign = $1 ORDER BY 1",
        &[campaign.into()],
        |row| row.value(1),
    )
}

/// Whether actions have a dimension, or may be expected to.
fn is_dimension(known: &[String], name: &str) -> bool {
    known.is_empty()
        || ["action", "category", "message", "offer", "channel", "slot"].contains(&name)
        || known.iter().any(|known| known == name)
}

/// A dimension that actions of a campaign have, or of any, or may be expected to. Runs as the owner.
pub fn check_dimension(campaign: Option<&str>, name: &str) -> Result<()> {
    let known = dimensions(campaign)?;
    if is_dimension(&known, name) {
        Ok(())
    } else {
        Err(unknown_dimension(name, &known))
    }
}

fn unknown_dimension(name: &str, known: &[String]) -> Error {
    Error::missing(format!("no action has a dimension \"{name}\"")).hint(format!(
        "Dimensions of actions are {}; action and category stand for those of the action.",
        known.join(", ")
    ))
}

/// A channel that an action is sent on, of the campaign if one is given. Whom nobody can be sent anything on yet may be known
/// before the campaign: then it is a notice. Runs as the owner.
pub fn check_channel(campaign: Option<&str>, channel: Option<&str>) -> Result<()> {
    let Some(channel) = channel.filter(|channel| *channel != "*") else { return Ok(()) };
    if channel.is_empty() {
        return Err(Error::invalid("channel must not be empty").hint("Leave it out, or give NULL, for all channels."));
    }
    let known = query::read(
        "SELECT DISTINCT a.dimensions ->> 'channel' FROM decisioning.actions a
         WHERE a.dimensions ? 'channel' AND ($1 IS NULL OR a.campaign = $1) ORDER BY 1",
        &[campaign.into()],
        |row| row.value::<String>(1),
    )?;
    if known.iter().any(|known| known == channel) {
        return Ok(());
    }
    let list = known.join(", ");
    match campaign {
        Some(_) if known.is_empty() => Ok(()),
        Some(name) => {
            // Consent before the actions that need it is the safe order.
            Error::missing(format!("campaign \"{name}\" has no action with channel \"{channel}\""))
                .hint(format!("Its channels are {list}; * stands for all. It binds actions that are added later."))
                .notice();
            Ok(())
        }
        None => {
            let hint = match known.is_empty() {
                true => "There are no channels yet; it binds actions that are added later.".to_owned(),
                false => format!("Channels are {list}. It binds actions that are added later."),
            };
            Error::missing(format!("no campaign has an action with channel \"{channel}\"")).hint(hint).notice();
            Ok(())
        }
    }
}
