-- What was copied with the schema, and which schema changes were applied since.

-- The snapshot under which the schema was copied: changes that it sees are part of it.
CREATE TABLE pgstream.schema_snapshot (
    source             text        NOT NULL PRIMARY KEY,
    snapshot           text        NOT NULL,
    -- nothing that committed at or after this position is part of it
    snapshot_lsn       pg_lsn      NOT NULL
);

-- False: the table was copied again after a schema change, and later changes of its schema still come.
ALTER TABLE pgstream.snapshot_ledger ADD COLUMN with_schema boolean NOT NULL DEFAULT true;

-- One row per row of the source's schema_log, written in the transaction that applied it.
CREATE TABLE pgstream.ddl_applied (
    slot_name          text        NOT NULL,
    id                 bigint      NOT NULL,
    command            text        NOT NULL,
    objects            text[]      NOT NULL,
    state              text        NOT NULL CHECK (state IN ('applied', 'ignored', 'skipped', 'failed')),
    -- what could not be carried over and does not concern rows, e.g. an owner that does not exist here; or why it failed
    notes              text[]      NOT NULL DEFAULT '{}',
    -- null while it is not dealt with: it failed, or is to be skipped and has not come yet
    commit_lsn         pg_lsn,
    applied_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (slot_name, id)
);
