-- The rest of what can be described, and the one function that describes anything.

CREATE FUNCTION pgstream.ddl_schema(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object('name', nspname, 'owner', pg_get_userbyid(nspowner),
                              'grants', pgstream.ddl_grants(nspacl, 'n', nspowner),
                              'comment', obj_description(oid, 'pg_namespace'))
      FROM pg_namespace WHERE oid = whole); END $$;

CREATE FUNCTION pgstream.ddl_extension(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object('name', e.extname, 'version', e.extversion, 'schema', n.nspname,
                              'relocatable', e.extrelocatable, 'comment', obj_description(e.oid, 'pg_extension'))
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.oid = whole); END $$;

CREATE FUNCTION pgstream.ddl_operator(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object('schema', n.nspname, 'name', o.oprname, 'owner', pg_get_userbyid(o.oprowner),
               'identity', o.oid::regoperator::text, 'comment', obj_description(o.oid, 'pg_operator'),
               'create', format('CREATE OPERATOR %s.%s (%s)', quote_ident(n.nspname), o.oprname, concat_ws(', ',
                   'FUNCTION = ' || o.oprcode,
                   'LEFTARG = ' || CASE WHEN o.oprleft <> 0 THEN format_type(o.oprleft, NULL) END,
                   'RIGHTARG = ' || CASE WHEN o.oprright <> 0 THEN format_type(o.oprright, NULL) END,
                   'COMMUTATOR = ' || (SELECT format('OPERATOR(%s.%s)', quote_ident(cn.nspname), c.oprname)
                      FROM pg_operator c JOIN pg_namespace cn ON cn.oid = c.oprnamespace WHERE c.oid = o.oprcom),
                   'NEGATOR = ' || (SELECT format('OPERATOR(%s.%s)', quote_ident(cn.nspname), c.oprname)
                      FROM pg_operator c JOIN pg_namespace cn ON cn.oid = c.oprnamespace WHERE c.oid = o.oprnegate),
                   'RESTRICT = ' || nullif(o.oprrest::oid, 0)::regproc, 'JOIN = ' || nullif(o.oprjoin::oid, 0)::regproc,
                   CASE WHEN o.oprcanhash THEN 'HASHES' END, CASE WHEN o.oprcanmerge THEN 'MERGES' END)))
      FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
     WHERE o.oid = whole); END $$;

CREATE FUNCTION pgstream.ddl_cast(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object(
               'name', format('(%s AS %s)', format_type(castsource, NULL), format_type(casttarget, NULL)),
               'comment', obj_description(c.oid, 'pg_cast'),
               'create', format('CREATE CAST (%s AS %s) %s%s', format_type(castsource, NULL), format_type(casttarget, NULL),
                   CASE castmethod WHEN 'f' THEN 'WITH FUNCTION ' || castfunc::regprocedure
                                   WHEN 'i' THEN 'WITH INOUT' ELSE 'WITHOUT FUNCTION' END,
                   CASE castcontext WHEN 'a' THEN ' AS ASSIGNMENT' WHEN 'i' THEN ' AS IMPLICIT' ELSE '' END))
      FROM pg_cast c WHERE c.oid = whole); END $$;

CREATE FUNCTION pgstream.ddl_collation(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object('schema', n.nspname, 'name', c.collname, 'owner', pg_get_userbyid(c.collowner),
               'comment', obj_description(c.oid, 'pg_collation'),
               'create', format('CREATE COLLATION %s.%s (%s)', quote_ident(n.nspname), quote_ident(c.collname),
                   concat_ws(', ',
                       'provider = ' || CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
                       CASE WHEN c.collprovider = 'c' THEN
                            'lc_collate = ' || quote_literal(c.collcollate) || ', lc_ctype = ' || quote_literal(c.collctype)
                       ELSE 'locale = ' || quote_literal(coalesce(to_jsonb(c)->>'colllocale', to_jsonb(c)->>'colliculocale',
                                                                  c.collcollate)) END,
                       'rules = ' || quote_literal(to_jsonb(c)->>'collicurules'),
                       CASE WHEN NOT c.collisdeterministic THEN 'deterministic = false' END)))
      FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
     WHERE c.oid = whole); END $$;

CREATE FUNCTION pgstream.ddl_conversion(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object('schema', n.nspname, 'name', c.conname, 'owner', pg_get_userbyid(c.conowner),
               'comment', obj_description(c.oid, 'pg_conversion'),
               'create', format('CREATE %sCONVERSION %s.%s FOR %L TO %L FROM %s', CASE WHEN c.condefault THEN 'DEFAULT ' ELSE '' END,
                   quote_ident(n.nspname), quote_ident(c.conname), pg_encoding_to_char(c.conforencoding),
                   pg_encoding_to_char(c.contoencoding), c.conproc))
      FROM pg_conversion c JOIN pg_namespace n ON n.oid = c.connamespace
     WHERE c.oid = whole); END $$;

CREATE FUNCTION pgstream.ddl_ts_dictionary(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object('schema', n.nspname, 'name', d.dictname, 'owner', pg_get_userbyid(d.dictowner),
               'comment', obj_description(d.oid, 'pg_ts_dict'),
               'create', format('CREATE TEXT SEARCH DICTIONARY %s.%s (%s)', quote_ident(n.nspname), quote_ident(d.dictname),
                   concat_ws(', ', format('TEMPLATE = %s.%s', quote_ident(tn.nspname), quote_ident(t.tmplname)), d.dictinitoption)))
      FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace
      JOIN pg_ts_template t ON t.oid = d.dicttemplate JOIN pg_namespace tn ON tn.oid = t.tmplnamespace
     WHERE d.oid = whole); END $$;

CREATE FUNCTION pgstream.ddl_ts_configuration(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object('schema', n.nspname, 'name', c.cfgname, 'owner', pg_get_userbyid(c.cfgowner),
               'comment', obj_description(c.oid, 'pg_ts_config'),
               'mappings', (
                   SELECT coalesce(jsonb_agg(jsonb_build_object('token', m.alias, 'dictionaries', m.dicts) ORDER BY m.alias), '[]')
                     FROM (SELECT k.alias, string_agg(m.mapdict::regdictionary::text, ', ' ORDER BY m.mapseqno) AS dicts
                             FROM pg_ts_config_map m JOIN LATERAL ts_token_type(c.cfgparser) k ON k.tokid = m.maptokentype
                            WHERE m.mapcfg = c.oid GROUP BY 1) AS m),
               'create', format('CREATE TEXT SEARCH CONFIGURATION %s.%s (PARSER = %s.%s)', quote_ident(n.nspname),
                   quote_ident(c.cfgname), quote_ident(pn.nspname), quote_ident(p.prsname)))
      FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace
      JOIN pg_ts_parser p ON p.oid = c.cfgparser JOIN pg_namespace pn ON pn.oid = p.prsnamespace
     WHERE c.oid = whole); END $$;

CREATE FUNCTION pgstream.ddl_statistics(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object('schema', n.nspname, 'name', s.stxname, 'owner', pg_get_userbyid(s.stxowner),
               'comment', obj_description(s.oid, 'pg_statistic_ext'),
               'target', nullif(coalesce((to_jsonb(s)->>'stxstattarget')::int, -1), -1),
               'create', pg_get_statisticsobjdef(s.oid))
      FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
     WHERE s.oid = whole); END $$;

-- ALTER DEFAULT PRIVILEGES of one role, schema and kind of object.
CREATE FUNCTION pgstream.ddl_default_privileges(whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT jsonb_build_object('name', format('%s %s %s', pg_get_userbyid(d.defaclrole), n.nspname, d.defaclobjtype),
               'role', pg_get_userbyid(d.defaclrole), 'schema', n.nspname, 'objects', d.defaclobjtype,
               'grants', pgstream.ddl_grants(d.defaclacl, 'c', d.defaclrole),
               -- Within a schema, privileges are added to the global ones; global ones replace the built-in ones.
               'built_in', CASE WHEN d.defaclnamespace = 0 THEN
                   pgstream.ddl_grants(NULL, (CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END)::"char", d.defaclrole)
                   ELSE '[]' END)
      FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
     WHERE d.oid = whole); END $$;

-- The object that a catalog row is, or belongs to; no row for what nobody follows: temporary things, our own, system
-- catalogs, and members of extensions, which come and go with their extension.
CREATE FUNCTION pgstream.ddl_whole(classid oid, objid oid, OUT class text, OUT whole_class oid, OUT whole oid)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation pg_class;
    space oid;
BEGIN
    whole_class := classid;
    whole := objid;
    CASE classid
        WHEN 'pg_class'::regclass THEN NULL;
        WHEN 'pg_attrdef'::regclass THEN SELECT adrelid INTO whole FROM pg_attrdef WHERE oid = objid;
        WHEN 'pg_trigger'::regclass THEN SELECT tgrelid INTO whole FROM pg_trigger WHERE oid = objid;
        WHEN 'pg_rewrite'::regclass THEN SELECT ev_class INTO whole FROM pg_rewrite WHERE oid = objid;
        WHEN 'pg_policy'::regclass THEN SELECT polrelid INTO whole FROM pg_policy WHERE oid = objid;
        WHEN 'pg_constraint'::regclass THEN
            SELECT CASE WHEN conrelid <> 0 THEN conrelid ELSE contypid END,
                   CASE WHEN conrelid <> 0 THEN 'pg_class'::regclass ELSE 'pg_type'::regclass END
              INTO whole, whole_class FROM pg_constraint WHERE oid = objid;
        ELSE NULL;
    END CASE;
    IF classid IN ('pg_attrdef'::regclass, 'pg_trigger'::regclass, 'pg_rewrite'::regclass, 'pg_policy'::regclass) THEN
        whole_class := 'pg_class'::regclass;
    END IF;

    IF whole_class = 'pg_class'::regclass THEN
        SELECT * INTO relation FROM pg_class WHERE oid = whole;
        IF relation.relkind IN ('i', 'I') THEN
            SELECT c.* INTO relation FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE i.indexrelid = whole;
        ELSIF relation.relkind = 'S' THEN
            -- The sequence of an identity column is part of its table.
            SELECT c.* INTO relation FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid
             WHERE d.classid = 'pg_class'::regclass AND d.objid = whole AND d.deptype = 'i'
               AND d.refclassid = 'pg_class'::regclass;
            IF NOT FOUND THEN SELECT * INTO relation FROM pg_class WHERE oid = whole; END IF;
        END IF;
        space := relation.relnamespace;
        whole := relation.oid;
        IF relation.relpersistence = 't' THEN class := NULL; RETURN; END IF;
        class := CASE relation.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'f' THEN 'foreign_table'
                     WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized_view' WHEN 'S' THEN 'sequence' END;
        IF relation.relkind = 'c' THEN
            class := 'type';
            whole_class := 'pg_type'::regclass;
            whole := relation.reltype;
        END IF;
    ELSIF whole_class = 'pg_type'::regclass THEN
        SELECT typnamespace INTO space FROM pg_type t
         WHERE t.oid = whole AND t.typelem = 0 AND t.typtype IN ('e', 'c', 'd', 'r', 'b')
           AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'));
        IF FOUND THEN class := 'type'; END IF;
    ELSE
        CASE whole_class
            WHEN 'pg_namespace'::regclass THEN class := 'schema'; space := whole;
            WHEN 'pg_extension'::regclass THEN class := 'extension';
            WHEN 'pg_proc'::regclass THEN class := 'function'; SELECT pronamespace INTO space FROM pg_proc WHERE oid = whole;
            WHEN 'pg_operator'::regclass THEN
                class := 'operator';
                -- A shell operator stands for one that is still to come.
                SELECT oprnamespace INTO space FROM pg_operator WHERE oid = whole AND oprcode <> 0;
                IF NOT FOUND THEN class := NULL; END IF;
            WHEN 'pg_cast'::regclass THEN class := 'cast';
            WHEN 'pg_collation'::regclass THEN
                class := 'collation'; SELECT collnamespace INTO space FROM pg_collation WHERE oid = whole;
            WHEN 'pg_conversion'::regclass THEN
                class := 'conversion'; SELECT connamespace INTO space FROM pg_conversion WHERE oid = whole;
            WHEN 'pg_ts_dict'::regclass THEN
                class := 'text_search_dictionary'; SELECT dictnamespace INTO space FROM pg_ts_dict WHERE oid = whole;
            WHEN 'pg_ts_config'::regclass THEN
                class := 'text_search_configuration'; SELECT cfgnamespace INTO space FROM pg_ts_config WHERE oid = whole;
            WHEN 'pg_statistic_ext'::regclass THEN
                class := 'statistics'; SELECT stxnamespace INTO space FROM pg_statistic_ext WHERE oid = whole;
            WHEN 'pg_default_acl'::regclass THEN class := 'default_privileges';
            ELSE class := 'other';
        END CASE;
    END IF;
    IF space IS NOT NULL AND EXISTS (
           SELECT FROM pg_namespace WHERE oid = space
              AND (nspname IN ('pg_catalog', 'information_schema', 'pgstream') OR nspname ~ '^pg_(toast|temp)'))
       OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = whole_class AND d.objid = whole AND d.deptype = 'e') THEN
        class := NULL;
    END IF;
END $$;

-- The definition of an object; null when it is gone.
CREATE FUNCTION pgstream.ddl_describe(class text, whole oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    CASE class
        WHEN 'table' THEN pgstream.ddl_relation(whole)
        WHEN 'foreign_table' THEN pgstream.ddl_relation(whole)
        WHEN 'view' THEN pgstream.ddl_relation(whole)
        WHEN 'materialized_view' THEN pgstream.ddl_relation(whole)
        WHEN 'sequence' THEN pgstream.ddl_sequence(whole)
        WHEN 'type' THEN pgstream.ddl_type(whole)
        WHEN 'function' THEN pgstream.ddl_function(whole)
        WHEN 'schema' THEN pgstream.ddl_schema(whole)
        WHEN 'extension' THEN pgstream.ddl_extension(whole)
        WHEN 'operator' THEN pgstream.ddl_operator(whole)
        WHEN 'cast' THEN pgstream.ddl_cast(whole)
        WHEN 'collation' THEN pgstream.ddl_collation(whole)
        WHEN 'conversion' THEN pgstream.ddl_conversion(whole)
        WHEN 'text_search_dictionary' THEN pgstream.ddl_ts_dictionary(whole)
        WHEN 'text_search_configuration' THEN pgstream.ddl_ts_configuration(whole)
        WHEN 'statistics' THEN pgstream.ddl_statistics(whole)
        WHEN 'default_privileges' THEN pgstream.ddl_default_privileges(whole)
    END); END $$;

-- What hangs on an object and can be dropped by itself, and the parents that it can be separated from.
CREATE FUNCTION pgstream.ddl_parts(definition jsonb) RETURNS oid[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN (
    SELECT coalesce(array_agg(DISTINCT (part.id #>> '{}')::oid), '{}')
      FROM unnest(ARRAY['$.columns[*].default_id', '$.constraints[*].id', '$.constraints[*].index_id', '$.indexes[*].id',
                        '$.triggers[*].id', '$.rules[*].id', '$.policies[*].id', '$.parents[*].id']::jsonpath[]) AS path,
           jsonb_path_query(definition, path) AS part(id)
     WHERE jsonb_typeof(part.id) = 'number'); END $$;
