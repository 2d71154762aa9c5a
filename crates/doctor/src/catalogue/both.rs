//! Checks that compare the two servers.

use pgstream_config::pipeline::ObjectType;

use super::user_tables;
use crate::{
    check::{
        Ask::Compare,
        Category::{Access, Connectivity, Schema},
        Check, Comparison,
        Severity::{Error, Warning},
        Side::Target,
        Wrong::{Missing, Present},
    },
    plan::Plan,
};

/// Owners of what is copied, but roles that AWS makes and that are never copied.
const OWNERS: &str = concat!(
    "SELECT DISTINCT NULL, NULL, pg_get_userbyid(c.relowner)::text FROM ",
    user_tables!("'r', 'p', 'S', 'v', 'm', 'f'"),
    " WHERE pg_get_userbyid(c.relowner) NOT IN ('rdsadmin', 'rds_superuser', 'postgres')"
);

/// Whether the role is a superuser, or what RDS has instead.
macro_rules! is_administrator {
    () => {
        "EXISTS (SELECT FROM pg_roles r WHERE r.rolsuper AND r.rolname = current_user
                                           OR r.rolname = 'rds_superuser' AND pg_has_role(r.oid, 'MEMBER'))"
    };
}

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "connectivity.version",
        category: Connectivity,
        side: Target,
        severity: Error,
        why: "a definition or value of a newer server may not exist on an older one",
        applies: |_| true,
        ask: Compare(Comparison {
            source: "SELECT NULL, NULL, (current_setting('server_version_num')::int / 10000)::text",
            target: "SELECT generate_series(1, current_setting('server_version_num')::int / 10000)::text",
            wrong: Missing,
            found: "the target is older than the source, which is PostgreSQL {}",
            fix: "use a target of version {} or newer",
        }),
    },
    Check {
        id: "schema.encoding",
        category: Schema,
        side: Target,
        severity: Warning,
        why: "text that the target's encoding does not have is refused",
        applies: |_| true,
        ask: Compare(Comparison {
            source: "SELECT NULL, NULL, current_setting('server_encoding')",
            target: "SELECT CASE current_setting('server_encoding') WHEN 'UTF8' THEN '*' ELSE current_setting('server_encoding') END",
            wrong: Missing,
            found: "the source is encoded in {}, the target in something else than that or UTF8",
            fix: "create the target database with ENCODING '{}' TEMPLATE template0",
        }),
    },
    Check {
        id: "schema.locale",
        category: Schema,
        side: Target,
        severity: Warning,
        why: "text sorts differently on both sides: results, range partitions and constraints on order may differ",
        applies: |_| true,
        ask: Compare(Comparison {
            source: "SELECT NULL, NULL, datcollate::text FROM pg_database WHERE datname = current_database()",
            target: "SELECT datcollate::text FROM pg_database WHERE datname = current_database()",
            wrong: Missing,
            found: "the default collation of the source, {}, is not that of the target",
            fix: "create the target database with LC_COLLATE '{}' TEMPLATE template0",
        }),
    },
    Check {
        id: "schema.extension",
        category: Schema,
        side: Target,
        severity: Error,
        why: "CREATE EXTENSION fails, and with it everything that uses its types and functions",
        applies: |_| true,
        ask: Compare(Comparison {
            source: "SELECT NULL, NULL, extname::text FROM pg_extension",
            target: "SELECT name::text FROM pg_available_extensions UNION SELECT extname::text FROM pg_extension",
            wrong: Missing,
            found: "extension {} is not available on the target",
            fix: "install {} on the target (RDS: an engine version that has it, allowed by rds.allowed_extensions), or drop it \
                  from the source",
        }),
    },
    Check {
        id: "access.create_extension",
        category: Access,
        side: Target,
        severity: Error,
        why: "extensions that are not trusted are created by superusers, on RDS by members of rds_superuser: `permission denied to \
              create extension`",
        applies: |plan| plan.copies_type(ObjectType::Extensions) && !plan.creates_database(),
        ask: Compare(Comparison {
            source: "SELECT NULL, NULL, extname::text FROM pg_extension",
            target: concat!(
                "SELECT e.name::text FROM pg_available_extensions e
                 JOIN pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version
                 WHERE v.superuser AND NOT v.trusted AND e.installed_version IS NULL AND NOT ",
                is_administrator!()
            ),
            wrong: Present,
            found: "extension {} is to be created on the target, which the connecting role may not",
            fix: "as an administrator, in the target database: CREATE EXTENSION {ident};",
        }),
    },
    Check {
        id: "access.copied_event_trigger",
        category: Access,
        side: Target,
        severity: Error,
        why: "event triggers are created by superusers, on RDS by members of rds_superuser: the copy would fail at its end",
        applies: |plan| plan.copies_type(ObjectType::EventTriggers),
        ask: Compare(Comparison {
            source: "SELECT NULL, NULL, e.evtname::text FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
                     WHERE p.pronamespace IS DISTINCT FROM to_regnamespace('pgstream')
                       AND NOT EXISTS (SELECT FROM pg_depend d
                                       WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = e.oid AND d.deptype = 'e')",
            target: concat!("SELECT '*' WHERE NOT ", is_administrator!()),
            wrong: Present,
            found: "event trigger {} is to be created on the target, which the connecting role may not",
            fix: "set exclude_object_types: [\"event_triggers\"], or copy as a superuser (RDS: as a member of rds_superuser)",
        }),
    },
    Check {
        id: "schema.target_table_missing",
        category: Schema,
        side: Target,
        severity: Error,
        why: "rows are written into tables that must exist",
        applies: |plan| !plan.copies_schema(),
        ask: Compare(Comparison {
            source: concat!(
                "SELECT n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname) FROM ",
                user_tables!("'r', 'p'")
            ),
            target: concat!("SELECT format('%I.%I', n.nspname, c.relname) FROM ", user_tables!("'r', 'p', 'v', 'f'")),
            wrong: Missing,
            found: "the target has no table {}",
            fix: "copy the schema first: `pgstream-aws snapshot` with snapshot.mode: schema",
        }),
    },
    Check {
        id: "schema.target_not_empty",
        category: Schema,
        side: Target,
        severity: Error,
        why: "the copy creates these tables: it would stop at the first one",
        applies: |plan| plan.copies_schema() && !plan.creates_database(),
        ask: Compare(Comparison {
            source: concat!(
                "SELECT n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname) FROM ",
                user_tables!("'r', 'p'")
            ),
            target: concat!(
                "SELECT format('%I.%I', n.nspname, c.relname) FROM ",
                user_tables!("'r', 'p', 'v', 'f', 'm'"),
                " WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'pgstream')"
            ),
            wrong: Present,
            found: "the target has {} already, and no record of a copy",
            fix: "copy with --reset (builds the database anew beside, and swaps), or use an empty database",
        }),
    },
    Check {
        id: "access.owner_missing",
        category: Access,
        side: Target,
        severity: Error,
        why: "objects are given to the owners that they have on the source, and no roles are copied",
        applies: Plan::needs_owners,
        ask: Compare(Comparison {
            source: OWNERS,
            target: "SELECT rolname::text FROM pg_roles",
            wrong: Missing,
            found: "role {} owns objects of the source and is not on the target",
            fix: "CREATE ROLE {ident}; GRANT {ident} TO {role}; or set no_owner: true, or a roles_snapshot_mode",
        }),
    },
    Check {
        id: "access.createrole",
        category: Access,
        side: Target,
        severity: Error,
        why: "roles that the target lacks are created: `permission denied to create role`",
        applies: Plan::copies_roles,
        ask: Compare(Comparison {
            source: OWNERS,
            target: "SELECT rolname::text FROM pg_roles
                     UNION SELECT '*' FROM pg_roles WHERE rolname = current_user AND (rolcreaterole OR rolsuper)",
            wrong: Missing,
            found: "role {} must be created on the target, and the connecting role lacks CREATEROLE",
            fix: "as an administrator: ALTER ROLE {role} CREATEROLE; or create the role there yourself",
        }),
    },
    Check {
        id: "access.owner_membership",
        category: Access,
        side: Target,
        severity: Error,
        why: "what is copied is given to its owner, which only a member of that role may do: `must be member of role`, or from \
              16 on `must be able to SET ROLE`",
        applies: Plan::gives_owners,
        ask: Compare(Comparison {
            source: OWNERS,
            target: "SELECT rolname::text FROM pg_roles WHERE NOT pg_has_role(oid, 'MEMBER')",
            wrong: Present,
            found: "role {} owns objects of the source, and the connecting role is not a member of it on the target",
            fix: "GRANT {ident} TO {role};",
        }),
    },
    Check {
        id: "access.owner_create",
        category: Access,
        side: Target,
        severity: Error,
        why: "an owner must be able to create in the schema, or the transfer fails: `permission denied for schema …`",
        applies: Plan::gives_owners,
        ask: Compare(Comparison {
            source: concat!(
                "SELECT DISTINCT NULL, NULL, format('SCHEMA %I TO %I', n.nspname, pg_get_userbyid(c.relowner)) FROM ",
                user_tables!("'r', 'p', 'S', 'v', 'm', 'f'"),
                " WHERE pg_get_userbyid(c.relowner) NOT IN ('rdsadmin', 'rds_superuser', 'postgres')"
            ),
            // Superusers give ownership without this right.
            target: "SELECT format('SCHEMA %I TO %I', n.nspname, r.rolname) FROM pg_namespace n, pg_roles r
                     WHERE NOT has_schema_privilege(r.oid, n.oid, 'CREATE')
                       AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
            wrong: Present,
            found: "an owner of the source may not create objects in its schema on the target: {}",
            fix: "GRANT CREATE ON {};",
        }),
    },
    Check {
        id: "schema.type_missing",
        category: Schema,
        side: Target,
        severity: Error,
        why: "values of these types are written into columns of the same types",
        applies: |plan| !plan.copies_schema(),
        ask: Compare(Comparison {
            source: concat!(
                "SELECT n.nspname::text, c.relname::text, format('%I.%I', tn.nspname, t.typname) FROM ",
                user_tables!("'r', 'p'"),
                " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                  JOIN pg_type t ON t.oid = a.atttypid AND t.oid >= 16384 JOIN pg_namespace tn ON tn.oid = t.typnamespace"
            ),
            target: "SELECT format('%I.%I', n.nspname, t.typname) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace",
            wrong: Missing,
            found: "the target has no type {}",
            fix: "copy the schema first: `pgstream-aws snapshot` with snapshot.mode: schema",
        }),
    },
    Check {
        id: "access.copied_owner",
        category: Access,
        side: Target,
        severity: Error,
        why: "up to PostgreSQL 15 a role that creates another one may not act as it: ownership cannot be given to it",
        applies: Plan::copies_roles,
        ask: Compare(Comparison {
            source: OWNERS,
            target: "SELECT rolname::text FROM pg_roles
                     UNION SELECT '*' FROM pg_roles
                     WHERE rolname = current_user AND (rolsuper OR current_setting('server_version_num')::int >= 160000)",
            wrong: Missing,
            found: "role {} owns objects of the source, would be created by the copy, and could not be given them",
            fix: "CREATE ROLE {ident}; GRANT {ident} TO {role}; or set no_owner: true",
        }),
    },
    Check {
        id: "access.owner_in_new_database",
        category: Access,
        side: Target,
        severity: Error,
        why: "in a new database of PostgreSQL 15 or later only its owner may create in schema public, so that no other role \
              can be given what is in it: `permission denied for schema public`",
        applies: |plan| plan.creates_database() && plan.gives_owners(),
        ask: Compare(Comparison {
            source: concat!(
                "SELECT DISTINCT NULL, NULL, pg_get_userbyid(c.relowner)::text FROM ",
                user_tables!("'r', 'p', 'S', 'v', 'm', 'f'"),
                " WHERE n.nspname = 'public'
                    AND pg_get_userbyid(c.relowner) NOT IN ('rdsadmin', 'rds_superuser', 'postgres')"
            ),
            target: "SELECT rolname::text FROM pg_roles WHERE pg_has_role(oid, current_user, 'USAGE')
                     UNION SELECT '*' FROM pg_roles
                     WHERE rolname = current_user AND (rolsuper OR current_setting('server_version_num')::int < 150000)",
            wrong: Missing,
            found: "role {} owns objects in schema public of the source, and may not create there in the new database",
            fix: "set no_owner: true, or copy into a database that is there, without clean_target_db and create_target_db",
        }),
    },
];
