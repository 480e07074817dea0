//! A transaction that tables of the application and one commit share.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ensue_core::{BoxFuture, Code, Commit, CommitError, Committed, Error, StoreCapabilities, Transaction};
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::Client;

use crate::batch::{self, Failure};
use crate::error;
use crate::head::Head;
use crate::pool::{Connection, Pool};

/// What a handler works with in the transaction that settles its delivery: `Tx<Session>`.
///
/// It must not be kept: once the transaction is over it answers with an error, and until it is dropped it keeps a
/// connection.
#[derive(Clone)]
pub struct Session(Arc<Open>);

struct Open {
    connection: Connection,
    is_over: AtomicBool,
    _place: OwnedSemaphorePermit,
}

impl Session {
    /// The driver's client, inside of the transaction. Do not begin, commit or roll back with it; savepoints are fine.
    /// Behind a pooler in transaction mode use its `query_typed` and `execute_typed`, which prepare nothing by name.
    ///
    /// Fails with `E0409` when the transaction is over.
    pub fn client(&self) -> Result<&Client, Error> {
        if self.0.is_over.load(Ordering::Relaxed) {
            return Err(Error::new(Code::CLOSED, "the transaction of this session is over")
                .with_fix("do all work of the handler before it returns, and keep no session"));
        }
        Ok(&self.0.connection)
    }

    /// What comes of calls to the client; where the server stands still, the connection is given up.
    pub(crate) async fn answer<T>(&self, trying: &str, calls: impl Future<Output = T>) -> T {
        self.0.connection.answer(trying, calls).await
    }

    /// What the driver says, as an error of a handler: whether the same work may succeed later is kept.
    pub fn refused(trying: &str, cause: tokio_postgres::Error) -> Error {
        error::of(trying, cause)
    }
}

/// The transaction to which the session belongs.
pub(crate) struct Joined {
    session: Session,
    head: Arc<Head>,
    capabilities: &'static StoreCapabilities,
}

impl Joined {
    pub(crate) async fn begin(
        pool: &Arc<Pool>,
        head: &Arc<Head>,
        capabilities: &'static StoreCapabilities,
    ) -> Result<Self, Error> {
        let place = pool.long_place().await?;
        let connection = pool.get().await?;
        connection.soil();
        let begin = batch::begin(pool);
        let begun = connection.answer("cannot begin a transaction", connection.batch_execute(&begin)).await;
        begun.map_err(batch::refused)?;
        let open = Open { connection, is_over: AtomicBool::new(false), _place: place };
        Ok(Self { session: Session(Arc::new(open)), head: Arc::clone(head), capabilities })
    }

    async fn finish(self, commit: Commit) -> Result<Committed, CommitError> {
        commit.check(self.capabilities)?;
        let open = &self.session.0;
        open.is_over.store(true, Ordering::Relaxed);
        let outcome = match batch::finish(&open.connection, &self.head, &commit).await {
            Ok(outcome) => outcome,
            Err(Failure::Behind(error) | Failure::Nothing(error) | Failure::Unknown(error)) => {
                return Err(error.into());
            }
        };
        open.connection.clean();
        // Of a repetition everything was taken back.
        if let Some(committed) = outcome.as_ref().ok().filter(|committed| !committed.repeated) {
            self.head.tell(committed.position());
        }
        outcome
    }
}

impl Transaction for Joined {
    fn session(&self) -> Box<dyn Any + Send + Sync> {
        Box::new(self.session.clone())
    }

    fn commit(self: Box<Self>, commit: Commit) -> BoxFuture<'static, Result<Committed, CommitError>> {
        Box::pin(self.finish(commit))
    }
}

/// A transaction that is not committed is taken back, also where a session was kept.
impl Drop for Joined {
    fn drop(&mut self) {
        self.session.0.is_over.store(true, Ordering::Relaxed);
    }
}
