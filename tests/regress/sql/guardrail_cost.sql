-- What guardrails cost: the responses that they keep from coming about, doubly robust, with what is known of the actions elsewhere.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
-- Members respond to a letter, and hardly without; others do not care.
CREATE TABLE public.customers AS
SELECT 'c-' || n AS customer_id, n % 2 = 0 AS member, n % 5 <> 0 AS consents, n % 7 <> 0 AS grown_up FROM generate_series(1, 3000) AS n;
CREATE TABLE public.history AS
SELECT 'h-' || n AS customer_id, n % 2 = 0 AS member, true AS consents, true AS grown_up,
       (ARRAY['no_send', 'letter', 'leaflet'])[1 + n % 3] AS action, 1 / 3.0 AS propensity,
       timestamptz '2026-04-01' + n * interval '1 minute' AS at
FROM generate_series(1, 6000) AS n;
CREATE TABLE public.bought (event_id text, customer_id text, at timestamptz);
CREATE FUNCTION public.rate(member boolean, action text) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN member AND action = 'letter' THEN 0.5 WHEN action = 'leaflet' THEN 0.15 ELSE 0.1 END
$$;
CREATE FUNCTION public.luck(id text) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$ SELECT abs(hashtext(id)::bigint) % 10000 / 10000.0 $$;
INSERT INTO public.bought SELECT 'o-' || customer_id, customer_id, at + interval '1 hour' FROM public.history WHERE public.luck(customer_id) < public.rate(member, action);
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
SELECT left(decisioning.create_campaign('spring', 'public.customers', 'customer_id', features => '{member}', holdout_share => 0.1, explore_share => 0.1, time_zone => 'UTC'), 8);
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000001';
SELECT decisioning.add_action('spring', action, message => action, channel => channel), decisioning.approve_action('spring', action)
FROM (VALUES ('letter', 'post'), ('leaflet', 'post')) AS a(action, channel);
SELECT decisioning.add_goal('purchase');
SELECT decisioning.add_campaign_goal('spring', 'purchase', attribution_window => '2 days');
SELECT decisioning.add_outcome_source('purchase', 'public.bought', customer_key => 'customer_id', occurred_at => 'at', event_id => 'event_id');
SELECT decisioning.import_decisions('spring', 'public.history', customer_key => 'customer_id', action => 'action', decided_at => 'at', propensity => 'propensity');
SELECT new_decisions FROM decisioning.learn('spring');
-- Never tried before, but from now on; and never at all.
SELECT decisioning.add_action('spring', 'call', message => 'call', channel => 'phone'), decisioning.approve_action('spring', 'call');
SELECT decisioning.set_consent_column('spring', 'consents', channel => 'post');
SELECT decisioning.add_eligibility_rule('spring', 'grown_up', '{"channel": "phone"}', 'only_if', 'adults');
SELECT decisioning.add_action('spring', 'visit', message => 'visit', channel => 'door'), decisioning.approve_action('spring', 'visit');
SELECT decisioning.add_eligibility_rule('spring', 'false', '{"channel": "door"}', 'only_if', 'nobody');
SELECT decisioning.start_campaign('spring');
CALL decisioning.decide_all('spring');
INSERT INTO public.bought
SELECT 'p-' || d.customer_id, d.customer_id, d.decided_at + interval '3 hours'
FROM decisioning.decisions d JOIN public.customers c USING (customer_id) WHERE d.origin = 'live' AND public.luck('x' || d.customer_id) < public.rate(c.member, d.action);

-- While attribution windows are open nothing is said.
SELECT decisioning.estimate_guardrail_costs('spring');
SELECT DISTINCT basis FROM decisioning.guardrail_funnel WHERE treatment_group = 'optimise' AND guardrail <> 'none';
SET decisioning.simulated_now = '2026-06-03 23:00+00';
SELECT decisioning.maintain();
SELECT DISTINCT basis FROM decisioning.guardrail_funnel WHERE treatment_group = 'optimise' AND guardrail <> 'none';
SET decisioning.simulated_now = '2026-06-04 01:00+00';
SELECT decisioning.maintain();
SELECT treatment_group, guardrail, decisions > 50 AS many, lost_responses IS NOT NULL AS estimated, basis
FROM decisioning.guardrail_funnel ORDER BY 1, 2;
-- By the rates that only this test knows: members without consent lose what the letter adds, and others nearly nothing. The policy
-- explores, so it would not always have sent the letter.
WITH truth AS (
    SELECT sum(public.rate(c.member, 'letter') - public.rate(c.member, d.action)) FILTER (WHERE c.member) AS most
    FROM decisioning.decisions d JOIN public.customers c USING (customer_id)
    WHERE d.treatment_group = 'optimise' AND d.removed ? 'consent: consents')
SELECT k.lost_responses BETWEEN 0.6 * t.most AND 1.1 * t.most AS near, k.lost_lower < t.most AS below, k.lost_lower < k.lost_upper AS has_width
FROM decisioning.guardrail_funnel k, truth t WHERE k.guardrail = 'consent: consents' AND k.treatment_group = 'optimise';
-- Nothing is estimated twice unless it is asked for.
SELECT count(*) AS estimates, max(model_version) = min(model_version) AS at_once FROM decisioning._guardrail_cost;
SELECT decisioning.maintain();
SELECT decisioning.estimate_guardrail_costs('spring');
SELECT decisioning.estimate_guardrail_costs('nothing');
DROP EXTENSION decisioning;
