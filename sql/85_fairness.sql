-- Fairness: who gets what, across an attribute that the model does not see.

CREATE FUNCTION decisioning.fairness(
    campaign    text,
    attribute   text,
    dimension   text        DEFAULT 'offer',
    reference   text        DEFAULT NULL,
    minimum_ratio float8    DEFAULT 0.8,
    minimum_customers integer DEFAULT 30,
    since       timestamptz DEFAULT NULL
)
RETURNS TABLE (value text, level text, customers bigint, got bigint, share float8, lower float8, upper float8, ratio float8, verdict text)
LANGUAGE c STABLE PARALLEL UNSAFE COST 100000 ROWS 20
AS 'MODULE_PATHNAME', 'fairness_wrapper';
COMMENT ON FUNCTION decisioning.fairness(text, text, text, text, float8, integer, timestamptz) IS
'Of the optimise group: the share of customers with each value of an attribute who got each level of a dimension since a time (90 days by default), with Wilson''s 95 % interval and the ratio to the reference value, which is the one with the largest share unless it is given. The attribute is a column of the customers relation, read with your rights, that the model does not learn from. verdict is reference, fair, suspect (ratio below minimum_ratio), adverse (beyond chance) or too few.';
