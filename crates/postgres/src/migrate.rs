//! The schema: made and brought forward by numbered files, each applied once, all of those that are missing in one
//! transaction. Whoever comes second waits and finds it done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ensue_core::{Code, Error};
use tokio::time::interval;
use tokio_postgres::types::{ToSql, Type};

use crate::attributes::column;
use crate::config::Migration;
use crate::error;
use crate::pool::{Connection, Pool};

/// In the order in which they are applied; the first has number 1. One that was released is never changed.
const MIGRATIONS: [(&str, &str); 13] = [
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
    ("copies", include_str!("../migrations/0013_copies.sql")),
];

/// The oldest server that has what the migrations use.
const SERVER_VERSION_MIN: i32 = 15;

/// How long it is tried to migrate while somebody is at the tables, and how long others have them between two tries.
const TRY_FOR: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_secs(1);
/// Whoever has a lock for longer is not waited for in the way of others; in seconds.
const SHORT: &str = "0.2";

/// What there is to lock, as far as it is there: what is written to before what is only read, so that who reads waits for as short as can be.
const TABLES: [&str; 10] = [
    "heads",
    "log",
    "staged",
    "records",
    "tags",
    "migrations",
    "retention",
    "partitions",
    "dropped",
    "events",
];

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
    if pool.config().migration != Migration::ToRead {
        take_over(&connection).await?;
    }
    connection.clean();
    Ok(())
}

/// Has a logical copy of a store go on behind the original.
async fn take_over(connection: &Connection) -> Result<(), Error> {
    let row = connection.query_typed_one("SELECT ensue.is_copy()", &[]).await.map_err(refused)?;
    if column(&row, 0)? {
        connection.batch_execute("SELECT ensue.take_over()").await.map_err(refused)?;
    }
    Ok(())
}

async fn check_server(connection: &Connection, migration: Migration) -> Result<(), Error> {
    let sql = "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding'), \
        pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean, \
        current_setting('transaction_isolation')";
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
    let isolation: &str = column(&row, 3)?;
    if isolation != "read committed" && migration != Migration::ToRead {
        let message = format!(
            "transactions begin as {isolation} here, and events would wait for their positions for ever"
        );
        return Err(Error::new(Code::UNSUPPORTED, message).with_fix(
            "ALTER ROLE … IN DATABASE … SET default_transaction_isolation = 'read committed' for the role that comes in here",
        ));
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
    let sql = "SELECT number, applied.name, applied.checksum = pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(known.text, 'UTF8')), 'hex') \
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

/// Applies what is missing, between the transactions of others who use the store meanwhile.
async fn migrate_in_turn(connection: &Connection) -> Result<(), Error> {
    let (began, mut pause) = (Instant::now(), interval(PAUSE));
    let mut named = None;
    loop {
        let error = match migrate(connection).await {
            Err(error) if error::is_of_lock(&error) => error,
            done => return done,
        };
        connection.batch_execute("ROLLBACK").await.map_err(refused)?;
        if began.elapsed() > TRY_FOR {
            return Err(named.unwrap_or(error));
        }
        // Not the server, but we: who it is is known.
        if std::error::Error::source(&error).is_none() {
            named = Some(error);
        }
        pause.reset();
        pause.tick().await;
    }
}

/// Applies what is missing, once it has all tables for itself: what it does then may take its time, and is done once. `E0427` while somebody is at
/// them.
async fn migrate(connection: &Connection) -> Result<(), Error> {
    // The lock is the transaction's, so it also holds behind a pooler. The number is the word `ensue`. Who owns the tables calls what the server
    // itself comes with, whoever may make functions that are called the same. And who has waited sees what the other one has done.
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
        SET LOCAL search_path = pg_catalog, pg_temp; SELECT pg_advisory_xact_lock(x'656e737565'::bigint); \
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

/// Takes the tables, as far as this role may, while nobody has them for long: whoever comes while they are waited for waits behind that.
async fn lock(connection: &Connection) -> Result<(), Error> {
    let sql = "SELECT string_agg(oid::regclass::text, ', ' ORDER BY place) \
        FROM unnest($1) WITH ORDINALITY AS known (name, place) JOIN pg_class ON oid = to_regclass('ensue.' || name) \
        WHERE has_table_privilege(oid, 'UPDATE, DELETE, TRUNCATE')";
    let names: &[&str] = &TABLES;
    let rows = connection.query_typed(sql, &[(&names, Type::TEXT_ARRAY)]).await.map_err(refused)?;
    // Shorter than it takes a server to look for who waits for each other in a circle, so that nobody else is ended for it.
    let patience = "SELECT set_config('lock_timeout', greatest(1, least(100, setting::bigint / 10))::text, true) \
        FROM pg_settings WHERE name = 'deadlock_timeout'";
    connection.batch_execute(patience).await.map_err(refused)?;
    let Some(tables) = rows.first().map(|row| column::<Option<&str>>(row, 0)).transpose()?.flatten() else {
        return Ok(());
    };
    if has_upkeep(connection).await? {
        send_upkeep_away(connection, tables).await?;
    }
    check_nobody_stays(connection).await?;
    connection.batch_execute(&format!("LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")).await.map_err(refused)
}

/// The server's own upkeep gives way to who has waited for `deadlock_timeout`. It is waited for by a lock for which neither who reads nor who
/// writes events waits. That is let go of at once: to hold one lock of a table and want another one can end others who do the same.
async fn send_upkeep_away(connection: &Connection, tables: &str) -> Result<(), Error> {
    let patience = "SAVEPOINT upkeep; SELECT set_config('lock_timeout', (2 * setting::bigint + 500)::text, true) \
        FROM pg_settings WHERE name = 'deadlock_timeout'";
    connection.batch_execute(patience).await.map_err(refused)?;
    let lock = format!("LOCK TABLE {tables} IN SHARE UPDATE EXCLUSIVE MODE");
    connection.batch_execute(&lock).await.map_err(refused)?;
    connection.batch_execute("ROLLBACK TO SAVEPOINT upkeep").await.map_err(refused)
}

/// Others who have a lock on one of the tables `$1` or on a partition.
const HOLDERS: &str = "SELECT virtualtransaction, pid, mode, relation::regclass::text AS of \
    FROM pg_locks JOIN pg_class ON oid = relation \
    WHERE relnamespace = 'ensue'::regnamespace AND (relname = ANY ($1) OR relispartition) AND locktype = 'relation' AND granted \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
        AND pid IS DISTINCT FROM pg_backend_pid()";

/// Whether the server's own upkeep, or somebody's, is at a table.
async fn has_upkeep(connection: &Connection) -> Result<bool, Error> {
    let sql =
        format!("SELECT EXISTS (SELECT FROM ({HOLDERS}) AS held WHERE mode = 'ShareUpdateExclusiveLock')");
    let tables: &[&str] = &TABLES;
    let row = connection.query_typed_one(&sql, &[(&tables, Type::TEXT_ARRAY)]).await.map_err(refused)?;
    column(&row, 0)
}

/// `E0427` with who it is where somebody has a table for longer than a moment.
async fn check_nobody_stays(connection: &Connection) -> Result<(), Error> {
    let sql = format!("SELECT DISTINCT virtualtransaction FROM ({HOLDERS}) AS held");
    let tables: &[&str] = &TABLES;
    let rows = connection.query_typed(&sql, &[(&tables, Type::TEXT_ARRAY)]).await.map_err(refused)?;
    if rows.is_empty() {
        return Ok(());
    }
    let before: Vec<&str> = rows.iter().map(|row| column(row, 0)).collect::<Result<_, _>>()?;
    connection.batch_execute(&format!("SELECT pg_sleep({SHORT})")).await.map_err(refused)?;
    holder(connection, &before).await?.map_or(Ok(()), Err)
}

/// The error that names the one of these transactions that has a table, if there still is one.
async fn holder(connection: &Connection, among: &[&str]) -> Result<Option<Error>, Error> {
    let sql = format!(
        "SELECT CASE WHEN held.pid IS NULL THEN 'a prepared transaction' ELSE 'session ' || held.pid END \
            || coalesce(' (' || nullif(concat_ws(', ', nullif(application_name, ''), nullif(backend_type, 'client backend'), state), '') || ')', ''), \
            of \
        FROM ({HOLDERS}) AS held LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid \
        WHERE virtualtransaction = ANY ($2) ORDER BY xact_start, held.pid, of LIMIT 1"
    );
    let tables: &[&str] = &TABLES;
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&tables, Type::TEXT_ARRAY), (&among, Type::TEXT_ARRAY)];
    let rows = connection.query_typed(&sql, &parameters).await.map_err(refused)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (who, of): (&str, &str) = (column(row, 0)?, column(row, 1)?);
    let message = format!("{who} is at {of}, and a migration needs the tables for itself");
    Ok(Some(Error::new(Code::DATABASE_TIMEOUT, message).with_fix(
        "migrate when that is over, or end it: `SELECT pg_terminate_backend(SESSION)`, `ROLLBACK PREPARED`",
    )))
}

fn refused(cause: tokio_postgres::Error) -> Error {
    error::of("cannot prepare the database", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_locked() {
        for (name, text) in MIGRATIONS {
            let made = text.split("CREATE TABLE ensue.").skip(1);
            for table in made.filter_map(|rest| rest.split([' ', '(']).next()) {
                assert!(TABLES.contains(&table), "{table} of {name}");
            }
        }
    }

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
