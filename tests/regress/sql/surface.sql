-- The surface: what a DBA sees after CREATE EXTENSION.
CREATE EXTENSION decisioning;
\pset format unaligned
SELECT p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS routine,
       CASE p.prokind WHEN 'p' THEN 'procedure' ELSE p.provolatile::text || p.proparallel::text END AS kind
FROM pg_proc p WHERE p.pronamespace = 'decisioning'::regnamespace AND p.proname NOT LIKE '\_%' ORDER BY 1;
SELECT c.relname AS relation, c.relkind FROM pg_class c
WHERE c.relnamespace = 'decisioning'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND c.relname NOT LIKE '\_%' ORDER BY 1;
-- Everything has a comment: routines, relations, types.
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'decisioning'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'decisioning'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;
-- Nothing for PUBLIC.
SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE p.pronamespace = 'decisioning'::regnamespace AND a.grantee = 0;
SELECT c.oid::regclass FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'decisioning'::regnamespace AND a.grantee = 0;
-- Every table and sequence is dumped; no foreign keys, which parallel restore may load in the wrong order.
SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'decisioning'::regnamespace AND c.relkind IN ('r', 'S')
AND c.oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'decisioning');
SELECT conrelid::regclass FROM pg_constraint WHERE connamespace = 'decisioning'::regnamespace AND contype = 'f';
-- Functions that others call with elevated rights pin their search path.
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'decisioning'::regnamespace AND p.prosecdef
AND NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp'];
-- The levels of rights name things that exist, and leave no public routine out but grant_rights itself.
SELECT f FROM decisioning._rights() r, unnest(r.functions) f WHERE f NOT IN (SELECT proname FROM pg_proc WHERE pronamespace = 'decisioning'::regnamespace);
SELECT t FROM decisioning._rights() r, unnest(r.relations) t WHERE to_regclass('decisioning.' || t) IS NULL;
SELECT DISTINCT p.proname FROM pg_proc p WHERE p.pronamespace = 'decisioning'::regnamespace AND p.proname NOT LIKE '\_%'
AND p.proname NOT IN (SELECT unnest(functions) FROM decisioning._rights());
-- It goes as it came; Postgres leaves the schema, empty.
DROP EXTENSION decisioning;
SELECT count(*) AS left_behind FROM pg_class WHERE relnamespace = 'decisioning'::regnamespace;
