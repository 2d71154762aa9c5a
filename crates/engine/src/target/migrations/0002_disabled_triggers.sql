-- Triggers that were disabled so that they do not act on replicated rows a second time, in the transaction that did so.
-- They are enabled again at cutover; a row is deleted with that.
CREATE TABLE pgstream.disabled_triggers (
    schema_name        text        NOT NULL,
    table_name         text        NOT NULL,
    trigger_name       text        NOT NULL,
    disabled_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema_name, table_name, trigger_name)
);
