-- Linkage for analysts: why two records are one person, changing a weight, and seeing the effect.
CREATE EXTENSION decisioning;
SET client_min_messages = warning;   -- resolve_all tells its progress by NOTICE

-- 400 persons, each in the shop and in the support system: there with errors, other spellings, and gaps.
CREATE TABLE shop AS
SELECT n AS id, n AS person,
       (ARRAY['Anna','Ben','Carla','David','Elif','Frank','Greta','Hans','Ines','Jonas','Katharina','Lars','Maria','Noah','Olga','Paul','Rosa','Sven','Tara','Uwe'])[1 + n * 7 % 20] AS given,
       (ARRAY['Adler','Brandt','Cordes','Dietz','Ebert','Falk','Graf','Hoffmann','Imhof','Jansen','Keller','Lorenz','Maurer','Neumann','Otto','Peters','Richter','Seidel','Thoma','Ulrich','Vogel','Wagner','Zander'])[1 + n * 11 % 23] || CASE n % 3 WHEN 0 THEN '' WHEN 1 THEN 'er' ELSE 'mann' END AS family,
       date '1950-01-01' + (n * 9973) % 18000 AS born,
       'user' || n || '@mail.example' AS mail,
       (n * 17) % 300 || ' Long Street' AS street, 10000 + (n * 13) % 500 AS postcode, 'Town ' || n % 40 AS city
FROM generate_series(1, 400) n;
CREATE TABLE support AS
SELECT id + 10000 AS id, person,
       CASE WHEN id % 9 = 0 THEN left(given, 1) || '.' WHEN given = 'Katharina' THEN 'Kathi' ELSE upper(given) END AS given,
       CASE WHEN id % 7 = 0 THEN overlay(family PLACING 'x' FROM 3 FOR 1) ELSE family END AS family,
       CASE WHEN id % 4 > 0 THEN born END AS born,
       CASE WHEN id % 3 = 0 THEN mail END AS mail,
       CASE WHEN id % 5 > 0 THEN replace(street, 'Street', 'St') END AS street, CASE WHEN id % 5 > 0 THEN postcode END AS postcode, city
FROM shop;

SELECT decisioning.add_source('shop', 'shop', key => 'id',
       fields => '{"given": "given_name", "family": "family_name", "born": "date_of_birth", "mail": "email", "street": "street", "postcode": "postcode", "city": "city"}');
SELECT decisioning.add_source('support', 'support', key => 'id',
       fields => '{"given": "given_name", "family": "family_name", "born": "date_of_birth", "mail": "email", "street": "street", "postcode": "postcode", "city": "city"}');

-- What would be compared, before anything is.
SELECT * FROM decisioning.blocking_rules_in_effect;
SELECT blocking_rule, pairs > 0 AS has_pairs, new_pairs <= pairs AS fewer_are_new FROM decisioning.preview_blocking();
SELECT decisioning.add_blocking_rule('family_name:3+year_of_birth'), decisioning.add_blocking_rule('email_local', enabled => false);
SELECT blocking_rule, enabled, proposed FROM decisioning.blocking_rules_in_effect WHERE NOT proposed OR NOT enabled;
SELECT count(*) FROM decisioning.match_weights_in_effect;

CALL decisioning.resolve_all();
CREATE TABLE labels AS SELECT 'shop' AS source, id AS record_key, person FROM shop UNION ALL SELECT 'support', id, person FROM support;
SELECT threshold, recall > 0.95 AS finds_most, "precision" > 0.95 AS is_right FROM decisioning.identity_accuracy('labels') WHERE threshold IS NULL OR threshold = 0.5;
SELECT measure, value FROM decisioning.identity_quality WHERE measure IN ('records', 'customers_of_more_than_20_records');
SELECT DISTINCT comparison FROM decisioning.match_weights_in_effect ORDER BY 1;
SELECT bool_and((weight > 0) = (level = 'exact')) AS exact_speaks_for_it FROM decisioning.match_weights_in_effect
WHERE level IN ('exact', 'different') AND comparison <> 'email' AND origin = 'trained';
SELECT setting, origin FROM decisioning.match_settings_in_effect ORDER BY setting;

-- A waterfall: the sum of its steps is the match weight, and the same as the pair was joined by.
SELECT step, comparison, level, value_a, value_b, sign(weight) FROM decisioning.explain_match('shop', '11', 'support', '10011');
SELECT abs(sum(e.weight) - max(e.cumulative) FILTER (WHERE e.comparison = 'relatives')) < 1e-6 AS adds_up
FROM decisioning.explain_match('shop', '11', 'support', '10011') e;
SELECT bool_and(abs(l.weight - e.cumulative) < 0.01) AS as_joined
FROM decisioning.identity_links l
CROSS JOIN LATERAL decisioning.explain_match(l.source_a, l.key_a, l.source_b, l.key_b) e
WHERE e.comparison = 'relatives' AND l.key_a IN ('10', '11', '12', '13');
SELECT comparison, level FROM decisioning.explain_match('{"given_name": "Kathi", "family_name": "Weber"}', '{"given_name": "Katharina", "family_name": "Weber"}');
SELECT comparison, value FROM decisioning.normalised_records WHERE source = 'support' AND record_key = '10011' ORDER BY 1;

-- Change a weight, and see the effect: at the next run, and not before.
SELECT decisioning.set_match_weight('given_name', 'different', m => 0.9, u => 0.9);
SELECT decisioning.set_match_factor('date_of_birth', 0);
SELECT origin = 'set' AS is_set FROM decisioning.match_weights_in_effect WHERE comparison = 'given_name' AND level = 'different';
CALL decisioning.resolve_all();
SELECT round(weight::numeric, 6) AS weight, origin FROM decisioning.match_weights_in_effect WHERE comparison = 'given_name' AND level = 'different';
SELECT DISTINCT abs(weight) AS weight FROM decisioning.match_weights_in_effect WHERE comparison = 'date_of_birth';
SELECT weight FROM decisioning.explain_match('shop', '11', 'support', '10011') WHERE comparison = 'date_of_birth';
CREATE TABLE elsewhere AS SELECT decisioning.export_matching() AS document;
SELECT decisioning.set_match_weight('given_name', 'different'), decisioning.set_match_factor('date_of_birth', NULL);
SELECT decisioning.set_match_setting('threshold', 0.999999);
CALL decisioning.resolve_all();
SELECT origin <> 'set' AS as_trained, m < 0.5 AS m_is_low FROM decisioning.match_weights_in_effect WHERE comparison = 'given_name' AND level = 'different';
SELECT round(value::numeric, 6) AS value, origin FROM decisioning.match_settings_in_effect WHERE setting = 'threshold';
SELECT count(*) > 10 AS pairs_to_review, min(probability) >= 0.0099 AS are_worth_a_look FROM decisioning.uncertain_pairs;

-- Settle one of them.
SELECT u.source_a, u.key_a, u.source_b, u.key_b INTO settled FROM decisioning.uncertain_pairs u JOIN shop s ON u.source_a = 'shop' AND s.id::text = u.key_a
WHERE u.key_b = (s.id + 10000)::text AND u.reason = 'weak' ORDER BY s.id LIMIT 1;
SELECT decisioning.confirm_match(source_a, key_a, source_b, key_b) > 0 AS confirmed FROM settled;
CALL decisioning.resolve_all();
SELECT count(*) AS still_to_review FROM decisioning.uncertain_pairs u JOIN settled s USING (source_a, key_a, source_b, key_b);
SELECT l.reason, l.weight FROM decisioning.identity_links l JOIN settled s USING (source_a, key_a, source_b, key_b);
SELECT h.event FROM settled s CROSS JOIN LATERAL decisioning.identity_history('support:' || s.key_b) h;

-- What else somebody should look at: a customer whose records do not fit, and one of very many records.
SELECT count(*) AS doubtful FROM decisioning.review_customers();
SELECT decisioning.confirm_match('shop', '1', 'shop', '2', 'by mistake') AS mistake \gset
INSERT INTO shop SELECT 600 + n, person, given, family, born, mail, street, postcode, city FROM shop CROSS JOIN generate_series(1, 25) n WHERE id = 8;
SELECT decisioning.set_match_setting('block_limit', 20);
CALL decisioning.resolve_all();
SELECT customer_id, records, reasons, source, weight < -5 AS does_not_fit, probability < 0.05 AS is_unlikely FROM decisioning.review_customers(10);
-- They are too many for their blocks as well, which were split by name.
SELECT blocking_rule, records, left_out, skipped_pairs, example_source FROM decisioning.oversized_blocks ORDER BY blocking_rule LIMIT 4;
SELECT decisioning.undo_correction(:mistake) IS NOT NULL AS undone, decisioning.set_match_setting('block_limit', NULL);
DELETE FROM shop WHERE id > 600;
CALL decisioning.resolve_all();
SELECT count(*) AS doubtful, (SELECT count(*) FROM decisioning.oversized_blocks) AS oversized FROM decisioning.review_customers();

-- What was exported judges as it did there.
SELECT decisioning.import_matching(document) FROM elsewhere;
CALL decisioning.resolve_all();
SELECT decisioning.export_matching() - 'settings' = document - 'settings' AS same FROM elsewhere;
SELECT weight FROM decisioning.explain_match('shop', '11', 'support', '10011') WHERE comparison = 'date_of_birth';

-- Spellings that a provider delivers to one mailbox are one address, if asked for.
SELECT value_a, level FROM decisioning.explain_match('{"email": "Ada.L@GoogleMail.com"}', '{"email": "adal+shop@gmail.com"}') WHERE comparison = 'email';
SELECT decisioning.set_match_setting('email_providers', 1);
SELECT value_a, level FROM decisioning.explain_match('{"email": "Ada.L@GoogleMail.com"}', '{"email": "adal+shop@gmail.com"}') WHERE comparison = 'email';
SELECT setting, value, origin FROM decisioning.match_settings_in_effect WHERE setting = 'email_providers';
UPDATE shop SET mail = 'gr.e.ta8@googlemail.com' WHERE id = 8;
CALL decisioning.resolve_all();
SELECT identifier, value FROM decisioning.customer_identifiers WHERE customer_id = '8' AND value LIKE '%gmail%';
SELECT decisioning.resolve_identity('{"email": "greta8@gmail.com"}');
SELECT decisioning.set_match_setting('email_providers', NULL);
-- Online, addresses are spelled as they are stored, until the next run.
SELECT decisioning.resolve_identity('{"email": "gr.eta8@gmail.com"}');
CALL decisioning.resolve_all();
SELECT decisioning.resolve_identity('{"email": "greta8@gmail.com"}') = '8' AS same_mailbox;

-- A source whose birth dates are not to be relied on.
SELECT decisioning.set_match_factor('date_of_birth', 0.25, source => 'support');
SELECT decisioning.set_match_factor('date_of_birth', 2, source => 'shop');
CALL decisioning.resolve_all();
SELECT comparison, source, factor FROM decisioning.match_factors WHERE source <> '' ORDER BY 1, 2;
SELECT round((w.weight * 0.25)::numeric, 4) = round(e.weight::numeric, 4) AS counts_by_a_quarter
FROM decisioning.explain_match('shop', '11', 'support', '10011') e JOIN decisioning.match_weights_in_effect w USING (comparison, level) WHERE e.comparison = 'date_of_birth';
SELECT round((w.weight * 2)::numeric, 4) = round(e.weight::numeric, 4) AS counts_twice
FROM decisioning.explain_match('shop', '11', 'shop', '11') e JOIN decisioning.match_weights_in_effect w USING (comparison, level) WHERE e.comparison = 'date_of_birth';
SELECT decisioning.export_matching() -> 'source_factors' AS exported;
SELECT decisioning.import_matching(decisioning.export_matching());
SELECT decisioning.set_match_factor('date_of_birth', NULL, source => 'support'), decisioning.set_match_factor('date_of_birth', NULL, source => 'shop');
SELECT count(*) AS source_factors FROM decisioning.match_factors WHERE source <> '';

-- Nicknames of one's own.
SELECT level FROM decisioning.explain_match('{"given_name": "Ottokar"}', '{"given_name": "Zottel"}') WHERE comparison = 'given_name';
SELECT decisioning.add_nickname('Ottokar', 'Zottel');
SELECT level FROM decisioning.explain_match('{"given_name": "Ottokar"}', '{"given_name": "Zottel"}') WHERE comparison = 'given_name';

-- What cannot be.
\set VERBOSITY default
SELECT decisioning.set_match_weight('shoe', 'exact', m => 0.5);
SELECT decisioning.set_match_weight('email', 'shiny', m => 0.5);
SELECT decisioning.set_match_weight('email', 'exact', m => 1.5);
SELECT decisioning.set_match_setting('threshold', 1);
SELECT decisioning.set_match_setting('mood', 1);
SELECT decisioning.set_match_setting('email_providers', 0.5);
SELECT decisioning.set_match_factor('email', -1);
SELECT decisioning.set_match_factor('email', 101, source => 'shop');
SELECT decisioning.set_match_factor('email', 0.5, source => 'till');
SELECT decisioning.add_blocking_rule('shoe + email');
SELECT decisioning.import_matching('{"weights": "all"}');
SELECT decisioning.explain_match('shop', '99999', 'support', '10011');
SELECT decisioning.explain_match('till', '1', 'support', '10011');
SELECT decisioning.identity_accuracy('labels', person_column => 'human');
SELECT decisioning.review_customers(0);
DROP EXTENSION decisioning CASCADE;
DROP TABLE shop, support, labels, elsewhere, settled;
