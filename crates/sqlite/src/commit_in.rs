//! The transactional outbox: a commit in a transaction of the application's own.

use ensue_core::{Code, Commit, CommitError, Committed, Error};

use crate::config::WallClock;
use crate::decide::Log;
use crate::error;
use crate::store::CAPABILITIES;

/// Takes the commit in this transaction, together with what the application changes in it: both are there once it commits,
/// or neither. A commit that is refused has changed nothing, and the transaction goes on.
///
/// The file must have been opened as a store once, which makes the tables. Begin with
/// [`TransactionBehavior::Immediate`](rusqlite::TransactionBehavior::Immediate): a transaction that has read before it writes
/// is refused with `E0430` if somebody else has written in between. The positions are those that the events will have; until the transaction commits,
/// they are nobody's. How well it survives the loss of power is up to this connection: `PRAGMA synchronous`, which is FULL
/// where nothing is said. Readers that wait learn of it within the poll interval of their store. Blocks.
pub fn commit_in(transaction: &rusqlite::Transaction<'_>, commit: &Commit) -> Result<Committed, CommitError> {
    commit.check(&CAPABILITIES)?;
    let savepoint = |sql: &str| {
        transaction.execute_batch(sql).map_err(|cause| error::of("cannot work in this transaction", cause))
    };
    savepoint("SAVEPOINT ensue_commit")?;
    let written = (|| {
        let mut log = Log::open(transaction, WallClock::System.now()).map_err(without_tables)?;
        let outcome = log.take(commit)?;
        log.close()?;
        Ok::<_, Error>(outcome)
    })();
    if written.is_err() {
        // A full disk may have taken the whole transaction back already; then there is no savepoint either.
        drop(savepoint("ROLLBACK TO ensue_commit"));
        drop(savepoint("RELEASE ensue_commit"));
        return written?;
    }
    savepoint("RELEASE ensue_commit")?;
    written?
}

fn without_tables(error: Error) -> Error {
    if !error.message().contains("no such table") {
        return error;
    }
    Error::new(Code::NOT_A_STORE, "the file holds no tables of Ensue")
        .with_fix("open it with `ensue_sqlite::open` once, which makes them")
        .with_source(error)
}
