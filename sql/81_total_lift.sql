-- What all campaigns together add: customers outside of the global holdout against those in it.

CREATE FUNCTION decisioning._total_difference(
    treated_count float8, treated_mean float8, treated_squares float8, treated_responders bigint,
    baseline_count float8, baseline_mean float8, baseline_squares float8, baseline_responders bigint, confidence float8)
RETURNS TABLE (absolute float8, lower float8, upper float8, fixed_lower float8, fixed_upper float8)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', '_total_difference_wrapper';
COMMENT ON FUNCTION decisioning._total_difference(float8, float8, float8, bigint, float8, float8, float8, bigint, float8) IS
'Internal: difference of two means from counts, means and sums of squared deviations, with bounds that hold however often one looks and with those of a single look.';

-- Tables that have just been filled look small to the planner, and nested loops over them would never end.
CREATE FUNCTION decisioning.total_lift(confidence float8 DEFAULT 0.95, as_of timestamptz DEFAULT NULL)
RETURNS TABLE (
    since timestamptz, goal text, kind text, measure text, currency text,
    treated_customers bigint, baseline_customers bigint, treated_mean float8, baseline_mean float8,
    absolute_lift float8, lower float8, upper float8, fixed_lower float8, fixed_upper float8, winsorised_at float8,
    incremental float8, incremental_lower float8, incremental_upper float8,
    cost float8, net float8, net_lower float8, net_upper float8,
    return_on_cost float8, return_lower float8, return_upper float8, verdict text)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
SET jit = off
SET enable_nestloop = off
AS $$
    WITH held AS MATERIALIZED (
        SELECT h.since, round(10000 * h.least) AS least, round(10000 * h.most) AS most,
               coalesce(total_lift.as_of, decisioning._now()) AS at
        FROM decisioning.global_holdout h WHERE h.share > 0
    ), exposures AS NOT MATERIALIZED (
        -- In draws that are over as well: the global holdout is the same in all of them.
        SELECT s.customer_id, s.campaign, s.exposed_at, s.global_bucket FROM decisioning._assignment s WHERE s.exposed_at < 'infinity'
        UNION ALL
        SELECT p.customer_id, p.campaign, p.exposed_at, p.global_bucket FROM decisioning._past_assignment p
    ), units AS MATERIALIZED (
        -- Whoever some campaign exposed first since there is a global holdout, by intention to treat: whatever was sent. Customers
        -- whom a change of the share moved, or would have, are left out; by their hash, so that the rest stay comparable.
        SELECT s.customer_id, min(s.exposed_at) AS exposed_at, min(s.global_bucket) >= min(h.most) AS treated
        FROM held h CROSS JOIN exposures s
        GROUP BY s.customer_id
        HAVING min(s.exposed_at) >= min(h.since) AND min(s.exposed_at) < min(h.at)
           AND (min(s.global_bucket) < min(h.least) OR min(s.global_bucket) >= min(h.most))
    ), sizes AS (
        SELECT count(*) FILTER (WHERE u.treated) AS treated, count(*) FILTER (WHERE NOT u.treated) AS baseline FROM units u
    ), worths AS MATERIALIZED (
        -- What an event is worth, if all campaigns say the same: a fixed worth, or for goals of kind value that of the event.
        SELECT g.goal, k.kind, min(coalesce(c.currency, '')) AS currency,
               CASE WHEN count(g.value) = count(*) AND count(DISTINCT g.value) = 1 THEN min(g.value) END AS fixed,
               count(DISTINCT coalesce(c.currency, '')) = 1
                   AND (k.kind = 'value' OR count(g.value) = count(*) AND count(DISTINCT g.value) = 1) AS valued
        FROM decisioning.campaign_goals g
        JOIN decisioning.goals k ON k.goal = g.goal AND k.kind <> 'engagement'
        JOIN decisioning.campaigns c ON c.campaign = g.campaign AND c.started_at IS NOT NULL
        GROUP BY g.goal, k.kind
    ), merged AS MATERIALIZED (
        SELECT m.customer_id, m.merged_id, min(s.exposed_at) AS exposed_at
        FROM decisioning._merged_assignment m
        JOIN exposures s ON s.customer_id = m.merged_id AND s.campaign = m.campaign
        GROUP BY m.customer_id, m.merged_id
    ), heirs AS MATERIALIZED (
        -- Customers who were exposed under another id only.
        SELECT DISTINCT ON (m.customer_id) m.customer_id, m.merged_id
        FROM merged m
        WHERE NOT EXISTS (SELECT FROM exposures s WHERE s.customer_id = m.customer_id)
        ORDER BY m.customer_id, m.exposed_at, m.merged_id
    ), events AS MATERIALIZED (
        -- Units are customers as exposed, as in lift: an event counts once, for the unit whose id it was recorded with, or else for
        -- that of the customer it belongs to.
        SELECT u.customer_id, u.treated, o.goal, o.event_id, o.occurred_at, o.events, o.value
        FROM held
        CROSS JOIN worths g
        JOIN decisioning.outcomes o ON o.goal = g.goal
        LEFT JOIN decisioning._log_alias a ON a.alias = o.customer_id
        LEFT JOIN (SELECT DISTINCT x.merged_id FROM merged x) m ON m.merged_id = o.customer_id
        LEFT JOIN heirs h ON h.customer_id = coalesce(a.customer_id, o.customer_id)
        JOIN units u ON u.customer_id = coalesce(m.merged_id, h.merged_id, a.customer_id, o.customer_id)
        WHERE o.occurred_at >= u.exposed_at AND o.occurred_at < held.at
    ), totals AS MATERIALIZED (
        SELECT e.customer_id, e.treated, e.goal, g.currency, g.valued, sum(e.events)::float8 AS events,
               coalesce(sum(CASE WHEN g.fixed IS NOT NULL THEN g.fixed * e.events ELSE e.value END), 0)::float8 AS value
        FROM events e JOIN worths g ON g.goal = e.goal
        GROUP BY e.customer_id, e.treated, e.goal, g.currency, g.valued
    ), measured AS MATERIALIZED (
        -- Customers without an event are not here; they are zeros.
        SELECT 'events per customer' AS measure, t.goal AS subject, t.treated, t.events AS y FROM totals t
        UNION ALL
        SELECT 'value per customer', t.goal, t.treated, t.value FROM totals t WHERE t.valued
        UNION ALL
        SELECT 'total value per customer', t.currency, t.treated, sum(t.value)
        FROM totals t WHERE t.valued GROUP BY t.customer_id, t.currency, t.treated
    ), cuts AS (
        SELECT m.measure, m.subject, percentile_cont(0.99) WITHIN GROUP (ORDER BY m.y) FILTER (WHERE m.y > 0) AS cut
        FROM measured m WHERE m.measure <> 'events per customer' GROUP BY m.measure, m.subject
    ), moments AS (
        SELECT m.measure, m.subject, m.treated, count(*)::float8 AS customers, count(*) FILTER (WHERE m.y <> 0) AS responders,
               avg(least(m.y, c.cut)) AS mean, var_pop(least(m.y, c.cut)) * count(*) AS squares
        FROM measured m LEFT JOIN cuts c ON c.measure = m.measure AND c.subject = m.subject
        GROUP BY m.measure, m.subject, m.treated
    ), sides AS (
        -- Moments of all customers of a side: those of the customers with events and those of the zeros (Chan, Golub, LeVeque 1979).
        SELECT l.measure, l.subject, s.treated, s.customers, coalesce(m.responders, 0) AS responders,
               coalesce(m.customers * m.mean / s.customers, 0) AS mean,
               coalesce(m.squares + m.mean * m.mean * m.customers * (s.customers - m.customers) / s.customers, 0) AS squares
        FROM (SELECT 'events per customer' AS measure, g.goal AS subject FROM worths g
              UNION ALL SELECT 'value per customer', g.goal FROM worths g WHERE g.valued
              UNION ALL SELECT DISTINCT 'total value per customer', g.currency FROM worths g WHERE g.valued) AS l
        CROSS JOIN (SELECT true AS treated, z.treated::float8 AS customers FROM sizes z
                    UNION ALL SELECT false, z.baseline::float8 FROM sizes z) AS s
        LEFT JOIN moments m ON m.measure = l.measure AND m.subject = l.subject AND m.treated = s.treated
        WHERE s.customers > 0
    ), waiting AS (
        -- Where dispatch is used, what it has not dispatched is not sent.
        SELECT o.decision_id FROM decisioning._outbox o
        WHERE EXISTS (SELECT FROM decisioning.sends m WHERE m.campaign = o.campaign)
    ), sent AS MATERIALIZED (
        SELECT d.decision_id, d.campaign, d.action, d.epoch, d.decided_at, u.customer_id
        FROM held
        CROSS JOIN decisioning.decisions d
        LEFT JOIN heirs h ON h.customer_id = d.customer_id
        JOIN units u ON u.treated AND u.customer_id = coalesce(h.merged_id, d.customer_id)
        LEFT JOIN decisioning.sends m ON m.decision_id = d.decision_id
        WHERE d.action_id > 0 AND d.origin = 'live' AND d.decided_at >= u.exposed_at AND coalesce(m.send_at, d.send_at) < held.at
          AND (m.status IN ('cancelled', 'preempted', 'expired', 'failed')
               OR m.status IN ('queued', 'claimed') AND m.delivery = 'claimed') IS NOT TRUE
          AND NOT EXISTS (SELECT FROM waiting w WHERE w.decision_id = d.decision_id)
    ), prices AS MATERIALIZED (
        -- What an action cost in the epoch of the decision.
        SELECT s.campaign, s.action, s.epoch, coalesce(c.currency, '') AS currency, (p.after ->> 'cost_send')::float8 AS on_send,
               (p.after ->> 'cost_on_goal')::float8 AS on_goal, (p.after ->> 'cost_on_goal_share')::float8 AS on_goal_share
        FROM (SELECT DISTINCT x.campaign, x.action, x.epoch FROM sent x) AS s
        JOIN decisioning.campaigns c ON c.campaign = s.campaign
        CROSS JOIN LATERAL (
            SELECT e.after FROM decisioning.epochs e
            WHERE e.campaign = s.campaign AND e.relation = 'actions' AND e.epoch <= s.epoch AND e.after ->> 'action' = s.action
            ORDER BY e.epoch DESC LIMIT 1) AS p
    ), redemptions AS (
        -- Costs that come with a response: an event redeems the offer of the latest send into whose window it falls.
        SELECT DISTINCT ON (e.goal, e.event_id) s.decision_id, p.currency, p.on_goal, p.on_goal_share,
               CASE WHEN k.kind = 'value' AND g.value IS NULL THEN e.value ELSE coalesce(g.value, 1) * e.events END AS worth
        FROM (SELECT x.customer_id, x.goal, x.event_id, min(x.occurred_at) AS occurred_at, sum(x.events) AS events, sum(x.value) AS value
              FROM events x WHERE x.treated GROUP BY x.customer_id, x.goal, x.event_id HAVING sum(x.events) > 0) AS e
        JOIN sent s ON s.customer_id = e.customer_id AND s.decided_at <= e.occurred_at
        JOIN prices p ON p.campaign = s.campaign AND p.action = s.action AND p.epoch = s.epoch AND (p.on_goal > 0 OR p.on_goal_share > 0)
        JOIN decisioning.campaign_goals g ON g.campaign = s.campaign AND g.goal = e.goal
            AND e.occurred_at < s.decided_at + g.attribution_seconds * interval '1 second'
        JOIN decisioning.goals k ON k.goal = e.goal AND k.kind IN ('conversion', 'value')
        ORDER BY e.goal, e.event_id, s.decided_at DESC, s.decision_id
    ), costs AS (
        SELECT c.currency, sum(c.cost) AS cost
        FROM (SELECT p.currency, sum(p.on_send) AS cost
              FROM sent s JOIN prices p ON p.campaign = s.campaign AND p.action = s.action AND p.epoch = s.epoch GROUP BY p.currency
              UNION ALL
              SELECT r.currency, min(r.on_goal) + min(r.on_goal_share) * greatest(sum(r.worth), 0)
              FROM redemptions r GROUP BY r.decision_id, r.currency) AS c
        GROUP BY c.currency
    ), compared AS (
        SELECT t.measure, t.subject, t.customers AS treated_customers, b.customers AS baseline_customers,
               t.mean AS treated_mean, b.mean AS baseline_mean, t.mean - b.mean AS absolute,
               t.responders >= 30 AND b.responders >= 30 AS enough, d.lower, d.upper, d.fixed_lower, d.fixed_upper
        FROM sides t
        JOIN sides b ON b.measure = t.measure AND b.subject = t.subject AND t.treated AND NOT b.treated
        LEFT JOIN LATERAL decisioning._total_difference(t.customers, t.mean, t.squares, t.responders, b.customers, b.mean, b.squares,
                                                        b.responders, total_lift.confidence) d ON t.responders >= 30 AND b.responders >= 30
    ), lines AS (
        SELECT c.*, w.cut, g.goal, g.kind,
               CASE c.measure WHEN 'total value per customer' THEN nullif(c.subject, '') WHEN 'value per customer' THEN nullif(g.currency, '') END AS currency,
               -- More of what harms is worse.
               CASE WHEN g.kind = 'harm' AND c.measure = 'events per customer' THEN -1 ELSE 1 END AS sign,
               CASE WHEN c.measure = 'total value per customer' THEN coalesce(k.cost, 0) END AS cost
        FROM compared c
        LEFT JOIN cuts w ON w.measure = c.measure AND w.subject = c.subject
        LEFT JOIN worths g ON g.goal = c.subject AND c.measure <> 'total value per customer'
        LEFT JOIN costs k ON k.currency = c.subject AND c.measure = 'total value per customer'
    )
    SELECT h.since, l.goal, l.kind, l.measure, l.currency, l.treated_customers::bigint, l.baseline_customers::bigint,
           l.treated_mean, l.baseline_mean, l.absolute, l.lower, l.upper, l.fixed_lower, l.fixed_upper, l.cut,
           i.estimate, i.lower, i.upper, l.cost, i.estimate - l.cost, i.lower - l.cost, i.upper - l.cost,
           i.estimate / nullif(l.cost, 0), i.lower / nullif(l.cost, 0), i.upper / nullif(l.cost, 0),
           CASE WHEN r.p_value < 0.001 THEN 'invalid: sample ratio'
                WHEN NOT l.enough THEN 'collecting'
                WHEN (CASE l.sign WHEN 1 THEN l.lower ELSE -l.upper END) > 0 THEN
                    'positive' || CASE WHEN i.lower > l.cost AND l.cost > 0 THEN ', and more than it cost'
                                       WHEN i.upper < l.cost THEN ', but less than it cost' ELSE '' END
                WHEN (CASE l.sign WHEN 1 THEN l.upper ELSE -l.lower END) < 0 THEN 'negative'
                ELSE 'inconclusive' END
    FROM lines l
    CROSS JOIN held h
    CROSS JOIN LATERAL (SELECT l.absolute * l.treated_customers AS estimate, l.lower * l.treated_customers AS lower,
                               l.upper * l.treated_customers AS upper) AS i
    CROSS JOIN LATERAL (SELECT nullif(10000 - h.most + h.least, 0)::float8 AS buckets) AS x
    CROSS JOIN LATERAL (
        SELECT decisioning._sequential_balance(ARRAY[l.treated_customers, l.baseline_customers]::float8[],
                                               ARRAY[(10000 - h.most) / x.buckets, h.least / x.buckets]::float8[]) AS p_value) AS r
    ORDER BY l.goal IS NOT NULL, l.goal, l.measure, l.currency
$$;
COMMENT ON FUNCTION decisioning.total_lift(float8, timestamptz) IS
'What all campaigns together add, by the global holdout: totals per customer from the first exposure in any campaign to as_of, per goal and altogether in value per currency, with intervals that hold however often one looks (fixed_lower and fixed_upper do not), the value in total, what it cost, and what is left. The only total there is: lifts of campaigns do not add up. Without a global holdout there are no rows.';
