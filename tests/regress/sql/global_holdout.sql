-- The global holdout: customers whom no campaign contacts, and what all campaigns together add.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
CREATE TABLE public.customers AS SELECT 'c-' || n AS id, n % 100 AS age, 'h-' || n / 3 AS house FROM generate_series(1, 6000) AS n;
SELECT count(decisioning.create_campaign(name, 'public.customers', 'id', audience => audience, time_zone => 'UTC', holdout_share => 0.1,
       control_share => 0.2, control_action => 'email', currency => 'EUR', household_column => house, unit => unit))
FROM (VALUES ('old', 'age < 10', NULL, 'customer'), ('a', NULL, NULL, 'customer'), ('b', 'age < 60', NULL, 'customer'),
             ('h', 'age < 60', 'house', 'household'), ('s', 'age < 20', NULL, 'customer')) AS c(name, audience, house, unit);
UPDATE decisioning.campaigns SET salt = ('00000000-0000-4000-8000-' || lpad(to_hex(ascii(campaign)), 12, '0'))::uuid;
SELECT count(decisioning.add_action(campaign, action, channel => action, cost_send => cost, cost_on_goal => redeemed))
FROM decisioning.campaigns, (VALUES ('email', 0.1, 0), ('voucher', 0.2, 1)) AS a(action, cost, redeemed);
SELECT count(decisioning.approve_action(campaign, action)) FROM decisioning.actions;
SELECT decisioning.add_goal('order', 'value'), decisioning.add_goal('visit'), decisioning.add_goal('open', 'engagement'), decisioning.add_goal('leave', 'harm');
SELECT count(*) FROM (SELECT decisioning.add_campaign_goal(campaign, 'order'), decisioning.add_campaign_goal(campaign, 'visit'),
       decisioning.add_campaign_goal(campaign, 'open'), decisioning.add_campaign_goal(campaign, 'leave', -5) FROM decisioning.campaigns) AS g;
SELECT count(*) FROM (SELECT decisioning.start_campaign(campaign) FROM decisioning.campaigns WHERE campaign <> 'h') AS c;

-- Before there is one: a total has nothing to go by.
CALL decisioning.decide_all('old');
SELECT count(*) AS rows FROM decisioning.total_lift();
SELECT decisioning.set_global_holdout(1.5);
SELECT decisioning.set_global_holdout(NULL);
SELECT decisioning.set_global_holdout(0);
SELECT count(*) AS rows FROM decisioning.global_holdout;
-- The salt is drawn; here it must always be the same.
INSERT INTO decisioning.global_holdout (share, salt) VALUES (0, '00000000-0000-4000-8000-000000000009');
SELECT decisioning.set_global_holdout(0.2);
SELECT share, since, least, most FROM decisioning.global_holdout;
UPDATE decisioning.global_holdout SET salt = gen_random_uuid();
-- A rule for all campaigns: each has a new epoch. Setting it again as it is opens none.
SELECT decisioning.set_global_holdout(0.2);
SELECT e.campaign, e.operation, e.before ->> 'share' AS before, e.after ->> 'share' AS after,
       e.epoch = ALL (SELECT c.epoch FROM decisioning.campaigns c) AS current
FROM decisioning.epochs e WHERE e.relation = 'global_holdout' ORDER BY e.epoch;
SELECT share FROM decisioning._global_shares ORDER BY epoch;

-- The same customers in every campaign, by every way to a decision.
SET decisioning.simulated_now = '2026-06-02 10:00+00';
CREATE TABLE previewed AS
SELECT c.id, p.treatment_group FROM public.customers c, decisioning.preview(c.id, 'a') AS p WHERE p.action = 'no_send' AND c.age < 20;
CREATE TABLE answered AS
SELECT d.customer_id, d.treatment_group, d.action, d.reason
FROM decisioning.decide_batch((SELECT array_agg(id ORDER BY id) FROM public.customers WHERE age < 10), 'a') AS d
UNION ALL
SELECT d.customer_id, d.treatment_group, d.action, d.reason
FROM (SELECT id FROM public.customers WHERE age BETWEEN 10 AND 19) AS c, LATERAL decisioning.decide(c.id, 'a') AS d;
SELECT treatment_group, reason, bool_and(action = 'no_send') AS quiet, count(*) FROM answered GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FILTER (WHERE p.treatment_group <> a.treatment_group) AS differ, count(*)
FROM previewed p JOIN answered a ON a.customer_id = p.id;
CALL decisioning.decide_all('a');
CALL decisioning.decide_all('b');
SELECT decisioning.start_campaign('s', mode => 'shadow');
CALL decisioning.decide_all('s');
SELECT campaign, treatment_group, global_holdout, count(*) FROM decisioning.assignments WHERE campaign IN ('a', 'b', 's') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT count(DISTINCT a.global_holdout) AS answers, count(*) AS customers
FROM decisioning.assignments a WHERE a.campaign <> 'old' GROUP BY a.customer_id HAVING count(DISTINCT a.global_holdout) > 1;
SELECT abs(avg(global_holdout::int) - 0.2) < 2.576 * sqrt(0.2 * 0.8 / count(*)) AS as_many_as_wanted FROM decisioning.assignments WHERE campaign = 'a';
-- In shadow mode, too, nobody of it is sent anything, and nothing would have been.
SELECT reason, count(*), count(shadow_action_id) AS shadows FROM decisioning.decisions WHERE campaign = 's' GROUP BY 1 ORDER BY 1;
-- Who was exposed before keeps his group there, and nowhere else.
SELECT o.treatment_group, o.global_holdout, a.treatment_group AS in_a, count(*)
FROM decisioning.assignments o JOIN decisioning.assignments a ON a.customer_id = o.customer_id AND a.campaign = 'a'
WHERE o.campaign = 'old' AND a.global_holdout GROUP BY 1, 2, 3 ORDER BY 1;
-- Households are drawn as one by a campaign, but not by the global holdout, which does not depend on the campaign.
SELECT decisioning.start_campaign('h');
CALL decisioning.decide_all('h');
SELECT count(*) FILTER (WHERE groups > 1) AS torn, max(held) AS most_held_of_one
FROM (SELECT c.house, count(DISTINCT a.treatment_group) FILTER (WHERE NOT a.global_holdout) AS groups,
             count(*) FILTER (WHERE a.global_holdout) AS held
      FROM decisioning.assignments a JOIN public.customers c ON c.id = a.customer_id WHERE a.campaign = 'h' GROUP BY 1) AS x;
SELECT count(*) AS differ FROM decisioning.assignments h JOIN decisioning.assignments a USING (customer_id)
WHERE h.campaign = 'h' AND a.campaign = 'a' AND h.global_holdout <> a.global_holdout;

-- Decisions are logged like any: a no-send with certainty, which replays and says why.
SELECT reason, bool_and(action = 'no_send' AND propensity = 1) AS certain, count(*) FROM decisioning.decisions
WHERE treatment_group = 'holdout' AND campaign = 'a' GROUP BY 1 ORDER BY 1;
SELECT bool_and(r.matches) FROM (SELECT decision_id FROM decisioning.decisions WHERE reason = 'global_holdout' ORDER BY customer_id, campaign LIMIT 50) AS d,
       decisioning.replay(d.decision_id) AS r;
SELECT e.explanation FROM decisioning.explain((SELECT decision_id FROM decisioning.decisions WHERE reason = 'global_holdout' ORDER BY customer_id, campaign LIMIT 1)) AS e
WHERE e.subject = 'group';
-- Nothing is ever sent to them by a campaign that has drawn them.
SELECT count(*) > 0 AS dispatched FROM decisioning.dispatch(batch_size => 100000);
SELECT count(*) > 1000 AS sends, count(*) FILTER (WHERE a.global_holdout) AS to_the_global_holdout
FROM decisioning.sends m JOIN decisioning.assignments a ON a.customer_id = m.customer_id AND a.campaign = m.campaign;

-- Another share holds for those who are drawn from now on. A larger one adds to the same customers.
INSERT INTO public.customers SELECT 'd-' || n, n % 100, 'x-' || n FROM generate_series(1, 2000) AS n;
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SELECT decisioning.set_global_holdout(0.3);
CALL decisioning.decide_all('a');
SELECT left(customer_id, 1) AS who, global_holdout, count(*), min(global_bucket) AS first, max(global_bucket) AS last
FROM decisioning._assignment WHERE campaign = 'a' GROUP BY 1, 2 ORDER BY 1, 2;
-- A smaller one frees whom no campaign has drawn yet: whoever has been held out stays so, everywhere.
SELECT decisioning.set_global_holdout(0.1);
SELECT share, since, least, most FROM decisioning.global_holdout;
CALL decisioning.decide_all('b');
INSERT INTO public.customers SELECT 'e-' || n, n % 100, 'y-' || n FROM generate_series(1, 2000) AS n;
CREATE TABLE previewed_b AS
SELECT c.id, p.treatment_group FROM public.customers c, decisioning.preview(c.id, 'b') AS p WHERE p.action = 'no_send' AND c.id LIKE 'e-%';
CALL decisioning.decide_all('b');
SELECT left(customer_id, 1) AS who, global_holdout, count(*), min(global_bucket) AS first, max(global_bucket) AS last
FROM decisioning._assignment WHERE campaign = 'b' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FILTER (WHERE p.treatment_group <> a.treatment_group) AS differ, count(*)
FROM previewed_b p JOIN decisioning.assignments a ON a.customer_id = p.id AND a.campaign = 'b';
SELECT count(*) AS kept FROM decisioning._assignment a WHERE a.campaign = 'b' AND a.global_holdout AND a.customer_id LIKE 'd-%' AND a.global_bucket >= 1000;
-- The groups of campaigns have the sizes that follow: members, those who were kept, and the campaign's shares of the rest.
SELECT campaign, treatment_group, customers, round(expected) AS expected, balanced FROM decisioning.group_balance ORDER BY 1, 2;

-- Merged customers: whoever was exposed first gives the group, marks included.
CREATE TABLE public.people AS
SELECT id, id || '@example.com' AS mail FROM (VALUES
    ((SELECT min(customer_id) FROM decisioning.assignments WHERE campaign = 'a' AND global_holdout AND customer_id LIKE 'c-%')),
    ((SELECT min(customer_id) FROM decisioning.assignments WHERE campaign = 'a' AND treatment_group = 'optimise' AND customer_id LIKE 'd-%'))) AS p(id);
SELECT decisioning.add_source('crm', 'public.people', 'id', '{"mail": "email"}');
CALL decisioning.resolve_all();
UPDATE public.people SET mail = 'same@example.com';
CALL decisioning.resolve_all();
SET decisioning.simulated_now = '2026-06-04 10:00+00';
SELECT d.customer_id = p.id AS own, d.treatment_group, d.reason FROM public.people p, LATERAL decisioning.decide(p.id, 'a') AS d ORDER BY p.id;
UPDATE public.people SET mail = id || '@example.com';
CALL decisioning.resolve_all();
SET decisioning.simulated_now = '2026-06-05 10:00+00';
SELECT d.treatment_group, d.reason FROM public.people p, LATERAL decisioning.decide(p.id, 'a') AS d ORDER BY p.id;

-- An end: nobody is drawn any more, and groups stay.
SELECT decisioning.set_global_holdout(0);
SELECT share, since, least, most FROM decisioning.global_holdout;
INSERT INTO public.customers SELECT 'f-' || n, n % 100, 'z-' || n FROM generate_series(1, 500) AS n;
CALL decisioning.decide_all('a');
SELECT count(*) FILTER (WHERE d.reason = 'global_holdout') > 0 AS still, count(*) FILTER (WHERE d.reason = 'global_holdout' AND d.customer_id LIKE 'f-%') AS new
FROM decisioning.open_decisions d WHERE d.campaign = 'a';
SELECT count(*) AS rows FROM decisioning.total_lift();
