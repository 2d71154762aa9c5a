use super::mirror::Mirror;

#[tokio::test]
async fn constraints_come_change_and_go() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE TABLE p (id int, code text, r int4range); CREATE TABLE c (id int PRIMARY KEY, p int, q int)",
            "ALTER TABLE p ADD PRIMARY KEY (id)",
            "ALTER TABLE p ADD CONSTRAINT code_key UNIQUE (code) DEFERRABLE INITIALLY DEFERRED",
            "ALTER TABLE p ADD CONSTRAINT apart EXCLUDE USING gist (r WITH &&)",
            "INSERT INTO p VALUES (1, 'a', '[1,5)'), (2, 'b', '[5,9)')",
            "ALTER TABLE c ADD CONSTRAINT fk FOREIGN KEY (p) REFERENCES p ON DELETE CASCADE ON UPDATE SET NULL NOT VALID",
            "ALTER TABLE c ADD FOREIGN KEY (q) REFERENCES p ON DELETE SET DEFAULT DEFERRABLE",
            "INSERT INTO c VALUES (1, 1, 2)",
            "ALTER TABLE c VALIDATE CONSTRAINT fk",
            "ALTER TABLE c ALTER CONSTRAINT fk DEFERRABLE INITIALLY DEFERRED",
            "ALTER TABLE c RENAME CONSTRAINT fk TO \"f k\"",
            "ALTER TABLE c ADD CONSTRAINT positive CHECK (q > 0) NOT VALID",
            "ALTER TABLE c VALIDATE CONSTRAINT positive",
            "ALTER TABLE c ADD CONSTRAINT mine CHECK (p > 0) NO INHERIT",
            "COMMENT ON CONSTRAINT mine ON c IS 'why'",
            "CREATE UNIQUE INDEX c_q ON c (q); ALTER TABLE c ADD CONSTRAINT q_unique UNIQUE USING INDEX c_q",
            "ALTER TABLE p DROP CONSTRAINT apart, DROP CONSTRAINT code_key",
            "ALTER TABLE c DROP CONSTRAINT \"f k\"",
            "ALTER TABLE p DROP CONSTRAINT p_pkey CASCADE",
            "ALTER TABLE p ADD CONSTRAINT another PRIMARY KEY (code)",
        ])
        .await;
    mirror.stop().await;
}
