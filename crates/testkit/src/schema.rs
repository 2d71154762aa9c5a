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
    compare(&expected, &found, db);
}

fn compare(expected: &BTreeMap<String, String>, found: &BTreeMap<String, String>, db: &str) {
    let mut report = String::new();
    for (object, definition) in expected {
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

/// The same for servers of different versions, which print some definitions otherwise: the source's schema is restored
/// into a database of its own on the target's server, and that is what the target is compared with.
///
/// # Panics
/// When they differ, with the definitions that do; when a program fails.
pub async fn assert_schema_restores_to(source: &Cluster, target: &Cluster, db: &str) {
    let restored = format!("{db}_restored");
    let admin = target.client("postgres").await;
    admin.batch(&format!("DROP DATABASE IF EXISTS {restored}")).await;
    admin.batch(&format!("CREATE DATABASE {restored}")).await;
    let file = tempfile::NamedTempFile::new().unwrap_or_else(|error| panic!("a file for the dump: {error}"));
    let mut dump = pg_dump(source, db);
    dump.arg("--file").arg(file.path());
    let psql = Binaries::tool("psql").unwrap_or_else(|error| panic!("{error}"));
    let mut restore = Command::new(psql);
    restore
        .args([
            "--no-psqlrc",
            "--quiet",
            "--username",
            USER,
            "--port",
            &target.port().to_string(),
            "--dbname",
            &restored,
        ])
        .arg("--host")
        .arg(target.socket_dir())
        .arg("--file")
        .arg(file.path());
    let ran = tokio::task::spawn_blocking(move || {
        run_for_output(&mut dump, "pg_dump")?;
        run_for_output(&mut restore, "psql")
    });
    match ran.await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => panic!("{error}"),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
    let (mut expected, mut found) = tokio::join!(dump_schema(target, &restored), dump_schema(target, db));
    for objects in [&mut expected, &mut found] {
        // Versions before 18 have no names for NOT NULL, and other rights on schema public.
        objects
            .retain(|name, _| !name.contains("SCHEMA public; Type: ACL") && !name.starts_with("public; Type: SCHEMA"));
        objects.values_mut().for_each(|definition| *definition = without_not_null_names(definition));
    }
    compare(&expected, &found, db);
}

fn without_not_null_names(definition: &str) -> String {
    let mut text = String::with_capacity(definition.len());
    let mut rest = definition;
    while let Some((before, after)) = rest.split_once(" CONSTRAINT ") {
        text.push_str(before);
        match after.split_once(" NOT NULL") {
            Some((name, tail))
                if !name.contains([' ', ',', '(', '\n']) || name.starts_with('"') && !name.contains('\n') =>
            {
                text.push_str(" NOT NULL");
                rest = tail;
            }
            _ => {
                text.push_str(" CONSTRAINT ");
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

/// `pg_dump -s` as object -> definition, e.g. `Name: t; Type: TABLE; Schema: public; Owner: postgres`.
///
/// # Panics
/// When `pg_dump` fails.
pub async fn dump_schema(cluster: &Cluster, db: &str) -> BTreeMap<String, String> {
    let mut command = pg_dump(cluster, db);
    let dump = tokio::task::spawn_blocking(move || run_for_output(&mut command, "pg_dump")).await;
    match dump {
        Ok(Ok(dump)) => parse_dump(&dump),
        Ok(Err(error)) => panic!("{error}"),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The command.
fn pg_dump(cluster: &Cluster, db: &str) -> Command {
    let pg_dump = Binaries::tool("pg_dump").unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(pg_dump);
    command
        .args(["--schema-only", "--no-publications", "--no-subscriptions", "--exclude-schema=pgstream"])
        // Newer tools print a random key otherwise.
        .args(["--restrict-key=testkit", "--username", USER, "--port", &cluster.port().to_string(), "--dbname", db])
        .arg("--host")
        .arg(cluster.socket_dir())
        .env("LC_ALL", "C");
    command
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
