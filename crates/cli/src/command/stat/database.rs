//! The numbers of a store in a database.

use ensue::core::{Error, Position};
use ensue_postgres::PostgresStore;
use ensue_sqlite::SqliteStore;
use serde::Serialize;

use super::{IdWindow, Limits, lines, mebibytes, windows};
use crate::words::count;

#[derive(Serialize)]
pub(super) struct Numbers {
    store: String,
    head: Position,
    /// Events that are committed and wait for a position.
    waiting: u64,
    /// Events that a retention has dropped.
    dropped: u64,
    streams: u64,
    /// The tables of the store; where the store is a file, all of the file.
    bytes: u64,
    migrations: u64,
    /// What runs the database, in which version.
    engine: String,
    limits: Limits,
    id_windows: Vec<IdWindow>,
}

impl Numbers {
    pub(super) async fn of_postgres(
        database: &PostgresStore,
        store: String,
        id_windows: Vec<IdWindow>,
    ) -> Result<Self, Error> {
        let stat = database.stat().await?;
        Ok(Self {
            store,
            head: stat.head,
            waiting: stat.waiting,
            dropped: stat.dropped,
            streams: stat.streams,
            bytes: stat.bytes,
            migrations: stat.migrations,
            engine: format!("PostgreSQL {}", stat.server),
            limits: Limits::of(database),
            id_windows,
        })
    }

    pub(super) async fn of_sqlite(
        file: &SqliteStore,
        store: String,
        id_windows: Vec<IdWindow>,
    ) -> Result<Self, Error> {
        let stat = file.stat().await?;
        Ok(Self {
            store,
            head: stat.head,
            waiting: 0,
            dropped: 0,
            streams: stat.streams,
            bytes: stat.bytes,
            migrations: stat.migrations,
            engine: format!("SQLite {}", stat.library),
            limits: Limits::of(file),
            id_windows,
        })
    }

    pub(super) fn in_words(&self) -> String {
        let waiting = match self.waiting {
            0 => String::new(),
            waiting => format!(", and {waiting} that wait for a position"),
        };
        let dropped = match self.dropped {
            0 => String::new(),
            dropped => format!(", besides {dropped} that were dropped"),
        };
        let events = self.head.0.saturating_sub(self.dropped);
        lines(&[
            ("store", self.store.clone()),
            ("events", format!("{events}{dropped}{waiting}")),
            ("streams", self.streams.to_string()),
            ("size", mebibytes(self.bytes)),
            ("engine", format!("{}, {}", self.engine, count(self.migrations, "migration"))),
            ("limits", self.limits.in_words()),
            ("ids", windows(&self.id_windows)),
        ])
    }
}
