-- What the safety valve of the slot monitor did: the copy and the stream look here.
CREATE TABLE pgstream.safety_valve (
    slot_name          text        NOT NULL PRIMARY KEY,
    -- copy_paused: the copy waits until the row is gone; slot_dropped: changes are missing, a new copy is needed
    state              text        NOT NULL CHECK (state IN ('copy_paused', 'slot_dropped')),
    reason             text        NOT NULL,
    since              timestamptz NOT NULL DEFAULT now()
);
