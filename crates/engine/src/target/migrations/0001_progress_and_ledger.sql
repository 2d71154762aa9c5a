-- What the target remembers: how far the stream was applied, and under which snapshot each table was copied.

-- One row per slot, written in the same transaction as the rows it covers.
CREATE TABLE pgstream.apply_progress (
    slot_name          text        NOT NULL PRIMARY KEY,
    system_identifier  text        NOT NULL,
    timeline           bigint      NOT NULL,
    -- end of the last source commit that is applied here, one past its last byte
    commit_end_lsn     pg_lsn      NOT NULL,
    -- source clock at that commit; null before the first one
    commit_time        timestamptz,
    -- raised by every replicator that takes over; a replicator with an older one cannot commit
    epoch              bigint      NOT NULL DEFAULT 0,
    updated_at         timestamptz NOT NULL DEFAULT now()
);

-- One row per finished part of a table, written in the same transaction as its rows.
-- A table is complete when all `parts` rows of one `snapshot` are there.
CREATE TABLE pgstream.snapshot_ledger (
    -- slot name, or `<system identifier>/<database>` for a copy without a slot
    source             text        NOT NULL,
    system_identifier  text        NOT NULL,
    schema_name        text        NOT NULL,
    table_name         text        NOT NULL,
    part               integer     NOT NULL,
    parts              integer     NOT NULL,
    -- pg_current_snapshot() that the part was read under
    snapshot           text        NOT NULL,
    -- WAL insert position read after that snapshot was taken: what it sees was committed before it
    snapshot_lsn       pg_lsn      NOT NULL,
    row_count          bigint      NOT NULL,
    byte_count         bigint      NOT NULL,
    finished_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, schema_name, table_name, part)
);

-- Stages of a snapshot that are complete (roles, pre-data, post-data of a table, ...), so that a resumed one goes on.
CREATE TABLE pgstream.snapshot_steps (
    source             text        NOT NULL,
    step               text        NOT NULL,
    finished_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, step)
);
