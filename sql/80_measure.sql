-- Measure. Views read the log with plain aggregates, so they run in parallel and on a standby.

CREATE FUNCTION decisioning._difference(
    treated_count float8, treated_mean float8, treated_squares float8,
    control_count float8, control_mean float8, control_squares float8, confidence float8)
RETURNS TABLE (absolute float8, lower float8, upper float8, relative float8, relative_lower float8, relative_upper float8,
               p_value float8)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', '_difference_wrapper';
COMMENT ON FUNCTION decisioning._difference(float8, float8, float8, float8, float8, float8, float8) IS
'Internal: difference of two means from counts, means and sums of squared deviations (Welch, normal quantiles; delta method for the ratio).';

CREATE FUNCTION decisioning._chi_square(observed float8[], expected float8[])
RETURNS TABLE (statistic float8, p_value float8)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', '_chi_square_wrapper';
COMMENT ON FUNCTION decisioning._chi_square(float8[], float8[]) IS 'Internal: Pearson''s chi-square test of counts against expected counts.';

CREATE VIEW decisioning.group_balance AS
WITH sizes AS (
    SELECT s.campaign, s.epoch, s.treatment_group, count(*) AS customers
    FROM decisioning._assignment s GROUP BY s.campaign, s.epoch, s.treatment_group
), shares AS (
    -- The shares in force in an epoch: those of the campaign's row as the latest change up to then left it.
    SELECT z.campaign, z.epoch, z.customers, e.after
    FROM (SELECT campaign, epoch, sum(customers) AS customers FROM sizes GROUP BY campaign, epoch) z
    CROSS JOIN LATERAL (
        SELECT h.after FROM decisioning.epochs h
        WHERE h.campaign = z.campaign AND h.relation = 'campaigns'
          AND h.epoch <= z.epoch AND h.after IS NOT NULL
        ORDER BY h.epoch DESC LIMIT 1) e
), expected AS (
    SELECT s.campaign, g.treatment_group, sum(s.customers * g.share) AS expected
    FROM shares s
    CROSS JOIN LATERAL (VALUES
        ('holdout', (s.after ->> 'holdout_share')::float8),
        ('control', (s.after ->> 'control_share')::float8),
        ('explore', (s.after ->> 'explore_share')::float8),
        ('optimise', 1::float8 - (s.after ->> 'holdout_share')::float8
            - (s.after ->> 'control_share')::float8
            - (s.after ->> 'explore_share')::float8)
    ) AS g(treatment_group, share)
    GROUP BY s.campaign, g.treatment_group
), compared AS (
    SELECT e.campaign, e.treatment_group, e.expected,
           coalesce(o.customers, 0::numeric)::bigint AS customers
    FROM expected e
    LEFT JOIN (SELECT campaign, treatment_group, sum(customers) AS customers FROM sizes
               GROUP BY campaign, treatment_group) o
      ON o.campaign = e.campaign AND o.treatment_group = e.treatment_group
    WHERE e.expected > 0::float8 OR o.customers IS NOT NULL
)
SELECT c.campaign, c.treatment_group, c.customers, c.expected, t.statistic, t.p_value,
       coalesce(t.p_value >= 0.001::float8, true) AS balanced
FROM compared c
JOIN (SELECT x.campaign, q.statistic, q.p_value
      FROM (SELECT campaign, array_agg(customers::float8 ORDER BY treatment_group) AS observed,
                   array_agg(expected ORDER BY treatment_group) AS expected
            FROM compared GROUP BY campaign) x
      LEFT JOIN LATERAL decisioning._chi_square(x.observed, x.expected) q ON true) t ON t.campaign = c.campaign;
COMMENT ON VIEW decisioning.group_balance IS 'Sample-ratio check: customers per group against the shares in force when they were assigned; p below 0.001 makes every lift of the campaign invalid.';

CREATE FUNCTION decisioning.lift(campaign text DEFAULT NULL, confidence float8 DEFAULT 0.95, as_of timestamptz DEFAULT NULL)
RETURNS TABLE (
    campaign text, goal text, treated_group text, baseline_group text, measure text,
    treated_customers bigint, baseline_customers bigint, treated_mean float8, baseline_mean float8,
    absolute_lift float8, lower float8, upper float8,
    relative_lift float8, relative_lower float8, relative_upper float8, p_value float8, verdict text)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
    WITH moment AS (
        SELECT coalesce(lift.as_of, decisioning._now()) AS at
    ), aliases AS (
        SELECT a.alias, a.customer_id FROM decisioning._alias a
    ), totals AS (
        -- User totals from exposure, by intention to treat: everybody exposed, whatever was sent.
        SELECT s.campaign, g.goal, k.kind, s.treatment_group, s.customer_id,
               coalesce(sum(o.events), 0)::float8 AS events,
               coalesce(sum(o.value), 0)::float8 AS value
        FROM decisioning._assignment s
        CROSS JOIN moment m
        JOIN decisioning.campaign_goals g ON g.campaign = s.campaign
        JOIN decisioning.goals k ON k.goal = g.goal AND k.kind <> 'engagement'
        LEFT JOIN aliases sa ON sa.alias = s.customer_id
        LEFT JOIN (SELECT coalesce(a.customer_id, o.customer_id) AS customer_id, o.goal, o.occurred_at, o.events, o.value
                   FROM decisioning.outcomes o LEFT JOIN aliases a ON a.alias = o.customer_id) o
               ON o.customer_id = coalesce(sa.customer_id, s.customer_id) AND o.goal = g.goal
              AND o.occurred_at >= s.exposed_at AND o.occurred_at < m.at
        -- Who has moved from control to optimise is a comparison for neither; buckets of a hash moved, so the rest stay fair.
        WHERE s.treatable AND s.exposed_at < m.at AND (s.ramped_at IS NULL OR s.ramped_at >= m.at) AND (lift.campaign IS NULL OR s.campaign = lift.campaign)
        GROUP BY s.campaign, g.goal, k.kind, s.treatment_group, s.customer_id
    ), units AS (
        SELECT t.campaign, t.goal, t.treatment_group, 'conversion rate' AS measure, (t.events > 0)::int::float8 AS y FROM totals t
        UNION ALL
        SELECT t.campaign, t.goal, t.treatment_group, 'value per customer', t.value FROM totals t WHERE t.kind IN ('value', 'harm')
    ), unbalanced AS (
        SELECT DISTINCT r.campaign FROM decisioning.group_balance r WHERE NOT r.balanced
    ), moments AS (
        SELECT u.campaign, u.goal, u.treatment_group, u.measure, count(*) AS customers, avg(u.y) AS mean,
               coalesce(var_pop(u.y), 0) * count(*) AS squares, count(*) FILTER (WHERE u.y <> 0) AS responders
        FROM units u GROUP BY u.campaign, u.goal, u.treatment_group, u.measure
    )
    SELECT t.campaign, t.goal, t.treatment_group, b.treatment_group, t.measure, t.customers, b.customers, t.mean, b.mean,
           d.absolute, d.lower, d.upper, d.relative, d.relative_lower, d.relative_upper, d.p_value,
           CASE WHEN t.campaign IN (SELECT r.campaign FROM unbalanced r) THEN 'invalid: sample ratio'
                WHEN t.responders < 30 OR b.responders < 30 THEN 'collecting'
                WHEN d.lower > 0 THEN 'positive'
                WHEN d.upper < 0 THEN 'negative'
                ELSE 'inconclusive' END
    FROM moments t
    JOIN moments b ON b.campaign = t.campaign AND b.goal = t.goal AND b.measure = t.measure
                  AND (t.treatment_group, b.treatment_group) IN (('optimise', 'holdout'), ('explore', 'holdout'),
                      ('optimise', 'control'), ('optimise', 'explore'))
    LEFT JOIN LATERAL decisioning._difference(t.customers, t.mean, t.squares, b.customers, b.mean, b.squares, lift.confidence) d ON true
    ORDER BY 1, 2, 5, 3 DESC, 4 DESC
$$;

COMMENT ON FUNCTION decisioning.lift(text, float8, timestamptz) IS
'Compares groups by intention to treat: totals per customer from exposure to as_of, with a fixed-horizon interval. Control customers who have been moved to optimise by then are left out. Decide when to look before you look: the interval is not valid under repeated peeking.';

CREATE VIEW decisioning.lift AS
SELECT * FROM decisioning.lift() AS l;
COMMENT ON VIEW decisioning.lift IS 'Lift of every campaign and goal since exposure, at 95 %.';
