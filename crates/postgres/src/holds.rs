//! Who holds something back: transactions with events of theirs that are not committed yet, with the right to give positions, or with a
//! lock that somebody took by hand.

use std::borrow::Cow;
use std::sync::Arc;

use ensue_core::{Error, Timestamp};
use tokio_postgres::types::Type;

use crate::attributes::{column, timestamp};
use crate::pool::{Parameter, Pool};
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
    /// When the transaction began, or was prepared; none where the server does not say it to us (`pg_read_all_stats`).
    pub since: Option<Timestamp>,
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

    /// Transactions in which somebody reads the log for longer than a second, where topics have a retention: until they end, no partition is dropped.
    pub async fn reading(&self) -> Result<Vec<Hold>, Error> {
        reading(self.pool()).await
    }

    /// Transactions that are so old, of this database or another one of the server, that it keeps every row that was replaced or
    /// deleted since they began. They delay nobody, but reading becomes slower the longer they last.
    pub async fn lingering(&self) -> Result<Vec<Hold>, Error> {
        lingering(self.pool()).await
    }
}

/// Since so many transactions it is worth a word.
const LINGERS: i32 = 1_000;

async fn holds(pool: &Arc<Pool>) -> Result<Vec<Hold>, Error> {
    // To write, to lock rows and to lock the table by hand take a lock on it until the transaction ends; to read takes the weakest, and
    // upkeep (`VACUUM`, `ANALYZE`) one that is in nobody's way.
    let locks = "mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock') \
        AND relation IN ('ensue.heads'::regclass, 'ensue.log'::regclass, 'ensue.staged'::regclass)";
    // The server hides of other users' sessions what they are.
    let who = "backend_type IS DISTINCT FROM 'autovacuum worker'";
    rows(pool, "cannot look who holds something back", holders(locks, who, "true"), Vec::new()).await
}

async fn reading(pool: &Arc<Pool>) -> Result<Vec<Hold>, Error> {
    // To drop a partition takes the whole table; what is kept is not dropped.
    let locks = "(relation = 'ensue.events'::regclass OR relation IN ( \
        SELECT inhrelid FROM pg_inherits \
        WHERE inhparent = 'ensue.events'::regclass AND inhrelid <> 'ensue.events_kept'::regclass))";
    let worth_a_word =
        "coalesce(since < clock_timestamp() - interval '1 s', true) AND EXISTS (SELECT FROM ensue.retention)";
    // Upkeep is in the way of a drop, too.
    rows(pool, "cannot look who reads the log", holders(locks, "true", worth_a_word), Vec::new()).await
}

/// Who has these locks, of those sessions, where it is worth a word. The locks of a prepared transaction have no process.
fn holders(locks: &str, who: &str, worth_a_word: &str) -> String {
    format!(
        "WITH holder AS ( \
            SELECT DISTINCT pid, virtualtransaction FROM pg_locks \
            WHERE granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND {locks}), \
        waiting AS (SELECT unnest(pg_blocking_pids(pid)) AS blocked_by FROM pg_stat_activity), \
        hold AS ( \
            SELECT pid, usename, application_name, host(client_addr) AS client, state, \
                coalesce(xact_start, backend_start) AS since, coalesce(nullif(query, ''), backend_type) AS query, format('SELECT pg_terminate_backend(%s)', pid) AS ending \
            FROM pg_stat_activity \
            WHERE {who} AND pid <> pg_backend_pid() AND pid IN (SELECT pid FROM holder) \
            UNION ALL \
            SELECT NULL, owner, NULL, NULL, 'prepared', prepared, format('PREPARE TRANSACTION %L', gid), \
                format('ROLLBACK PREPARED %L', gid) \
            FROM pg_prepared_xacts AS xact WHERE EXISTS ( \
                SELECT FROM holder JOIN pg_locks AS own USING (virtualtransaction) \
                WHERE holder.pid IS NULL AND own.pid IS NULL AND own.transactionid = xact.transaction)) \
        SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(client, ''), coalesce(state, ''), since, \
            (SELECT count(*) FROM waiting WHERE blocked_by = coalesce(pid, 0)), left(coalesce(query, ''), 200), ending \
        FROM hold WHERE {worth_a_word} ORDER BY since, pid"
    )
}

async fn lingering(pool: &Arc<Pool>) -> Result<Vec<Hold>, Error> {
    // What everybody else has begun since then looks old too, because it sees the old one as running: that is known by when it began. A
    // transaction of another database counts where it has a number of its own.
    let sql = "SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(host(client_addr), ''), \
            coalesce(state, ''), coalesce(xact_start, backend_start) AS since, 0::bigint, left(coalesce(query, ''), 200), \
            format('SELECT pg_terminate_backend(%s)', pid) \
        FROM pg_stat_activity \
        WHERE pid <> pg_backend_pid() AND backend_type IS DISTINCT FROM 'autovacuum worker' AND (age(backend_xid) > $1 \
            OR datname = current_database() AND age(backend_xmin) > $1 AND xact_start < clock_timestamp() - interval '10 s') \
        UNION ALL \
        SELECT NULL, owner, '', '', CASE database WHEN current_database() THEN 'prepared' ELSE 'prepared in ' || database END, \
            prepared, 0::bigint, format('PREPARE TRANSACTION %L', gid), format('ROLLBACK PREPARED %L', gid) \
        FROM pg_prepared_xacts WHERE age(transaction) > $1 \
        ORDER BY since";
    let age: Parameter = (Box::new(LINGERS), Type::INT4);
    rows(pool, "cannot look which transactions are old", sql, vec![age]).await
}

async fn rows(
    pool: &Arc<Pool>,
    trying: &'static str,
    sql: impl Into<Cow<'static, str>>,
    parameters: Vec<Parameter>,
) -> Result<Vec<Hold>, Error> {
    let rows = pool.rows(trying, sql, parameters).await?;
    let hold = |row| {
        Ok(Hold {
            process: column(row, 0)?,
            user: column(row, 1)?,
            application: column(row, 2)?,
            client: column(row, 3)?,
            state: column(row, 4)?,
            since: column::<Option<_>>(row, 5)?.map(timestamp).transpose()?,
            waiting: column(row, 6)?,
            statement: column(row, 7)?,
            end: column(row, 8)?,
        })
    };
    rows.iter().map(hold).collect()
}
