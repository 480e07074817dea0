//! The schema: made and brought forward by numbered files, each applied once, all of those that are missing in one
//! transaction. Whoever comes second waits and finds it done.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Code, Error};
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::types::Type;

use crate::attributes::column;
use crate::config::Migration;
use crate::error;
use crate::pool::{Connection, Pool};

/// In the order in which they are applied; the first has number 1. One that was released is never changed.
const MIGRATIONS: [(&str, &str); 12] = [
    ("log", include_str!("../migrations/0001_log.sql")),
    ("positions", include_str!("../migrations/0002_positions.sql")),
    ("sql", include_str!("../migrations/0003_sql.sql")),
    ("batch", include_str!("../migrations/0004_batch.sql")),
    ("import", include_str!("../migrations/0005_import.sql")),
    ("commit", include_str!("../migrations/0006_commit.sql")),
    ("lean", include_str!("../migrations/0007_lean.sql")),
    ("guards", include_str!("../migrations/0008_guards.sql")),
    ("backlog", include_str!("../migrations/0009_backlog.sql")),
    ("whole", include_str!("../migrations/0010_whole.sql")),
    ("retention", include_str!("../migrations/0011_retention.sql")),
    ("light", include_str!("../migrations/0012_light.sql")),
];

/// The oldest server that has what the migrations use.
const SERVER_VERSION_MIN: i32 = 15;

/// How often it is tried to migrate while somebody is at the tables, and from one try to the next, or others would only ever wait.
const TRIES_MAX: u32 = 60;
const PACE: Duration = Duration::from_secs(1);

/// Makes sure that the server will do and that the schema is the one this program knows.
pub(crate) async fn prepare(pool: &Arc<Pool>) -> Result<(), Error> {
    let connection = pool.get().await?;
    let checked = async {
        check_server(&connection, pool.config().migration).await?;
        is_up_to_date(&connection).await
    };
    let is_up_to_date = connection.answer("cannot prepare the database", checked).await?;
    connection.soil();
    // A migration takes the time that it takes.
    match pool.config().migration {
        Migration::Run if !is_up_to_date => migrate_in_turn(&connection).await?,
        Migration::Run => {}
        Migration::Check | Migration::ToRead => {
            if !is_up_to_date {
                let message = "the schema `ensue` of the database is absent or older than this program";
                return Err(Error::new(Code::NOT_A_STORE, message).with_fix("run `ensue store migrate`"));
            }
        }
    }
    connection.clean();
    Ok(())
}

async fn check_server(connection: &Connection, migration: Migration) -> Result<(), Error> {
    let sql = "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding'), \
        pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";
    let row = connection.query_typed_one(sql, &[]).await.map_err(refused)?;
    check_version(column(&row, 0)?)?;
    let encoding: &str = column(&row, 1)?;
    if encoding != "UTF8" {
        let message = format!("the database is encoded as {encoding}, but events are UTF8");
        return Err(Error::new(Code::UNSUPPORTED, message)
            .with_fix("make the database with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`"));
    }
    if column(&row, 2)? && migration != Migration::ToRead {
        return Err(Error::new(Code::DATABASE_READ_ONLY, "the database takes no writes"));
    }
    Ok(())
}

/// The number as the server gives it: 150004 is 15.4.
fn check_version(number: i32) -> Result<(), Error> {
    let (major, minor) = (number / 10_000, number % 10_000);
    if major >= SERVER_VERSION_MIN {
        return Ok(());
    }
    let message =
        format!("the server is PostgreSQL {major}.{minor}, but at least {SERVER_VERSION_MIN} is needed");
    Err(Error::new(Code::DATABASE_TOO_OLD, message))
}

/// Whether every migration was applied. Fails on one that this program does not know, or knows differently.
async fn is_up_to_date(connection: &Connection) -> Result<bool, Error> {
    let sql = "SELECT to_regclass('ensue.migrations') IS NOT NULL";
    let row = connection.query_typed_one(sql, &[]).await.map_err(refused)?;
    Ok(column(&row, 0)? && applied(connection).await? == MIGRATIONS.len())
}

/// How many migrations were applied.
async fn applied(connection: &Connection) -> Result<usize, Error> {
    let texts: Vec<&str> = MIGRATIONS.iter().map(|(_, sql)| *sql).collect();
    let sql = "SELECT number, applied.name, applied.checksum = encode(sha256(convert_to(known.text, 'UTF8')), 'hex') \
        FROM ensue.migrations AS applied \
        LEFT JOIN unnest($1) WITH ORDINALITY AS known (text, number) USING (number) ORDER BY number";
    let rows = connection.query_typed(sql, &[(&texts, Type::TEXT_ARRAY)]).await.map_err(refused)?;
    for row in &rows {
        let (number, name): (i64, &str) = (column(row, 0)?, column(row, 1)?);
        match column(row, 2)? {
            Some(true) => {}
            Some(false) => {
                let message = format!(
                    "migration {number} ({name}) was applied with another text than this program has"
                );
                return Err(Error::new(Code::DATABASE_SCHEMA, message));
            }
            None => {
                let message =
                    format!("migration {number} ({name}) was applied, which this program does not know");
                return Err(Error::new(Code::DATABASE_SCHEMA, message));
            }
        }
    }
    Ok(rows.len())
}

/// Applies what is missing, between the transactions of others who use the store meanwhile. While it waits for one that is open, whoever
/// comes waits behind it; so it waits for a moment only, and again some time later. So it does if it was ended for somebody who waited for it in a
/// circle.
async fn migrate_in_turn(connection: &Connection) -> Result<(), Error> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tries = 0;
    loop {
        pace.tick().await;
        tries += 1;
        match migrate(connection).await {
            Err(error)
                if [Code::DATABASE_TIMEOUT, Code::BUSY].contains(&error.code()) && tries < TRIES_MAX =>
            {
                connection.batch_execute("ROLLBACK").await.map_err(refused)?;
            }
            done => return done,
        }
    }
}

/// Applies what is missing, once it has all tables for itself: what it does then may take its time, and is done once. `E0427` while somebody is at
/// them.
async fn migrate(connection: &Connection) -> Result<(), Error> {
    // The lock is the transaction's, so it also holds behind a pooler. The number is the word `ensue`. Who owns the tables calls what the server
    // itself comes with, whoever may make functions that are called the same.
    let begin = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL search_path = pg_catalog, pg_temp; SELECT pg_advisory_xact_lock(x'656e737565'::bigint); \
        CREATE SCHEMA IF NOT EXISTS ensue; \
        CREATE TABLE IF NOT EXISTS ensue.migrations (number bigint PRIMARY KEY, name text NOT NULL, \
        checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
    connection.batch_execute(begin).await.map_err(refused)?;
    let applied = applied(connection).await?;
    if applied < MIGRATIONS.len() {
        lock(connection).await?;
    }
    for (number, (name, text)) in (1..).zip(MIGRATIONS).skip(applied) {
        connection
            .batch_execute(text)
            .await
            .map_err(|cause| error::of(&format!("migration {number} ({name}) failed"), cause))?;
        let sql = "INSERT INTO ensue.migrations (number, name, checksum) \
            VALUES ($1, $2, encode(sha256(convert_to($3, 'UTF8')), 'hex'))";
        let number: i64 = number;
        connection
            .query_typed(sql, &[(&number, Type::INT8), (&name, Type::TEXT), (&text, Type::TEXT)])
            .await
            .map_err(refused)?;
    }
    connection.batch_execute("COMMIT").await.map_err(refused)
}

/// Takes the tables.
///
/// The server's own upkeep gives way only to who has waited for a while (`deadlock_timeout`). So it is waited for by a lock for which neither who
/// reads nor who writes waits, and which keeps it away from then on. All others are waited for for less than that, so that nobody is ended for it;
/// and for readers at the end, who wait behind it for as short as can be.
async fn lock(connection: &Connection) -> Result<(), Error> {
    let sql = "SELECT coalesce(string_agg(oid::regclass::text, ', ' ORDER BY relname = 'events', relname), '') FROM pg_class \
        WHERE relnamespace = 'ensue'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition";
    let row = connection.query_typed_one(sql, &[]).await.map_err(refused)?;
    let tables: &str = column(&row, 0)?;
    for (at_most, mode) in [("5s", "SHARE UPDATE EXCLUSIVE"), ("800ms", "ACCESS EXCLUSIVE")] {
        let patience = format!("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = '{at_most}'");
        connection.batch_execute(&patience).await.map_err(refused)?;
        connection.batch_execute(&format!("LOCK TABLE {tables} IN {mode} MODE")).await.map_err(refused)?;
    }
    let forever = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '500ms'";
    connection.batch_execute(forever).await.map_err(refused)
}

fn refused(cause: tokio_postgres::Error) -> Error {
    error::of("cannot prepare the database", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_older_than_fifteen_is_refused_with_its_version() {
        let error = check_version(140_011).expect_err("14 is too old");
        assert_eq!(error.code(), Code::DATABASE_TOO_OLD);
        assert!(error.message().contains("14.11"), "{error}");
        for number in [150_000, 150_020, 180_001] {
            check_version(number).expect("new enough");
        }
    }
}
