-- Measure: lift against plain SQL over the same tables, under planted effects; and everything that makes it invalid.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET shop.open_to = 8000;
CREATE FUNCTION public.luck(id text) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$ SELECT abs(hashtext(id)::bigint) % 10000 / 10000.0 $$;
CREATE TABLE public.customers AS
SELECT 'c-' || n AS customer_id, n % 2 = 0 AS member, public.luck('spend' || n) AS spend, (ARRAY['north', 'south', 'west'])[1 + n % 3] AS region,
       n % 10 <> 0 AS consents, CASE WHEN n % 20 < 12 THEN NULL ELSE n END AS rarely
FROM generate_series(1, 8000) AS n;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
SELECT left(decisioning.create_campaign('spring', 'public.customers', 'customer_id', features => '{member,spend,region}',
            audience => 'substr(customer_id, 3)::int <= current_setting(''shop.open_to'')::int', holdout_share => 0.3, explore_share => 0.1, time_zone => 'UTC'), 8);
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000001';
SELECT decisioning.add_action('spring', 'mail', channel => 'email'), decisioning.approve_action('spring', 'mail');
SELECT decisioning.set_consent_column('spring', 'consents');
SELECT decisioning.add_goal('order', 'value'), decisioning.add_goal('visit'), decisioning.add_goal('unsubscribe', 'harm'), decisioning.add_goal('open', 'engagement');
SELECT decisioning.add_campaign_goal('spring', goal, attribution_window => '3 days') FROM decisioning.goals ORDER BY goal;
SET shop.open_to = 8000;
SELECT topic, status, finding, advice FROM decisioning.data_readiness('spring');
-- Past orders: members buy more. Known before exposure.
SELECT decisioning.record_outcomes('order', array_agg('h-' || customer_id), array_agg(customer_id), amounts => array_agg((20 + 30 * spend)::float8),
                                   occurred_at => array_agg(timestamptz '2026-05-31 12:00+00'))
FROM public.customers WHERE public.luck('h' || customer_id) < CASE WHEN member THEN 0.3 ELSE 0.1 END;
SELECT goal, measure, base::numeric(8,4), basis, audience, exposed, customers_needed, days_needed, detectable_lift::numeric(6,3), holdout_share, suggested_holdout_share, advice
FROM decisioning.power_analysis('spring', relative_lift => 0.2);
SELECT topic, status, finding, advice FROM decisioning.data_readiness('spring') WHERE topic IN ('base rate', 'time to learn', 'leakage');

SET shop.open_to = 4000;
SELECT decisioning.start_campaign('spring');
-- Before anybody is exposed there is one line a goal.
SELECT goal, treated_group, baseline_group, treated_customers, absolute_lift, verdict FROM decisioning.lift;
CALL decisioning.decide_all('spring');
-- Five days later the rest comes, under other shares.
SET decisioning.simulated_now = '2026-06-06 10:00+00';
UPDATE decisioning.campaigns SET holdout_share = 0.1;
SET shop.open_to = 8000;
CALL decisioning.decide_all('spring');
-- Treatment adds half as many orders, and makes members spend more; some unsubscribe, whom nobody would have asked otherwise.
CREATE VIEW public.truth AS
SELECT a.customer_id, a.treatment_group, a.exposed_at, a.treatable, c.member, c.spend, a.treatment_group = 'optimise' AS treated
FROM decisioning.assignments a JOIN public.customers c USING (customer_id);
SET decisioning.simulated_now = '2026-06-12 10:00+00';
SELECT decisioning.record_outcomes('order', array_agg('o-' || customer_id), array_agg(customer_id),
    amounts => array_agg((20 + 30 * spend + CASE WHEN treated THEN 5 ELSE 0 END)::float8),
    occurred_at => array_agg(exposed_at + public.luck('t' || customer_id) * interval '4 days'))
FROM public.truth WHERE public.luck('o' || customer_id) < CASE WHEN member THEN 0.3 ELSE 0.1 END * CASE WHEN treated THEN 1.5 ELSE 1 END;
SELECT decisioning.record_outcomes('order', array_agg('p-' || customer_id), array_agg(customer_id), amounts => array_agg(10::float8),
    occurred_at => array_agg(exposed_at + public.luck('u' || customer_id) * interval '4 days'))
FROM public.truth WHERE public.luck('p' || customer_id) < 0.05;
SELECT decisioning.record_outcomes('visit', array_agg('v-' || customer_id), array_agg(customer_id), occurred_at => array_agg(exposed_at + interval '1 day'))
FROM public.truth WHERE public.luck('v' || customer_id) < 0.2;
SELECT decisioning.record_outcomes('unsubscribe', array_agg('u-' || customer_id), array_agg(customer_id), occurred_at => array_agg(exposed_at + interval '1 hour'))
FROM public.truth WHERE treated AND public.luck('x' || customer_id) < 0.02;
SELECT decisioning.record_outcomes('open', array_agg('n-' || customer_id), array_agg(customer_id), occurred_at => array_agg(exposed_at + interval '1 hour'))
FROM public.truth WHERE treated;

-- One line a goal, of those who may be sent something.
SELECT goal, kind, measure, treated_group, baseline_group, treated_customers, baseline_customers, treated_mean::numeric(8,4), baseline_mean::numeric(8,4),
       absolute_lift::numeric(8,4), lower::numeric(8,4), upper::numeric(8,4), relative_lift::numeric(6,3), relative_lower::numeric(6,3), relative_upper::numeric(6,3), verdict
FROM decisioning.lift;
-- Opens are no lift.
SELECT DISTINCT goal FROM decisioning.lift() ORDER BY 1;

-- The same from scratch: differences within the two stretches of shares, weighted by their customers; totals beyond the quantile cut off.
CREATE FUNCTION public.by_hand(of_goal text, everybody boolean) RETURNS TABLE (measure text, absolute numeric, standard_error numeric) LANGUAGE sql AS $$
    WITH totals AS (
        SELECT t.customer_id, t.treatment_group, t.exposed_at::date AS stratum, coalesce(sum(o.value), 0) AS value, coalesce(sum(o.events), 0) AS events
        FROM public.truth t LEFT JOIN decisioning.outcomes o ON o.customer_id = t.customer_id AND o.goal = of_goal AND o.occurred_at >= t.exposed_at
        WHERE t.treatment_group IN ('optimise', 'holdout') AND (everybody OR t.treatable) GROUP BY 1, 2, 3),
    everyone AS (
        SELECT coalesce(sum(o.value), 0) AS value
        FROM public.truth t JOIN decisioning.outcomes o ON o.customer_id = t.customer_id AND o.goal = of_goal AND o.occurred_at >= t.exposed_at
        WHERE everybody OR t.treatable GROUP BY t.customer_id),
    cap AS (SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY abs(value)) AS at FROM everyone WHERE value <> 0),
    units AS (
        SELECT m.measure, stratum, treatment_group, m.y
        FROM totals CROSS JOIN cap
        CROSS JOIN LATERAL (VALUES ('conversion rate', (events > 0)::int::float8), ('events per customer', events::float8), ('value per customer', least(value, at))) AS m(measure, y)),
    moments AS (SELECT measure, stratum, treatment_group, count(*) AS n, avg(y) AS mean, var_samp(y) AS variance FROM units GROUP BY 1, 2, 3)
    SELECT t.measure, sum(w.weight * (t.mean - b.mean))::numeric(10,6), sqrt(sum(w.weight ^ 2 * (t.variance / t.n + b.variance / b.n)))::numeric(10,6)
    FROM moments t JOIN moments b ON b.measure = t.measure AND b.stratum = t.stratum AND b.treatment_group = 'holdout' AND t.treatment_group = 'optimise'
    CROSS JOIN LATERAL (SELECT (t.n + b.n)::float8 / (SELECT count(*) FROM totals) AS weight) AS w
    GROUP BY 1
$$;
SELECT h.measure, h.absolute, l.absolute_lift::numeric(10,6) = h.absolute AS same_lift,
       abs((l.fixed_upper - l.fixed_lower) / 2 / h.standard_error - 1.96) < 0.005 AS same_width
FROM public.by_hand('order', false) h JOIN decisioning.lift('spring', goal => 'order') l ON l.measure = h.measure AND l.baseline_group = 'holdout' AND l.treated_group = 'optimise'
ORDER BY 1;
SELECT h.measure, h.absolute, l.absolute_lift::numeric(10,6) = h.absolute AS same_lift
FROM public.by_hand('order', true) h JOIN decisioning.lift('spring', goal => 'order', population => 'everybody') l ON l.measure = h.measure AND l.baseline_group = 'holdout' AND l.treated_group = 'optimise'
ORDER BY 1;
-- Value per order: a ratio.
SELECT treated_mean::numeric(8,3), baseline_mean::numeric(8,3), absolute_lift::numeric(8,3), fixed_lower::numeric(8,3), fixed_upper::numeric(8,3), winsorised_at::numeric(8,3)
FROM decisioning.lift('spring', goal => 'order') WHERE measure = 'value per event' AND treated_group = 'optimise' AND baseline_group = 'holdout';
SELECT winsorised_at FROM decisioning.lift('spring', goal => 'order', winsorise => 1) WHERE measure = 'value per event' AND headline IS NOT NULL AND treated_group = 'explore';

-- A horizon takes those for whom it is over, and what they did in it.
SELECT measure, treated_customers, baseline_customers, treated_mean::numeric(8,4), baseline_mean::numeric(8,4)
FROM decisioning.lift('spring', horizon => '2 days', goal => 'order', as_of => '2026-06-07 10:00+00', winsorise => 1) WHERE headline
UNION ALL
SELECT 'by hand', count(*) FILTER (WHERE treated), count(*) FILTER (WHERE NOT treated), (avg(value) FILTER (WHERE treated))::numeric(8,4), (avg(value) FILTER (WHERE NOT treated))::numeric(8,4)
FROM (SELECT t.customer_id, t.treated, coalesce(sum(o.value), 0) AS value
      FROM public.truth t LEFT JOIN decisioning.outcomes o ON o.customer_id = t.customer_id AND o.goal = 'order' AND o.occurred_at >= t.exposed_at AND o.occurred_at < t.exposed_at + interval '2 days'
      WHERE t.exposed_at < '2026-06-05' AND t.treatable AND t.treatment_group IN ('optimise', 'holdout') GROUP BY 1, 2) x;

-- What was known before takes noise away; the groups were alike before they were treated.
SELECT name, absolute_lift BETWEEN 0.5 * plain AND 1.5 * plain AS near, variance_removed::numeric(6,4), fixed_upper - fixed_lower < width AS narrower
FROM (SELECT absolute_lift AS plain, fixed_upper - fixed_lower AS width FROM decisioning.lift('spring', goal => 'order') WHERE headline) AS p,
     LATERAL (SELECT 'member' AS name, l.* FROM decisioning.lift('spring', goal => 'order', covariate => 'member') l WHERE headline
              UNION ALL SELECT 'history', l.* FROM decisioning.lift('spring', goal => 'order', history => '28 days') l WHERE headline) AS a;
SELECT measure, treated_mean > 0 AS something, alike FROM decisioning.lift_before_exposure('spring') WHERE goal = 'order' AND treated_group = 'optimise' AND baseline_group = 'holdout';
SELECT alike FROM decisioning.lift_before_exposure('spring', '1 hour') WHERE goal = 'order' AND treated_group = 'optimise' AND baseline_group = 'holdout' AND measure = 'conversion rate';

-- Over time: the last day is the lift of today; weeks and days since exposure say when it happened.
SELECT d.day, d.treated_customers, d.baseline_customers, d.absolute_lift::numeric(8,4), d.lower IS NOT NULL AS bounded
FROM decisioning.lift_daily d WHERE d.goal = 'visit' ORDER BY 1;
SELECT d.goal, d.absolute_lift::numeric(10,6) = l.absolute_lift::numeric(10,6) AS same, d.lower::numeric(10,6) = l.lower::numeric(10,6) AS same_bound
FROM decisioning.lift_daily d JOIN decisioning.lift l ON l.goal = d.goal WHERE d.day = '2026-06-12' AND d.goal <> 'unsubscribe' ORDER BY 1;
SELECT day, treated_customers, treated_mean::numeric(8,4), baseline_mean::numeric(8,4) FROM decisioning.lift_over_time('spring', 'week', goal => 'order', as_of => '2026-06-16 10:00+00') ORDER BY 1;
SELECT days_since_exposure AS day, treated_customers, treated_mean::numeric(8,4), baseline_mean::numeric(8,4) FROM decisioning.lift_over_time('spring', 'days since exposure', goal => 'visit') ORDER BY 1;

-- Harm that is tolerated.
SELECT decisioning.add_stop_rule('spring', 'unsubscribe', tolerated => 0.05);
SELECT verdict FROM decisioning.lift WHERE goal = 'unsubscribe';

-- Groups: as large as they should be under both shares, and alike.
SELECT treatment_group, customers, expected::numeric(8,1), balanced FROM decisioning.group_balance ORDER BY 1;
SELECT week, treatment_group, customers, expected::numeric(8,1), balanced FROM decisioning.group_balance('spring', weekly => true) ORDER BY 1, 2;
SELECT feature, customers, levels, balanced FROM decisioning.feature_balance('spring') ORDER BY 1;
SELECT topic, treatment_group, counted, affected, alike FROM decisioning.group_differences('spring') ORDER BY 1, 2;
SELECT topic, status, advice FROM decisioning.campaign_health ORDER BY 1;
SELECT campaign, status, customers, goal, verdict, health FROM decisioning.campaign_overview ORDER BY goal;
-- Somebody lost customers of one group, southern ones at that.
SELECT decisioning.acknowledge_imbalance('spring', 'no reason');
CREATE TABLE public.lost AS SELECT customer_id FROM public.truth JOIN public.customers USING (customer_id) WHERE treatment_group = 'holdout' AND region = 'south';
DELETE FROM decisioning._assignment WHERE customer_id IN (SELECT customer_id FROM public.lost);
DELETE FROM decisioning.decisions WHERE customer_id IN (SELECT customer_id FROM public.lost);
SELECT treatment_group, balanced FROM decisioning.group_balance ORDER BY 1;
SELECT feature, balanced FROM decisioning.feature_balance('spring') ORDER BY 1;
SELECT DISTINCT verdict FROM decisioning.lift();
SELECT status, finding ~ 'not as large' AS found FROM decisioning.campaign_health WHERE topic = 'groups';
SELECT decisioning.acknowledge_imbalance('spring', ' ');
SELECT decisioning.acknowledge_imbalance('spring', 'a clean-up job lost southern customers; they were lost in all groups from then on');
SELECT acknowledged_at, p_value < 0.001 AS was_low, reason FROM decisioning.balance_acknowledgements;
SELECT goal, verdict FROM decisioning.lift;

-- Whoever gives a goal that has a past to a campaign is told what can be seen.
SELECT decisioning.create_campaign('again', 'public.customers', 'customer_id', holdout_share => 0.05);
SET client_min_messages = notice;
SELECT decisioning.add_campaign_goal('again', 'visit', attribution_window => '30 days');
RESET client_min_messages;

-- Errors.
SELECT * FROM decisioning.lift('nothing');
SELECT * FROM decisioning.lift('spring', goal => 'nothing');
SELECT * FROM decisioning.lift('spring', confidence => 1);
SELECT * FROM decisioning.lift('spring', population => 'all');
SELECT * FROM decisioning.lift('spring', covariate => 'member', history => '1 day');
SELECT * FROM decisioning.lift('spring', covariate => 'nope');
SELECT * FROM decisioning.lift('spring', horizon => '-1 day');
SELECT * FROM decisioning.lift('spring', winsorise => 0.2);
SELECT * FROM decisioning.lift_over_time('spring', 'month');
SELECT * FROM decisioning.power_analysis('spring', relative_lift => 0);
SELECT * FROM decisioning.power_analysis('spring', goal => 'open');
SELECT decisioning._sample(1, 'NaN', 1);
SELECT decisioning._merge_samples('\x00');
SELECT decisioning._sample_add(NULL, 1, 1, 1);
SELECT decisioning._responses('(0,1)', 1, 1, 'Infinity', 1, 0);
SELECT decisioning._responses(NULL, 1, 1, 1, 1, 0) IS NULL AS skipped;
