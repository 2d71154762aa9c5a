//! Random schema changes and rows, in random transactions, with the replicator killed in between.

use std::fmt::Write as _;

use pgstream_postgres::{Client, Session};

use super::mirror::Mirror;
use crate::{harness::server, ordeal::Random};

/// Statements of one sequence.
const STATEMENTS: u64 = 40;

/// How many sequences: a few where nobody asked for more.
fn sequences() -> u64 {
    std::env::var("PGSTREAM_DDL_SEQUENCES").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

#[tokio::test]
async fn matrix_random_schema_changes_end_equal() {
    let seed = pgstream_testkit::seed();
    let mut rng = Random::new(seed);
    let mut mirror = Mirror::new().await;
    let client = server(&mirror.pair().source.url("app")).connect(&Session::new("random")).await.unwrap();
    client.batch_execute("CREATE SCHEMA s; CREATE FUNCTION public.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'").await.unwrap();
    for number in 0..sequences() {
        let mut history = String::new();
        sequence(&client, &mut rng, &mut history).await;
        if rng.below(3) == 0 {
            mirror.copy_beside(rng.below(2) == 0);
            mirror.kill().await;
        }
        println!("sequence {number} of seed {seed}:\n{history}");
        if number % 5 == 4 || number + 1 == sequences() {
            mirror.is_equal().await;
        }
    }
    mirror.stop().await;
}

/// Statements may fail: that, too, must leave no trace.
async fn sequence(client: &Client, rng: &mut Random, history: &mut String) {
    let mut inside = false;
    for _ in 0..STATEMENTS {
        let sql = match rng.below(12) {
            0 if !inside => {
                inside = true;
                "BEGIN".to_owned()
            }
            1 if inside => {
                inside = false;
                if rng.below(3) == 0 { "ROLLBACK".to_owned() } else { "COMMIT".to_owned() }
            }
            _ => statement(rng),
        };
        let done = if inside && sql != "BEGIN" {
            let done = client.batch_execute(&format!("SAVEPOINT one; {sql}")).await;
            let end = if done.is_ok() && rng.below(10) > 0 { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
            client.batch_execute(end).await.unwrap();
            done
        } else {
            client.batch_execute(&sql).await
        };
        let _ = writeln!(history, "{} {sql};", if done.is_ok() { " " } else { "x" });
    }
    if inside {
        client.batch_execute("COMMIT").await.unwrap();
    }
}

fn statement(rng: &mut Random) -> String {
    let pick = |rng: &mut Random, list: &[&'static str]| list[usize::try_from(rng.below(list.len() as u64)).unwrap()];
    let table = |rng: &mut Random| {
        let schema = pick(rng, &["public", "public", "s"]);
        format!("{schema}.t{}", rng.below(4))
    };
    let column = |rng: &mut Random| format!("c{}", rng.below(4));
    let (t, c) = (table(rng), column(rng));
    match rng.below(34) {
        0 | 1 => format!("CREATE TABLE {t} (id int PRIMARY KEY, c0 text, c1 int DEFAULT 1)"),
        2 => format!("CREATE TABLE {t} (id int, c0 text DEFAULT 'q', c2 numeric(8,2))"),
        3 => {
            format!("CREATE TABLE {t} AS SELECT g AS id, random() AS c3, 'x' || g AS c0 FROM generate_series(1, 20) g")
        }
        4 => format!("DROP TABLE {t} CASCADE"),
        5..=8 => {
            let kind = pick(
                rng,
                &[
                    "int",
                    "text DEFAULT 'it''s'",
                    "timestamptz DEFAULT now()",
                    "float8 DEFAULT random()",
                    "bigserial",
                    "date",
                    "int NOT NULL DEFAULT 4",
                    "jsonb DEFAULT '{}'",
                    "int GENERATED ALWAYS AS (1 + 1) STORED",
                ],
            );
            format!("ALTER TABLE {t} ADD {c} {kind}")
        }
        9 | 10 => format!("ALTER TABLE {t} DROP {c} CASCADE"),
        11 | 12 => format!("ALTER TABLE {t} RENAME {c} TO c{}", rng.below(4)),
        13 => format!("ALTER TABLE {t} RENAME TO t{}", rng.below(4)),
        14 => format!("ALTER TABLE {t} SET SCHEMA {}", pick(rng, &["s", "public"])),
        15 => {
            let kind = pick(rng, &["text USING id::text || 'u'", "text", "bigint", "numeric", "int USING 7", "float8"]);
            format!("ALTER TABLE {t} ALTER {c} TYPE {kind}")
        }
        16 => {
            format!("ALTER TABLE {t} ALTER {c} {}", pick(rng, &["DROP DEFAULT", "SET DEFAULT NULL", "DROP NOT NULL"]))
        }
        17 => format!("CREATE INDEX ON {t} ({c})"),
        18 => format!("DROP INDEX IF EXISTS {t}_{c}_idx"),
        19 => format!("ALTER TABLE {t} ADD CONSTRAINT k_{c} CHECK ({c} IS NULL OR id IS NOT NULL)"),
        20 => format!("ALTER TABLE {t} DROP CONSTRAINT k_{c}"),
        21 => format!("CREATE VIEW {t}_view AS SELECT * FROM {t}"),
        22 => format!("DROP VIEW {t}_view"),
        23 => format!("ALTER TABLE {t} ADD PRIMARY KEY (id)"),
        24 => format!("COMMENT ON COLUMN {t}.{c} IS 'c{}'", rng.below(100)),
        25 => format!("GRANT SELECT ON {t} TO alice; REVOKE ALL ON {t} FROM bob"),
        26 => format!("CREATE TRIGGER tr BEFORE UPDATE ON {t} FOR EACH ROW EXECUTE FUNCTION public.noted()"),
        27 => format!("TRUNCATE {t}"),
        28 => format!("DELETE FROM {t} WHERE id % 3 = {}", rng.below(3)),
        29 => format!("UPDATE {t} SET {c} = {}", pick(rng, &["NULL", "'5'", "id"])),
        _ => format!(
            "INSERT INTO {t} (id) SELECT (SELECT coalesce(max(id), 0) FROM {t}) + g FROM generate_series(1, {}) g",
            1 + rng.below(15)
        ),
    }
}
