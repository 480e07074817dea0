//! The turn: the right to write, and with it the one connection that writes. It goes round in the order of asking.
//!
//! Inside of a process this takes the place of SQLite's lock, which knows no order and is asked for again and again. Between
//! processes the lock decides: whoever has the turn waits for it in `BEGIN IMMEDIATE`.
//!
//! Invariant: a connection that comes back has no transaction open.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensue_core::{Code, Error};
use rusqlite::Connection;

use crate::file::File;
use crate::{error, holder};

/// Hands out the connection that writes.
pub(crate) struct Turn {
    file: File,
    patience: Duration,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Who has asked and not been served, in order.
    waiting: VecDeque<u64>,
    asked: u64,
    /// Why nothing is written any more.
    stopped: Option<Error>,
}

impl Turn {
    pub(crate) fn new(file: File, connection: Connection, patience: Duration) -> Self {
        let state = State { connection: Some(connection), ..State::default() };
        Self { file, patience, state: Mutex::new(state), freed: Condvar::new() }
    }

    /// Waits for the turn. Blocks.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Held, Error> {
        let mut state = self.lock();
        state.asked += 1;
        let ticket = state.asked;
        state.waiting.push_back(ticket);
        let (mut state, _) = self
            .freed
            .wait_timeout_while(state, self.patience, |state| {
                state.stopped.is_none()
                    && (state.connection.is_none() || state.waiting.front() != Some(&ticket))
            })
            .unwrap_or_else(PoisonError::into_inner);
        let is_first = state.waiting.front() == Some(&ticket);
        state.waiting.retain(|waiting| *waiting != ticket);
        self.freed.notify_all();
        if let Some(error) = &state.stopped {
            return Err(error.clone());
        }
        match state.connection.take_if(|_| is_first) {
            Some(connection) => Ok(Held { turn: Arc::clone(self), connection: Some(connection) }),
            None => Err(self.locked("a transaction of this process")),
        }
    }

    /// Begins a transaction that no other process can write beside.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<Held, Error> {
        let held = self.take()?;
        self.file.check_unmoved()?;
        held.execute_batch("BEGIN IMMEDIATE").map_err(|cause| {
            let error = error::of("cannot begin a transaction", cause);
            if error.code() == Code::DATABASE_LOCKED {
                self.locked(&holder::of(self.file.path()).unwrap_or_else(|| "another connection".to_owned()))
            } else {
                error
            }
        })?;
        Ok(held)
    }

    fn locked(&self, holder: &str) -> Error {
        let (path, patience) = (self.file.path().display(), self.patience);
        Error::new(
            Code::DATABASE_LOCKED,
            format!("{holder} has held the write lock of {path} for more than {patience:?}"),
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn, which ends when this is dropped; what is not committed by then is rolled back.
pub(crate) struct Held {
    turn: Arc<Turn>,
    /// Gone only while this is dropped.
    connection: Option<Connection>,
}

impl Held {
    /// Fails if the transaction is over already: what is written then would be taken at once, and alone.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.is_autocommit() {
            let message = "the transaction was ended before the commit, by a statement of the application or a full disk";
            return Err(Error::new(Code::DATABASE_REFUSED, message)
                .with_fix("leave BEGIN, COMMIT and ROLLBACK to the store; `SAVEPOINT` is free"));
        }
        Ok(())
    }

    /// Commits what was written. Blocks for as long as the device takes.
    pub(crate) fn commit(self) -> Result<(), Error> {
        // Under another name nobody would find what is written now.
        self.turn.file.check_unmoved()?;
        self.execute_batch("COMMIT").map_err(|cause| {
            let error = error::of("cannot commit", cause);
            if error.code() == Code::IO { self.stop(&error) } else { error }
        })
    }

    /// After a failed write or sync nobody knows what the device has: nothing more is written through this store.
    fn stop(&self, cause: &Error) -> Error {
        let message = format!(
            "the outcome of a commit to {} is unknown: {}",
            self.turn.file.path().display(),
            cause.message()
        );
        let error = Error::new(Code::POISONED, message).with_source(cause.clone());
        self.turn.lock().stopped = Some(error.clone());
        error
    }
}

impl Deref for Held {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is given back only when this is dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let is_clean = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
        let mut state = self.turn.lock();
        if is_clean || connection.is_autocommit() {
            state.connection = Some(connection);
        } else {
            // Closing rolls back for certain.
            drop(connection);
            match self.turn.file.connect() {
                Ok(fresh) => state.connection = Some(fresh),
                Err(error) => state.stopped = Some(error),
            }
        }
        drop(state);
        self.turn.freed.notify_all();
    }
}
