//! How the store is doing, in numbers.

use ensue_core::{Code, Error, Position};

use crate::attributes::{column, number};
use crate::store::PostgresStore;

/// What a store in a database amounts to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The position of the last event.
    pub head: Position,
    /// Events that a retention has dropped.
    pub dropped: u64,
    /// Streams that hold events, or held some before they were dropped.
    pub streams: u64,
    /// Events that are committed and have no position yet: whoever reads next gives them theirs.
    pub waiting: u64,
    /// What the tables and indexes take on the disk of the server.
    pub bytes: u64,
    /// Migrations that were applied.
    pub migrations: u64,
    /// The version of the server.
    pub server: String,
}

/// Where the log says that it ends, and where its rows do. They differ only where somebody has added or removed rows by hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    /// The position of the last event, by the log.
    pub head: Position,
    /// The greatest position of a row.
    pub last: Position,
}

impl PostgresStore {
    /// The numbers at this moment. Streams are counted, which takes seconds where there are millions; nothing is changed, also no event gets
    /// its position by it.
    pub async fn stat(&self) -> Result<Stat, Error> {
        let sql = "SELECT head, (SELECT count(*) FROM ensue.heads WHERE version > 0), (SELECT count(*) FROM ensue.staged), \
                (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class \
                    WHERE relnamespace = 'ensue'::regnamespace AND relkind = 'r'), \
                (SELECT count(*) FROM ensue.migrations), current_setting('server_version'), ensue.dropped_in(0, head) \
            FROM ensue.log";
        let rows = self.pool().rows("cannot count what the store holds", sql, Vec::new()).await?;
        let row = rows.first().ok_or_else(log_is_gone)?;
        Ok(Stat {
            head: Position(number(column(row, 0)?)),
            streams: number(column(row, 1)?),
            waiting: number(column(row, 2)?),
            bytes: number(column(row, 3)?),
            migrations: number(column(row, 4)?),
            server: column(row, 5)?,
            dropped: number(column(row, 6)?),
        })
    }

    /// Both ends at one moment.
    pub async fn tail(&self) -> Result<Tail, Error> {
        let sql = "SELECT head, (SELECT coalesce(max(position), 0) FROM ensue.events) FROM ensue.log";
        let rows = self.pool().rows("cannot look where the log ends", sql, Vec::new()).await?;
        let row = rows.first().ok_or_else(log_is_gone)?;
        Ok(Tail { head: Position(number(column(row, 0)?)), last: Position(number(column(row, 1)?)) })
    }
}

fn log_is_gone() -> Error {
    Error::new(Code::CORRUPT, "the row of ensue.log is gone")
}
