//! Where the sequences of the source are. They are not in the WAL stream, so they are read.

use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{Client, Error, TableName, quote_ident};

/// What could be read, and what could not.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    /// Those that were ever used.
    pub(crate) values: Vec<Value>,
    /// Those whose value this role is not shown.
    pub(crate) unreadable: Vec<Unreadable>,
}

/// One sequence of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    /// Its name.
    pub(crate) name: TableName,
    /// `last_value` on the source; it has been handed out there.
    pub(crate) last_value: i64,
}

/// A sequence that will not be carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Its name.
    pub(crate) name: TableName,
    /// The statement that changes it.
    pub(crate) fix: String,
}

/// Names are joined, not looked up: looking up asks for a right on the schema, which reading a value does not.
const SEQUENCES: &str = "
    SELECT s.schemaname::text, s.sequencename::text, s.last_value, owners.nspname::text, owner.relname::text,
           has_sequence_privilege(c.oid, 'SELECT, USAGE'), current_user::text
      FROM pg_sequences s
      JOIN pg_namespace n ON n.nspname = s.schemaname
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.sequencename
      LEFT JOIN pg_depend d
        ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
       AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 AND d.objid = c.oid
      LEFT JOIN pg_class owner ON owner.oid = d.refobjid
      LEFT JOIN pg_namespace owners ON owners.oid = owner.relnamespace
     WHERE s.schemaname <> 'pgstream'
     ORDER BY 1, 2";

/// Sequences of tables that are followed, and of no table.
pub(crate) async fn read(source: &Client, filter: &TableFilter) -> Result<Sequences, Error> {
    let rows = source.query(SEQUENCES, &[]).await.map_err(source.failed("reading the sequences of the source"))?;
    let mut found = Sequences::default();
    for row in &rows {
        if let (Some(schema), Some(owner)) = (row.get::<_, Option<&str>>(3), row.get::<_, Option<&str>>(4))
            && !filter.wants_rows(schema, owner)
        {
            continue;
        }
        let name = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        match row.get::<_, Option<i64>>(2) {
            Some(last_value) => found.values.push(Value { name, last_value }),
            None if row.get(5) => {}
            None => {
                let fix = format!("GRANT SELECT ON SEQUENCE {name} TO {};", quote_ident(row.get(6)));
                found.unreadable.push(Unreadable { name, fix });
            }
        }
    }
    Ok(found)
}
