use super::mirror::Mirror;

#[tokio::test]
async fn indexes_of_every_kind_follow() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE TABLE t (id int PRIMARY KEY, a text, b int, j jsonb, p point, v tsvector)",
            "INSERT INTO t SELECT i, 'a' || i, i, '{}', point(i, i) FROM generate_series(1, 100) i",
            "CREATE INDEX t_a ON t (a text_pattern_ops DESC NULLS LAST)",
            "CREATE UNIQUE INDEX t_b ON t (b) INCLUDE (a) WHERE b > 3",
            "CREATE INDEX t_low ON t (lower(a), (b + 1)) WITH (fillfactor = 60)",
            "CREATE INDEX t_hash ON t USING hash (a)",
            "CREATE INDEX t_gin ON t USING gin (j jsonb_path_ops)",
            "CREATE INDEX t_gist ON t USING gist (p)",
            "CREATE INDEX t_spgist ON t USING spgist (p)",
            "CREATE INDEX t_brin ON t USING brin (b)",
            "CREATE INDEX CONCURRENTLY t_conc ON t (b, a)",
            "ALTER INDEX t_conc RENAME TO \"t conc\"",
            "ALTER INDEX t_low SET (fillfactor = 70); ALTER INDEX t_low ALTER COLUMN 2 SET STATISTICS 500",
            "COMMENT ON INDEX t_a IS 'x'",
            "REINDEX INDEX t_a; REINDEX TABLE t",
            "REINDEX INDEX CONCURRENTLY t_hash",
            "ALTER TABLE t CLUSTER ON t_a",
            "ALTER TABLE t REPLICA IDENTITY FULL",
            "UPDATE t SET b = b + 1000 WHERE id < 10",
            "ALTER TABLE t SET WITHOUT CLUSTER",
            "DROP INDEX t_hash, t_brin",
            "DROP INDEX CONCURRENTLY t_spgist",
            "ALTER TABLE t RENAME b TO bb",
            "ALTER TABLE t ALTER bb TYPE bigint",
        ])
        .await;
    mirror.stop().await;
}
