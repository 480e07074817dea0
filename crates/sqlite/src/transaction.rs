//! A transaction of the store that the application's own tables take part in.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ensue_core::{BoxFuture, Code, Commit, CommitError, Committed, Error, Transaction};
use rusqlite::Connection;

use crate::config::WallClock;
use crate::decide::{Log, Outcome};
use crate::error;
use crate::head::Head;
use crate::store::CAPABILITIES;
use crate::turn::{Held, Turn};

/// The application's side of an open transaction: what is changed through it is taken with the commit that the transaction
/// ends in, or not at all. A handler takes it as `Tx<ensue_sqlite::Session>`.
///
/// The transaction holds SQLite's one write lock: every other commit to the file waits for it. So do not commit to the same
/// store while it is open, and do not wait for anything slow.
#[derive(Clone)]
pub struct Session(Arc<Mutex<Option<Held>>>);

impl Session {
    /// Does this work on the connection of the transaction, off the async threads. What work that fails has changed is taken
    /// back; the transaction itself goes on. `BEGIN`, `COMMIT` and `ROLLBACK` are not for this connection.
    ///
    /// Fails with `E0426` after the transaction has ended, and where SQLite refuses a statement. Cancellation: work that has
    /// begun goes on to its end.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let session = self.clone();
        blocking::unblock(move || {
            let held = session.lock();
            let held = held.as_ref().ok_or_else(ended)?;
            held.check_open()?;
            in_savepoint(held, work)
                .map_err(|cause| error::of("a statement of the application failed", cause))
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.execute_batch("SAVEPOINT ensue_work")?;
    let done = work(connection);
    if done.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK TO ensue_work")?;
    }
    connection.execute_batch("RELEASE ensue_work")?;
    done
}

fn ended() -> Error {
    Error::new(Code::DATABASE_REFUSED, "the transaction of this session has ended")
        .with_fix("use a session only inside of the handler that it was given to")
}

/// An open transaction. Dropping it rolls back, in the background.
pub(crate) struct Open {
    session: Session,
    head: Arc<Head>,
    clock: WallClock,
}

impl Open {
    /// Waits for the turn and begins.
    pub(crate) async fn begin(turn: Arc<Turn>, head: Arc<Head>, clock: WallClock) -> Result<Self, Error> {
        let held = blocking::unblock(move || turn.begin()).await?;
        Ok(Self { session: Session(Arc::new(Mutex::new(Some(held)))), head, clock })
    }
}

impl Transaction for Open {
    fn session(&self) -> Box<dyn Any + Send + Sync> {
        Box::new(self.session.clone())
    }

    fn commit(self: Box<Self>, commit: Commit) -> BoxFuture<'static, Result<Committed, CommitError>> {
        // Nothing begins before it is polled: a thread that was started with the call would commit what the caller has dropped.
        Box::pin(async {
            let taking = blocking::unblock(move || {
                let held = self.session.lock().take().ok_or_else(ended)?;
                commit.check(&CAPABILITIES)?;
                take(held, &commit, &self.clock, &self.head)?
            });
            taking.await
        })
    }
}

fn take(held: Held, commit: &Commit, clock: &WallClock, head: &Head) -> Result<Outcome, Error> {
    held.check_open()?;
    let mut log = Log::open(&held, clock.now())?;
    let outcome = log.take(commit)?;
    if outcome.is_err() {
        return Ok(outcome);
    }
    let position = log.close()?;
    held.commit()?;
    head.tell(position);
    Ok(outcome)
}

impl Drop for Open {
    fn drop(&mut self) {
        let session = self.session.clone();
        // Work that is still going on has the connection until its end.
        blocking::unblock(move || drop(session.lock().take())).detach();
    }
}
