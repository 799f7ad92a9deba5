-- Guardrails: what nobody may be sent, whatever the learner would choose. Rules are rows; each of them removes candidates, in
-- every treatment group alike, and what it removed is in the log under its name.
--
-- Which actions a rule is about is said by a selector: a partial combination of dimension levels such as
-- '{"channel": ["sms", "push"]}', where the names action and category stand for those of the action; '{}' means every action.

CREATE FUNCTION decisioning._is_selector(selector jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_typeof(selector) = 'object' AND NOT EXISTS (
        SELECT FROM jsonb_each(CASE jsonb_typeof(selector) WHEN 'object' THEN selector ELSE '{}' END) AS e
        WHERE NOT (jsonb_typeof(e.value) = 'string'
                   OR jsonb_typeof(e.value) = 'array' AND NOT jsonb_path_exists(e.value, '$[*] ? (@.type() != "string")'))), false)
$$;
COMMENT ON FUNCTION decisioning._is_selector(jsonb) IS 'Internal: whether a document says which actions a rule is about.';

-- Configuration ------------------------------------------------------------------------------------

CREATE TABLE decisioning.eligibility_rules (
    campaign    text        NOT NULL,
    rule        text        NOT NULL CHECK (rule <> '' AND pg_catalog.length(rule) <= 100),
    effect      text        NOT NULL DEFAULT 'only_if' CHECK (effect IN ('only_if', 'must_send')),
    actions     jsonb       NOT NULL DEFAULT '{}' CHECK (decisioning._is_selector(actions)),
    predicate   text        NOT NULL CHECK (predicate <> ''),
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    epoch       bigint      NOT NULL,
    PRIMARY KEY (campaign, rule)
);
COMMENT ON TABLE  decisioning.eligibility_rules IS 'Predicates over the customers relation: who may, or must, be sent some actions.';
COMMENT ON COLUMN decisioning.eligibility_rules.effect IS 'only_if: others get none of these actions; must_send: who satisfies the predicate gets one of these actions and nothing else, unless he is in the holdout.';
COMMENT ON COLUMN decisioning.eligibility_rules.actions IS 'Which actions, as a selector.';
COMMENT ON COLUMN decisioning.eligibility_rules.predicate IS 'SQL predicate over the customers relation; NULL counts as false. Runs with the rights of whoever calls decide.';

CREATE TABLE decisioning.consent_columns (
    campaign    text        NOT NULL,
    consent_column text     NOT NULL,
    channel     text        NOT NULL DEFAULT '*' CHECK (channel <> ''),
    epoch       bigint      NOT NULL,
    PRIMARY KEY (campaign, consent_column, channel)
);
COMMENT ON TABLE  decisioning.consent_columns IS 'Boolean columns of the customers relation without which nobody is sent anything on a channel.';
COMMENT ON COLUMN decisioning.consent_columns.channel IS 'Channel that needs this consent; * is every channel.';

CREATE TABLE decisioning.consent_sources (
    consent_source  text    PRIMARY KEY CHECK (consent_source <> ''),
    source_schema   text    NOT NULL,
    source_relation text    NOT NULL,
    customer_key    text    NOT NULL,
    granted         text    NOT NULL,
    channel_column  text,
    channel         text    CHECK (channel <> ''),
    campaign        text,
    epoch           bigint  NOT NULL,
    CONSTRAINT consent_sources_scope_check CHECK (channel_column IS NULL OR channel IS NULL)
);
COMMENT ON TABLE  decisioning.consent_sources IS 'Relations with consents, read in place for every decision and again before a send: one row per customer, or per customer and channel. Who has no row has not consented; of several rows all must grant.';
COMMENT ON COLUMN decisioning.consent_sources.granted IS 'Boolean column; only true grants.';
COMMENT ON COLUMN decisioning.consent_sources.channel_column IS 'Column with the channel of the consent; without it the row is about channel, or about every channel.';
COMMENT ON COLUMN decisioning.consent_sources.campaign IS 'Campaign that needs it; NULL is every campaign.';

CREATE TABLE decisioning.frequency_caps (
    cap         text        PRIMARY KEY CHECK (cap <> '' AND pg_catalog.length(cap) <= 200),
    campaign    text,
    actions     jsonb       NOT NULL DEFAULT '{}' CHECK (decisioning._is_selector(actions)),
    per         text        CHECK (per <> ''),
    maximum     integer     NOT NULL CHECK (maximum BETWEEN 0 AND 10000),
    period      text        CHECK (period IN ('day', 'week', 'month', 'ever')),
    rolling     interval    CHECK (rolling > '0' AND rolling <= '366 days'),
    rolling_seconds float8  GENERATED ALWAYS AS (pg_catalog.date_part('epoch', rolling)) STORED,
    ramp_from   integer     CHECK (ramp_from >= 0 AND ramp_from <= maximum),
    ramp_starts_at timestamptz,
    ramp_ends_at timestamptz,
    count_transactional boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    epoch       bigint      NOT NULL,
    CONSTRAINT frequency_caps_span_check CHECK ((period IS NULL) <> (rolling IS NULL)),
    CONSTRAINT frequency_caps_ramp_check CHECK (
        (ramp_from IS NULL AND ramp_starts_at IS NULL AND ramp_ends_at IS NULL)
        OR (ramp_from IS NOT NULL AND ramp_starts_at < ramp_ends_at AND pg_catalog.isfinite(ramp_starts_at) AND pg_catalog.isfinite(ramp_ends_at)))
);
COMMENT ON TABLE  decisioning.frequency_caps IS 'How many sends of some actions a customer may get in a stretch of time. Reserved and made sends count, of everybody who turned out to be the same person.';
COMMENT ON COLUMN decisioning.frequency_caps.campaign IS 'Campaign whose sends count and are capped; NULL is all campaigns together.';
COMMENT ON COLUMN decisioning.frequency_caps.actions IS 'Which actions count and are capped, as a selector.';
COMMENT ON COLUMN decisioning.frequency_caps.per IS 'Dimension, or action or category, whose levels are counted apart: per message, each message has the maximum for itself.';
COMMENT ON COLUMN decisioning.frequency_caps.period IS 'Calendar day, week (from Monday) or month in the zone of the customer, or ever.';
COMMENT ON COLUMN decisioning.frequency_caps.rolling IS 'Any stretch of this length.';
COMMENT ON COLUMN decisioning.frequency_caps.rolling_seconds IS 'The same in seconds (a day is 24 hours, a month 30 days).';
COMMENT ON COLUMN decisioning.frequency_caps.ramp_from IS 'Maximum until ramp_starts_at, from where it rises until ramp_ends_at.';
COMMENT ON COLUMN decisioning.frequency_caps.count_transactional IS 'Whether transactional actions count. They are never capped.';

CREATE TABLE decisioning.quiet_hours (
    rule        text        PRIMARY KEY CHECK (rule <> '' AND pg_catalog.length(rule) <= 200),
    campaign    text,
    kind        text        NOT NULL DEFAULT 'quiet' CHECK (kind IN ('quiet', 'open')),
    actions     jsonb       NOT NULL DEFAULT '{}' CHECK (decisioning._is_selector(actions)),
    starts      time        NOT NULL CHECK (starts < '24:00'),
    ends        time        NOT NULL CHECK (ends < '24:00'),
    weekdays    text[],
    jurisdiction text       CHECK (jurisdiction <> ''),
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    epoch       bigint      NOT NULL
);
COMMENT ON TABLE  decisioning.quiet_hours IS 'Hours of the customer''s day in which nothing, or in which alone something, is sent. Without a time zone that is known nothing is.';
COMMENT ON COLUMN decisioning.quiet_hours.campaign IS 'Campaign that keeps them; NULL is every campaign.';
COMMENT ON COLUMN decisioning.quiet_hours.kind IS 'quiet: no sends from starts to ends; open: sends of these actions only from starts to ends. Open hours of the same campaign, actions and jurisdiction add up.';
COMMENT ON COLUMN decisioning.quiet_hours.starts IS 'Local time, included.';
COMMENT ON COLUMN decisioning.quiet_hours.ends IS 'Local time, excluded; on the next day unless it is later than starts. The same time twice is a whole day.';
COMMENT ON COLUMN decisioning.quiet_hours.weekdays IS 'Days on which the hours begin; NULL is every day.';
COMMENT ON COLUMN decisioning.quiet_hours.jurisdiction IS 'Where they hold, such as US or US-FL: for customers whose jurisdiction is this or within it. NULL is everywhere.';

CREATE TABLE decisioning.order_rules (
    campaign    text        NOT NULL,
    rule        text        NOT NULL CHECK (rule <> '' AND pg_catalog.length(rule) <= 200),
    requirement text        NOT NULL CHECK (requirement IN ('only_after', 'never_after')),
    actions     jsonb       NOT NULL CHECK (decisioning._is_selector(actions)),
    other       jsonb       NOT NULL CHECK (decisioning._is_selector(other)),
    within      interval    CHECK (within > '0' AND within <= '100 years'),
    within_seconds float8   GENERATED ALWAYS AS (pg_catalog.date_part('epoch', within)) STORED,
    epoch       bigint      NOT NULL,
    PRIMARY KEY (campaign, rule)
);
COMMENT ON TABLE  decisioning.order_rules IS 'Order of messages: some actions only after others of the campaign, or never after them.';
COMMENT ON COLUMN decisioning.order_rules.actions IS 'Which actions are ruled, as a selector.';
COMMENT ON COLUMN decisioning.order_rules.other IS 'The actions that must, or must not, have been sent before, as a selector.';
COMMENT ON COLUMN decisioning.order_rules.within IS 'How long these count; NULL is for ever.';
COMMENT ON COLUMN decisioning.order_rules.within_seconds IS 'The same in seconds (a day is 24 hours, a month 30 days).';

CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.eligibility_rules
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.consent_columns
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.consent_sources
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.frequency_caps
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.quiet_hours
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.order_rules
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();

-- State --------------------------------------------------------------------------------------------

CREATE TABLE decisioning.suppressions (
    canonical_id    text        NOT NULL,
    customer_id     text        NOT NULL,
    campaign        text        NOT NULL DEFAULT '*',
    channel         text        NOT NULL DEFAULT '*',
    suppressed_until timestamptz,
    reason          text,
    suppressed_at   timestamptz NOT NULL,
    suppressed_by   text        NOT NULL,
    lifted_at       timestamptz,
    lifted_by       text,
    PRIMARY KEY (canonical_id, customer_id, campaign, channel)
);
CREATE INDEX suppressions_customer_index ON decisioning.suppressions (customer_id);
COMMENT ON TABLE  decisioning.suppressions IS 'Customers who must not be sent anything: on a channel, by a campaign, or at all. Binds the very next decision, and sends that are waiting.';
COMMENT ON COLUMN decisioning.suppressions.canonical_id IS 'Customer as known today.';
COMMENT ON COLUMN decisioning.suppressions.customer_id IS 'Customer as suppressed.';
COMMENT ON COLUMN decisioning.suppressions.campaign IS '* is every campaign.';
COMMENT ON COLUMN decisioning.suppressions.channel IS '* is every channel.';
COMMENT ON COLUMN decisioning.suppressions.suppressed_until IS 'NULL is for good.';
COMMENT ON COLUMN decisioning.suppressions.lifted_at IS 'When it was lifted; it does not bind any more.';

-- What sessions compete for when a cap counts over all campaigns: whoever decides writes it first.
CREATE TABLE decisioning._customer (
    customer_id text        PRIMARY KEY,
    decisions   bigint      NOT NULL
) WITH (fillfactor = 80);
COMMENT ON TABLE decisioning._customer IS 'Internal: one row per customer who was decided for under a cap over all campaigns. Every such decision modifies it first, so that two of them meet here.';

-- Functions ----------------------------------------------------------------------------------------

CREATE FUNCTION decisioning.add_eligibility_rule(
    campaign    text,
    predicate   text,
    actions     jsonb       DEFAULT '{}',
    effect      text        DEFAULT 'only_if',
    rule        text        DEFAULT NULL,
    allow_volatile boolean  DEFAULT false
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_eligibility_rule_wrapper';
COMMENT ON FUNCTION decisioning.add_eligibility_rule(text, text, jsonb, text, text, boolean) IS
'Says who may be sent some actions (only_if) or must be sent one of them (must_send), by a predicate over the customers relation. It is tried when it is added; functions that are volatile are refused unless allowed. Returns the name of the rule.';

CREATE FUNCTION decisioning.set_consent_column(campaign text, consent_column text, channel text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_consent_column_wrapper';
COMMENT ON FUNCTION decisioning.set_consent_column(text, text, text) IS
'Names a boolean column of the customers relation without which nobody is sent anything on a channel, or at all. NULL is no consent.';

CREATE FUNCTION decisioning.add_consent_source(
    relation        regclass,
    customer_key    text,
    granted         text,
    channel_column  text    DEFAULT NULL,
    channel         text    DEFAULT NULL,
    campaign        text    DEFAULT NULL,
    consent_source  text    DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_consent_source_wrapper';
COMMENT ON FUNCTION decisioning.add_consent_source(regclass, text, text, text, text, text, text) IS
'Reads consents from a relation in place: for every decision, and again before a send. Who has no row has not consented. Returns the name of the source.';

CREATE FUNCTION decisioning.add_frequency_cap(
    maximum     integer,
    period      text,
    campaign    text        DEFAULT NULL,
    actions     jsonb       DEFAULT '{}',
    per         text        DEFAULT NULL,
    ramp_from   integer     DEFAULT NULL,
    ramp_starts_at timestamptz DEFAULT NULL,
    ramp_ends_at timestamptz DEFAULT NULL,
    count_transactional boolean DEFAULT false,
    cap         text        DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_frequency_cap_wrapper';
COMMENT ON FUNCTION decisioning.add_frequency_cap(integer, text, text, jsonb, text, integer, timestamptz, timestamptz, boolean, text) IS
'Caps how many sends of some actions a customer gets per period: day, week, month (calendar, in his zone), ever, or an interval such as 7 days (any stretch of that length; a maximum of 1 is a cool-down). Without a campaign, over all campaigns. Set again under the same name it changes, for decisions that start afterwards. Returns the name of the cap.';

CREATE FUNCTION decisioning.set_quiet_hours(
    starts      time,
    ends        time,
    campaign    text        DEFAULT NULL,
    actions     jsonb       DEFAULT '{}',
    weekdays    text[]      DEFAULT NULL,
    jurisdiction text       DEFAULT NULL,
    kind        text        DEFAULT 'quiet',
    rule        text        DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_quiet_hours_wrapper';
COMMENT ON FUNCTION decisioning.set_quiet_hours(time, time, text, jsonb, text[], text, text, text) IS
'Sets hours of the customer''s day in which some actions are not sent (quiet) or in which alone they are (open). Returns the name of the rule.';

CREATE VIEW decisioning.quiet_hours_presets AS
SELECT p.preset, p.jurisdiction, p.starts::time AS starts, p.ends::time AS ends, p.weekdays::text[] AS weekdays, p.basis
FROM (VALUES
    ('us_calls_and_texts', 'US',    '21:00', '08:00', NULL, '47 CFR 64.1200(c)(1): 8 a.m. to 9 p.m. at the recipient''s location'),
    ('us_calls_and_texts', 'US-FL', '20:00', '08:00', NULL, 'Florida Statutes 501.059: 8 a.m. to 8 p.m.'),
    ('us_calls_and_texts', 'US-OK', '20:00', '08:00', NULL, 'Oklahoma Telephone Solicitation Act of 2022: 8 a.m. to 8 p.m.'),
    ('us_calls_and_texts', 'US-MD', '20:00', '08:00', NULL, 'Maryland Stop the Spam Calls Act of 2023: 8 a.m. to 8 p.m.'),
    ('us_calls_and_texts', 'US-WA', '20:00', '08:00', NULL, 'Revised Code of Washington 80.36.390: 8 a.m. to 8 p.m.'),
    ('us_calls_and_texts', 'US-CT', '20:00', '09:00', NULL, 'Connecticut Public Act 23-98: 9 a.m. to 8 p.m.'),
    ('us_calls_and_texts', 'US-TX', '21:00', '09:00', NULL, 'Texas Business and Commerce Code 301.051: 9 a.m. to 9 p.m.'),
    ('us_calls_and_texts', 'US-TX', '00:00', '12:00', '{sunday}', 'Texas Business and Commerce Code 301.051: on Sundays noon to 9 p.m.'))
    AS p (preset, jurisdiction, starts, ends, weekdays, basis);
COMMENT ON VIEW   decisioning.quiet_hours_presets IS 'Quiet hours that laws ask for, to start from with add_quiet_hours_preset. Have your counsel check them: laws change, and there are more.';
COMMENT ON COLUMN decisioning.quiet_hours_presets.basis IS 'Where it is said.';

CREATE FUNCTION decisioning.add_quiet_hours_preset(preset text, campaign text DEFAULT NULL, actions jsonb DEFAULT '{"channel": ["sms", "call"]}')
RETURNS SETOF text
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
AS 'MODULE_PATHNAME', 'add_quiet_hours_preset_wrapper';
COMMENT ON FUNCTION decisioning.add_quiet_hours_preset(text, text, jsonb) IS
'Sets the quiet hours of a preset for some actions. Returns the names of the rules; customers need a jurisdiction_column for them to hold.';

CREATE FUNCTION decisioning.add_order_rule(
    campaign    text,
    actions     jsonb,
    requirement text,
    other       jsonb,
    within      interval    DEFAULT NULL,
    rule        text        DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_order_rule_wrapper';
COMMENT ON FUNCTION decisioning.add_order_rule(text, jsonb, text, jsonb, interval, text) IS
'Sends some actions only_after, or never_after, others of the campaign were sent to the customer. Two rules never_after each other exclude each other. Returns the name of the rule.';

CREATE FUNCTION decisioning.set_goal_exit(campaign text, goal text, exit_policy text DEFAULT 'leave', cool_down interval DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_goal_exit_wrapper';
COMMENT ON FUNCTION decisioning.set_goal_exit(text, text, text, interval) IS
'Says what becomes of customers who have reached a goal since they were exposed: they stay, leave (are sent nothing any more), or cool_down (are sent nothing for a while).';

CREATE FUNCTION decisioning.set_send_options(
    campaign    text,
    fallback_time_zone text     DEFAULT NULL,
    jurisdiction_column text    DEFAULT NULL,
    send_horizon interval       DEFAULT NULL,
    send_within interval        DEFAULT NULL
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_send_options_wrapper';
COMMENT ON FUNCTION decisioning.set_send_options(text, text, text, interval, interval) IS
'Sets what a campaign knows of legal moments: the zone of customers whose own is not known, the column with their jurisdiction, how far ahead a send may be put off, how long after its moment it may still be made. What is not given stays as it is.';

CREATE FUNCTION decisioning.remove_guardrail(relation text, rule text, campaign text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'remove_guardrail_wrapper';
COMMENT ON FUNCTION decisioning.remove_guardrail(text, text, text) IS
'Removes a rule by its name from eligibility_rules, consent_columns, consent_sources, frequency_caps, quiet_hours or order_rules.';

CREATE FUNCTION decisioning.suppress(
    customer_id text,
    channel     text        DEFAULT NULL,
    campaign    text        DEFAULT NULL,
    until       timestamptz DEFAULT NULL,
    reason      text        DEFAULT NULL
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'suppress_wrapper';
COMMENT ON FUNCTION decisioning.suppress(text, text, text, timestamptz, text) IS
'Keeps a customer from being sent anything: on a channel, by a campaign, or at all; until a time, or for good. Any id of the customer will do. He stays, as assigned, in learning and lift. Said again, the later time holds.';

CREATE FUNCTION decisioning.lift_suppression(customer_id text, channel text DEFAULT NULL, campaign text DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'lift_suppression_wrapper';
COMMENT ON FUNCTION decisioning.lift_suppression(text, text, text) IS
'Lifts the suppression of a customer that was made with the same channel and campaign, under any of his ids. Returns whether there was one.';

CREATE FUNCTION decisioning.set_priority(campaign text, priority float8) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_priority_wrapper';
COMMENT ON FUNCTION decisioning.set_priority(text, float8) IS
'Lets a campaign compete for contacts under caps over all campaigns: of campaigns with a priority, the one whose send has the higher stake (priority times what the send is expected to add) takes over what another has reserved and not made yet, which is then preempted. NULL, the default of campaigns, neither takes over nor gives way.';

CREATE TABLE decisioning._guardrail_cost (
    campaign    text        NOT NULL,
    decided_on  date        NOT NULL,
    guardrail   text        NOT NULL,
    decisions   bigint      NOT NULL,
    lost_responses float8,
    standard_error float8,
    model_version bigint    NOT NULL,
    PRIMARY KEY (campaign, decided_on, guardrail)
);
COMMENT ON TABLE decisioning._guardrail_cost IS 'Internal: what guardrails cost, by day, as guardrail_funnel shows it; lost_responses is NULL where too little is known of the actions.';

CREATE FUNCTION decisioning.estimate_guardrail_costs(campaign text) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000
AS 'MODULE_PATHNAME', 'estimate_guardrail_costs_wrapper';
COMMENT ON FUNCTION decisioning.estimate_guardrail_costs(text) IS
'Estimates anew, with the model of today, what the guardrails of a campaign cost on the days of the last five weeks whose attribution windows are over; maintain does so for days that have none yet. Returns how many days and guardrails there are estimates for; guardrail_funnel shows them.';

-- The view reads the whole log; the function a sample of its pages.
DO $do$
DECLARE
    funnel CONSTANT text := $sql$
        SELECT f.campaign, f.decided_on, f.treatment_group, f.guardrail, f.decisions, f.removed_candidates, f.without_any_send,
               k.lost_responses, k.lost_responses - 1.6448536269514722 * k.standard_error AS lost_lower,
               k.lost_responses + 1.6448536269514722 * k.standard_error AS lost_upper,
               CASE WHEN f.treatment_group <> 'optimise' OR f.guardrail = 'none' THEN NULL WHEN k.campaign IS NULL THEN 'not estimated yet'
                    WHEN k.lost_responses IS NULL THEN 'no support' ELSE 'model-based' END AS basis
        FROM (SELECT d.campaign, d.decided_on, d.treatment_group, coalesce(r.key, 'none') AS guardrail,
                     count(*) AS decisions, coalesce(sum(jsonb_array_length(r.value)), 0)::bigint AS removed_candidates,
                     count(*) FILTER (WHERE d.silenced) AS without_any_send
              FROM (SELECT e.campaign, (e.decided_at AT TIME ZONE c.time_zone)::date AS decided_on, e.treatment_group, e.removed,
                           cardinality(e.candidates) = 1 AS silenced
                    FROM %s JOIN decisioning.campaigns c ON c.campaign = e.campaign WHERE e.origin = 'live') AS d
              LEFT JOIN LATERAL jsonb_each(d.removed) AS r ON true
              GROUP BY 1, 2, 3, 4) AS f
        LEFT JOIN decisioning._guardrail_cost k
            ON k.campaign = f.campaign AND k.decided_on = f.decided_on AND k.guardrail = f.guardrail AND f.treatment_group = 'optimise'
        $sql$;
BEGIN
    EXECUTE 'CREATE VIEW decisioning.guardrail_funnel AS ' || format(funnel, 'decisioning.decisions e');
    EXECUTE format($sql$
        CREATE FUNCTION decisioning._guardrail_funnel(campaign text, sample float8) RETURNS SETOF decisioning.guardrail_funnel
        LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER COST 100000 ROWS 90
        SET search_path = pg_catalog, pg_temp
        SET jit = off
        AS $f$SELECT n.* FROM (%s) AS n WHERE n.campaign = _guardrail_funnel.campaign$f$
        $sql$, format(funnel, 'decisioning.decisions e TABLESAMPLE SYSTEM (100 * _guardrail_funnel.sample) REPEATABLE (0)'));
END
$do$;
COMMENT ON FUNCTION decisioning._guardrail_funnel(text, float8) IS 'Internal: guardrail_funnel from a share of the pages of the log.';
COMMENT ON VIEW   decisioning.guardrail_funnel IS 'What each guardrail removed, per campaign, day (in the campaign''s zone) and group. A candidate is counted with the first guardrail that removed it.';
COMMENT ON COLUMN decisioning.guardrail_funnel.guardrail IS 'The rule, after its kind; none counts decisions from which nothing was removed.';
COMMENT ON COLUMN decisioning.guardrail_funnel.decisions IS 'Decisions that lost a candidate to it.';
COMMENT ON COLUMN decisioning.guardrail_funnel.without_any_send IS 'Those of them that had no send left, by this guardrail or several.';
COMMENT ON COLUMN decisioning.guardrail_funnel.lost_responses IS 'Of the optimise group: responses that the policy of when it was estimated would have had more without the guardrail, all else equal. An upper bound where another rule would have removed the same candidates. NULL without support.';
COMMENT ON COLUMN decisioning.guardrail_funnel.lost_lower IS 'Bound of a 90 % interval for chance, given the reward model; lost_upper likewise.';
COMMENT ON COLUMN decisioning.guardrail_funnel.basis IS 'model-based: a doubly robust difference, in which what the removed actions would have brought is the reward model''s; no support: fewer than 50 decisions have taken what would be chosen; not estimated yet: attribution windows are open, or maintain has not run.';
