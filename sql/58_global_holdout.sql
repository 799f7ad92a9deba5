-- The global holdout: a share of all customers whom no campaign contacts.

CREATE TABLE decisioning.global_holdout (
    singleton   boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    share       float8      NOT NULL CHECK (share BETWEEN 0 AND 1),
    since       timestamptz,
    least       float8      NOT NULL,
    most        float8      NOT NULL,
    salt        uuid        NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    epoch       bigint      NOT NULL
);
COMMENT ON TABLE  decisioning.global_holdout IS 'The global holdout, in one row: a share of all customers whom no campaign contacts. Without a row there is none.';
COMMENT ON COLUMN decisioning.global_holdout.share IS 'Share of customers, by a hash of the canonical id: the same in every campaign. A larger share adds customers; a smaller one frees those whom no campaign has drawn yet. 0 ends it; groups that are drawn stay.';
COMMENT ON COLUMN decisioning.global_holdout.since IS 'From when on there is a global holdout without a break. NULL while the share is 0. Derived.';
COMMENT ON COLUMN decisioning.global_holdout.least IS 'Smallest share since then: who is within it is a member all the time. Derived.';
COMMENT ON COLUMN decisioning.global_holdout.most IS 'Largest share since then: who is not within it never is a member. Derived.';
COMMENT ON COLUMN decisioning.global_holdout.salt IS 'Key of the hash.';

-- What is derived follows from the shares alone. Named to fire before open_epoch.
CREATE FUNCTION decisioning._check_global_holdout() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.epoch IS NOT NULL THEN
        RETURN NEW;                                     -- restored from a dump
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.share > 0 AND NEW.share > 0 THEN
        IF NEW.salt IS DISTINCT FROM OLD.salt THEN
            RAISE EXCEPTION 'the salt of the global holdout cannot change while there is one'
                USING ERRCODE = 'object_in_use', DETAIL = 'Customers are drawn by it.',
                      HINT = 'End it first: SELECT decisioning.set_global_holdout(0).';
        END IF;
        NEW.since := OLD.since;
        NEW.least := least(OLD.least, NEW.share);
        NEW.most := greatest(OLD.most, NEW.share);
    ELSE
        NEW.since := CASE WHEN NEW.share > 0 THEN decisioning._now() END;
        NEW.least := NEW.share;
        NEW.most := NEW.share;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION decisioning._check_global_holdout() IS 'Internal: keeps what is derived of the global holdout, and its salt.';

CREATE TRIGGER a_check_global_holdout BEFORE INSERT OR UPDATE ON decisioning.global_holdout
    FOR EACH ROW EXECUTE FUNCTION decisioning._check_global_holdout();
CREATE TRIGGER open_epoch BEFORE INSERT OR UPDATE OR DELETE ON decisioning.global_holdout
    FOR EACH ROW EXECUTE FUNCTION decisioning._open_epoch();

CREATE FUNCTION decisioning.set_global_holdout(share float8) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_global_holdout_wrapper';
COMMENT ON FUNCTION decisioning.set_global_holdout(float8) IS
'Sets the share of all customers whom no campaign contacts, so that total_lift can tell what all campaigns together add. Holds for customers whom a campaign draws from now on; groups that are drawn stay. 0 ends it. Waits for decisions that are under way.';

-- For the sample ratio of campaigns.

CREATE VIEW decisioning._global_shares AS
SELECT e.epoch, coalesce(round(10000 * (e.after ->> 'share')::float8) / 10000, 0) AS share
FROM decisioning.epochs e WHERE e.relation = 'global_holdout';
COMMENT ON VIEW decisioning._global_shares IS 'Internal: share of the global holdout from each epoch on in which it changed, in whole buckets; before the first it is 0.';
