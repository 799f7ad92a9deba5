-- What people know better than any rule: which records are one person, and which are not.

CREATE SEQUENCE decisioning._correction_number;
CREATE TABLE decisioning.match_corrections (
    source_a        text        NOT NULL,
    key_a           text        NOT NULL,
    source_b        text        NOT NULL,
    key_b           text        NOT NULL,
    same_person     boolean     NOT NULL,
    reason          text,
    correction      bigint      NOT NULL DEFAULT pg_catalog.nextval('decisioning._correction_number'),
    epoch           bigint      NOT NULL,
    PRIMARY KEY (source_a, key_a, source_b, key_b),
    CHECK ((source_a, key_a) <> (source_b, key_b))
);
COMMENT ON TABLE  decisioning.match_corrections IS 'Pairs of records that somebody knows to be one person, or not to be. They have precedence over all rules and evidence at the next resolve_all. A pair is stored in one order only.';
COMMENT ON COLUMN decisioning.match_corrections.same_person IS 'true joins the two records; false keeps their customers apart. Where both would hold of one person, records stay apart.';
COMMENT ON COLUMN decisioning.match_corrections.correction IS 'Pairs of one call have one number: undo_correction takes it.';

CREATE FUNCTION decisioning._order_pair() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (NEW.source_a COLLATE "C", NEW.key_a COLLATE "C") > (NEW.source_b COLLATE "C", NEW.key_b COLLATE "C") THEN
        SELECT NEW.source_b, NEW.key_b, NEW.source_a, NEW.key_a INTO NEW.source_a, NEW.key_a, NEW.source_b, NEW.key_b;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION decisioning._order_pair() IS 'Internal: stores a pair of records in one order, whichever way round it was given.';
CREATE TRIGGER a_order_pair BEFORE INSERT OR UPDATE ON decisioning.match_corrections
    FOR EACH ROW EXECUTE FUNCTION decisioning._order_pair();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.match_corrections
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();

CREATE FUNCTION decisioning.confirm_match(source_a text, key_a text, source_b text, key_b text, reason text DEFAULT NULL)
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'confirm_match_wrapper';
COMMENT ON FUNCTION decisioning.confirm_match(text, text, text, text, text) IS
'Says that two records are one person, whatever rules and evidence say, from the next resolve_all on. Takes back the opposite. Returns the number of the correction.';

CREATE FUNCTION decisioning.forbid_match(source_a text, key_a text, source_b text, key_b text, reason text DEFAULT NULL)
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'forbid_match_wrapper';
COMMENT ON FUNCTION decisioning.forbid_match(text, text, text, text, text) IS
'Says that two records are not one person, whatever rules and evidence say, from the next resolve_all on. Takes back the opposite. Returns the number of the correction.';

CREATE FUNCTION decisioning.merge_customers(customer_ids text[], reason text DEFAULT NULL)
RETURNS TABLE (customer_id text, correction bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1
AS 'MODULE_PATHNAME', 'merge_customers_wrapper';
COMMENT ON FUNCTION decisioning.merge_customers(text[], text) IS
'Makes one customer of several, at once and for good. Returns the id that is canonical now, and the number of the correction.';

CREATE FUNCTION decisioning.split_customer(customer_id text, records text[], reason text DEFAULT NULL)
RETURNS TABLE (customer_id text, correction bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1
AS 'MODULE_PATHNAME', 'split_customer_wrapper';
COMMENT ON FUNCTION decisioning.split_customer(text, text[], text) IS
'Makes a customer of his own of some records (source:key) of a customer, at once and for good; identifiers that only they have follow with the next resolve_all. Returns the id of the customer that these records are now, and the number of the correction.';

CREATE FUNCTION decisioning.undo_correction(correction bigint) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'undo_correction_wrapper';
COMMENT ON FUNCTION decisioning.undo_correction(bigint) IS
'Takes back what confirm_match, forbid_match, merge_customers or split_customer said; the next resolve_all goes by the evidence again. Returns the number of pairs.';
