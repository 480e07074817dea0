//! What whoever keeps tables for an application asks of a session.

use ensue_core::{BoxFuture, Error, Replacement, RowDifference, SqlSession};
use futures_util::FutureExt;
use rusqlite::Connection;

use crate::transaction::Session;

impl SqlSession for Session {
    fn run_statements(&self, statements: String) -> BoxFuture<'_, Result<(), Error>> {
        self.run(move |connection| connection.execute_batch(&statements)).boxed()
    }

    fn hangs_on(&self, tables: Vec<String>) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        self.run(move |connection| hanging(connection, &tables)).boxed()
    }

    fn replace_tables(&self, replacement: Replacement) -> BoxFuture<'_, Result<(), Error>> {
        self.run(move |connection| replace(connection, &replacement)).boxed()
    }

    fn compare_tables(
        &self,
        one: String,
        other: String,
        listed_max: usize,
    ) -> BoxFuture<'_, Result<RowDifference, Error>> {
        self.run(move |connection| compare(connection, &one, &other, listed_max)).boxed()
    }
}

/// Foreign keys of other tables, and triggers. A view is tied to the name of a table, and so stays.
fn hanging(connection: &Connection, tables: &[String]) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    let is_ours = |name: &str| tables.iter().any(|table| table.eq_ignore_ascii_case(name));
    let mut references = connection.prepare(
        "SELECT child.name, key.\"table\" FROM sqlite_schema AS child, pragma_foreign_key_list(child.name) AS key
         WHERE child.type = 'table'",
    )?;
    let mut rows = references.query(())?;
    while let Some(row) = rows.next()? {
        let (child, parent): (String, String) = (row.get(0)?, row.get(1)?);
        if is_ours(&parent) && !is_ours(&child) {
            found.push(format!("a foreign key of table {child}"));
        }
    }
    let mut triggers =
        connection.prepare("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'")?;
    let mut rows = triggers.query(())?;
    while let Some(row) = rows.next()? {
        let (name, table): (String, String) = (row.get(0)?, row.get(1)?);
        if is_ours(&table) {
            found.push(format!("trigger {name}"));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// In the manner of older versions, renaming a table leaves views alone: they stay with the name, and so show the new table.
fn replace(connection: &Connection, replacement: &Replacement) -> rusqlite::Result<()> {
    for table in &replacement.dropped {
        connection.execute_batch(&format!("DROP TABLE IF EXISTS \"{table}\""))?;
    }
    if replacement.renamed.is_empty() {
        return Ok(());
    }
    connection.pragma_update(None, "legacy_alter_table", true)?;
    let renamed = replacement.renamed.iter().try_for_each(|(from, to)| {
        connection.execute_batch(&format!("ALTER TABLE \"{from}\" RENAME TO \"{to}\""))
    });
    connection.pragma_update(None, "legacy_alter_table", false)?;
    renamed
}

fn compare(
    connection: &Connection,
    one: &str,
    other: &str,
    listed_max: usize,
) -> rusqlite::Result<RowDifference> {
    let columns = columns(connection, one)?;
    let as_text: Vec<String> =
        columns.iter().map(|column| format!("quote(\"{}\")", column.replace('"', "\"\""))).collect();
    let row = as_text.join(" || ', ' || ");
    // Equal rows are counted, because a table without a key can hold a row twice.
    let beyond = |these: &str, those: &str| {
        format!(
            "SELECT line, sum(n) AS more FROM
             (SELECT {row} AS line, 1 AS n FROM \"{these}\" UNION ALL SELECT {row}, -1 FROM \"{those}\")
             GROUP BY line HAVING more > 0 ORDER BY line"
        )
    };
    let mut difference = RowDifference {
        rows: connection.query_row(&format!("SELECT count(*) FROM \"{one}\""), (), |row| count(row, 0))?,
        ..RowDifference::default()
    };
    for (sql, lists_added) in [(beyond(one, other), true), (beyond(other, one), false)] {
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let (line, more): (String, u64) = (row.get(0)?, count(row, 1)?);
            let list = if lists_added { &mut difference.added } else { &mut difference.missing };
            if list.len() < listed_max {
                list.push(format!("{one}: {line}"));
                difference.unlisted += more - 1;
            } else {
                difference.unlisted += more;
            }
        }
    }
    Ok(difference)
}

fn count(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or_default())
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    names.collect()
}
