-- Record what happened.

CREATE FUNCTION decisioning.record_outcome(
    goal        text,
    event_id    text,
    customer_id text        DEFAULT NULL,
    value       float8      DEFAULT NULL,
    occurred_at timestamptz DEFAULT NULL,
    decision_id uuid        DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'record_outcome_wrapper';
COMMENT ON FUNCTION decisioning.record_outcome(text, text, text, float8, timestamptz, uuid) IS
'Records an event for a customer, or for the customer of a decision. Idempotent on goal and event_id: the same event again is unchanged, a different value an adjustment. Without a value an event counts 1. Returns recorded, unchanged or adjusted.';

CREATE FUNCTION decisioning.record_outcomes(
    goal            text,
    event_ids       text[],
    customer_ids    text[],
    amounts         float8[]      DEFAULT NULL,
    occurred_at     timestamptz[] DEFAULT NULL
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000
AS 'MODULE_PATHNAME', 'record_outcomes_wrapper';
COMMENT ON FUNCTION decisioning.record_outcomes(text, text[], text[], float8[], timestamptz[]) IS
'record_outcome for many events of one goal at once. Returns how many were new or changed.';

CREATE FUNCTION decisioning.ingest_outcomes(goal text DEFAULT NULL, complete boolean DEFAULT false)
RETURNS TABLE (outcome_source text, events bigint, recorded bigint, adjusted bigint, reversed bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 5
AS 'MODULE_PATHNAME', 'ingest_outcomes_wrapper';
COMMENT ON FUNCTION decisioning.ingest_outcomes(text, boolean) IS
'Reads the outcome sources of one goal, or of all, with the rights of the caller. complete re-reads everything, not only the lookback.';

CREATE FUNCTION decisioning.import_decisions(
    campaign        text,
    relation        regclass,
    customer_key    text,
    action          text,
    decided_at      text,
    propensity      text,
    filter          text DEFAULT NULL
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000
AS 'MODULE_PATHNAME', 'import_decisions_wrapper';
COMMENT ON FUNCTION decisioning.import_decisions(text, regclass, text, text, text, text, text) IS
'Brings past decisions with known propensities into the log, for learning and evaluation. action, decided_at and propensity name columns; features are the columns of the relation that the campaign knows. Idempotent per customer and time. Returns how many were new.';
