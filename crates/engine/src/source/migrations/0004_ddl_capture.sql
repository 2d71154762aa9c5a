-- Capture: every DDL command leaves one row in schema_log, inside its own transaction, with what each object that it
-- touched was before and is now.
--
--   table_rewrite ──> remembers which tables were rewritten, and why
--   sql_drop ───────> what is gone, and what lost a part ─┐
--   ddl_command_end > what was created or altered ────────┴─> describe, compare with ddl_objects ─> schema_log
--
-- Only differences are written, so it does not matter which of the two events tells of a change, or how often.

-- Why a command could not be described. The stream stops there.
ALTER TABLE pgstream.schema_log ADD COLUMN failure text;

-- Members of the log's owner may leave commands out: SET pgstream.skip_log = 'true'.
CREATE FUNCTION pgstream.ddl_is_skipped() RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    RETURN lower(coalesce(current_setting('pgstream.skip_log', true), '')) IN ('true', 'on', '1', 'yes')
       AND pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = 'pgstream.schema_log'::regclass), 'MEMBER');
END $$;

-- Passwords do not belong into a log.
CREATE FUNCTION pgstream.ddl_redacted(query text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    RETURN left(regexp_replace(regexp_replace(query,
        '(password\s*(=\s*)?)(E?''([^'']|'''')*''|\$([A-Za-z_]*)\$.*?\$\5\$)', '\1''***''', 'gi'),
        '(password\s*=\s*)[^\s'']+', '\1***', 'gi'), 65536);
END $$;

-- Objects whose catalog rows this transaction has written (or a later one, which does no harm): some commands do not
-- tell what they touched.
CREATE FUNCTION pgstream.ddl_swept() RETURNS TABLE (classid oid, objid oid)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine integer := age(pg_current_xact_id()::xid);
BEGIN
    RETURN QUERY
    SELECT 'pg_namespace'::regclass::oid, c.oid FROM pg_namespace c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_type'::regclass, c.oid FROM pg_type c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_class'::regclass, c.oid FROM pg_class c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_class'::regclass, c.attrelid FROM pg_attribute c WHERE age(c.xmin) <= mine AND c.attnum > 0
    UNION SELECT 'pg_proc'::regclass, c.oid FROM pg_proc c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_operator'::regclass, c.oid FROM pg_operator c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_collation'::regclass, c.oid FROM pg_collation c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_conversion'::regclass, c.oid FROM pg_conversion c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_ts_dict'::regclass, c.oid FROM pg_ts_dict c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_ts_config'::regclass, c.oid FROM pg_ts_config c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_statistic_ext'::regclass, c.oid FROM pg_statistic_ext c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_policy'::regclass, c.oid FROM pg_policy c WHERE age(c.xmin) <= mine
    UNION SELECT 'pg_default_acl'::regclass, c.oid FROM pg_default_acl c WHERE age(c.xmin) <= mine;
END $$;

-- Whether a server that is told of the new types computes the same values: no USING, and casts that depend on nothing.
CREATE FUNCTION pgstream.ddl_casts_alike(old jsonb, new jsonb) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    IF current_query() !~* '^\s*alter\s+table' OR current_query() ~* '\musing\M' OR current_query() ~ ';\s*\S' THEN
        RETURN false;
    END IF;
    RETURN NOT EXISTS (
        SELECT FROM jsonb_array_elements(old->'columns') AS o JOIN jsonb_array_elements(new->'columns') AS n
            ON n->'num' = o->'num' AND n->'type_id' <> o->'type_id'
         WHERE NOT EXISTS (SELECT FROM pg_cast c LEFT JOIN pg_proc p ON p.oid = c.castfunc
                            WHERE c.castsource = (o->>'type_id')::oid AND c.casttarget = (n->>'type_id')::oid
                              AND (c.castmethod = 'b' OR p.provolatile = 'i')));
END $$;

-- Whether the rows of a rewritten table cannot be computed anew elsewhere. Reasons as in pg_event_trigger_table_rewrite_reason:
-- 2 columns got values that are no constant (generated ones are the same everywhere), 4 a column's type changed. The rows of
-- an unlogged table were never in the stream.
CREATE FUNCTION pgstream.ddl_must_copy(rewritten integer, old jsonb, new jsonb) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    RETURN coalesce(old->>'persistence' = 'u' AND new->>'persistence' = 'p', false)
        OR ((rewritten & 2) <> 0 AND EXISTS (
               SELECT FROM jsonb_array_elements(new->'columns') AS n
                WHERE n->>'generated' = '' AND NOT old->'columns' @> jsonb_build_array(jsonb_build_object('num', n->'num'))))
        OR ((rewritten & 4) <> 0 AND NOT pgstream.ddl_casts_alike(old, new));
END $$;

-- Which tables a publication by list is meant to have, as the configuration says; null stands for any name.
CREATE TABLE pgstream.ddl_followed (
    publication  text     NOT NULL,
    item         integer  NOT NULL,
    list         text     NOT NULL CHECK (list IN ('all', 'include', 'exclude', 'schema_only')),
    schema_name  text,
    table_name   text,
    PRIMARY KEY (publication, item)
);

-- Exclusion beats a table that is listed by name, that beats a wildcard of schema-only tables, and that one of listed ones.
CREATE FUNCTION pgstream.ddl_is_followed(of_publication text, of_schema text, of_table text) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lists text[];
    named text[];
BEGIN
    SELECT array_agg(f.list), array_agg(f.list) FILTER (WHERE f.schema_name IS NOT NULL AND f.table_name IS NOT NULL)
      INTO lists, named
      FROM pgstream.ddl_followed f
     WHERE f.publication = of_publication AND coalesce(f.schema_name, of_schema) = of_schema
       AND coalesce(f.table_name, of_table) = of_table;
    RETURN CASE
        WHEN 'exclude' = ANY (lists) OR 'schema_only' = ANY (named) THEN false
        WHEN 'include' = ANY (named) THEN true
        WHEN 'schema_only' = ANY (lists) THEN false
        ELSE coalesce('include' = ANY (lists), false) OR (EXISTS (
                 SELECT FROM pgstream.ddl_followed f WHERE f.publication = of_publication) AND NOT EXISTS (
                 SELECT FROM pgstream.ddl_followed f WHERE f.publication = of_publication AND f.list = 'include'))
    END;
END $$;

-- A new table joins the publications that are lists and are meant to have it, before it has a row.
CREATE FUNCTION pgstream.ddl_publish(whole oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    publication name;
BEGIN
    FOR publication IN
        SELECT p.pubname FROM pg_publication p, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = whole AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT p.puballtables
           AND pgstream.ddl_is_followed(p.pubname, n.nspname, c.relname)
           AND NOT EXISTS (SELECT FROM pg_publication_rel r
                            WHERE r.prpubid = p.oid AND (r.prrelid = whole OR r.prrelid IN (SELECT pg_partition_ancestors(whole))))
    LOOP
        EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %s', publication, whole::regclass);
    END LOOP;
END $$;

-- An UPDATE of a published table without a key is refused: it gets REPLICA IDENTITY FULL, until it has a key.
CREATE FUNCTION pgstream.ddl_identify(whole oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
BEGIN
    SELECT c.relreplident, n.nspname, c.relname,
           -- A deferrable key does not identify rows.
           EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate) AS keyed,
           EXISTS (SELECT FROM pgstream.replica_identities r WHERE r.table_oid = c.oid) AS ours
      INTO t
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = whole AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
       AND EXISTS (SELECT FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid
                    WHERE p.puballtables OR r.prrelid = whole OR r.prrelid IN (SELECT pg_partition_ancestors(whole)));
    IF NOT FOUND THEN RETURN; END IF;
    IF t.relreplident = 'd' AND NOT t.keyed THEN
        INSERT INTO pgstream.replica_identities (table_oid, schema_name, table_name, previous)
        VALUES (whole, t.nspname, t.relname, 'd') ON CONFLICT (table_oid) DO NOTHING;
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', whole::regclass);
    ELSIF t.relreplident = 'f' AND t.keyed AND t.ours THEN
        DELETE FROM pgstream.replica_identities WHERE table_oid = whole;
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', whole::regclass);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'pgstream: table % has no key and belongs to another role: UPDATE and DELETE on it fail until it has a '
        'primary key or REPLICA IDENTITY FULL', whole::regclass;
END $$;

-- What one object was and is, and takes note of it; null when neither its definition nor its rows changed.
CREATE FUNCTION pgstream.ddl_difference(of_class text, of_classid oid, whole oid, rewritten integer) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old jsonb;
    new jsonb := pgstream.ddl_describe(of_class, whole);
    stable uuid;
    must_copy boolean;
BEGIN
    SELECT definition INTO old FROM pgstream.ddl_objects WHERE classid = of_classid AND objid = whole;
    must_copy := old IS NOT NULL AND new IS NOT NULL AND pgstream.ddl_must_copy(rewritten, old, new);
    -- ALTER COLUMN … TYPE … USING may keep the type and change every row.
    IF old IS NOT DISTINCT FROM new AND NOT must_copy THEN RETURN NULL; END IF;
    IF of_class = 'table' THEN
        INSERT INTO pgstream.table_ids (table_oid) VALUES (whole) ON CONFLICT (table_oid) DO NOTHING;
        SELECT id INTO stable FROM pgstream.table_ids WHERE table_oid = whole;
    END IF;
    IF new IS NULL THEN
        DELETE FROM pgstream.ddl_objects WHERE classid = of_classid AND objid = whole;
        DELETE FROM pgstream.table_ids WHERE of_class = 'table' AND table_oid = whole;
        DELETE FROM pgstream.replica_identities WHERE of_class = 'table' AND table_oid = whole;
    ELSE
        INSERT INTO pgstream.ddl_objects AS o (classid, objid, class, definition, parts)
        VALUES (of_classid, whole, of_class, new, pgstream.ddl_parts(new))
        ON CONFLICT (classid, objid) DO UPDATE SET class = of_class, definition = new, parts = excluded.parts;
    END IF;
    RETURN jsonb_build_object('class', of_class, 'id', whole::bigint, 'stable_id', stable, 'was', old, 'is', new,
        'must_copy', must_copy);
END $$;

-- Tables whose definition follows from that of another: descendants, also those until now, and tables of a composite type.
CREATE FUNCTION pgstream.ddl_descendants(of_class text, whole oid) RETURNS SETOF oid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    IF of_class = 'type' THEN
        RETURN QUERY SELECT c.oid FROM pg_class c WHERE c.reloftype = whole;
    ELSIF of_class IN ('table', 'foreign_table') THEN
        RETURN QUERY
        WITH RECURSIVE below(oid, depth) AS (
            SELECT inhrelid, 1 FROM pg_inherits WHERE inhparent = whole
            UNION
            SELECT o.objid, 1 FROM pgstream.ddl_objects o
             WHERE o.parts @> ARRAY[whole] AND o.definition->'parents' @> jsonb_build_array(jsonb_build_object('id', whole::bigint))
            UNION
            SELECT i.inhrelid, below.depth + 1 FROM below JOIN pg_inherits i ON i.inhparent = below.oid)
        SELECT below.oid FROM below GROUP BY 1 ORDER BY max(below.depth), 1;
    END IF;
END $$;

-- The differences of everything in the list and of what follows from it, in order.
CREATE FUNCTION pgstream.ddl_differences(classids oid[], objids oid[]) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rewrites jsonb := coalesce(nullif(current_setting('pgstream.rewritten', true), ''), '{}')::jsonb;
    differences jsonb := '[]';
    difference jsonb;
    seen text[] := '{}';
    object record;
    descendant oid;
BEGIN
    FOR i IN 1 .. coalesce(cardinality(classids), 0) LOOP
        SELECT * INTO object FROM pgstream.ddl_whole(classids[i], objids[i]);
        IF object.class IS NULL OR object.class = 'other' THEN
            -- Gone: known as what it was.
            SELECT o.class, o.classid AS whole_class, o.objid AS whole INTO object
              FROM pgstream.ddl_objects o WHERE o.classid = classids[i] AND o.objid = objids[i];
        END IF;
        CONTINUE WHEN object.class IS NULL OR format('%s %s', object.whole_class, object.whole) = ANY (seen);
        seen := seen || format('%s %s', object.whole_class, object.whole);
        difference := pgstream.ddl_difference(object.class, object.whole_class, object.whole,
                                              coalesce((rewrites->>(object.whole::text))::integer, 0));
        IF difference IS NOT NULL THEN differences := differences || difference; END IF;
        IF object.class = 'schema' AND difference #> '{was,name}' <> difference #> '{is,name}' THEN
            -- Everything in it is now called otherwise, without having been touched.
            PERFORM pgstream.ddl_difference(o.class, o.classid, o.objid, 0) FROM pgstream.ddl_objects o
              WHERE o.definition->'schema' = difference #> '{was,name}';
        END IF;
        FOR descendant IN SELECT * FROM pgstream.ddl_descendants(object.class, object.whole) LOOP
            CONTINUE WHEN format('%s %s', 'pg_class'::regclass::oid, descendant) = ANY (seen);
            SELECT * INTO object FROM pgstream.ddl_whole('pg_class'::regclass, descendant);
            CONTINUE WHEN object.class IS NULL;
            seen := seen || format('%s %s', object.whole_class, object.whole);
            difference := pgstream.ddl_difference(object.class, object.whole_class, object.whole,
                                                  coalesce((rewrites->>(descendant::text))::integer, 0));
            IF difference IS NOT NULL THEN differences := differences || difference; END IF;
        END LOOP;
    END LOOP;
    RETURN differences;
END $$;

-- Objects that nobody describes: named, so that whoever reads the log can decide.
CREATE FUNCTION pgstream.ddl_others() RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object('class', 'other', 'type', c.object_type, 'identity', c.object_identity)), '[]')
      FROM pg_event_trigger_ddl_commands() c
     WHERE NOT c.in_extension AND c.classid IS NOT NULL
       AND c.object_type NOT LIKE 'publication%' AND c.object_type NOT LIKE 'subscription%'
       AND (pgstream.ddl_whole(c.classid, c.objid)).class = 'other'); END $$;

CREATE FUNCTION pgstream.ddl_dropped_others() RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object('class', 'other', 'type', d.object_type, 'identity', d.object_identity)), '[]')
      FROM pg_event_trigger_dropped_objects() d
     WHERE d.original AND d.object_type IN ('operator class', 'operator family', 'text search parser', 'text search template',
           'language', 'transform', 'foreign-data wrapper', 'server', 'user mapping', 'access method')); END $$;

CREATE FUNCTION pgstream.ddl_write(command text, differences jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    IF differences <> '[]' THEN
        INSERT INTO pgstream.schema_log (command, objects, query)
        VALUES (command, differences, pgstream.ddl_redacted(current_query()));
    END IF;
END $$;

CREATE FUNCTION pgstream.ddl_altered(command text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    classids oid[];
    objids oid[];
    differences jsonb;
    filled jsonb;
BEGIN
    IF command IN ('GRANT', 'REVOKE', 'ALTER DEFAULT PRIVILEGES', 'REASSIGN OWNED', 'DROP OWNED') THEN
        SELECT array_agg(s.classid), array_agg(s.objid) INTO classids, objids FROM pgstream.ddl_swept() s;
    ELSE
        SELECT array_agg(c.classid ORDER BY c.n), array_agg(c.objid ORDER BY c.n) INTO classids, objids
          FROM (SELECT row_number() OVER () AS n, * FROM pg_event_trigger_ddl_commands()) AS c
         WHERE NOT c.in_extension AND c.classid IS NOT NULL;
    END IF;
    differences := pgstream.ddl_differences(classids, objids);
    IF command IN ('CREATE TABLE AS', 'SELECT INTO') THEN
        SELECT jsonb_agg(d || '{"filled": true}') INTO differences FROM jsonb_array_elements(differences) AS d;
    ELSIF command = 'REFRESH MATERIALIZED VIEW' THEN
        SELECT jsonb_agg(jsonb_build_object('class', 'materialized_view', 'id', o.objid::bigint, 'was', o.definition,
                                            'is', o.definition, 'filled', true)) INTO filled
          FROM pgstream.ddl_objects o WHERE o.classid = 'pg_class'::regclass AND o.objid = ANY (objids);
        differences := differences || coalesce(filled, '[]');
    END IF;
    PERFORM pgstream.ddl_write(command, coalesce(differences, '[]') || pgstream.ddl_others());
    IF command IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE SCHEMA') THEN
        PERFORM pgstream.ddl_publish((d->>'id')::oid) FROM jsonb_array_elements(differences) AS d
          WHERE d->>'class' = 'table' AND d->'was' = 'null';
        PERFORM pgstream.ddl_identify((d->>'id')::oid) FROM jsonb_array_elements(differences) AS d
          WHERE d->>'class' = 'table' AND d->'is' <> 'null'
            AND d #> '{was,constraints}' IS DISTINCT FROM d #> '{is,constraints}';
    END IF;
END $$;

CREATE FUNCTION pgstream.ddl_dropped(command text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    classids oid[];
    objids oid[];
BEGIN
    SELECT array_agg(o.classid ORDER BY o.n), array_agg(o.objid ORDER BY o.n) INTO classids, objids
      FROM (SELECT o.classid, o.objid, min(d.n) AS n
              FROM (SELECT row_number() OVER () AS n, * FROM pg_event_trigger_dropped_objects()) AS d
              JOIN pgstream.ddl_objects o ON (o.classid = d.classid AND o.objid = d.objid) OR o.parts @> ARRAY[d.objid]
             GROUP BY 1, 2) AS o;
    PERFORM pgstream.ddl_write(command, pgstream.ddl_differences(classids, objids) || pgstream.ddl_dropped_others());
END $$;

CREATE FUNCTION pgstream.ddl_capture() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off SET quote_all_identifiers = off
    SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    problem text;
    detail text;
    context text;
BEGIN
    IF pgstream.ddl_is_skipped() THEN RETURN; END IF;
    IF TG_EVENT = 'table_rewrite' THEN
        PERFORM set_config('pgstream.rewritten',
            (coalesce(nullif(current_setting('pgstream.rewritten', true), ''), '{}')::jsonb
             || jsonb_build_object(pg_event_trigger_table_rewrite_oid()::text, pg_event_trigger_table_rewrite_reason()))::text, true);
        RETURN;
    END IF;
    BEGIN
        IF TG_EVENT = 'sql_drop' THEN
            PERFORM pgstream.ddl_dropped(TG_TAG);
        ELSE
            PERFORM pgstream.ddl_altered(TG_TAG);
            PERFORM set_config('pgstream.rewritten', '', true);
        END IF;
    EXCEPTION
        -- What the client would see without us, too, and can try again.
        WHEN serialization_failure OR deadlock_detected OR lock_not_available THEN RAISE;
        WHEN OTHERS THEN
            IF current_setting('pgstream.capture_failure', true) = 'error' THEN RAISE; END IF;
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, context = PG_EXCEPTION_CONTEXT;
            BEGIN
                INSERT INTO pgstream.schema_log (command, objects, query, failure)
                VALUES (TG_TAG, '[]', pgstream.ddl_redacted(current_query()), concat_ws(E'\n', problem, nullif(detail, ''),
                        (SELECT string_agg(line, E'\n') FROM regexp_split_to_table(context, E'\n') AS line
                          WHERE line LIKE 'PL/pgSQL%')));
                RAISE WARNING 'pgstream: the stream will stop at this %: it could not be described (%)', TG_TAG, problem;
            EXCEPTION WHEN OTHERS THEN
                RAISE WARNING 'pgstream: this % is not recorded (%): run pgstream-aws init', TG_TAG, SQLERRM;
            END;
    END;
END $$;

-- Describes everything anew: when capture begins, and after transactions that began before it have ended. Nobody's
-- change is overwritten: who changes something waits for this, and this waits for them.
CREATE FUNCTION pgstream.ddl_refresh() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET quote_all_identifiers = off
    SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    objects bigint;
BEGIN
    LOCK TABLE pgstream.ddl_objects IN EXCLUSIVE MODE;
    DELETE FROM pgstream.ddl_objects;
    INSERT INTO pgstream.ddl_objects (classid, objid, class, definition, parts)
    SELECT w.whole_class, w.whole, w.class, d.definition, pgstream.ddl_parts(d.definition)
      FROM (SELECT DISTINCT w.whole_class, w.whole, w.class
              FROM (SELECT 'pg_namespace'::regclass::oid AS classid, oid FROM pg_namespace
                    UNION ALL SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
                    UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typtype IN ('e', 'c', 'd', 'r', 'b')
                    UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc
                    UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator
                    UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast WHERE oid >= 16384
                    UNION ALL SELECT 'pg_collation'::regclass, oid FROM pg_collation
                    UNION ALL SELECT 'pg_conversion'::regclass, oid FROM pg_conversion
                    UNION ALL SELECT 'pg_ts_dict'::regclass, oid FROM pg_ts_dict
                    UNION ALL SELECT 'pg_ts_config'::regclass, oid FROM pg_ts_config
                    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext
                    UNION ALL SELECT 'pg_default_acl'::regclass, oid FROM pg_default_acl
                    UNION ALL SELECT 'pg_extension'::regclass, oid FROM pg_extension) AS everything
             CROSS JOIN LATERAL pgstream.ddl_whole(everything.classid, everything.oid) AS w
             WHERE (everything.oid >= 16384 OR everything.classid = 'pg_namespace'::regclass) AND w.class IS NOT NULL) AS w
     CROSS JOIN LATERAL (SELECT pgstream.ddl_describe(w.class, w.whole) AS definition) AS d
     WHERE d.definition IS NOT NULL;
    GET DIAGNOSTICS objects = ROW_COUNT;
    INSERT INTO pgstream.table_ids (table_oid) SELECT objid FROM pgstream.ddl_objects WHERE class = 'table'
        ON CONFLICT (table_oid) DO NOTHING;
    RETURN objects;
END $$;

-- Nobody but the owner calls these.
DO $$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN SELECT oid FROM pg_proc WHERE pronamespace = 'pgstream'::regnamespace AND proname LIKE 'ddl\_%' LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;

-- Default privileges may have granted more than is good.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT c.oid::regclass AS relation,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
          FROM pg_class c, aclexplode(c.relacl) a
         WHERE c.relnamespace = 'pgstream'::regnamespace AND c.relname IN ('ddl_objects', 'ddl_followed')
           AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON TABLE %s FROM %s', granted.relation, granted.grantee);
    END LOOP;
END $$;

-- The role that replicates copies tables again, and reads what they look like.
GRANT SELECT ON pgstream.ddl_objects TO PUBLIC;
