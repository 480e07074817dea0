//! Connections that read: a bounded number, each used off the async threads and for one page at a time.

use std::sync::{Arc, Mutex, PoisonError};

use ensue_core::{Code, Error};
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::error;
use crate::file::File;

pub(crate) struct Pool {
    file: File,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new(file: File, connections_max: usize) -> Self {
        Self { file, idle: Mutex::default(), permits: Arc::new(Semaphore::new(connections_max)) }
    }

    /// Does this work with a connection that is free, or a new one. Waits if all are busy. Cancellation: work that has begun
    /// goes on to its end.
    pub(crate) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let closed = |_| Error::new(Code::CLOSED, "the store is closed");
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let pool = Arc::clone(self);
        blocking::unblock(move || {
            let connection = pool.get()?;
            let outcome = work(&connection);
            pool.idle().push(connection);
            drop(permit);
            outcome
        })
        .await
    }

    fn get(&self) -> Result<Connection, Error> {
        if let Some(connection) = self.idle().pop() {
            return Ok(connection);
        }
        let connection = self.file.connect()?;
        connection
            .pragma_update(None, "query_only", true)
            .map_err(|cause| error::of("cannot open a connection that reads", cause))?;
        Ok(connection)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
