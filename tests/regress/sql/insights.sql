-- For whom which message works: found among half of the customers, confirmed by the other half.
SET client_min_messages = warning;
SET timezone = 'UTC';
-- Customers, and what they were sent at random: no_send with 0.4, each message by each channel with 0.1.
CREATE FUNCTION public.luck(text) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$ SELECT (hashtext($1) & 1048575) / 1048576.0 $$;
CREATE TABLE public.history AS
SELECT 'c-' || n AS id, (ARRAY['yoga', 'swimming', 'martial arts', 'cycling', NULL])[1 + n % 5] AS top_activity,
       18 + floor(60 * luck('age' || n)) AS age, luck('member' || n) < 0.5 AS member, 'shop' AS source,
       CASE WHEN a.die < 0.4 THEN 'no_send' ELSE (ARRAY['swimming_email', 'swimming_sms', 'news_email', 'news_sms', 'coupon_email', 'coupon_sms'])[1 + floor((a.die - 0.4) * 10)::int] END AS action,
       CASE WHEN a.die < 0.4 THEN 0.4 ELSE 0.1 END AS propensity, timestamptz '2026-01-01' + n * interval '1 minute' AS at
FROM generate_series(1, 24000) AS n CROSS JOIN LATERAL (SELECT luck('die' || n) AS die) AS a;
-- Members respond more than others, to whatever; martial artists like what is about swimming, and the old do not like sms.
CREATE FUNCTION public.rate(h public.history) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN h.member THEN 0.12 ELSE 0.08 END * CASE WHEN h.action = 'no_send' THEN 0.5 ELSE 1 END
           * CASE WHEN h.top_activity = 'martial arts' AND h.action LIKE 'swimming%' THEN 3 ELSE 1 END
           * CASE WHEN h.age >= 58 AND h.action LIKE '%sms' THEN 0.3 ELSE 1 END
$$;
CREATE VIEW public.visits AS SELECT 'v-' || id AS event, id, at + interval '1 hour' AS at FROM public.history h WHERE luck('visit' || id) < rate(h);
-- The same customers, and visits that have nothing to do with what they were sent.
CREATE VIEW public.strolls AS SELECT 's-' || id AS event, id, at + interval '1 hour' AS at FROM public.history h
WHERE luck('stroll' || id) < CASE WHEN member THEN 0.15 ELSE 0.08 END;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-02-01';
SELECT decisioning.create_campaign(c, 'public.history', 'id', features => '{top_activity, age, member, source}') IS NOT NULL AS created
FROM unnest(ARRAY['spring', 'walks']) AS c;
UPDATE decisioning.campaigns SET salt = CASE campaign WHEN 'spring' THEN uuid '00000000-0000-4000-8000-000000000006' ELSE '00000000-0000-4000-8000-000000000007' END;
SELECT decisioning.add_action(c, m || '_' || ch, message => m, channel => ch)
FROM unnest(ARRAY['spring', 'walks']) AS c, unnest(ARRAY['swimming', 'news', 'coupon']) AS m, unnest(ARRAY['email', 'sms']) AS ch;
SELECT decisioning.add_goal('visit'), decisioning.add_campaign_goal('spring', 'visit', attribution_window => '1 day'),
       decisioning.add_goal('stroll'), decisioning.add_campaign_goal('walks', 'stroll', attribution_window => '1 day');
SELECT decisioning.add_outcome_source('visit', 'public.visits', customer_key => 'id', occurred_at => 'at', event_id => 'event'),
       decisioning.add_outcome_source('stroll', 'public.strolls', customer_key => 'id', occurred_at => 'at', event_id => 'event');
SELECT decisioning.import_decisions(c, 'public.history', customer_key => 'id', action => 'action', decided_at => 'at', propensity => 'propensity')
FROM unnest(ARRAY['spring', 'walks']) AS c;
SELECT c, l.new_decisions FROM unnest(ARRAY['spring', 'walks']) AS c, decisioning.learn(c) AS l;

SELECT segment, dimension, level, round(response_rate::numeric, 3) AS response_rate, round(baseline_rate::numeric, 3) AS baseline_rate,
       round(ratio::numeric, 2) AS ratio, round(lower::numeric, 2) AS lower, round(upper::numeric, 2) AS upper, confirmed
FROM decisioning.insights('spring');
SELECT sentence FROM decisioning.insights('spring') WHERE confirmed;
-- Sizes are of the confirming half: about half of the segment, and of it those who were sent something.
SELECT bool_and(i.customers BETWEEN 0.45 * s.customers AND 0.55 * s.customers) AS half, bool_and(i.decisions = i.customers) AS one_each
FROM decisioning.insights('spring') AS i, (SELECT count(*) AS customers FROM public.history WHERE top_activity = 'martial arts' AND action <> 'no_send') AS s
WHERE i.segment = 'top_activity = martial arts';
-- It is the same every time.
SELECT count(*) - count(*) FILTER (WHERE a = b) AS differences
FROM decisioning.insights('spring') WITH ORDINALITY AS a JOIN decisioning.insights('spring') WITH ORDINALITY AS b USING (ordinality);
SELECT count(*) FROM decisioning.insights('spring', most => 1);
SELECT count(*) FROM decisioning.insights('spring', since => '2026-01-15', false_discovery_rate => 1e-12);
-- Members walk more, whatever they are sent: nothing to be said about what to send.
SELECT sum(decisions) AS decisions, sum(responses) AS responses FROM decisioning.action_performance('walks');
SELECT * FROM decisioning.insights('walks') WHERE confirmed;

SELECT * FROM decisioning.insights('autumn');
SELECT * FROM decisioning.insights(NULL);
SELECT * FROM decisioning.insights('spring', false_discovery_rate => 0);
SELECT * FROM decisioning.insights('spring', most => 0);
-- Readers may look.
CREATE ROLE analyst;
SELECT decisioning.grant_rights('analyst', 'reader');
SET ROLE analyst;
SELECT count(*) > 0 AS some FROM decisioning.insights('spring');
SELECT count(*) > 0 AS some FROM decisioning.action_performance('spring');
RESET ROLE;
DROP EXTENSION decisioning;
DROP OWNED BY analyst;
DROP ROLE analyst;
