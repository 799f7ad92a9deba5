//! What statements about lift are made of: parts over campaign $1, or all campaigns. Customers are counted
//! by epoch first, and by stratum when there are few rows left: workers cannot read what is materialised.

/// Starts, as epochs, of the times in which the shares of the groups did not change.
pub const STRATA: &str = "strata AS MATERIALIZED (
    SELECT p.campaign, array_agg(p.epoch ORDER BY p.epoch) AS starts
    FROM decisioning._share_periods p WHERE $1 IS NULL OR p.campaign = $1 GROUP BY p.campaign)";

/// Goals that count, with what stop rules tolerate; a condition may follow.
pub const GOALS: &str = "SELECT g.campaign, g.goal, k.kind, c.time_zone, (
        SELECT min(r.tolerated) FROM decisioning.stop_rules r WHERE r.campaign = g.campaign AND r.goal = g.goal) AS tolerated
    FROM decisioning.campaign_goals g
    JOIN decisioning.goals k ON k.goal = g.goal AND k.kind <> 'engagement'
    JOIN decisioning.campaigns c ON c.campaign = g.campaign
    WHERE ($1 IS NULL OR g.campaign = $1)";

/// Events of `goals`, by unit. Units are customers as exposed: merges, which treatment causes too, neither make nor unmake any. An
/// event counts once, for the unit whose id it was recorded with, or else for that of the customer it belongs to.
pub const EVENTS: &str = "merged AS MATERIALIZED (
        SELECT m.campaign, m.customer_id, m.merged_id, s.exposed_at
        FROM decisioning._merged_assignment m
        JOIN decisioning._assignment s ON s.customer_id = m.merged_id AND s.campaign = m.campaign
        WHERE s.exposed_at < 'infinity'
    ), heirs AS MATERIALIZED (
        -- Customers who were exposed under another id only.
        SELECT DISTINCT ON (m.campaign, m.customer_id) m.campaign, m.customer_id, m.merged_id
        FROM merged m
        WHERE NOT EXISTS (SELECT FROM decisioning._assignment s WHERE s.customer_id = m.customer_id AND s.campaign = m.campaign
                          AND s.exposed_at < 'infinity')
        ORDER BY m.campaign, m.customer_id, m.exposed_at, m.merged_id
    ), events AS NOT MATERIALIZED (
        SELECT g.campaign, g.goal, g.kind, o.occurred_at, o.events, o.value,
               coalesce(m.merged_id, h.merged_id, a.customer_id, o.customer_id) AS customer_id
        FROM goals g
        JOIN decisioning.outcomes o ON o.goal = g.goal
        LEFT JOIN decisioning._log_alias a ON a.alias = o.customer_id
        LEFT JOIN merged m ON m.merged_id = o.customer_id AND m.campaign = g.campaign
        LEFT JOIN heirs h ON h.customer_id = coalesce(a.customer_id, o.customer_id) AND h.campaign = g.campaign
    )";
