-- Groups that are drawn anew, after a wash-out.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
CREATE TABLE public.customers AS SELECT 'c-' || n AS id, n % 100 AS age, 'h-' || n / 3 AS house FROM generate_series(1, 6000) AS n;
SELECT count(decisioning.create_campaign(name, 'public.customers', 'id', audience => 'age < 90', time_zone => 'UTC', holdout_share => 0.3, control_share => 0.1,
       control_action => 'email', household_column => 'house', unit => unit))
FROM (VALUES ('a', 'customer'), ('b', 'customer'), ('h', 'household')) AS c(name, unit);
UPDATE decisioning.campaigns SET salt = ('00000000-0000-4000-8000-' || lpad(to_hex(ascii(campaign)), 12, '0'))::uuid;
SELECT count(decisioning.add_action(campaign, 'email', channel => 'email')) FROM decisioning.campaigns;
SELECT count(decisioning.approve_action(campaign, action)) FROM decisioning.actions;
SELECT decisioning.add_goal('visit');
SELECT count(*) FROM (SELECT decisioning.add_campaign_goal(campaign, 'visit', attribution_window => '2 days') FROM decisioning.campaigns) AS g;
SELECT decisioning.renew_holdout('a');
INSERT INTO decisioning.global_holdout (share, salt) VALUES (0.05, '00000000-0000-4000-8000-000000000009');
SELECT count(*) FROM (SELECT decisioning.start_campaign(campaign) FROM decisioning.campaigns) AS c;
CALL decisioning.decide_all('a');
CALL decisioning.decide_all('b');
CALL decisioning.decide_all('h');
CREATE TABLE public.first AS SELECT * FROM decisioning.assignments;
CREATE TABLE public.ids AS SELECT decision_id FROM decisioning.decisions;
-- Who is treated comes three times as often.
SET decisioning.simulated_now = '2026-06-02 12:00+00';
SELECT count(decisioning.record_outcome('visit', 'v-' || customer_id, customer_id, occurred_at => '2026-06-02 12:00+00'))
FROM decisioning.assignments WHERE campaign = 'a' AND abs(hashtext(customer_id)) % 10 < CASE WHEN treatment_group IN ('optimise', 'explore', 'control') THEN 3 ELSE 1 END;

SET decisioning.simulated_now = '2026-06-10 10:00+00';
CREATE TABLE public.before AS SELECT * FROM decisioning.lift('a');
SELECT treated_group, baseline_group, verdict FROM public.before WHERE headline;
SELECT decisioning.renew_holdout('a', '7 days');
SELECT decisioning.renew_holdout('h', '0 days');
SELECT campaign, draw, washed_at FROM decisioning.campaigns ORDER BY 1;
-- What was known of the last draw is kept.
SELECT campaign, draw, renewed_at, washed_at, customers FROM decisioning.renewals ORDER BY 1;
SELECT (SELECT count(*) FROM jsonb_populate_recordset(NULL::public.before, r.lift) AS l JOIN public.before b ON l IS NOT DISTINCT FROM b)
       = (SELECT count(*) FROM public.before) AS same
FROM decisioning.renewals r WHERE r.campaign = 'a';
SELECT count(*) AS differences
FROM public.first f FULL JOIN decisioning.past_assignments p USING (customer_id, campaign, treatment_group, exposed_at, treatable, global_holdout)
WHERE campaign IN ('a', 'h') AND (f.customer_id IS NULL OR p.customer_id IS NULL);
-- Nobody is in a group of a until his next decision; b goes on.
SELECT campaign, count(*) FROM decisioning.assignments GROUP BY 1 ORDER BY 1;
SELECT goal, treated_customers, verdict FROM decisioning.lift WHERE campaign = 'a';
SELECT count(*) > 0 AS shown FROM decisioning.preview('c-1', 'a');

CALL decisioning.decide_all('a');
CALL decisioning.decide_all('b');
CALL decisioning.decide_all('h');
SELECT campaign, min(exposed_at), max(exposed_at), count(*) FROM decisioning.assignments GROUP BY 1 ORDER BY 1;
-- Drawn independently of before, in the same shares; as they were where nothing was renewed.
SELECT campaign, count(*) FILTER (WHERE a.treatment_group = f.treatment_group) AS as_before,
       round(sum(CASE f.treatment_group WHEN 'holdout' THEN s.holdout_share WHEN 'control' THEN s.control_share WHEN 'explore' THEN s.explore_share
                 ELSE 1 - s.holdout_share - s.control_share - s.explore_share END)) AS expected, count(*) AS customers
FROM decisioning.assignments a JOIN public.first f USING (customer_id, campaign) JOIN decisioning.campaigns s USING (campaign)
WHERE NOT a.global_holdout GROUP BY 1 ORDER BY 1;
-- Members of a household are still drawn together, and who no campaign contacts stays so.
SELECT max(groups) FROM (SELECT count(DISTINCT a.treatment_group) AS groups FROM decisioning.assignments a JOIN public.customers c ON c.id = a.customer_id
                         WHERE a.campaign = 'h' AND NOT a.global_holdout GROUP BY c.house) AS h;
SELECT count(*) AS left_it FROM decisioning.assignments a JOIN public.first f USING (customer_id, campaign) WHERE a.global_holdout <> f.global_holdout;
-- Treated by the new group at once, and no decision is made twice or under an old id.
SELECT bool_and(d.treatment_group = a.treatment_group) AS treated_by_it, bool_and(d.ordinal = 2) AS second
FROM decisioning.decisions d JOIN decisioning.assignments a USING (customer_id, campaign) WHERE d.campaign = 'a' AND d.decided_at > '2026-06-05';
SELECT count(*) AS again FROM decisioning.decisions d JOIN public.ids USING (decision_id) WHERE d.decided_at > '2026-06-05';
CALL decisioning.decide_all('a');
SELECT count(*) FROM decisioning.decisions WHERE campaign = 'a';

-- In the wash-out nothing counts, and it cannot be renewed again; from its end on it does.
SET decisioning.simulated_now = '2026-06-12 12:00+00';
SELECT count(decisioning.record_outcome('visit', 'w-' || customer_id, customer_id, occurred_at => '2026-06-12 12:00+00')) > 0 AS some FROM decisioning.assignments
WHERE campaign = 'a' AND treatment_group = 'holdout';
SET decisioning.simulated_now = '2026-06-16 10:00+00';
SELECT treated_customers, verdict FROM decisioning.lift WHERE campaign = 'a';
SELECT count(*) FROM decisioning.group_balance WHERE campaign = 'a';
SELECT decisioning.renew_holdout('a');
SET decisioning.simulated_now = '2026-06-18 12:00+00';
SELECT count(decisioning.record_outcome('visit', 'x-' || customer_id, customer_id, occurred_at => '2026-06-18 12:00+00')) > 0 AS some FROM decisioning.assignments
WHERE campaign = 'a' AND abs(hashtext('x' || customer_id)) % 10 < 2;
SET decisioning.simulated_now = '2026-06-20 10:00+00';
SELECT l.treated_customers = t.customers AS customers, abs(l.treated_mean - t.rate) < 1e-12 AS treated, abs(l.baseline_mean - h.rate) < 1e-12 AS baseline, l.verdict
FROM decisioning.lift l,
     LATERAL (SELECT count(*) AS customers, avg((abs(hashtext('x' || customer_id)) % 10 < 2)::integer)::float8 AS rate FROM decisioning.assignments WHERE campaign = 'a' AND treatment_group = 'optimise') AS t,
     LATERAL (SELECT avg((abs(hashtext('x' || customer_id)) % 10 < 2)::integer)::float8 AS rate FROM decisioning.assignments WHERE campaign = 'a' AND treatment_group = 'holdout' AND NOT global_holdout) AS h
WHERE l.campaign = 'a';
SELECT bool_and(balanced) AS balanced, sum(customers) AS customers FROM decisioning.group_balance WHERE campaign = 'a';
SELECT feature, customers, balanced FROM decisioning.feature_balance('a') WHERE feature = 'age';
-- What the new groups did in the wash-out is no past of theirs; what all did before they were drawn is.
SELECT period, l.measure, l.treated_mean > 0 AS treated, l.baseline_mean > 0 AS baseline, l.alike
FROM unnest('{7 days, 9 days}'::interval[]) AS period CROSS JOIN LATERAL decisioning.lift_before_exposure('a', period) AS l
WHERE l.treated_group = 'optimise' AND l.baseline_group = 'holdout' AND l.measure = 'conversion rate' ORDER BY 1;
-- The total is since the first exposure, whatever was drawn anew since.
SELECT since, treated_customers + baseline_customers AS customers FROM decisioning.total_lift() WHERE goal = 'visit' LIMIT 1;
SELECT count(DISTINCT customer_id) FROM public.first WHERE exposed_at < '2026-06-20';

-- Once more: each draw is its own. A customer who is forgotten is so in all of them.
SELECT decisioning.renew_holdout('a', '1 day');
SELECT draw, count(*) FROM decisioning.past_assignments WHERE campaign = 'a' GROUP BY 1 ORDER BY 1;
SELECT jsonb_array_length(decisioning.export_customer('c-1') -> 'past_assignments') AS past;
SELECT count(*) > 0 AS forgotten FROM decisioning.forget_customer('c-1');
SELECT count(*) FROM decisioning.past_assignments WHERE customer_id = 'c-1';

SELECT decisioning.renew_holdout('nobody');
SELECT decisioning.renew_holdout(NULL);
SELECT decisioning.renew_holdout('b', '-1 days');
SELECT decisioning.end_campaign('b');
SELECT decisioning.renew_holdout('b');
DROP EXTENSION decisioning;
