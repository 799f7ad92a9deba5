-- Identity: which records, in all your systems, are one person.
CREATE EXTENSION decisioning;
SET client_min_messages = warning;   -- resolve_all tells its progress by NOTICE

-- A customers table, what the web shop knows, and an app. Nothing of it is copied: sources are read in place.
CREATE TABLE customers (customer_id bigint PRIMARY KEY, mail text, mobile text, country text);
CREATE TABLE web_profiles (profile uuid PRIMARY KEY, email text, login text, cookie text);
CREATE TABLE app_users (user_id text PRIMARY KEY, login text, phone text, device text);
INSERT INTO customers VALUES
    (1, 'Ada@Example.com',       '0170 1234567', 'DE'),
    (2, 'bob@example.com',       NULL,           NULL),
    (3, 'ada+news@example.com ', NULL,           NULL),   -- Ada, entered twice
    (4, 'info@example.com',      '0000000000',   'DE'),
    (5, 'info@example.com',      '0000000000',   'DE');
INSERT INTO web_profiles VALUES
    ('00000000-0000-0000-0000-00000000000a', 'ada@example.com', 'ada', 'cookie-1'),
    ('00000000-0000-0000-0000-00000000000b', NULL,              NULL,  'cookie-1'),
    ('00000000-0000-0000-0000-00000000000c', NULL,              NULL,  'cookie-2'),
    ('00000000-0000-0000-0000-00000000000d', 'BOB@example.com', 'bob', 'cookie-3');
INSERT INTO app_users VALUES
    ('u1', 'ada', '+49 170 1234567', 'tablet'),
    ('u2', 'bob', NULL,              'tablet');               -- shared, but each has a login

SELECT decisioning.add_source('crm', 'customers', key => 'customer_id',
       fields => '{"mail": "email", "mobile": "phone", "country": "country"}', default_country => 'DE');
SELECT decisioning.add_source('web', 'web_profiles', key => 'profile',
       fields => '{"email": "email", "login": "external_id:login", "cookie": "device_id"}');
SELECT decisioning.add_source('app', 'app_users', key => 'user_id',
       fields => '{"login": "external_id:login", "phone": "phone", "device": "device_id"}');
SELECT source, position, source_relation, record_key, fields FROM decisioning.sources ORDER BY position;

CALL decisioning.resolve_all();
SELECT source, record_key, customer_id FROM decisioning.identity_map ORDER BY source, record_key;

-- The ids of customers are the keys of the first source. Everything else is an accepted alias.
SELECT decisioning.resolve_identity('web', '00000000-0000-0000-0000-00000000000b');
SELECT decisioning.resolve_identity('crm', '3');
SELECT decisioning.resolve_identity('crm', '99') IS NULL AS unknown_record;
SELECT alias, customer_id FROM decisioning._customer_alias ORDER BY alias COLLATE "C";
SELECT * FROM decisioning.customer_identifiers WHERE customer_id = '1' ORDER BY identifier, value;

-- What was not linked, and why: the tablet would have made one person of two logins.
SELECT * FROM decisioning.identity_conflicts;

-- Again, with unchanged data: nothing is written, no id changes.
CREATE TEMPORARY TABLE before AS
    SELECT 'r' AS t, r.xmin::text AS version, r.source || ' ' || r.record_key AS row FROM decisioning._record r
    UNION ALL SELECT 'i', i.xmin::text, i.kind || ' ' || i.value FROM decisioning._identifier i
    UNION ALL SELECT 'a', a.xmin::text, a.alias FROM decisioning._customer_alias a
    UNION ALL SELECT 'c', c.xmin::text, c.value FROM decisioning.identity_conflicts c;
SET client_min_messages = notice;
CALL decisioning.resolve_all();
SET client_min_messages = warning;
SELECT count(*) AS rows, count(*) FILTER (WHERE b.row IS NULL) AS rewritten
FROM (SELECT 'r' AS t, r.xmin::text AS version, r.source || ' ' || r.record_key AS row FROM decisioning._record r
      UNION ALL SELECT 'i', i.xmin::text, i.kind || ' ' || i.value FROM decisioning._identifier i
      UNION ALL SELECT 'a', a.xmin::text, a.alias FROM decisioning._customer_alias a
      UNION ALL SELECT 'c', c.xmin::text, c.value FROM decisioning.identity_conflicts c) n
LEFT JOIN before b USING (t, version, row);

-- Online: who is it?
SELECT decisioning.resolve_identity('{"email": "ADA@example.com"}');
SELECT decisioning.resolve_identity('{"device_id": "cookie-1"}');
SELECT decisioning.resolve_identity('{"phone": "0170/1234567"}');
-- A new identifier of somebody known is remembered.
SELECT decisioning.resolve_identity('{"email": "bob@example.com", "device_id": ["phone-7", "phone-8"]}');
SELECT decisioning.resolve_identity('{"device_id": "phone-8"}');
-- Somebody new gets an id, and the same one next time.
SELECT decisioning.resolve_identity('{"device_id": "cookie-9"}') AS visitor \gset
SELECT :'visitor' LIKE 'online:%' AS is_new, :'visitor' = decisioning.resolve_identity('{"device_id": "cookie-9"}') AS is_stable;
-- A new login on a known device is somebody new; the device stays with its owner, and the conflict is logged.
SELECT decisioning.resolve_identity('{"external_id:login": "eve", "device_id": "tablet"}') LIKE 'online:%' AS is_new;
SELECT event, from_customer_id, evidence FROM decisioning.identity_events;
-- Placeholders identify nobody.
SELECT decisioning.resolve_identity('{"email": "info@example.com", "phone": null, "device_id": "null"}') IS NULL AS nobody;

-- The visitor signs up: one person from then on, under the key of the customers table. The old id stays valid.
INSERT INTO customers VALUES (6, 'zoe@example.com', NULL, NULL);
INSERT INTO web_profiles VALUES ('00000000-0000-0000-0000-00000000000e', 'zoe@example.com', NULL, 'cookie-9');
CALL decisioning.resolve_all();
SELECT customer_id FROM decisioning._alias WHERE alias = :'visitor';
SELECT decisioning.resolve_identity('{"device_id": "phone-8"}') AS still_bob;
SELECT event, customer_id, from_customer_id = :'visitor' AS from_visitor, records FROM decisioning.identity_events WHERE event <> 'conflict';

-- Two customers turn out to be one, and then not.
UPDATE customers SET mail = 'zoe@example.com' WHERE customer_id = 2;
CALL decisioning.resolve_all();
SELECT record_key, customer_id FROM decisioning.identity_map WHERE source = 'crm' ORDER BY 1;
UPDATE customers SET mail = 'bob@example.com' WHERE customer_id = 2;
CALL decisioning.resolve_all();
SELECT record_key, customer_id FROM decisioning.identity_map WHERE source = 'crm' ORDER BY 1;
SELECT event, customer_id, from_customer_id, records, evidence FROM decisioning.identity_events
WHERE event <> 'conflict' ORDER BY identity_event OFFSET 1;

-- Rules: how far each identifier is trusted.
SELECT * FROM decisioning.match_rules_in_effect;
SELECT decisioning.add_match_rule('device_id', enabled => false);
SELECT decisioning.add_match_rule('external_id:login', identity_limit => 2);
SELECT * FROM decisioning.match_rules_in_effect;
CALL decisioning.resolve_all();
SELECT record_key, customer_id FROM decisioning.identity_map WHERE source = 'web' ORDER BY 1;
SELECT decisioning.add_match_rule('device_id');
SELECT decisioning.add_match_rule('external_id:login');
-- Values that identify nobody, and one that does whatever we think of it.
SELECT decisioning.block_value('device_id', 'cookie-1');
SELECT decisioning.block_value('email', 'Info@example.com', blocked => false);
SELECT decisioning.block_value('phone', 'cookie-2');
SELECT decisioning.unblock_value('phone', 'cookie-2');
SELECT decisioning.unblock_value('phone', 'cookie-2');
SELECT decisioning.block_value('fax', 'cookie-1');
SELECT decisioning.block_value('phone', ' ');
CALL decisioning.resolve_all();
SELECT source, record_key, customer_id FROM decisioning.identity_map WHERE source <> 'online' ORDER BY source, record_key;
SELECT relation, operation, after ->> 'identifier' AS identifier FROM decisioning.epochs
WHERE relation IN ('match_rules', 'blocked_values') ORDER BY epoch;

-- Tables change: replaced by rename, as dbt does, and a column added.
CREATE TABLE customers_new AS SELECT customer_id, mail, mobile, country, now() AS loaded_at FROM customers WHERE customer_id <> 5;
ALTER TABLE customers RENAME TO customers_old;
ALTER TABLE customers_new RENAME TO customers;
DROP TABLE customers_old;
CALL decisioning.resolve_all();
SELECT record_key, customer_id FROM decisioning.identity_map WHERE source = 'crm' ORDER BY 1;
-- Retyped: harmless. Dropped: a clear error.
ALTER TABLE customers ALTER customer_id TYPE text;
CALL decisioning.resolve_all();
SELECT count(*) FROM decisioning.identity_map WHERE source = 'crm';
ALTER TABLE customers ALTER mobile TYPE text[] USING ARRAY[mobile];
CALL decisioning.resolve_all();
ALTER TABLE customers DROP mobile;
CALL decisioning.resolve_all();
DROP TABLE customers;
CALL decisioning.resolve_all();
SELECT decisioning.remove_source('crm');
CALL decisioning.resolve_all();
SELECT source, count(*) FROM decisioning.identity_map WHERE source <> 'online' GROUP BY 1 ORDER BY 1;

-- Mistakes.
SELECT decisioning.add_source('web', 'web_profiles', 'profile', '{}');
SELECT decisioning.add_source('a:b', 'web_profiles', 'profile', '{}');
SELECT decisioning.add_source('new', 'web_profiles', 'id', '{}');
SELECT decisioning.add_source('new', 'web_profiles', 'profile', '{"mail": "email"}');
SELECT decisioning.add_source('new', 'web_profiles', 'profile', '{"email": "e-mail"}');
SELECT decisioning.add_source('new', 'web_profiles', 'profile', '["email"]');
SELECT decisioning.add_source('new', 'web_profiles', 'profile', '{}', default_country => 'Germany');
SELECT decisioning.add_source('new', NULL, 'profile', '{}');
SELECT decisioning.remove_source('new');
SELECT decisioning.add_match_rule('city');
SELECT decisioning.add_match_rule('email', identity_limit => 0);
SELECT decisioning.resolve_identity('new', '1');
SELECT decisioning.resolve_identity(NULL);
SELECT decisioning.resolve_identity('{"mail": "ada@example.com"}');
SELECT decisioning.resolve_identity('[1]');
SELECT decisioning.resolve_identity('{"email": {"a": 1}}');
INSERT INTO decisioning.sources (source, source_schema, source_relation, record_key, fields)
VALUES ('new', 'public', 'web_profiles', 'profile', '{"email": "mail"}');
