//! The tables: made and brought forward by numbered files, each applied once, all of those that are missing in one
//! transaction. Whoever comes second waits and finds it done.
//!
//! What was applied stands in `ensue_migrations`, word for word, so that a table of another make is told from ours.

use ensue_core::{Code, Error};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::config::{Absent, Access, Config};
use crate::error;

/// In the order in which they are applied; the first has number 1. One that was released is never changed.
const MIGRATIONS: [(&str, &str); 1] = [("log", include_str!("../migrations/0001_log.sql"))];

/// How often the change to the write-ahead log is tried: each time after the transaction that stood in its way has ended.
const ATTEMPTS_MAX: usize = 20;

/// Makes sure that the file will do and that its tables are those that this program knows.
pub(crate) fn prepare(connection: &mut Connection, config: &Config) -> Result<(), Error> {
    check_encoding(connection)?;
    if !is_up_to_date(connection)? {
        if config.absent == Absent::Refuse && applied(connection)? == 0 {
            let message = format!("{} holds no tables of Ensue", config.path.display());
            return Err(Error::new(Code::NOT_A_STORE, message).with_fix(error::FIX_NO_STORE));
        }
        if config.access == Access::Read {
            let message = format!("the tables in {} are older than this program", config.path.display());
            return Err(Error::new(Code::DATABASE_SCHEMA, message)
                .with_fix("run `ensue store migrate` on the file, or on a copy of it that can be written"));
        }
        use_write_ahead_log(connection)?;
        migrate(connection)?;
    }
    if config.access == Access::Read { Ok(()) } else { use_write_ahead_log(connection) }
}

fn check_encoding(connection: &Connection) -> Result<(), Error> {
    let encoding: String = connection.query_row("PRAGMA encoding", (), |row| row.get(0)).map_err(refused)?;
    if encoding == "UTF-8" {
        return Ok(());
    }
    let message = format!("the database is encoded as {encoding}, but events are UTF-8");
    Err(Error::new(Code::UNSUPPORTED, message)
        .with_fix("copy the application's tables into a new file, which is UTF-8 where nothing else is said"))
}

/// The mode is a property of the file: it stays until somebody changes it.
fn use_write_ahead_log(connection: &mut Connection) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get::<_, String>(0));
        match mode.map_err(refused) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let message =
                    format!("the file cannot have a write-ahead log: its journal mode stays `{mode}`");
                return Err(Error::new(Code::UNSUPPORTED, message).with_fix(
                    "keep the file on a local file system; a database in memory cannot be a store",
                ));
            }
            // SQLite does not wait here for whoever is just as new to the file; it does in a transaction.
            Err(error) if error.code() == Code::DATABASE_LOCKED && attempt < ATTEMPTS_MAX => {
                attempt += 1;
                begin(connection)?.commit().map_err(refused)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether every migration was applied. Fails on one that this program does not know, or knows differently.
fn is_up_to_date(connection: &Connection) -> Result<bool, Error> {
    Ok(applied(connection)? == MIGRATIONS.len())
}

/// How many migrations were applied.
fn applied(connection: &Connection) -> Result<usize, Error> {
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ensue_migrations'";
    let is_there = connection.query_row(table, (), |_| Ok(())).optional().map_err(refused)?;
    if is_there.is_none() {
        return Ok(0);
    }
    let mut statement = connection
        .prepare("SELECT number, name, text FROM ensue_migrations ORDER BY number")
        .map_err(refused)?;
    let rows = statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<(i64, String, String)>>>)
        .map_err(refused)?;
    for (place, (number, name, text)) in (1..).zip(&rows) {
        let reason = match MIGRATIONS.get(place - 1) {
            Some((_, known)) if known == text && usize::try_from(*number) == Ok(place) => continue,
            Some(_) => "was applied with another text than this program has",
            None => "was applied, which this program does not know",
        };
        let message = format!("migration {number} ({name}) {reason}");
        return Err(Error::new(Code::DATABASE_SCHEMA, message));
    }
    Ok(rows.len())
}

/// Applies what is missing.
fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let transaction = begin(connection)?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS ensue_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, \
             text TEXT NOT NULL, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) STRICT",
        )
        .map_err(refused)?;
    let done = applied(&transaction)?;
    for (number, (name, text)) in (1i64..).zip(MIGRATIONS).skip(done) {
        transaction
            .execute_batch(text)
            .map_err(|cause| error::of(&format!("migration {number} ({name}) failed"), cause))?;
        transaction
            .execute(
                "INSERT INTO ensue_migrations (number, name, text) VALUES (?1, ?2, ?3)",
                (number, name, text),
            )
            .map_err(refused)?;
    }
    transaction.commit().map_err(refused)
}

fn begin(connection: &mut Connection) -> Result<rusqlite::Transaction<'_>, Error> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(refused)
}

fn refused(cause: rusqlite::Error) -> Error {
    error::of("cannot prepare the database", cause)
}
