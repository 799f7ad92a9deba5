-- What has been learned, to be looked at: coefficients in words, calibration, variety. And a score of your own as the start.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
-- A model elsewhere says how likely each customer is to buy; one in ten it does not know.
CREATE TABLE public.customers AS
SELECT 'c-' || n AS id, n % 90 AS age, n AS number, 'x' AS letter, CASE WHEN n % 10 > 0 THEN (n * 37 % 60) / 100.0 END AS score
FROM generate_series(1, 4000) AS n;
SELECT decisioning.create_campaign('c', 'public.customers', 'id', offset_column => 'nope');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', offset_column => 'letter');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', offset_column => 'number');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', offset_column => 'score', offset_scale => 'percent');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', features => '{age}', offset_column => 'score',
       explore_share => 0.5) IS NOT NULL AS created;
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000004';
SELECT decisioning.add_action_grid('c', '{"channel": ["email", "sms"]}'),
       decisioning.approve_action('c', 'email'), decisioning.approve_action('c', 'sms');
SELECT decisioning.add_goal('buy'), decisioning.add_campaign_goal('c', 'buy', attribution_window => '1 day'),
       decisioning.start_campaign('c');
SELECT f FROM decisioning._encoder, jsonb_array_elements(definition -> 'features') f;
-- Before anything is learned, the score is what the model says of no_send; without one it is the audience's median.
SELECT c.id, c.score, round(p.probability::numeric, 4) AS probability
FROM public.customers c, decisioning.preview(c.id, 'c') p
WHERE p.action = 'no_send' AND c.id IN ('c-1', 'c-2', 'c-10', 'c-60') ORDER BY 1;
-- The offset is logged with the context, last; it can be given by the caller too.
SELECT customer_id FROM decisioning.decide('c-1', 'c');
SELECT customer_id FROM decisioning.decide('c-2', 'c', '{"score": 0.5}');
SELECT customer_id, context, encoded[4] AS log_odds FROM decisioning.decisions ORDER BY 1;
SELECT subject, explanation, round(number::numeric, 4) AS number
FROM decisioning.explain((SELECT decision_id FROM decisioning.decisions WHERE customer_id = 'c-1')) WHERE subject = 'offset';

-- Four days. The score is right but for the young, who buy more; sms adds to it.
CREATE PROCEDURE public.live(day date) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('decisioning.simulated_now', day || ' 10:00+00', false);
    CALL decisioning.decide_all('c');
    PERFORM decisioning.record_outcome('buy', d.decision_id::text, d.customer_id, occurred_at => d.decided_at + interval '1 hour')
    FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id
    WHERE d.decided_at::date = day AND (hashtext(d.customer_id || day) & 1023) / 1024.0
          < 1 / (1 + exp(-(ln((coalesce(c.score, 0.3) + 1e-9) / (1 - coalesce(c.score, 0.3))) + CASE WHEN c.age < 30 THEN 1 ELSE 0 END
                           + CASE d.action WHEN 'sms' THEN 0.7 ELSE 0 END)));
    PERFORM set_config('decisioning.simulated_now', day + 1 || ' 10:00+00', false);
    PERFORM decisioning.learn('c');
END $$;
CALL public.live('2026-06-01');
CALL public.live('2026-06-02');
CALL public.live('2026-06-03');
CALL public.live('2026-06-04');
SELECT model_version, parts, decisions, current FROM decisioning.models ORDER BY 1;
SELECT in_words FROM decisioning.coefficients WHERE campaign = 'c' ORDER BY coefficient;
-- Is what was predicted what happened? The first version knew the score alone, the others learned the rest.
SELECT bin, decisions, round(predicted::numeric, 3) AS predicted, round(observed::numeric, 3) AS observed,
       round(lower::numeric, 3) AS lower, round(upper::numeric, 3) AS upper, calibrated
FROM decisioning.calibration('c', since => '2026-06-02', bins => 5);
SELECT count(*) AS bins, sum(decisions) AS decisions FROM decisioning.calibration WHERE campaign = 'c';
SELECT * FROM decisioning.calibration('c', bins => 0);
SELECT * FROM decisioning.calibration('c', confidence => 1);
-- Does the policy still vary?
SELECT day, decisions, round(entropy::numeric, 2) AS entropy, round(effective_actions::numeric, 2) AS effective_actions,
       round(candidates::numeric, 2) AS candidates, most_frequent_action, round(most_frequent_share::numeric, 2) AS share, collapsed
FROM decisioning.policy_entropy WHERE campaign = 'c' ORDER BY day;
-- Everything is reproducible from the log.
SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r;
CREATE TABLE incremental AS SELECT action, probability FROM decisioning.preview('c-42', 'c');
SELECT model_version, decisions FROM decisioning.rebuild_model('c');
SELECT avg(abs(i.probability / p.probability - 1)) < 0.02 AS within_two_percent
FROM incremental i JOIN decisioning.preview('c-42', 'c') p USING (action);
-- Without the offset it is a column like any other, and everything is fitted anew.
UPDATE decisioning.campaigns SET offset_column = NULL, features = '{age, score}';
SELECT new_decisions, decisions FROM decisioning.learn('c');
SELECT in_words FROM decisioning.coefficients WHERE campaign = 'c' AND coefficient LIKE 'base%' ORDER BY coefficient;
