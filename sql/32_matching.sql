-- Linkage: how alike two records must be to be one person, for analysts to read and to change.
--
-- What training finds is state (see 31_linkage.sql); what people set is configuration, and wins from the next run on.

-- Configuration ------------------------------------------------------------------------------------

CREATE TABLE decisioning.match_settings (
    setting         text        PRIMARY KEY,
    value           float8      NOT NULL,
    epoch           bigint      NOT NULL,
    CHECK (CASE WHEN setting IN ('prior', 'threshold', 'review_threshold') THEN value > 0 AND value < 1
                WHEN setting = 'block_limit' THEN value BETWEEN 2 AND 800
                WHEN setting = 'email_providers' THEN value IN (0, 1) ELSE false END)
);
COMMENT ON TABLE  decisioning.match_settings IS 'Changes to what training found or what is built in; match_settings_in_effect shows the result.';
COMMENT ON COLUMN decisioning.match_settings.setting IS 'prior: probability that two records drawn at random are one person; threshold: least probability at which two records are joined; review_threshold: least probability at which a pair that was not joined is shown in uncertain_pairs; block_limit: most records of a block; email_providers: 1 if addresses that a provider delivers to the same mailbox are one, such as a.b@gmail.com and ab@googlemail.com.';

CREATE TABLE decisioning.match_weights (
    comparison      text        NOT NULL CHECK (comparison <> ''),
    level           text        NOT NULL CHECK (level <> ''),
    m               float8      CHECK (m > 0 AND m <= 1),
    u               float8      CHECK (u > 0 AND u <= 1),
    epoch           bigint      NOT NULL,
    PRIMARY KEY (comparison, level),
    CHECK (pg_catalog.num_nonnulls(m, u) > 0)
);
COMMENT ON TABLE  decisioning.match_weights IS 'Levels of comparisons whose parameters people set; training leaves them alone. match_weights_in_effect shows all levels.';
COMMENT ON COLUMN decisioning.match_weights.comparison IS 'As in match_weights_in_effect: a kind of field, or address for street, city and postcode together.';
COMMENT ON COLUMN decisioning.match_weights.level IS 'How alike two values are, as in match_weights_in_effect.';
COMMENT ON COLUMN decisioning.match_weights.m IS 'Probability of the level among pairs that are one person; NULL keeps what was trained.';
COMMENT ON COLUMN decisioning.match_weights.u IS 'Probability of the level among pairs of strangers; NULL keeps what was trained.';

CREATE TABLE decisioning.match_factors (
    comparison      text        NOT NULL CHECK (comparison <> ''),
    source          text        NOT NULL DEFAULT '',
    factor          float8      NOT NULL CHECK (factor BETWEEN 0 AND 100),
    epoch           bigint      NOT NULL,
    PRIMARY KEY (comparison, source)
);
COMMENT ON TABLE  decisioning.match_factors IS 'Comparisons that count for more or less than training found: their weights are multiplied. 0 switches a comparison off.';
COMMENT ON COLUMN decisioning.match_factors.source IS 'Source whose fields count so, beside the factor of all sources; of two records, the smaller factor counts. Empty for all sources.';

CREATE TABLE decisioning.blocking_rules (
    blocking_rule   text        PRIMARY KEY CHECK (blocking_rule <> '' AND pg_catalog.octet_length(blocking_rule) <= 500),
    enabled         boolean     NOT NULL DEFAULT true,
    epoch           bigint      NOT NULL
);
COMMENT ON TABLE  decisioning.blocking_rules IS 'Changes to the blocking rules that are proposed from the fields of the sources: further ones, and proposed ones that are disabled. blocking_rules_in_effect shows the result.';
COMMENT ON COLUMN decisioning.blocking_rules.blocking_rule IS 'Records that agree on all parts are compared with each other: kinds of fields joined by +, or their first letters, such as family_name + given_name:2. Further parts: email_local, year_of_birth, names (given and family name in either order), nickname.';
COMMENT ON COLUMN decisioning.blocking_rules.enabled IS 'A disabled rule compares nothing.';

CREATE TABLE decisioning.nicknames (
    given_name      text        NOT NULL CHECK (given_name <> '' AND pg_catalog.octet_length(given_name) <= 100),
    nickname        text        NOT NULL CHECK (nickname <> '' AND pg_catalog.octet_length(nickname) <= 100),
    epoch           bigint      NOT NULL,
    PRIMARY KEY (given_name, nickname)
);
COMMENT ON TABLE decisioning.nicknames IS 'Pairs of given names that may be one person, beyond the built-in ones. In any spelling: normalised as the names of the sources are.';

CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.match_settings
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.match_weights
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.match_factors
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.blocking_rules
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.nicknames
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();

CREATE FUNCTION decisioning.set_match_setting(setting text, value float8) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_match_setting_wrapper';
COMMENT ON FUNCTION decisioning.set_match_setting(text, float8) IS
'Sets prior, threshold, review_threshold or block_limit; NULL takes back what training found or what is built in. Takes effect for all records at the next resolve_all.';

CREATE FUNCTION decisioning.set_match_weight(comparison text, level text, m float8 DEFAULT NULL, u float8 DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_match_weight_wrapper';
COMMENT ON FUNCTION decisioning.set_match_weight(text, text, float8, float8) IS
'Sets m, u or both of a level, whose weight is log2(m / u) bits; without any, takes back what training found. Takes effect for all records at the next resolve_all.';

CREATE FUNCTION decisioning.set_match_factor(comparison text, factor float8, source text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_match_factor_wrapper';
COMMENT ON FUNCTION decisioning.set_match_factor(text, float8, text) IS
'Multiplies the weights of a comparison: 0 switches it off, 1 (or NULL) is as trained. With a source, where a record of that source is compared: its phone numbers may be less reliable than those of others. Of two records, the smaller factor counts. Takes effect for all records at the next resolve_all.';

CREATE FUNCTION decisioning.add_nickname(given_name text, nickname text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_nickname_wrapper';
COMMENT ON FUNCTION decisioning.add_nickname(text, text) IS
'Two given names that may be one person, beyond the built-in ones. Takes effect for all records at the next resolve_all.';

CREATE FUNCTION decisioning.add_blocking_rule(blocking_rule text, enabled boolean DEFAULT true) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_blocking_rule_wrapper';
COMMENT ON FUNCTION decisioning.add_blocking_rule(text, boolean) IS
'Adds a blocking rule such as family_name + year_of_birth, or with enabled => false switches a proposed one off. Returns the rule as it is known from now on. Takes effect for all records at the next resolve_all.';

CREATE FUNCTION decisioning._blocking_rules() RETURNS TABLE (blocking_rule text, enabled boolean, proposed boolean)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 12
AS 'MODULE_PATHNAME', '_blocking_rules_wrapper';
COMMENT ON FUNCTION decisioning._blocking_rules() IS 'Internal: blocking rules as the next run will have them.';

CREATE VIEW decisioning.blocking_rules_in_effect AS
SELECT b.blocking_rule, b.enabled, b.proposed FROM decisioning._blocking_rules() b;
COMMENT ON VIEW   decisioning.blocking_rules_in_effect IS 'Which records are compared at all: those that agree on all parts of one rule. Proposed from the fields of the sources, changed by blocking_rules.';
COMMENT ON COLUMN decisioning.blocking_rules_in_effect.proposed IS 'Whether the rule is proposed from the fields, rather than added by somebody.';

CREATE FUNCTION decisioning.preview_blocking()
RETURNS TABLE (blocking_rule text, blocks bigint, largest_block bigint, pairs bigint, new_pairs bigint, oversized_blocks bigint,
               skipped_pairs bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 12
AS 'MODULE_PATHNAME', 'preview_blocking_wrapper';
COMMENT ON FUNCTION decisioning.preview_blocking() IS
'How many pairs each blocking rule would compare. Reads the sources with the rights of the caller and writes nothing. new_pairs are those that no rule above brings up; oversized blocks are split by name, and skipped are the pairs of what is still too large.';

-- What is in effect --------------------------------------------------------------------------------

CREATE VIEW decisioning.match_weights_in_effect AS
SELECT p.comparison, p.level, p.m, p.u, p.related, p.factor * (ln(p.m / p.u) / ln(2::float8)) AS weight,
       CASE WHEN (p.m, p.u) <> (p.trained_m, p.trained_u) THEN 'set'
            WHEN p.m_observed AND p.u_observed THEN 'trained' ELSE 'unobserved' END AS origin,
       p.matches, p.comparison_position, p.level_position
FROM decisioning._match_parameter p;
COMMENT ON VIEW   decisioning.match_weights_in_effect IS 'What each level of each comparison says about two records: log2(m / u) bits for being one person. The first level that holds counts; missing values say nothing. As of the last resolve_all; empty before the first one that compared names or the like.';
COMMENT ON COLUMN decisioning.match_weights_in_effect.comparison IS 'Kind of field, or address for street, city and postcode together.';
COMMENT ON COLUMN decisioning.match_weights_in_effect.m IS 'Probability of the level among pairs that are one person.';
COMMENT ON COLUMN decisioning.match_weights_in_effect.u IS 'Probability of the level among pairs of strangers.';
COMMENT ON COLUMN decisioning.match_weights_in_effect.related IS 'Probability of the level among pairs of two persons of one household.';
COMMENT ON COLUMN decisioning.match_weights_in_effect.weight IS 'Evidence in bits, factor included, before the adjustment for how frequent a value is.';
COMMENT ON COLUMN decisioning.match_weights_in_effect.origin IS 'trained: found in the data; unobserved: too few pairs to find m or u, so a cautious value; set: by match_weights.';
COMMENT ON COLUMN decisioning.match_weights_in_effect.matches IS 'Expected number of pairs at this level that are one person, among those that training saw.';
COMMENT ON COLUMN decisioning.match_weights_in_effect.level_position IS 'Order of the levels of a comparison, the closest first.';

CREATE VIEW decisioning.match_settings_in_effect AS
SELECT s.setting, s.value, CASE WHEN s.value <> s.trained THEN 'set' ELSE s.otherwise END AS origin
FROM decisioning._match_model m
CROSS JOIN LATERAL (VALUES
    ('prior', m.prior, m.trained_prior, 'trained'),
    ('threshold', 1 / (1 + 2 ^ -m.threshold), 1 / (1 + 2 ^ -m.trained_threshold), 'built-in'),
    ('review_threshold', 1 / (1 + 2 ^ -m.review_threshold), 1 / (1 + 2 ^ -m.trained_review_threshold), 'built-in'),
    ('block_limit', m.block_limit::float8, 200, 'built-in')) AS s (setting, value, trained, otherwise)
UNION ALL
SELECT 'email_providers', p.value, CASE WHEN p.value = 1 THEN 'set' ELSE 'built-in' END
FROM (SELECT coalesce(max(s.value), 0) AS value FROM decisioning.match_settings s WHERE s.setting = 'email_providers') AS p;
COMMENT ON VIEW decisioning.match_settings_in_effect IS 'Prior, thresholds and block limit of the last resolve_all, as probabilities and records, whether e-mail providers have rules of their own, and where each comes from: trained, built-in or set.';

CREATE FUNCTION decisioning.export_matching() RETURNS jsonb
LANGUAGE sql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT jsonb_build_object(
        'settings', (SELECT coalesce(jsonb_object_agg(s.setting, s.value), '{}') FROM decisioning.match_settings_in_effect s),
        'weights', (SELECT coalesce(jsonb_agg(jsonb_build_object('comparison', p.comparison, 'level', p.level, 'm', p.m, 'u', p.u)
                                    ORDER BY p.comparison_position, p.level_position), '[]') FROM decisioning._match_parameter p),
        'factors', (SELECT coalesce(jsonb_object_agg(f.comparison, f.factor), '{}') FROM decisioning.match_factors f WHERE f.source = ''),
        'source_factors', (SELECT coalesce(jsonb_object_agg(c.comparison, c.factors), '{}')
                           FROM (SELECT f.comparison, jsonb_object_agg(f.source, f.factor) AS factors
                                 FROM decisioning.match_factors f WHERE f.source <> '' GROUP BY f.comparison) AS c),
        'blocking_rules', (SELECT coalesce(jsonb_object_agg(b.blocking_rule, b.enabled), '{}') FROM decisioning.blocking_rules b),
        'nicknames', (SELECT coalesce(jsonb_agg(jsonb_build_array(n.given_name, n.nickname) ORDER BY n.given_name, n.nickname), '[]')
                      FROM decisioning.nicknames n));
END;
COMMENT ON FUNCTION decisioning.export_matching() IS
'What linkage goes by as one document: settings and weights in effect, factors, blocking rules and nicknames. import_matching takes it, here or in another database.';

CREATE FUNCTION decisioning.import_matching(document jsonb) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'import_matching_wrapper';
COMMENT ON FUNCTION decisioning.import_matching(jsonb) IS
'Sets everything as export_matching wrote it, in place of what is set here: from the next resolve_all on, records are judged as they were there, whatever training finds.';

-- Explaining ---------------------------------------------------------------------------------------

CREATE FUNCTION decisioning.explain_match(source_a text, key_a text, source_b text, key_b text)
RETURNS TABLE (step integer, comparison text, level text, value_a text, value_b text, m float8, u float8,
               frequency_adjustment float8, weight float8, cumulative float8, probability float8)
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000 ROWS 10
AS 'MODULE_PATHNAME', 'explain_match_wrapper';
COMMENT ON FUNCTION decisioning.explain_match(text, text, text, text) IS
'Why two records are or are not alike: the prior, then what each comparison adds in bits, and what being relatives would explain as well, with the probability so far. Values as normalised. As of the last resolve_all.';

CREATE FUNCTION decisioning.explain_match(record_a jsonb, record_b jsonb)
RETURNS TABLE (step integer, comparison text, level text, value_a text, value_b text, m float8, u float8,
               frequency_adjustment float8, weight float8, cumulative float8, probability float8)
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000 ROWS 10
AS 'MODULE_PATHNAME', 'explain_match_of_documents_wrapper';
COMMENT ON FUNCTION decisioning.explain_match(jsonb, jsonb) IS
'The same for two records given by kind of field, such as {"given_name": "Ada", "email": "ada@example.com"}.';

CREATE VIEW decisioning.identity_links AS
SELECT a.customer_id, a.source AS source_a, a.record_key AS key_a, b.source AS source_b, b.record_key AS key_b,
       nullif(l.weight, 'infinity')::float8 AS weight, 1 / (1 + 2 ^ -l.weight::float8) AS probability, l.reason
FROM decisioning._link l
JOIN decisioning._record a ON a.record_number = l.left_number
JOIN decisioning._record b ON b.record_number = l.right_number;
COMMENT ON VIEW   decisioning.identity_links IS 'Pairs of records whose likeness made them one person; a shared identifier may have been enough for others. explain_match shows the waterfall of each.';
COMMENT ON COLUMN decisioning.identity_links.weight IS 'Match weight in bits; NULL for a pair that somebody confirmed.';
COMMENT ON COLUMN decisioning.identity_links.reason IS 'similarity, or confirmed.';

CREATE VIEW decisioning.uncertain_pairs AS
SELECT a.source AS source_a, a.record_key AS key_a, a.customer_id AS customer_a,
       b.source AS source_b, b.record_key AS key_b, b.customer_id AS customer_b,
       p.weight::float8 AS weight, 1 / (1 + 2 ^ -p.weight::float8) AS probability, p.reason
FROM decisioning._uncertain_pair p
JOIN decisioning._record a ON a.record_number = p.left_number
JOIN decisioning._record b ON b.record_number = p.right_number
WHERE a.customer_id <> b.customer_id;
COMMENT ON VIEW   decisioning.uncertain_pairs IS 'To be reviewed: pairs of records that may be one person and are not joined. Settle them with confirm_match or forbid_match.';
COMMENT ON COLUMN decisioning.uncertain_pairs.weight IS 'Match weight in bits.';
COMMENT ON COLUMN decisioning.uncertain_pairs.reason IS 'weak: not probable enough; cohesion: these two are alike, but not the persons as a whole; limit: somebody would have more identifiers than allowed; forbidden: by forbid_match.';

CREATE FUNCTION decisioning._normalised(source text, fields jsonb) RETURNS TABLE (comparison text, value text)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 8
AS 'MODULE_PATHNAME', '_normalised_wrapper';
COMMENT ON FUNCTION decisioning._normalised(text, jsonb) IS 'Internal: values of a record in the spelling that is compared.';

CREATE VIEW decisioning.normalised_records AS
SELECT r.source, r.record_key, r.customer_id, f.fields, n.comparison, n.value
FROM decisioning._record r
JOIN decisioning._record_field f ON f.record_number = r.record_number
CROSS JOIN LATERAL decisioning._normalised(r.source, f.fields) AS n;
COMMENT ON VIEW   decisioning.normalised_records IS 'What each record says, as it was read and as it is compared: one row per value. Ask for single records; the whole takes a while.';
COMMENT ON COLUMN decisioning.normalised_records.fields IS 'As read: kind to value, or to an array of values.';
COMMENT ON COLUMN decisioning.normalised_records.comparison IS 'What the value is compared as.';
COMMENT ON COLUMN decisioning.normalised_records.value IS 'In the spelling that is compared.';

CREATE VIEW decisioning.oversized_blocks AS
SELECT b.blocking_rule, b.records, b.left_out, b.skipped_pairs, r.source AS example_source, r.record_key AS example_key
FROM decisioning._oversized_block b LEFT JOIN decisioning._record r ON r.record_number = b.record_number;
COMMENT ON VIEW   decisioning.oversized_blocks IS 'Blocks of records that agree on a blocking rule and are too many to compare all pairs (setting block_limit), as of the last full run; of very many, the thousand that cost the most pairs. They were split by full name. Mostly a placeholder or a shared value is the cause: block it (block_value), or add a rule that is stricter.';
COMMENT ON COLUMN decisioning.oversized_blocks.records IS 'Records of the block.';
COMMENT ON COLUMN decisioning.oversized_blocks.left_out IS 'Of these, records that were compared with nobody in this block: without a name, or still too many of the same one. Other rules may have brought them together.';
COMMENT ON COLUMN decisioning.oversized_blocks.skipped_pairs IS 'Pairs of the block that were not compared here.';
COMMENT ON COLUMN decisioning.oversized_blocks.example_key IS 'Key of a record of the block in its source: see decisioning.normalised_records for what it says.';

CREATE FUNCTION decisioning.review_customers(customers integer DEFAULT 1000)
RETURNS TABLE (customer_id text, records bigint, reasons text[], source text, record_key text, weight float8, probability float8)
LANGUAGE c STABLE PARALLEL UNSAFE COST 100000 ROWS 100
AS 'MODULE_PATHNAME', 'review_customers_wrapper';
COMMENT ON FUNCTION decisioning.review_customers(integer) IS
'Customers to look at, the most doubtful first: low_cohesion, one of the records fits the others so little that a run would not join it to them now; many_records, more than 20. Looks at so many customers of the most records, at as many that the weakest links hold together, and at as many that shared identifiers joined. source and record_key name the record that fits least, weight is its match weight against all others together. Settle them with split_customer, forbid_match or confirm_match.';

-- Quality ------------------------------------------------------------------------------------------

CREATE VIEW decisioning.identity_quality AS
WITH customers AS (SELECT count(*) AS records FROM decisioning._record r GROUP BY r.customer_id)
SELECT m.measure, m.value
FROM (SELECT count(*)::float8 AS customers, coalesce(sum(c.records), 0)::float8 AS records, coalesce(max(c.records), 0)::float8 AS largest,
             count(*) FILTER (WHERE c.records = 1)::float8 AS single,
             count(*) FILTER (WHERE c.records > 20)::float8 AS large FROM customers c) AS t
CROSS JOIN LATERAL (VALUES
    ('records', t.records),
    ('customers', t.customers),
    ('records_per_customer', t.records / nullif(t.customers, 0)),
    ('records_of_largest_customer', t.largest),
    ('customers_of_more_than_20_records', t.large),
    ('share_of_customers_of_one_record', t.single / nullif(t.customers, 0)),
    ('pairs_joined_by_likeness', (SELECT count(*)::float8 FROM decisioning._link)),
    ('pairs_to_review', (SELECT count(*)::float8 FROM decisioning.uncertain_pairs)),
    ('values_that_do_not_link', (SELECT count(*)::float8 FROM decisioning.identity_conflicts))) AS m (measure, value);
COMMENT ON VIEW decisioning.identity_quality IS 'How the last resolve_all came out, one measure a row. identity_accuracy compares it with labelled records.';

CREATE FUNCTION decisioning.identity_accuracy(labels regclass, source_column text DEFAULT 'source', key_column text DEFAULT 'record_key', person_column text DEFAULT 'person')
RETURNS TABLE (threshold float8, pairs bigint, "precision" float8, recall float8, f1 float8)
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000 ROWS 12
AS 'MODULE_PATHNAME', 'identity_accuracy_wrapper';
COMMENT ON FUNCTION decisioning.identity_accuracy(regclass, text, text, text) IS
'Precision and recall over pairs of labelled records: a table of yours that says which person each record belongs to, read with your rights. The first row, without a threshold, is of the customers as they are; the others of single pairs, joined at that probability and no others. Only labelled records count.';

CREATE FUNCTION decisioning.identity_history(customer_id text)
RETURNS TABLE (occurred_at timestamptz, event text, customer_id text, from_customer_id text, records integer, evidence jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE ids (id) AS (
        SELECT identity_history.customer_id
        UNION SELECT a.customer_id FROM decisioning._alias a WHERE a.alias = identity_history.customer_id
        UNION
        SELECT e.from_customer_id FROM ids i JOIN decisioning.identity_events e ON e.customer_id = i.id
        WHERE e.event IN ('merged', 'renamed') AND e.from_customer_id IS NOT NULL
    )
    SELECT e.occurred_at, e.event, e.customer_id, e.from_customer_id, e.records, e.evidence
    FROM decisioning.identity_events e
    WHERE e.customer_id IN (SELECT i.id FROM ids i) OR e.from_customer_id IN (SELECT i.id FROM ids i)
    ORDER BY e.identity_event;
END;
COMMENT ON FUNCTION decisioning.identity_history(text) IS
'What happened to a customer, given by any of the ids: merges, splits and renames with their evidence, of all ids that became part of it.';
