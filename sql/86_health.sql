-- All that is known of the state of campaigns, in two views.

CREATE FUNCTION decisioning._recent_decisions(campaign text, since timestamptz, sample float8, OUT decisions bigint, OUT silenced bigint)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
    SELECT round(count(*) / sample)::bigint, round(count(*) FILTER (WHERE cardinality(d.candidates) = 1) / sample)::bigint
    FROM decisioning.decisions d TABLESAMPLE SYSTEM (100 * _recent_decisions.sample) REPEATABLE (0)
    WHERE d.campaign = _recent_decisions.campaign AND d.decision_id >= decisioning._uuid_floor(since) AND d.decided_at > since
      AND d.origin = 'live'
$$;
COMMENT ON FUNCTION decisioning._recent_decisions(text, timestamptz, float8) IS 'Internal: decisions since then, and those without any send to choose, estimated from a share of the pages of the log.';

CREATE FUNCTION decisioning._group_finding(balanced boolean, p_value float8, OUT status text, OUT finding text, OUT advice text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN balanced THEN 'good' ELSE 'bad' END,
           CASE WHEN balanced THEN 'groups are as large as they should be'
                ELSE format('groups are not as large as they should be (p =%s)', to_char(p_value, '9.9EEEE')) END,
           CASE WHEN balanced THEN '' ELSE 'no lift means anything: look for customers who are lost or added in one group only (filters after the draw, imports), then acknowledge_imbalance' END
$$;
COMMENT ON FUNCTION decisioning._group_finding(boolean, float8) IS 'Internal: what campaign_health says of the sizes of groups.';

-- Looked up in the catalogue: a name that is resolved wants rights on its schema.
CREATE FUNCTION decisioning._lost_relations(campaign text) RETURNS TABLE (schema text, relation text)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER COST 1000 ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.source_schema, r.source_relation
    FROM (SELECT c.customers_schema, c.customers_relation FROM decisioning.campaigns c WHERE c.campaign = $1
          UNION
          SELECT o.source_schema, o.source_relation FROM decisioning.outcome_sources o
          JOIN decisioning.campaign_goals g ON g.goal = o.goal WHERE g.campaign = $1
          UNION
          SELECT e.source_schema, e.source_relation FROM decisioning.entry_sources e WHERE e.campaign = $1
          UNION
          SELECT s.source_schema, s.source_relation FROM decisioning.consent_sources s WHERE coalesce(s.campaign, $1) = $1
          UNION
          SELECT d.source_schema, d.source_relation FROM decisioning.delivery_sources d) AS r(source_schema, source_relation)
    WHERE NOT EXISTS (SELECT FROM pg_class k JOIN pg_namespace n ON n.oid = k.relnamespace
                      WHERE n.nspname = r.source_schema AND k.relname = r.source_relation)
$$;
COMMENT ON FUNCTION decisioning._lost_relations(text) IS 'Internal: relations of yours that a campaign reads and that are not there.';

CREATE FUNCTION decisioning._misfits(campaign text) RETURNS text[]
LANGUAGE c STABLE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', '_misfits_wrapper';
COMMENT ON FUNCTION decisioning._misfits(text) IS 'Internal: what of the audience and guardrails of a campaign cannot be read on its customers relation as it is now.';

CREATE VIEW decisioning.campaign_health AS
WITH looked AS (
    SELECT c.campaign, decisioning._now() AS at, decisioning._log_share(c.campaign, 50000) AS share
    FROM decisioning.campaigns c WHERE c.status IN ('active', 'paused')
)
SELECT l.campaign, f.topic, f.status, f.finding, f.advice
FROM looked l
CROSS JOIN LATERAL (
    SELECT 'groups' AS topic, n.status, n.finding, n.advice
    FROM (SELECT bool_and(b.balanced) AS balanced, min(b.p_value) AS p_value
          FROM decisioning.group_balance(l.campaign) AS b HAVING count(*) > 0) AS g
    CROSS JOIN LATERAL decisioning._group_finding(g.balanced, g.p_value) AS n
    UNION ALL
    SELECT 'features', 'bad', format('groups are not alike in %s', string_agg(f.feature, ', ' ORDER BY f.feature)),
           'no lift means anything: look for what treats customers of one group otherwise before they are drawn, then acknowledge_imbalance'
    FROM decisioning._feature_balance f WHERE f.campaign = l.campaign AND NOT f.balanced HAVING count(*) > 0
    UNION ALL
    SELECT 'relations', 'bad', format('%s %s', string_agg(format('%I.%I', r.schema, r.relation), ', ' ORDER BY r.schema, r.relation),
                                      CASE count(*) WHEN 1 THEN 'does not exist' ELSE 'do not exist' END),
           'make it again under this name: without it nothing is decided, learned or read that needs it; maintain tells what fails'
    FROM decisioning._lost_relations(l.campaign) AS r HAVING count(*) > 0
    UNION ALL
    SELECT 'conditions', 'bad', array_to_string(m.misfits, '; '),
           'nothing is decided until it can be read again: change it, or the relation'
    FROM (SELECT decisioning._misfits(l.campaign) AS misfits) AS m WHERE cardinality(m.misfits) > 0
    UNION ALL
    SELECT 'learning', CASE WHEN m.learned_at IS NULL OR m.learned_at < l.at - interval '2 days' THEN 'warning' ELSE 'good' END,
           CASE WHEN m.learned_at IS NULL THEN 'it has never learned' ELSE format('it learned last %s hours ago', floor(date_part('epoch', l.at - m.learned_at) / 3600)) END,
           CASE WHEN m.learned_at IS NULL OR m.learned_at < l.at - interval '2 days' THEN 'let cron call decisioning.maintain() or learn every day' ELSE '' END
    FROM (SELECT 1) AS one LEFT JOIN decisioning._learner m ON m.campaign = l.campaign
    UNION ALL
    SELECT 'decisions', CASE WHEN r.decisions = 0 OR r.silenced > 0.5 * r.decisions THEN 'warning' ELSE 'good' END,
           format('%s%s decisions in the last week, %s of them without any send to choose', CASE WHEN l.share < 1 THEN 'about ' END, r.decisions, r.silenced),
           CASE WHEN r.decisions = 0 THEN 'call decide_all every day' WHEN r.silenced > 0.5 * r.decisions THEN 'see guardrail_funnel for what removes the candidates' ELSE '' END
    FROM decisioning._recent_decisions(l.campaign, l.at - interval '7 days', l.share) AS r
    UNION ALL
    SELECT 'outcomes', CASE WHEN o.latest IS NULL OR o.latest < l.at - interval '7 days' THEN 'warning' ELSE 'good' END,
           CASE WHEN o.latest IS NULL THEN 'no outcome of any goal is recorded' ELSE format('the latest outcome was recorded %s days ago', floor(date_part('epoch', l.at - o.latest) / 86400)) END,
           CASE WHEN o.latest IS NULL OR o.latest < l.at - interval '7 days' THEN 'see whether outcome sources still deliver: without outcomes everything looks like failure' ELSE '' END
    FROM (SELECT max(n.recorded_at) AS latest
          FROM decisioning.campaign_goals g
          CROSS JOIN LATERAL (SELECT max(x.recorded_at) AS recorded_at FROM decisioning.outcomes x WHERE x.goal = g.goal) AS n
          WHERE g.campaign = l.campaign) AS o
    UNION ALL
    SELECT 'policy', 'warning', format('nearly everybody gets %s', p.most_frequent_action),
           'right if that is best for all; else a sign of a low temper or floor, or of features that say nothing'
    FROM (SELECT e.most_frequent_action, e.collapsed FROM decisioning._policy_entropy(l.campaign, l.share) AS e ORDER BY e.day DESC LIMIT 1) AS p WHERE p.collapsed
    UNION ALL
    SELECT 'actions', 'warning', format('%s actions are suspended by brand rules', count(*)), 'see suspended_reason in decisioning.actions'
    FROM decisioning.actions a WHERE a.campaign = l.campaign AND a.status = 'suspended' HAVING count(*) > 0
    UNION ALL
    SELECT 'stop rules', 'bad', format('%s alarms in the last week, of %s', count(*), string_agg(DISTINCT s.stop_rule, ', ')), 'see decisioning.stop_alerts'
    FROM decisioning.stop_alerts s WHERE s.campaign = l.campaign AND s.alerted_at > l.at - interval '7 days' HAVING count(*) > 0
    UNION ALL
    SELECT 'fairness', 'warning', format('%s alerts in the last week', count(*)), 'see decisioning.fairness_alerts'
    FROM decisioning.fairness_alerts s WHERE s.campaign = l.campaign AND s.alerted_at > l.at - interval '7 days' HAVING count(*) > 0
) AS f;
COMMENT ON VIEW   decisioning.campaign_health IS 'Findings about every campaign that runs, each with advice: groups, relations, learning, decisions, outcomes, and what is out of order.';
COMMENT ON COLUMN decisioning.campaign_health.status IS 'good, warning or bad.';

CREATE VIEW decisioning.campaign_overview AS
SELECT c.campaign, c.status, c.mode, c.started_at, coalesce(s.customers, 0) AS customers, l.goal, l.measure, l.treated_mean, l.baseline_mean,
       l.absolute_lift, l.lower, l.upper, l.relative_lift, l.verdict, h.health
FROM decisioning.campaigns c
LEFT JOIN (SELECT a.campaign, count(*) AS customers FROM decisioning.assignments a GROUP BY a.campaign) AS s ON s.campaign = c.campaign
LEFT JOIN decisioning.lift l ON l.campaign = c.campaign
LEFT JOIN (SELECT h.campaign, CASE WHEN bool_or(h.status = 'bad') THEN 'bad' WHEN bool_or(h.status = 'warning') THEN 'warning' ELSE 'good' END AS health
           FROM decisioning.campaign_health h GROUP BY h.campaign) AS h ON h.campaign = c.campaign;
COMMENT ON VIEW   decisioning.campaign_overview IS 'All campaigns at a glance, a line per goal. Lifts of campaigns are what each adds given the others: they must not be added up.';
COMMENT ON COLUMN decisioning.campaign_overview.health IS 'The worst finding of campaign_health; NULL for campaigns that do not run.';
