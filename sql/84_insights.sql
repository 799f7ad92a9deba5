-- For whom what works.

CREATE TABLE decisioning._insights_found (
    campaign        text        PRIMARY KEY,
    found_at        timestamptz NOT NULL,
    insights        jsonb       NOT NULL
);
COMMENT ON TABLE  decisioning._insights_found IS 'Internal: the confirmed insights of each campaign that runs, as maintain found them; it looks once a day.';
COMMENT ON COLUMN decisioning._insights_found.insights IS 'Rows of insights(campaign), as an array.';

CREATE FUNCTION decisioning.insights(
    campaign    text,
    since       timestamptz DEFAULT NULL,
    false_discovery_rate float8 DEFAULT 0.1,
    most        integer     DEFAULT 20
)
RETURNS TABLE (segment text, dimension text, level text, customers bigint, decisions bigint, response_rate float8, baseline_rate float8,
               ratio float8, lower float8, upper float8, q_value float8, confirmed boolean, sentence text)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000000 ROWS 10
AS 'MODULE_PATHNAME', 'insights_wrapper';
COMMENT ON FUNCTION decisioning.insights(text, timestamptz, float8, integer) IS
'For whom a message, channel or any other level works better or worse than for other customers. Effects are found among half of the customers, with the false-discovery rate controlled over all segments and levels that were looked at (q_value); everything else is estimated among the other half, which took no part in finding them: response_rate of the segment to the level, baseline_rate to the others, and ratio, how many times the one over the other is what it is for all other customers, with a 90 % interval. confirmed means that it holds there, with at most a 5 % chance of any false confirmation.';
