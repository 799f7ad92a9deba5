-- Budgets: what may be spent, what is spent, and what a unit of it is worth.

CREATE TABLE decisioning.budgets (
    campaign    text        NOT NULL,
    budget      text        NOT NULL,
    action      text,
    dimension   text,
    level       text,
    unit        text        NOT NULL DEFAULT 'cost' CHECK (unit IN ('cost', 'sends')),
    period      text        NOT NULL DEFAULT 'month' CHECK (period IN ('day', 'week', 'month', 'total')),
    amount      float8      NOT NULL CHECK (amount BETWEEN 0 AND 1e12),
    ends_at     timestamptz CHECK (pg_catalog.isfinite(ends_at)),
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    epoch       bigint      NOT NULL,
    PRIMARY KEY (campaign, budget),
    CONSTRAINT budgets_scope_check CHECK (
        (dimension IS NULL) = (level IS NULL) AND (action IS NULL OR dimension IS NULL)),
    CONSTRAINT budgets_total_check CHECK (ends_at IS NULL OR period = 'total')
);
COMMENT ON TABLE  decisioning.budgets IS 'What campaigns may spend per calendar period: altogether, on one action, or on the actions with one level of a dimension.';
COMMENT ON COLUMN decisioning.budgets.budget IS 'Name, made of scope, unit and period.';
COMMENT ON COLUMN decisioning.budgets.unit IS 'cost counts what sends are expected to cost and then do cost, in units of the goals'' value; sends counts sends.';
COMMENT ON COLUMN decisioning.budgets.period IS 'Calendar day, week (from Monday) or month in the zone of the campaign; total never starts anew.';
COMMENT ON COLUMN decisioning.budgets.amount IS 'Most that may be spent in a period.';
COMMENT ON COLUMN decisioning.budgets.ends_at IS 'For total: when it is to be spent by, which gives it a pace. It may be spent afterwards, too.';

-- Names the budget, and keeps what its state belongs to from changing. Named to fire before open_epoch.
CREATE FUNCTION decisioning._check_budget() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    scope CONSTANT text := CASE WHEN NEW.action IS NOT NULL THEN 'action ' || NEW.action || ': '
                                WHEN NEW.dimension IS NOT NULL THEN NEW.dimension || ' ' || NEW.level || ': '
                                ELSE '' END;
    name CONSTANT text := scope || NEW.unit || CASE NEW.period WHEN 'total' THEN ' in total' ELSE ' per ' || NEW.period END;
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.campaign, name) IS DISTINCT FROM (OLD.campaign, OLD.budget) THEN
        RAISE EXCEPTION 'scope, unit and period of budget "%" cannot change', OLD.budget
            USING ERRCODE = 'object_in_use', HINT = 'Set another budget with decisioning.set_budget and remove this one.';
    END IF;
    NEW.budget := name;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION decisioning._check_budget() IS 'Internal: names a budget, and keeps its scope, unit and period from changing.';

CREATE TRIGGER a_check_budget BEFORE INSERT OR UPDATE ON decisioning.budgets
    FOR EACH ROW EXECUTE FUNCTION decisioning._check_budget();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.budgets
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();

-- State. Amounts are whole millionths, so that sums are exact.

CREATE TABLE decisioning._budget_period (
    campaign    text        NOT NULL,
    budget      text        NOT NULL,
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz,
    opened_at   timestamptz NOT NULL,
    amount      bigint      NOT NULL,
    settled     bigint      NOT NULL,
    epoch       bigint      NOT NULL,
    PRIMARY KEY (campaign, budget, starts_at)
);
COMMENT ON TABLE decisioning._budget_period IS 'Internal: a period of a budget.';
COMMENT ON COLUMN decisioning._budget_period.amount IS 'Amount that the slots were cut from.';
COMMENT ON COLUMN decisioning._budget_period.settled IS 'Spent by decisions whose attribution window has closed.';
COMMENT ON COLUMN decisioning._budget_period.epoch IS 'Epoch of the budget when the amount was set; an older one does not overwrite it.';

CREATE TABLE decisioning._budget_slot (
    campaign    text        NOT NULL,
    budget      text        NOT NULL,
    starts_at   timestamptz NOT NULL,
    slot        smallint    NOT NULL CHECK (slot BETWEEN 0 AND 63),
    amount      bigint      NOT NULL,
    available   bigint      NOT NULL,
    PRIMARY KEY (campaign, budget, starts_at, slot)
) WITH (fillfactor = 50);
COMMENT ON TABLE decisioning._budget_slot IS 'Internal: what is left of a period of a budget, in 64 parts, so that sessions do not wait for each other. While the budget is overdrawn no slot has anything.';
COMMENT ON COLUMN decisioning._budget_slot.amount IS 'Amount of the budget that the slot belongs to.';

-- Takes from the slot of this session, or takes nothing. An update that waits for a row and then finds too little in it keeps
-- the lock; the exception gives it back, since nobody may hold one slot while waiting for all of them.
CREATE FUNCTION decisioning._take_from_slot(campaign text, budget text, starts_at timestamptz, amount bigint, wanted bigint) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    UPDATE decisioning._budget_slot s SET available = s.available - $5
    WHERE s.campaign = $1 AND s.budget = $2 AND s.starts_at = $3 AND s.slot = (pg_backend_pid() % 64)::smallint
      AND s.amount = $4 AND s.available >= $5;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'too little in this slot' USING ERRCODE = 'DC001';
    END IF;
    RETURN true;
EXCEPTION WHEN SQLSTATE 'DC001' THEN
    RETURN false;
END $$;
COMMENT ON FUNCTION decisioning._take_from_slot(text, text, timestamptz, bigint, bigint) IS 'Internal: takes part of a budget from the slot of this session, if that has as much of the amount that is configured.';

CREATE TABLE decisioning._reservation (
    decision_id uuid        NOT NULL,
    campaign    text        NOT NULL,
    budget      text        NOT NULL,
    starts_at   timestamptz NOT NULL,
    closes_at   timestamptz NOT NULL,
    on_send     float8      NOT NULL,
    on_goal     float8      NOT NULL,
    on_goal_share float8    NOT NULL,
    reserved    bigint      NOT NULL,
    charged     bigint      NOT NULL,
    closed      boolean     NOT NULL DEFAULT false,
    cancelled   boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (decision_id, budget)
) WITH (fillfactor = 80);
CREATE INDEX _reservation_due_index ON decisioning._reservation (campaign, closes_at) WHERE NOT closed;
COMMENT ON TABLE decisioning._reservation IS 'Internal: what each decision holds of each budget.';
COMMENT ON COLUMN decisioning._reservation.on_send IS 'Units that the send takes, at the costs of the time of the decision; on_goal and on_goal_share likewise.';
COMMENT ON COLUMN decisioning._reservation.reserved IS 'Expected when it was decided.';
COMMENT ON COLUMN decisioning._reservation.charged IS 'What it counts now: as reserved, or more if outcomes so far cost more; once closed, what it did cost.';
COMMENT ON COLUMN decisioning._reservation.cancelled IS 'Its send will not be made: it costs nothing.';

CREATE TABLE decisioning._pace (
    campaign    text        NOT NULL,
    budget      text        NOT NULL,
    pace        jsonb       NOT NULL,
    looked_at   timestamptz NOT NULL,
    PRIMARY KEY (campaign, budget)
);
COMMENT ON TABLE decisioning._pace IS 'Internal: how fast each budget was spent when learn looked at it, and the price that follows from it.';

-- One offer for one household. Every decision for a member modifies the row, so that two of them meet here.
CREATE TABLE decisioning._household (
    campaign    text        NOT NULL,
    household   uuid        NOT NULL,
    decisions   bigint      NOT NULL,
    offer       text,
    offered_at  timestamptz,
    PRIMARY KEY (campaign, household)
) WITH (fillfactor = 80);
COMMENT ON TABLE decisioning._household IS 'Internal: offer that the members of a household get; the household is a keyed hash.';

-- Functions and views ------------------------------------------------------------------------------

CREATE FUNCTION decisioning.set_budget(
    campaign    text,
    amount      float8,
    period      text        DEFAULT 'month',
    unit        text        DEFAULT 'cost',
    action      text        DEFAULT NULL,
    dimension   text        DEFAULT NULL,
    level       text        DEFAULT NULL,
    ends_at     timestamptz DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_budget_wrapper';
COMMENT ON FUNCTION decisioning.set_budget(text, float8, text, text, text, text, text, timestamptz) IS
'Sets what a campaign may spend per day, week, month or in total: altogether, on an action, or on the actions with a level of a dimension. unit is cost or sends. Setting it again changes the amount, at once. Returns the name of the budget.';

CREATE FUNCTION decisioning.remove_budget(campaign text, budget text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'remove_budget_wrapper';
COMMENT ON FUNCTION decisioning.remove_budget(text, text) IS
'Removes a budget by name. What was spent is not forgotten: set again in the same period, the budget has what is left.';

CREATE VIEW decisioning.budget_status AS
SELECT b.campaign, b.budget, b.unit, b.period, t.starts_at AS period_starts_at, t.ends_at AS period_ends_at, b.amount,
       (coalesce(p.amount - s.available - p.settled, 0) / 1e6)::float8 AS reserved,
       (coalesce(p.settled, 0) / 1e6)::float8 AS spent,
       b.amount - (coalesce(p.amount - s.available, 0) / 1e6)::float8 AS remaining,
       CASE WHEN decisioning._now() < t.ends_at
            THEN b.amount * date_part('epoch', decisioning._now() - t.starts_at) / date_part('epoch', t.ends_at - t.starts_at)
            WHEN t.starts_at < t.ends_at THEN b.amount END AS planned,
       (m.prices ->> b.budget)::float8 AS shadow_price
FROM decisioning.budgets b
JOIN decisioning.campaigns c ON c.campaign = b.campaign
CROSS JOIN LATERAL (
    SELECT CASE WHEN b.period <> 'total' THEN date_trunc(b.period, decisioning._now() AT TIME ZONE c.time_zone) END AS first,
           CASE WHEN b.period <> 'total' THEN ('1 ' || b.period)::interval END AS length) AS d
LEFT JOIN decisioning._budget_period p ON p.campaign = b.campaign AND p.budget = b.budget
    AND p.starts_at = coalesce(d.first AT TIME ZONE c.time_zone, 'epoch'::timestamptz)
CROSS JOIN LATERAL (
    SELECT coalesce(d.first AT TIME ZONE c.time_zone, p.opened_at) AS starts_at,
           coalesce((d.first + d.length) AT TIME ZONE c.time_zone, b.ends_at) AS ends_at) AS t
LEFT JOIN LATERAL (
    SELECT sum(s.available) AS available FROM decisioning._budget_slot s
    WHERE s.campaign = p.campaign AND s.budget = p.budget AND s.starts_at = p.starts_at) AS s ON true
LEFT JOIN decisioning._learner l ON l.campaign = b.campaign
LEFT JOIN decisioning._model m ON m.campaign = l.campaign AND m.model_version = l.model_version;
COMMENT ON VIEW decisioning.budget_status IS 'The current period of every budget.';
COMMENT ON COLUMN decisioning.budget_status.reserved IS 'Expected cost of decisions whose attribution window is open.';
COMMENT ON COLUMN decisioning.budget_status.spent IS 'Cost of decisions whose attribution window has closed.';
COMMENT ON COLUMN decisioning.budget_status.remaining IS 'What may still be reserved; negative while outcomes cost more than was expected.';
COMMENT ON COLUMN decisioning.budget_status.planned IS 'What an even pace would have used by now; NULL for a budget without an end.';
COMMENT ON COLUMN decisioning.budget_status.shadow_price IS 'What one more unit of the budget would gain, as learn has found it; sends of the optimise group must earn it on top of their cost. 0 where the budget does not bind.';
