-- What each action brings: the policy learned whom it suits, so that what was seen flatters it.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE TABLE public.customers AS SELECT 'c-' || n AS id, n % 2 = 0 AS member FROM generate_series(1, 2000) AS n;
-- Members like sms and others do not; e-mail is the same to all. For the policy, and for us, to find out.
CREATE FUNCTION public.rate(member boolean, action text) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE action WHEN 'sms' THEN CASE WHEN member THEN 0.4 ELSE 0.08 END WHEN 'email' THEN 0.16 WHEN 'letter' THEN 0.01 ELSE 0.1 END
$$;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
SELECT decisioning.create_campaign('spring', 'public.customers', 'id', explore_share => 0.2) IS NOT NULL AS created;
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000005';
SELECT decisioning.add_action_grid('spring', '{"channel": ["email", "sms"]}');
SELECT decisioning.approve_action('spring', 'email'), decisioning.approve_action('spring', 'sms');
SELECT decisioning.add_goal('buy', kind => 'value'), decisioning.add_campaign_goal('spring', 'buy', value => 30, attribution_window => '20 hours'),
       decisioning.start_campaign('spring');
-- Nothing was decided yet.
SELECT * FROM decisioning.action_performance('spring');
SELECT * FROM decisioning.insights('spring');

CREATE PROCEDURE public.live(day date) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('decisioning.simulated_now', day || ' 10:00+00', false);
    CALL decisioning.decide_all('spring');
    PERFORM decisioning.record_outcome('buy', d.decision_id::text, d.customer_id, value => 20, occurred_at => d.decided_at + interval '1 hour')
    FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id
    WHERE d.decided_at::date = day AND (hashtext(d.customer_id || day) & 4095) / 4096.0 < public.rate(c.member, d.action);
    PERFORM set_config('decisioning.simulated_now', day + 1 || ' 10:00+00', false);
    PERFORM decisioning.learn('spring');
END $$;
CALL public.live('2026-06-01');
CALL public.live('2026-06-02');
CALL public.live('2026-06-03');
CALL public.live('2026-06-04');
CALL public.live('2026-06-05');
CALL public.live('2026-06-06');
CALL public.live('2026-06-07');
CALL public.live('2026-06-08');
-- Had everybody been sent an sms, 0.24 would have responded, and 0.16 to an e-mail.
SELECT p.action, p.basis, round(p.raw_rate::numeric, 2) AS raw_rate, round(t.rate::numeric, 2) AS truth, abs(p.response_rate - t.rate) < 0.03 AS near,
       t.rate BETWEEN p.lower AND p.upper AS inside, t.rate - 0.1 BETWEEN p.uplift_lower AND p.uplift_upper AS uplift_inside,
       round((p.worth_per_decision / p.response_rate)::numeric, 6) AS worth_of_a_response
FROM decisioning.action_performance('spring') AS p
JOIN (SELECT action, avg(public.rate(member, action))::float8 AS rate FROM public.customers, unnest(ARRAY['no_send', 'email', 'sms']) AS action
      GROUP BY 1) AS t USING (action) ORDER BY 1;
-- The raw rate of sms is far from what it would be for all: outside of what is possible.
SELECT raw_rate > response_rate + 0.05 AS flattered, raw_rate > upper AS beyond FROM decisioning.action_performance('spring') WHERE action = 'sms';
-- Counts are those of the log; weights those of its propensities.
SELECT bool_and(p.decisions = t.decisions AND p.responses = t.responses) AS counted,
       bool_and(abs(p.effective_decisions - t.effective) < 1e-6 * t.effective AND abs(p.largest_weight - t.largest) < 1e-9) AS weighted
FROM decisioning.action_performance('spring') AS p
JOIN (SELECT g.action, sum(g.decisions) AS decisions, sum(g.responses) AS responses, sum(g.effective) AS effective, max(g.largest) AS largest
      FROM (SELECT d.action, d.treatment_group, count(*) AS decisions, count(o.outcome_id) AS responses,
                   sum(1 / d.propensity) ^ 2 / sum(1 / d.propensity ^ 2) AS effective, max(1 / d.propensity) AS largest
            FROM decisioning.decisions d
            LEFT JOIN decisioning.outcomes o ON o.customer_id = d.customer_id AND o.occurred_at = d.decided_at + interval '1 hour'
            WHERE d.treatment_group IN ('explore', 'optimise') AND d.propensity < 1 GROUP BY 1, 2) AS g
      GROUP BY 1) AS t USING (action);
-- More confidence is wider; later is less.
SELECT bool_and(w.lower <= n.lower AND w.upper >= n.upper) AS wider
FROM decisioning.action_performance('spring', confidence => 0.99) AS w JOIN decisioning.action_performance('spring') AS n USING (action);
SELECT sum(decisions) < (SELECT sum(decisions) FROM decisioning.action_performance('spring')) AS fewer
FROM decisioning.action_performance('spring', since => '2026-06-05');
SELECT campaign, count(*) FROM decisioning.action_performance GROUP BY 1;
-- What history brings in counts too, with the propensities it names.
CREATE TABLE public.history AS
SELECT 'h-' || n AS id, n % 2 = 0 AS member, CASE WHEN n % 4 = 0 THEN 'sms' ELSE 'no_send' END AS action,
       CASE WHEN n % 4 = 0 THEN 0.25 ELSE 0.75 END AS propensity, timestamptz '2026-05-01' + n * interval '1 minute' AS at
FROM generate_series(1, 800) AS n;
SELECT decisioning.import_decisions('spring', 'public.history', customer_key => 'id', action => 'action', decided_at => 'at', propensity => 'propensity');
SELECT action, decisions FROM decisioning.action_performance('spring', since => '2026-05-01')
EXCEPT SELECT action, decisions FROM decisioning.action_performance('spring', since => '2026-06-01') ORDER BY 1;
-- A new action: too few responded to say anything of it, and so nothing is said.
SELECT decisioning.add_action('spring', 'letter', channel => 'letter'), decisioning.approve_action('spring', 'letter');
CALL public.live('2026-06-09');
SELECT action, decisions > 50 AS tried, responses < 30 AS few, raw_rate IS NOT NULL AS seen, response_rate, lower, upper, uplift, worth_per_decision, basis
FROM decisioning.action_performance('spring') WHERE action = 'letter';

SELECT * FROM decisioning.action_performance('autumn');
SELECT * FROM decisioning.action_performance(NULL);
SELECT * FROM decisioning.action_performance('spring', confidence => 1);
DROP EXTENSION decisioning;
