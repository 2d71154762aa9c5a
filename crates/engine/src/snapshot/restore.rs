//! The schema: dumped once from the shared snapshot, restored in pieces, each in one transaction with its record.
//!
//! `pg_restore` only writes the SQL of a piece; it runs over our own connection. So a piece and its row in
//! `pgstream.snapshot_steps` are committed together, a killed run leaves nothing half done, and what `psql` would
//! make of a line in a hostile dump does not arise.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    io::Write as _,
    path::PathBuf,
};

use pgstream_config::pipeline::SchemaCopy;
use pgstream_postgres::{Client, Server, quote_ident};

use super::{
    Error,
    exporter::Snapshot,
    ledger::{self, Origin},
    script,
    texts::Texts,
    toc::Toc,
    tools::Tools,
};

/// A dump of the schema, and how pieces of it are restored.
pub(crate) struct Dump {
    tools: Tools,
    file: PathBuf,
    flags: Vec<OsString>,
    role: Option<String>,
    origin: Origin,
    pub(crate) toc: Toc,
    /// Entries whose owner cannot be had on the target.
    unowned: HashSet<u32>,
    /// Ids of the pre-data section.
    pub(crate) pre_data: HashSet<u32>,
    pub(crate) keys: HashMap<u32, String>,
    /// What [`Self::read`] has read.
    texts: Texts,
    /// Keeps a dump that nobody asked for until the run ends.
    _temporary: Option<tempfile::TempDir>,
}

/// Then the snapshot is given up, which lets the waiting statement through, and taken again.
const LOCK_WAIT_MS: u32 = 2_000;

impl Dump {
    /// Dumps the schema of `source` as the snapshot sees it.
    pub(crate) async fn take(
        tools: Tools,
        source: &Server,
        snapshot: &Snapshot,
        settings: &SchemaCopy,
        origin: &Origin,
    ) -> Result<Self, Error> {
        let (file, temporary) = match &settings.dump_file {
            Some(file) => (file.clone(), None),
            None => {
                let directory = tempfile::Builder::new()
                    .prefix("pgstream-")
                    .tempdir()
                    .map_err(Error::io("making a directory for the schema dump", None))?;
                (directory.path().join("schema.dump"), Some(directory))
            }
        };
        let mut arguments: Vec<OsString> =
            ["--format=custom", "--schema-only", "--encoding=UTF8"].map(Into::into).into();
        arguments.push(format!("--snapshot={}", snapshot.id).into());
        arguments.extend(["--exclude-schema=pgstream", "--no-publications", "--no-subscriptions"].map(Into::into));
        if tools.major >= 18 {
            arguments.push("--no-statistics".into());
        }
        // Behind a statement that waits for our own locks, pg_dump would wait for ever.
        arguments.push(format!("--lock-wait-timeout={LOCK_WAIT_MS}").into());
        arguments.push("--file".into());
        arguments.push(file.clone().into());
        tools.dump(source, &arguments).await?;

        let mut flags: Vec<OsString> = vec!["--no-tablespaces".into()];
        if settings.no_owner {
            flags.push("--no-owner".into());
        }
        if settings.no_privileges {
            flags.push("--no-privileges".into());
        }
        if settings.exclude_security_labels.iter().any(|provider| provider == "*") {
            flags.push("--no-security-labels".into());
        }
        let path = || OsString::from(file.clone());
        let toc = Toc::parse(&tools.restore(&["--list".into(), "--verbose".into(), path()]).await?);
        let pre_data = Toc::parse(&tools.restore(&["--list".into(), "--section=pre-data".into(), path()]).await?);
        let pre_data = pre_data.entries.iter().map(|entry| entry.id).collect();
        let keys = toc.keys();
        let (role, origin) = (settings.role.clone(), origin.clone());
        let (unowned, texts) = (HashSet::new(), Texts::default());
        Ok(Self { tools, file, flags, role, origin, toc, unowned, pre_data, keys, texts, _temporary: temporary })
    }

    /// Leaves what belongs to these roles to whoever restores it.
    pub(crate) fn disown(&mut self, owners: &[String]) {
        // The owner is the last word of an entry.
        let is_one = |label: &str| {
            owners.iter().any(|owner| label.strip_suffix(owner.as_str()).is_some_and(|rest| rest.ends_with(' ')))
        };
        self.unowned = self.toc.entries.iter().filter(|entry| is_one(&entry.label)).map(|entry| entry.id).collect();
    }

    /// How many entries [`Self::disown`] found.
    pub(crate) fn disowned(&self) -> usize {
        self.unowned.len()
    }

    /// Reads the SQL of entries that will be restored in many pieces.
    pub(crate) async fn read(&mut self, ids: impl Iterator<Item = u32>, major: u32) -> Result<(), Error> {
        let ids: Vec<u32> = ids.filter(|id| !self.unowned.contains(id)).collect();
        if !ids.is_empty() {
            let script = self.script(&ids, true, &["--verbose"]).await?;
            self.texts = Texts::parse(&script::body(&script, major), &ids);
        }
        Ok(())
    }

    /// SQL of some entries, in the given order.
    async fn sql(&self, ids: &[u32], major: u32) -> Result<String, Error> {
        if let Some(sql) = self.texts.script(ids) {
            return Ok(sql);
        }
        let mut sql = String::new();
        for run in ids.chunk_by(|a, b| self.unowned.contains(a) == self.unowned.contains(b)) {
            let owned = !run.first().is_some_and(|id| self.unowned.contains(id));
            sql.push_str(&script::body(&self.script(run, owned, &[]).await?, major));
            sql.push('\n');
        }
        Ok(sql)
    }

    async fn script(&self, ids: &[u32], owned: bool, flags: &[&str]) -> Result<String, Error> {
        let mut list = tempfile::NamedTempFile::new().map_err(Error::io("writing a list for pg_restore", None))?;
        let text: String = ids.iter().map(|id| format!("{id};\n")).collect();
        list.write_all(text.as_bytes()).map_err(Error::io("writing a list for pg_restore", None))?;
        let mut arguments: Vec<OsString> = vec!["--file=-".into(), "--use-list".into(), list.path().into()];
        arguments.extend(self.flags.iter().cloned());
        arguments.extend(flags.iter().map(OsString::from));
        if !owned {
            arguments.push("--no-owner".into());
        }
        arguments.push(self.file.clone().into());
        self.tools.restore(&arguments).await
    }

    /// Whether entries are restored whose COMMIT was sent and not answered. Waits for the transaction to end that may still
    /// be restoring them.
    pub(crate) async fn is_restored(&self, target: &Client, ids: &[u32]) -> Result<bool, Error> {
        let steps = self.steps(ids);
        if steps.is_empty() {
            return Ok(false);
        }
        let wrap = target.failed("asking whether schema work has arrived after all");
        Ok(ledger::steps_settled(target, &self.origin, &steps).await.map_err(wrap)?)
    }

    /// What the ledger calls entries.
    fn steps(&self, ids: &[u32]) -> Vec<&str> {
        ids.iter().filter_map(|id| self.keys.get(id).map(String::as_str)).collect()
    }

    /// Restores entries and records them, all or nothing. Not cancel-safe: after dropping it, drop the session.
    pub(crate) async fn restore(&self, target: &Client, major: u32, ids: &[u32], what: &str) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let sql = self.sql(ids, major).await?;
        let steps = self.steps(ids);
        let run = async {
            target.batch_execute("BEGIN").await?;
            if let Some(role) = &self.role {
                target.batch_execute(&format!("SET LOCAL ROLE {}", quote_ident(role))).await?;
            }
            script::execute(target, &sql).await
        };
        if let Err(failure) = run.await {
            target.batch_execute("ROLLBACK").await.ok();
            return Err(failure.explain(target, what, &sql));
        }
        let finish = async {
            target.batch_execute("RESET ROLE").await?;
            ledger::record_steps(&**target, &self.origin, &steps).await?;
            target.batch_execute("COMMIT").await
        };
        finish.await.map_err(target.failed(&format!("recording {what}")))?;
        Ok(())
    }
}
