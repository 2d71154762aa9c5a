-- What a schema change is compared with: the definition of every object, as the server itself deparses it.
--
--   an object  ──> describe ──> jsonb: the whole of it, with all that hangs on it (columns, indexes, grants, comments)
--   its parts  ──────────────> `id` is the part's oid: a part that was renamed is still the same one
--
-- Columns that only some versions of a catalog have are read through to_jsonb(row)->>'column'.

-- The last known definition of every object that a schema change can touch.
CREATE TABLE pgstream.ddl_objects (
    classid     oid     NOT NULL,
    objid       oid     NOT NULL,
    -- table, view, sequence, ...
    class       text    NOT NULL,
    definition  jsonb   NOT NULL,
    -- oids of what hangs on it and can be dropped by itself, and of parents
    parts       oid[]   NOT NULL,
    PRIMARY KEY (classid, objid)
);
CREATE INDEX ddl_objects_parts ON pgstream.ddl_objects USING gin (parts);

-- Grants beyond those of the owner, whatever they were written down as. PUBLIC has no name. Kinds as in acldefault; those
-- of columns (c) are none by default.
CREATE FUNCTION pgstream.ddl_grants(acl aclitem[], kind "char", owner oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    items aclitem[] := coalesce(acl, CASE WHEN kind <> 'c' THEN acldefault(kind, owner) END);
BEGIN
    IF coalesce(cardinality(items), 0) = 0 THEN RETURN '[]'; END IF;
    RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object('to', CASE WHEN g.grantee <> 0 THEN pg_get_userbyid(g.grantee) END,
                                                 'privilege', g.privilege_type, 'grantable', g.is_grantable)
                              ORDER BY g.grantee, g.privilege_type), '[]')
      FROM (SELECT grantee, privilege_type, bool_or(is_grantable) AS is_grantable
              FROM aclexplode(items) WHERE grantee <> owner GROUP BY 1, 2) AS g);
END $$;

-- A sequence. Its value is not part of it: values are carried over beside the stream.
CREATE FUNCTION pgstream.ddl_sequence(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object(
               'schema', n.nspname, 'name', c.relname, 'owner', pg_get_userbyid(c.relowner), 'persistence', c.relpersistence,
               'type', format_type(s.seqtypid, NULL), 'start', s.seqstart, 'increment', s.seqincrement,
               'min', s.seqmin, 'max', s.seqmax, 'cache', s.seqcache, 'cycle', s.seqcycle,
               'owned_by', (SELECT jsonb_build_object('id', d.refobjid::bigint, 'num', d.refobjsubid,
                                                      'table', d.refobjid::regclass::text, 'column', a.attname)
                              FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                             WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a'
                               AND d.refclassid = 'pg_class'::regclass),
               'grants', pgstream.ddl_grants(c.relacl, 's', c.relowner),
               'comment', obj_description(c.oid, 'pg_class'))
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
     WHERE c.oid = whole); END $$;

CREATE FUNCTION pgstream.ddl_columns(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'num', a.attnum, 'name', a.attname,
               'type', format_type(a.atttypid, a.atttypmod), 'type_id', a.atttypid::bigint, 'typmod', a.atttypmod,
               'not_null', a.attnotnull,
               'not_null_constraint', (SELECT jsonb_build_object('id', n.oid::bigint, 'name', n.conname,
                                              'no_inherit', n.connoinherit, 'valid', n.convalidated, 'local', n.conislocal)
                                         FROM pg_constraint n
                                        WHERE n.conrelid = a.attrelid AND n.contype = 'n' AND n.conkey = ARRAY[a.attnum]),
               'default', pg_get_expr(d.adbin, d.adrelid), 'default_id', d.oid::bigint,
               'missing', CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] END,
               'identity', a.attidentity, 'generated', a.attgenerated,
               'sequence', (SELECT pgstream.ddl_sequence(s.objid) FROM pg_depend s
                             WHERE a.attidentity <> '' AND s.classid = 'pg_class'::regclass AND s.deptype = 'i'
                               AND s.refclassid = 'pg_class'::regclass AND s.refobjid = a.attrelid
                               AND s.refobjsubid = a.attnum LIMIT 1),
               'collation', CASE WHEN a.attcollation <> t.typcollation THEN
                                 quote_ident(cn.nspname) || '.' || quote_ident(c.collname) END,
               'collation_id', a.attcollation::bigint,
               'storage', a.attstorage, 'storage_is_default', a.attstorage = t.typstorage,
               'compression', nullif(to_jsonb(a)->>'attcompression', ''),
               'statistics', nullif(coalesce((to_jsonb(a)->>'attstattarget')::int, -1), -1),
               'options', a.attoptions,
               'local', a.attislocal, 'inherited', a.attinhcount > 0,
               'grants', CASE WHEN a.attacl IS NULL THEN '[]' ELSE pgstream.ddl_grants(a.attacl, 'c', 0::oid) END,
               'comment', col_description(a.attrelid, a.attnum)) ORDER BY a.attnum), '[]')
      FROM pg_attribute a
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      LEFT JOIN pg_collation c ON c.oid = a.attcollation
      LEFT JOIN pg_namespace cn ON cn.oid = c.collnamespace
     WHERE a.attrelid = whole AND a.attnum > 0 AND NOT a.attisdropped); END $$;

-- Primary, unique, check, exclusion and foreign constraints of a table or domain.
CREATE FUNCTION pgstream.ddl_constraints(whole oid, of_domain oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', c.oid::bigint, 'name', c.conname, 'type', c.contype, 'definition', pg_get_constraintdef(c.oid),
               'index', i.relname, 'index_id', i.oid::bigint,
               'index_parent', (SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = i.oid),
               'validated', c.convalidated, 'enforced', coalesce((to_jsonb(c)->>'conenforced')::bool, true),
               'deferrable', c.condeferrable, 'deferred', c.condeferred,
               'local', c.conislocal, 'inherited', c.coninhcount > 0 OR c.conparentid <> 0,
               'comment', obj_description(c.oid, 'pg_constraint'))
               ORDER BY array_position('{p,u,x,c,f}'::"char"[], c.contype), c.conname), '[]')
      FROM pg_constraint c LEFT JOIN pg_class i ON i.oid = c.conindid AND c.contype IN ('p', 'u', 'x')
     WHERE c.conrelid = whole AND c.contypid = of_domain AND c.contype IN ('p', 'u', 'x', 'c', 'f')); END $$;

CREATE FUNCTION pgstream.ddl_indexes(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', c.oid::bigint, 'name', c.relname, 'definition', pg_get_indexdef(c.oid), 'unique', i.indisunique,
               'constraint', EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = whole AND k.conindid = c.oid
                                          AND k.contype IN ('p', 'u', 'x')),
               'partitioned', c.relkind = 'I', 'valid', i.indisvalid, 'clustered', i.indisclustered, 'options', c.reloptions,
               'parent', (SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = c.oid),
               'statistics', (SELECT jsonb_object_agg(a.attnum, (to_jsonb(a)->>'attstattarget')::int) FROM pg_attribute a
                               WHERE a.attrelid = c.oid AND coalesce((to_jsonb(a)->>'attstattarget')::int, -1) >= 0),
               'comment', obj_description(c.oid, 'pg_class')) ORDER BY c.relname), '[]')
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = whole); END $$;

-- Triggers, rules and policies of a table or view.
CREATE FUNCTION pgstream.ddl_attached(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object(
        'triggers', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                         'id', t.oid::bigint, 'name', t.tgname, 'definition', pg_get_triggerdef(t.oid),
                         'enabled', t.tgenabled, 'inherited', t.tgparentid <> 0,
                         'comment', obj_description(t.oid, 'pg_trigger')) ORDER BY t.tgname), '[]')
                       FROM pg_trigger t
                      WHERE t.tgrelid = whole AND (NOT t.tgisinternal OR t.tgparentid <> 0)
                        AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.oid = t.tgconstraint AND k.contype = 'f')),
        'rules', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                         'id', r.oid::bigint, 'name', r.rulename, 'definition', pg_get_ruledef(r.oid),
                         'enabled', r.ev_enabled, 'comment', obj_description(r.oid, 'pg_rewrite')) ORDER BY r.rulename), '[]')
                    FROM pg_rewrite r WHERE r.ev_class = whole AND r.rulename <> '_RETURN'),
        'policies', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                         'id', p.oid::bigint, 'name', p.polname, 'command', p.polcmd, 'permissive', p.polpermissive,
                         'roles', (SELECT jsonb_agg(CASE WHEN r <> 0 THEN pg_get_userbyid(r) END ORDER BY r)
                                     FROM unnest(p.polroles) AS r),
                         'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid),
                         'comment', obj_description(p.oid, 'pg_policy')) ORDER BY p.polname), '[]')
                       FROM pg_policy p WHERE p.polrelid = whole))); END $$;

-- A table (ordinary, partitioned, foreign), view or materialized view.
CREATE FUNCTION pgstream.ddl_relation(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object(
               'schema', n.nspname, 'name', c.relname, 'owner', pg_get_userbyid(c.relowner), 'kind', c.relkind,
               'persistence', c.relpersistence, 'options', c.reloptions,
               'columns', pgstream.ddl_columns(c.oid),
               'grants', pgstream.ddl_grants(c.relacl, 'r', c.relowner),
               'comment', obj_description(c.oid, 'pg_class'))
           || pgstream.ddl_attached(c.oid)
           || CASE WHEN c.relkind IN ('v', 'm') THEN jsonb_build_object(
               'query', rtrim(pg_get_viewdef(c.oid), '; '),
               'populated', c.relispopulated)
              ELSE jsonb_build_object(
               'of_type', CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END,
               'access_method', (SELECT amname FROM pg_am WHERE oid = c.relam),
               'toast_options', (SELECT reloptions FROM pg_class WHERE oid = c.reltoastrelid),
               'parents', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', i.inhparent::bigint,
                                  'name', i.inhparent::regclass::text) ORDER BY i.inhseqno), '[]')
                             FROM pg_inherits i WHERE i.inhrelid = c.oid),
               'partition_key', CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
               'bound', CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END,
               'replica_identity', c.relreplident,
               'replica_identity_index', (SELECT r.relname FROM pg_index x JOIN pg_class r ON r.oid = x.indexrelid
                                           WHERE x.indrelid = c.oid AND x.indisreplident),
               'row_security', c.relrowsecurity, 'force_row_security', c.relforcerowsecurity,
               'constraints', pgstream.ddl_constraints(c.oid, 0::oid)) END
           || CASE WHEN c.relkind <> 'v' THEN jsonb_build_object('indexes', pgstream.ddl_indexes(c.oid)) ELSE '{}' END
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = whole); END $$;

-- Enums, composite types, domains and ranges; another kind of type has no `kind`.
CREATE FUNCTION pgstream.ddl_type(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object(
               'schema', n.nspname, 'name', t.typname, 'owner', pg_get_userbyid(t.typowner),
               'kind', CASE WHEN t.typtype IN ('e', 'c', 'd', 'r') THEN t.typtype END,
               'grants', pgstream.ddl_grants(t.typacl, 'T', t.typowner),
               'comment', obj_description(t.oid, 'pg_type'))
           || CASE t.typtype
              WHEN 'e' THEN jsonb_build_object('labels', (
                  SELECT coalesce(jsonb_agg(jsonb_build_object('id', e.oid::bigint, 'label', e.enumlabel)
                                            ORDER BY e.enumsortorder), '[]')
                    FROM pg_enum e WHERE e.enumtypid = t.oid))
              WHEN 'c' THEN jsonb_build_object('columns', pgstream.ddl_columns(t.typrelid))
              WHEN 'd' THEN jsonb_build_object(
                  'base', format_type(t.typbasetype, t.typtypmod), 'not_null', t.typnotnull,
                  'default', pg_get_expr(t.typdefaultbin, 0),
                  'collation', (SELECT quote_ident(cn.nspname) || '.' || quote_ident(co.collname)
                                  FROM pg_collation co JOIN pg_namespace cn ON cn.oid = co.collnamespace
                                  JOIN pg_type b ON b.oid = t.typbasetype
                                 WHERE co.oid = t.typcollation AND t.typcollation <> b.typcollation),
                  'constraints', pgstream.ddl_constraints(0::oid, t.oid))
              WHEN 'r' THEN (
                  SELECT jsonb_build_object('create', format('CREATE TYPE %s AS RANGE (%s)', t.oid::regtype, concat_ws(', ',
                             'subtype = ' || format_type(r.rngsubtype, NULL),
                             'subtype_opclass = ' || quote_ident(ocn.nspname) || '.' || quote_ident(oc.opcname),
                             'collation = ' || quote_ident(cn.nspname) || '.' || quote_ident(c.collname),
                             'canonical = ' || nullif(r.rngcanonical::oid, 0)::regproc::text,
                             'subtype_diff = ' || nullif(r.rngsubdiff::oid, 0)::regproc::text,
                             'multirange_type_name = ' || nullif((to_jsonb(r)->>'rngmultitypid')::oid, 0)::regtype::text)))
                    FROM pg_range r JOIN pg_opclass oc ON oc.oid = r.rngsubopc JOIN pg_namespace ocn ON ocn.oid = oc.opcnamespace
                    LEFT JOIN pg_type st ON st.oid = r.rngsubtype
                    LEFT JOIN pg_collation c ON c.oid = r.rngcollation AND c.oid <> st.typcollation
                    LEFT JOIN pg_namespace cn ON cn.oid = c.collnamespace
                   WHERE r.rngtypid = t.oid)
              ELSE '{}' END
      FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE t.oid = whole); END $$;

-- Functions, procedures, window functions and aggregates.
CREATE FUNCTION pgstream.ddl_function(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object(
               'schema', n.nspname, 'name', p.proname, 
               'arguments', (SELECT coalesce(string_agg(format_type(a.type, NULL), ', ' ORDER BY a.n), '')
                               FROM unnest(p.proargtypes) WITH ORDINALITY AS a(type, n)),
               'owner', pg_get_userbyid(p.proowner), 'kind', p.prokind, 'result', pg_get_function_result(p.oid),
               'grants', pgstream.ddl_grants(p.proacl, 'f', p.proowner),
               'comment', obj_description(p.oid, 'pg_proc'),
               'create', CASE WHEN p.prokind <> 'a' THEN rtrim(pg_get_functiondef(p.oid), E'\n') ELSE (
                   SELECT format('CREATE OR REPLACE AGGREGATE %s.%s(%s) (%s)', quote_ident(n.nspname), quote_ident(p.proname),
                              CASE WHEN p.pronargs = 0 THEN '*' ELSE pg_get_function_arguments(p.oid) END, concat_ws(', ',
                       'SFUNC = ' || a.aggtransfn, 'STYPE = ' || format_type(a.aggtranstype, NULL),
                       'SSPACE = ' || nullif(a.aggtransspace, 0),
                       'FINALFUNC = ' || nullif(a.aggfinalfn::oid, 0)::regproc,
                       CASE WHEN a.aggfinalextra THEN 'FINALFUNC_EXTRA' END,
                       CASE WHEN a.aggfinalfn <> 0 THEN 'FINALFUNC_MODIFY = ' || CASE a.aggfinalmodify
                            WHEN 'r' THEN 'READ_ONLY' WHEN 's' THEN 'SHAREABLE' ELSE 'READ_WRITE' END END,
                       'COMBINEFUNC = ' || nullif(a.aggcombinefn::oid, 0)::regproc,
                       'SERIALFUNC = ' || nullif(a.aggserialfn::oid, 0)::regproc,
                       'DESERIALFUNC = ' || nullif(a.aggdeserialfn::oid, 0)::regproc,
                       'INITCOND = ' || quote_literal(a.agginitval),
                       'MSFUNC = ' || nullif(a.aggmtransfn::oid, 0)::regproc,
                       'MINVFUNC = ' || nullif(a.aggminvtransfn::oid, 0)::regproc,
                       'MSTYPE = ' || CASE WHEN a.aggmtranstype <> 0 THEN format_type(a.aggmtranstype, NULL) END,
                       'MSSPACE = ' || nullif(a.aggmtransspace, 0),
                       'MFINALFUNC = ' || nullif(a.aggmfinalfn::oid, 0)::regproc,
                       CASE WHEN a.aggmfinalextra THEN 'MFINALFUNC_EXTRA' END,
                       CASE WHEN a.aggmfinalfn <> 0 THEN 'MFINALFUNC_MODIFY = ' || CASE a.aggmfinalmodify
                            WHEN 'r' THEN 'READ_ONLY' WHEN 's' THEN 'SHAREABLE' ELSE 'READ_WRITE' END END,
                       'MINITCOND = ' || quote_literal(a.aggminitval),
                       'SORTOP = ' || (SELECT format('OPERATOR(%s.%s)', quote_ident(sn.nspname), o.oprname)
                                         FROM pg_operator o JOIN pg_namespace sn ON sn.oid = o.oprnamespace
                                        WHERE o.oid = a.aggsortop),
                       'PARALLEL = ' || CASE p.proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED' END,
                       CASE WHEN a.aggkind = 'h' THEN 'HYPOTHETICAL' END))
                     FROM pg_aggregate a WHERE a.aggfnoid = p.oid) END)
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE p.oid = whole); END $$;
