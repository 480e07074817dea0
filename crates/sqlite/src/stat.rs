//! How the store is doing, in numbers.

use ensue_core::{Error, Position};

use crate::attributes::number;
use crate::decide;
use crate::error;
use crate::store::SqliteStore;

/// What a store in a file amounts to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The position of the last event.
    pub head: Position,
    /// Streams that hold events.
    pub streams: u64,
    /// The file, with the tables of the application and without its write-ahead log.
    pub bytes: u64,
    /// Migrations that were applied.
    pub migrations: u64,
    /// The version of SQLite in this program.
    pub library: &'static str,
}

/// Where the log says that it ends, and where its rows do. They differ only where somebody has added or removed rows by hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    /// The position of the last event, by the log.
    pub head: Position,
    /// The greatest position of a row.
    pub last: Position,
}

impl SqliteStore {
    /// The numbers at this moment. Streams are counted in an index of the events, which takes seconds where there are millions.
    pub async fn stat(&self) -> Result<Stat, Error> {
        self.pool()
            .with(|connection| {
                let count = |sql: &str| {
                    let counted = connection.query_row(sql, (), |row| row.get::<_, i64>(0));
                    counted.map(number).map_err(|cause| error::of("cannot count what the store holds", cause))
                };
                Ok(Stat {
                    head: decide::head(connection)?,
                    streams: count("SELECT count(*) FROM (SELECT DISTINCT topic, key FROM ensue_events)")?,
                    bytes: count("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?,
                    migrations: count("SELECT count(*) FROM ensue_migrations")?,
                    library: rusqlite::version(),
                })
            })
            .await
    }

    /// Both ends at one moment.
    pub async fn tail(&self) -> Result<Tail, Error> {
        self.pool()
            .with(|connection| {
                let sql = "SELECT coalesce(max(position), 0), (SELECT head FROM ensue_log) FROM ensue_events";
                let ends =
                    connection.query_row(sql, (), |row| Ok((row.get(0)?, row.get::<_, Option<_>>(1)?)));
                match ends.map_err(|cause| error::of("cannot look where the log ends", cause))? {
                    (last, Some(head)) => {
                        Ok(Tail { head: Position(number(head)), last: Position(number(last)) })
                    }
                    (_, None) => Err(decide::log_is_gone()),
                }
            })
            .await
    }

    /// What SQLite itself finds wrong with the structure of the whole file, in its words; reads all of it.
    pub async fn structure(&self) -> Result<Vec<String>, Error> {
        self.pool()
            .with(|connection| {
                let failed = |cause| error::of("cannot check the structure of the file", cause);
                let mut statement = connection.prepare("PRAGMA integrity_check").map_err(failed)?;
                let said = statement.query_map((), |row| row.get::<_, String>(0)).map_err(failed)?;
                let said = said.collect::<Result<Vec<String>, _>>().map_err(failed)?;
                Ok(said.into_iter().filter(|line| line != "ok").collect())
            })
            .await
    }
}
