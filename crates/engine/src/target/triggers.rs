//! Triggers of the target that rest while replicated rows are written: the source's have acted on these already.
//!
//! ```text
//!  stream ──> disable: ALTER TABLE … DISABLE TRIGGER + a row in pgstream.disabled_triggers, one transaction
//!  cutover ─> enable_triggers: the reverse, for what is on record
//! ```
//! The invariant: a trigger that is on record was enabled before, and nothing else is ever enabled.

use pgstream_postgres::{Client, Error, TableName, quote_ident, quote_literal};

/// A trigger on a table of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Its table.
    pub table: TableName,
    /// Its name.
    pub name: String,
}

impl Trigger {
    /// `ALTER TABLE … DISABLE TRIGGER …`, which the owner of the table may do.
    #[must_use]
    pub fn disabling(&self) -> String {
        format!("ALTER TABLE {} DISABLE TRIGGER {}", self.table, quote_ident(&self.name))
    }

    fn enabling(&self) -> String {
        format!("ALTER TABLE {} ENABLE TRIGGER {}", self.table, quote_ident(&self.name))
    }
}

/// Disables the triggers and puts them on record, in the open transaction or in one of its own.
///
/// # Errors
/// When the role does not own a table.
pub async fn disable(client: &Client, triggers: &[Trigger]) -> Result<(), Error> {
    // One message is one transaction.
    let statements: Vec<String> = triggers
        .iter()
        .flat_map(|trigger| {
            let Trigger { table, name } = trigger;
            let values = [&table.schema, &table.name, name].map(|value| quote_literal(value)).join(", ");
            let record = format!("INSERT INTO pgstream.disabled_triggers VALUES ({values}) ON CONFLICT DO NOTHING");
            [trigger.disabling(), record]
        })
        .collect();
    client.batch_execute(&statements.join(";\n")).await.map_err(client.failed("disabling triggers of the target"))?;
    for Trigger { table, name } in triggers {
        tracing::info!(%table, trigger = name, "disabled until cutover: it would act on replicated rows a second time");
    }
    Ok(())
}

/// Enables what [`disable`] has disabled, all or nothing: for a target that is about to be written by its users. One that
/// is gone, or was enabled by somebody else since, is only taken off the record.
///
/// # Errors
/// When the role does not own a table.
pub async fn enable_triggers(client: &mut Client) -> Result<Vec<Trigger>, Error> {
    let failed = client.failed("enabling the target's triggers again");
    let enable = async {
        let tx = client.transaction().await?;
        let taken = tx
            .query(
                "WITH taken AS (DELETE FROM pgstream.disabled_triggers RETURNING schema_name, table_name, trigger_name)
                 SELECT taken.schema_name, taken.table_name, taken.trigger_name
                   FROM taken
                   JOIN pg_namespace n ON n.nspname = taken.schema_name
                   JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = taken.table_name
                   JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = taken.trigger_name AND t.tgenabled = 'D'
                  ORDER BY 1, 2, 3",
                &[],
            )
            .await?;
        let triggers: Vec<Trigger> = taken
            .iter()
            .map(|row| Trigger {
                table: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
                name: row.get(2),
            })
            .collect();
        let statements: Vec<String> = triggers.iter().map(Trigger::enabling).collect();
        tx.batch_execute(&statements.join(";\n")).await?;
        tx.commit().await?;
        Ok(triggers)
    };
    enable.await.map_err(failed)
}
