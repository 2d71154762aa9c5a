//! Schemas and sequences of two servers, compared.

use std::{collections::BTreeMap, fmt::Write as _, process::Command};

use crate::{Binaries, Client, Cluster, USER, template::run_for_output};

/// Fails unless `pg_dump -s` of both servers is the same, object by object, without what replication itself needs: the
/// schema `pgstream`, its event triggers, publications and subscriptions.
///
/// # Panics
/// When they differ, with the definitions that do; when `pg_dump` fails.
pub async fn assert_same_schema(source: &Cluster, target: &Cluster, db: &str) {
    let (expected, found) = tokio::join!(dump_schema(source, db), dump_schema(target, db));
    let mut report = String::new();
    for (object, definition) in &expected {
        match found.get(object) {
            None => {
                let _ = writeln!(report, "  {object}: not on the target");
            }
            Some(other) if other != definition => {
                let _ = writeln!(report, "  {object}\n--- source\n{definition}\n--- target\n{other}\n");
            }
            Some(_) => {}
        }
    }
    for object in found.keys().filter(|object| !expected.contains_key(*object)) {
        let _ = writeln!(report, "  {object}: only on the target");
    }
    assert!(report.is_empty(), "the schemas of {db} differ\n{report}");
}

/// `pg_dump -s` as object -> definition, e.g. `Name: t; Type: TABLE; Schema: public; Owner: postgres`.
///
/// # Panics
/// When `pg_dump` fails.
pub async fn dump_schema(cluster: &Cluster, db: &str) -> BTreeMap<String, String> {
    let pg_dump = Binaries::tool("pg_dump").unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(pg_dump);
    command
        .args(["--schema-only", "--no-publications", "--no-subscriptions", "--exclude-schema=pgstream"])
        // Newer tools print a random key otherwise.
        .args(["--restrict-key=testkit", "--username", USER, "--port", &cluster.port().to_string(), "--dbname", db])
        .arg("--host")
        .arg(cluster.socket_dir())
        .env("LC_ALL", "C");
    let dump = tokio::task::spawn_blocking(move || run_for_output(&mut command, "pg_dump")).await;
    match dump {
        Ok(Ok(dump)) => parse_dump(&dump),
        Ok(Err(error)) => panic!("{error}"),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Splits at `-- Name: …` headings. What stands before the first one is session settings.
fn parse_dump(dump: &str) -> BTreeMap<String, String> {
    let mut objects: BTreeMap<String, String> = BTreeMap::new();
    let mut object: Option<String> = None;
    for line in dump.lines() {
        if let Some(heading) = line.strip_prefix("-- Name: ") {
            let ours = heading.starts_with("pgstream") && heading.contains("; Type: EVENT TRIGGER;");
            object = (!ours).then(|| heading.to_owned());
        } else if line.starts_with("SET default_")
            || line.starts_with("--")
            || line.starts_with('\\')
            || line.is_empty()
        {
            // Storage and access method are said again before the next object that needs them.
        } else if let Some(object) = &object {
            let definition = objects.entry(object.clone()).or_default();
            definition.push_str(line);
            definition.push('\n');
        }
    }
    objects
}

/// Fails unless every sequence of the source exists on the target and is at least as far there.
///
/// # Panics
/// When one is behind.
pub async fn assert_sequences_not_behind(source: &Cluster, target: &Cluster, db: &str) {
    let (source, target) = tokio::join!(source.client(db), target.client(db));
    let (source, target) = tokio::join!(sequences(&source), sequences(&target));
    let behind: Vec<String> = source
        .iter()
        .filter_map(|(name, &(value, step))| match target.get(name) {
            None => Some(format!("  {name}: not on the target")),
            Some(&(copy, _)) if (step > 0 && copy < value) || (step < 0 && copy > value) => {
                Some(format!("  {name}: source {value:?}, target {copy:?}"))
            }
            Some(_) => None,
        })
        .collect();
    assert!(behind.is_empty(), "sequences of {db} are behind on the target\n{}", behind.join("\n"));
}

/// Name -> (last value if it was ever used, increment). `None` is less than any value.
async fn sequences(client: &Client) -> BTreeMap<String, (Option<i64>, i64)> {
    let sql = "SELECT format('%I.%I', schemaname, sequencename), last_value, increment_by FROM pg_sequences
        WHERE schemaname <> 'pgstream'";
    client.query(sql).await.into_iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_event_triggers_are_not_the_users_schema() {
        let dump = "SET x = 1;\n-- Name: pgstream_ddl; Type: EVENT TRIGGER; Schema: -; Owner: a\n\nCREATE EVENT TRIGGER\n\
            -- Name: t; Type: TABLE; Schema: public; Owner: a\n--\n\nSET default_table_access_method = heap;\n\nCREATE TABLE t (\n    a int\n);\n";
        let objects = parse_dump(dump);
        assert_eq!(objects.len(), 1);
        assert_eq!(objects.values().next().unwrap(), "CREATE TABLE t (\n    a int\n);\n");
    }
}
