-- Privacy: what is known of a customer is exported and forgotten; what lift and learning count stays, under a name that tells nobody.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE TABLE public.customers AS
SELECT 'c-' || n AS customer_id, n AS number, 'p' || n || '@example.org' AS mail, true AS agrees FROM generate_series(1, 400) AS n;
CREATE TABLE public.orders AS
SELECT 'o-' || n AS order_id, 'c-' || n AS customer_id, timestamptz '2026-06-01 12:00+00' + n * interval '1 second' AS at FROM generate_series(1, 400) AS n WHERE n % 3 = 0;
-- Known to a shop under another key.
CREATE TABLE public.accounts AS SELECT 'a-' || n AS account, 'p' || n || '@example.org' AS mail, 'Anna ' || n AS name FROM generate_series(1, 10) AS n;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-01 10:00+00';
SELECT decisioning.add_source('crm', 'public.customers', 'customer_id', '{"mail": "email"}'), decisioning.add_source('shop', 'public.accounts', 'account', '{"mail": "email", "name": "full_name"}');
CALL decisioning.resolve_all();
CALL decisioning.refresh_golden_records();
SELECT left(decisioning.create_campaign('spring', 'public.customers', 'customer_id', features => '{number}', holdout_share => 0.3, explore_share => 0.2, time_zone => 'UTC'), 8);
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000001', offer_consistency = NULL;
SELECT decisioning.add_action('spring', 'mail', message => 'hello', channel => 'email', content => '{"subject": "Hello"}'), decisioning.approve_action('spring', 'mail');
SELECT decisioning.add_goal('purchase');
SELECT decisioning.add_campaign_goal('spring', 'purchase', attribution_window => '1 day');
SELECT decisioning.add_outcome_source('purchase', 'public.orders', customer_key => 'customer_id', occurred_at => 'at', event_id => 'order_id', lookback => '30 days');
SELECT decisioning.add_frequency_cap(1, 'day');
SELECT decisioning.set_budget('spring', 1000, 'day', unit => 'sends');
SELECT decisioning.start_campaign('spring');
CALL decisioning.decide_all('spring');
SELECT decisioning.suppress('c-3', channel => 'sms', reason => 'asked on the phone');
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SELECT new_decisions, new_outcomes > 100 AS many FROM decisioning.learn('spring');
SELECT count(*) AS decided FROM decisioning.decide_batch('{c-3,c-6,shop:a-9}', 'spring');
SELECT count(*) AS waiting FROM decisioning._outbox;

-- What is known of him: by any of his ids.
SELECT part.key, jsonb_array_length(part.value) AS rows
FROM decisioning.export_customer('shop:a-3') AS d, jsonb_each(d) AS part ORDER BY 1;
SELECT decisioning.export_customer('shop:a-3') #> '{golden_record,0,full_name}' AS name, decisioning.export_customer('nobody') - 'ids' @> '{"decisions": []}' AS nothing;

-- Lift does not change because somebody is forgotten, nor when the model learns next.
CREATE TABLE public.before AS SELECT * FROM decisioning.lift('spring');
SELECT * FROM decisioning.forget_customer('shop:a-3', reason => 'asked by letter');
SELECT * FROM decisioning.forget_customer('c-6');
SELECT * FROM decisioning.forget_customer('c-6');
SELECT * FROM decisioning.forget_customer('');
SELECT count(*) AS differences FROM (TABLE public.before EXCEPT SELECT * FROM decisioning.lift('spring')) AS d;
SELECT decisioning.learn('spring') IS NOT NULL AS learned;
SELECT count(*) AS differences FROM (TABLE public.before EXCEPT SELECT * FROM decisioning.lift('spring')) AS d;

-- Nothing of ours says his ids or his mail any more, but a suppression and who is forgotten, as a hash.
CREATE FUNCTION public.mentions(what text) RETURNS TABLE (relation text, rows bigint) LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT c.oid::regclass AS name FROM pg_class c WHERE c.relnamespace = 'decisioning'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
               ORDER BY 1::text LOOP
        EXECUTE format('SELECT %L, count(*) FROM %s t WHERE to_jsonb(t)::text ~ %L', one.name::text, one.name, what) INTO relation, rows;
        IF rows > 0 THEN RETURN NEXT; END IF;
    END LOOP;
END $$;
SELECT * FROM public.mentions('"(c-3|shop:a-3|a-3|o-3)"|p3@example');
SELECT * FROM public.mentions('"(c-6|shop:a-6|a-6|o-6)"|p6@example');
SELECT count(*) > 5 AS known FROM public.mentions('"(c-9|shop:a-9|a-9)"|p9@example');
SELECT count(*) AS tombstones, count(DISTINCT tombstone) AS names, count(*) FILTER (WHERE reason = 'asked by letter') AS by_letter FROM decisioning.forgotten;
-- His decisions are there, and say nothing of him; what waited for him is not sent.
SELECT d.decided_at, d.context, d.content, cardinality(d.propensities) AS propensities, round(d.encoded[2]::numeric, 3) AS encoded
FROM decisioning.decisions d JOIN decisioning.forgotten f ON f.tombstone = d.customer_id WHERE f.reason IS NOT NULL ORDER BY 1;
SELECT count(*) AS waiting, max(reserved) AS reserved FROM decisioning._outbox, decisioning.budget_status;
SELECT count(*) AS parts FROM decisioning.forget_customer('c-9');
SELECT count(*) AS waiting FROM decisioning._outbox;
SELECT reserved FROM decisioning.budget_status;
SELECT r.* FROM decisioning.decisions d JOIN decisioning.forgotten f ON f.tombstone = d.customer_id, decisioning.replay(d.decision_id) AS r WHERE f.reason IS NOT NULL ORDER BY d.decided_at LIMIT 1;
SELECT action IS NOT NULL AS told FROM decisioning.decisions d JOIN decisioning.forgotten f ON f.tombstone = d.customer_id, decisioning.explain_text(d.decision_id) AS e WHERE f.reason IS NOT NULL LIMIT 1;

-- His orders are still in the shop's table: those of before stay forgotten, however often they are read; later ones are new.
INSERT INTO public.orders VALUES ('o-1003', 'c-3', '2026-06-03 12:00+00');
SET decisioning.simulated_now = '2026-06-03 13:00+00';
SELECT recorded, reversed FROM decisioning.ingest_outcomes('purchase', complete => true);
SELECT event_id FROM decisioning.outcomes WHERE customer_id = 'c-3';
-- If he is still in the tables he comes back as somebody new.
DELETE FROM public.accounts WHERE account = 'a-3';
CALL decisioning.resolve_all();
SELECT source, record_key, customer_id FROM decisioning.identity_map WHERE record_key IN ('c-3', 'a-3', 'c-6', 'a-6') ORDER BY 1, 2;
SELECT reason IS NOT NULL AS decided FROM decisioning.decide('c-3', 'spring');
SELECT channel, reason FROM decisioning.suppressions WHERE customer_id = 'c-3';

BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT decisioning.forget_customer('c-4');
ROLLBACK;

-- A send that was made is no secret to whoever made it, but says nothing of him here; the change is synced.
SELECT count(*) AS decided FROM decisioning.decide_batch(ARRAY(SELECT 'c-' || n FROM generate_series(30, 60) AS n), 'spring');
SELECT queued > 0 AS queued FROM decisioning.dispatch('spring');
CREATE TABLE public.sent AS SELECT decision_id, customer_id, updated_at FROM decisioning.sends WHERE status = 'queued' LIMIT 1;
SELECT count(*) AS parts FROM public.sent s, decisioning.forget_customer(s.customer_id);
SELECT m.status, m.reason, m.content, m.customer_id LIKE 'forgotten-%' AS anonymous, m.updated_at > s.updated_at AS synced FROM decisioning.sends m JOIN public.sent s USING (decision_id);

-- Consent to profiling: who has not given it is not decided for; who refuses is forgotten by forget_refusals.
SELECT decisioning.set_profiling_consent('spring', 'number');
SELECT decisioning.set_profiling_consent('spring', 'consents');
SELECT decisioning.set_profiling_consent('spring', 'agrees');
UPDATE public.customers SET agrees = NULL WHERE customer_id = 'c-20';
UPDATE public.customers SET agrees = false WHERE customer_id IN ('c-21', 'c-24');
SET decisioning.simulated_now = '2026-06-05 10:00+00';
SELECT decisioning.decide('c-20', 'spring') AS nobody, decisioning.decide('c-21', 'spring') AS nobody_either;
SELECT removed_by FROM decisioning.preview('c-20', 'spring') WHERE action = 'mail';
SELECT count(*) AS parts FROM decisioning.forgotten WHERE reason = 'refused profiling';
SELECT decisioning.forget_refusals();
SELECT count(DISTINCT d.customer_id) AS forgotten FROM decisioning.decisions d JOIN decisioning.forgotten f ON f.tombstone = d.customer_id WHERE f.reason = 'refused profiling';
SELECT * FROM public.mentions('"c-21"|"o-21"|"c-24"|"o-24"');
SELECT count(*) AS still_known FROM decisioning.decisions WHERE customer_id = 'c-20';
SELECT decisioning.forget_refusals();
SELECT count(*) AS once FROM (SELECT FROM decisioning.forgotten WHERE reason = 'refused profiling' LIMIT 9) AS f;
-- The log is as exact as before: the model counts what is in it.
SELECT (SELECT decisions FROM decisioning.models WHERE campaign = 'spring' ORDER BY model_version DESC LIMIT 1) + (SELECT count(*) FROM decisioning._inbox WHERE decision_id IS NOT NULL)
       = (SELECT count(*) FROM decisioning.decisions) AS counted;
CREATE ROLE regress_operator;
SELECT decisioning.grant_rights('regress_operator', 'operator');
SET ROLE regress_operator;
SELECT decisioning.forget_customer('c-50');
RESET ROLE;
DROP OWNED BY regress_operator; DROP ROLE regress_operator;
DROP EXTENSION decisioning;
