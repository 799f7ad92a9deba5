-- The loop: configure, decide, record, learn, measure. The ten lines of the README, on a small shop.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE TABLE public.customers AS
SELECT 'c-' || n AS customer_id, n % 90 AS age, (ARRAY['Bern', 'Rom', 'Wien'])[1 + n % 3] AS city, n % 2 = 0 AS member,
       timestamptz '2026-01-01' - n * interval '1 hour' AS last_order_at, 'Europe/Berlin' AS tz
FROM generate_series(1, 2000) AS n;
CREATE TABLE public.orders (order_id text PRIMARY KEY, customer_id text, ordered_at timestamptz, margin numeric);

CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
SELECT decisioning.create_campaign('winback', customers => 'public.customers', customer_key => 'customer_id',
       audience => 'last_order_at < now() - interval ''60 days''', time_zone => 'tz');
-- The salt is random; a fixed one makes this test repeatable.
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000001';
SELECT decisioning.add_action_grid('winback', '{"message": ["we_miss_you", "new_in"], "offer": ["none", "10_percent"],
       "channel": ["email", "sms"], "slot": ["morning", "evening"]}', excluded => '[{"channel": "sms", "message": "new_in"}]');
SELECT decisioning.approve_action('winback', action) FROM decisioning.actions WHERE campaign = 'winback' ORDER BY action_id;
SELECT decisioning.add_goal('purchase', kind => 'value');
SELECT decisioning.add_campaign_goal('winback', 'purchase', attribution_window => '7 days');
SELECT decisioning.add_outcome_source('purchase', 'public.orders', customer_key => 'customer_id', occurred_at => 'ordered_at',
       value => 'margin', event_id => 'order_id');
SELECT decisioning.start_campaign('winback');
CALL decisioning.decide_all('winback');
SELECT treatment_group, count(*) FROM decisioning.open_decisions WHERE campaign = 'winback' GROUP BY 1 ORDER BY 1;

-- One at a time: the same row again, whatever the context.
SELECT customer_id, treatment_group, action, message, offer, channel, slot, dimensions, send_at, round(propensity::numeric, 6) AS propensity, reason, expires_at
FROM decisioning.decide('c-1042', 'winback');
SELECT a.decision_id = b.decision_id AS same
FROM decisioning.decide('c-1042', 'winback') a, decisioning.decide('c-1042', 'winback', '{"age": 99}') b;
-- Outside of the audience there is a row without an action, and nothing is logged.
SELECT * FROM decisioning.decide('nobody', 'winback');
SELECT * FROM decisioning.decide('nobody', 'winback', strict => true);
SELECT count(*) FROM decisioning.decisions WHERE customer_id = 'nobody';
SELECT customer_id, reason, action IS NULL AS no_action FROM decisioning.decide_batch(ARRAY['c-2', 'nobody', 'c-2'], 'winback');

-- Every propensity vector adds up, and the logged propensity is that of the action.
SELECT count(*) AS decisions,
       count(*) FILTER (WHERE abs((SELECT sum(p) FROM unnest(propensities) p) - 1) > 1e-9) AS wrong_sum,
       count(*) FILTER (WHERE propensities[array_position(candidates, action_id)] <> propensity) AS wrong_choice,
       count(*) FILTER (WHERE treatment_group = 'holdout' AND (action <> 'no_send' OR propensity <> 1)) AS contacted_holdout
FROM decisioning.decisions;

-- What happened: once by hand, twice the same is once, a new value is an adjustment.
SELECT decisioning.record_outcome('purchase', event_id => 'o-77', customer_id => 'c-1042', value => 31.50);
SELECT decisioning.record_outcome('purchase', event_id => 'o-77', customer_id => 'c-1042', value => 31.50);
SELECT decisioning.record_outcome('purchase', event_id => 'o-77', customer_id => 'c-1042', value => 30.00);
SELECT kind, events, value FROM decisioning.outcomes ORDER BY outcome_id;
-- And read in place from the shop's own table.
INSERT INTO public.orders
SELECT 'p-' || n, 'c-' || n, timestamptz '2026-06-02 12:00+00', 10 + n % 5 FROM generate_series(1, 2000, 7) AS n;
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SELECT * FROM decisioning.ingest_outcomes();
UPDATE public.orders SET margin = 99 WHERE order_id = 'p-1';
DELETE FROM public.orders WHERE order_id = 'p-8';
SELECT * FROM decisioning.ingest_outcomes('purchase');
SELECT * FROM decisioning.ingest_outcomes('purchase');
SELECT count(*) FILTER (WHERE kind = 'event') AS events, sum(events) AS current_events, round(sum(value)::numeric, 2) AS value FROM decisioning.outcomes;

-- Nothing is learned before the windows close; then everything is, once.
SELECT * FROM decisioning.learn('winback');
SET decisioning.simulated_now = '2026-06-09 10:00+00';
SELECT * FROM decisioning.learn('winback');
SELECT * FROM decisioning.learn('winback');
SELECT count(*) AS waiting FROM decisioning._inbox;
-- A late correction is absorbed without refitting: the purchase of a customer goes away.
SELECT decisioning.record_outcome('purchase', event_id => 'late', customer_id => 'c-2', value => 5, occurred_at => '2026-06-04 12:00+00');
SELECT model_version, new_decisions, new_outcomes, decisions, outcomes FROM decisioning.learn('winback');
SELECT (SELECT decisions FROM decisioning.models WHERE current) = (SELECT count(*) FROM decisioning.decisions) AS all_decisions,
       (SELECT outcomes FROM decisioning.models WHERE current) = (SELECT count(*) FROM decisioning.outcomes) AS all_outcomes;
SELECT model_version, parts, decisions, outcomes, worth_unit IS NOT NULL AS counted, current FROM decisioning.models ORDER BY 1;

-- The rebuilt model agrees with the incremental one.
CREATE TABLE incremental AS SELECT action, probability FROM decisioning.preview('c-42', 'winback');
SELECT * FROM decisioning.rebuild_model('winback');
SELECT avg(abs(i.probability / p.probability - 1)) < 0.02 AS within_two_percent
FROM incremental i JOIN decisioning.preview('c-42', 'winback') p USING (action);

-- Looking into decisions.
SELECT action, candidate, removed_by, treatment_group, propensity > 0 AS possible FROM decisioning.preview('c-42', 'winback') LIMIT 3;
SELECT removed_by, count(*) FROM decisioning.preview('nobody', 'winback') GROUP BY 1;
SELECT bool_and(r.matches), count(*) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r;
SELECT step, subject, left(explanation, 60) FROM decisioning.explain((SELECT decision_id FROM decisioning.decisions WHERE treatment_group = 'holdout' ORDER BY customer_id LIMIT 1));
SELECT campaign, model_version, part, count(*) AS coefficients FROM decisioning.coefficients GROUP BY 1, 2, 3 ORDER BY 3;

-- Measuring.
SELECT campaign, treatment_group, customers, balanced FROM decisioning.group_balance ORDER BY 2;
SELECT goal, treated_group, baseline_group, measure, treated_customers, baseline_customers, round(treated_mean::numeric, 4) AS treated,
       round(baseline_mean::numeric, 4) AS baseline, lower < absolute_lift AND absolute_lift < upper AS inside, verdict
FROM decisioning.lift('winback') WHERE baseline_group = 'holdout' ORDER BY 1, 2, 4;

-- The next day is a new decision; groups stay.
SET decisioning.simulated_now = '2026-06-10 10:00+00';
CALL decisioning.decide_all('winback', chunk_size => 300);
SELECT count(*) AS customers, count(DISTINCT d.treatment_group) FILTER (WHERE d.treatment_group <> s.treatment_group) AS moved, min(s.ordinal), max(s.ordinal)
FROM decisioning.decisions d JOIN decisioning._assignment s USING (customer_id, campaign);
SELECT overlap, count(*) FROM decisioning.decisions GROUP BY 1 ORDER BY 1;
