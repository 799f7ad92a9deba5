-- Identity: which records, in all of the user's systems, are one person.
--
-- sources, match_rules and blocked_values are configuration. What follows them is state, written by resolve_all
-- and resolve_identity only.

-- Configuration ------------------------------------------------------------------------------------

CREATE FUNCTION decisioning._is_identifier(identifier text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT identifier IN ('external_id', 'email', 'phone', 'device_id')
          OR (identifier LIKE 'external\_id:_%' AND octet_length(identifier) <= 112) $$;
COMMENT ON FUNCTION decisioning._is_identifier(text) IS 'Internal: whether a kind of field identifies a person.';

CREATE FUNCTION decisioning._are_fields(fields jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT jsonb_typeof(fields) = 'object'
         AND NOT EXISTS (SELECT FROM jsonb_each_text(CASE jsonb_typeof(fields) WHEN 'object' THEN fields ELSE '{}' END) f
                         WHERE NOT coalesce(decisioning._is_identifier(f.value)
                                            OR f.value IN ('given_name', 'family_name', 'full_name', 'date_of_birth', 'street',
                                                           'city', 'postcode', 'country', 'company', 'text'), false)) $$;
COMMENT ON FUNCTION decisioning._are_fields(jsonb) IS 'Internal: whether a document maps columns to kinds of fields.';

CREATE TABLE decisioning.sources (
    source          text        PRIMARY KEY CHECK (source <> '' AND source <> 'online' AND pg_catalog.octet_length(source) <= 100
                                                   AND pg_catalog.strpos(source, ':') = 0),
    position        integer     NOT NULL UNIQUE,
    source_schema   text        NOT NULL,
    source_relation text        NOT NULL,
    record_key      text        NOT NULL,
    fields          jsonb       NOT NULL CHECK (decisioning._are_fields(fields)),
    default_country text        CHECK (default_country ~ '^[A-Z]{2}$'),
    changed_at      text,
    lookback        interval    NOT NULL DEFAULT '1 hour' CHECK (lookback >= '0' AND lookback <= '100 years'),
    epoch           bigint      NOT NULL
);
COMMENT ON TABLE  decisioning.sources IS 'Tables and views with records of persons, read in place. The first one added is the primary source: its keys are the canonical customer ids.';
COMMENT ON COLUMN decisioning.sources.source IS 'Name; source:key is an accepted id of each of its records.';
COMMENT ON COLUMN decisioning.sources.position IS 'Order in which the sources were added; the smallest is the primary source.';
COMMENT ON COLUMN decisioning.sources.source_schema IS 'Schema of the relation. Stored by name, because tools such as dbt replace relations by rename.';
COMMENT ON COLUMN decisioning.sources.source_relation IS 'Table or view with one row per record.';
COMMENT ON COLUMN decisioning.sources.record_key IS 'Column that identifies the record.';
COMMENT ON COLUMN decisioning.sources.fields IS 'Column to kind: email, phone, device_id and external_id (or external_id:namespace) identify; given_name, family_name, full_name, date_of_birth, street, city, postcode, country, company and text describe.';
COMMENT ON COLUMN decisioning.sources.default_country IS 'ISO code of the country whose phone numbers are written without country code, where the record has no country field.';
COMMENT ON COLUMN decisioning.sources.changed_at IS 'Column with the time of a row''s last change. With it, resolve_all reads only rows that changed since the last run; without it, all rows, to compare them.';
COMMENT ON COLUMN decisioning.sources.lookback IS 'How much further back resolve_all reads by changed_at, for rows that were committed late.';

CREATE FUNCTION decisioning._place_source() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.position IS NULL THEN
        SELECT coalesce(max(s.position), 0) + 1 INTO NEW.position FROM decisioning.sources s;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION decisioning._place_source() IS 'Internal: puts a new source after the others.';

CREATE TABLE decisioning.match_rules (
    identifier      text        PRIMARY KEY CHECK (decisioning._is_identifier(identifier)),
    priority        integer,
    identity_limit  integer     CHECK (identity_limit BETWEEN 1 AND 1000),
    record_limit    integer     CHECK (record_limit BETWEEN 1 AND 1000000000),
    enabled         boolean     NOT NULL DEFAULT true,
    epoch           bigint      NOT NULL
);
COMMENT ON TABLE  decisioning.match_rules IS 'Changes to the built-in match rules; NULL keeps what is built in. match_rules_in_effect shows the result.';
COMMENT ON COLUMN decisioning.match_rules.identifier IS 'email, phone, device_id, external_id (all namespaces without a rule of their own) or external_id:namespace.';
COMMENT ON COLUMN decisioning.match_rules.priority IS 'Smaller is stronger; a weaker identifier never undoes or merges what a stronger one decided.';
COMMENT ON COLUMN decisioning.match_rules.identity_limit IS 'Most values one customer may have.';
COMMENT ON COLUMN decisioning.match_rules.record_limit IS 'A value that more records share than this identifies nobody.';
COMMENT ON COLUMN decisioning.match_rules.enabled IS 'A disabled identifier links nothing.';

CREATE TABLE decisioning.blocked_values (
    identifier      text        NOT NULL CHECK (decisioning._is_identifier(identifier)),
    value           text        NOT NULL CHECK (pg_catalog.octet_length(value) <= 512),
    blocked         boolean     NOT NULL DEFAULT true,
    epoch           bigint      NOT NULL,
    PRIMARY KEY (identifier, value)
);
COMMENT ON TABLE  decisioning.blocked_values IS 'Values that identify nobody, beyond the built-in placeholders (null, anonymous, zeros, info@ and the like) and those found by frequency; or, with blocked = false, values that do identify somebody whatever those say.';
COMMENT ON COLUMN decisioning.blocked_values.value IS 'In any spelling: normalised as the values of the sources are. Phone numbers with country code.';
COMMENT ON COLUMN decisioning.blocked_values.blocked IS 'true blocks; false allows, with precedence over placeholders and record_limit.';

CREATE TRIGGER a_place_source BEFORE INSERT ON decisioning.sources
    FOR EACH ROW EXECUTE FUNCTION decisioning._place_source();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.sources
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.match_rules
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.blocked_values
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();

CREATE FUNCTION decisioning.add_source(
    source          text,
    relation        regclass,
    key             text,
    fields          jsonb,
    default_country text    DEFAULT NULL,
    changed_at      text    DEFAULT NULL,
    lookback        interval DEFAULT '1 hour'
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_source_wrapper';
COMMENT ON FUNCTION decisioning.add_source(text, regclass, text, jsonb, text, text, interval) IS
'Adds a table or view with records of persons. key is the column that identifies a record; fields maps columns to kinds, such as {"mail": "email", "user_id": "external_id"}. changed_at is a column with the time of a row''s last change: resolve_all then reads only what changed. The first source added is the primary one: its keys become the customer ids. Returns the name.';

CREATE FUNCTION decisioning.remove_source(source text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'remove_source_wrapper';
COMMENT ON FUNCTION decisioning.remove_source(text) IS 'Removes a source. Its records leave at the next resolve_all.';

CREATE FUNCTION decisioning.add_match_rule(
    identifier      text,
    priority        integer DEFAULT NULL,
    identity_limit  integer DEFAULT NULL,
    record_limit    integer DEFAULT NULL,
    enabled         boolean DEFAULT true
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_match_rule_wrapper';
COMMENT ON FUNCTION decisioning.add_match_rule(text, integer, integer, integer, boolean) IS
'Sets the rule of an identifier; NULL takes what is built in. Replaces an earlier rule. Takes effect at the next resolve_all.';

CREATE FUNCTION decisioning.block_value(identifier text, value text, blocked boolean DEFAULT true) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'block_value_wrapper';
COMMENT ON FUNCTION decisioning.block_value(text, text, boolean) IS
'Says that a value of an identifier identifies nobody, such as the phone of the shop; or, with blocked => false, that it does, though it looks like a placeholder or many share it. Takes effect at the next resolve_all.';

CREATE FUNCTION decisioning.unblock_value(identifier text, value text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'unblock_value_wrapper';
COMMENT ON FUNCTION decisioning.unblock_value(text, text) IS 'Takes back what block_value said of a value, in the same spelling. Takes effect at the next resolve_all.';

CREATE FUNCTION decisioning._match_rules(identifiers text[])
RETURNS TABLE (identifier text, priority integer, identity_limit integer, record_limit integer, enabled boolean)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 4
AS 'MODULE_PATHNAME', '_match_rules_wrapper';
COMMENT ON FUNCTION decisioning._match_rules(text[]) IS 'Internal: the rules in effect, of all kinds and of the identifiers given.';

-- State --------------------------------------------------------------------------------------------

CREATE TABLE decisioning._record (
    record_key      text        NOT NULL,
    source          text        NOT NULL,
    separator       text        NOT NULL,
    record_number   bigint      NOT NULL,
    fingerprint     bigint      NOT NULL,
    customer_id     text        NOT NULL,
    since           timestamptz NOT NULL,
    PRIMARY KEY (record_key, source)
);
CREATE UNIQUE INDEX _record_number_index ON decisioning._record (record_number);
CREATE INDEX _record_customer_index ON decisioning._record (customer_id);
CREATE UNIQUE INDEX _record_alias_index ON decisioning._record ((source || separator || record_key));
COMMENT ON TABLE  decisioning._record IS 'Internal: the customer of each record.';
COMMENT ON COLUMN decisioning._record.separator IS 'What stands between source and key in the id source:key: a colon, or more where another id would read the same.';
COMMENT ON COLUMN decisioning._record.record_number IS 'Short name of the record in other tables of state; never used again.';
COMMENT ON COLUMN decisioning._record.fingerprint IS 'Hash of the fields as they were read, summed over the rows of the record: equal as long as nothing changed.';

-- Runs and online sessions take numbers in stock, since they need many.
CREATE SEQUENCE decisioning._record_number AS bigint CACHE 1000;

CREATE TABLE decisioning._record_field (
    record_number   bigint      PRIMARY KEY,
    changed_at      timestamptz NOT NULL,
    fields          jsonb       NOT NULL
);
COMMENT ON TABLE  decisioning._record_field IS 'Internal: what each record says, by kind and in the spelling of its source.';
COMMENT ON COLUMN decisioning._record_field.changed_at IS 'What the changed_at column of the source said, or when a run first saw the record as it is.';
COMMENT ON COLUMN decisioning._record_field.fields IS 'Kind to value, or to an array if there are several: {"email": ["A@x.com", "b@x.com"], "given_name": "Anna"}.';

CREATE TABLE decisioning._source_state (
    source          text        PRIMARY KEY,
    changed_until   timestamptz
);
COMMENT ON TABLE  decisioning._source_state IS 'Internal: how far each source with a changed_at column was read.';

-- Also what two sessions meet at that see the same new person: the primary key lets one of them win.
CREATE TABLE decisioning._identifier (
    kind            text        COLLATE "C" NOT NULL,
    value           text        COLLATE "C" NOT NULL,
    customer_id     text,
    PRIMARY KEY (value, kind)
);
CREATE INDEX _identifier_customer_index ON decisioning._identifier (customer_id, kind) WHERE customer_id IS NOT NULL;
COMMENT ON TABLE  decisioning._identifier IS 'Internal: who holds each normalised identifier; NULL is nobody, because too many share it.';

CREATE TABLE decisioning._customer_alias (
    alias           text        PRIMARY KEY,
    customer_id     text        NOT NULL
);
CREATE INDEX _customer_alias_customer_index ON decisioning._customer_alias (customer_id);
COMMENT ON TABLE  decisioning._customer_alias IS 'Internal: accepted ids that are neither canonical nor source:key of a record, with the canonical one: keys of the primary source, and ids of former times.';

CREATE VIEW decisioning._alias AS
SELECT a.alias, a.customer_id FROM decisioning._customer_alias a
UNION ALL
SELECT r.source || r.separator || r.record_key, r.customer_id FROM decisioning._record r;
COMMENT ON VIEW   decisioning._alias IS 'Internal: accepted ids, each once, with the canonical one; both sides are indexed. Canonical ids may be missing.';

CREATE TABLE decisioning._online (
    record_key      text        PRIMARY KEY,
    evidence        bytea       NOT NULL UNIQUE,
    seen_at         timestamptz NOT NULL
);
COMMENT ON TABLE  decisioning._online IS 'Internal: the built-in source "online": when resolve_identity was first shown what. Its records are kept like those of any other source.';
COMMENT ON COLUMN decisioning._online.evidence IS 'SHA-256 of the normalised identifiers: the same ones are kept once.';

CREATE TABLE decisioning.identity_conflicts (
    identifier      text        NOT NULL,
    value           text        NOT NULL,
    reason          text        NOT NULL CHECK (reason IN ('frequent', 'shared', 'limit')),
    records         integer     NOT NULL,
    customers       integer     NOT NULL,
    PRIMARY KEY (identifier, value)
);
COMMENT ON TABLE  decisioning.identity_conflicts IS 'Values that, at the last resolve_all, did not link all of the records that have them.';
COMMENT ON COLUMN decisioning.identity_conflicts.reason IS 'frequent: more records than record_limit; shared: a crowd that cannot be one person; limit: somebody would have had more values than identity_limit.';
COMMENT ON COLUMN decisioning.identity_conflicts.records IS 'Records that have the value.';
COMMENT ON COLUMN decisioning.identity_conflicts.customers IS 'Customers that those records belong to, when the value was considered.';

CREATE TABLE decisioning.identity_events (
    identity_event  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    occurred_at     timestamptz NOT NULL,
    event           text        NOT NULL CHECK (event IN ('merged', 'split', 'renamed', 'conflict')),
    customer_id     text        NOT NULL,
    from_customer_id text,
    records         integer,
    evidence        jsonb
);
CREATE INDEX identity_events_customer_index ON decisioning.identity_events (customer_id);
CREATE INDEX identity_events_from_index ON decisioning.identity_events (from_customer_id);
COMMENT ON TABLE  decisioning.identity_events IS 'What happened to customer ids, append-only.';
COMMENT ON COLUMN decisioning.identity_events.event IS 'merged: from_customer_id became part of customer_id; split: some records left from_customer_id for customer_id; renamed: the same person under another id; conflict: resolve_identity was shown an identifier that it did not give to customer_id.';
COMMENT ON COLUMN decisioning.identity_events.customer_id IS 'Canonical id afterwards.';
COMMENT ON COLUMN decisioning.identity_events.from_customer_id IS 'Canonical id before; for a conflict, who holds the identifier, NULL if nobody does.';
COMMENT ON COLUMN decisioning.identity_events.records IS 'Records that changed their id.';
COMMENT ON COLUMN decisioning.identity_events.evidence IS 'Identifier and value that joined them or are in conflict.';

-- Views --------------------------------------------------------------------------------------------

CREATE VIEW decisioning.identity_map AS
SELECT r.source, r.record_key, r.customer_id, r.since FROM decisioning._record r;
COMMENT ON VIEW   decisioning.identity_map IS 'The customer of each record of each source. Join it on source and record_key.';
COMMENT ON COLUMN decisioning.identity_map.source IS 'Source of the record; online for what resolve_identity was shown.';
COMMENT ON COLUMN decisioning.identity_map.record_key IS 'Key of the record in its source, as text.';
COMMENT ON COLUMN decisioning.identity_map.customer_id IS 'Canonical customer id.';
COMMENT ON COLUMN decisioning.identity_map.since IS 'When the record got this customer id.';

CREATE VIEW decisioning.customer_identifiers AS
SELECT i.customer_id, i.kind AS identifier, i.value FROM decisioning._identifier i WHERE i.customer_id IS NOT NULL;
COMMENT ON VIEW decisioning.customer_identifiers IS 'Normalised identifiers by which each customer is recognised.';

CREATE VIEW decisioning.match_rules_in_effect AS
SELECT r.identifier, r.priority, r.identity_limit, r.record_limit, r.enabled
FROM decisioning._match_rules(
    ARRAY(SELECT m.identifier FROM decisioning.match_rules m
          UNION SELECT f.value FROM decisioning.sources s CROSS JOIN LATERAL pg_catalog.jsonb_each_text(s.fields) f
                WHERE decisioning._is_identifier(f.value))) r;
COMMENT ON VIEW decisioning.match_rules_in_effect IS 'Match rules as they are applied: built-in, changed by match_rules.';

-- Resolving ----------------------------------------------------------------------------------------

CREATE PROCEDURE decisioning.resolve_all("full" boolean DEFAULT false)
LANGUAGE c
AS 'MODULE_PATHNAME', 'resolve_all_wrapper';
COMMENT ON PROCEDURE decisioning.resolve_all(boolean) IS
'Reads the sources with the rights of the caller, finds who is one person, and brings identity_map up to date, in one transaction: others see all of it or nothing. Looks only at records that are new, changed or gone and at those that may be the same person; full => true, and the first run after a change of sources or rules, looks at all. Ids stay; with unchanged data nothing is written. Runs one at a time.';

CREATE FUNCTION decisioning.resolve_identity(source text, key text) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'resolve_identity_of_record_wrapper';
COMMENT ON FUNCTION decisioning.resolve_identity(text, text) IS 'Canonical customer id of a record, NULL if the record was not there at the last resolve_all.';

CREATE FUNCTION decisioning.resolve_identity(record jsonb) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'resolve_identity_wrapper';
COMMENT ON FUNCTION decisioning.resolve_identity(jsonb) IS
'Canonical customer id of whoever shows these fields, such as {"email": "ada@example.com", "device_id": ["a", "b"]}. The strongest known identifier decides; new ones are remembered; somebody unknown gets an id. NULL if nothing shown identifies anybody.';
