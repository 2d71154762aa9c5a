//! What this run copies, and how each table is written.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use pgstream_config::pipeline::{ObjectType, ObjectTypes, SnapshotMode};
use pgstream_postgres::{Client, TableName};
use tokio::sync::OnceCell;

use super::{
    Error, Summary,
    catalog::{Majors, Table},
    copy::Unit,
    finish,
    ledger::Ledger,
    plan,
    progress::{Event, TableProgress},
    run::Snapshotting,
    select::{Selection, TableWork},
    target,
};

/// The tables of a run.
pub(super) struct Plan {
    pub(super) units: Vec<Arc<Unit>>,
    /// For each table, those that must be complete before it.
    pub(super) before: HashMap<TableName, HashSet<TableName>>,
    /// Bytes by table OID.
    pub(super) sizes: BTreeMap<u32, u64>,
}

impl Snapshotting {
    #[expect(clippy::too_many_arguments, reason = "one call; each is a different fact")]
    pub(super) async fn plan(
        &self,
        target: &Client,
        wanted: Vec<Table>,
        ledger: &Ledger,
        own_rows: &HashSet<TableName>,
        majors: Majors,
        replica: bool,
        summary: &mut Summary,
    ) -> Result<Plan, Error> {
        let references: Vec<&Table> = wanted.iter().collect();
        let there = target::tables(target, &references).await?;
        let sizes: BTreeMap<u32, u64> = wanted.iter().map(|table| (table.oid, table.bytes)).collect();
        let total = wanted.iter().filter(|table| self.is_needed(ledger, &table.name)).map(|table| table.bytes).sum();
        let part_bytes = self.job.settings.part_bytes;
        let whole_bytes = plan::whole(part_bytes, total, self.copies_at_once());
        let (mut units, mut missing) = (Vec::new(), Vec::new());
        for table in wanted {
            let state = ledger.state(&table.name);
            if !self.is_needed(ledger, &table.name) {
                summary.tables_before += 1;
                continue;
            }
            let Some(there) = there.get(&table.name) else {
                missing.push(table);
                continue;
            };
            there.check(&table)?;
            let write = there.write(&table, own_rows.contains(&table.name), self.job.target_settings.on_conflict)?;
            let format = table.format(majors, &there.types);
            let parts = plan::split(&table, part_bytes, whole_bytes, majors.source);
            let progress = Arc::new(TableProgress::new(table.name.clone(), table.bytes));
            units.push(Arc::new(Unit { table, format, write, state, parts, progress, cleared: OnceCell::new() }));
        }
        self.check_missing(missing, summary)?;
        summary.tables += units.len();
        self.progress.send(Event::Planned {
            tables: units.iter().map(|unit| unit.progress.clone()).collect(),
            finished: summary.tables_before,
        });
        let mut before = HashMap::new();
        if !replica {
            let names = units.iter().map(|unit| unit.table.name.clone()).collect();
            before = plan::parents_first(&names, &target::references(target).await?)?;
        }
        Ok(Plan { units, before, sizes })
    }

    /// Tables without a place on the target: an error, unless the object filter left them out.
    fn check_missing(&self, missing: Vec<Table>, summary: &mut Summary) -> Result<(), Error> {
        if missing.is_empty() {
            return Ok(());
        }
        let schema = &self.job.settings.schema;
        let filtered = !schema.object_types.contains(ObjectType::Tables) || schema.object_types != ObjectTypes::All;
        let dependent = missing.iter().any(|table| table.extension_config);
        if self.job.settings.mode == SnapshotMode::Full && (filtered || dependent) {
            let notice = format!(
                "rows not copied, because their tables were left out: {}",
                finish::sorted(missing.into_iter().map(|table| table.name))
            );
            self.tell(vec![notice], summary);
            return Ok(());
        }
        Err(Error::TableMissing { tables: missing.iter().map(|table| table.name.to_string()).collect() })
    }
}

/// Schema work by table, with the size of the table.
pub(super) fn table_work(selection: &Selection, sizes: &BTreeMap<u32, u64>) -> HashMap<u32, (TableWork, u64)> {
    let size = |table: &u32| sizes.get(table).copied().unwrap_or(0);
    selection.tables.iter().map(|(table, work)| (*table, (work.clone(), size(table)))).collect()
}
