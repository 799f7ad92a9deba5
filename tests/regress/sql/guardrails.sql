-- Guardrails: what nobody may be sent, when it may be sent, and how often. What they removed is in the log.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE TABLE public.customers AS
SELECT 'c-' || n AS customer_id, n % 90 AS age, n % 4 > 0 AS email_opt_in, n % 3 = 0 AS sms_opt_in,
       (ARRAY['Europe/Berlin', 'America/New_York', 'America/Chicago', 'nonsense'])[1 + n % 4] AS tz,
       (ARRAY['DE', 'US-FL', 'US-TX', NULL])[1 + n % 4] AS area, n IN (5, 9) AS recalled
FROM generate_series(1, 400) AS n;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SELECT left(decisioning.create_campaign('winback', 'public.customers', 'customer_id', time_zone => 'tz', features => '{age}',
       holdout_share => 0.1, explore_share => 0.6, offer_consistency => NULL), 40);
UPDATE decisioning.campaigns SET explore_no_send = 0, salt = '00000000-0000-4000-8000-000000000001', time_zone = 'Europe/Berlin';
SELECT decisioning.add_action('winback', 'hello_mail', message => 'hello', channel => 'email');
SELECT decisioning.add_action('winback', 'again_mail', message => 'again', channel => 'email', slot => 'evening');
SELECT decisioning.add_action('winback', 'hello_text', message => 'hello', channel => 'sms');
SELECT decisioning.add_action('winback', 'notice', message => 'recall', channel => 'email', category => 'service', transactional => true);
SELECT decisioning.approve_action('winback', action) FROM decisioning.actions ORDER BY action_id;
SELECT decisioning.add_goal('purchase');
SELECT decisioning.add_campaign_goal('winback', 'purchase');
SELECT decisioning.start_campaign('winback');

-- What is not meant is refused.
SELECT decisioning.add_eligibility_rule('winback', 'age > ');
SELECT decisioning.add_eligibility_rule('winback', 'height > 3');
SELECT decisioning.add_eligibility_rule('winback', 'age');
SELECT decisioning.add_eligibility_rule('winback', 'random() < 0.5');
SELECT decisioning.add_eligibility_rule('winback', 'age >= 18', actions => '{"channel": "fax"}');
SELECT decisioning.add_eligibility_rule('winback', 'age >= 18', actions => '["sms"]');
SELECT decisioning.add_eligibility_rule('winback', 'age >= 18', effect => 'maybe');
SELECT decisioning.set_consent_column('winback', 'age');
SELECT decisioning.add_frequency_cap(1, 'a while', 'winback');
SELECT decisioning.add_frequency_cap(-1, 'day', 'winback');
SELECT decisioning.add_frequency_cap(2, 'day', 'winback', ramp_from => 3, ramp_starts_at => now(), ramp_ends_at => now() + interval '1 day');
SELECT decisioning.set_quiet_hours('21:00', '08:00', 'winback', weekdays => '{someday}');
SELECT decisioning.add_quiet_hours_preset('moon');
-- What would never bind is refused, or told where it may be meant for later.
SET client_min_messages = notice;
SELECT decisioning.set_consent_column('winback', 'email_opt_in', 'emial');
SELECT decisioning.set_consent_column('winback', 'email_opt_in', '');
SELECT decisioning.add_consent_source('public.customers', 'customer_id', 'email_opt_in', channel => 'Email', campaign => 'winback');
SET client_min_messages = warning;
SELECT decisioning.suppress('c-1', channel => '');
BEGIN;
SET LOCAL client_min_messages = notice;
SELECT decisioning.suppress('c-1', channel => 'emial');
ROLLBACK;
SELECT decisioning.set_quiet_hours('00:00', '24:00', 'winback', weekdays => '{}');
SELECT decisioning.set_quiet_hours('00:00', '24:00', 'winback', weekdays => '{NULL}');
SELECT decisioning.set_quiet_hours('22:00', '08:00', actions => '{"chanel": "email"}');
SELECT decisioning.add_frequency_cap(1, 'week', actions => '{"chanel": "email"}');
SELECT decisioning.add_frequency_cap(1, 'week', 'winback', per => 'massage');
SELECT decisioning.add_frequency_cap(1, 'week', per => 'massage');
BEGIN;
SET LOCAL client_min_messages = notice;
SELECT decisioning.add_frequency_cap(1, 'week', actions => '{"channel": "fax"}');
ROLLBACK;
SELECT decisioning.add_order_rule('winback', '{"message": "again"}', 'before', '{"message": "hello"}');
SELECT decisioning.set_goal_exit('winback', 'purchase', 'cool_down');
SELECT decisioning.set_send_options('winback', fallback_time_zone => 'Mars/Olympus');
SELECT decisioning.remove_guardrail('frequency_caps', 'nothing');
SELECT decisioning.remove_guardrail('campaigns', 'winback');
\set VERBOSITY terse
INSERT INTO decisioning.frequency_caps (cap, actions, maximum, period) VALUES ('x', '{"channel": 3}', 1, 'day');
\set VERBOSITY default

-- Who has not consented gets nothing on that channel; who must be told of the recall gets nothing else; nobody under 18 gets a text.
SELECT decisioning.set_consent_column('winback', 'email_opt_in', 'email');
SELECT decisioning.set_consent_column('winback', 'sms_opt_in', 'sms');
SELECT decisioning.add_eligibility_rule('winback', 'age >= 18', actions => '{"channel": "sms"}', rule => 'adults');
SELECT decisioning.add_eligibility_rule('winback', 'recalled', actions => '{"category": "service"}', effect => 'must_send', rule => 'recall');
SELECT decisioning.add_eligibility_rule('winback', 'recalled', actions => '{"message": "recall"}', rule => 'only the recalled');
SELECT action, candidate, removed_by FROM decisioning.preview('c-2', 'winback');
SELECT action, candidate, removed_by, propensity FROM decisioning.preview('c-9', 'winback');
SELECT relation, operation, after ->> 'rule' AS rule FROM decisioning.epochs WHERE relation = 'eligibility_rules' ORDER BY epoch;

-- Suppressed: by hand, for a channel or altogether, until a time or for good.
SELECT decisioning.suppress('c-1', channel => 'email', reason => 'asked on the phone');
SELECT decisioning.suppress('c-3', until => '2026-06-04 00:00+00');
SELECT action, removed_by FROM decisioning.preview('c-1', 'winback');
SELECT action, removed_by FROM decisioning.preview('c-3', 'winback');
SELECT decisioning.suppress('c-3', until => '2026-06-03 12:00+00');
SELECT customer_id, campaign, channel, suppressed_until, reason FROM decisioning.suppressions ORDER BY 1;
SELECT decisioning.lift_suppression('c-1'), decisioning.lift_suppression('c-1', channel => 'email');
SELECT action, removed_by FROM decisioning.preview('c-1', 'winback') WHERE candidate;

-- Quiet hours are those of the customer, and of where he is; without a known zone nothing is sent that keeps them.
SELECT decisioning.set_send_options('winback', jurisdiction_column => 'area', send_horizon => '12 hours');
SELECT decisioning.set_quiet_hours('21:00', '08:00', 'winback');
SELECT decisioning.add_quiet_hours_preset('us_calls_and_texts', 'winback', '{"channel": "sms"}');
SELECT rule, jurisdiction, starts, ends, weekdays FROM decisioning.quiet_hours ORDER BY 1;
-- It is 12:00 in Berlin (c-24), 6:00 in New York (c-21), 5:00 in Chicago (c-6), and who knows (c-3).
SELECT customer_id, action, removed_by FROM unnest('{c-24, c-21, c-6, c-27}'::text[]) AS customer_id,
       LATERAL decisioning.preview(customer_id, 'winback') WHERE removed_by LIKE 'quiet%' ORDER BY 1, 2;
SELECT DISTINCT tz, d.action, d.send_at AT TIME ZONE CASE tz WHEN 'nonsense' THEN 'UTC' ELSE tz END AS local
FROM public.customers c, LATERAL decisioning.decide(c.customer_id, 'winback') AS d
WHERE d.action <> 'no_send' AND c.customer_id NOT IN ('c-5', 'c-9') ORDER BY 1, 2, 3;
SELECT d.customer_id, action, propensity, reason, treatment_group FROM unnest('{c-5, c-9}'::text[]) AS c(id), LATERAL decisioning.decide(c.id, 'winback') d;
SELECT count(*), count(*) FILTER (WHERE treatment_group = 'holdout' AND action <> 'no_send') AS holdout_sent,
       bool_and(abs((SELECT sum(p) FROM unnest(propensities) p) - 1) < 1e-9) AS adds_up,
       count(*) FILTER (WHERE NOT (SELECT r.matches FROM decisioning.replay(d.decision_id) r)) AS not_replayed
FROM decisioning.decisions d;
-- Everybody is in the experiment, whatever he may be sent; who may not be sent anything lawfully is not of the primary population.
SELECT treatable, count(*) FROM decisioning.assignments GROUP BY 1 ORDER BY 1;
SELECT guardrail, sum(decisions) AS decisions, sum(removed_candidates) AS removed, sum(without_any_send) AS silenced
FROM decisioning.guardrail_funnel GROUP BY 1 ORDER BY 1;
SELECT subject, explanation FROM decisioning.explain((SELECT decision_id FROM decisioning.decisions WHERE customer_id = 'c-2')) WHERE subject = 'removed';

-- Caps. Yesterday's sends count, though the cap is set today.
SET decisioning.simulated_now = '2026-06-04 10:00+00';
SELECT decisioning.add_frequency_cap(1, '30 hours', 'winback', cap => 'cool-down');
CALL decisioning.decide_all('winback');
SELECT count(*) AS too_soon FROM decisioning.decisions a JOIN decisioning.decisions b USING (customer_id)
WHERE a.decision_id < b.decision_id AND a.action <> 'no_send' AND b.action NOT IN ('no_send', 'notice') AND b.send_at < a.send_at + interval '30 hours';
SELECT guardrail, sum(removed_candidates) > 100 AS many FROM decisioning.guardrail_funnel WHERE guardrail LIKE 'cap%' GROUP BY 1;
-- A message only twice ever, each for itself; and the second message only after the first.
SELECT decisioning.remove_guardrail('frequency_caps', 'cool-down');
SELECT decisioning.add_frequency_cap(2, 'ever', 'winback', per => 'message', cap => 'twice');
SELECT decisioning.add_order_rule('winback', '{"message": "again"}', 'only_after', '{"message": "hello"}', rule => 'hello first');
SET decisioning.simulated_now = '2026-06-05 10:00+00';
CALL decisioning.decide_all('winback');
SET decisioning.simulated_now = '2026-06-06 10:00+00';
CALL decisioning.decide_all('winback');
SELECT max(n) AS most FROM (SELECT count(*) AS n FROM decisioning.decisions d JOIN decisioning.actions a USING (campaign, action)
                            WHERE a.message <> 'recall' GROUP BY d.customer_id, a.message) AS s;
SELECT count(*) AS again_without_hello FROM decisioning.decisions d
WHERE d.action = 'again_mail' AND d.decided_at >= '2026-06-05' AND NOT EXISTS (
    SELECT FROM decisioning.decisions h WHERE h.customer_id = d.customer_id AND h.action LIKE 'hello%' AND h.send_at <= d.send_at);
SELECT guardrail, sum(removed_candidates) > 0 AS removed FROM decisioning.guardrail_funnel
WHERE guardrail ~ '^(cap|order)' GROUP BY 1 ORDER BY 1;

-- Over all campaigns: the sends of another campaign count, but for those that the customer waits for.
SELECT left(decisioning.create_campaign('news', 'public.customers', 'customer_id', time_zone => 'tz', features => '{age}',
       holdout_share => 0, explore_share => 1), 20);
UPDATE decisioning.campaigns SET explore_no_send = 0, salt = '00000000-0000-4000-8000-000000000002' WHERE campaign = 'news';
SELECT decisioning.add_action('news', 'letter', message => 'letter', channel => 'email');
SELECT decisioning.add_action('news', 'card', message => 'card', channel => 'post');
SELECT decisioning.approve_action('news', action) FROM decisioning.actions WHERE campaign = 'news' ORDER BY action_id;
SELECT decisioning.add_campaign_goal('news', 'purchase');
SELECT decisioning.start_campaign('news');
SELECT decisioning.add_frequency_cap(1, 'day', actions => '{"channel": "email"}', cap => 'one mail a day');
CALL decisioning.decide_all('news');
SELECT d.action, exists(SELECT FROM decisioning.decisions w JOIN decisioning.actions a USING (campaign, action)
                        WHERE w.campaign = 'winback' AND w.customer_id = d.customer_id AND a.channel = 'email' AND NOT a.transactional
                          AND (w.send_at AT TIME ZONE CASE c.tz WHEN 'nonsense' THEN 'Europe/Berlin' ELSE c.tz END)::date
                            = (d.send_at AT TIME ZONE CASE c.tz WHEN 'nonsense' THEN 'Europe/Berlin' ELSE c.tz END)::date) AS had_mail,
       count(*) > 0 AS some
FROM decisioning.decisions d JOIN public.customers c USING (customer_id) WHERE d.campaign = 'news' GROUP BY 1, 2 ORDER BY 1, 2;

-- Who has reached the goal leaves.
SELECT decisioning.set_goal_exit('winback', 'purchase', 'cool_down', '3 days');
SELECT decisioning.record_outcome('purchase', event_id => 'o-1', customer_id => 'c-24', occurred_at => '2026-06-06 09:00+00');
SET decisioning.simulated_now = '2026-06-07 10:00+00';
SELECT DISTINCT removed_by FROM decisioning.preview('c-24', 'winback') WHERE action <> 'no_send' AND action <> 'notice';
SET decisioning.simulated_now = '2026-06-09 10:00+00';
SELECT count(*) FROM decisioning.preview('c-24', 'winback') WHERE removed_by LIKE 'goal%';

-- Consents in a relation of their own: no row is no consent, and one refusal is enough.
CREATE TABLE public.consents (customer text, channel text, granted boolean);
INSERT INTO public.consents VALUES ('c-24', 'email', true), ('c-12', 'email', true), ('c-12', 'email', false), ('c-9', 'post', true);
SELECT decisioning.add_consent_source('public.consents', 'customer', 'granted', channel_column => 'channel', campaign => 'news');
SELECT customer_id, action, removed_by FROM unnest('{c-24, c-12, c-9, c-33}'::text[]) AS customer_id,
       LATERAL decisioning.preview(customer_id, 'news') WHERE action <> 'no_send' ORDER BY 1, 2;
-- The user's tables may change.
ALTER TABLE public.consents DROP COLUMN granted;
SELECT decisioning.decide('c-24', 'news');
DROP TABLE public.consents;
SELECT decisioning.decide('c-24', 'news');
SELECT decisioning.remove_guardrail('consent_sources', 'consents');
SELECT action FROM decisioning.decide('c-24', 'news');
