-- Budgets: what a campaign may spend, what it has spent, and what a unit more would gain. And one offer at a time.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE TABLE public.customers AS
SELECT 'c-' || n AS customer_id, n % 90 AS age, 'h-' || n / 2 AS household FROM generate_series(1, 400) AS n;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SELECT left(decisioning.create_campaign('winback', 'public.customers', 'customer_id', explore_share => 0.6, currency => 'EUR',
       offer_consistency => NULL), 50);
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000001';
-- An e-mail is nearly free; a coupon costs 5 euros, but only if it is used.
SELECT decisioning.add_action('winback', 'mail', channel => 'email', cost_send => 0.01);
SELECT decisioning.add_action('winback', 'coupon', channel => 'email', offer => '5_off', cost_send => 0.01, cost_on_goal => 5);
SELECT decisioning.add_action('winback', 'letter', channel => 'post', cost_send => 0.80);
SELECT decisioning.approve_action('winback', action) FROM decisioning.actions ORDER BY action_id;
SELECT decisioning.add_goal('purchase');
SELECT decisioning.add_campaign_goal('winback', 'purchase', value => 30, attribution_window => '2 days');

-- Budgets are for a campaign, an action or a level of a dimension; in money or in sends; per day, week, month or in total.
SELECT decisioning.set_budget('winback', 60, period => 'week');
SELECT decisioning.set_budget('winback', 20, unit => 'sends', period => 'day', action => 'letter');
SELECT decisioning.set_budget('winback', 10, period => 'total', dimension => 'offer', level => '5_off', ends_at => '2026-07-01');
-- Setting one again changes its amount; what is not meant is refused.
SELECT decisioning.set_budget('winback', 50, period => 'week');
SELECT decisioning.set_budget('winback', 50, period => 'fortnight');
SELECT decisioning.set_budget('winback', 50, unit => 'points');
SELECT decisioning.set_budget('winback', -1);
SELECT decisioning.set_budget('winback', 50, action => 'leaflet');
SELECT decisioning.set_budget('winback', 50, dimension => 'offer', level => '6_off');
SELECT decisioning.set_budget('winback', 50, dimension => 'offer');
SELECT decisioning.set_budget('winback', 50, ends_at => '2026-07-01');
SELECT decisioning.set_budget('nowhere', 50);
SELECT decisioning.remove_budget('winback', 'cost per year');
UPDATE decisioning.budgets SET period = 'day' WHERE budget = 'cost per week';
SELECT budget, unit, period, amount FROM decisioning.budgets ORDER BY 1;
SELECT relation, operation, after ->> 'budget' AS budget, after ->> 'amount' AS amount FROM decisioning.epochs WHERE relation = 'budgets' ORDER BY epoch;

SELECT decisioning.start_campaign('winback');
SELECT budget, amount, reserved, spent, remaining, round(planned::numeric, 2) AS planned, shadow_price, period_starts_at, period_ends_at
FROM decisioning.budget_status ORDER BY 1;
CALL decisioning.decide_all('winback');
-- Nothing is exceeded. What a send is expected to cost is reserved: for the coupon, the chance that it is used times 5 euros.
SELECT budget, amount, round(reserved::numeric, 2) AS reserved, spent, round(remaining::numeric, 2) AS remaining, reserved <= amount AS within
FROM decisioning.budget_status ORDER BY 1;
SELECT action, count(*), count(r.*) AS reservations
FROM decisioning.decisions d
LEFT JOIN decisioning._reservation r ON r.decision_id = d.decision_id AND r.budget = 'cost per week' GROUP BY 1 ORDER BY 1;
-- Reservations add up to what the slots lack.
SELECT p.budget, p.amount - sum(s.available) = (SELECT coalesce(sum(r.charged), 0) FROM decisioning._reservation r WHERE r.budget = p.budget) AS adds_up
FROM decisioning._budget_period p JOIN decisioning._budget_slot s USING (campaign, budget, starts_at)
GROUP BY p.campaign, p.budget, p.starts_at, p.amount ORDER BY 1;
-- Whoever came too late was left with other candidates, the same in every group, and it shows.
SELECT removed IS NOT NULL AS late, count(*), count(*) FILTER (WHERE action = 'letter') AS letters,
       bool_and(abs((SELECT sum(p) FROM unnest(propensities) p) - 1) < 1e-9) AS adds_up, bool_and(cardinality(candidates) = cardinality(propensities)) AS aligned
FROM decisioning.decisions GROUP BY 1 ORDER BY 1;
SELECT treatment_group, bool_or(removed ? 'budget action letter: sends per day') AS late FROM decisioning.decisions GROUP BY 1 ORDER BY 1;
SELECT action, candidate, removed_by FROM decisioning.preview('c-42', 'winback');
SELECT subject, explanation, number FROM decisioning.explain((SELECT decision_id FROM decisioning.decisions
    WHERE treatment_group = 'holdout' AND removed IS NOT NULL ORDER BY customer_id LIMIT 1)) WHERE subject IN ('candidates', 'removed');
SELECT bool_and(r.matches), count(*) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r;

-- Half of the coupons are used, and nobody else buys. learn counts what was used at once.
SELECT count(decisioning.record_outcome('purchase', decision_id::text, decision_id => decision_id)) > 5 AS used
FROM (SELECT decision_id, row_number() OVER (ORDER BY customer_id) AS n FROM decisioning.decisions WHERE action = 'coupon') AS d WHERE n % 2 = 0;
SET decisioning.simulated_now = '2026-06-03 12:00+00';
SELECT model_version, new_decisions, new_outcomes FROM decisioning.learn('winback');
SELECT budget, reserved > amount AS overdrawn, spent, remaining < 0 AS nothing_left FROM decisioning.budget_status WHERE budget LIKE 'offer%';
-- When the window has closed, what is charged is what it did cost: 5 euros for each that was used, and the e-mail for all.
SET decisioning.simulated_now = '2026-06-05 12:00+00';
SELECT new_decisions FROM decisioning.learn('winback');
SELECT s.budget, round(s.reserved::numeric, 6) AS reserved, round(s.spent::numeric, 6) =
       (SELECT round(sum(CASE WHEN o.decision_id IS NOT NULL THEN 5.01 ELSE 0.01 END), 6) FROM decisioning.decisions d
        LEFT JOIN decisioning.outcomes o ON o.decision_id = d.decision_id WHERE d.action = 'coupon') AS as_used
FROM decisioning.budget_status s WHERE s.budget LIKE 'offer%';
-- Doing it again changes nothing; taking a purchase back gives its coupon back.
CREATE TABLE before AS SELECT budget, spent FROM decisioning.budget_status;
SELECT new_decisions, new_outcomes FROM decisioning.learn('winback');
SELECT count(*) FROM decisioning.budget_status s JOIN before b USING (budget) WHERE s.spent <> b.spent;
SELECT decisioning.record_outcome('purchase', o.event_id, customer_id => o.customer_id, occurred_at => '2026-01-01')
FROM (SELECT event_id, customer_id FROM decisioning.outcomes ORDER BY customer_id LIMIT 1) AS o;
SELECT new_outcomes FROM decisioning.learn('winback');
SELECT b.budget, round((b.spent - s.spent)::numeric, 6) AS given_back FROM decisioning.budget_status s JOIN before b USING (budget) WHERE s.budget LIKE 'offer%';

-- An overdrawn budget lets nobody spend; more of it does, at once.
CALL decisioning.decide_all('winback');
SELECT count(*) FILTER (WHERE action = 'coupon') AS coupons, count(*) FILTER (WHERE action = 'letter') AS letters
FROM decisioning.decisions WHERE decided_at > '2026-06-05';
SELECT decisioning.set_budget('winback', 500, period => 'total', dimension => 'offer', level => '5_off', ends_at => '2026-07-01');
SELECT decisioning.set_budget('winback', 600, period => 'week');
SET decisioning.simulated_now = '2026-06-06 10:00+00';
CALL decisioning.decide_all('winback');
SELECT count(*) FILTER (WHERE action = 'coupon') > 0 AS coupons FROM decisioning.decisions WHERE decided_at > '2026-06-06';
SELECT budget, amount, reserved + spent <= amount AS within FROM decisioning.budget_status ORDER BY 1;
-- Less of it, too; and without it there is no limit, but what was spent is remembered.
SELECT decisioning.set_budget('winback', 1, period => 'week');
SELECT remaining < 0 AS overdrawn FROM decisioning.budget_status WHERE budget = 'cost per week';
SET decisioning.simulated_now = '2026-06-07 10:00+00';
CALL decisioning.decide_all('winback');
SELECT count(*) FILTER (WHERE action <> 'no_send') AS sends, min(reason), max(reason) FROM decisioning.decisions WHERE decided_at > '2026-06-07';
SELECT decisioning.remove_budget('winback', budget) FROM decisioning.budgets ORDER BY budget;
SELECT count(*) FROM decisioning.budget_status;
-- A new week begins on Monday, in the campaign's zone.
SELECT decisioning.set_budget('winback', 3, period => 'week');
SELECT remaining < 0 AS overdrawn FROM decisioning.budget_status;
SET decisioning.simulated_now = '2026-06-08 10:00+00';
SELECT remaining, period_starts_at FROM decisioning.budget_status;
CALL decisioning.decide_all('winback');
SELECT reserved <= 3 AND reserved > 2.5 AS used FROM decisioning.budget_status;
-- The price that learn found keeps the optimise group from spending it on the first who come.
SELECT shadow_price IS NULL AS unknown FROM decisioning.budget_status;
SET decisioning.simulated_now = '2026-06-08 22:00+00';
SELECT new_decisions > 0 AS learned FROM decisioning.learn('winback');
SELECT shadow_price > 0 AS scarce FROM decisioning.budget_status;
SELECT bool_and(r.matches), count(*) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r;
SELECT decisioning.remove_budget('winback', 'cost per week');

-- One offer for one person, for as long as offer_consistency says.
SELECT decisioning.add_action('winback', 'gift', channel => 'email', offer => 'gift'), decisioning.approve_action('winback', 'gift');
UPDATE decisioning.campaigns SET offer_consistency = '30 days';
SELECT offer, count(*) FROM decisioning._assignment WHERE offer IS NOT NULL GROUP BY 1;
CREATE PROCEDURE public.days(first date, count integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR day IN 0 .. count - 1 LOOP
        PERFORM set_config('decisioning.simulated_now', (first + day)::text || ' 10:00+00', false);
        PERFORM decisioning._decide_chunk((SELECT array_agg(customer_id) FROM public.customers), 'winback');
    END LOOP;
END $$;
CALL public.days('2026-07-10', 12);
CREATE VIEW public.offers AS
SELECT d.customer_id, c.household, a.offer, d.decided_at FROM decisioning.decisions d JOIN decisioning.actions a USING (campaign, action)
JOIN public.customers c USING (customer_id) WHERE a.offer IS NOT NULL AND d.decided_at > '2026-07-09';
SELECT max(offers) AS offers_per_person, count(*) > 50 AS tested, sum(sent) > count(*) AS repeated
FROM (SELECT count(DISTINCT offer) AS offers, count(*) AS sent FROM public.offers GROUP BY customer_id) AS p;
SELECT action, candidate, removed_by FROM decisioning.preview((SELECT min(customer_id) FROM public.offers WHERE offer = 'gift'), 'winback');
SELECT subject, explanation FROM decisioning.explain((SELECT d.decision_id FROM decisioning.decisions d
    WHERE d.removed ? 'offer_consistency' ORDER BY d.decided_at, d.customer_id LIMIT 1)) WHERE subject = 'removed';
-- After 30 days from when it was first sent, another one may follow.
CALL public.days('2026-08-15', 8);
SELECT count(*) > 0 AS changed FROM (SELECT FROM public.offers GROUP BY customer_id HAVING count(DISTINCT offer) > 1) AS p;
-- And one for a household.
SELECT max(offers) AS offers_per_household FROM (SELECT count(DISTINCT offer) AS offers FROM public.offers WHERE decided_at < '2026-08-01' GROUP BY household) AS h;
UPDATE decisioning.campaigns SET household_column = 'household';
CALL public.days('2026-11-01', 12);
SELECT max(offers) AS offers_per_household, count(*) > 50 AS tested
FROM (SELECT count(DISTINCT offer) AS offers FROM public.offers WHERE decided_at > '2026-11-01' GROUP BY household) AS h;
SELECT bool_and(r.matches), count(*) > 5000 AS tested FROM decisioning.decisions d, decisioning.replay(d.decision_id) r;
