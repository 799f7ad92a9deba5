-- Delivery: what is due, handed to whoever sends it, and what became of it.

CREATE TABLE decisioning.sends (
    decision_id uuid        PRIMARY KEY,
    customer_id text        NOT NULL,
    campaign    text        NOT NULL,
    action      text        NOT NULL,
    channel     text,
    content     jsonb,
    send_at     timestamptz NOT NULL,
    status      text        NOT NULL CHECK (status IN ('queued', 'claimed', 'sent', 'assumed_sent', 'delivered', 'bounced', 'failed', 'unknown', 'cancelled', 'expired', 'preempted')),
    released    boolean     GENERATED ALWAYS AS (status IN ('bounced', 'failed', 'cancelled', 'expired', 'preempted')) STORED,
    reason      text,
    queued_at   timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    claimed_by  text,
    claimed_at  timestamptz,
    lease_ends_at timestamptz,
    sent_at     timestamptz,
    attempts    integer     NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
CREATE INDEX sends_updated_index ON decisioning.sends (updated_at);
CREATE INDEX sends_waiting_index ON decisioning.sends (channel, send_at) WHERE status IN ('queued', 'claimed');
COMMENT ON TABLE  decisioning.sends IS 'Sends that were due, one row per decision. Rows never vanish; what became of them is their status.';
COMMENT ON COLUMN decisioning.sends.decision_id IS 'Use it as idempotency key with senders.';
COMMENT ON COLUMN decisioning.sends.status IS 'queued: to be sent; claimed: handed to a worker; sent, delivered, bounced, failed: as told; assumed_sent: nobody told for three days; unknown: the worker never came back; cancelled, expired, preempted: not to be sent.';
COMMENT ON COLUMN decisioning.sends.released IS 'It reached nobody, so caps do not count it. Learning and lift do, as assigned.';
COMMENT ON COLUMN decisioning.sends.updated_at IS 'Ascends in the order of commits: whoever has read up to a time has missed nothing before it.';
