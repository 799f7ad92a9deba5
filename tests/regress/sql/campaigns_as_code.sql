-- Campaigns as code: a campaign as one document, there and back, and what changed.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE TABLE public.customers AS
SELECT 'c-' || n AS customer_id, n % 90 AS age, n % 4 > 0 AS email_opt_in, n % 3 = 0 AS sms_opt_in, 'Europe/Berlin'::text AS tz, 'DE'::text AS area
FROM generate_series(1, 200) AS n;
CREATE TABLE public.consents (customer text, granted boolean, channel text);
CREATE TABLE public."Orders of 2026" (order_id text, customer_id text, ordered_at timestamptz, margin numeric);
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-03 10:00+00';

-- A campaign made by hand, with something in every section.
SELECT left(decisioning.create_campaign('winback', 'public.customers', 'customer_id', audience => 'age > 10', time_zone => 'tz',
       features => '{age}', control_share => 0.1, control_action => 'hello_mail', half_life => '45 days', offer_consistency => NULL), 40);
SELECT decisioning.set_send_options('winback', 'Europe/Berlin', 'area', '2 days');
SELECT decisioning.add_action('winback', 'hello_mail', message => 'hello', channel => 'email', content => '{"subject": "Hello", "rank": 1.5}');
SELECT decisioning.add_action('winback', 'ten_mail', message => 'hello', offer => '10_percent', channel => 'email', cost_on_goal_share => 0.1);
SELECT decisioning.add_action('winback', 'hello_text', message => 'hello', channel => 'sms', cost_send => 0.05, category => 'promotion');
SELECT decisioning.add_goal('purchase', 'value', 'An order');
SELECT decisioning.add_goal('complaint', 'harm');
SELECT decisioning.add_campaign_goal('winback', 'purchase', attribution_window => '10 days');
SELECT decisioning.add_campaign_goal('winback', 'complaint', -5);
SELECT decisioning.set_goal_exit('winback', 'purchase', 'cool_down', '14 days');
SELECT decisioning.add_outcome_source('purchase', 'public."Orders of 2026"', 'customer_id', 'ordered_at', 'margin', 'order_id', 'margin > 0');
SELECT decisioning.set_budget('winback', 100, 'week');
SELECT decisioning.set_budget('winback', 20, 'total', 'sends', dimension => 'offer', level => '10_percent', ends_at => '2026-12-31 00:00+01');
SELECT decisioning.add_eligibility_rule('winback', 'age >= 18', '{"channel": "sms"}', rule => 'adults');
SELECT decisioning.set_consent_column('winback', 'email_opt_in', 'email');
SELECT decisioning.set_consent_column('winback', 'sms_opt_in', 'sms');
SELECT decisioning.add_consent_source('public.consents', 'customer', 'granted', 'channel', campaign => 'winback');
SELECT decisioning.add_frequency_cap(2, '7 days', 'winback', cap => 'weekly');
SELECT decisioning.add_frequency_cap(9, 'month', 'winback', per => 'message', ramp_from => 3, ramp_starts_at => '2026-06-01 00:00+02', ramp_ends_at => '2026-07-01 00:00+02', cap => 'warm_up');
SELECT decisioning.set_quiet_hours('21:00', '08:00', 'winback', '{"channel": ["sms"]}', weekdays => '{saturday,sunday}', rule => 'nights');
SELECT decisioning.add_order_rule('winback', '{"offer": "10_percent"}', 'only_after', '{"action": "hello_mail"}', '30 days', 'first_hello');
SELECT decisioning.set_brand_options('winback', four_eyes => false, locale_column => 'area');
SELECT decisioning.set_content('winback', 'hello_mail', '{"subject": "Hallo"}', 'de');
SELECT decisioning.add_brand_rule('banned_phrases', '{"phrases": ["best"]}', 'no superlatives', 'winback', fields => '{subject}', valid_from => '2026-01-01 00:00+01', owner => 'legal');
SELECT decisioning.add_entry_source('winback', 'public."Orders of 2026"', 'customer_id', 'ordered_at', '2 hours', 'margin > 100', 'large orders');
SELECT decisioning.add_stop_rule('winback', 'complaint', 0.01, 'pause');
SELECT decisioning.add_frequency_cap(5, 'week', cap => 'everybody');
SELECT jsonb_pretty(decisioning.export_configuration('winback'));

-- It does not depend on how a session sees times, and applying it changes nothing and opens no epoch.
CREATE TABLE public.kept AS SELECT decisioning.export_configuration('winback') AS document;
SELECT max(epoch) AS before FROM decisioning.epochs \gset
SET intervalstyle = 'iso_8601'; SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY';
SELECT decisioning.export_configuration('winback') = document AS same FROM public.kept;
SELECT * FROM decisioning.configure((SELECT document FROM public.kept));
RESET intervalstyle; SET timezone = 'UTC'; RESET datestyle;
SELECT max(epoch) = :before AS no_epoch FROM decisioning.epochs;

-- On an empty database it makes the same campaign.
DROP EXTENSION decisioning CASCADE;
CREATE EXTENSION decisioning;
SELECT count(*) AS shown FROM decisioning.configure((SELECT document FROM public.kept), dry_run => true);
SELECT count(*) AS campaigns FROM decisioning.campaigns;
SELECT path, before IS NULL AS is_new FROM decisioning.configure((SELECT document FROM public.kept));
SELECT decisioning.export_configuration('winback') = document AS same FROM public.kept;
SELECT * FROM decisioning.configure((SELECT document FROM public.kept));
SELECT DISTINCT status FROM decisioning.actions;

-- A change is what differs; a dry run shows it alone. Content that changes loses its approval.
SELECT count(decisioning.approve_action('winback', action)) FROM decisioning.actions;
SELECT decisioning.start_campaign('winback');
CREATE TABLE public.next AS SELECT jsonb_set(jsonb_set(jsonb_set(jsonb_set(document #- '{actions,ten_mail}' #- '{frequency_caps,weekly}',
    '{settings,audience}', '"age > 12"'), '{actions,hello_text,content}', '{"body": "Hi"}'), '{campaign_goals,purchase,attribution_window}', '"5 days"'),
    '{budgets}', '[{"amount": 120, "period": "week"}]') AS document FROM public.kept;
SELECT max(epoch) AS before FROM decisioning.epochs \gset
SELECT * FROM decisioning.configure((SELECT document FROM public.next), dry_run => true);
SELECT max(epoch) = :before AS no_epoch FROM decisioning.epochs;
SELECT * FROM decisioning.configure((SELECT document FROM public.next));
SELECT * FROM decisioning.configure((SELECT document FROM public.next));
SELECT relation, row_key, operation, changes - '{created_at,approved_at,approved_content_hash}'::text[] AS changes FROM decisioning.configuration_changes WHERE epoch > :before ORDER BY epoch;
SELECT count(*) FILTER (WHERE changed_by = current_user) = count(*) AS by_whom FROM decisioning.configuration_changes;
-- An absent section stays as it is; the cap of all campaigns is none of its business.
SELECT * FROM decisioning.configure('{"campaign": "winback"}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "quiet_hours": {}}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "quiet_hours": {"days": {"starts": "9:00", "ends": "17:00", "kind": "open", "weekdays": ["Monday"]}}}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "quiet_hours": {"days": {"starts": "09:00", "ends": "17:00", "kind": "open", "weekdays": ["Monday"]}}}');

-- What is not meant is refused, by the path, and nothing of it is kept.
SELECT max(epoch) AS before FROM decisioning.epochs \gset
SELECT * FROM decisioning.configure(NULL);
SELECT * FROM decisioning.configure('[]');
SELECT * FROM decisioning.configure('{"settings": {}}');
SELECT * FROM decisioning.configure('{"campaign": "nobody"}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "caps": {}}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "frequency_caps": {"x": {"maximum": 1, "period": "day", "maximun": 2}}}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "frequency_caps": {"x": {"period": "day"}}}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "frequency_caps": []}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "actions": {"x": {"action": "y"}}}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "actions": {"hello_mail": {"dimensions": {"message": "other"}}}}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "budgets": [{"amount": 1}, {"amount": 2}]}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "settings": {"customers": "customers", "customer_key": "customer_id", "time_zone": "UTC"}}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "settings": {"customers": "public.customers", "customer_key": "customer_id", "time_zone": "UTC", "audience": "height > 3"}}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "eligibility_rules": {"x": {"predicate": "random() < 0.5"}}}');
SELECT * FROM decisioning.configure('{"campaign": "winback", "campaign_goals": {"complaint": {"value": 3}}}');
SELECT decisioning.add_frequency_cap(5, 'week', cap => 'everybody');
SELECT * FROM decisioning.configure('{"campaign": "winback", "frequency_caps": {"everybody": {"maximum": 1, "period": "day"}}}');
SELECT array_agg(relation) AS only_the_cap FROM decisioning.epochs WHERE epoch > :before;

-- A manager may, and reads the customers as himself; a reader may look.
CREATE ROLE document_manager; CREATE ROLE document_reader;
SELECT decisioning.grant_rights('document_manager', 'manager');
SELECT decisioning.grant_rights('document_reader', 'reader');
SET ROLE document_reader;
SELECT decisioning.export_configuration('winback') -> 'settings' ->> 'audience' AS audience;
SELECT * FROM decisioning.configure('{"campaign": "winback"}');
SET ROLE document_manager;
SELECT * FROM decisioning.configure('{"campaign": "winback", "eligibility_rules": {"adults": {"predicate": "age >= 21"}}}');
RESET ROLE;
GRANT SELECT ON public.customers TO document_manager;
SET ROLE document_manager;
SELECT * FROM decisioning.configure('{"campaign": "winback", "eligibility_rules": {"adults": {"predicate": "age >= 21"}}}');
RESET ROLE;
SELECT changed_by FROM decisioning.configuration_changes ORDER BY epoch DESC LIMIT 1;
SELECT decisioning.end_campaign('winback');
SELECT * FROM decisioning.configure('{"campaign": "winback", "quiet_hours": {}}');
DROP EXTENSION decisioning;
DROP OWNED BY document_manager, document_reader; DROP ROLE document_manager, document_reader;
