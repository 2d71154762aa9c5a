//! The statements for one target table, as text.
//!
//! Set-wise ones take one array a column; values in text form come as `text[]` and are cast, which works for every
//! type. Row-wise ones take one parameter a column. `before` parameters belong to others in the same statement.

use super::{
    super::relation::{Lookup, TargetColumn, TargetTable},
    values::Form,
};

/// Conditions by which rows are looked up; to plan many takes the server longer than they save.
pub const LOOKUPS: usize = 16;

/// A column of a set-wise statement: its index in the table, and the form of its values.
pub type Sent = (usize, Form);

/// `INSERT` of many rows from arrays.
pub fn insert_set(table: &TargetTable, sent: &[Sent], before: usize) -> String {
    let columns: Vec<&str> = sent.iter().map(|&(i, _)| table.columns[i].ident.as_str()).collect();
    format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
        table.name,
        columns.join(", "),
        values(table, sent).join(", "),
        arrays(table, sent, &[], before)
    )
}

/// `UPDATE` of many rows; the first `keys` of `sent` find the row, the others are set.
pub fn update_set(table: &TargetTable, sent: &[Sent], keys: usize, before: usize) -> String {
    let values = values(table, sent);
    format!(
        "UPDATE {}{} AS t SET {} FROM {} WHERE {}",
        table.only,
        table.name,
        assignments(table, &sent[keys..], &values[keys..]),
        arrays(table, sent, &[], before),
        matches(table, &sent[..keys], &values)
    )
}

/// `DELETE` of many rows by key.
pub fn delete_set(table: &TargetTable, sent: &[Sent], before: usize) -> String {
    format!(
        "DELETE FROM {}{} AS t USING {} WHERE {}",
        table.only,
        table.name,
        arrays(table, sent, &[], before),
        matches(table, sent, &values(table, sent))
    )
}

/// `DELETE` of many rows by all of their values. Parameters are the images, no two of which are equal, then a number for each
/// and how many rows of it go.
pub fn delete_images(table: &TargetTable, images: &Images) -> String {
    format!(
        "DELETE FROM {}{} AS t USING ({}) AS m WHERE m.place <= m.rows AND t.ctid = m.ctid AND t.tableoid = m.tableoid",
        table.only,
        table.name,
        places(table, images, &["image", "rows"]),
    )
}

/// `UPDATE` of many rows by all of their values. Parameters are the images, no two of which are equal, and a number for each;
/// then what rows become, with the number of the image that each has and its place among the rows that have it.
///
/// How many rows will be found is beyond the planner, which would go through all new rows for each: a full join is never done
/// that way. Behind OFFSET it stays one.
pub fn update_images(table: &TargetTable, images: &Images, becomes: &[Sent]) -> String {
    format!(
        "UPDATE {}{} AS t SET {}
           FROM (SELECT m.tableoid, m.ctid, s.*
                   FROM ({}) AS m FULL JOIN {} ON s.image = m.image AND s.place = m.place OFFSET 0) AS s
          WHERE s.image IS NOT NULL AND t.ctid = s.ctid AND t.tableoid = s.tableoid",
        table.only,
        table.name,
        assignments(table, becomes, &values(table, becomes)),
        places(table, images, &["image"]),
        arrays(table, becomes, &["image", "place"], images.sent.len() + 1),
    )
}

/// The rows that have one of the images: where they are, and their place among the rows of that image. Looking them up by what
/// can be hashed, or found in an index, keeps it to one pass over the table; what is equal is decided by the stored bytes.
fn places(table: &TargetTable, images: &Images, numbers: &[&str]) -> String {
    let Images { sent, nulls } = images;
    let values = values(table, sent);
    let mut lookups: Vec<(u8, String)> = sent
        .iter()
        .zip(&values)
        .zip(nulls)
        .filter_map(|((&(i, _), value), &nulls)| {
            let column = &table.columns[i];
            let stored = format!("t.{}", column.ident);
            match column.lookup {
                Lookup::Value if nulls => Some((2, value_or_nothing(&stored), value_or_nothing(value))),
                Lookup::Value => Some((0, stored, value.clone())),
                Lookup::Short => Some((1, short(&stored), short(value))),
                Lookup::Nothing => None,
            }
        })
        .map(|(rank, stored, value)| (rank, format!("{stored} = {value}")))
        .collect();
    lookups.sort_by_key(|(rank, _)| *rank);
    let lookups = lookups.into_iter().map(|(_, condition)| condition).take(LOOKUPS);
    let stored: Vec<String> = sent.iter().map(|&(i, _)| format!("t.{}", table.columns[i].ident)).collect();
    let conditions = lookups.chain([image_equal(&stored, &values)]).collect::<Vec<_>>().join(" AND ");
    let numbered: Vec<String> = numbers.iter().map(|number| format!("s.{number}")).collect();
    format!(
        "SELECT t.tableoid, t.ctid, {}, pg_catalog.row_number() OVER (PARTITION BY s.image) AS place
           FROM {}{} AS t JOIN {} ON {conditions}",
        numbered.join(", "),
        table.only,
        table.name,
        arrays(table, sent, numbers, 0),
    )
}

/// Compares the stored bytes, which every type has, so that 1.0 is not taken for 1.00.
fn image_equal(stored: &[String], values: &[String]) -> String {
    format!("pg_catalog.record_image_eq(ROW({}), ROW({}))", stored.join(", "), values.join(", "))
}

/// Null is equal to nothing, but its text can be made so.
fn value_or_nothing(value: &str) -> String {
    format!("coalesce({value}::text, '')")
}

/// A value that is not too long to be compared for each row of a table; the length is known without fetching the value.
fn short(value: &str) -> String {
    format!("CASE WHEN pg_catalog.octet_length({value}) <= 256 THEN {value} ELSE '' END")
}

/// `COPY … FROM STDIN` of these columns.
pub fn copy(table: &TargetTable, columns: &[usize], form: Form) -> String {
    let columns: Vec<&str> = columns.iter().map(|&i| table.columns[i].ident.as_str()).collect();
    let form = match form {
        Form::Text => "text",
        Form::Binary => "binary",
    };
    format!("COPY {} ({}) FROM STDIN (FORMAT {form})", table.name, columns.join(", "))
}

/// `INSERT` of one row.
pub fn insert_row(table: &TargetTable, columns: &[usize], before: usize) -> String {
    if columns.is_empty() {
        return format!("INSERT INTO {} DEFAULT VALUES", table.name);
    }
    let names: Vec<&str> = columns.iter().map(|&i| table.columns[i].ident.as_str()).collect();
    let parameters: Vec<String> = (1..=columns.len()).map(|n| format!("${}", before + n)).collect();
    format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
        table.name,
        names.join(", "),
        parameters.join(", ")
    )
}

/// `UPDATE` of one row: parameters are the set columns, then what finds the row. One that sets nothing still has to
/// find its row.
pub fn update_row(table: &TargetTable, set: &[usize], find: &Find, before: usize) -> String {
    if set.is_empty() {
        return format!(
            "SELECT 1 FROM {}{} AS t WHERE {} FOR UPDATE",
            table.only,
            table.name,
            find.condition(table, before)
        );
    }
    let assignments: Vec<String> =
        set.iter().enumerate().map(|(n, &i)| format!("{} = ${}", table.columns[i].ident, before + n + 1)).collect();
    format!(
        "UPDATE {}{} AS t SET {} WHERE {}",
        table.only,
        table.name,
        assignments.join(", "),
        find.condition(table, before + set.len())
    )
}

/// `DELETE` of one row.
pub fn delete_row(table: &TargetTable, find: &Find, before: usize) -> String {
    format!("DELETE FROM {}{} AS t WHERE {}", table.only, table.name, find.condition(table, before))
}

/// Moves a row whose `GENERATED ALWAYS AS IDENTITY` column changed, which UPDATE may not set: parameters are the set
/// columns, then what finds the row; columns that are not set keep the old row's values.
pub fn replace_row(table: &TargetTable, set: &[usize], find: &Find) -> String {
    let writable: Vec<usize> = (0..table.columns.len()).filter(|&i| !table.columns[i].generated).collect();
    let names: Vec<&str> = writable.iter().map(|&i| table.columns[i].ident.as_str()).collect();
    let values: Vec<String> = writable
        .iter()
        .map(|i| match set.iter().position(|s| s == i) {
            Some(n) => format!("${}::{}", n + 1, table.columns[*i].type_sql),
            None => format!("old.{}", table.columns[*i].ident),
        })
        .collect();
    format!(
        "WITH old AS (DELETE FROM {}{} AS t WHERE {} RETURNING t.*)
         INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM old",
        table.only,
        table.name,
        find.condition(table, set.len()),
        table.name,
        names.join(", "),
        values.join(", ")
    )
}

/// Rows that are found by all of their values.
pub struct Images {
    /// All columns that are stored.
    pub sent: Vec<Sent>,
    /// Which of them are null in some row.
    pub nulls: Vec<bool>,
}

/// How one row is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Find {
    /// By key columns.
    Key(Vec<usize>),
    /// By every column that is sent: one of several equal rows.
    Image {
        /// All of them.
        columns: Vec<usize>,
        /// Those whose value is not null and has an equality that an index may know.
        known: Vec<usize>,
    },
}

impl Find {
    /// The columns whose values are parameters.
    pub fn columns(&self) -> &[usize] {
        match self {
            Self::Key(columns) | Self::Image { columns, .. } => columns,
        }
    }

    fn condition(&self, table: &TargetTable, before: usize) -> String {
        let parameter = |n: usize, i: usize| format!("${}::{}", before + n + 1, table.columns[i].type_sql);
        match self {
            Self::Key(columns) => columns
                .iter()
                .enumerate()
                // A composite would be taken for an anonymous one, which has no text form.
                .map(|(n, &i)| equal(&table.columns[i], &parameter(n, i)))
                .collect::<Vec<_>>()
                .join(" AND "),
            Self::Image { columns, known } => {
                let stored: Vec<String> = columns.iter().map(|&i| format!("t.{}", table.columns[i].ident)).collect();
                let image: Vec<String> = columns.iter().enumerate().map(|(n, &i)| parameter(n, i)).collect();
                let lookups = columns.iter().zip(&image).filter(|(i, _)| known.contains(i));
                let mut conditions: Vec<String> = lookups.map(|(&i, value)| equal(&table.columns[i], value)).collect();
                conditions.push(image_equal(&stored, &image));
                format!(
                    "(t.tableoid, t.ctid) = (SELECT t.tableoid, t.ctid FROM {}{} AS t WHERE {} LIMIT 1)",
                    table.only,
                    table.name,
                    conditions.join(" AND ")
                )
            }
        }
    }
}

/// `(SELECT unnest($1::a[]) AS c1, unnest($2::b[]) AS c2, unnest($3::int8[]) AS image) AS s`. As a function in FROM, `unnest` would take composite
/// values apart into columns of their own.
fn arrays(table: &TargetTable, sent: &[Sent], numbers: &[&str], before: usize) -> String {
    let columns = sent.iter().enumerate().map(|(n, &(i, form))| {
        let element = match form {
            Form::Text => "text",
            Form::Binary => &table.columns[i].type_sql,
        };
        format!("pg_catalog.unnest(${}::{element}[]) AS c{}", before + n + 1, n + 1)
    });
    let before = before + sent.len();
    let numbers =
        numbers.iter().enumerate().map(|(n, name)| format!("pg_catalog.unnest(${}::int8[]) AS {name}", before + n + 1));
    format!("(SELECT {}) AS s", columns.chain(numbers).collect::<Vec<_>>().join(", "))
}

fn values(table: &TargetTable, sent: &[Sent]) -> Vec<String> {
    sent.iter()
        .enumerate()
        .map(|(n, &(i, form))| match form {
            Form::Text => format!("s.c{}::{}", n + 1, table.columns[i].type_sql),
            Form::Binary => format!("s.c{}", n + 1),
        })
        .collect()
}

/// `a = …, b = …`
fn assignments(table: &TargetTable, sent: &[Sent], values: &[String]) -> String {
    let set = sent.iter().zip(values).map(|(&(i, _), value)| format!("{} = {value}", table.columns[i].ident));
    set.collect::<Vec<_>>().join(", ")
}

fn equal(column: &TargetColumn, value: &str) -> String {
    format!("t.{} {} {value}", column.ident, column.equals)
}

fn matches(table: &TargetTable, keys: &[Sent], values: &[String]) -> String {
    keys.iter().zip(values).map(|(&(i, _), value)| equal(&table.columns[i], value)).collect::<Vec<_>>().join(" AND ")
}
