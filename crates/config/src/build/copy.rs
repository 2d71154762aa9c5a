//! `source.postgres.snapshot.*`.

use super::{at_least_one, object_types, tables};
use crate::{
    error::{Code, Place},
    pipeline::{Mode, RolesMode, SchemaCopy, Snapshot, SnapshotMode},
    written::Written,
};

pub(super) fn snapshot(w: &mut Written, mode: Mode) -> Snapshot {
    let what = match w.word("source.postgres.snapshot.mode") {
        "schema" => SnapshotMode::Schema,
        "data" => SnapshotMode::Data,
        _ => SnapshotMode::Full,
    };
    let schema_only = "source.postgres.snapshot.schema_only_tables";
    if what == SnapshotMode::Data && !w.patterns(schema_only).is_empty() {
        let place = w.place(schema_only).cloned().unwrap_or(Place::Nowhere);
        let what = format!("{schema_only} needs a copy of the schema, and the snapshot mode is data");
        w.problem(&place, Code::Conflict, what, "set source.postgres.snapshot.mode: full, or exclude these tables");
    }
    if w.word("source.postgres.snapshot.schema.mode") == "schemalog" {
        w.notice(
            "source.postgres.snapshot.schema.mode",
            "accepted: the schema is always copied with pg_dump and pg_restore",
        );
    }
    let max_connections = w.number("source.postgres.snapshot.data.max_connections");
    let schema_workers = w.number("source.postgres.snapshot.data.schema_workers");
    let copies = w
        .number("source.postgres.snapshot.data.table_workers")
        .saturating_mul(w.number("source.postgres.snapshot.snapshot_workers"));
    let indexes = w.number_written("source.postgres.snapshot.schema.pgdump_pgrestore.index_restore_workers");
    Snapshot {
        mode: what,
        tables: tables::of_copy(w, mode),
        repeat: w.flag("source.postgres.snapshot.recorder.repeatable_snapshots"),
        table_workers: at_least_one(copies.min(max_connections)),
        schema_workers: at_least_one(indexes.unwrap_or(schema_workers)),
        part_bytes: w.number("source.postgres.snapshot.data.batch_bytes"),
        max_connections: at_least_one(max_connections),
        schema: schema(w, what),
    }
}

fn schema(w: &mut Written, mode: SnapshotMode) -> SchemaCopy {
    let section = "source.postgres.snapshot.schema.pgdump_pgrestore";
    let key = |name: &str| format!("{section}.{name}");
    let clean = "source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db";
    let mut clean_target_db = w.flag(clean);
    if clean_target_db && mode == SnapshotMode::Data {
        // Rows go into the tables that exist: a new database would have none.
        clean_target_db = false;
        let place = w.place(clean).cloned().unwrap_or(Place::Nowhere);
        match place {
            Place::Flag(_) => {
                let what =
                    "--reset builds the database anew, and the snapshot mode is data: rows into tables that exist";
                w.problem(&place, Code::Conflict, what, "leave out --reset or --data-only");
            }
            _ => w.notice(clean, "without effect: the snapshot mode is data"),
        }
    }
    SchemaCopy {
        clean_target_db,
        create_target_db: w.flag(&key("create_target_db")),
        roles: match w.word(&key("roles_snapshot_mode")) {
            "disabled" => RolesMode::Disabled,
            "enabled" => RolesMode::Enabled,
            _ => RolesMode::NoPasswords,
        },
        include_globals: w.flag(&key("include_global_db_objects")),
        no_owner: w.flag(&key("no_owner")),
        no_privileges: w.flag(&key("no_privileges")),
        role: w.text(&key("role")),
        exclude_security_labels: w.names(&key("exclude_security_labels")),
        refresh_materialized_views: w.flag(&key("refresh_materialized_views")),
        index_session_settings: w.settings(&key("index_constraint_session_settings")),
        dump_file: w.file(&key("dump_file")),
        object_types: object_types(
            w,
            "source.postgres.snapshot.schema.pgdump_pgrestore.include_object_types",
            "source.postgres.snapshot.schema.pgdump_pgrestore.exclude_object_types",
        ),
    }
}
