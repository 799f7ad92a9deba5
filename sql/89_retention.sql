-- How long the log is kept.

CREATE TABLE decisioning._thinned (
    singleton   boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    until       timestamptz NOT NULL
);
COMMENT ON TABLE decisioning._thinned IS 'Internal: until when the log was thinned. What stays of older decisions depends on what was chosen, so that nothing is estimated of policies by it.';

CREATE FUNCTION decisioning.thin_log(before timestamptz)
RETURNS TABLE (relation text, removed bigint, kept bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10
AS 'MODULE_PATHNAME', 'thin_log_wrapper';
COMMENT ON FUNCTION decisioning.thin_log(timestamptz) IS
'Thins the log: of months that were over by then, decisions go that nothing needs any more, with their sends and the model versions that chose them. First decisions of customers stay, and whatever still stands or waits. Groups, exposure and outcomes are not touched, so that lift stays what it is. Refuses to go where a campaign still learns or works. Returns what was removed and kept, by relation.';
