//! The target tables of a stream and the statements prepared for them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use pgstream_postgres::{Client, Lsn};
use tokio_postgres::Statement;

use super::{
    super::{
        Error,
        batch::{Batch, RelIndex, Step},
        net::Columns,
        relation::{Key, SourceRelation, TargetTable},
    },
    statements::{self, Find, Sent},
    values::Form,
};

/// Statements that are kept prepared for a table; which columns are set, or null, makes ever more of them.
const REMEMBERED: usize = 64;

/// Which statement for a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Many rows from arrays.
    InsertSet(Vec<Sent>),
    /// Many rows from arrays; so many of the columns find the row.
    UpdateSet(Vec<Sent>, usize),
    /// Many rows by key.
    DeleteSet(Vec<Sent>),
    /// Rows in COPY format.
    Copy(Vec<usize>, Form),
    /// One row.
    InsertRow(Vec<usize>),
    /// One row.
    UpdateRow(Vec<usize>, Find),
    /// One row whose identity column changed.
    ReplaceRow(Vec<usize>, Find),
    /// One row.
    DeleteRow(Find),
}

impl Shape {
    /// The statement; parameters of a change are numbered from `before` + 1 on.
    pub fn sql(&self, table: &TargetTable, before: usize) -> String {
        match self {
            Self::InsertSet(sent) => statements::insert_set(table, sent, before),
            Self::UpdateSet(sent, keys) => statements::update_set(table, sent, *keys, before),
            Self::DeleteSet(sent) => statements::delete_set(table, sent, before),
            Self::Copy(columns, form) => statements::copy(table, columns, *form),
            Self::InsertRow(columns) => statements::insert_row(table, columns, before),
            Self::UpdateRow(set, find) => statements::update_row(table, set, find, before),
            Self::ReplaceRow(set, find) => statements::replace_row(table, set, find),
            Self::DeleteRow(find) => statements::delete_row(table, find, before),
        }
    }
}

/// One target table in use.
pub struct Loaded {
    /// The table.
    pub table: TargetTable,
    /// Columns that are written: all but the ones the target computes.
    pub writable: Vec<usize>,
    /// Its place among the tables that reference each other: parents before children.
    pub rank: usize,
    /// The table, or the root of the partitions that it is one of.
    family: u32,
    /// Whether foreign keys from or to it are active in this session.
    pub foreign_keys_fire: bool,
    /// Families whose deleted or renumbered rows take rows of this one along: deleted, or with other values.
    cascades_from: Vec<u32>,
    prepared: HashMap<Shape, Statement>,
}

impl Loaded {
    /// The prepared statement of this shape.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn statement(&mut self, client: &Client, shape: &Shape) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.prepared.get(shape) {
            return Ok(statement.clone());
        }
        let statement = client.prepare(&shape.sql(&self.table, 0)).await?;
        if self.prepared.len() >= REMEMBERED {
            self.prepared.clear();
        }
        self.prepared.insert(shape.clone(), statement.clone());
        Ok(statement)
    }

    /// The key by which changes of one row are merged and applied together. Byte for byte is enough: the source reports
    /// a key that changed in its bytes only as a changed key. `None` when changes must be applied one by one.
    pub fn merge_key(&self) -> Option<&[usize]> {
        match &self.table.key {
            Key::Columns(key) => {
                let guarded = self.writable.iter().any(|i| self.table.columns[*i].identity_always && !key.contains(i));
                (!guarded).then_some(key)
            }
            Key::WholeRow | Key::Absent => None,
        }
    }

    /// The columns of the key; `None` when rows are not found by one.
    pub fn key(&self) -> Option<&[usize]> {
        match &self.table.key {
            Key::Columns(columns) => Some(columns),
            Key::WholeRow | Key::Absent => None,
        }
    }

    /// The columns that an update of these sets: those that are written and do not find the row.
    pub fn set(&self, present: Columns<'_>, key: &[usize]) -> Vec<usize> {
        self.writable.iter().copied().filter(|i| present.contains(*i) && !key.contains(i)).collect()
    }

    /// Whether values of these columns can be sent as arrays: there must be an array type, and `unnest` would flatten
    /// arrays of arrays.
    pub fn has_arrays(&self, columns: &[usize]) -> bool {
        columns.iter().all(|&i| {
            let column = &self.table.columns[i];
            column.array_oid.is_some() && !column.is_array
        })
    }

    /// The columns that find a row on the target; `None` when updates and deletes cannot be applied.
    pub fn find(&self) -> Option<Find> {
        match &self.table.key {
            Key::Columns(columns) => Some(Find::Key(columns.clone())),
            Key::WholeRow => Some(Find::Image { columns: self.writable.clone(), known: Vec::new() }),
            Key::Absent => None,
        }
    }
}

/// All relation versions of a stream, and the target tables of those that changed.
#[derive(Default)]
pub struct Tables {
    relations: Vec<Arc<SourceRelation>>,
    loaded: Vec<Option<Loaded>>,
    /// Families of which rows were deleted or renumbered in the target's transaction.
    parents_left: HashSet<u32>,
}

impl Tables {
    /// Takes relation versions over, in the order of their indices.
    pub fn announce(&mut self, relations: Vec<Arc<SourceRelation>>) {
        self.loaded.resize_with(self.relations.len() + relations.len(), || None);
        self.relations.extend(relations);
    }

    /// Forgets the target tables, which may be others now, and what was prepared for them.
    pub fn unload(&mut self) {
        self.loaded.iter_mut().for_each(|loaded| *loaded = None);
    }

    /// Reads the target table of a relation, unless that was done before.
    ///
    /// # Errors
    /// [`Error::TableMissing`], [`Error::Shape`] or [`Error::Triggers`].
    pub async fn load(&mut self, client: &Client, index: RelIndex, replica_role: bool, at: Lsn) -> Result<(), Error> {
        let slot = index.0 as usize;
        if self.loaded.get(slot).is_some_and(Option::is_some) {
            return Ok(());
        }
        let relation = self
            .relations
            .get(slot)
            .ok_or_else(|| Error::Protocol { problem: "a change of a relation that was never described".into() })?;
        let Some(table) = TargetTable::load(client, relation, replica_role).await? else {
            return Err(Error::TableMissing { table: relation.table.clone(), lsn: at });
        };
        let writable = (0..table.columns.len()).filter(|&i| !table.columns[i].generated).collect();
        let References { family, rank, fire, cascades_from } =
            if replica_role { References::default() } else { references(client, table.oid).await? };
        self.loaded[slot] = Some(Loaded {
            table,
            writable,
            rank,
            family,
            foreign_keys_fire: fire,
            cascades_from,
            prepared: HashMap::new(),
        });
        Ok(())
    }

    /// Takes note of changes that may cascade, in this target transaction.
    pub fn note_parents(&mut self, batch: &Batch) {
        for step in batch.steps() {
            let Step::Rows(rows) = step else { continue };
            for change in rows.iter().filter(|change| change.kind.leaves_a_key()) {
                if let Some(loaded) = self.loaded.get(change.relation.0 as usize).and_then(Option::as_ref)
                    && loaded.foreign_keys_fire
                {
                    self.parents_left.insert(loaded.family);
                }
            }
        }
    }

    /// The target's transaction has ended.
    pub fn forget_parents(&mut self) {
        self.parents_left.clear();
    }

    /// Whether a cascade may already have changed rows of this table, in this target transaction.
    pub fn may_have_cascaded(&self, loaded: &Loaded) -> bool {
        loaded.cascades_from.iter().any(|parent| self.parents_left.contains(parent))
    }

    /// A table that was loaded.
    pub fn get(&self, index: RelIndex) -> Option<&Loaded> {
        self.loaded.get(index.0 as usize)?.as_ref()
    }

    /// A table that was loaded, to prepare statements.
    pub fn get_mut(&mut self, index: RelIndex) -> Option<&mut Loaded> {
        self.loaded.get_mut(index.0 as usize)?.as_mut()
    }
}

/// A table's place among those that reference each other.
#[derive(Default)]
struct References {
    family: u32,
    rank: usize,
    fire: bool,
    cascades_from: Vec<u32>,
}

/// How many foreign keys lie between a table and one that references nothing, whether there are any, and which ones
/// change its rows. Cycles end the walk. Partitions are taken for their root.
async fn references(client: &Client, oid: u32) -> Result<References, Error> {
    let row = client
        .query_one(
            "WITH RECURSIVE fk AS MATERIALIZED (
                 SELECT coalesce(pg_partition_root(conrelid), conrelid)::oid AS child,
                        coalesce(pg_partition_root(confrelid), confrelid)::oid AS parent,
                        confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd') AS cascades
                   FROM pg_constraint WHERE contype = 'f'),
             this(oid) AS (SELECT coalesce(pg_partition_root($1::oid), $1::oid)::oid),
             up(oid, depth) AS (
                 SELECT oid, 0 FROM this
                 UNION
                 SELECT fk.parent, up.depth + 1
                   FROM up JOIN fk ON fk.child = up.oid AND fk.parent <> up.oid
                  WHERE up.depth < 64)
             SELECT this.oid, (SELECT max(depth) FROM up),
                    EXISTS (SELECT FROM fk WHERE this.oid IN (child, parent)),
                    array(SELECT DISTINCT parent FROM fk WHERE child = this.oid AND cascades)
               FROM this",
            &[&oid],
        )
        .await
        .map_err(client.failed("reading the foreign keys of a target table"))?;
    Ok(References {
        family: row.get(0),
        rank: usize::try_from(row.get::<_, i32>(1)).unwrap_or_default(),
        fire: row.get(2),
        cascades_from: row.get(3),
    })
}
