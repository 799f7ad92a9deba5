-- What each action brings.

CREATE FUNCTION decisioning.action_performance(
    campaign    text,
    since       timestamptz DEFAULT NULL,
    confidence  float8      DEFAULT 0.95
)
RETURNS TABLE (action text, decisions bigint, responses bigint, raw_rate float8, response_rate float8, lower float8, upper float8,
               uplift float8, uplift_lower float8, uplift_upper float8, worth_per_decision float8,
               effective_decisions float8, largest_weight float8, basis text)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 10
AS 'MODULE_PATHNAME', 'action_performance_wrapper';
COMMENT ON FUNCTION decisioning.action_performance(text, timestamptz, float8) IS
'What each action would bring if it were taken whenever it is a candidate, no_send included, from the random decisions whose window has closed. response_rate is weighted by inverse propensity, because the policy chose to whom; its bounds, and those of the uplift over no_send in the same decisions, hold however often one looks. raw_rate is what was seen, and biased: the policy gave the action to whom it suits.';

CREATE VIEW decisioning.action_performance AS
SELECT l.campaign, p.action, p.decisions, p.responses, p.raw_rate, p.response_rate, p.lower, p.upper,
       p.uplift, p.uplift_lower, p.uplift_upper, p.worth_per_decision, p.effective_decisions, p.largest_weight, p.basis
FROM decisioning._learner l
CROSS JOIN LATERAL decisioning.action_performance(l.campaign, decisioning._now() - interval '90 days') AS p;
COMMENT ON VIEW   decisioning.action_performance IS 'What each action brings, by campaign, over the decisions of the last 90 days; decisioning.action_performance() has other times.';
COMMENT ON COLUMN decisioning.action_performance.decisions IS 'Random decisions that took the action and whose window has closed; responses are those of them with an event of a conversion or value goal.';
COMMENT ON COLUMN decisioning.action_performance.raw_rate IS 'Responses per decision that took it. Biased: the policy chose to whom, and when.';
COMMENT ON COLUMN decisioning.action_performance.response_rate IS 'Mean response rate over the decisions in which it was a candidate, had it been taken in all of them. lower and upper hold at 95 % however often one looks. NULL below 30 responses.';
COMMENT ON COLUMN decisioning.action_performance.uplift IS 'response_rate less that of no_send in the same decisions; NULL below 30 responses to either.';
COMMENT ON COLUMN decisioning.action_performance.worth_per_decision IS 'What responses are worth per decision, corrected like response_rate, before costs.';
COMMENT ON COLUMN decisioning.action_performance.effective_decisions IS 'Number of decisions of equal weight that would say as much.';
COMMENT ON COLUMN decisioning.action_performance.largest_weight IS '1 / propensity of the least likely decision that took it: how much hangs on a single one.';
COMMENT ON COLUMN decisioning.action_performance.basis IS 'inverse propensity, or too few: fewer than 30 responses to it.';
