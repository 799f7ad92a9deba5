-- Preview, shadow, live, ramp: how a campaign goes from nobody to everybody.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
CREATE TABLE public.customers AS SELECT 'c-' || n AS id, n % 90 AS age FROM generate_series(1, 2000) AS n;
SELECT decisioning.create_campaign('c', 'public.customers', 'id', control_share => 0.4, control_action => 'email') IS NOT NULL AS created;
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000005';
SELECT decisioning.add_action_grid('c', '{"channel": ["email", "sms"]}'),
       decisioning.approve_action('c', 'email'), decisioning.approve_action('c', 'sms');
SELECT decisioning.add_goal('buy'), decisioning.add_campaign_goal('c', 'buy', attribution_window => '1 day');

-- Preview: a developer's session answers, and writes nothing. ALTER ROLE … SET makes it the rule for a role.
SELECT decisioning.start_campaign('c', mode => 'shadow');
SET client_min_messages = notice;
SET decisioning.mode = 'preview';
SELECT decision_id, customer_id, treatment_group, action IS NOT NULL AS decided, propensity > 0 AS possible, reason
FROM decisioning.decide_batch(ARRAY['c-1', 'c-2', 'nobody'], 'c');
CALL decisioning.decide_all('c');
SELECT (SELECT count(*) FROM decisioning.decisions) AS decisions, (SELECT count(*) FROM decisioning._assignment) AS assignments,
       (SELECT count(*) FROM decisioning.open_decisions) AS open, (SELECT count(*) FROM decisioning._inbox) AS inbox;
SET decisioning.mode = 'loud';
-- A session cannot make a campaign less strict than it is: this one is in shadow.
SET decisioning.mode = 'live';
CALL decisioning.decide_all('c');
SET client_min_messages = warning;

-- Shadow: everybody but the holdout gets the control action, with certainty; what would have been chosen is noted.
SELECT treatment_group, reason, action, min(propensity) AS least, max(propensity) AS most, count(*), count(DISTINCT shadow_action_id) AS would_be
FROM decisioning.decisions GROUP BY 1, 2, 3 ORDER BY 1, 3;
SELECT treatment_group, shadow_action, count(*) > 0 AS seen, bool_and(shadow_propensity > 0 AND shadow_propensity < 1) AS random
FROM decisioning.shadow_decisions GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FILTER (WHERE abs((SELECT sum(p) FROM unnest(propensities) AS p) - 1) > 1e-9) AS wrong_sum,
       count(*) FILTER (WHERE abs((SELECT sum(p) FROM unnest(shadow_propensities) AS p) - 1) > 1e-9) AS wrong_shadow_sum,
       count(*) FILTER (WHERE cardinality(shadow_propensities) <> cardinality(candidates)) AS wrong_length
FROM decisioning.decisions;
SELECT action, count(*) FROM decisioning.open_decisions GROUP BY 1 ORDER BY 1;
-- Both are reproduced from the log.
SELECT bool_and(r.matches), count(*) FROM decisioning.decisions d, decisioning.replay(d.decision_id) AS r;
SELECT subject, regexp_replace(explanation, 'c-\d+|\d{4}-\S+ \S+', '…', 'g') AS explanation, round(number::numeric, 3) AS number
FROM decisioning.explain((SELECT d.decision_id FROM decisioning.decisions d
                          WHERE d.treatment_group = 'optimise' AND d.shadow_action_id = 2 ORDER BY d.customer_id LIMIT 1));
-- What is learned is what was done.
SELECT decisioning.record_outcome('buy', d.decision_id::text, d.customer_id) IS NOT NULL AS recorded, count(*)
FROM decisioning.decisions d WHERE d.shadow_action_id = 2 AND d.treatment_group = 'optimise' GROUP BY 1;
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SELECT model_version, new_decisions FROM decisioning.learn('c');
SELECT coefficient, abs(estimate) < 1e-6 AS unknown FROM decisioning.coefficients WHERE coefficient LIKE 'channel=___' OR coefficient = 'channel=email' ORDER BY 1;

-- Live: who was in shadow keeps his group, and the change is an epoch.
SELECT decisioning.start_campaign('c', mode => 'live');
SELECT operation, before ->> 'mode' AS before, after ->> 'mode' AS after FROM decisioning.epochs ORDER BY epoch DESC LIMIT 1;
CALL decisioning.decide_all('c');
SELECT d.treatment_group, count(*), count(d.shadow_action_id) AS shadows, count(*) FILTER (WHERE d.treatment_group <> s.treatment_group) AS moved
FROM decisioning.decisions d JOIN decisioning._assignment s USING (customer_id, campaign)
WHERE d.decided_at > '2026-06-02' GROUP BY 1 ORDER BY 1;

-- Ramp: part of the control group moves to optimise, in the order of buckets, dated. Nobody moves back.
SELECT decisioning.ramp_control('c', 0.25) AS moved;
SELECT decisioning.ramp_control('c', 0.25) AS moved;
SELECT decisioning.ramp_control('c', 0.2) AS moved;
UPDATE decisioning.campaigns SET control_ramped = 0;
SELECT decisioning.ramp_control('c', 1.5) AS moved;
SELECT control_ramped, ramped_at FROM decisioning.campaigns;
SELECT treatment_group, ramped_at, min(bucket) AS first, max(bucket) AS last, count(*) FROM decisioning._assignment
WHERE treatment_group = 'control' GROUP BY 1, 2 ORDER BY 2;
-- The decision of today stays; tomorrow they are treated as optimise, and so are new customers of these buckets.
SELECT reason, count(*) FROM decisioning.open_decisions o JOIN decisioning._assignment s USING (customer_id)
WHERE s.ramped_at IS NOT NULL GROUP BY 1;
INSERT INTO public.customers SELECT 'd-' || n, 30 FROM generate_series(1, 400) AS n;
SET decisioning.simulated_now = '2026-06-04 10:00+00';
CALL decisioning.decide_all('c');
SELECT s.treatment_group AS assigned, s.ramped_at, d.treatment_group, left(d.customer_id, 1) = 'd' AS new, count(*), max(s.bucket) AS last_bucket
FROM decisioning.decisions d JOIN decisioning._assignment s USING (customer_id, campaign)
WHERE d.decided_at > '2026-06-04' AND s.treatment_group = 'control' GROUP BY 1, 2, 3, 4 ORDER BY 2, 4;
SELECT p.treatment_group, count(*) FROM decisioning._assignment s, decisioning.preview(s.customer_id, 'c') AS p
WHERE s.treatment_group = 'control' AND p.action = 'no_send' GROUP BY 1 ORDER BY 1;
SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) AS r;
-- The groups are as they were drawn, and lift compares with the control customers who have not moved.
SELECT treatment_group, customers, balanced FROM decisioning.group_balance ORDER BY 1;
SELECT treated_group, baseline_group, treated_customers, baseline_customers FROM decisioning.lift('c')
WHERE treated_group = 'optimise' AND measure = 'conversion rate' ORDER BY 2;
SELECT baseline_customers FROM decisioning.lift('c', as_of => '2026-06-03 09:00+00')
WHERE treated_group = 'optimise' AND baseline_group = 'control' AND measure = 'conversion rate';

-- On evidence: learn takes the next step whenever optimise is better than control, and says why when it does not.
SET client_min_messages = notice;
SELECT decisioning.ramp_when_better('c', goal => 'nope');
SELECT decisioning.ramp_when_better('c', step => 0.5, confidence => 0.9);
SET decisioning.simulated_now = '2026-06-05 10:00+00';
SELECT new_decisions FROM decisioning.learn('c');
DO $$ BEGIN
    PERFORM decisioning.record_outcome('buy', 'better-' || s.customer_id, s.customer_id)
    FROM decisioning._assignment s WHERE s.treatment_group = 'optimise' AND s.bucket % 2 = 0 OR s.treatment_group = 'control' AND s.bucket % 9 = 0;
END $$;
SET decisioning.simulated_now = '2026-06-05 11:00+00';
SELECT new_outcomes > 0 AS learned FROM decisioning.learn('c');
SELECT control_ramped, ramped_at, ramp_step, ramp_goal FROM decisioning.campaigns;
-- Not again before an attribution window has passed; and the fewer are left in control, the longer it takes.
SELECT new_outcomes FROM decisioning.learn('c');
SET decisioning.simulated_now = '2026-06-06 12:00+00';
SELECT decisioning.ramp_when_better('c', step => NULL);
SELECT decisioning.ramp_when_better('c', step => 0.5);
SELECT count(*) FILTER (WHERE ramped_at IS NULL) AS left_in_control, count(DISTINCT ramped_at) AS steps
FROM decisioning._assignment WHERE treatment_group = 'control';
SELECT decisioning.create_campaign('d', 'public.customers', 'id') IS NOT NULL AS created;
SELECT decisioning.ramp_control('d', 0.5);
SELECT decisioning.start_campaign('c', mode => 'loud');
