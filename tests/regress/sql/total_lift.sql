-- What all campaigns together add, against planted values.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
CREATE TABLE public.customers AS SELECT 'c-' || n AS id, n % 100 AS age FROM generate_series(1, 6000) AS n;
-- Campaign a for everybody, b for half; who is not held out gets an e-mail by each, for certain.
SELECT count(decisioning.create_campaign(name, 'public.customers', 'id', audience => audience, time_zone => 'UTC', holdout_share => 0,
       explore_share => 0, control_share => 1, control_action => 'email', currency => currency))
FROM (VALUES ('old', 'age < 5', 'EUR'), ('a', NULL, 'EUR'), ('b', 'age < 50', 'EUR'), ('d', 'age < 0', 'USD')) AS c(name, audience, currency);
UPDATE decisioning.campaigns SET salt = ('00000000-0000-4000-8000-' || lpad(to_hex(ascii(campaign)), 12, '0'))::uuid;
SELECT count(decisioning.add_action(campaign, 'email', channel => 'email', cost_send => 0.25, cost_on_goal => 1, cost_on_goal_share => 0.1))
FROM decisioning.campaigns;
SELECT count(decisioning.approve_action(campaign, 'email')) FROM decisioning.campaigns;
SELECT count(decisioning.add_goal(goal, kind))
FROM (VALUES ('order', 'value'), ('visit', 'conversion'), ('lead', 'conversion'), ('open', 'engagement'), ('leave', 'harm'), ('sale', 'value')) AS g(goal, kind);
SELECT count(*) FROM (
    SELECT decisioning.add_campaign_goal(campaign, goal, value)
    FROM (VALUES ('old', 'order', NULL), ('a', 'order', NULL), ('b', 'order', NULL), ('a', 'open', NULL), ('a', 'visit', 0.5), ('b', 'visit', 0.5),
                 ('a', 'lead', 3), ('b', 'lead', 4), ('a', 'leave', -5), ('a', 'sale', NULL), ('d', 'sale', NULL)) AS g(campaign, goal, value)) AS g;
SELECT count(*) FROM (SELECT decisioning.start_campaign(campaign) FROM decisioning.campaigns) AS c;
CALL decisioning.decide_all('old');
SET decisioning.simulated_now = '2026-06-02 09:00+00';
INSERT INTO decisioning.global_holdout (share, salt) VALUES (0, '00000000-0000-4000-8000-000000000009');
SELECT decisioning.set_global_holdout(0.3);
SET decisioning.simulated_now = '2026-06-02 10:00+00';
CALL decisioning.decide_all('b');
SET decisioning.simulated_now = '2026-06-02 11:00+00';
CALL decisioning.decide_all('a');
SELECT decisioning.set_global_holdout(0.2);
INSERT INTO public.customers SELECT 'd-' || n, n % 100 FROM generate_series(1, 1000) AS n;
CALL decisioning.decide_all('a');

-- Nothing has happened yet.
SET decisioning.simulated_now = '2026-06-03 09:00+00';
SELECT measure, goal, treated_customers > 0 AND baseline_customers > 0 AS customers, treated_mean, absolute_lift, lower, incremental, verdict FROM decisioning.total_lift();

-- One of four orders for 10 without campaigns, two of four with them. Those who are left out get what would spoil the result.
CREATE TABLE public.truth AS
SELECT a.customer_id, min(a.global_bucket) AS bucket, bool_or(a.campaign = 'old') AS exposed_before,
       row_number() OVER (PARTITION BY min(a.global_bucket) < 2000 ORDER BY a.customer_id) AS n
FROM decisioning._assignment a GROUP BY a.customer_id;
CREATE TABLE public.events AS
SELECT t.customer_id, 'order' AS goal, 'o-' || t.customer_id AS id, 10::float8 AS value
FROM public.truth t WHERE t.n % 4 < CASE WHEN t.bucket < 2000 THEN 1 ELSE 2 END
UNION ALL SELECT t.customer_id, 'visit', 'v-' || t.customer_id, NULL FROM public.truth t WHERE t.n % 2 = 0
UNION ALL SELECT t.customer_id, 'lead', 'l-' || t.customer_id, NULL FROM public.truth t WHERE t.n % 5 = 0
UNION ALL SELECT t.customer_id, 'open', 'p-' || t.customer_id, NULL FROM public.truth t
UNION ALL SELECT t.customer_id, 'sale', 's-' || t.customer_id, 2 FROM public.truth t WHERE t.n % 8 = 0
UNION ALL SELECT t.customer_id, 'leave', 'x-' || t.customer_id, NULL FROM public.truth t WHERE t.n % 10 = 0 AND (t.bucket >= 2000 OR t.n % 40 = 0);
UPDATE public.events e SET value = 1000 FROM public.truth t
WHERE t.customer_id = e.customer_id AND e.goal = 'order' AND (t.exposed_before OR t.bucket BETWEEN 2000 AND 2999);
SELECT count(*) > 10000 AS recorded FROM public.events e, LATERAL decisioning.record_outcome(e.goal, event_id => e.id, customer_id => e.customer_id,
       value => e.value, occurred_at => '2026-06-02 20:00+00') AS r;
-- Events from before the first exposure count for nobody.
SELECT count(*) FROM public.truth t, LATERAL decisioning.record_outcome('order', event_id => 'early-' || t.customer_id, customer_id => t.customer_id,
       value => 500, occurred_at => '2026-06-02 09:30+00') AS r;

-- Who was exposed before, and whom the smaller share would have moved, are in neither arm. Each event counts once.
CREATE TABLE public.arms AS
SELECT t.customer_id, t.bucket >= 3000 AS treated FROM public.truth t WHERE NOT t.exposed_before AND (t.bucket < 2000 OR t.bucket >= 3000);
CREATE VIEW public.planted AS
SELECT e.goal, a.treated, count(*)::float8 AS events, sum(e.value) AS value FROM public.events e JOIN public.arms a USING (customer_id) GROUP BY 1, 2;
SELECT x.treated_customers = (SELECT count(*) FROM public.arms a WHERE a.treated) AS treated,
       x.baseline_customers = (SELECT count(*) FROM public.arms a WHERE NOT a.treated) AS baseline, x.since
FROM decisioning.total_lift() AS x WHERE x.goal = 'order' AND x.measure LIKE 'events%';
SELECT x.goal, x.kind, x.measure, x.currency, round(x.treated_mean::numeric, 4) AS treated, round(x.baseline_mean::numeric, 4) AS baseline,
       abs(x.treated_mean * x.treated_customers - w.t) < 1e-6 AND abs(x.baseline_mean * x.baseline_customers - w.b) < 1e-6 AS as_planted,
       x.lower < x.fixed_lower AND x.fixed_lower < x.absolute_lift AND x.absolute_lift < x.fixed_upper AND x.fixed_upper < x.upper AS nested,
       x.winsorised_at, x.verdict
FROM decisioning.total_lift() AS x
LEFT JOIN LATERAL (
    SELECT sum(y.y) FILTER (WHERE y.treated) AS t, sum(y.y) FILTER (WHERE NOT y.treated) AS b
    FROM (SELECT p.treated, CASE WHEN x.measure LIKE 'events%' THEN p.events
                                 WHEN p.goal IN ('order', 'sale') THEN p.value WHEN p.goal = 'visit' THEN 0.5 * p.events WHEN p.goal = 'leave' THEN -5 * p.events END AS y
          FROM public.planted p WHERE p.goal = x.goal OR x.goal IS NULL AND p.goal IN ('order', 'visit', 'leave')) AS y) AS w ON true;
-- In the currency: what the treated add altogether, and what remains of it. Two e-mails or one each; an order redeems one of them.
SELECT x.currency, abs(x.incremental - x.absolute_lift * x.treated_customers) < 1e-6 AS added, abs(x.cost - (s.sends * 0.25 + r.redeemed)) < 1e-6 AS cost,
       abs(x.net - (x.incremental - x.cost)) < 1e-6 AS net, abs(x.return_on_cost - x.incremental / x.cost) < 1e-9 AS return,
       x.net_lower < x.net AND x.net < x.net_upper AND x.return_lower < x.return_on_cost AND x.return_on_cost < x.return_upper AS bounds
FROM decisioning.total_lift() AS x,
     (SELECT count(*) AS sends FROM decisioning.decisions d JOIN public.arms a USING (customer_id) WHERE a.treated AND d.action = 'email') AS s,
     (SELECT sum(c.redeemed) AS redeemed FROM (
          SELECT 1 + 0.1 * sum(CASE e.goal WHEN 'order' THEN 10 WHEN 'sale' THEN 2 WHEN 'visit' THEN 0.5 WHEN 'lead' THEN 3 END) AS redeemed
          FROM public.events e JOIN public.arms a USING (customer_id)
          WHERE a.treated AND e.goal IN ('order', 'sale', 'visit', 'lead') GROUP BY e.customer_id) AS c) AS r
WHERE x.goal IS NULL;
-- The interval is that of the whole sample, zeros included.
SELECT abs(m.tm - m.bm - x.absolute_lift) < 1e-9 AS same, abs((x.fixed_upper - x.fixed_lower) / 2 / sqrt(m.tv / m.tn + m.bv / m.bn) - 1.96) < 0.01 AS as_wide
FROM decisioning.total_lift() AS x,
     (SELECT count(*) FILTER (WHERE y.treated)::float8 AS tn, avg(y.y) FILTER (WHERE y.treated) AS tm, var_samp(y.y) FILTER (WHERE y.treated) AS tv,
             count(*) FILTER (WHERE NOT y.treated)::float8 AS bn, avg(y.y) FILTER (WHERE NOT y.treated) AS bm, var_samp(y.y) FILTER (WHERE NOT y.treated) AS bv
      FROM (SELECT a.treated, coalesce(sum(e.value), 0) AS y FROM public.arms a
            LEFT JOIN public.events e ON e.customer_id = a.customer_id AND e.goal = 'order' GROUP BY a.customer_id, a.treated) AS y) AS m
WHERE x.goal = 'order' AND x.measure LIKE 'value%';

-- Heavy tails are cut, and the cut is told; corrections of an event count with it.
SELECT r.* FROM (SELECT customer_id FROM public.arms WHERE treated ORDER BY customer_id LIMIT 3) AS a,
       LATERAL decisioning.record_outcome('order', event_id => 'big-' || a.customer_id, customer_id => a.customer_id, value => 1e6, occurred_at => '2026-06-02 21:00+00') AS r;
SELECT goal, winsorised_at, treated_mean < 10 AS tame FROM decisioning.total_lift() WHERE measure = 'value per customer' AND goal = 'order';
-- Before anything had happened, and before there was a global holdout.
SELECT DISTINCT treated_mean, verdict FROM decisioning.total_lift(as_of => '2026-06-02 12:00+00');
SELECT count(*) FROM decisioning.total_lift(as_of => '2026-06-01');
SELECT count(*) FROM decisioning.total_lift(confidence => 1);

-- Sends that were not made cost nothing: those of b are cancelled.
CREATE TABLE public.before AS SELECT cost FROM decisioning.total_lift() WHERE goal IS NULL;
SET decisioning.simulated_now = '2026-06-02 12:00+00';
SELECT decisioning.pause_action('b', 'email');
SELECT queued > 1000 AS queued, cancelled > 1000 AS cancelled FROM decisioning.dispatch(batch_size => 100000);
SET decisioning.simulated_now = '2026-06-03 09:00+00';
SELECT abs(b.cost - x.cost - 0.25 * (SELECT count(*) FROM decisioning.sends m JOIN public.arms a USING (customer_id) WHERE a.treated AND m.status = 'cancelled')) < 1e-6 AS less
FROM decisioning.total_lift() AS x, public.before AS b WHERE x.goal IS NULL;

-- Merges change neither arms nor totals: an event of either id is that of whom it was recorded for.
CREATE TABLE public.before_merge AS SELECT * FROM decisioning.total_lift();
CREATE TABLE public.people AS
SELECT customer_id AS id, customer_id || '@example.com' AS mail FROM public.arms WHERE customer_id IN (
    (SELECT min(customer_id) FROM public.arms WHERE treated), (SELECT min(customer_id) FROM public.arms WHERE NOT treated));
SELECT decisioning.add_source('crm', 'public.people', 'id', '{"mail": "email"}');
CALL decisioning.resolve_all();
UPDATE public.people SET mail = 'same@example.com';
CALL decisioning.resolve_all();
SELECT count(*) AS merged FROM decisioning.assignments WHERE merged_at IS NOT NULL AND campaign = 'a';
SELECT count(*) AS changed FROM ((TABLE public.before_merge EXCEPT SELECT * FROM decisioning.total_lift())
                                 UNION ALL (SELECT * FROM decisioning.total_lift() EXCEPT TABLE public.before_merge)) AS x;
SELECT r.* FROM public.people p, LATERAL decisioning.record_outcome('visit', event_id => 'late-' || p.id, customer_id => p.id, occurred_at => '2026-06-03 08:00+00') AS r;
SELECT round(x.treated_mean * x.treated_customers - b.treated_mean * b.treated_customers) AS treated, round(x.baseline_mean * x.baseline_customers - b.baseline_mean * b.baseline_customers) AS baseline
FROM decisioning.total_lift() AS x JOIN public.before_merge b USING (goal, measure) WHERE x.goal = 'visit' AND x.measure LIKE 'events%';
-- A customer who is forgotten still counts, in his arm.
CREATE TABLE public.before_forgetting AS SELECT * FROM decisioning.total_lift();
SELECT count(*) > 0 AS forgotten FROM decisioning.forget_customer((SELECT max(customer_id) FROM public.arms WHERE NOT treated));
SELECT count(*) AS changed FROM decisioning.total_lift() x JOIN public.before_forgetting b USING (measure)
WHERE x.goal IS NOT DISTINCT FROM b.goal AND (x.baseline_customers, x.treated_customers, x.baseline_mean) IS DISTINCT FROM (b.baseline_customers, b.treated_customers, b.baseline_mean);

-- A split that the shares do not explain makes it invalid.
DELETE FROM decisioning._assignment a USING public.arms r WHERE r.customer_id = a.customer_id AND NOT r.treated AND right(r.customer_id, 1) IN ('1', '3', '5', '7');
SELECT DISTINCT verdict FROM decisioning.total_lift();
