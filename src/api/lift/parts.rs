//! What statements about lift are made of: parts over campaigns $1 (see [`only`]), at the moment $2.
//!
//! [`only`]: crate::api::census::only

use crate::pg::error::Result;
use crate::pg::query::{self, Argument};

/// Goals that count, with what stop rules tolerate; a condition may follow.
pub const GOALS: &str = "SELECT g.campaign, g.goal, k.kind, c.time_zone, (
        SELECT min(r.tolerated) FROM decisioning.stop_rules r WHERE r.campaign = g.campaign AND r.goal = g.goal) AS tolerated, g.value AS worth
    FROM decisioning.campaign_goals g
    JOIN decisioning.goals k ON k.goal = g.goal AND k.kind <> 'engagement'
    JOIN decisioning.campaigns c ON c.campaign = g.campaign
    WHERE ($1 IS NULL OR g.campaign = ANY ($1))";

/// Events of `goals`, by unit. Units are customers as exposed: merges, which treatment causes too, neither make nor unmake any. An
/// event counts once, for the unit whose id it was recorded with, or else for that of the customer it belongs to. $4 to $8 are
/// [`Merged::arguments`].
const EVENTS: &str = "events AS NOT MATERIALIZED (
        SELECT g.campaign, g.goal, g.kind, o.occurred_at, o.events, coalesce(g.worth * o.events, o.value) AS value,
               coalesce(m.merged_id, h.merged_id, a.customer_id, o.customer_id) AS customer_id
        FROM goals g
        JOIN decisioning.outcomes o ON o.goal = g.goal
        LEFT JOIN decisioning._log_alias a ON a.alias = o.customer_id
        LEFT JOIN unnest($4, $5) AS m(campaign, merged_id) ON m.merged_id = o.customer_id AND m.campaign = g.campaign
        LEFT JOIN unnest($6, $7, $8) AS h(campaign, customer_id, merged_id)
            ON h.customer_id = coalesce(a.customer_id, o.customer_id) AND h.campaign = g.campaign
    )";

/// The same where nobody was merged and no id stands for another: the planner then knows how often an id occurs.
const EVENTS_BY_ID: &str = "events AS NOT MATERIALIZED (
        SELECT g.campaign, g.goal, g.kind, o.occurred_at, o.events, coalesce(g.worth * o.events, o.value) AS value, o.customer_id
        FROM goals g
        JOIN decisioning.outcomes o ON o.goal = g.goal
    )";

/// Customers that were exposed and merged into another. Read first and handed over: parallel workers cannot read what a
/// statement has materialised.
#[derive(Default)]
pub struct Merged {
    campaigns: Vec<String>,
    merged: Vec<String>,
    heirs: Heirs,
    /// Whether any id in the log stands for another.
    aliases: bool,
}

/// Customers who were exposed under another id only, and the first such id.
#[derive(Default)]
struct Heirs {
    campaigns: Vec<String>,
    customers: Vec<String>,
    merged: Vec<String>,
}

impl Merged {
    /// Runs as the owner.
    pub fn read(campaign: Option<&str>) -> Result<Self> {
        let mut found = Merged::default();
        query::read(
            "SELECT m.campaign, m.merged_id,
                    CASE WHEN row_number() OVER (PARTITION BY m.campaign, m.customer_id ORDER BY s.exposed_at, m.merged_id) = 1
                              AND NOT EXISTS (SELECT FROM decisioning._assignment t WHERE t.customer_id = m.customer_id
                                              AND t.campaign = m.campaign AND t.exposed_at < 'infinity')
                         THEN m.customer_id END
             FROM decisioning._merged_assignment m
             JOIN decisioning._assignment s ON s.customer_id = m.merged_id AND s.campaign = m.campaign
             WHERE s.exposed_at < 'infinity' AND ($1 IS NULL OR m.campaign = $1)",
            &[campaign.into()],
            |row| {
                let (campaign, merged): (String, String) = (row.value(1)?, row.value(2)?);
                if let Some(customer) = row.get(3)? {
                    found.heirs.campaigns.push(campaign.clone());
                    found.heirs.customers.push(customer);
                    found.heirs.merged.push(merged.clone());
                }
                found.campaigns.push(campaign);
                found.merged.push(merged);
                Ok(())
            },
        )?;
        let aliases = query::read_one("SELECT EXISTS (SELECT FROM decisioning._log_alias)", &[], |row| row.value(1))?;
        found.aliases = aliases.unwrap_or(true);
        Ok(found)
    }

    /// Events by unit, as a common table expression after `goals`.
    pub fn events(&self) -> &'static str {
        if self.aliases || !self.merged.is_empty() {
            EVENTS
        } else {
            EVENTS_BY_ID
        }
    }

    /// $4 to $8 of [`events`](Self::events).
    pub fn arguments(&self) -> [Argument<'_>; 5] {
        let heirs = &self.heirs;
        [&self.campaigns, &self.merged, &heirs.campaigns, &heirs.customers, &heirs.merged]
            .map(|texts| texts.clone().into())
    }
}
