-- Fairness: who gets which level, across an attribute that the model does not see.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE TABLE public.customers AS
SELECT 'c-' || n AS customer_id, n % 90 AS age, CASE WHEN n > 1990 THEN 'x' WHEN n % 2 = 0 THEN 'f' ELSE 'm' END AS sex,
       nullif(n % 3, 0) AS region, n % 2 = 0 AS may_ten
FROM generate_series(1, 2000) AS n;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
SELECT left(decisioning.create_campaign('winback', 'public.customers', 'customer_id', features => '{age}', holdout_share => 0.1, explore_share => 0.1, time_zone => 'UTC'), 40);
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000001';
SELECT decisioning.add_action('winback', 'plain', message => 'hello', channel => 'email');
SELECT decisioning.add_action('winback', 'ten', message => 'hello', offer => '10_percent', channel => 'email');
SELECT decisioning.approve_action('winback', action) FROM decisioning.actions ORDER BY action_id;
SELECT decisioning.add_goal('purchase');
SELECT decisioning.add_campaign_goal('winback', 'purchase');
-- A rule that is not about sex, and keeps one from the offer all the same: who must be sent it is mostly f.
SELECT decisioning.add_eligibility_rule('winback', 'may_ten', '{"offer": "10_percent"}', 'must_send', 'ten');
SELECT decisioning.start_campaign('winback');
CALL decisioning.decide_all('winback');

-- As counted from the log by hand.
SELECT value, level, customers, got, round(share::numeric, 3) AS share, round(lower::numeric, 3) AS lower, round(upper::numeric, 3) AS upper,
       round(ratio::numeric, 3) AS ratio, verdict FROM decisioning.fairness('winback', 'sex');
SELECT c.sex, count(*) AS customers, count(*) FILTER (WHERE d.action = 'ten') AS got
FROM decisioning.decisions d JOIN public.customers c USING (customer_id) WHERE d.treatment_group = 'optimise' GROUP BY 1 ORDER BY 1;
SELECT value, round(ratio::numeric, 3) AS ratio, verdict FROM decisioning.fairness('winback', 'sex', reference => 'm');
SELECT value, verdict FROM decisioning.fairness('winback', 'sex', minimum_customers => 5, minimum_ratio => 0.1);
-- What has nothing to do with it is fair; customers whose value is not known are a value.
SELECT value, level, verdict FROM decisioning.fairness('winback', 'region');
SELECT DISTINCT level FROM decisioning.fairness('winback', 'region', 'channel');
SELECT count(*) FROM decisioning.fairness('winback', 'sex', since => '2026-07-01');

-- What is not meant is refused.
SELECT * FROM decisioning.fairness('winback', 'age');
SELECT * FROM decisioning.fairness('winback', 'height');
SELECT * FROM decisioning.fairness('winback', 'sex', 'colour');
SELECT * FROM decisioning.fairness('winback', 'sex', reference => 'q');
SELECT * FROM decisioning.fairness('winback', 'sex', minimum_ratio => 2);
SELECT * FROM decisioning.fairness('nobody', 'sex');
-- The customers are read with the rights of the caller.
CREATE ROLE fairness_reader;
SELECT decisioning.grant_rights('fairness_reader', 'reader');
SET ROLE fairness_reader;
SELECT * FROM decisioning.fairness('winback', 'sex');
RESET ROLE;
GRANT SELECT ON public.customers TO fairness_reader;
SET ROLE fairness_reader;
SELECT count(*) FROM decisioning.fairness('winback', 'sex');
RESET ROLE;

-- As a guardrail: what is adverse is alerted on, pauses the campaign, and keeps it from being resumed and ramped until somebody says why.
SELECT decisioning.set_fairness_guardrail('winback', 'age');
SELECT decisioning.set_fairness_guardrail('winback', 'sex', response => 'shout');
SELECT decisioning.set_fairness_guardrail('winback', 'sex', minimum_ratio => 0);
SELECT decisioning.set_fairness_guardrail('winback', 'region');
SELECT * FROM decisioning.check_fairness('winback');
SELECT decisioning.set_fairness_guardrail('winback', 'sex', response => 'alert');
SET client_min_messages = warning;
SELECT attribute, value, level, customers, round(share::numeric, 3) AS share, round(ratio::numeric, 3) AS ratio, outcome FROM decisioning.check_fairness('winback');
SELECT status FROM decisioning.campaigns;
SELECT decisioning.set_fairness_guardrail('winback', 'sex');
SELECT decisioning.maintain();
SELECT status FROM decisioning.campaigns;
SELECT attribute, dimension, value, level, alerted_on, customers, outcome FROM decisioning.fairness_alerts;
SELECT decisioning.start_campaign('winback');
UPDATE decisioning.campaigns SET control_share = 0.1, control_action = 'plain';
SELECT decisioning.ramp_control('winback', 0.5);
SELECT decisioning.override_fairness('winback', 'sex', reason => ' ');
SELECT decisioning.override_fairness('winback', 'height', reason => 'because');
SELECT decisioning.override_fairness('winback', 'sex', reason => 'Membership decides who must be sent it; reviewed by legal.');
SELECT decisioning.start_campaign('winback');
SELECT decisioning.ramp_control('winback', 0.5);
SELECT decisioning.maintain();
SELECT status FROM decisioning.campaigns;
SELECT outcome FROM decisioning.fairness_alerts ORDER BY alert;
SELECT changed_by = current_user AS by_me, changes FROM decisioning.configuration_changes WHERE relation = 'fairness_guardrails' AND changes ? 'override_reason';
-- It does not last for ever, nor is it part of a document.
SELECT jsonb_pretty(decisioning.export_configuration('winback') -> 'fairness_guardrails');
SELECT count(*) FROM decisioning.configure(decisioning.export_configuration('winback'));
SET decisioning.simulated_now = '2026-07-02 10:00+00';
SELECT decisioning.maintain();
SELECT alerted_on, outcome FROM decisioning.fairness_alerts ORDER BY alert;
SELECT decisioning.remove_fairness_guardrail('winback', 'sex');
SELECT decisioning.remove_fairness_guardrail('winback', 'sex');
SELECT decisioning.start_campaign('winback');
-- One that cannot be looked at is a warning of maintain, and keeps nothing else from being done.
UPDATE decisioning.campaigns SET features = NULL;
SELECT * FROM decisioning.fairness('winback', 'sex');
SELECT decisioning.maintain();
DROP EXTENSION decisioning;
DROP OWNED BY fairness_reader; DROP ROLE fairness_reader;
