//! The publication: which tables' changes the slot hands out.
//!
//! `FOR ALL TABLES` where no filter is configured and the role may; otherwise a list, which every `init` brings up to
//! date. Tables are only ever added: another pipeline of the same database may follow what this one does not want, and
//! the stream leaves out what it is not asked for.

use std::collections::HashSet;

use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{Client, Error as ServerError, TableName, quote_ident, quote_literal};
use tokio_postgres::{GenericClient, Transaction, error::SqlState};
use tokio_util::sync::CancellationToken;

use super::{
    Error, SCHEMA,
    error::list,
    lock::{self, Patience},
    report::{Action, Object, Step},
    tables::{self, Table, Tables},
};

/// Comment on a publication that `init` made; `destroy` drops no other.
pub(crate) const MARK: &str = "made by pgstream-aws init";

/// A publication as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// `FOR ALL TABLES`.
    pub all_tables: bool,
    /// Changes of partitions come as changes of the partitioned table.
    pub via_root: bool,
    /// INSERT, UPDATE, DELETE and TRUNCATE are all published.
    pub all_actions: bool,
    /// Stored generated columns are published (18 and later).
    pub generated_columns: bool,
    /// The tables whose changes it publishes: partitions, not what they are partitions of.
    pub tables: Vec<TableName>,
    /// OIDs of the tables that it names.
    pub(crate) members: HashSet<u32>,
    /// Made by `init`.
    pub(crate) ours: bool,
    pub(crate) owner: String,
    /// Whether this role has the rights of the owner.
    pub(crate) owned: bool,
}

impl Publication {
    /// Whether it publishes in the way that the stream expects.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        !self.via_root && self.all_actions && !self.generated_columns
    }
}

/// A publication as it is; `None` when there is none.
///
/// # Errors
/// When the session is gone.
pub async fn describe(client: &Client, name: &str) -> Result<Option<Publication>, ServerError> {
    read(&**client, name).await.map_err(client.failed("reading the publication"))
}

async fn read(client: &impl GenericClient, name: &str) -> Result<Option<Publication>, tokio_postgres::Error> {
    let row = client
        .query_opt(
            "SELECT puballtables, pubviaroot, pubinsert AND pubupdate AND pubdelete AND pubtruncate,
                    -- boolean on early betas of 18, a letter since
                    coalesce(to_jsonb(p)->>'pubgencols', 'n') NOT IN ('n', 'false'),
                    ARRAY(SELECT prrelid FROM pg_publication_rel WHERE prpubid = p.oid),
                    obj_description(p.oid, 'pg_publication') IS NOT DISTINCT FROM $2,
                    pg_get_userbyid(pubowner)::text, pg_has_role(pubowner, 'USAGE')
             FROM pg_publication p WHERE pubname = $1::text",
            &[&name, &MARK],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let tables = client
        .query("SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = $1::text ORDER BY 1, 2", &[&name])
        .await?;
    Ok(Some(Publication {
        name: name.to_owned(),
        all_tables: row.get(0),
        via_root: row.get(1),
        all_actions: row.get(2),
        generated_columns: row.get(3),
        tables: tables.iter().map(|row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect(),
        members: row.get::<_, Vec<u32>>(4).into_iter().collect(),
        ours: row.get(5),
        owner: row.get(6),
        owned: row.get(7),
    }))
}

/// What `init` has to do to a publication.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    /// Create it for all tables.
    CreateAll,
    /// Create it for these tables.
    CreateList(Vec<Table>),
    /// It is there.
    Update {
        found: Publication,
        /// Wanted tables that it does not name.
        add: Vec<Table>,
    },
}

impl Plan {
    /// The plan for what is there and what is wanted.
    pub(crate) async fn make(
        client: &mut Client,
        name: &str,
        tables: &Tables,
        filter: &TableFilter,
    ) -> Result<Self, Error> {
        let members = || tables.members(filter).into_iter();
        Ok(match describe(client, name).await? {
            Some(found) => {
                let missing = |table: &&Table| !found.all_tables && !is_published(&found, table);
                let add = members().filter(missing).cloned().collect();
                Self::Update { found, add }
            }
            None if filter.is_everything() && may_publish_all(client, name).await? => Self::CreateAll,
            None => Self::CreateList(members().cloned().collect()),
        })
    }

    /// The tables whose changes will be published.
    pub(crate) fn published<'a>(&self, tables: &'a Tables) -> Vec<&'a Table> {
        let added = |add: &[Table]| add.iter().map(|table| table.oid).collect::<HashSet<_>>();
        match self {
            Self::CreateAll => tables.published_by_all().collect(),
            Self::CreateList(add) => {
                let members = added(add);
                tables.published_by(&members).collect()
            }
            Self::Update { found, .. } if found.all_tables => tables.published_by_all().collect(),
            Self::Update { found, add } => {
                let members = &found.members | &added(add);
                let already: HashSet<&TableName> = found.tables.iter().collect();
                let listed: HashSet<u32> = tables.published_by(&members).map(|table| table.oid).collect();
                // Whole schemas (`FOR TABLES IN SCHEMA`) name no table.
                tables.iter().filter(|t| listed.contains(&t.oid) || already.contains(&t.name)).collect()
            }
        }
    }

    /// Tables that this role must own to name them.
    pub(crate) fn named(&self) -> &[Table] {
        match self {
            Self::CreateAll => &[],
            Self::CreateList(add) | Self::Update { add, .. } => add,
        }
    }
}

/// Whether a list names the table, or the partitioned table that it belongs to.
fn is_published(found: &Publication, table: &Table) -> bool {
    found.members.contains(&table.oid) || table.ancestors.iter().any(|oid| found.members.contains(oid))
}

/// Superusers may publish all tables, and on RDS more roles are said to: only trying tells. Nothing remains of it.
async fn may_publish_all(client: &mut Client, name: &str) -> Result<bool, Error> {
    let failed = client.failed("trying to publish all tables");
    let attempt = async {
        let tx = client.transaction().await?;
        tx.batch_execute(&format!("CREATE PUBLICATION {} FOR ALL TABLES", quote_ident(name))).await?;
        tx.rollback().await
    };
    match attempt.await {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(error) => Err(failed(error).into()),
    }
}

/// What [`ensure`] came to.
pub(crate) enum Outcome {
    Done(Vec<Step>),
    /// Tables without a replica identity came up meanwhile: nothing was published.
    Keyless(Vec<Table>),
}

/// Carries a plan out in one transaction, which ends without effect if it would publish a table whose UPDATE and DELETE
/// would then fail.
pub(crate) async fn ensure(
    client: &mut Client,
    server: &str,
    name: &str,
    major: u32,
    plan: &Plan,
    cancel: &CancellationToken,
) -> Result<Outcome, Error> {
    let statements = statements(name, major, plan);
    if statements.is_empty() {
        return Ok(Outcome::Done(steps(name, plan)));
    }
    let names: Vec<String> = plan.named().iter().map(|table| table.name.to_string()).collect();
    let mut patience = Patience::new(server, "publishing tables", &names);
    loop {
        match attempt(client, name, &statements).await {
            Ok(keyless) if keyless.is_empty() => return Ok(Outcome::Done(steps(name, plan))),
            Ok(keyless) => return Ok(Outcome::Keyless(keyless)),
            Err(error) => patience.pause(client, error, cancel).await?,
        }
    }
}

async fn attempt(client: &mut Client, name: &str, statements: &[String]) -> Result<Vec<Table>, tokio_postgres::Error> {
    let tx = client.transaction().await?;
    lock::limit_wait(&tx).await?;
    for statement in statements {
        tx.batch_execute(statement).await?;
    }
    let keyless = keyless(&tx, name).await?;
    if keyless.is_empty() {
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    Ok(keyless)
}

/// Published tables whose UPDATE and DELETE would fail.
async fn keyless(tx: &Transaction<'_>, name: &str) -> Result<Vec<Table>, tokio_postgres::Error> {
    let published: HashSet<TableName> =
        read(tx, name).await?.map(|found| found.tables.into_iter().collect()).unwrap_or_default();
    let tables = tables::read(tx).await?;
    Ok(tables.iter().filter(|t| t.lacks_identity() && published.contains(&t.name)).cloned().collect())
}

fn statements(name: &str, major: u32, plan: &Plan) -> Vec<String> {
    let name = quote_ident(name);
    let mut settings = "publish = 'insert, update, delete, truncate', publish_via_partition_root = false".to_owned();
    if major >= 18 {
        settings.push_str(", publish_generated_columns = none");
    }
    let comment = || format!("COMMENT ON PUBLICATION {name} IS {}", quote_literal(MARK));
    match plan {
        Plan::CreateAll => vec![format!("CREATE PUBLICATION {name} FOR ALL TABLES WITH ({settings})"), comment()],
        Plan::CreateList(tables) => {
            let log = TableName::new(SCHEMA, "schema_log");
            let list = only(tables.iter().map(|table| &table.name).chain([&log]));
            vec![format!("CREATE PUBLICATION {name} FOR TABLE {list} WITH ({settings})"), comment()]
        }
        Plan::Update { found, add } => {
            let set = (!found.is_standard()).then(|| format!("ALTER PUBLICATION {name} SET ({settings})"));
            let add = (!add.is_empty())
                .then(|| format!("ALTER PUBLICATION {name} ADD TABLE {}", only(add.iter().map(|table| &table.name))));
            set.into_iter().chain(add).collect()
        }
    }
}

/// Without ONLY, tables that inherit from a named one would become members, too.
fn only<'a>(names: impl Iterator<Item = &'a TableName>) -> String {
    names.map(|name| format!("ONLY {name}")).collect::<Vec<_>>().join(", ")
}

fn steps(name: &str, plan: &Plan) -> Vec<Step> {
    match plan {
        Plan::CreateAll => vec![Step::new(Action::Created, Object::Publication, name).detail("for all tables")],
        Plan::CreateList(tables) => {
            let detail = format!("for a list of {} and pgstream.schema_log", count(tables.len()));
            vec![Step::new(Action::Created, Object::Publication, name).detail(detail)]
        }
        Plan::Update { found, add } => {
            let (action, detail) = if found.is_standard() {
                (
                    Action::Kept,
                    if found.all_tables {
                        "for all tables".to_owned()
                    } else {
                        format!("publishes {}", count(found.tables.len()))
                    },
                )
            } else {
                (Action::Changed, "publishes every action again, by partition, without generated columns".to_owned())
            };
            let added = add.iter().map(|t| Step::new(Action::Created, Object::PublishedTable, t.name.to_string()));
            std::iter::once(Step::new(action, Object::Publication, name).detail(detail)).chain(added).collect()
        }
    }
}

fn count(tables: usize) -> String {
    if tables == 1 { "1 table".to_owned() } else { format!("{tables} tables") }
}

/// What the user should know about what is, and is not, published.
pub(crate) fn warnings(name: &str, plan: &Plan, tables: &Tables, filter: &TableFilter, captured: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let all = matches!(plan, Plan::CreateAll) || matches!(plan, Plan::Update { found, .. } if found.all_tables);
    if all && !captured {
        warnings.push(
            "all tables are published, also those created from now on: UPDATE and DELETE on a new table without a primary \
             key fail until it has a replica identity (`ALTER TABLE … REPLICA IDENTITY FULL`, or run init again)"
                .to_owned(),
        );
    } else if !all && !captured {
        warnings.push(format!(
            "publication {} is a list of tables: a table created from now on is followed after the next init",
            quote_ident(name)
        ));
    }
    if let Plan::Update { found, .. } = plan {
        let unwanted: Vec<&TableName> = tables
            .iter()
            .filter(|table| found.members.contains(&table.oid) && !tables.wants_rows(table, filter))
            .map(|table| &table.name)
            .collect();
        if !unwanted.is_empty() {
            warnings.push(format!(
                "still published though no longer wanted: {}; the stream leaves them out. To take them out: `ALTER \
                 PUBLICATION {} DROP TABLE …`, unless another pipeline follows them",
                list(&unwanted),
                quote_ident(name)
            ));
        }
    }
    let published: HashSet<u32> =
        plan.published(tables).iter().flat_map(|table| table.ancestors.iter().copied()).collect();
    let keyless_roots: Vec<&TableName> = tables
        .iter()
        .filter(|table| table.partitioned && !table.has_key && published.contains(&table.oid))
        .map(|table| &table.name)
        .collect();
    if !keyless_roots.is_empty() {
        warnings.push(format!(
            "partitioned without a primary key: {}; UPDATE and DELETE on a new partition fail until it has REPLICA \
             IDENTITY FULL: set it when creating one, or run init again",
            list(&keyless_roots)
        ));
    }
    let unlogged: Vec<&TableName> = tables
        .iter()
        .filter(|t| t.unlogged && !t.partitioned && tables.wants_rows(t, filter))
        .map(|t| &t.name)
        .collect();
    if !unlogged.is_empty() {
        warnings.push(format!("unlogged, so their changes cannot be followed: {}", list(&unlogged)));
    }
    warnings
}

/// Drops the publication.
pub(crate) async fn drop(client: &Client, name: &str) -> Result<(), ServerError> {
    client
        .batch_execute(&format!("DROP PUBLICATION IF EXISTS {}", quote_ident(name)))
        .await
        .map_err(client.failed("dropping the publication"))
}
