//! Who holds something back: sessions with events of theirs that are not committed yet, or with the right to give positions.

use std::sync::Arc;

use ensue_core::{Error, Timestamp};

use crate::attributes::{column, timestamp};
use crate::pool::Pool;
use crate::store::PostgresStore;

/// A session whose open transaction has written to the log. Until it ends, its events are not readable and its streams
/// take no other events; everything else goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// The server process: `SELECT pg_terminate_backend(PID)` ends it.
    pub process: i32,
    /// Whose session it is.
    pub user: String,
    /// What the session calls itself; may be empty.
    pub application: String,
    /// From where it is connected; empty for a local socket.
    pub client: String,
    /// What it does, such as `active` or `idle in transaction`.
    pub state: String,
    /// When its transaction began.
    pub since: Timestamp,
    /// How many sessions wait for it.
    pub waiting: i64,
    /// Its last statement, cut off.
    pub statement: String,
}

impl PostgresStore {
    /// The sessions that hold something back at this moment, the oldest first. Names and statements of other users' sessions
    /// are seen by those who may see them (`pg_read_all_stats`).
    pub async fn holds(&self) -> Result<Vec<Hold>, Error> {
        holds(self.pool()).await
    }
}

async fn holds(pool: &Arc<Pool>) -> Result<Vec<Hold>, Error> {
    // Whoever writes to a table has a lock of this kind on it until the transaction ends.
    let sql = "SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(host(client_addr), ''), \
            coalesce(state, ''), coalesce(xact_start, backend_start), \
            (SELECT count(*) FROM pg_stat_activity AS other WHERE session.pid = ANY (pg_blocking_pids(other.pid))), \
            left(coalesce(query, ''), 200) \
        FROM pg_stat_activity AS session \
        WHERE pid <> pg_backend_pid() AND EXISTS ( \
            SELECT FROM pg_locks WHERE pg_locks.pid = session.pid AND granted AND mode = 'RowExclusiveLock' \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                AND relation IN ('ensue.heads'::regclass, 'ensue.log'::regclass, 'ensue.staged'::regclass)) \
        ORDER BY 6, 1";
    let rows = pool.rows("cannot look who holds something back", sql, Vec::new()).await?;
    let hold = |row| {
        Ok(Hold {
            process: column(row, 0)?,
            user: column(row, 1)?,
            application: column(row, 2)?,
            client: column(row, 3)?,
            state: column(row, 4)?,
            since: timestamp(column(row, 5)?)?,
            waiting: column(row, 6)?,
            statement: column(row, 7)?,
        })
    };
    rows.iter().map(hold).collect()
}
