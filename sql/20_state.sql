-- State: what the engine writes. Nobody but the owner may write here; readers get SELECT on the log.

-- One row per customer and campaign. Every decision modifies it, so that two sessions deciding for one
-- customer meet here: READ COMMITTED waits and sees the other's decision, REPEATABLE READ gets 40001.
-- No CHECK: Postgres would read its expression anew for every decision, and nobody but us writes here.
CREATE TABLE decisioning._assignment (
    customer_id         text        NOT NULL,
    campaign            text        NOT NULL,
    treatment_group     text        NOT NULL,
    bucket              smallint    NOT NULL,
    epoch               bigint      NOT NULL,
    exposed_at          timestamptz NOT NULL,
    treatable           boolean     NOT NULL,
    ordinal             bigint      NOT NULL,
    decision_id         uuid        NOT NULL,
    decided_at          timestamptz NOT NULL,
    period_ends_at      timestamptz NOT NULL,
    recent_decisions    timestamptz[] NOT NULL,
    ramped_at           timestamptz,
    offer               text,
    offered_at          timestamptz,
    contact_decisions   uuid[],
    contact_times       timestamptz[],
    contact_actions     integer[],
    entered_at          timestamptz,
    merged_into         text,
    united              integer,
    merged_at           timestamptz,
    mixed_at            timestamptz,
    global_holdout      boolean     NOT NULL DEFAULT false,
    global_bucket       smallint,
    first_exposed_at    timestamptz,
    PRIMARY KEY (customer_id, campaign)
) WITH (fillfactor = 80);
COMMENT ON TABLE decisioning._assignment IS 'Internal: treatment group, exposure and open decision of each customer in each campaign.';
COMMENT ON COLUMN decisioning._assignment.treatable IS 'At exposure, before the draw, at least one send passed audience, approval, consent and eligibility: the primary population of lift.';
COMMENT ON COLUMN decisioning._assignment.ordinal IS 'Number of decisions so far; seeds the next choice.';
COMMENT ON COLUMN decisioning._assignment.recent_decisions IS 'Times of the decisions whose attribution window may still be open; gives the overlap weight.';
COMMENT ON COLUMN decisioning._assignment.ramped_at IS 'When a control customer moved to optimise; treatment_group stays as assigned.';
COMMENT ON COLUMN decisioning._assignment.offer IS 'Last offer sent; offered_at is when it was sent first, from where offer_consistency counts.';
COMMENT ON COLUMN decisioning._assignment.contact_decisions IS 'Sends that are reserved or made, as far back as guardrails look, at least 35 days; contact_times and contact_actions say when and what. NULL for none.';
COMMENT ON COLUMN decisioning._assignment.entered_at IS 'Latest entry event that was decided for.';
COMMENT ON COLUMN decisioning._assignment.exposed_at IS 'First time due for a decision, or the end of a wash-out that was not over then: from when on he counts. Infinity: never under this id, in this draw; the row continues the assignment of another id, or keeps this one from deciding apart.';
COMMENT ON COLUMN decisioning._assignment.merged_into IS 'Customer that this one is part of by now, who decides; NULL for whoever decides himself.';
COMMENT ON COLUMN decisioning._assignment.united IS 'Counts how often it changed whose assignments are merged into this customer: see _merged_assignment. NULL if none ever was.';
COMMENT ON COLUMN decisioning._assignment.merged_at IS 'When this and another exposed customer first turned out to be one.';
COMMENT ON COLUMN decisioning._assignment.mixed_at IS 'When that first was one of another group.';
COMMENT ON COLUMN decisioning._assignment.global_holdout IS 'Drawn into holdout because he is in the global holdout.';
COMMENT ON COLUMN decisioning._assignment.first_exposed_at IS 'First time due for a decision in any draw, where that is not exposed_at: from when on goals count that end contact.';
COMMENT ON COLUMN decisioning._assignment.global_bucket IS 'Bucket in the global holdout; NULL if there was none when he was exposed.';

-- Ids in the log whose customer has another id by now. Few, so that large joins over the log do not have to read all records;
-- kept up when identities change, and when an outcome comes under an id that is not its customer's.
CREATE TABLE decisioning._log_alias (
    alias               text        PRIMARY KEY,
    customer_id         text        NOT NULL
);
CREATE INDEX _log_alias_customer_index ON decisioning._log_alias (customer_id);
COMMENT ON TABLE decisioning._log_alias IS 'Internal: the customer of each id in the log that is no canonical id, or no longer.';

-- Whose assignments bear on a customer besides his own. Rows of _assignment stay as they were when their customer is merged
-- into another, so that they are there again after a split.
CREATE TABLE decisioning._merged_assignment (
    customer_id         text        NOT NULL,
    campaign            text        NOT NULL,
    merged_id           text        NOT NULL,
    PRIMARY KEY (customer_id, campaign, merged_id)
);
CREATE INDEX _merged_assignment_merged_index ON decisioning._merged_assignment (merged_id);
COMMENT ON TABLE  decisioning._merged_assignment IS 'Internal: assignments of customers who were merged into another, by the latter.';

-- Rows of _assignment that only keep a merged id from deciding apart, for sessions that looked at identities before the merge.
CREATE TABLE decisioning._assignment_guard (
    customer_id         text        NOT NULL,
    campaign            text        NOT NULL,
    placed_at           timestamptz NOT NULL,
    PRIMARY KEY (customer_id, campaign)
);
COMMENT ON TABLE decisioning._assignment_guard IS 'Internal: rows of _assignment without a decision, to be deleted when they have done their duty.';

CREATE VIEW decisioning.assignments AS
SELECT s.customer_id, s.campaign, s.treatment_group, s.exposed_at, s.treatable, s.ramped_at,
       coalesce(s.merged_into, s.customer_id) AS canonical_id, s.merged_at, s.mixed_at, s.mixed_at IS NOT NULL AS mixed,
       s.global_holdout
FROM decisioning._assignment s
WHERE s.exposed_at < 'infinity';
COMMENT ON VIEW   decisioning.assignments IS 'The treatment group of each customer in each campaign, as assigned at exposure in the current draw. Merges change neither groups nor rows; they are dated here, and a mixed customer tells less of his group.';
COMMENT ON COLUMN decisioning.assignments.customer_id IS 'Customer as exposed.';
COMMENT ON COLUMN decisioning.assignments.canonical_id IS 'Customer as known today.';
COMMENT ON COLUMN decisioning.assignments.ramped_at IS 'When a control customer moved to optimise.';
COMMENT ON COLUMN decisioning.assignments.merged_at IS 'When this and another exposed customer first turned out to be one; stays after a split.';
COMMENT ON COLUMN decisioning.assignments.global_holdout IS 'In holdout because the customer is in the global holdout, which no campaign contacts.';
COMMENT ON COLUMN decisioning.assignments.mixed IS 'That was one of another group: from then on the person was treated as the group of whoever was exposed first.';

-- The log. Partitioned by time-ordered uuid; partitions are made ahead by _make_partition and carry
-- their own keys, because a parent with a primary key breaks a restore of partitions made at run time.
CREATE TABLE decisioning.decisions (
    decision_id         uuid        NOT NULL,
    customer_id         text        NOT NULL,
    campaign            text        NOT NULL,
    treatment_group     text        NOT NULL,
    action              text        NOT NULL,
    action_id           integer     NOT NULL,
    propensity          float8      NOT NULL,
    reason              text        NOT NULL,
    decided_at          timestamptz NOT NULL,
    expires_at          timestamptz,
    send_at             timestamptz,
    origin              text        NOT NULL,
    ordinal             bigint      NOT NULL,
    overlap             integer     NOT NULL,
    epoch               bigint      NOT NULL,
    model_version       bigint,
    encoder_version     integer     NOT NULL,
    candidates          integer[]   NOT NULL,
    propensities        float8[]    NOT NULL,
    encoded             float4[]    NOT NULL,
    context             jsonb       NOT NULL,
    content             jsonb,
    shadow_action_id    integer,
    shadow_propensities float8[],
    removed             jsonb
) PARTITION BY RANGE (decision_id);
COMMENT ON TABLE  decisioning.decisions IS 'The log of decisions, holdout and control included: the context seen, the candidates, their propensities, the choice. Rows never change, but where a customer is forgotten; old ones go with thin_log.';
COMMENT ON COLUMN decisioning.decisions.decision_id IS 'Time-ordered uuid (version 7); its random bits are a hash of salt, customer and ordinal. Use it as idempotency key with senders.';
COMMENT ON COLUMN decisioning.decisions.customer_id IS 'Customer as decided; join identity_map for the customer as known today.';
COMMENT ON COLUMN decisioning.decisions.action IS 'Chosen action; no_send for none.';
COMMENT ON COLUMN decisioning.decisions.propensity IS 'Probability that this action was chosen, given group, context, model version and candidates.';
COMMENT ON COLUMN decisioning.decisions.origin IS 'live for decisions made here, import for history brought in by import_decisions.';
COMMENT ON COLUMN decisioning.decisions.ordinal IS 'Number of this decision among those of the customer in the campaign.';
COMMENT ON COLUMN decisioning.decisions.overlap IS 'Number of decisions whose attribution windows were open with this one; the row is learned with weight 1/overlap.';
COMMENT ON COLUMN decisioning.decisions.candidates IS 'Candidate actions by action_id, 0 is no_send.';
COMMENT ON COLUMN decisioning.decisions.removed IS 'Approved actions that were no candidates, by action_id under the guardrail that removed them. NULL if none.';
COMMENT ON COLUMN decisioning.decisions.propensities IS 'Propensity of each candidate, in the same order. An imported decision knows only that of the action taken.';
COMMENT ON COLUMN decisioning.decisions.encoded IS 'Context as the model saw it, under encoder_version.';
COMMENT ON COLUMN decisioning.decisions.context IS 'Context as read: feature name to value; dates and times as age in days.';
COMMENT ON COLUMN decisioning.decisions.shadow_action_id IS 'What would have been chosen, had the mode not been shadow; 0 is no_send. NULL when it was done. action, propensity and propensities always say what was done.';
COMMENT ON COLUMN decisioning.decisions.shadow_propensities IS 'Propensity of each candidate in that choice.';

CREATE TABLE decisioning.decisions_default PARTITION OF decisioning.decisions DEFAULT;
ALTER TABLE decisioning.decisions_default ADD PRIMARY KEY (decision_id);
CREATE INDEX decisions_default_customer_index ON decisioning.decisions_default (customer_id, campaign, decided_at);
COMMENT ON TABLE decisioning.decisions_default IS 'Decisions outside of every monthly partition.';

CREATE FUNCTION decisioning._uuid_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;
COMMENT ON FUNCTION decisioning._uuid_floor(timestamptz) IS 'Internal: least time-ordered uuid of a moment; partition bounds are made of it.';

-- Makes the monthly partition that holds a moment, if it is not there, and moves rows of the default partition into it.
CREATE FUNCTION decisioning._make_partition(at timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
    lower_at timestamptz := date_trunc('month', at, 'UTC');
    upper_at timestamptz := date_trunc('month', at, 'UTC') + interval '1 month';
    name text := 'decisions_' || to_char(lower_at, 'YYYY_MM');
BEGIN
    IF to_regclass(format('decisioning.%I', name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    LOCK TABLE decisioning.decisions IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(format('decisioning.%I', name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE decisioning.%I (LIKE decisioning.decisions)', name);
    EXECUTE format('WITH moved AS (DELETE FROM decisioning.decisions_default d
                                   WHERE d.decision_id >= %1$L AND d.decision_id < %2$L RETURNING d.*)
                    INSERT INTO decisioning.%3$I SELECT * FROM moved',
                   decisioning._uuid_floor(lower_at), decisioning._uuid_floor(upper_at), name);
    EXECUTE format('ALTER TABLE decisioning.%I ADD PRIMARY KEY (decision_id)', name);
    EXECUTE format('CREATE INDEX %I ON decisioning.%I (customer_id, campaign, decided_at)', name || '_customer_index', name);
    EXECUTE format('ALTER TABLE decisioning.decisions ATTACH PARTITION decisioning.%I FOR VALUES FROM (%L) TO (%L)',
                   name, decisioning._uuid_floor(lower_at), decisioning._uuid_floor(upper_at));
    EXECUTE format('COMMENT ON TABLE decisioning.%I IS %L', name,
                   format('Decisions of %s (UTC).', to_char(lower_at, 'YYYY-MM')));
    RETURN true;
END $$;
COMMENT ON FUNCTION decisioning._make_partition(timestamptz) IS 'Internal: makes the monthly partition of the log that holds a moment. Never called by decide.';

-- Signed events: +1 when seen, -1 when reversed, 0 with a value difference when corrected.
-- A tenth of 20 000 pages is enough to see how many decisions of a campaign there are.
CREATE FUNCTION decisioning._log_share(campaign text, most bigint) RETURNS float8
LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
    SELECT CASE WHEN l.pages <= 20000 THEN 1
                ELSE (SELECT coalesce(least(1, most * (2000 / l.pages) / nullif(count(*), 0)), 1)
                      FROM decisioning.decisions d TABLESAMPLE SYSTEM (100 * 2000 / l.pages) REPEATABLE (0)
                      WHERE d.campaign = _log_share.campaign)
           END
    FROM (SELECT coalesce(sum(pg_relation_size(i.inhrelid)), 0)::float8 / current_setting('block_size')::integer AS pages
          FROM pg_inherits i WHERE i.inhparent = 'decisioning.decisions'::regclass) AS l
$$;
COMMENT ON FUNCTION decisioning._log_share(text, bigint) IS 'Internal: the share of the pages of the log with about so many decisions of a campaign; 1 if the log is small, or has hardly any of them.';

CREATE TABLE decisioning.outcomes (
    outcome_id      bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    goal            text        NOT NULL,
    event_id        text        NOT NULL,
    customer_id     text        NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('event', 'adjustment', 'reversal')),
    events          smallint    NOT NULL CHECK (events BETWEEN -1 AND 1),
    value           float8      NOT NULL,
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    decision_id     uuid,
    outcome_source  text
);
CREATE INDEX outcomes_customer_index ON decisioning.outcomes (customer_id, goal, occurred_at);
COMMENT ON TABLE  decisioning.outcomes IS 'What happened, append-only: sums of events and value over a goal and event are its current truth.';
COMMENT ON COLUMN decisioning.outcomes.customer_id IS 'Customer as told by whoever recorded the event; any accepted id.';
COMMENT ON COLUMN decisioning.outcomes.kind IS 'event when first seen, adjustment for a changed value, reversal for an event that did not happen after all.';
COMMENT ON COLUMN decisioning.outcomes.events IS 'Events this row adds: 1, 0 or -1.';
COMMENT ON COLUMN decisioning.outcomes.value IS 'Value this row adds.';
COMMENT ON COLUMN decisioning.outcomes.decision_id IS 'Decision that the sender of the event named, if any. It identifies the customer; credit is by attribution window.';

CREATE TABLE decisioning._outcome_key (
    goal            text        NOT NULL,
    event_id        text        NOT NULL,
    customer_id     text        NOT NULL,
    value           float8      NOT NULL,
    occurred_at     timestamptz NOT NULL,
    reversed        boolean     NOT NULL DEFAULT false,
    outcome_source  text,
    PRIMARY KEY (goal, event_id)
);
CREATE INDEX _outcome_key_source_index ON decisioning._outcome_key (outcome_source, occurred_at) WHERE outcome_source IS NOT NULL;
COMMENT ON TABLE decisioning._outcome_key IS 'Internal: current truth per goal and event; makes recording idempotent.';

-- What the learner has not absorbed yet. Rows are written with the decision or outcome and deleted in
-- the transaction that writes the new learning state: late commits wait, dumps carry them, crashes undo.
CREATE TABLE decisioning._inbox (
    campaign        text        NOT NULL,
    closes_at       timestamptz NOT NULL,
    decision_id     uuid,
    outcome_id      bigint,
    CHECK ((decision_id IS NULL) <> (outcome_id IS NULL))
);
-- Ids of decisions ascend with time: in a tree all sessions would insert into the same page and wait for each other. They are
-- unique because those in the log are. What is due is found by reading the inbox, which learning counts anyway.
CREATE INDEX _inbox_decision_index ON decisioning._inbox USING hash (decision_id);
CREATE UNIQUE INDEX _inbox_outcome_index ON decisioning._inbox (campaign, outcome_id) WHERE outcome_id IS NOT NULL;
COMMENT ON TABLE decisioning._inbox IS 'Internal: decisions and outcomes that the learner has yet to absorb, each exactly once.';

-- Decisions in the sums of the learner whose reward may have changed with the identity of their customer, with the reward that
-- the sums hold. Written with the change of identity, deleted in the transaction that writes the corrected sums.
CREATE TABLE decisioning._reassessment (
    campaign        text        NOT NULL,
    decision_id     uuid        NOT NULL,
    given           boolean     NOT NULL,
    worth           float8      NOT NULL,
    harms           text[]      NOT NULL,
    PRIMARY KEY (campaign, decision_id)
);
COMMENT ON TABLE decisioning._reassessment IS 'Internal: absorbed decisions of customers who were merged or split since, with the reward that was absorbed.';

CREATE TABLE decisioning._encoder (
    campaign        text        NOT NULL,
    encoder_version integer     NOT NULL,
    features_version integer    NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    definition      jsonb       NOT NULL,
    PRIMARY KEY (campaign, encoder_version)
);
COMMENT ON TABLE decisioning._encoder IS 'Internal: how features become numbers, frozen per version.';
COMMENT ON COLUMN decisioning._encoder.features_version IS 'The version that its features were fitted for; others of the same differ in crosses alone.';

CREATE TABLE decisioning._model (
    campaign        text        NOT NULL,
    model_version   bigint      NOT NULL,
    encoder_version integer     NOT NULL,
    created_at      timestamptz NOT NULL,
    decisions       bigint      NOT NULL,
    outcomes        bigint      NOT NULL,
    open_decisions  bigint      NOT NULL,
    layout          jsonb       NOT NULL,
    prices          jsonb       NOT NULL DEFAULT '{}',
    PRIMARY KEY (campaign, model_version)
);
COMMENT ON TABLE decisioning._model IS 'Internal: model versions; a version lives until thin_log removes the decisions of its time.';
COMMENT ON COLUMN decisioning._model.prices IS 'Price of a unit of each budget, by name.';

CREATE TABLE decisioning._model_part (
    campaign        text        NOT NULL,
    model_version   bigint      NOT NULL,
    part            text        NOT NULL,
    unit            jsonb,
    scales          jsonb       NOT NULL,
    coefficients    float8[]    NOT NULL,
    standard_errors float8[]    NOT NULL,
    draw_bank       bytea       NOT NULL,
    drift           jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(drift) = 'object'),
    drifted_at      timestamptz CHECK ((drifted_at IS NULL) = (drift = '{}')),
    PRIMARY KEY (campaign, model_version, part),
    CHECK (NOT coefficients && '{NaN,Infinity,-Infinity}' AND NOT standard_errors && '{NaN,Infinity,-Infinity}')
);
ALTER TABLE decisioning._model_part ALTER COLUMN draw_bank SET STORAGE EXTERNAL;
COMMENT ON TABLE decisioning._model_part IS 'Internal: what a model version predicts: response (log-odds of a goal), worth (of a response, where it varies) and harm: goal (log-odds of each kind of harm). All parts share the layout.';
COMMENT ON COLUMN decisioning._model_part.unit IS 'How worth is counted: as (worth - centre) / scale, of worth within low and high.';
COMMENT ON COLUMN decisioning._model_part.scales IS 'Prior standard deviation of each block of coefficients, estimated from the data.';
COMMENT ON COLUMN decisioning._model_part.drift IS 'By lever (what sends have in common, each dimension, pairs of levels), the share of the prior variance of its effects that is new since drifted_at. Empty for a world that stays.';
COMMENT ON COLUMN decisioning._model_part.drifted_at IS 'When the effects drifted: what is known of the time before counts less.';
COMMENT ON COLUMN decisioning._model_part.draw_bank IS '64 draws of the coefficients, little-endian float4, those of one coefficient together.';

CREATE TABLE decisioning._learner (
    campaign        text        PRIMARY KEY,
    model_version   bigint      NOT NULL,
    decisions       bigint      NOT NULL,
    outcomes        bigint      NOT NULL,
    open_decisions  bigint      NOT NULL,
    linearised      bigint      NOT NULL,
    absorbed_until  timestamptz NOT NULL,
    responses       float8      NOT NULL,
    corrections     float8      NOT NULL,
    learned_at      timestamptz NOT NULL,
    goals           text        NOT NULL
);
COMMENT ON TABLE decisioning._learner IS 'Internal: learning state of each campaign: how many decisions and outcomes its sums hold, and when it learned.';
COMMENT ON COLUMN decisioning._learner.open_decisions IS 'Decisions whose window was open at learned_at: counted in the model by what was known of them, but not in the sums.';
COMMENT ON COLUMN decisioning._learner.linearised IS 'Number of decisions at the last re-linearisation from the log.';
COMMENT ON COLUMN decisioning._learner.absorbed_until IS 'When the latest of the decisions in the sums was decided: outcomes that cannot be of it or those before concern none.';
COMMENT ON COLUMN decisioning._learner.responses IS 'Weighted number of decisions with a reward.';
COMMENT ON COLUMN decisioning._learner.goals IS 'What the rewards in the sums go by: goals with their kinds, windows and values. If that has changed, they are made anew from the log.';
COMMENT ON COLUMN decisioning._learner.corrections IS 'Weighted number of rewards that changed after their decision was absorbed, since the last re-linearisation.';

CREATE TABLE decisioning._learner_part (
    campaign        text        NOT NULL,
    part            text        NOT NULL,
    unit            jsonb,
    delays          jsonb       NOT NULL,
    scales          jsonb       NOT NULL,
    epochs          integer     NOT NULL,
    PRIMARY KEY (campaign, part)
);
COMMENT ON TABLE decisioning._learner_part IS 'Internal: what learning knows of each part of the model beside its sums.';
COMMENT ON COLUMN decisioning._learner_part.delays IS 'Absorbed events by channel (the empty name is no-send) and time until they were recorded, in 256ths of the window, discounted to learned_at.';
COMMENT ON COLUMN decisioning._learner_part.scales IS 'Prior standard deviation of each block of coefficients, estimated from the data.';
COMMENT ON COLUMN decisioning._learner_part.epochs IS 'Rows of _learner_epoch that hold its sums.';

CREATE TABLE decisioning._learner_epoch (
    campaign        text        NOT NULL,
    part            text        NOT NULL,
    since           timestamptz NOT NULL,
    discounted_to   timestamptz NOT NULL,
    half_life       float8,
    statistics      bytea       NOT NULL,
    PRIMARY KEY (campaign, part, since)
);
ALTER TABLE decisioning._learner_epoch ALTER COLUMN statistics SET STORAGE EXTERNAL;
COMMENT ON TABLE decisioning._learner_epoch IS 'Internal: sufficient statistics of each part of the model, by when their decisions were made: what was learned before a drift can be put aside.';
COMMENT ON COLUMN decisioning._learner_epoch.since IS 'When the first of its decisions may have been made; it ends where the next begins. The first holds what is older as well.';
COMMENT ON COLUMN decisioning._learner_epoch.discounted_to IS 'Until when the sums have faded: those of an epoch that only fades are not written again.';
COMMENT ON COLUMN decisioning._learner_epoch.half_life IS 'Seconds in which they fade by half from then on; null if they do not.';
COMMENT ON COLUMN decisioning._learner_epoch.statistics IS 'Sums over absorbed decisions, discounted to discounted_to.';

-- Composite that decide and its relatives return.
CREATE TYPE decisioning.decision AS (
    decision_id     uuid,
    customer_id     text,
    campaign        text,
    treatment_group text,
    action          text,
    message         text,
    offer           text,
    channel         text,
    slot            text,
    dimensions      jsonb,
    content         jsonb,
    send_at         timestamptz,
    propensity      float8,
    reason          text,
    customer_reason text,
    expires_at      timestamptz
);
COMMENT ON TYPE decisioning.decision IS 'One decision: what to do for one customer in one campaign now. action is no_send for a decision to stay quiet, and NULL outside of the audience.';
