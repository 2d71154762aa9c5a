-- The copy by several processes: the coordinator holds a snapshot on the source and offers here what is to be copied
-- under it; workers take parts.

-- One row per snapshot that was offered.
CREATE TABLE pgstream.snapshot_rounds (
    round              bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- as in snapshot_ledger
    source             text        NOT NULL,
    -- the server that holds the snapshot, which no other one knows
    system_identifier  text        NOT NULL,
    server_started     text        NOT NULL,
    server_address     text        NOT NULL,
    -- for SET TRANSACTION SNAPSHOT there
    exported           text        NOT NULL,
    snapshot           text        NOT NULL,
    snapshot_lsn       pg_lsn      NOT NULL,
    -- process of the coordinator's session here; it lives while that has the lock of the copy
    coordinator        integer     NOT NULL,
    -- role that owns what is restored
    role               text,
    -- whether sessions run with session_replication_role = replica
    ignore_triggers    boolean     NOT NULL,
    state              text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'copied', 'abandoned')),
    opened_at          timestamptz NOT NULL DEFAULT now(),
    ended_at           timestamptz
);

-- The tables of a round, in the order in which they are to be copied, and how each is written.
CREATE TABLE pgstream.snapshot_units (
    round              bigint      NOT NULL,
    unit               integer     NOT NULL,
    schema_name        text        NOT NULL,
    table_name         text        NOT NULL,
    parts              integer     NOT NULL,
    -- a partitioned table that is copied as a whole
    root               boolean     NOT NULL,
    format             text        NOT NULL CHECK (format IN ('binary', 'text')),
    write              text        NOT NULL CHECK (write IN ('fresh', 'append', 'keep', 'replace')),
    key_columns        text[]      NOT NULL,
    set_columns        text[]      NOT NULL,
    -- an earlier round has left rows, which go first
    again              boolean     NOT NULL,
    -- tables that must be complete before
    parents            integer[]   NOT NULL,
    PRIMARY KEY (round, unit)
);

-- What is still to be copied. A worker deletes the row in the transaction that copies the part: the lock on the row is its
-- claim, which ends with the worker, and what is not here any more is in snapshot_ledger.
CREATE TABLE pgstream.snapshot_parts (
    round              bigint      NOT NULL,
    unit               integer     NOT NULL,
    part               integer     NOT NULL,
    from_page          bigint      NOT NULL,
    to_page            bigint,
    -- a statement on the source waits to change the table: only the session that has its lock can read it
    locked_out         boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (round, unit, part)
);
