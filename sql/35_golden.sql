-- Golden records and households: what the records of each customer say, in one row, and who lives together. Over our own state
-- alone: nothing here depends on a relation of the user.

CREATE TABLE decisioning.survivorship_rules (
    kind            text        PRIMARY KEY CHECK (kind = 'address' OR decisioning._are_fields(pg_catalog.jsonb_build_object('kind', kind))
                                                   AND kind NOT IN ('street', 'city', 'postcode', 'country')),
    rule            text        NOT NULL CHECK (rule IN ('most_recent', 'most_frequent', 'longest', 'source_priority', 'expression')),
    sources         text[]      NOT NULL DEFAULT '{}',
    expression      text,
    epoch           bigint      NOT NULL,
    CHECK ((rule = 'expression') = (expression IS NOT NULL))
);
COMMENT ON TABLE  decisioning.survivorship_rules IS 'Which of several values of a kind is taken into the golden record, where it is not the built-in one: most_frequent for names and dates of birth, source_priority for external ids, most_recent for everything else.';
COMMENT ON COLUMN decisioning.survivorship_rules.kind IS 'Kind of field, or address for street, city, postcode and country, which survive together.';
COMMENT ON COLUMN decisioning.survivorship_rules.rule IS 'most_recent: of the record that changed last; most_frequent: that most records have; longest; source_priority: of the first of the sources; expression: with the largest value of an expression.';
COMMENT ON COLUMN decisioning.survivorship_rules.sources IS 'For source_priority: sources in order; those not named come after, in the order in which they were added.';
COMMENT ON COLUMN decisioning.survivorship_rules.expression IS 'SQL over value, source, record_key, changed_at and frequency of a candidate. Runs with the rights of whoever calls resolve_all or refresh_golden_records.';
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.survivorship_rules
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();

CREATE TABLE decisioning.golden_records (
    customer_id     text        PRIMARY KEY,
    given_name      text,
    family_name     text,
    full_name       text,
    date_of_birth   date,
    email           text,
    phone           text,
    street          text,
    city            text,
    postcode        text,
    country         text,
    company         text,
    device_id       text,
    external_id     text,
    extra           jsonb       NOT NULL,
    household_id    bigint,
    records         integer     NOT NULL,
    updated_at      timestamptz NOT NULL
);
COMMENT ON TABLE  decisioning.golden_records IS 'One row per customer: what his records say, by the survivorship rules. Filled by refresh_golden_records, and kept up by resolve_all from then on. A campaign can use it as its customers relation.';
COMMENT ON COLUMN decisioning.golden_records.customer_id IS 'Canonical customer id.';
COMMENT ON COLUMN decisioning.golden_records.extra IS 'Kinds without a column: text, and external ids with a namespace.';
COMMENT ON COLUMN decisioning.golden_records.household_id IS 'As in households; NULL if name or address is not known.';
COMMENT ON COLUMN decisioning.golden_records.records IS 'Records of the customer.';
COMMENT ON COLUMN decisioning.golden_records.updated_at IS 'When the row last changed.';

CREATE SEQUENCE decisioning._household_number;
CREATE TABLE decisioning._household_member (
    customer_id     text        PRIMARY KEY,
    household_key   bigint      NOT NULL,
    household_id    bigint,
    since           timestamptz NOT NULL
);
CREATE INDEX _household_member_key_index ON decisioning._household_member (household_key);
CREATE INDEX _household_member_household_index ON decisioning._household_member (household_id);
COMMENT ON TABLE  decisioning._household_member IS 'Internal: the household of each customer whose name and address are known.';
COMMENT ON COLUMN decisioning._household_member.household_key IS 'Hash of normalised family name and address.';
COMMENT ON COLUMN decisioning._household_member.household_id IS 'NULL where so many share name and address that they are no household.';

CREATE VIEW decisioning.households AS
SELECT m.household_id, m.customer_id, m.since FROM decisioning._household_member m WHERE m.household_id IS NOT NULL;
COMMENT ON VIEW   decisioning.households IS 'Customers of one family name at one address. Kept up together with golden_records.';
COMMENT ON COLUMN decisioning.households.household_id IS 'Stays while members come and go, and when all of them move together.';
COMMENT ON COLUMN decisioning.households.since IS 'When the customer became a member.';

CREATE FUNCTION decisioning.add_survivorship_rule(
    kind            text,
    rule            text,
    sources         text[]  DEFAULT '{}',
    expression      text    DEFAULT NULL
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_survivorship_rule_wrapper';
COMMENT ON FUNCTION decisioning.add_survivorship_rule(text, text, text[], text) IS
'Says which value of a kind survives in the golden record: most_recent, most_frequent, longest, source_priority (sources in order) or expression (the one with the largest value, such as length(value) or (source = ''crm'')::int). kind is a kind of field or address. Replaces an earlier rule; takes effect with CALL refresh_golden_records().';

CREATE FUNCTION decisioning.remove_survivorship_rule(kind text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'remove_survivorship_rule_wrapper';
COMMENT ON FUNCTION decisioning.remove_survivorship_rule(text) IS 'Goes back to the built-in survivorship rule of a kind.';

CREATE PROCEDURE decisioning.refresh_golden_records()
LANGUAGE c
AS 'MODULE_PATHNAME', 'refresh_golden_records_wrapper';
COMMENT ON PROCEDURE decisioning.refresh_golden_records() IS
'Makes the golden records and households of all customers anew, and from then on resolve_all keeps them up. Rows that come out as they were are left alone.';
