-- Priority: of campaigns that compete for what a cap over all campaigns leaves, the one with more at stake gets it.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE TABLE public.customers AS SELECT 'c-' || n AS customer_id, n % 7 AS visits FROM generate_series(1, 30) AS n;
-- Of who was sent something half respond, of others a tenth.
CREATE TABLE public.history AS
SELECT 'h-' || n AS customer_id, n % 7 AS visits, CASE WHEN n % 2 = 0 THEN 'mail' ELSE 'no_send' END AS action, 0.5 AS propensity,
       timestamptz '2026-04-01' + n * interval '1 minute' AS at
FROM generate_series(1, 2000) AS n;
CREATE VIEW public.bought AS
SELECT 'o-' || customer_id AS event_id, customer_id, at + interval '1 hour' AS at FROM public.history
WHERE abs(hashtext(customer_id)::bigint) % 10 < CASE action WHEN 'mail' THEN 5 ELSE 1 END;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SELECT decisioning.add_goal('purchase');
SELECT decisioning.add_outcome_source('purchase', 'public.bought', customer_key => 'customer_id', occurred_at => 'at', event_id => 'event_id');
SELECT c.campaign, left(decisioning.create_campaign(c.campaign, 'public.customers', 'customer_id', currency => 'EUR'), 9) AS created,
       decisioning.add_action(c.campaign, 'mail', message => 'hello', channel => 'email', content => '{"subject": "Hello"}'),
       decisioning.approve_action(c.campaign, 'mail'), decisioning.add_campaign_goal(c.campaign, 'purchase', value => c.value)
FROM (VALUES ('news', 1.0), ('retention', 10.0), ('other', 5.0)) AS c(campaign, value);
UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 0, control_share = 1, control_action = 'mail', offer_consistency = NULL,
       salt = md5(campaign)::uuid;
SELECT c.campaign, decisioning.import_decisions(c.campaign, 'public.history', customer_key => 'customer_id', action => 'action', decided_at => 'at',
                                                propensity => 'propensity')
FROM decisioning.campaigns c ORDER BY 1;
SELECT c.campaign, (SELECT new_decisions FROM decisioning.learn(c.campaign)), decisioning.start_campaign(c.campaign) FROM decisioning.campaigns c ORDER BY 1;
SELECT decisioning.add_frequency_cap(1, 'day', cap => 'one a day');
CREATE VIEW public.sent AS
SELECT customer_id, campaign, status, reason FROM decisioning.sends ORDER BY substr(customer_id, 3)::int, campaign;
CREATE FUNCTION public.both(customer text, first text, second text) RETURNS TABLE (campaign text, action text, removed jsonb) LANGUAGE sql AS $$
    SELECT first, d.action, (SELECT l.removed FROM decisioning.decisions l WHERE l.decision_id = d.decision_id) FROM decisioning.decide(customer, first) AS d
    UNION ALL
    SELECT second, d.action, (SELECT l.removed FROM decisioning.decisions l WHERE l.decision_id = d.decision_id) FROM decisioning.decide(customer, second) AS d
$$;

SELECT decisioning.set_priority('nothing', 1);
SELECT decisioning.set_priority('news', 0);
SELECT decisioning.set_priority('news', 'NaN');

-- Without priorities whoever decides first has it.
SELECT * FROM public.both('c-1', 'news', 'retention');
SELECT decisioning.set_priority('news', 1);
SELECT * FROM public.both('c-2', 'news', 'retention');
SELECT count(*) AS stakes FROM decisioning._stake;

-- With both: retention has ten times as much at stake, and takes over what news has reserved. That it was so is found out in its turn.
SELECT decisioning.set_priority('retention', 1);
SELECT action, removed_by FROM decisioning.preview('c-2', 'retention');
SELECT * FROM public.both('c-3', 'news', 'retention');
SELECT d.campaign, round((k.stake / s.lowest)::numeric, 3) AS stakes FROM decisioning._stake k JOIN decisioning.decisions d USING (decision_id),
       (SELECT min(stake) AS lowest FROM decisioning._stake) AS s WHERE d.customer_id = 'c-3' ORDER BY 1;
-- Whoever takes no part neither takes over nor gives way.
SELECT * FROM public.both('c-4', 'news', 'other');
SELECT * FROM public.both('c-5', 'other', 'retention');
-- The one with more at stake may as well come first.
SELECT * FROM public.both('c-6', 'retention', 'news');
SELECT * FROM decisioning.dispatch('news');
SELECT * FROM decisioning.dispatch('retention');
SELECT * FROM decisioning.dispatch('other');
SELECT * FROM public.sent;
SELECT DISTINCT explain_text ~ 'preempted' AS told FROM decisioning.sends s, decisioning.explain_text(s.decision_id) WHERE s.status = 'preempted';
-- What was preempted is no contact any more, and is not queued again.
SELECT s.customer_id, s.campaign FROM decisioning._assignment s WHERE s.customer_id = 'c-3' AND cardinality(s.contact_decisions) > 0;
DO $$ BEGIN PERFORM decisioning.requeue_send(decision_id) FROM decisioning.sends WHERE status = 'preempted'; EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', regexp_replace(SQLERRM, '[0-9a-f-]{36}', '…'); END $$;

-- What is made is not taken over: a synced send is when it is dispatched.
SELECT action FROM decisioning.decide('c-7', 'news');
SELECT queued FROM decisioning.dispatch('news');
SELECT action FROM decisioning.decide('c-7', 'retention');
-- Priority multiplies what is expected.
SELECT decisioning.set_priority('news', 100);
SELECT * FROM public.both('c-8', 'retention', 'news');
-- Whoever took it over and may not be sent after all leaves it to the other.
SELECT * FROM public.both('c-9', 'retention', 'news');
SELECT decisioning.suppress('c-9', campaign => 'news');
SELECT queued, cancelled, preempted FROM decisioning.dispatch('news');
SELECT queued, cancelled, preempted FROM decisioning.dispatch('retention');
SELECT * FROM public.sent WHERE customer_id IN ('c-7', 'c-8', 'c-9');

-- Where workers claim, what is queued can still be taken over.
SELECT decisioning.set_delivery('email', 'claimed');
SELECT action FROM decisioning.decide('c-10', 'retention');
SELECT queued FROM decisioning.dispatch();
SELECT action FROM decisioning.decide('c-10', 'news');
SELECT action FROM decisioning.decide('c-11', 'retention');
SELECT queued FROM decisioning.dispatch();
SELECT campaign, customer_id FROM decisioning.claim_sends() ORDER BY 1, 2;
SELECT action FROM decisioning.decide('c-11', 'news');
SELECT * FROM public.sent WHERE customer_id IN ('c-10', 'c-11');

-- A campaign that takes no part any more keeps what it has.
SELECT action FROM decisioning.decide('c-12', 'retention');
SELECT decisioning.set_priority('retention', NULL);
SELECT action FROM decisioning.decide('c-12', 'news');
CALL decisioning.dispatch_all();
SELECT campaign, customer_id FROM decisioning.claim_sends() ORDER BY 1, 2;
SELECT campaign, reason, sum(sends) FROM decisioning.delivery_overview WHERE status = 'preempted' GROUP BY 1, 2 ORDER BY 1;
SELECT decisioning.maintain();
SELECT count(*) AS stakes FROM decisioning._stake;
SELECT max(n) AS most FROM (SELECT count(*) AS n FROM decisioning.sends WHERE status IN ('queued', 'claimed') GROUP BY customer_id) AS s;
SELECT changes FROM decisioning.configuration_changes WHERE campaign = 'news' AND changes ? 'priority' ORDER BY epoch DESC LIMIT 1;
SELECT decisioning.export_configuration('news') #> '{settings,priority}' AS priority;
