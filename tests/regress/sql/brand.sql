-- Brand and compliance as data: what may be said, checked where it is written, when it is approved, and whenever a rule changes.
\set VERBOSITY default
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE TABLE public.customers AS
SELECT 'c-' || n AS customer_id, (ARRAY['en', 'de-AT', 'de_CH', NULL, 'fr'])[1 + n % 5] AS lang FROM generate_series(1, 10) AS n;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SET client_min_messages = warning;
SELECT left(decisioning.create_campaign('spring', 'public.customers', 'customer_id'), 18);
SELECT decisioning.add_action('spring', 'mail', message => 'sale', channel => 'email', offer => '10_percent',
       content => '{"subject": "Best deal EVER!!!", "body": "It is risk free. See https://shop.example.com/sale"}');
SELECT decisioning.add_action('spring', 'text', message => 'sale', channel => 'sms', content => '{"text": "10 % off today: shop.example.com"}');
SELECT decisioning.add_goal('purchase');
SELECT decisioning.add_campaign_goal('spring', 'purchase');

-- Rules that cannot be checked are refused, whichever way they come.
SELECT decisioning.add_brand_rule('shouting', '{}');
SELECT decisioning.add_brand_rule('banned_phrases', '{"phrases": []}');
SELECT decisioning.add_brand_rule('approved_claims', '{"patterns": ["("]}');
SELECT decisioning.add_brand_rule('length', '{"maximum": 20}', severity => 'maybe');
SELECT decisioning.add_brand_rule('length', '{"maximum": 20}', campaign => 'spring', actions => '{"channel": "fax"}');
SELECT decisioning.add_brand_rule('length', '{"maximum": 20}', fields => '{}');
SELECT decisioning.add_brand_rule('length', '{"maximum": 20}', locales => '{NULL}');
SELECT decisioning.add_brand_rule('length', '{"maximum": 20}', actions => '{"chanel": "sms"}');
INSERT INTO decisioning.brand_rules (rule, kind, parameters) VALUES ('x', 'length', '{"most": 3}');
SELECT decisioning.add_claim('tested', '{clinically tested}', 'we know it');

-- A rule of each kind, for some channel, field, offer, language, time.
SELECT decisioning.add_brand_rule('banned_phrases', '{"phrases": ["risk free", "best"]}', 'no superlatives', owner => 'legal');
SELECT decisioning.add_brand_rule('required_phrases', '{"phrases": ["Terms apply"]}', 'disclaimer of offers', actions => '{"offer": "10_percent"}', description => 'Say that terms apply wherever there is a discount.');
SELECT decisioning.add_brand_rule('length', '{"maximum": 40}', 'subjects are short', fields => '{subject}');
SELECT decisioning.add_brand_rule('text_message', '{"maximum_segments": 1, "gsm7_only": true}', 'one message', actions => '{"channel": "sms"}');
SELECT decisioning.add_brand_rule('voice', '{"maximum_exclamation_marks": 1, "maximum_capitals": 0.5, "maximum_emoji": 1}', 'calm', severity => 'warn');
SELECT decisioning.add_brand_rule('links', '{"allowed_domains": ["example.com"]}', 'our links');
SELECT decisioning.add_brand_rule('merge_fields', '{"required": ["{{unsubscribe}}"], "allowed": ["name"]}', 'unsubscribe', actions => '{"channel": "email"}');
SELECT decisioning.add_brand_rule('approved_claims', '{"patterns": ["clinically \\w+", "\\d+ studies"]}', 'claims');
SELECT decisioning.add_brand_rule('required_phrases', '{"phrases": ["Es gelten AGB"]}', 'german terms', locales => '{de}', actions => '{"channel": ["email", "push"]}');
SELECT * FROM decisioning.check_action('spring', 'mail');
SELECT rule, message, field, span_start, span_length, excerpt FROM decisioning.check_content('{"text": "Hi ‘you’, see www.evil.org"}', 'spring', '{"channel": "sms"}');
SELECT rule, message FROM decisioning.check_content('"Gratis"', dimensions => '{"channel": "push"}', locale => 'de-CH');
SELECT rule, message FROM decisioning.check_content('"Gratuit"', dimensions => '{"channel": "push"}', locale => 'fr');
-- Without content in the database there is nothing to check.
SELECT decisioning.add_action('spring', 'elsewhere', message => 'sale', channel => 'push');
SELECT decisioning.approve_action('spring', 'elsewhere');

-- Approval is refused while something blocks, by whatever way; warnings are told, and kept.
SELECT decisioning.approve_action('spring', 'mail');
UPDATE decisioning.actions SET status = 'approved' WHERE action = 'mail';
SELECT decisioning.set_content('spring', 'mail', '{"subject": "A FINE DEAL FOR YOU", "body": "Terms apply. {{ unsubscribe }}"}');
-- Germans would get it, too, as long as there is nothing for them.
SELECT decisioning.approve_action('spring', 'mail');
SELECT decisioning.set_content('spring', 'mail', '{"subject": "Ein gutes Angebot", "body": "Es gelten AGB. Terms apply. {{unsubscribe}}"}', locale => 'de');
SELECT decisioning.approve_action('spring', 'mail');
SELECT decisioning.approve_action('spring', 'text');
SELECT action, status, approved_by = current_user AS by_me, length(approved_content_hash) AS hash FROM decisioning.actions ORDER BY action_id;
SELECT decisioning.start_campaign('spring');
-- Changed content, in any language, loses its approval.
SELECT decisioning.set_content('spring', 'mail', '{"subject": "Ein gutes Angebot", "body": "{{unsubscribe}}"}', locale => 'de');
SELECT status, approved_content_hash FROM decisioning.actions WHERE action = 'mail';
SELECT locale, rule, message FROM decisioning.check_action('spring', 'mail') WHERE severity = 'block';
SELECT decisioning.approve_action('spring', 'mail');
SELECT decisioning.set_content('spring', 'mail', '{"subject": "Ein gutes Angebot", "body": "Es gelten AGB. Terms apply. {{unsubscribe}}"}', locale => 'de');
SELECT decisioning.set_content('spring', 'mail', '{"subject": "Grüezi", "body": "Es gelten AGB. Terms apply. {{unsubscribe}}"}', locale => 'de-CH');
SELECT decisioning.set_content('spring', 'mail', '{}', locale => 'german!');
SELECT decisioning.approve_action('spring', 'mail');

-- Everybody gets it in his language, or the nearest there is.
SELECT decisioning.set_brand_options('spring', locale_column => 'customer_number');
SELECT decisioning.set_brand_options('spring', locale_column => 'lang');
SELECT decisioning.pause_action('spring', action) FROM decisioning.actions WHERE action IN ('text', 'elsewhere');
UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 0, control_share = 1, control_action = 'mail', offer_consistency = NULL;
SELECT d.customer_id, c.lang, d.content ->> 'subject' AS subject
FROM public.customers c, LATERAL decisioning.decide(c.customer_id, 'spring') AS d WHERE c.customer_id < 'c-6' ORDER BY 1;
SELECT count(*) FROM decisioning.decide_batch('{c-6,c-7,c-8,c-9,c-10}', 'spring');
SELECT d.customer_id, d.content ->> 'subject' AS subject FROM decisioning.decisions d WHERE d.customer_id >= 'c-6' ORDER BY 1;
SELECT queued, cancelled FROM decisioning.dispatch('spring');

-- A rule that comes later suspends what breaks it, at once; nobody is decided for with it, and what waits is not sent.
SET decisioning.simulated_now = '2026-06-04 10:00+00';
SELECT action FROM decisioning.decide('c-1', 'spring');
SELECT decisioning.add_brand_rule('banned_phrases', '{"phrases": ["Grüezi"]}', 'no dialect');
SELECT action, status, suspended_reason FROM decisioning.actions WHERE action = 'mail';
SELECT action, reason FROM decisioning.decide('c-2', 'spring');
SELECT queued, cancelled FROM decisioning.dispatch('spring');
SELECT decisioning.approve_action('spring', 'mail');
SELECT decisioning.remove_brand_rule('no dialect');
SELECT decisioning.approve_action('spring', 'mail');
SELECT event, happened_by = current_user AS by_me, reason FROM decisioning.approvals WHERE action = 'mail' ORDER BY approval;
SELECT content -> 'locales' -> 'de-CH' ->> 'subject' AS approved FROM decisioning.approvals WHERE action = 'mail' AND event = 'approved' ORDER BY approval DESC LIMIT 1;

-- Claims are made while they are in force. An approval ends with the claim it needs, whether or not anybody looks.
SELECT decisioning.set_content('spring', 'text', '{"text": "Clinically tested in 3 studies"}');
SELECT decisioning.approve_action('spring', 'text');
SELECT decisioning.add_claim('tested', '{clinically tested in 3 studies}', 'https://example.com/study', expires_at => '2026-06-05 12:00+00');
SELECT decisioning.approve_action('spring', 'text');
SELECT status, approved_until FROM decisioning.actions WHERE action = 'text';
UPDATE decisioning.campaigns SET control_action = 'text';
SELECT action FROM decisioning.decide('c-3', 'spring');
SET decisioning.simulated_now = '2026-06-05 12:00+00';
SELECT action, removed_by FROM decisioning.preview('c-4', 'spring') WHERE action = 'text';
SELECT action FROM decisioning.decide('c-4', 'spring');
SELECT decisioning.maintain();
SELECT status, approved_until, suspended_reason FROM decisioning.actions WHERE action = 'text';
SELECT decisioning.add_claim('tested', '{clinically tested in 3 studies}', 'https://example.com/study', expires_at => '2027-06-05');
SELECT decisioning.approve_action('spring', 'text');
SELECT decisioning.remove_claim('tested');
SELECT status FROM decisioning.actions WHERE action = 'text';
SELECT decisioning.remove_claim('tested');
SELECT decisioning.remove_brand_rule('tested');

-- Four eyes: whoever wrote it does not approve it.
CREATE ROLE regress_writer;
SELECT decisioning.grant_rights('regress_writer', 'author');
SELECT decisioning.set_brand_options('spring', four_eyes => true);
SET ROLE regress_writer;
SELECT rule, severity, field, excerpt FROM decisioning.propose_action('spring', 'push', '{"message": "sale", "channel": "push"}', '{"text": "The best"}', '{"de": {"text": "Das Beste"}}');
SELECT locale, rule, severity, field, excerpt FROM decisioning.propose_action('spring', 'push', '{"message": "sale", "channel": "push"}', '{"text": "A good deal"}', '{"de": {"text": "Gut. Es gelten AGB"}}', customer_reason => 'You have bought from us.');
SELECT rule FROM decisioning.propose_action('spring', 'mail', '{"message": "sale", "channel": "email", "offer": "10_percent"}', '{}');
SELECT rule FROM decisioning.propose_action('spring', 'push2', '{}', '{}');
SELECT decisioning.approve_action('spring', 'push');
SELECT jsonb_pretty(decisioning.brand_context('spring') - 'approved' - 'propose' #- '{rules}') AS context;
SELECT jsonb_array_length(decisioning.brand_context('spring') -> 'rules') AS rules, decisioning.brand_context('spring') #> '{approved,0,contents,de,subject}' AS example;
RESET ROLE;
SELECT action, status, proposed_by, content_changed_by FROM decisioning.actions WHERE action = 'push';
SELECT decisioning.approve_action('spring', 'push');
SELECT decisioning.set_content('spring', 'push', '{"text": "Mine"}');
SELECT decisioning.approve_action('spring', 'push');
SELECT decisioning.set_brand_options('spring', four_eyes => false);
SELECT decisioning.approve_action('spring', 'push');

-- The reason that customers are shown must not say what no text may; an approval is of the category, too.
UPDATE decisioning.actions SET customer_reason = 'The best, clinically tested. https://evil.org' WHERE action = 'push';
SELECT locale, rule, severity, kind, field, span_start, span_length, excerpt FROM decisioning.check_action('spring', 'push');
SELECT decisioning.approve_action('spring', 'push');
UPDATE decisioning.actions SET customer_reason = 'You have bought from us.' WHERE action = 'push';
SELECT decisioning.approve_action('spring', 'push');
UPDATE decisioning.actions SET category = 'loan' WHERE action = 'push';
SELECT status, content_changed_by = current_user AS by_me FROM decisioning.actions WHERE action = 'push';

-- Rules that have no name are told apart by what they are about; the same again is the same rule.
SELECT decisioning.add_brand_rule('length', '{"maximum": 90}', fields => '{text}');
SELECT decisioning.add_brand_rule('length', '{"maximum": 90}', fields => '{subject, body}', locales => '{de}');
SELECT decisioning.add_brand_rule('length', '{"maximum": 90}', fields => '{text}');
SELECT decisioning.add_brand_rule('length', '{"maximum": 90}', campaign => 'spring', actions => '{"channel": ["sms", "push"]}', regions => '{AT}');
SELECT count(*) FROM decisioning.brand_rules WHERE kind = 'length' AND parameters = '{"maximum": 90}';
SELECT decisioning.add_brand_rule('banned_phrases', jsonb_build_object('phrases', jsonb_build_array(repeat('free', 60))));

-- A locale is spelled one way, so that there is one variant of it; what was approved stays as it was written.
SELECT decisioning.set_content('spring', 'push', '{}', locale => 'de_at');
INSERT INTO decisioning.action_contents (campaign, action, locale, content) VALUES ('spring', 'push', 'de-at', '{}');
UPDATE decisioning.approvals SET reason = NULL;
DELETE FROM decisioning.approvals;
TRUNCATE decisioning.approvals;
SELECT relation, operation, count(*) FROM decisioning.epochs WHERE relation IN ('brand_rules', 'claims', 'action_contents') GROUP BY 1, 2 ORDER BY 1, 2;
DROP OWNED BY regress_writer;
DROP ROLE regress_writer;
