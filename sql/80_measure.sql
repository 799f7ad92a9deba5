-- Measure: what campaigns have changed, and whether the groups allow to say so. Everything here only reads, in parallel, on a
-- standby too.

CREATE FUNCTION decisioning._sample_add(state bytea, outcome float8, denominator float8, covariate float8) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', '_sample_add_wrapper';
COMMENT ON FUNCTION decisioning._sample_add(bytea, float8, float8, float8) IS 'Internal: transition of _sample.';

CREATE FUNCTION decisioning._sample_merge(state bytea, other bytea) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', '_sample_merge_wrapper';
COMMENT ON FUNCTION decisioning._sample_merge(bytea, bytea) IS 'Internal: adds two samples.';

CREATE AGGREGATE decisioning._sample(outcome float8, denominator float8, covariate float8) (
    SFUNC = decisioning._sample_add,
    STYPE = bytea,
    SSPACE = 96,
    COMBINEFUNC = decisioning._sample_merge,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE decisioning._sample(float8, float8, float8) IS
'Internal: units summed up: count, means and sums of products of deviations, as ten little-endian float8. Units with a NULL are skipped.';

CREATE AGGREGATE decisioning._merge_samples(sample bytea) (
    SFUNC = decisioning._sample_merge,
    STYPE = bytea,
    SSPACE = 96,
    COMBINEFUNC = decisioning._sample_merge,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE decisioning._merge_samples(bytea) IS 'Internal: adds samples that were taken in parts.';

CREATE FUNCTION decisioning._responses_add(state internal, unit tid, cluster integer, part integer, events float8, value float8, covariate float8)
RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', '_responses_add_wrapper';
COMMENT ON FUNCTION decisioning._responses_add(internal, tid, integer, integer, float8, float8, float8) IS 'Internal: transition of _responses.';

CREATE FUNCTION decisioning._responses_combine(state internal, other internal) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', '_responses_combine_wrapper';
COMMENT ON FUNCTION decisioning._responses_combine(internal, internal) IS 'Internal: adds the totals of another worker.';

CREATE FUNCTION decisioning._responses_bytes(state internal) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', '_responses_bytes_wrapper';
COMMENT ON FUNCTION decisioning._responses_bytes(internal) IS 'Internal: totals as bytes.';

CREATE FUNCTION decisioning._responses_receive(responses bytea, state internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', '_responses_receive_wrapper';
COMMENT ON FUNCTION decisioning._responses_receive(bytea, internal) IS 'Internal: totals from bytes.';

CREATE AGGREGATE decisioning._responses(unit tid, cluster integer, part integer, events float8, value float8, covariate float8) (
    SFUNC = decisioning._responses_add,
    STYPE = internal,
    SSPACE = 1000000,
    FINALFUNC = decisioning._responses_bytes,
    COMBINEFUNC = decisioning._responses_combine,
    SERIALFUNC = decisioning._responses_bytes,
    DESERIALFUNC = decisioning._responses_receive,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE decisioning._responses(tid, integer, integer, float8, float8, float8) IS
'Internal: what each unit (a row, by its ctid) did, added up by part: 44 bytes for each. Rows with a NULL are skipped; a covariate may be NULL. Runs in parallel.';

-- Groups -------------------------------------------------------------------------------------------

CREATE VIEW decisioning._share_periods AS
WITH changes AS (
    SELECT e.campaign, e.epoch FROM decisioning.epochs e WHERE e.relation = 'campaigns' AND e.after IS NOT NULL
    UNION
    SELECT c.campaign, g.epoch
    FROM (SELECT e.campaign, min(e.epoch) AS epoch FROM decisioning.epochs e WHERE e.relation = 'campaigns' GROUP BY e.campaign) AS c
    JOIN decisioning._global_shares g ON g.epoch > c.epoch
), shares AS (
    SELECT c.campaign, c.epoch, (h.after ->> 'holdout_share')::float8 AS holdout_share, (h.after ->> 'control_share')::float8 AS control_share,
           (h.after ->> 'explore_share')::float8 AS explore_share,
           coalesce((SELECT g.share FROM decisioning._global_shares g WHERE g.epoch <= c.epoch ORDER BY g.epoch DESC LIMIT 1), 0)::float8 AS global_share
    FROM changes c
    CROSS JOIN LATERAL (
        SELECT e.after FROM decisioning.epochs e
        WHERE e.campaign = c.campaign AND e.relation = 'campaigns' AND e.after IS NOT NULL AND e.epoch <= c.epoch
        ORDER BY e.epoch DESC LIMIT 1) AS h
)
SELECT s.campaign, s.epoch, s.holdout_share, s.control_share, s.explore_share, s.global_share
FROM (SELECT h.*, lag(ROW(h.holdout_share, h.control_share, h.explore_share, h.global_share)) OVER (PARTITION BY h.campaign ORDER BY h.epoch) AS before
      FROM shares h) AS s
WHERE s.before IS DISTINCT FROM ROW(s.holdout_share, s.control_share, s.explore_share, s.global_share);
COMMENT ON VIEW decisioning._share_periods IS 'Internal: the shares that groups are drawn with, that of the global holdout first and the others of the rest, and the epoch from which on they hold.';

CREATE TABLE decisioning.balance_acknowledgements (
    campaign        text        NOT NULL,
    acknowledged_at timestamptz NOT NULL,
    acknowledged_by text        NOT NULL,
    p_value         float8      NOT NULL,
    reason          text        NOT NULL CHECK (reason <> ''),
    PRIMARY KEY (campaign, acknowledged_at)
);
COMMENT ON TABLE  decisioning.balance_acknowledgements IS 'Who has said of groups that are not what they should be that they may be compared nevertheless, and why. It holds for the customers exposed by then.';
COMMENT ON COLUMN decisioning.balance_acknowledgements.p_value IS 'Of the check at that time.';

CREATE FUNCTION decisioning._sequential_balance(observed float8[], shares float8[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', '_sequential_balance_wrapper';
COMMENT ON FUNCTION decisioning._sequential_balance(float8[], float8[]) IS 'Internal: p-value, valid at whatever time one looks, of counts that were drawn with these shares. NULL if these are not known.';

CREATE FUNCTION decisioning.group_balance(campaign text DEFAULT NULL, weekly boolean DEFAULT false)
RETURNS TABLE (campaign text, week date, treatment_group text, customers bigint, expected float8, statistic float8, p_value float8,
               balanced boolean, acknowledged_at timestamptz)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
AS 'MODULE_PATHNAME', 'group_balance_wrapper';
COMMENT ON FUNCTION decisioning.group_balance(text, boolean) IS
'Sample-ratio check: customers per group against the shares in force when they were drawn; weekly by week of exposure. p_value may be looked at as often as one likes: it falls below 0.001 in at most one of a thousand campaigns whose groups are fair (statistic is Pearson''s chi-square, for reference). Then every lift of the campaign is invalid, until acknowledge_imbalance; from then on customers who come later are checked.';

CREATE VIEW decisioning.group_balance AS
SELECT b.campaign, b.treatment_group, b.customers, b.expected, b.statistic, b.p_value, b.balanced, b.acknowledged_at
FROM decisioning.group_balance() AS b;
COMMENT ON VIEW decisioning.group_balance IS 'Sample-ratio check of every campaign; decisioning.group_balance(campaign, weekly => true) has it by week, decisioning.feature_balance(campaign) by feature.';
COMMENT ON COLUMN decisioning.group_balance.expected IS 'Customers that the shares lead one to expect.';
COMMENT ON COLUMN decisioning.group_balance.p_value IS 'Valid at whatever time one looks, of customers exposed since imbalance was last acknowledged.';
COMMENT ON COLUMN decisioning.group_balance.balanced IS 'p_value is at least 0.001. If not, no lift of the campaign means anything.';

CREATE FUNCTION decisioning.acknowledge_imbalance(campaign text, reason text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'acknowledge_imbalance_wrapper';
COMMENT ON FUNCTION decisioning.acknowledge_imbalance(text, text) IS
'Says that groups which fail the sample-ratio check may be compared nevertheless, since the reason is known and harmless. Recorded with who and why; customers who are exposed from now on are checked anew.';

CREATE TABLE decisioning._feature_balance (
    campaign        text        NOT NULL,
    feature         text        NOT NULL,
    checked_at      timestamptz NOT NULL,
    customers       bigint      NOT NULL,
    p_value         float8      NOT NULL,
    balanced        boolean     NOT NULL,
    PRIMARY KEY (campaign, feature)
);
COMMENT ON TABLE decisioning._feature_balance IS 'Internal: what the last daily check of features found; lift is invalid while one of them is not balanced.';

CREATE FUNCTION decisioning.feature_balance(campaign text)
RETURNS TABLE (feature text, customers bigint, levels integer, statistic float8, p_value float8, balanced boolean)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 20
AS 'MODULE_PATHNAME', 'feature_balance_wrapper';
COMMENT ON FUNCTION decisioning.feature_balance(text) IS
'Are the groups alike in every feature, as it was at exposure? Chi-square test of independence over values (numbers by tenths, rare values together) among those who were drawn under the same shares; balanced says whether p_value, times the number of features, is at least 0.0001. Looks at the first decision of 200 000 customers at most. maintain does it every day; what it finds makes lift invalid, until acknowledge_imbalance.';

-- Lift ---------------------------------------------------------------------------------------------

CREATE FUNCTION decisioning.lift(
    campaign    text        DEFAULT NULL,
    confidence  float8      DEFAULT 0.95,
    as_of       timestamptz DEFAULT NULL,
    horizon     interval    DEFAULT NULL,
    goal        text        DEFAULT NULL,
    population  text        DEFAULT 'treatable',
    mixed       boolean     DEFAULT true,
    covariate   text        DEFAULT NULL,
    history     interval    DEFAULT NULL,
    winsorise   float8      DEFAULT 0.99
)
RETURNS TABLE (
    campaign text, goal text, kind text, measure text, treated_group text, baseline_group text,
    treated_customers bigint, baseline_customers bigint, treated_mean float8, baseline_mean float8,
    absolute_lift float8, lower float8, upper float8, relative_lift float8, relative_lower float8, relative_upper float8,
    verdict text, headline boolean, fixed_lower float8, fixed_upper float8, fixed_relative_lower float8, fixed_relative_upper float8,
    p_value float8, detectable_lift float8, variance_removed float8, winsorised_at float8)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 20
AS 'MODULE_PATHNAME', 'lift_wrapper';
COMMENT ON FUNCTION decisioning.lift(text, float8, timestamptz, interval, text, text, boolean, text, interval, float8) IS
'Compares groups by intention to treat: totals per customer from exposure to as_of, or over a horizon for customers for whom it is over. lower and upper hold however often one looks; fixed_lower, fixed_upper and p_value, from ten responders in each group on, for one look at a time that was chosen before. population: treatable (who could have been sent something when exposed) or everybody; mixed => false leaves out customers who turned out to be one with somebody of another group. covariate (a feature) or history (the goal itself, so long before exposure) take noise away (CUPED). winsorise is the quantile of totals beyond which they count as that.';

CREATE VIEW decisioning.lift AS
SELECT l.campaign, l.goal, l.kind, l.measure, l.treated_group, l.baseline_group, l.treated_customers, l.baseline_customers,
       l.treated_mean, l.baseline_mean, l.absolute_lift, l.lower, l.upper, l.relative_lift, l.relative_lower, l.relative_upper, l.verdict
FROM decisioning.lift() AS l WHERE l.headline;
COMMENT ON VIEW   decisioning.lift IS 'Lift of every campaign, one line per goal, since exposure. A campaign''s lift is what it adds given all others: lifts of campaigns must not be added up. decisioning.lift() has other groups, measures, horizons and intervals.';
COMMENT ON COLUMN decisioning.lift.measure IS 'What is compared: the conversion rate, or for goals with a value the value per customer.';
COMMENT ON COLUMN decisioning.lift.lower IS 'Bound of the absolute lift at 95 % that holds however often one looks; upper likewise. NULL until 30 customers of each group have responded.';
COMMENT ON COLUMN decisioning.lift.relative_lift IS 'Treated over baseline, less one.';
COMMENT ON COLUMN decisioning.lift.verdict IS 'collecting (too few responses), inconclusive, positive, negative, tolerated (a harm that is not above what a stop rule tolerates), invalid: sample ratio (the sizes of groups are not what they should be) or invalid: features (groups differ in a feature as it was at exposure).';

CREATE FUNCTION decisioning.lift_over_time(
    campaign    text        DEFAULT NULL,
    by          text        DEFAULT 'day',
    goal        text        DEFAULT NULL,
    confidence  float8      DEFAULT 0.95,
    as_of       timestamptz DEFAULT NULL
)
RETURNS TABLE (
    campaign text, goal text, day date, days_since_exposure integer, measure text, treated_group text, baseline_group text,
    treated_customers bigint, baseline_customers bigint, treated_mean float8, baseline_mean float8,
    absolute_lift float8, lower float8, upper float8)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 100
AS 'MODULE_PATHNAME', 'lift_over_time_wrapper';
COMMENT ON FUNCTION decisioning.lift_over_time(text, text, text, float8, timestamptz) IS
'Lift over time. by => ''day'': since exposure, as it stood at the end of each day, with bounds that hold for all days together. by => ''week'': what happened in each calendar week, of customers exposed before it. by => ''days since exposure'': what happened so many days after exposure, to see novelty wear off. The latter two have bounds for one week or day each.';

CREATE VIEW decisioning.lift_daily AS
SELECT l.campaign, l.goal, l.day, l.measure, l.treated_group, l.baseline_group, l.treated_customers, l.baseline_customers,
       l.treated_mean, l.baseline_mean, l.absolute_lift, l.lower, l.upper
FROM decisioning.lift_over_time() AS l;
COMMENT ON VIEW decisioning.lift_daily IS 'Lift of every campaign and goal since exposure, as it stood at the end of each day of the campaign''s zone; the bounds at 95 % hold for all days together.';

CREATE FUNCTION decisioning.lift_before_exposure(campaign text DEFAULT NULL, period interval DEFAULT '28 days', confidence float8 DEFAULT 0.95)
RETURNS TABLE (
    campaign text, goal text, measure text, treated_group text, baseline_group text, treated_customers bigint, baseline_customers bigint,
    treated_mean float8, baseline_mean float8, absolute_lift float8, lower float8, upper float8, p_value float8, alike boolean)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 20
AS 'MODULE_PATHNAME', 'lift_before_exposure_wrapper';
COMMENT ON FUNCTION decisioning.lift_before_exposure(text, interval, float8) IS
'A/A test: the same comparison of the same groups over the time before exposure, when nothing could differ but by chance. alike says whether p_value is at least 0.001.';

CREATE FUNCTION decisioning.group_differences(campaign text)
RETURNS TABLE (topic text, treatment_group text, counted bigint, affected bigint, rate float8, share float8, p_value float8, alike boolean)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 16
AS 'MODULE_PATHNAME', 'group_differences_wrapper';
COMMENT ON FUNCTION decisioning.group_differences(text) IS
'What treatment does to the groups besides what it is for: customers who were merged (clicking logs people in) and who turned out to be of two groups, and decisions that lost a candidate to a cap or a budget, and what the budgets were charged, by group. rate is per customer or decision that is counted (of budgets, in their unit), share the part of the group in all of it. p_value tests that the rates are the same (chi-square; of budgets analysis of variance, holdout left out); alike says whether it is at least 0.001. Merges that differ bias the lift; caps and budgets that differ are part of it.';

-- Before launch, and along the way -------------------------------------------------------------------

CREATE FUNCTION decisioning.power_analysis(
    campaign        text,
    relative_lift   float8  DEFAULT 0.1,
    power           float8  DEFAULT 0.8,
    confidence      float8  DEFAULT 0.95,
    goal            text    DEFAULT NULL
)
RETURNS TABLE (
    goal text, measure text, base float8, basis text, relative_lift float8, audience bigint, exposed bigint, customers_per_day float8,
    customers_needed bigint, days_needed integer, detectable_lift float8, holdout_share float8, suggested_holdout_share float8, advice text)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 3
AS 'MODULE_PATHNAME', 'power_analysis_wrapper';
COMMENT ON FUNCTION decisioning.power_analysis(text, float8, float8, float8, text) IS
'How many customers and days it takes until lower and upper of lift leave out zero with a probability of power, from what the campaign''s own holdout does within the attribution window, or else from past events (basis: holdout, history, none) and from its traffic. detectable_lift is the smallest relative lift that the audience makes detectable; suggested_holdout_share the smallest share with which the wanted one is. Counts the audience as the caller.';

CREATE FUNCTION decisioning.data_readiness(campaign text)
RETURNS TABLE (topic text, status text, finding text, advice text)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 10
AS 'MODULE_PATHNAME', 'data_readiness_wrapper';
COMMENT ON FUNCTION decisioning.data_readiness(text) IS
'Before launch: volume, repeated keys, features that are missing, constant, stale or look like consequences of the outcome, base rates, actions, and how long it takes to learn; status is good, warning or bad. Features are looked at in the first 100 000 rows of the audience, read as the caller.';
