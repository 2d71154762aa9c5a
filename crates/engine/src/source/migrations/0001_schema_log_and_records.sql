-- What the source keeps about itself. Users hand schema_log, table_ids and xid_serial to the role that replicates with
-- ALTER ... OWNER TO, so no sequence here is owned by a column (its owner could not be changed then).

-- Orders schema_log.
CREATE SEQUENCE pgstream.xid_serial AS bigint;

-- One row per DDL command: what exists after it. It is published, so it arrives in order inside its own transaction.
CREATE TABLE pgstream.schema_log (
    id              bigint      NOT NULL PRIMARY KEY DEFAULT nextval('pgstream.xid_serial'),
    -- the 64-bit id of the transaction that ran the command
    transaction_id  bigint      NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    -- command tag, e.g. ALTER TABLE
    command         text        NOT NULL,
    -- per object: class, identity, stable id, definition
    objects         jsonb       NOT NULL,
    -- for people; passwords are removed
    query           text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The stable id of a table: survives renames, and unlike an oid means nothing else on another server.
CREATE TABLE pgstream.table_ids (
    table_oid       oid         NOT NULL PRIMARY KEY,
    id              uuid        NOT NULL UNIQUE DEFAULT gen_random_uuid()
);

-- One row per slot. Written before the slot is created, completed after: a slot without a row is not ours.
CREATE TABLE pgstream.replication_slots (
    slot_name          text        NOT NULL PRIMARY KEY,
    plugin             text        NOT NULL,
    system_identifier  text        NOT NULL,
    -- the slot was there before, and is not ours to drop
    adopted            boolean     NOT NULL DEFAULT false,
    -- the stream can begin here; null while the slot is being created
    consistent_point   pg_lsn,
    -- pg_current_snapshot() right after the slot was created; null while it is being created
    created_snapshot   text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    CHECK ((consistent_point IS NULL) = (created_snapshot IS NULL))
);

-- Tables that were given REPLICA IDENTITY FULL, and what they had before.
CREATE TABLE pgstream.replica_identities (
    table_oid       oid         NOT NULL PRIMARY KEY,
    schema_name     text        NOT NULL,
    table_name      text        NOT NULL,
    -- pg_class.relreplident: d default, n nothing, i index
    previous        "char"      NOT NULL CHECK (previous IN ('d', 'n', 'i')),
    -- for i, unless that index is gone
    previous_index  text,
    changed_at      timestamptz NOT NULL DEFAULT now()
);

-- Default privileges may have granted more than is good: whoever can write schema_log can run DDL on the target.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT c.oid::regclass AS relation, c.relkind,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace = 'pgstream'::regnamespace AND a.grantee <> c.relowner
          AND c.relname IN ('xid_serial', 'schema_log', 'table_ids', 'replication_slots', 'replica_identities', 'migrations')
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s', CASE granted.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                       granted.relation, granted.grantee);
    END LOOP;
END $$;

-- These stay with whoever ran init when the rest is handed over, and the role that replicates reads them.
GRANT SELECT ON pgstream.migrations, pgstream.replication_slots, pgstream.replica_identities TO PUBLIC;
