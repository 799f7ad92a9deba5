-- Configure: verbs for people; plain DML on the tables does the same with the same checks.

CREATE FUNCTION decisioning.create_campaign(
    campaign            text,
    customers           regclass,
    customer_key        text,
    audience            text    DEFAULT NULL,
    features            text[]  DEFAULT NULL,
    time_zone           text    DEFAULT NULL,
    holdout_share       float8  DEFAULT 0.10,
    control_share       float8  DEFAULT 0.00,
    explore_share       float8  DEFAULT 0.05,
    control_action      text    DEFAULT NULL,
    propensity_floor    float8  DEFAULT 0.02,
    temper              float8  DEFAULT 0.2,
    half_life           interval DEFAULT '30 days',
    offset_column       text    DEFAULT NULL,
    offset_scale        text    DEFAULT 'probability',
    minimum_uplift      float8  DEFAULT 0,
    offer_consistency   interval DEFAULT '30 days',
    household_column    text    DEFAULT NULL,
    unit                text    DEFAULT 'customer',
    currency            text    DEFAULT NULL,
    description         text    DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'create_campaign_wrapper';
COMMENT ON FUNCTION decisioning.create_campaign(text, regclass, text, text, text[], text, float8, float8, float8, text, float8, float8, interval, text, text, float8, interval, text, text, text, text) IS
'Creates a campaign in draft over a table or view with one row per customer. audience is a predicate over it; time_zone is an IANA zone or a column with one; offset_column has a score from elsewhere (offset_scale: probability or log_odds) that the model starts from; household_column has the household of a customer, and unit => ''household'' draws its members into one group. Returns what the audience makes detectable.';

CREATE FUNCTION decisioning.start_campaign(campaign text, mode text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'start_campaign_wrapper';
COMMENT ON FUNCTION decisioning.start_campaign(text, text) IS 'Starts or resumes a campaign; needs a goal and an approved action. mode (live, shadow or preview) says what becomes of its decisions from now on; without it the mode stays as it is.';

CREATE FUNCTION decisioning.ramp_control(campaign text, share float8) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ramp_control_wrapper';
COMMENT ON FUNCTION decisioning.ramp_control(text, float8) IS
'Moves customers of the control group to optimise, in the order of their buckets, until this share of the group has moved; new customers follow. Never the other way. They keep their group and get a date, and leave the control group of lift. Returns how many moved.';

CREATE FUNCTION decisioning.ramp_when_better(campaign text, step float8 DEFAULT 0.25, confidence float8 DEFAULT 0.95, goal text DEFAULT NULL)
RETURNS float8
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ramp_when_better_wrapper';
COMMENT ON FUNCTION decisioning.ramp_when_better(text, float8, float8, text) IS
'From now on, learn moves this share of the control group to optimise whenever optimise is better than control by the goal''s lift with this confidence, and does not harm more; at most one step per attribution window. Says why when it does not. step => NULL ends it. Takes a step now if one is due, and returns the share that has moved by now.';

CREATE FUNCTION decisioning.pause_campaign(campaign text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pause_campaign_wrapper';
COMMENT ON FUNCTION decisioning.pause_campaign(text) IS 'Pauses a campaign: no decisions until start_campaign; outcomes are still recorded and learned.';

CREATE FUNCTION decisioning.end_campaign(campaign text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'end_campaign_wrapper';
COMMENT ON FUNCTION decisioning.end_campaign(text) IS 'Ends a campaign for good. Its log, groups and lift stay.';

CREATE FUNCTION decisioning.add_action(
    campaign        text,
    action          text,
    message         text    DEFAULT NULL,
    offer           text    DEFAULT NULL,
    channel         text    DEFAULT NULL,
    slot            text    DEFAULT NULL,
    dimensions      jsonb   DEFAULT NULL,
    content         jsonb   DEFAULT NULL,
    customer_reason text    DEFAULT NULL,
    cost_send       float8  DEFAULT 0,
    cost_on_goal    float8  DEFAULT 0,
    cost_on_goal_share float8 DEFAULT 0,
    category        text    DEFAULT NULL,
    transactional   boolean DEFAULT false
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_action_wrapper';
COMMENT ON FUNCTION decisioning.add_action(text, text, text, text, text, text, jsonb, jsonb, text, float8, float8, float8, text, boolean) IS
'Adds one action as a draft. message, offer, channel and slot are dimensions like those in the dimensions document; a slot is morning (8 to 11), midday (11 to 14), afternoon (14 to 17), evening (17 to 21) or an hour from HH:MM on, any other is at once; costs are in units of the goals'' value. Returns its name.';

CREATE FUNCTION decisioning.add_action_grid(
    campaign    text,
    dimensions  jsonb,
    excluded    jsonb DEFAULT '[]'
) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_action_grid_wrapper';
COMMENT ON FUNCTION decisioning.add_action_grid(text, jsonb, jsonb) IS
'Adds every combination of the dimension levels but those that contain an excluded one, as drafts named level/level/...; combinations that exist are left alone. Returns how many were added.';

CREATE FUNCTION decisioning.approve_action(campaign text, action text) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'approve_action_wrapper';
COMMENT ON FUNCTION decisioning.approve_action(text, text) IS 'Approves an action as it is now, recording who, when and a hash of its content. Returns its name.';

CREATE FUNCTION decisioning.pause_action(campaign text, action text) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pause_action_wrapper';
COMMENT ON FUNCTION decisioning.pause_action(text, text) IS 'Takes an action out of choice; approve_action brings it back. Returns its name.';

CREATE FUNCTION decisioning.add_goal(goal text, kind text DEFAULT 'conversion', description text DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_goal_wrapper';
COMMENT ON FUNCTION decisioning.add_goal(text, text, text) IS 'Adds a goal: conversion, value, engagement or harm. Returns its name.';

CREATE FUNCTION decisioning.add_campaign_goal(
    campaign            text,
    goal                text,
    value               float8   DEFAULT NULL,
    attribution_window  interval DEFAULT '7 days'
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_campaign_goal_wrapper';
COMMENT ON FUNCTION decisioning.add_campaign_goal(text, text, float8, interval) IS
'Makes a campaign work for a goal: events within the attribution window of a decision count for it.';

CREATE FUNCTION decisioning.add_outcome_source(
    goal            text,
    relation        regclass,
    customer_key    text,
    occurred_at     text,
    value           text     DEFAULT NULL,
    event_id        text     DEFAULT NULL,
    filter          text     DEFAULT NULL,
    lookback        interval DEFAULT '7 days',
    outcome_source  text     DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_outcome_source_wrapper';
COMMENT ON FUNCTION decisioning.add_outcome_source(text, regclass, text, text, text, text, text, interval, text) IS
'Reads a goal''s events from a table or view of yours, in place, whenever learn or ingest_outcomes runs. event_id is required: it makes ingestion idempotent. Without a value column an event counts 1; a value that is NULL counts 0. Returns the name of the source.';
