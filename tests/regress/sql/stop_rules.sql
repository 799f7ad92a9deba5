-- Stop rules: an alarm about harm, or a campaign that pauses by itself; looked at as often as one likes.
\set VERBOSITY default
SET client_min_messages = error;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE TABLE public.customers AS SELECT 'c-' || n AS customer_id, n % 7 AS kind FROM generate_series(1, 6000) AS n;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
SELECT left(decisioning.create_campaign('winback', 'public.customers', 'customer_id', holdout_share => 0.4, explore_share => 0.2), 18);
SELECT decisioning.add_action('winback', 'mail', channel => 'email');
SELECT decisioning.approve_action('winback', 'mail');
SELECT decisioning.add_goal('purchase'), decisioning.add_goal('unsubscribe', 'harm'), decisioning.add_goal('open', 'engagement');
SELECT decisioning.add_campaign_goal('winback', 'purchase'), decisioning.add_campaign_goal('winback', 'unsubscribe'), decisioning.add_campaign_goal('winback', 'open');
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000001';
SELECT decisioning.start_campaign('winback');
SELECT decisioning.add_stop_rule('winback', 'nothing');
SELECT decisioning.add_stop_rule('winback', 'open');
SELECT decisioning.add_stop_rule('winback', 'purchase', tolerated => 2);
SELECT decisioning.add_stop_rule('winback', 'purchase', response => 'panic');
SELECT decisioning.add_stop_rule('winback', 'purchase');
SELECT decisioning.add_stop_rule('winback', 'unsubscribe', tolerated => 0.05, response => 'pause');
CALL decisioning.decide_all('winback');

-- Nothing has happened: there is nothing to say.
SELECT * FROM decisioning.check_stop_rules('winback');
SET decisioning.simulated_now = '2026-06-01 11:00+00';
-- Three in a hundred of those who were contacted unsubscribe: more than nobody, but tolerated. Purchases are about as many.
SELECT decisioning.record_outcomes('purchase', array_agg('o-' || n), array_agg('c-' || n)) FROM generate_series(1, 6000, 10) AS n;
SELECT decisioning.record_outcomes('unsubscribe', array_agg('u-' || a.customer_id), array_agg(a.customer_id))
FROM decisioning.assignments a WHERE a.treatment_group = 'optimise' AND substr(a.customer_id, 3)::int % 33 = 0;
SET decisioning.simulated_now = '2026-06-01 12:00+00';
SELECT stop_rule, treated_group, baseline_group, difference::numeric(6,4), lower < 0 AS maybe_none, breached FROM decisioning.check_stop_rules('winback');
SELECT count(*) FROM decisioning.stop_alerts;
-- They buy less than those who are left alone: an alarm, once a day.
SELECT decisioning.record_outcomes('purchase', array_agg('p-' || a.customer_id), array_agg(a.customer_id))
FROM decisioning.assignments a WHERE a.treatment_group = 'holdout' AND substr(a.customer_id, 3)::int % 8 = 0;
SET decisioning.simulated_now = '2026-06-01 13:00+00';
SELECT stop_rule, difference::numeric(6,4), upper < 0 AS beyond_doubt, breached FROM decisioning.check_stop_rules();
SELECT breached FROM decisioning.check_stop_rules('winback');
SELECT stop_rule, goal, alerted_on, treated_group, baseline_group, treated_rate::numeric(6,4), baseline_rate::numeric(6,4), paused FROM decisioning.stop_alerts;
SELECT status FROM decisioning.campaigns;
-- Ever more unsubscribe: maintain notices, and the campaign pauses.
SELECT decisioning.record_outcomes('unsubscribe', array_agg('v-' || a.customer_id), array_agg(a.customer_id))
FROM decisioning.assignments a WHERE a.treatment_group = 'optimise' AND substr(a.customer_id, 3)::int % 8 = 0;
SET decisioning.simulated_now = '2026-06-02 10:00+00';
SET client_min_messages = warning;
SELECT decisioning.maintain();
SET client_min_messages = error;
SELECT stop_rule, alerted_on, paused FROM decisioning.stop_alerts ORDER BY alert;
SELECT status FROM decisioning.campaigns;
SELECT relation, operation, before ->> 'status' AS before, after ->> 'status' AS after FROM decisioning.epochs WHERE relation = 'campaigns' ORDER BY epoch DESC LIMIT 1;
SELECT * FROM decisioning.decide('c-1', 'winback');
SELECT * FROM decisioning.check_stop_rules();
SELECT decisioning.remove_stop_rule('winback', 'unsubscribe');
SELECT decisioning.remove_stop_rule('winback', 'unsubscribe');
