-- Features are read in place, whatever the relation looks like, and the relation may change between two calls.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
CREATE TYPE public.tier AS ENUM ('bronze', 'gold');
CREATE TABLE public.base AS
SELECT n::bigint AS id, CASE WHEN n % 10 > 0 THEN n::numeric / 3 END AS spend, n % 2 = 0 AS member,
       'city ' || n % 150 AS city, (ARRAY['bronze', 'gold'])[1 + n % 2]::public.tier AS tier,
       date '2026-01-01' - n % 100 AS born, timestamp '2026-01-01' + n * interval '1 hour' AS seen,
       CASE WHEN n % 5 > 0 THEN timestamptz '2026-01-01' END AS clicked, '{}'::jsonb AS raw, 7 AS constant,
       NULL::text AS empty, 'NaN'::float8 AS broken
FROM generate_series(1, 600) AS n;
CREATE VIEW public.customers AS SELECT * FROM public.base;
SELECT decisioning.create_campaign('c', 'public.customers', 'id');
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000002';
SELECT decisioning.add_action('c', 'mail', channel => 'email'), decisioning.approve_action('c', 'mail'),
       decisioning.add_goal('buy'), decisioning.add_campaign_goal('c', 'buy', attribution_window => '1 day'),
       decisioning.start_campaign('c');
-- json is no feature; more than a hundred cities are the most frequent thirty and "other".
SELECT f ->> 'name' AS feature, f -> 'kind' ->> 'kind' AS kind, jsonb_array_length(f -> 'kind' -> 'levels') AS levels
FROM decisioning._encoder, jsonb_array_elements(definition -> 'features') f;
SELECT customer_id FROM decisioning.decide(10, 'c');
SELECT context FROM decisioning.decisions WHERE customer_id = '10';
-- The caller's context overrides by name and adds what it likes.
SELECT customer_id FROM decisioning.decide(11, 'c', '{"city": "city 1", "device": "phone", "spend": null}');
SELECT context -> 'city' AS city, context -> 'device' AS device, context -> 'spend' AS spend FROM decisioning.decisions WHERE customer_id = '11';

-- dbt builds a new relation and renames: the same name, another oid, a column more, one less, one retyped.
CREATE TABLE public.next AS SELECT id, spend::text AS spend, member, tier, born, seen, clicked, constant, empty, broken, 1.5 AS extra FROM public.base;
ALTER VIEW public.customers RENAME TO old_customers;
ALTER TABLE public.next RENAME TO customers;
RESET client_min_messages;
SELECT customer_id, reason IN ('holdout', 'explore', 'optimise') AS decided FROM decisioning.decide(12, 'c');
SELECT customer_id, reason IN ('holdout', 'explore', 'optimise') AS decided FROM decisioning.decide(13, 'c');
SET client_min_messages = warning;
SELECT context -> 'spend' AS spend, context -> 'city' AS city, context -> 'constant' AS constant
FROM decisioning.decisions WHERE customer_id = '12';
-- learn adapts: what stayed keeps its encoding, so what was learned of it holds.
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SELECT model_version, new_decisions, decisions FROM decisioning.learn('c');
SELECT encoder_version, f ->> 'name' AS feature, f -> 'kind' ->> 'kind' AS kind
FROM decisioning._encoder, jsonb_array_elements(definition -> 'features') f WHERE encoder_version = 2;
SELECT customer_id FROM decisioning.decide(14, 'c');
SELECT context FROM decisioning.decisions WHERE customer_id = '14';
SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r;
-- A relation that is gone is a clear error, and its return is harmless.
ALTER TABLE public.customers RENAME TO gone;
SELECT * FROM decisioning.decide(15, 'c');
ALTER TABLE public.gone RENAME TO customers;
SELECT customer_id FROM decisioning.decide(15, 'c');
ALTER TABLE public.customers RENAME COLUMN id TO key;
SELECT * FROM decisioning.decide(16, 'c');
-- Nothing of ours stands in the way of dropping it.
DROP TABLE public.customers CASCADE;
