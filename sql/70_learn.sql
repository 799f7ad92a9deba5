-- Learn.

CREATE FUNCTION decisioning.learn(campaign text)
RETURNS TABLE (model_version bigint, new_decisions bigint, new_outcomes bigint, decisions bigint, outcomes bigint,
               open_decisions bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 1
AS 'MODULE_PATHNAME', 'learn_wrapper';
COMMENT ON FUNCTION decisioning.learn(text) IS
'Reads the outcome sources of the campaign, absorbs every decision whose attribution window has closed and every outcome since, and writes a new model version if there was anything. Decisions whose window is open count too, by what is known of them so far. Cost grows with what is new or open.';

CREATE FUNCTION decisioning.rebuild_model(campaign text)
RETURNS TABLE (model_version bigint, decisions bigint, outcomes bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 1
AS 'MODULE_PATHNAME', 'rebuild_model_wrapper';
COMMENT ON FUNCTION decisioning.rebuild_model(text) IS
'Profiles the audience again and refits the model to convergence from the log, absorbed decisions only: the reference for what learn keeps incrementally.';

CREATE FUNCTION decisioning.evaluate_policy(
    campaign    text,
    since       timestamptz DEFAULT NULL,
    until       timestamptz DEFAULT NULL,
    confidence  float8      DEFAULT 0.95
)
RETURNS TABLE (policy text, estimator text, value float8, standard_error float8, lower float8, upper float8,
               decisions bigint, effective_decisions float8, largest_weight float8, in_sample boolean)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 10
AS 'MODULE_PATHNAME', 'evaluate_policy_wrapper';
COMMENT ON FUNCTION decisioning.evaluate_policy(text, timestamptz, timestamptz, float8) IS
'Values the learned policy, every fixed action, no_send and random choice on logged decisions with known propensities, by self-normalised inverse propensity. in_sample warns that the model has learned from these decisions.';

CREATE FUNCTION decisioning.maintain() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000
AS 'MODULE_PATHNAME', 'maintain_wrapper';
COMMENT ON FUNCTION decisioning.maintain() IS 'Does all due housekeeping: makes partitions ahead and learns for every campaign that is active or paused. Call it from cron.';

CREATE VIEW decisioning.models AS
SELECT m.campaign, m.model_version, m.created_at, m.encoder_version, m.decisions, m.outcomes,
       cardinality(m.coefficients) AS coefficients,
       m.model_version = l.model_version AS current
FROM decisioning._model m
LEFT JOIN decisioning._learner l ON l.campaign = m.campaign;
COMMENT ON VIEW decisioning.models IS 'Model versions: when each was learned, and how many decisions and outcomes it has seen.';
COMMENT ON COLUMN decisioning.models.decisions IS 'Decisions absorbed, imports included.';
COMMENT ON COLUMN decisioning.models.outcomes IS 'Outcome rows absorbed.';

CREATE FUNCTION decisioning._coefficient_names(layout jsonb) RETURNS text[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', '_coefficient_names_wrapper';
COMMENT ON FUNCTION decisioning._coefficient_names(jsonb) IS 'Internal: a name for every coefficient of a model layout.';

CREATE VIEW decisioning.coefficients AS
SELECT m.campaign, m.model_version, c.coefficient, c.estimate, c.standard_error,
       format('%s: %s ± %s log-odds', c.coefficient,
           to_char(c.estimate, 'SFM990.00'), to_char(c.standard_error, 'FM990.00')) AS in_words
FROM decisioning._learner l
JOIN decisioning._model m ON m.campaign = l.campaign AND m.model_version = l.model_version
CROSS JOIN LATERAL unnest(decisioning._coefficient_names(m.layout), m.coefficients, m.standard_errors)
    AS c(coefficient, estimate, standard_error);
COMMENT ON VIEW decisioning.coefficients IS 'What the current model of each campaign has learned: log-odds per unit of the encoded feature, with posterior standard deviation.';
