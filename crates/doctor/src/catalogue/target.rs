//! Checks of the target.

use super::user_tables;
use crate::{
    check::{
        Ask::{Rows, Try},
        Category::{Access, Connectivity, Replication, Resources, Schema},
        Check,
        Severity::{Error, Warning},
        Side::Target,
    },
    plan::Plan,
};

/// Whether as many connections are free as will be opened.
pub(super) const CONNECTIONS: &str = "
    SELECT NULL, NULL,
           format('%s of %s connections are free, up to {connections} are wanted', free, current_setting('max_connections')),
           'lower snapshot.data.table_workers and schema_workers, or raise max_connections'
    FROM (SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                 - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS free) f
    WHERE free < {connections}";

/// Limits that our sessions do not lift themselves.
pub(super) const TIME_LIMITS: &str = "
    SELECT NULL, NULL, format('%s is %s ms for role %s', name, setting, current_user),
           format('ALTER ROLE %I SET %s = 0;', current_user, name)
    FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout') AND setting <> '0'";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "connectivity.target_standby",
        category: Connectivity,
        side: Target,
        severity: Error,
        why: "nothing can be written there",
        applies: |_| true,
        ask: Rows(
            "SELECT NULL, NULL, 'the server is in recovery: a standby or reader',
                    'connect to the primary (Aurora: the cluster''s writer endpoint)'
             WHERE pg_is_in_recovery()",
        ),
    },
    Check {
        id: "connectivity.target_read_only",
        category: Connectivity,
        side: Target,
        severity: Error,
        why: "every write would be refused",
        applies: |_| true,
        ask: Rows(
            "SELECT NULL, NULL, 'transactions are read-only by default',
                    format('ALTER ROLE %I SET default_transaction_read_only = off;', current_user)
             WHERE current_setting('default_transaction_read_only') = 'on' AND NOT pg_is_in_recovery()",
        ),
    },
    Check {
        id: "access.create_on_database",
        category: Access,
        side: Target,
        severity: Error,
        why: "schemas are created on the target, among them pgstream, which holds the position",
        applies: |_| true,
        ask: Rows(
            "SELECT NULL, NULL, format('role %s may not create schemas in database %s', current_user, current_database()),
                    format('GRANT CREATE ON DATABASE %I TO %I;', current_database(), current_user)
             WHERE NOT has_database_privilege(current_database(), 'CREATE')
               AND NOT coalesce((SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'pgstream'), false)",
        ),
    },
    Check {
        id: "access.create_in_public",
        category: Access,
        side: Target,
        severity: Error,
        why: "tables are created in schema public: `permission denied for schema public` (the default from PostgreSQL 15 on)",
        applies: Plan::copies_schema,
        ask: Rows(
            "SELECT NULL, NULL, format('role %s may not create objects in schema public', current_user),
                    format('GRANT USAGE, CREATE ON SCHEMA public TO %I;', current_user)
             FROM pg_namespace WHERE nspname = 'public' AND NOT has_schema_privilege(oid, 'CREATE')",
        ),
    },
    Check {
        id: "access.createdb",
        category: Access,
        side: Target,
        severity: Error,
        why: "clean_target_db builds a database beside the present one, and create_target_db creates it",
        applies: Plan::creates_database,
        ask: Rows(
            "SELECT NULL, NULL, format('role %s may not create databases', current_user),
                    format('ALTER ROLE %I CREATEDB;', current_user)
             FROM pg_roles WHERE rolname = current_user AND NOT (rolcreatedb OR rolsuper)",
        ),
    },
    Check {
        id: "access.session_replication_role",
        category: Access,
        side: Target,
        severity: Error,
        why: "disable_triggers: true needs it: `permission denied to set parameter \"session_replication_role\"`",
        applies: |plan| plan.disables_triggers() && plan.follows(),
        ask: Try(
            "SET LOCAL session_replication_role = 'replica'",
            "set target.postgres.disable_triggers: false; or on RDS GRANT rds_superuser TO the role, elsewhere on 15 and later \
             GRANT SET ON PARAMETER session_replication_role TO the role",
        ),
    },
    Check {
        id: "access.write",
        category: Access,
        side: Target,
        severity: Error,
        why: "the stream reads and changes rows of the table",
        applies: |plan| !plan.copies_schema(),
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text,
                    format('role %s may not read and change rows of table %I.%I', current_user, n.nspname, c.relname),
                    format('GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON %I.%I TO %I;', n.nspname, c.relname, current_user)
             FROM ", user_tables!("'r', 'p'"), "
             WHERE NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                        AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
                        AND has_table_privilege(c.oid, 'TRUNCATE'))",
        )),
    },
    Check {
        id: "schema.always_trigger",
        category: Schema,
        side: Target,
        severity: Warning,
        why: "the trigger fires for replicated rows too, also while others are disabled: what it writes is written twice",
        applies: Plan::follows,
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text,
                    format('trigger %I of table %I.%I is ENABLE ALWAYS', t.tgname, n.nspname, c.relname),
                    format('ALTER TABLE %I.%I ENABLE TRIGGER %I;', n.nspname, c.relname, t.tgname)
             FROM ", user_tables!("'r', 'p'"), "
             JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled = 'A'",
        )),
    },
    Check {
        id: "replication.target_subscription",
        category: Replication,
        side: Target,
        severity: Warning,
        why: "two writers of the same rows collide",
        applies: |_| true,
        ask: Rows(
            "SELECT NULL, NULL, format('subscription %I writes to this database', s.subname),
                    format('ALTER SUBSCRIPTION %I DISABLE;', s.subname)
             FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid AND d.datname = current_database()
             WHERE s.subenabled",
        ),
    },
    Check {
        id: "resources.target_connections",
        category: Resources,
        side: Target,
        severity: Warning,
        why: "the copy opens several sessions; one that is refused is retried",
        applies: Plan::copies,
        ask: Rows(CONNECTIONS),
    },
    Check {
        id: "resources.target_time_limits",
        category: Resources,
        side: Target,
        severity: Warning,
        why: "sessions wait for changes and index builds are long: the server would end them",
        applies: |_| true,
        ask: Rows(TIME_LIMITS),
    },
    Check {
        id: "resources.temp_file_limit",
        category: Resources,
        side: Target,
        severity: Warning,
        why: "index builds of large tables sort on disk and fail at the limit",
        applies: Plan::copies_schema,
        ask: Rows(
            "SELECT NULL, NULL, format('temp_file_limit is %s', current_setting('temp_file_limit')),
                    format('as an administrator: ALTER ROLE %I SET temp_file_limit = -1;', current_user)
             FROM pg_settings WHERE name = 'temp_file_limit' AND setting <> '-1'",
        ),
    },
    Check {
        id: "access.target_schema",
        category: Access,
        side: Target,
        severity: Error,
        why: "schema pgstream holds the position and the record of what was copied",
        applies: |_| true,
        ask: Rows(
            "SELECT NULL, NULL, format('schema pgstream belongs to %I, and role %I may not use it', pg_get_userbyid(nspowner), current_user),
                    format('GRANT %I TO %I;', pg_get_userbyid(nspowner), current_user)
             FROM pg_namespace
             WHERE nspname = 'pgstream' AND NOT (has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'))",
        ),
    },
    Check {
        id: "access.database_owner",
        category: Access,
        side: Target,
        severity: Error,
        why: "clean_target_db swaps databases by renaming them, which their owner may do, with CREATEDB",
        applies: Plan::creates_database,
        ask: Rows(
            "SELECT NULL, NULL, format('database %I belongs to %I', datname, pg_get_userbyid(datdba)),
                    format('ALTER DATABASE %I OWNER TO %I;', datname, current_user)
             FROM pg_database WHERE datname = current_database() AND NOT pg_has_role(datdba, 'MEMBER')",
        ),
    },
];
