//! The readable head: told at once by whoever commits through this store, looked for while somebody waits.
//!
//! Other connections are noticed by `PRAGMA data_version`, which costs a look into shared memory, so it can be asked often.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ensue_core::{Code, Error, Position};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::file::File;
use crate::{decide, error};

/// What is known of the head.
pub(crate) struct Head {
    known: watch::Sender<Known>,
    closed: Mutex<bool>,
    /// Somebody has begun to wait, or the store is closing.
    changed: Condvar,
}

#[derive(Clone, Default)]
struct Known {
    head: Position,
    /// Why it could not be looked up last time.
    failure: Option<Error>,
}

impl Head {
    pub(crate) fn new(head: Position) -> Self {
        Self {
            known: watch::Sender::new(Known { head, failure: None }),
            closed: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    /// Wakes whoever waits for this position.
    pub(crate) fn tell(&self, head: Position) {
        self.known.send_if_modified(|known| {
            let is_news = head > known.head || known.failure.is_some();
            known.head = head.max(known.head);
            known.failure = None;
            is_news
        });
    }

    /// Resolves once the head is past `after`.
    pub(crate) async fn past(&self, after: Position) -> Result<Position, Error> {
        let mut known = self.known.subscribe();
        let head = known.borrow_and_update().head;
        if head > after {
            return Ok(head);
        }
        drop(self.closed());
        self.changed.notify_all();
        loop {
            known.changed().await.map_err(|_| Error::new(Code::CLOSED, "the store is closed"))?;
            let Known { head, failure } = known.borrow_and_update().clone();
            if head > after {
                return Ok(head);
            }
            if let Some(error) = failure {
                return Err(error);
            }
        }
    }

    fn closed(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that looks. Dropping it ends it.
pub(crate) struct Lookout {
    head: Arc<Head>,
    thread: Option<JoinHandle<()>>,
}

impl Lookout {
    pub(crate) fn start(head: Arc<Head>, file: File, interval: Duration) -> Result<Self, Error> {
        let watched = Arc::clone(&head);
        let spawned = thread::Builder::new()
            .name("ensue-sqlite-head".to_owned())
            .spawn(move || look_out(&watched, &file, interval));
        let thread = spawned.map_err(|cause| {
            Error::new(Code::IO, "cannot start the thread that looks for the head").with_source(cause)
        })?;
        Ok(Self { head, thread: Some(thread) })
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        *self.head.closed() = true;
        self.head.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic was printed already.
            drop(thread.join());
        }
    }
}

fn look_out(head: &Head, file: &File, interval: Duration) {
    let mut sight = Sight::default();
    let mut closed = head.closed();
    while !*closed {
        if head.known.receiver_count() == 0 {
            closed = head.changed.wait(closed).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        drop(closed);
        match sight.look(file) {
            Ok(Some(found)) => head.tell(found),
            Ok(None) => {}
            Err(error) => {
                sight = Sight::default();
                head.known.send_modify(|known| known.failure = Some(error));
            }
        }
        let guard = head.changed.wait_timeout_while(head.closed(), interval, |closed| !*closed);
        closed = guard.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// A connection of its own, and what it saw last.
#[derive(Default)]
struct Sight {
    connection: Option<Connection>,
    version: Option<i64>,
}

impl Sight {
    /// The head, if any connection has committed since the last look.
    fn look(&mut self, file: &File) -> Result<Option<Position>, Error> {
        file.check_unmoved()?;
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => file.connect()?,
        };
        let connection = self.connection.insert(connection);
        let version = connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row((), |row| row.get(0)))
            .map_err(|cause| error::of("cannot look for the head", cause))?;
        if self.version.replace(version) == Some(version) {
            return Ok(None);
        }
        decide::head(connection).map(Some)
    }
}
