-- Delivery: from decisions to what was sent. Decisions that chose a send wait in _outbox; dispatch looks at everything again when
-- they are due and puts them into the stable table sends, which workers claim from or tools sync; feedback comes back.

CREATE TABLE decisioning.delivery_channels (
    channel     text        PRIMARY KEY CHECK (channel <> '' AND pg_catalog.length(channel) <= 200),
    delivery    text        NOT NULL CHECK (delivery IN ('synced', 'claimed')),
    epoch       bigint      NOT NULL
);
COMMENT ON TABLE  decisioning.delivery_channels IS 'How the sends of each channel get to whoever makes them. A channel without a row is synced.';
COMMENT ON COLUMN decisioning.delivery_channels.channel IS 'Level of the dimension channel; * stands for all that have no row, and for actions without a channel.';
COMMENT ON COLUMN decisioning.delivery_channels.delivery IS 'synced: a tool copies the table sends and makes what is queued; claimed: workers call claim_sends, and everything is checked once more.';

CREATE TABLE decisioning.delivery_sources (
    delivery_source text    PRIMARY KEY CHECK (delivery_source <> '' AND pg_catalog.length(delivery_source) <= 200),
    source_schema   text    NOT NULL,
    source_relation text    NOT NULL,
    decision_key    text    NOT NULL,
    status          text    NOT NULL,
    occurred_at     text    NOT NULL,
    reason          text,
    statuses        jsonb   NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(statuses) = 'object'),
    filter          text,
    lookback        interval NOT NULL DEFAULT '3 days' CHECK (lookback >= '0' AND lookback <= '366 days'),
    created_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    epoch           bigint  NOT NULL
);
COMMENT ON TABLE  decisioning.delivery_sources IS 'Event tables of senders, read in place: what became of each send.';
COMMENT ON COLUMN decisioning.delivery_sources.decision_key IS 'Column with the decision_id that the sender was given.';
COMMENT ON COLUMN decisioning.delivery_sources.status IS 'Column with what happened.';
COMMENT ON COLUMN decisioning.delivery_sources.reason IS 'Column with what the sender says about it.';
COMMENT ON COLUMN decisioning.delivery_sources.statuses IS 'Words of the sender for statuses, such as {"hard_bounce": "bounced"}. Words that are neither here nor a status are passed over.';
COMMENT ON COLUMN decisioning.delivery_sources.filter IS 'SQL predicate over the relation; only these rows are read.';
COMMENT ON COLUMN decisioning.delivery_sources.lookback IS 'How far behind the latest event that was read reading begins again, for events that come late.';

CREATE TABLE decisioning.entry_sources (
    campaign        text    NOT NULL,
    entry_source    text    NOT NULL CHECK (entry_source <> '' AND pg_catalog.length(entry_source) <= 200),
    source_schema   text    NOT NULL,
    source_relation text    NOT NULL,
    customer_key    text    NOT NULL,
    occurred_at     text    NOT NULL,
    valid_for       interval NOT NULL CHECK (valid_for > '0' AND valid_for <= '366 days'),
    filter          text,
    created_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    epoch           bigint  NOT NULL,
    PRIMARY KEY (campaign, entry_source)
);
COMMENT ON TABLE  decisioning.entry_sources IS 'Events that make customers due, of campaigns that are triggered by events: such as a cart that was left. Read in place.';
COMMENT ON COLUMN decisioning.entry_sources.occurred_at IS 'Column with the time of the event.';
COMMENT ON COLUMN decisioning.entry_sources.valid_for IS 'How long after the event the customer is due, and a send for it may be made.';
COMMENT ON COLUMN decisioning.entry_sources.filter IS 'SQL predicate over the relation; only these rows are events.';

CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.entry_sources
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.delivery_channels
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.delivery_sources
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();

-- State --------------------------------------------------------------------------------------------

-- No index: ids ascend with time, and all sessions would insert into the same page. It holds what is not dispatched yet.
CREATE TABLE decisioning._outbox (
    campaign    text        NOT NULL,
    send_at     timestamptz NOT NULL,
    decision_id uuid        NOT NULL
);
COMMENT ON TABLE decisioning._outbox IS 'Internal: decisions that chose a send and are not dispatched yet. Written with the decision.';

CREATE TABLE decisioning._stake (
    decision_id uuid        PRIMARY KEY,
    stake       float8      NOT NULL CHECK (stake >= 0 AND stake < 'Infinity')
);
COMMENT ON TABLE decisioning._stake IS 'Internal: of campaigns with a priority, what is at stake with each send that is not made yet.';

-- Whoever changes sends writes this row first and keeps it locked until he commits: times of changes ascend in the order in which
-- others come to see them, and a reader that goes on from the latest misses nothing.
CREATE TABLE decisioning._send_clock (
    singleton   boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    ticked_at   timestamptz NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE decisioning._send_clock IS 'Internal: the latest updated_at of sends.';

CREATE TABLE decisioning._delivery_mark (
    delivery_source text    PRIMARY KEY,
    read_until  timestamptz NOT NULL
);
COMMENT ON TABLE decisioning._delivery_mark IS 'Internal: the latest event that was read from each delivery source.';

CREATE TABLE decisioning.sends (
    decision_id uuid        PRIMARY KEY,
    campaign    text        NOT NULL,
    customer_id text        NOT NULL,
    action      text        NOT NULL,
    channel     text,
    content     jsonb,
    send_at     timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    delivery    text        NOT NULL CHECK (delivery IN ('synced', 'claimed')),
    status      text        NOT NULL CHECK (status IN ('queued', 'claimed', 'cancelled', 'preempted', 'expired', 'unknown', 'assumed_sent',
                                                       'sent', 'failed', 'soft_bounced', 'delivered', 'bounced', 'unsubscribed', 'complained')),
    reason      text,
    occurred_at timestamptz NOT NULL,
    claimed_by  text,
    claimed_until timestamptz,
    queued_at   timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE INDEX sends_updated_index ON decisioning.sends (updated_at);
CREATE INDEX sends_campaign_index ON decisioning.sends (campaign, queued_at);
CREATE INDEX sends_claimable_index ON decisioning.sends (channel, send_at, decision_id) WHERE status = 'queued' AND delivery = 'claimed';
CREATE INDEX sends_due_index ON decisioning.sends (send_at, decision_id) WHERE status = 'queued' AND delivery = 'claimed';
CREATE INDEX sends_queued_index ON decisioning.sends (customer_id) WHERE status = 'queued';
CREATE INDEX sends_lease_index ON decisioning.sends (claimed_until) WHERE status = 'claimed';
CREATE INDEX sends_expiry_index ON decisioning.sends (expires_at) WHERE status = 'queued' AND delivery = 'claimed';
CREATE INDEX sends_silent_index ON decisioning.sends (send_at) WHERE status = 'queued' AND delivery = 'synced' OR status = 'unknown';
COMMENT ON TABLE  decisioning.sends IS 'What is to be sent, and what became of it: one row per decision, deleted by thin_log only. Sync it by decision_id from the latest updated_at on; use decision_id as idempotency key with the sender.';
COMMENT ON COLUMN decisioning.sends.customer_id IS 'Customer as known when everything was last looked at.';
COMMENT ON COLUMN decisioning.sends.send_at IS 'Earliest moment to send at.';
COMMENT ON COLUMN decisioning.sends.expires_at IS 'Not to be sent from here on.';
COMMENT ON COLUMN decisioning.sends.delivery IS 'Whether workers claim it, or it is made by whoever syncs the table.';
COMMENT ON COLUMN decisioning.sends.status IS 'queued: to be sent; claimed: with a worker; cancelled: must not be sent any more; preempted: a campaign with a higher stake takes the contact; expired: was not sent in time; unknown: the lease of a worker ended and he said nothing; assumed_sent: no word for three days; the others are what the sender says. cancelled, preempted, expired, failed, soft_bounced and bounced do not count for caps.';
COMMENT ON COLUMN decisioning.sends.reason IS 'Why it was cancelled, preempted or has expired, or what the sender says.';
COMMENT ON COLUMN decisioning.sends.occurred_at IS 'When it came to this status, by the clock of whoever says so.';
COMMENT ON COLUMN decisioning.sends.claimed_until IS 'End of the lease.';
COMMENT ON COLUMN decisioning.sends.updated_at IS 'When the row was last changed. Ascends strictly in the order of commits.';

CREATE VIEW decisioning.delivery_overview AS
SELECT s.campaign, (s.queued_at AT TIME ZONE c.time_zone)::date AS dispatched_on, s.channel, s.status, s.reason, count(*) AS sends
FROM decisioning.sends s JOIN decisioning.campaigns c ON c.campaign = s.campaign
GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW decisioning.delivery_overview IS 'Sends by campaign, day of dispatch (in the campaign''s zone), channel, status and reason.';

-- Functions ----------------------------------------------------------------------------------------

CREATE FUNCTION decisioning.explain_text(decision_id uuid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT string_agg(e.explanation || coalesce(' (' || trim_scale(round(e.number::numeric, 4)) || ')', ''), '; ' ORDER BY e.step) FROM decisioning.explain(explain_text.decision_id) AS e $$;
COMMENT ON FUNCTION decisioning.explain_text(uuid) IS 'explain as one text, with its numbers in brackets.';

CREATE FUNCTION decisioning.explain_document(decision_id uuid) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'decision_id', d.decision_id, 'customer_id', d.customer_id, 'campaign', d.campaign, 'treatment_group', d.treatment_group,
        'decided_at', d.decided_at, 'epoch', d.epoch, 'model_version', d.model_version, 'reason', d.reason,
        'action', d.action, 'propensity', d.propensity,
        'candidates', (SELECT jsonb_agg(jsonb_build_object('action', coalesce(a.action, 'no_send'), 'propensity', c.propensity)
                                        ORDER BY c.propensity DESC, c.action_id)
                       FROM unnest(d.candidates, d.propensities) AS c(action_id, propensity)
                       LEFT JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action_id = c.action_id),
        'removed', coalesce((SELECT jsonb_object_agg(r.key, (SELECT jsonb_agg(a.action ORDER BY a.action_id) FROM decisioning.actions a
                                                              WHERE a.campaign = d.campaign AND r.value @> to_jsonb(a.action_id)))
                             FROM jsonb_each(d.removed) AS r), '{}'),
        'send', (SELECT jsonb_build_object('status', m.status, 'reason', m.reason, 'send_at', m.send_at, 'occurred_at', m.occurred_at)
                 FROM decisioning.sends m WHERE m.decision_id = d.decision_id),
        'steps', e.steps)
    FROM (SELECT jsonb_agg(jsonb_build_object('subject', s.subject, 'explanation', s.explanation, 'number', s.number) ORDER BY s.step) AS steps
          FROM decisioning.explain(explain_document.decision_id) AS s) AS e      -- raises if there is no such decision
    LEFT JOIN decisioning.decisions d ON d.decision_id = explain_document.decision_id
$$;
COMMENT ON FUNCTION decisioning.explain_document(uuid) IS 'The funnel of a decision as a document: candidates with their propensities, what each guardrail removed, what became of the send, and the steps of explain.';

CREATE FUNCTION decisioning.add_entry_source(
    campaign    text,
    relation    regclass,
    customer_key text,
    occurred_at text,
    valid_for   interval,
    filter      text        DEFAULT NULL,
    entry_source text       DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_entry_source_wrapper';
COMMENT ON FUNCTION decisioning.add_entry_source(text, regclass, text, text, interval, text, text) IS
'Makes a campaign one that is triggered by events: a customer is due when an event of his is in the relation, until it is stale, and is decided for once for it. Several sources add up. Returns the name of the source.';

CREATE FUNCTION decisioning.remove_entry_source(campaign text, entry_source text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'remove_entry_source_wrapper';
COMMENT ON FUNCTION decisioning.remove_entry_source(text, text) IS
'Does not read an entry source any more. A campaign without any is about its whole audience again.';

CREATE FUNCTION decisioning.set_delivery(channel text, delivery text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_delivery_wrapper';
COMMENT ON FUNCTION decisioning.set_delivery(text, text) IS
'Says how the sends of a channel are made: synced (a tool copies the table sends) or claimed (workers call claim_sends). * stands for all channels without a setting of their own. Holds for what is dispatched from now on.';

CREATE FUNCTION decisioning.dispatch(campaign text DEFAULT NULL, batch_size integer DEFAULT 10000)
RETURNS TABLE (queued bigint, cancelled bigint, preempted bigint, expired bigint, put_off bigint, more boolean)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 1
AS 'MODULE_PATHNAME', 'dispatch_wrapper';
COMMENT ON FUNCTION decisioning.dispatch(text, integer) IS
'Takes decisions whose moment has come, looks at everything again (consent, suppression, audience, eligibility, caps, quiet hours, goals reached, approval, budgets), and puts them into sends: queued, or cancelled with the reason, or preempted by another campaign. A send that may not be made now is put off to the next moment when it may. One batch, of one campaign or of all; more says whether there is another.';

CREATE FUNCTION decisioning._due_campaigns(campaign text) RETURNS SETOF text
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000 ROWS 10
AS 'MODULE_PATHNAME', '_due_campaigns_wrapper';
COMMENT ON FUNCTION decisioning._due_campaigns(text) IS 'Internal: campaigns with something to dispatch.';

-- No SET clause: it would forbid COMMIT. Hence every name is qualified.
CREATE PROCEDURE decisioning.dispatch_all(campaign text DEFAULT NULL, batch_size integer DEFAULT 10000)
LANGUAGE plpgsql
AS $$
DECLARE
    due record;
    step record;
    queued bigint := 0;
    cancelled bigint := 0;
    preempted bigint := 0;
    expired bigint := 0;
    put_off bigint := 0;
    more boolean;
    reported timestamptz := pg_catalog.clock_timestamp();
BEGIN
    PERFORM decisioning._refuse_transaction_block('dispatch_all', 'dispatch');
    FOR due IN SELECT d.name FROM decisioning._due_campaigns(campaign) AS d(name) LOOP
        more := true;
        WHILE more LOOP
            BEGIN
                SELECT * INTO step FROM decisioning.dispatch(due.name, batch_size);
                more := step.more;
                queued := queued OPERATOR(pg_catalog.+) step.queued;
                cancelled := cancelled OPERATOR(pg_catalog.+) step.cancelled;
                preempted := preempted OPERATOR(pg_catalog.+) step.preempted;
                expired := expired OPERATOR(pg_catalog.+) step.expired;
                put_off := put_off OPERATOR(pg_catalog.+) step.put_off;
            EXCEPTION WHEN OTHERS THEN
                -- A campaign whose relation is gone must not keep the others from sending.
                IF campaign IS NOT NULL THEN
                    RAISE;
                END IF;
                RAISE WARNING 'dispatch_all: campaign "%": %', due.name, SQLERRM;
                more := false;
            END;
            COMMIT;
            IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) reported OPERATOR(pg_catalog.>) '5 seconds'::pg_catalog.interval THEN
                reported := pg_catalog.clock_timestamp();
                RAISE NOTICE 'dispatch_all: % queued so far', queued;
            END IF;
        END LOOP;
    END LOOP;
    RAISE NOTICE 'dispatch_all: % queued, % cancelled, % preempted, % expired, % put off', queued, cancelled, preempted, expired, put_off;
END $$;
COMMENT ON PROCEDURE decisioning.dispatch_all(text, integer) IS
'Dispatches all that is due, in batches, committing each. Cancel it at any time and call it again. Call it from cron, outside of a transaction block. Called for all campaigns, one that fails is a warning and does not keep the others.';

CREATE FUNCTION decisioning.claim_sends(
    channel     text        DEFAULT NULL,
    worker      text        DEFAULT NULL,
    batch_size  integer     DEFAULT 100,
    lease       interval    DEFAULT '5 minutes',
    campaign    text        DEFAULT NULL
) RETURNS TABLE (decision_id uuid, campaign text, customer_id text, action text, channel text, content jsonb,
                 send_at timestamptz, expires_at timestamptz, claimed_until timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 100
AS 'MODULE_PATHNAME', 'claim_sends_wrapper';
COMMENT ON FUNCTION decisioning.claim_sends(text, text, integer, interval, text) IS
'Hands queued sends to a worker, each once: no other session gets the same. Everything is looked at again at this moment. Tell with record_delivery what became of each before the lease ends; else the send is unknown, counts as made, and is not handed out again unless requeue_send asks for it. Commit before you send.';

CREATE FUNCTION decisioning.release_send(decision_id uuid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'release_send_wrapper';
COMMENT ON FUNCTION decisioning.release_send(uuid) IS
'Gives a send back that was claimed and certainly not made; it can be claimed again.';

CREATE FUNCTION decisioning.requeue_send(decision_id uuid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'requeue_send_wrapper';
COMMENT ON FUNCTION decisioning.requeue_send(uuid) IS
'Queues a send again of which nobody knows whether it was made, or that has failed. The customer may get it twice.';

CREATE FUNCTION decisioning.record_delivery(decision_id uuid, status text, occurred_at timestamptz DEFAULT NULL, reason text DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'record_delivery_wrapper';
COMMENT ON FUNCTION decisioning.record_delivery(uuid, text, timestamptz, text) IS
'Records what became of a send: sent, failed, soft_bounced, delivered, bounced (for good), unsubscribed or complained. In any order and as often as you like: the outcome is the same. bounced, unsubscribed and complained suppress the channel for the customer. Returns the status that holds now.';

CREATE FUNCTION decisioning.record_deliveries(
    decision_ids uuid[],
    statuses    text[],
    occurred_at timestamptz[] DEFAULT NULL,
    reasons     text[]      DEFAULT NULL
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000
AS 'MODULE_PATHNAME', 'record_deliveries_wrapper';
COMMENT ON FUNCTION decisioning.record_deliveries(uuid[], text[], timestamptz[], text[]) IS
'record_delivery for many at once. Returns how many sends have changed.';

CREATE FUNCTION decisioning.add_delivery_source(
    relation    regclass,
    decision_id text,
    status      text,
    occurred_at text,
    reason      text        DEFAULT NULL,
    statuses    jsonb       DEFAULT '{}',
    filter      text        DEFAULT NULL,
    lookback    interval    DEFAULT '3 days',
    delivery_source text    DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'add_delivery_source_wrapper';
COMMENT ON FUNCTION decisioning.add_delivery_source(regclass, text, text, text, text, jsonb, text, interval, text) IS
'Reads what became of sends from the event table of a sender, in place: ingest_deliveries and maintain read what is new. Returns the name of the source.';

CREATE FUNCTION decisioning.remove_delivery_source(delivery_source text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'remove_delivery_source_wrapper';
COMMENT ON FUNCTION decisioning.remove_delivery_source(text) IS 'Does not read a delivery source any more. What it brought stays.';

CREATE FUNCTION decisioning.ingest_deliveries(complete boolean DEFAULT false)
RETURNS TABLE (delivery_source text, events bigint, changed bigint, passed_over bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 5
AS 'MODULE_PATHNAME', 'ingest_deliveries_wrapper';
COMMENT ON FUNCTION decisioning.ingest_deliveries(boolean) IS
'Reads the delivery sources, with the rights of the caller. complete reads everything again, not only the lookback. passed_over counts events with other statuses and those of decisions that are not ours.';
