-- Sufficient statistics as aggregates: what learn sums inside one server, over decisions that are elsewhere.

CREATE FUNCTION decisioning._linearisation_point(campaign text, part text DEFAULT 'response') RETURNS bytea
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000
AS 'MODULE_PATHNAME', '_linearisation_point_wrapper';
COMMENT ON FUNCTION decisioning._linearisation_point(text, text) IS
'Internal: the current model of a campaign as one value: layout, prior scales, coefficients and actions. What statistics are taken at.';

CREATE FUNCTION decisioning._statistics_add(state internal, point bytea, action_id integer, encoded float4[], weight float8, reward float8)
RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', '_statistics_add_wrapper';
COMMENT ON FUNCTION decisioning._statistics_add(internal, bytea, integer, float4[], float8, float8) IS 'Internal: transition of _statistics.';

CREATE FUNCTION decisioning._statistics_combine(state internal, other internal) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', '_statistics_combine_wrapper';
COMMENT ON FUNCTION decisioning._statistics_combine(internal, internal) IS 'Internal: adds the sums of parallel workers.';

CREATE FUNCTION decisioning._statistics_bytes(state internal) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', '_statistics_bytes_wrapper';
COMMENT ON FUNCTION decisioning._statistics_bytes(internal) IS 'Internal: sums as bytes, between workers and as result.';

CREATE FUNCTION decisioning._statistics_receive(statistics bytea, state internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', '_statistics_receive_wrapper';
COMMENT ON FUNCTION decisioning._statistics_receive(bytea, internal) IS 'Internal: sums from bytes.';

CREATE AGGREGATE decisioning._statistics(point bytea, action_id integer, encoded float4[], weight float8, reward float8) (
    SFUNC = decisioning._statistics_add,
    STYPE = internal,
    SSPACE = 1000000,
    FINALFUNC = decisioning._statistics_bytes,
    COMBINEFUNC = decisioning._statistics_combine,
    SERIALFUNC = decisioning._statistics_bytes,
    DESERIALFUNC = decisioning._statistics_receive,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE decisioning._statistics(bytea, integer, float4[], float8, float8) IS
'Internal: sufficient statistics of closed decisions, linearised at a point; action_id and encoded as logged, weight is 1 / overlap, discounted by age. Rows with a NULL are skipped. Runs in parallel.';

CREATE FUNCTION decisioning._partial_add(state bytea, point bytea, action_id integer, encoded float4[], weight float8, reward float8)
RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', '_partial_add_wrapper';
COMMENT ON FUNCTION decisioning._partial_add(bytea, bytea, integer, float4[], float8, float8) IS 'Internal: transition of _partial.';

CREATE FUNCTION decisioning._merge_add(state bytea, statistics bytea) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', '_merge_add_wrapper';
COMMENT ON FUNCTION decisioning._merge_add(bytea, bytea) IS 'Internal: transition of _merge; adds the sums of parallel workers.';

CREATE AGGREGATE decisioning._partial(point bytea, action_id integer, encoded float4[], weight float8, reward float8) (
    SFUNC = decisioning._partial_add,
    STYPE = bytea,
    SSPACE = 1000000,
    COMBINEFUNC = decisioning._merge_add,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE decisioning._partial(bytea, integer, float4[], float8, float8) IS
'Internal: the same as _statistics with a state that is a bytea, for engines that ship only states of real types to their nodes.';

CREATE AGGREGATE decisioning._merge(statistics bytea) (
    SFUNC = decisioning._merge_add,
    STYPE = bytea,
    SSPACE = 1000000,
    COMBINEFUNC = decisioning._merge_add,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE decisioning._merge(bytea) IS 'Internal: adds statistics that were taken in parts, at the same point. NULLs are skipped.';

CREATE FUNCTION decisioning._newton_step(point bytea, statistics bytea)
RETURNS TABLE (next_point bytea, coefficients float8[], standard_errors float8[], moved float8)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100000 ROWS 1
AS 'MODULE_PATHNAME', '_newton_step_wrapper';
COMMENT ON FUNCTION decisioning._newton_step(bytea, bytea) IS
'Internal: the posterior given statistics taken at a point, and the point at its mean, at which to take them again; moved is the longest way of a coefficient in standard errors. One full Newton step.';
