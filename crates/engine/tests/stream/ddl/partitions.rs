use super::mirror::Mirror;

#[tokio::test]
async fn partitions_are_made_attached_and_detached() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE TABLE r (id int, at date, v text) PARTITION BY RANGE (at)",
            "CREATE TABLE r_2020 PARTITION OF r FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
            "CREATE TABLE r_rest PARTITION OF r DEFAULT",
            "ALTER TABLE r ADD PRIMARY KEY (id, at)",
            "CREATE INDEX r_v ON r (v)",
            "INSERT INTO r SELECT i, '2020-01-01'::date + i, 'v' || i FROM generate_series(1, 500) i",
            "CREATE TABLE r_2022 (LIKE r INCLUDING DEFAULTS)",
            "INSERT INTO r_2022 VALUES (9000, '2022-05-05', 'before')",
            "ALTER TABLE r ATTACH PARTITION r_2022 FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')",
            "ALTER TABLE r ADD extra int NOT NULL DEFAULT 4",
            "ALTER TABLE r DETACH PARTITION r_2020",
            "INSERT INTO r_2020 VALUES (9001, '1999-01-01', 'alone')",
            "CREATE TABLE r_2023 PARTITION OF r FOR VALUES FROM ('2023-01-01') TO ('2024-01-01') PARTITION BY LIST (id)",
            "CREATE TABLE r_2023_a PARTITION OF r_2023 FOR VALUES IN (9002, 9003)",
            "INSERT INTO r VALUES (9002, '2023-02-02', 'a')",
            "CREATE TABLE h (id int PRIMARY KEY, r text) PARTITION BY HASH (id)",
            "CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
            "INSERT INTO h SELECT i, 'x' FROM generate_series(1, 50) i",
            "CREATE TABLE child (id int PRIMARY KEY, h int REFERENCES h ON DELETE CASCADE)",
            "INSERT INTO child SELECT i, i FROM generate_series(1, 20) i",
            "ALTER TABLE h ADD CONSTRAINT short CHECK (length(r) < 10)",
            "ALTER TABLE h RENAME r TO rr",
            "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
            "CREATE TRIGGER tr BEFORE INSERT ON h FOR EACH ROW EXECUTE FUNCTION quiet()",
            "DROP INDEX r_v",
            "DROP TABLE r_2023",
            "DROP TABLE h CASCADE",
            "DROP TABLE r",
        ])
        .await;
    mirror.stop().await;
}
