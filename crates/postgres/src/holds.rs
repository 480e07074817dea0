//! Who holds something back: transactions with events of theirs that are not committed yet, with the right to give positions, or with a
//! lock that somebody took by hand.

use std::sync::Arc;

use ensue_core::{Error, Timestamp};

use crate::attributes::{column, timestamp};
use crate::pool::Pool;
use crate::store::PostgresStore;

/// An open transaction that has written to the log or locked it. Until it ends, its events are not readable and its streams
/// take no other events; one that has locked a whole table holds up everybody who writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// The server process; none for a prepared transaction, which has outlived its session.
    pub process: Option<i32>,
    /// Whose transaction it is.
    pub user: String,
    /// What the session calls itself; may be empty.
    pub application: String,
    /// From where it is connected; empty for a local socket.
    pub client: String,
    /// What it does, such as `active`, `idle in transaction` or `prepared`.
    pub state: String,
    /// When the transaction began, or was prepared.
    pub since: Timestamp,
    /// How many sessions wait for it. Who waits for a prepared transaction waits for each of them, as far as the server says.
    pub waiting: i64,
    /// Its last statement, cut off.
    pub statement: String,
    /// The statement that ends it, and takes back what it wrote.
    pub end: String,
}

impl PostgresStore {
    /// The transactions that hold something back at this moment, the oldest first. Names and statements of other users' sessions
    /// are seen by those who may see them (`pg_read_all_stats`).
    pub async fn holds(&self) -> Result<Vec<Hold>, Error> {
        holds(self.pool()).await
    }
}

async fn holds(pool: &Arc<Pool>) -> Result<Vec<Hold>, Error> {
    // To write, to lock rows and to lock the table by hand take a lock on it until the transaction ends; to read takes the weakest, and
    // upkeep (`VACUUM`, `ANALYZE`) one that is in nobody's way. The locks of a prepared transaction have no process.
    let sql = "WITH holder AS ( \
            SELECT DISTINCT pid, virtualtransaction FROM pg_locks \
            WHERE granted AND mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock') \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                AND relation IN ('ensue.heads'::regclass, 'ensue.log'::regclass, 'ensue.staged'::regclass)), \
        waiting AS (SELECT unnest(pg_blocking_pids(pid)) AS blocked_by FROM pg_stat_activity), \
        hold AS ( \
            SELECT pid, usename, application_name, host(client_addr) AS client, state, \
                coalesce(xact_start, backend_start) AS since, query, format('SELECT pg_terminate_backend(%s)', pid) AS ending \
            FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid IN (SELECT pid FROM holder) \
            UNION ALL \
            SELECT NULL, owner, NULL, NULL, 'prepared', prepared, format('PREPARE TRANSACTION %L', gid), \
                format('ROLLBACK PREPARED %L', gid) \
            FROM pg_prepared_xacts AS xact WHERE EXISTS ( \
                SELECT FROM holder JOIN pg_locks AS own USING (virtualtransaction) \
                WHERE holder.pid IS NULL AND own.pid IS NULL AND own.transactionid = xact.transaction)) \
        SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(client, ''), coalesce(state, ''), since, \
            (SELECT count(*) FROM waiting WHERE blocked_by = coalesce(pid, 0)), left(coalesce(query, ''), 200), ending \
        FROM hold ORDER BY since, pid";
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
            end: column(row, 8)?,
        })
    };
    rows.iter().map(hold).collect()
}
