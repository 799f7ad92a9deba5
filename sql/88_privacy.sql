-- Privacy: what is known of a customer, and how it is forgotten.

CREATE TABLE decisioning.forgotten (
    tombstone   text        PRIMARY KEY,
    forgotten_at timestamptz NOT NULL,
    forgotten_by text       NOT NULL,
    reason      text
);
COMMENT ON TABLE  decisioning.forgotten IS 'Customers who were forgotten, under the random names that took the places of their ids in the log.';
COMMENT ON COLUMN decisioning.forgotten.tombstone IS 'Name of the tombstone, as customer_id in decisions, outcomes, sends and assignments. Nothing tells whose it is.';

CREATE TABLE decisioning._forgotten_id (
    id_hash     bytea       PRIMARY KEY,
    forgotten_at timestamptz NOT NULL
);
COMMENT ON TABLE decisioning._forgotten_id IS 'Internal: SHA-256 of the ids of who was forgotten, so that events of before, read again from a source, stay forgotten.';

CREATE FUNCTION decisioning.forget_customer(customer_id text, reason text DEFAULT NULL)
RETURNS TABLE (relation text, rows bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 5
AS 'MODULE_PATHNAME', 'forget_customer_wrapper';
COMMENT ON FUNCTION decisioning.forget_customer(text, text) IS
'Forgets a customer, under all his ids: what tells of him is deleted, what is queued for him is cancelled, and a tombstone with a random name keeps what lift and learning count (groups, exposure, decisions, outcomes, without context, content and event ids). Suppressions stay: they protect him. Returns the rows that were deleted or made anonymous. Delete him in your own tables first.';

CREATE FUNCTION decisioning.export_customer(customer_id text) RETURNS jsonb
LANGUAGE c STABLE PARALLEL UNSAFE COST 100000
AS 'MODULE_PATHNAME', 'export_customer_wrapper';
COMMENT ON FUNCTION decisioning.export_customer(text) IS
'Everything that is stored about a customer, under all his ids, as one document.';

CREATE FUNCTION decisioning.set_profiling_consent(campaign text, consent_column text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_profiling_consent_wrapper';
COMMENT ON FUNCTION decisioning.set_profiling_consent(text, text) IS
'Says which boolean column of the customers relation is the consent to be profiled. Whoever has not given it is not in the audience; whoever refuses it (false) is forgotten by the next forget_refusals. NULL takes no notice of consent.';

CREATE FUNCTION decisioning.forget_refusals() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000
AS 'MODULE_PATHNAME', 'forget_refusals_wrapper';
COMMENT ON FUNCTION decisioning.forget_refusals() IS
'Forgets all customers who refuse to be profiled, as set_profiling_consent says, and of whom something is known. Reads customers relations with your rights. Call it from cron, in a transaction of its own. Returns how many.';
