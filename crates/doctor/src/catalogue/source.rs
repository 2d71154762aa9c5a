//! Checks of the source. What `init` itself requires is asked of `init`: see [`crate::run`].

use super::user_tables;
use crate::{
    check::{
        Ask::{Rows, Try},
        Category::{Access, Connectivity, Replication, Resources, Schema},
        Check,
        Severity::{Error, Notice, Warning},
        Side::Source,
    },
    plan::Plan,
};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "connectivity.source_standby",
        category: Connectivity,
        side: Source,
        severity: Error,
        why: "a standby has no slots of its own that follow the primary's history, and its snapshots cannot be exported to a writer",
        applies: Plan::copies,
        ask: Rows(
            "SELECT NULL, NULL, 'the server is in recovery: a standby or reader',
                    'connect to the primary (Aurora: the cluster''s writer endpoint)'
             WHERE pg_is_in_recovery()",
        ),
    },
    Check {
        id: "replication.free_sender",
        category: Replication,
        side: Source,
        severity: Error,
        why: "following needs one WAL sender",
        applies: Plan::follows,
        ask: Rows(
            "SELECT NULL, NULL, format('all %s WAL senders are in use', current_setting('max_wal_senders')),
                    format('ALTER SYSTEM SET max_wal_senders = %s; then restart (RDS: in the parameter group), or end a consumer that nobody needs',
                           current_setting('max_wal_senders')::int + 2)
             WHERE (SELECT count(*) FROM pg_stat_get_wal_senders()) >= current_setting('max_wal_senders')::int",
        ),
    },
    Check {
        id: "replication.wal_sender_timeout",
        category: Replication,
        side: Source,
        severity: Warning,
        why: "a pause of the network or of this program longer than the timeout cuts the stream, again and again",
        applies: Plan::follows,
        ask: Rows(
            "SELECT NULL, NULL, format('wal_sender_timeout is %s', current_setting('wal_sender_timeout')),
                    'ALTER SYSTEM SET wal_sender_timeout = ''60s''; SELECT pg_reload_conf(); (RDS: in the parameter group)'
             FROM pg_settings WHERE name = 'wal_sender_timeout' AND setting::int8 BETWEEN 1 AND 9999",
        ),
    },
    Check {
        id: "replication.unlimited_wal",
        category: Replication,
        side: Source,
        severity: Notice,
        why: "while nobody reads the slot, WAL is kept until the disk of the source is full. A limit turns that into a lost slot \
              and a new copy: watch the slot in either case",
        applies: Plan::follows,
        ask: Rows(
            "SELECT NULL, NULL, 'max_slot_wal_keep_size is -1: a slot may keep WAL without limit',
                    'set max_slot_wal_keep_size to what the disk can spare, and watch `pgstream-aws status`'
             FROM pg_settings WHERE name = 'max_slot_wal_keep_size' AND setting = '-1'",
        ),
    },
    Check {
        id: "replication.idle_slot",
        category: Replication,
        side: Source,
        severity: Warning,
        why: "a slot that nobody reads keeps WAL and may fill the disk on which the new slot depends",
        applies: Plan::follows,
        ask: Rows(
            "SELECT NULL, NULL,
                    format('slot %s is not read by anybody and keeps %s of WAL', slot_name,
                           pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))),
                    format('if nobody needs it: SELECT pg_drop_replication_slot(%L);', slot_name)
             FROM pg_replication_slots
             WHERE NOT active AND slot_name <> {slot}
               AND NOT pg_is_in_recovery() AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > 256 * 1024 * 1024",
        ),
    },
    Check {
        id: "replication.standby_slots",
        category: Replication,
        side: Source,
        severity: Error,
        why: "changes of a slot that is carried over by failovers are sent only once these standbys have them: without one of \
              them the stream stands still, and nothing says why",
        applies: Plan::follows,
        ask: Rows(
            "SELECT NULL, NULL,
                    format('synchronized_standby_slots names %s, which %s', wanted,
                           CASE WHEN s.slot_name IS NULL THEN 'is not there' ELSE 'nobody reads' END),
                    'if that standby is gone: ALTER SYSTEM SET synchronized_standby_slots = ''''; SELECT pg_reload_conf(); '
                    '(RDS: in the parameter group)'
             FROM regexp_split_to_table(coalesce(current_setting('synchronized_standby_slots', true), ''), '[\\s,\"]+') wanted
             LEFT JOIN pg_replication_slots s ON s.slot_name = wanted
             WHERE wanted <> '' AND s.active IS NOT TRUE
               AND EXISTS (SELECT FROM pg_replication_slots o
                           WHERE o.slot_name = {slot} AND to_jsonb(o)->>'failover' = 'true')",
        ),
    },
    Check {
        id: "replication.long_transaction",
        category: Replication,
        side: Source,
        severity: Warning,
        why: "creating the slot waits until every transaction that was writing has ended",
        applies: Plan::follows,
        ask: Rows(
            "SELECT NULL, NULL,
                    format('process %s has had a writing transaction open for %s', pid, date_trunc('second', now() - xact_start)),
                    format('let it end, or end it: SELECT pg_terminate_backend(%s);', pid)
             FROM pg_stat_activity
             WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() AND now() - xact_start > interval '10 seconds'",
        ),
    },
    Check {
        id: "replication.prepared_transaction",
        category: Replication,
        side: Source,
        severity: Warning,
        why: "creating the slot waits until prepared transactions are committed or rolled back",
        applies: Plan::follows,
        ask: Rows(
            "SELECT NULL, NULL, format('a transaction of database %s was prepared at %s and is open', database, prepared),
                    format('in database %s: COMMIT PREPARED %L; or ROLLBACK PREPARED %L;', database, gid, gid)
             FROM pg_prepared_xacts",
        ),
    },
    Check {
        id: "access.usage",
        category: Access,
        side: Source,
        severity: Error,
        why: "pg_dump and the copy read every table of the schema",
        applies: Plan::copies,
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text, format('role %s may not use schema %I', current_user, n.nspname),
                    format('GRANT USAGE ON SCHEMA %I TO %I;', n.nspname, current_user)
             FROM ", user_tables!("'r', 'p', 'm', 'v', 'S'"), "
             WHERE NOT has_schema_privilege(n.oid, 'USAGE')",
        )),
    },
    Check {
        id: "access.select",
        category: Access,
        side: Source,
        severity: Error,
        why: "the copy reads the table, and pg_dump locks it",
        applies: Plan::copies,
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text, format('role %s may not read table %I.%I', current_user, n.nspname, c.relname),
                    format('GRANT SELECT ON TABLE %I.%I TO %I;', n.nspname, c.relname, current_user)
             FROM ", user_tables!("'r', 'p'"), "
             WHERE NOT has_table_privilege(c.oid, 'SELECT')",
        )),
    },
    Check {
        id: "access.select_sequence",
        category: Access,
        side: Source,
        severity: Warning,
        why: "the value of a sequence that cannot be read is not carried over: the target would hand out numbers again",
        applies: |_| true,
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text,
                    format('role %s may not read sequence %I.%I', current_user, n.nspname, c.relname),
                    format('GRANT SELECT ON SEQUENCE %I.%I TO %I;', n.nspname, c.relname, current_user)
             FROM ", user_tables!("'S'"), "
             WHERE NOT has_table_privilege(c.oid, 'SELECT')",
        )),
    },
    Check {
        id: "access.row_security",
        category: Access,
        side: Source,
        severity: Error,
        why: "rows are read with row_security = off, so that a policy is an error and never a silent filter",
        applies: Plan::copies,
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text,
                    format('policies of table %I.%I would hide rows from role %s', n.nspname, c.relname, current_user),
                    format('ALTER ROLE %I BYPASSRLS;', current_user)
             FROM ", user_tables!("'r', 'p'"), "
             WHERE row_security_active(c.oid)",
        )),
    },
    Check {
        id: "access.pg_authid",
        category: Access,
        side: Source,
        severity: Error,
        why: "roles_snapshot_mode: enabled reads password hashes, which only superusers may (on RDS nobody): pg_dumpall ends \
              with `permission denied for table pg_authid`",
        applies: Plan::copies_passwords,
        ask: Rows(
            "SELECT NULL, NULL, format('role %s may not read pg_authid', current_user),
                    'set roles_snapshot_mode: no_passwords (the default), and give the roles passwords on the target'
             WHERE NOT has_table_privilege('pg_authid', 'SELECT')",
        ),
    },
    Check {
        id: "schema.unlogged",
        category: Schema,
        side: Source,
        severity: Warning,
        why: "changes of an unlogged table are not in the WAL: nothing can follow them",
        applies: Plan::follows,
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text, format('table %I.%I is unlogged', n.nspname, c.relname),
                    format('ALTER TABLE %I.%I SET LOGGED;', n.nspname, c.relname)
             FROM ", user_tables!("'r', 'p'"), "
             WHERE c.relpersistence = 'u'",
        )),
    },
    Check {
        id: "schema.foreign_table",
        category: Schema,
        side: Source,
        severity: Notice,
        why: "the definition is copied; rows stay where they are, and the target must reach the foreign server itself",
        applies: |_| true,
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text, format('%I.%I is a foreign table', n.nspname, c.relname),
                    'check that the target can reach the foreign server, or leave the table out with excluded_tables'
             FROM ", user_tables!("'f'"), "",
        )),
    },
    Check {
        id: "schema.large_objects",
        category: Schema,
        side: Source,
        severity: Warning,
        why: "large objects are neither copied nor followed",
        applies: |_| true,
        ask: Rows(
            "SELECT NULL, NULL, format('the database holds %s large objects', count(*)),
                    'keep their content in a bytea column, or carry them over by yourself with pg_dump --large-objects'
             FROM pg_largeobject_metadata HAVING count(*) > 0",
        ),
    },
    Check {
        id: "schema.no_key",
        category: Schema,
        side: Source,
        severity: Notice,
        why: "without a key rows are told apart by all of their values: init sets REPLICA IDENTITY FULL, which is slower",
        applies: Plan::follows,
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text,
                    format('table %I.%I has no primary key that can be an identity', n.nspname, c.relname),
                    format('ALTER TABLE %I.%I ADD PRIMARY KEY (…);', n.nspname, c.relname)
             FROM ", user_tables!("'r'"), "
             WHERE c.relreplident IN ('d', 'f')
               AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid)",
        )),
    },
    Check {
        id: "schema.invalid_index",
        category: Schema,
        side: Source,
        severity: Warning,
        why: "an index whose build failed is built anew on the target; a unique one may find the duplicates that failed it",
        applies: Plan::copies_schema,
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text, format('index %I.%I is not valid', n.nspname, x.relname),
                    format('REINDEX INDEX CONCURRENTLY %I.%I; or DROP INDEX %I.%I;', n.nspname, x.relname, n.nspname, x.relname)
             FROM ", user_tables!("'r', 'p', 'm'"), "
             JOIN pg_index i ON i.indrelid = c.oid AND NOT i.indisvalid
             JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i'",
        )),
    },
    Check {
        id: "schema.collation_version",
        category: Schema,
        side: Source,
        severity: Warning,
        why: "the libraries sort differently from when indexes were built: unique indexes may hold duplicates, which the \
              target refuses",
        applies: Plan::copies,
        ask: Rows(
            "SELECT NULL, NULL,
                    format('collation %I.%I has version %s, the system has %s', n.nspname, l.collname, l.collversion,
                           pg_collation_actual_version(l.oid)),
                    format('rebuild indexes that use it, then: ALTER COLLATION %I.%I REFRESH VERSION;', n.nspname, l.collname)
             FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
             WHERE l.collversion IS NOT NULL AND l.oid >= 16384
               AND l.collversion IS DISTINCT FROM pg_collation_actual_version(l.oid)",
        ),
    },
    Check {
        id: "schema.tablespace",
        category: Schema,
        side: Source,
        severity: Notice,
        why: "tablespaces are not carried over (they mean nothing on RDS): the table lands in the target's default one",
        applies: Plan::copies_schema,
        ask: Rows(concat!(
            "SELECT n.nspname::text, c.relname::text, format('table %I.%I is in tablespace %I', n.nspname, c.relname, s.spcname),
                    'nothing to do, unless its place matters on the target'
             FROM ", user_tables!("'r', 'p', 'm'"), " JOIN pg_tablespace s ON s.oid = c.reltablespace",
        )),
    },
    Check {
        id: "resources.source_connections",
        category: Resources,
        side: Source,
        severity: Warning,
        why: "the copy opens several sessions; one that is refused is retried, while the application is refused as well",
        applies: Plan::copies,
        ask: Rows(super::target::CONNECTIONS),
    },
    Check {
        id: "resources.source_time_limits",
        category: Resources,
        side: Source,
        severity: Warning,
        why: "sessions of the copy wait and transactions are long: the server would end them",
        applies: |_| true,
        ask: Rows(super::target::TIME_LIMITS),
    },
    Check {
        id: "access.event_trigger",
        category: Access,
        side: Source,
        severity: Notice,
        why: "schema changes are recorded by event triggers, which only a superuser may create, on RDS a member of \
              rds_superuser. Without them schema changes are yours to make on both sides",
        applies: Plan::replays_ddl,
        ask: Try(
            "CREATE FUNCTION pg_temp.pgstream_try() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
             CREATE EVENT TRIGGER pgstream_try ON ddl_command_end EXECUTE FUNCTION pg_temp.pgstream_try()",
            "run `pgstream-aws init` as an administrator once (on RDS the master user); or set target.postgres.ignore_ddl: true",
        ),
    },
    Check {
        id: "replication.wal_limit",
        category: Replication,
        side: Source,
        severity: Warning,
        why: "one burst of writes between two checkpoints is more WAL than a slot may keep: a short stop of the stream loses it",
        applies: Plan::follows,
        ask: Rows(
            "SELECT NULL, NULL,
                    format('max_slot_wal_keep_size is %s, and max_wal_size %s', current_setting('max_slot_wal_keep_size'),
                           current_setting('max_wal_size')),
                    format('ALTER SYSTEM SET max_slot_wal_keep_size = ''%sMB''; SELECT pg_reload_conf(); (RDS: in the parameter group)',
                           4 * w.setting::int8)
             FROM pg_settings k, pg_settings w
             WHERE k.name = 'max_slot_wal_keep_size' AND w.name = 'max_wal_size' AND k.setting::int8 BETWEEN 0 AND w.setting::int8 - 1",
        ),
    },
];
