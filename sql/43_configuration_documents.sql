-- Campaigns as code: a campaign as one document, and what changed between epochs.

CREATE FUNCTION decisioning.export_configuration(campaign text) RETURNS jsonb
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'export_configuration_wrapper';
COMMENT ON FUNCTION decisioning.export_configuration(text) IS
'The configuration of a campaign as one document that configure takes. What has its default is left out, and so are approvals, groups and what is derived.';

CREATE FUNCTION decisioning._configure(document jsonb) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', '_configure_wrapper';
COMMENT ON FUNCTION decisioning._configure(jsonb) IS 'Internal: applies a document and returns what it changed.';

-- A dry run applies the document, so that everything is checked, and takes it back. No settings of its own: predicates are tried
-- under the search path of the caller.
CREATE FUNCTION decisioning.configure(document jsonb, dry_run boolean DEFAULT false)
RETURNS TABLE (path text, before jsonb, after jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $$
#variable_conflict use_column
DECLARE
    changes jsonb;
BEGIN
    BEGIN
        changes := decisioning._configure(configure.document);
        IF configure.dry_run IS NOT FALSE THEN
            RAISE EXCEPTION 'dry run' USING ERRCODE = 'DC002';
        END IF;
    EXCEPTION WHEN SQLSTATE 'DC002' THEN
        NULL;
    END;
    RETURN QUERY
    SELECT c.change ->> 'path', nullif(c.change -> 'before', 'null'), nullif(c.change -> 'after', 'null')
    FROM pg_catalog.jsonb_array_elements(changes) WITH ORDINALITY AS c (change, turn) ORDER BY c.turn;
END $$;
COMMENT ON FUNCTION decisioning.configure(jsonb, boolean) IS
'Makes a campaign what a document says, in one transaction, and returns each difference. With dry_run it is checked and shown, and nothing changes. Sections that are absent stay as they are; what is missing from a section that is given is removed, and actions of a started campaign are paused. Actions need approve_action as ever.';

CREATE VIEW decisioning.configuration_changes AS
SELECT e.epoch, e.campaign, e.relation, k.row_key, e.operation, d.changes, e.changed_at, e.changed_by
FROM decisioning.epochs e
CROSS JOIN LATERAL (
    SELECT pg_catalog.jsonb_object_agg(a.attname, coalesce(e.after, e.before) -> a.attname::text) AS row_key
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indisprimary AND i.indrelid = pg_catalog.to_regclass('decisioning.' || pg_catalog.quote_ident(e.relation))) AS k
CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.jsonb_object_agg(n.name, pg_catalog.jsonb_build_array(e.before -> n.name, e.after -> n.name)), '{}') AS changes
    FROM pg_catalog.jsonb_object_keys(coalesce(e.before, '{}') || coalesce(e.after, '{}')) AS n (name)
    WHERE coalesce(e.before -> n.name, 'null') <> coalesce(e.after -> n.name, 'null')) AS d;
COMMENT ON VIEW   decisioning.configuration_changes IS 'What changed with each epoch: which row, which of its columns, from what to what, by whom.';
COMMENT ON COLUMN decisioning.configuration_changes.campaign IS 'Campaign that changed; NULL for what all campaigns share.';
COMMENT ON COLUMN decisioning.configuration_changes.row_key IS 'Primary key of the row.';
COMMENT ON COLUMN decisioning.configuration_changes.changes IS 'Changed columns only: {"column": [before, after]}.';
