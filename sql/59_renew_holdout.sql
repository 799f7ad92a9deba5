-- Groups that are drawn anew: who is left alone for long is no picture of who is not, and bears the cost of it alone.

CREATE TABLE decisioning._past_assignment (
    customer_id         text        NOT NULL,
    campaign            text        NOT NULL,
    draw                integer     NOT NULL,
    treatment_group     text        NOT NULL,
    bucket              smallint    NOT NULL,
    epoch               bigint      NOT NULL,
    exposed_at          timestamptz NOT NULL,
    treatable           boolean     NOT NULL,
    ramped_at           timestamptz,
    merged_at           timestamptz,
    mixed_at            timestamptz,
    global_holdout      boolean     NOT NULL,
    global_bucket       smallint,
    ended_at            timestamptz NOT NULL,
    PRIMARY KEY (customer_id, campaign, draw)
);
COMMENT ON TABLE decisioning._past_assignment IS 'Internal: assignments of draws that are over, as they were when renew_holdout ended them.';

CREATE VIEW decisioning.past_assignments AS
SELECT p.customer_id, p.campaign, p.draw, p.treatment_group, p.exposed_at, p.treatable, p.ramped_at, p.mixed_at IS NOT NULL AS mixed,
       p.global_holdout, p.ended_at
FROM decisioning._past_assignment p;
COMMENT ON VIEW   decisioning.past_assignments IS 'The treatment group of each customer in draws of a campaign that are over; assignments has the current one.';
COMMENT ON COLUMN decisioning.past_assignments.draw IS 'Number of the draw, from 0.';
COMMENT ON COLUMN decisioning.past_assignments.ended_at IS 'When renew_holdout ended it.';

CREATE TABLE decisioning.renewals (
    campaign            text        NOT NULL,
    draw                integer     NOT NULL,
    renewed_at          timestamptz NOT NULL,
    washed_at           timestamptz NOT NULL,
    renewed_by          text        NOT NULL,
    customers           bigint      NOT NULL,
    lift                jsonb       NOT NULL,
    PRIMARY KEY (campaign, draw)
);
COMMENT ON TABLE  decisioning.renewals IS 'Draws of a campaign that are over, and what lift said at their end.';
COMMENT ON COLUMN decisioning.renewals.draw IS 'Number of the draw that ended, from 0.';
COMMENT ON COLUMN decisioning.renewals.washed_at IS 'From when on the customers of the next draw count.';
COMMENT ON COLUMN decisioning.renewals.customers IS 'Customers who were exposed in it.';
COMMENT ON COLUMN decisioning.renewals.lift IS 'Rows of lift(campaign) at its end, as an array: whatever comes later is not counted.';

CREATE FUNCTION decisioning.renew_holdout(campaign text, wash_out interval DEFAULT '14 days') RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'renew_holdout_wrapper';
COMMENT ON FUNCTION decisioning.renew_holdout(text, interval) IS
'Draws the groups of a campaign anew, holdout included: with its next decision each customer gets a group that has nothing to do with the one before, and is treated by it. Lift counts him from the end of the wash-out on, so that what the last draw did has faded. What lift said of it is kept in renewals, its groups in past_assignments; the global holdout stays as it is. Waits for decisions that are under way. Returns how many customers are drawn anew.';
