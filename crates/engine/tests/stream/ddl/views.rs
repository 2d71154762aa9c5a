use super::mirror::Mirror;

#[tokio::test]
async fn views_and_what_depends_on_them_follow() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE TABLE t (id int PRIMARY KEY, a text, b int); INSERT INTO t VALUES (1, 'x', 2)",
            "CREATE VIEW v WITH (security_barrier) AS SELECT id, a FROM t WHERE b > 1 WITH LOCAL CHECK OPTION",
            "CREATE VIEW vv AS SELECT v.*, upper(a) AS up FROM v",
            "CREATE OR REPLACE VIEW v AS SELECT id, a, b FROM t",
            "ALTER VIEW v ALTER a SET DEFAULT 'd'",
            "ALTER TABLE t RENAME a TO aa",
            "ALTER VIEW vv RENAME COLUMN up TO upper_case",
            "ALTER VIEW vv RENAME TO vvv",
            "CREATE RECURSIVE VIEW nums (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM nums WHERE n < 10",
            "COMMENT ON VIEW v IS 'x'; COMMENT ON COLUMN vvv.upper_case IS 'up'",
            "GRANT SELECT ON v TO alice; ALTER VIEW nums OWNER TO bob",
            "CREATE MATERIALIZED VIEW m AS SELECT id, aa FROM t; CREATE UNIQUE INDEX m_id ON m (id)",
            "INSERT INTO t VALUES (2, 'y', 5)",
            "REFRESH MATERIALIZED VIEW m",
            "INSERT INTO t VALUES (3, 'z', 5); REFRESH MATERIALIZED VIEW CONCURRENTLY m",
            "CREATE MATERIALIZED VIEW empty AS SELECT 1 AS one WITH NO DATA",
            "ALTER MATERIALIZED VIEW m RENAME TO mm; ALTER MATERIALIZED VIEW mm SET (fillfactor = 50)",
            "CREATE RULE ignore AS ON DELETE TO v DO INSTEAD NOTHING",
            "CREATE FUNCTION put() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
            "CREATE TRIGGER putting INSTEAD OF INSERT ON vvv FOR EACH ROW EXECUTE FUNCTION put()",
            "DROP VIEW v CASCADE",
            "DROP TABLE t CASCADE",
        ])
        .await;
    mirror.stop().await;
}
