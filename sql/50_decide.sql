-- Decide. Set-returning and composite functions belong into FROM or LATERAL: (decide(...)).* runs once per column,
-- and a LIMIT above a LATERAL decide still decides for every row below it.

CREATE FUNCTION decisioning.decide(customer_id text, campaign text, context jsonb DEFAULT NULL, strict boolean DEFAULT false)
RETURNS decisioning.decision
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'decide_wrapper';
COMMENT ON FUNCTION decisioning.decide(text, text, jsonb, boolean) IS
'Decides for one customer: one decision per customer, campaign and calendar day; a second call returns the same row, also on the next day as long as the slot of its send is not over. context overrides features by name for this call. Outside of the audience the action is NULL, or strict raises. In preview mode nothing is written: decision_id is NULL and the reason is preview.';

CREATE FUNCTION decisioning.decide(customer_id bigint, campaign text, context jsonb DEFAULT NULL, strict boolean DEFAULT false)
RETURNS decisioning.decision
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'decide_bigint_wrapper';
COMMENT ON FUNCTION decisioning.decide(bigint, text, jsonb, boolean) IS 'decide for bigint customer ids.';

CREATE FUNCTION decisioning.decide(customer_id uuid, campaign text, context jsonb DEFAULT NULL, strict boolean DEFAULT false)
RETURNS decisioning.decision
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'decide_uuid_wrapper';
COMMENT ON FUNCTION decisioning.decide(uuid, text, jsonb, boolean) IS 'decide for uuid customer ids.';

CREATE FUNCTION decisioning.decide_batch(customer_ids text[], campaign text)
RETURNS SETOF decisioning.decision
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 1000
AS 'MODULE_PATHNAME', 'decide_batch_wrapper';
COMMENT ON FUNCTION decisioning.decide_batch(text[], text) IS 'decide for many customers in the caller''s transaction, in the order given.';

CREATE FUNCTION decisioning._decide_chunk(customer_ids text[], campaign text)
RETURNS TABLE (decided bigint, open bigint, outside bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 1
AS 'MODULE_PATHNAME', '_decide_chunk_wrapper';
COMMENT ON FUNCTION decisioning._decide_chunk(text[], text) IS 'Internal: decides for many customers and only counts: new decisions, those already open, customers outside of the audience.';

CREATE FUNCTION decisioning._audience_chunks(campaign text, chunk_size integer)
RETURNS TABLE (customer_ids text[], customers bigint)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 100
AS 'MODULE_PATHNAME', '_audience_chunks_wrapper';
COMMENT ON FUNCTION decisioning._audience_chunks(text, integer) IS 'Internal: ids of the audience in chunks, in their order, and how many customers it has; read with the rights of whoever calls it.';

CREATE FUNCTION decisioning._refuse_transaction_block(procedure text, instead text) RETURNS void
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', '_refuse_transaction_block_wrapper';
COMMENT ON FUNCTION decisioning._refuse_transaction_block(text, text) IS 'Internal: raises if a procedure that commits was called inside a transaction block.';

-- No SET clause: it would forbid COMMIT. Hence every name is qualified.
CREATE PROCEDURE decisioning.decide_all(campaign text, chunk_size integer DEFAULT 10000)
LANGUAGE plpgsql
AS $$
DECLARE
    chunk record;
    counts record;
    seen bigint := 0;
    decided bigint := 0;
    reported timestamptz := pg_catalog.clock_timestamp();
BEGIN
    PERFORM decisioning._refuse_transaction_block('decide_all', 'decide_batch');
    FOR chunk IN SELECT a.customer_ids, a.customers FROM decisioning._audience_chunks(campaign, chunk_size) AS a LOOP
        SELECT * INTO counts FROM decisioning._decide_chunk(chunk.customer_ids, campaign);
        COMMIT;
        seen := seen OPERATOR(pg_catalog.+) pg_catalog.cardinality(chunk.customer_ids);
        decided := decided OPERATOR(pg_catalog.+) counts.decided;
        IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) reported OPERATOR(pg_catalog.>) '5 seconds'::pg_catalog.interval THEN
            reported := pg_catalog.clock_timestamp();
            RAISE NOTICE 'decide_all: % of % customers, % new decisions', seen, chunk.customers, decided;
        END IF;
    END LOOP;
    RAISE NOTICE 'decide_all: % customers in the audience, % new decisions', seen, decided;
END $$;
COMMENT ON PROCEDURE decisioning.decide_all(text, integer) IS
'Decides for the whole audience in chunks, committing each. Cancel it at any time and call it again: customers with an open decision keep it. Call it outside of a transaction block.';

CREATE FUNCTION decisioning.preview(customer_id text, campaign text, context jsonb DEFAULT NULL)
RETURNS TABLE (action text, candidate boolean, removed_by text, probability float8, uplift float8,
               net_uplift float8, propensity float8, treatment_group text)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 50
AS 'MODULE_PATHNAME', 'preview_wrapper';
COMMENT ON FUNCTION decisioning.preview(text, text, jsonb) IS
'Shows every action for one customer as decide would see it now: estimated probability of the goal, uplift over no_send, the same as worth net of costs, propensity in the customer''s group, or what removed it. In shadow mode the propensity is that of the choice that is noted, not carried out. Writes nothing.';

CREATE FUNCTION decisioning.explain(decision_id uuid)
RETURNS TABLE (step integer, subject text, explanation text, number float8)
LANGUAGE c STABLE PARALLEL SAFE COST 10000 ROWS 20
AS 'MODULE_PATHNAME', 'explain_wrapper';
COMMENT ON FUNCTION decisioning.explain(uuid) IS 'Says why a decision came out as it did: group, candidates, propensity, and which features spoke for the action.';

CREATE FUNCTION decisioning.replay(decision_id uuid)
RETURNS TABLE (matches boolean, action text, replayed_action text, propensity float8, replayed_propensity float8, replayed_propensities float8[])
LANGUAGE c STABLE PARALLEL SAFE COST 10000 ROWS 1
AS 'MODULE_PATHNAME', 'replay_wrapper';
COMMENT ON FUNCTION decisioning.replay(uuid) IS 'Repeats a logged choice from the log alone and compares.';

CREATE FUNCTION decisioning._now() RETURNS timestamptz
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', '_now_wrapper';
COMMENT ON FUNCTION decisioning._now() IS 'Internal: the time of the transaction, or decisioning.simulated_now.';

CREATE VIEW decisioning.shadow_decisions AS
SELECT d.decision_id, d.customer_id, d.campaign, d.treatment_group, d.decided_at, d.action,
       coalesce(a.action, 'no_send') AS shadow_action,
       d.shadow_propensities[array_position(d.candidates, d.shadow_action_id)] AS shadow_propensity, d.model_version
FROM decisioning.decisions d
LEFT JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action_id = d.shadow_action_id
WHERE d.shadow_action_id IS NOT NULL;
COMMENT ON VIEW decisioning.shadow_decisions IS 'Decisions made in shadow mode: what was done, and what would have been chosen.';

CREATE VIEW decisioning.open_decisions AS
SELECT d.decision_id, d.customer_id, d.campaign, d.treatment_group, d.action, a.message, a.offer, a.channel, a.slot,
       a.dimensions, d.content, d.send_at, d.propensity, d.reason, a.customer_reason, d.expires_at, d.decided_at
FROM decisioning._assignment s
JOIN decisioning.decisions d ON d.decision_id = s.decision_id
LEFT JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action = d.action
WHERE s.period_ends_at > decisioning._now()
  -- Of customers who turned out to be one after both were decided for, the first decision is the one to act on.
  AND NOT ((s.united IS NOT NULL OR s.merged_into IS NOT NULL) AND EXISTS (
          SELECT FROM (SELECT coalesce(s.merged_into, s.customer_id) AS customer_id
                       UNION ALL
                       SELECT m.merged_id FROM decisioning._merged_assignment m
                       WHERE m.customer_id = coalesce(s.merged_into, s.customer_id) AND m.campaign = s.campaign) p
          JOIN decisioning._assignment e ON e.customer_id = p.customer_id AND e.campaign = s.campaign
          WHERE e.period_ends_at > decisioning._now() AND (e.decided_at, e.customer_id) < (s.decided_at, s.customer_id)));
COMMENT ON VIEW decisioning.open_decisions IS 'Decisions of the current decision period, and those of the last whose slot is not over; no-send included: what dbt models and reverse ETL select from.';
