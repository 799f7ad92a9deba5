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
    confidence  float8      DEFAULT 0.95,
    policy      text        DEFAULT NULL,
    changes     jsonb       DEFAULT NULL
)
RETURNS TABLE (policy text, estimator text, value float8, standard_error float8, lower float8, upper float8,
               bootstrap_lower float8, bootstrap_upper float8, decisions bigint, effective_decisions float8,
               largest_weight float8, overlap float8, in_sample boolean)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 40
AS 'MODULE_PATHNAME', 'evaluate_policy_wrapper';
COMMENT ON FUNCTION decisioning.evaluate_policy(text, timestamptz, timestamptz, float8, text, jsonb) IS
'Values the learned policy, every fixed action and random choice, or the one policy named, on logged decisions with known propensities, each by four estimators: ips, snips, direct and doubly_robust. changes values them under another propensity_floor or without paused_actions. overlap is the share of a policy''s choices that the log could have made; below 0.99 there is no value, and a named policy is refused. in_sample warns that the model has learned from these decisions.';

CREATE FUNCTION decisioning.evaluate_log(
    log                 regclass,
    reward              text    DEFAULT 'reward',
    propensity          text    DEFAULT 'propensity',
    target_probability  text    DEFAULT 'target_probability',
    predicted           text    DEFAULT NULL,
    expected            text    DEFAULT NULL,
    customer_key        text    DEFAULT NULL,
    confidence          float8  DEFAULT 0.95
)
RETURNS TABLE (estimator text, value float8, standard_error float8, lower float8, upper float8,
               bootstrap_lower float8, bootstrap_upper float8, decisions bigint, effective_decisions float8,
               largest_weight float8, mean_weight float8)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 4
AS 'MODULE_PATHNAME', 'evaluate_log_wrapper';
COMMENT ON FUNCTION decisioning.evaluate_log(regclass, text, text, text, text, text, text, float8) IS
'Values any target policy on a log of yours, whose columns the arguments name: the reward, the probability with which the logged action was chosen, and the probability of that action under the target. With the modelled reward of the logged action (predicted) and under the target (expected), from a model that has not seen the row, also direct and doubly robust. The bootstrap draws customers by customer_key, or else rows. Reads with the rights of the caller.';

CREATE FUNCTION decisioning.maintain()
RETURNS TABLE (campaign text, step text, error text, hint text)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 1
AS 'MODULE_PATHNAME', 'maintain_wrapper';
COMMENT ON FUNCTION decisioning.maintain() IS 'Does all due housekeeping: makes partitions ahead, learns for every campaign that is active or paused, and forgets what budgets no longer need. Call it from cron. Each step stands alone: one that fails, such as learning of a campaign whose relation is gone, is undone and a warning, and does not keep the others. Returns the steps that failed, none if all is well.';

CREATE VIEW decisioning.models AS
SELECT m.campaign, m.model_version, m.created_at, m.encoder_version, m.decisions, m.outcomes, m.open_decisions,
       p.parts, p.coefficients, p.prior_scales, p.drift, p.drifted_at, p.worth_unit, m.model_version = l.model_version AS current
FROM decisioning._model m
CROSS JOIN LATERAL (
    SELECT array_agg(p.part ORDER BY p.part <> 'response', p.part) AS parts,
           sum(cardinality(p.coefficients))::bigint AS coefficients,
           jsonb_object_agg(p.part, p.scales) AS prior_scales,
           jsonb_object_agg(p.part, p.drift) AS drift,
           jsonb_object_agg(p.part, p.drifted_at) FILTER (WHERE p.drifted_at IS NOT NULL) AS drifted_at,
           (array_agg(p.unit) FILTER (WHERE p.unit IS NOT NULL))[1] AS worth_unit
    FROM decisioning._model_part p WHERE p.campaign = m.campaign AND p.model_version = m.model_version) AS p
LEFT JOIN decisioning._learner l ON l.campaign = m.campaign;
COMMENT ON VIEW decisioning.models IS 'Model versions: when each was learned, and how many decisions and outcomes it has seen.';
COMMENT ON COLUMN decisioning.models.decisions IS 'Decisions absorbed, imports included.';
COMMENT ON COLUMN decisioning.models.outcomes IS 'Outcome rows absorbed.';
COMMENT ON COLUMN decisioning.models.open_decisions IS 'Decisions whose window was open, counted by what was known of them.';
COMMENT ON COLUMN decisioning.models.parts IS 'What it predicts. response: whether a goal is reached; worth: what a response is worth, where that varies; harm: goal: whether that harm is done.';
COMMENT ON COLUMN decisioning.models.prior_scales IS 'By part, the prior standard deviation of each block of coefficients, estimated from the data: how much its effects vary.';
COMMENT ON COLUMN decisioning.models.drift IS 'By part and lever (send for what all sends have in common, each dimension, pairs of levels), how far its effects have drifted from what decisions before drifted_at say: 0 is a lever that does what it did, near 1 one of which they say nothing any more. Empty for a world that stays.';
COMMENT ON COLUMN decisioning.models.drifted_at IS 'By part, since when its effects are others: of the times at which the sums of learning are parted, and thirds of the window back, the one that makes what came later most probable. Null for a world that stays.';
COMMENT ON COLUMN decisioning.models.worth_unit IS 'How worth is counted: as (worth - centre) / scale, of worth within low and high. NULL if the model has none.';

CREATE FUNCTION decisioning._coefficient_names(layout jsonb) RETURNS text[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', '_coefficient_names_wrapper';
COMMENT ON FUNCTION decisioning._coefficient_names(jsonb) IS 'Internal: a name for every coefficient of a model layout.';

CREATE VIEW decisioning.coefficients AS
SELECT m.campaign, m.model_version, p.part, c.coefficient, u.factor * c.estimate AS estimate,
       u.factor * c.standard_error AS standard_error,
       format('%s%s: %s %s %s %s', CASE WHEN p.part <> 'response' THEN p.part || ': ' END, c.coefficient, to_char(u.factor * c.estimate, 'SFM999999990.00'), chr(177), -- plus or minus
           to_char(u.factor * c.standard_error, 'FM999999990.00'),
           CASE WHEN p.unit IS NULL THEN 'log-odds' ELSE coalesce(k.currency, 'units of value') END) AS in_words
FROM decisioning._learner l
JOIN decisioning.campaigns k ON k.campaign = l.campaign
JOIN decisioning._model m ON m.campaign = l.campaign AND m.model_version = l.model_version
JOIN decisioning._model_part p ON p.campaign = m.campaign AND p.model_version = m.model_version
CROSS JOIN LATERAL (SELECT coalesce((p.unit ->> 'scale')::float8, 1) AS factor) AS u
CROSS JOIN LATERAL unnest(decisioning._coefficient_names(m.layout), p.coefficients, p.standard_errors)
    AS c(coefficient, estimate, standard_error);
COMMENT ON VIEW decisioning.coefficients IS 'What the current model of each campaign has learned, per unit of the encoded feature, with posterior standard deviation: log-odds for response and harm, units of value for worth.';
COMMENT ON COLUMN decisioning.coefficients.in_words IS 'The coefficient, its estimate and its standard error, as one would say it; of worth and harm, after the name of the part.';
COMMENT ON COLUMN decisioning.coefficients.part IS 'response, worth or harm: goal, as in decisioning.models.';

CREATE FUNCTION decisioning.calibration(
    campaign    text,
    since       timestamptz DEFAULT NULL,
    bins        integer     DEFAULT 10,
    confidence  float8      DEFAULT 0.95,
    sample      float8      DEFAULT 1
)
RETURNS TABLE (bin integer, decisions bigint, predicted float8, observed float8, lower float8, upper float8,
               calibrated boolean)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 10
AS 'MODULE_PATHNAME', 'calibration_wrapper';
COMMENT ON FUNCTION decisioning.calibration(text, timestamptz, integer, float8, float8) IS
'Predicted against observed probability of the goal, by deciles of the prediction: of decisions whose window has closed, as predicted by the model version that decided, which had not seen what came of it. calibrated says whether the prediction lies in the interval of what was observed (Wilson). sample is the share of the log''s pages to look at.';

CREATE VIEW decisioning.calibration AS
SELECT l.campaign, c.bin, c.decisions, c.predicted, c.observed, c.lower, c.upper, c.calibrated
FROM decisioning._learner l
CROSS JOIN LATERAL decisioning.calibration(l.campaign, decisioning._now() - interval '90 days') AS c;
COMMENT ON VIEW decisioning.calibration IS 'Predicted against observed probability of the goal by deciles of the prediction, over the decisions of the last 90 days; decisioning.calibration() has other times and bins.';

CREATE FUNCTION decisioning._entropy(shares float8[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', '_entropy_wrapper';
COMMENT ON FUNCTION decisioning._entropy(float8[]) IS 'Internal: entropy of shares, in nats; those that are 0, below or NULL add nothing.';

-- The view reads the whole log; the function a sample of its pages.
DO $do$
DECLARE
    entropy CONSTANT text := $sql$
        WITH chosen AS (
            -- In shadow mode the policy is what would have been chosen.
            SELECT d.campaign, (d.decided_at AT TIME ZONE c.time_zone)::date AS day, coalesce(d.shadow_action_id, d.action_id) AS action_id,
                   count(*) AS decisions, sum(decisioning._entropy(p.propensities)) AS entropy, sum(ln(cardinality(p.propensities))) AS most
            FROM %s
            JOIN decisioning.campaigns c ON c.campaign = d.campaign
            CROSS JOIN LATERAL (SELECT coalesce(d.shadow_propensities, d.propensities) AS propensities) AS p
            WHERE d.treatment_group = 'optimise' AND d.decided_at > decisioning._now() - interval '90 days'
            GROUP BY 1, 2, 3
        ), daily AS (
            SELECT s.campaign, s.day, sum(s.decisions)::bigint AS decisions, sum(s.entropy) / sum(s.decisions) AS entropy,
                   sum(s.most) / sum(s.decisions)::float8 AS most, sum(-s.share * ln(s.share)) AS spread, max(s.share) AS largest,
                   (array_agg(s.action_id ORDER BY s.share DESC, s.action_id))[1] AS action_id
            FROM (SELECT h.*, h.decisions / sum(h.decisions) OVER (PARTITION BY h.campaign, h.day)::float8 AS share FROM chosen h) AS s
            GROUP BY s.campaign, s.day
        )
        SELECT y.campaign, y.day, y.decisions, y.entropy / nullif(y.most, 0) AS entropy, exp(y.spread) AS effective_actions,
               exp(y.most) AS candidates, coalesce(a.action, 'no_send') AS most_frequent_action, y.largest AS most_frequent_share,
               y.most > 0 AND y.decisions >= 100 AND y.largest > 0.9 AS collapsed
        FROM daily y
        LEFT JOIN decisioning.actions a ON a.campaign = y.campaign AND a.action_id = y.action_id
        $sql$;
BEGIN
    EXECUTE 'CREATE VIEW decisioning.policy_entropy AS ' || format(entropy, 'decisioning.decisions d');
    EXECUTE format($sql$
        CREATE FUNCTION decisioning._policy_entropy(campaign text, sample float8) RETURNS SETOF decisioning.policy_entropy
        LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER COST 100000 ROWS 90
        SET search_path = pg_catalog, pg_temp
        SET jit = off
        AS $f$SELECT y.* FROM (%s) AS y WHERE y.campaign = _policy_entropy.campaign$f$
        $sql$, format(entropy, 'decisioning.decisions d TABLESAMPLE SYSTEM (100 * _policy_entropy.sample) REPEATABLE (0)'));
END
$do$;
COMMENT ON FUNCTION decisioning._policy_entropy(text, float8) IS 'Internal: policy_entropy from a share of the pages of the log.';
COMMENT ON VIEW decisioning.policy_entropy IS 'How much the learned policy still varies, by campaign and day of the last 90 days. A collapsed policy gives nearly everybody the same action: right if that action is best for all, otherwise a sign of a low temper or floor, or of features that say nothing.';
COMMENT ON COLUMN decisioning.policy_entropy.entropy IS 'Mean entropy of the propensities of a decision, as a share of the most possible: 1 is random, 0 certain.';
COMMENT ON COLUMN decisioning.policy_entropy.effective_actions IS 'Number of equally frequent actions that would be as diverse as what was chosen: e to the entropy of the shares.';
COMMENT ON COLUMN decisioning.policy_entropy.candidates IS 'Candidates of a decision, no_send included (geometric mean).';
COMMENT ON COLUMN decisioning.policy_entropy.collapsed IS 'More than 90 % of at least 100 decisions of the day are the same action.';
