//! Connections, a bounded number of them, made when they are needed and made again when they break.
//!
//! Invariant: an idle connection is outside of any transaction. Whoever opens one [soils](Connection::soil) the connection
//! first, and a connection that is dropped soiled is closed, which rolls back.

use std::borrow::Cow;
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensue_core::{Code, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::config::Config;
use crate::error;
use crate::outage::Watch;

/// How long to wait before a server that is away is tried again.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) struct Pool {
    config: Config,
    places: Arc<Semaphore>,
    /// Of the places, those for whoever may keep a connection for long: half of them, so that the others get theirs.
    long_places: Arc<Semaphore>,
    idle: Mutex<Vec<Line>>,
    watch: Watch,
}

impl Pool {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            places: Arc::new(Semaphore::new(config.connections_max)),
            long_places: Arc::new(Semaphore::new(config.connections_max / 2)),
            idle: Mutex::default(),
            watch: Watch::new(config.on_outage.clone()),
            config,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// A connection, once there is a place; while the server is away, tries again for as long as patience lasts.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<Connection, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        let until = Instant::now() + self.config.patience;
        let mut pace = interval(RECONNECT_INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            match self.line().await {
                Ok(line) => {
                    return Ok(Connection {
                        line: Some(line),
                        is_clean: AtomicBool::new(true),
                        pool: Arc::clone(self),
                        _place: place,
                    });
                }
                Err(error) if error.is_retryable() && Instant::now() < until => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The right to keep a connection for long.
    pub(crate) async fn long_place(&self) -> Result<OwnedSemaphorePermit, Error> {
        let place = timeout(self.config.patience, Arc::clone(&self.long_places).acquire_owned()).await;
        let place = place.map_err(|_| {
            let message = "every connection that may be kept for long is in use";
            Error::new(Code::DATABASE_TIMEOUT, message).with_fix("raise `Config::connections_max`")
        })?;
        Ok(place.expect("the semaphore is never closed"))
    }

    /// The rows of one statement that may be repeated: where the connection breaks, it is.
    ///
    /// It runs in a task of its own. Whoever waits for it may be set aside in the middle, as a reader is while its lanes
    /// are full; a place in the pool must not be kept meanwhile, or the commits that would empty the lanes never get one.
    pub(crate) async fn rows(
        self: &Arc<Self>,
        trying: &'static str,
        sql: impl Into<Cow<'static, str>>,
        parameters: Vec<Parameter>,
    ) -> Result<Vec<Row>, Error> {
        let (pool, sql) = (Arc::clone(self), sql.into());
        let running = tokio::spawn(async move { pool.repeat(trying, &sql, &parameters).await });
        running.await.map_err(|cause| {
            let message = "the runtime that the store was opened on has ended";
            Error::new(Code::CLOSED, message).with_source(cause)
        })?
    }

    async fn repeat(
        self: &Arc<Self>,
        trying: &str,
        sql: &str,
        parameters: &[Parameter],
    ) -> Result<Vec<Row>, Error> {
        let until = Instant::now() + self.config.patience;
        let parameters: Vec<_> = parameters.iter().map(borrowed).collect();
        loop {
            match self.get().await?.rows(trying, sql, &parameters).await {
                Err(error) if error.code() == Code::DATABASE_UNREACHABLE && Instant::now() < until => {}
                settled => return settled,
            }
        }
    }

    async fn line(&self) -> Result<Line, Error> {
        while let Some(line) = self.idle().pop() {
            if !line.client.is_closed() {
                return Ok(line);
            }
        }
        let (client, connection) = self.connect().await.inspect_err(|error| self.watch.failed(error))?;
        self.watch.connected();
        // Ends when the client is dropped or the server goes away; whoever waits for an answer is told then.
        let task = tokio::spawn(connection).abort_handle();
        Ok(Line { client, task })
    }

    async fn connect(
        &self,
    ) -> Result<(Client, impl Future<Output = Result<(), tokio_postgres::Error>> + Send + use<>), Error> {
        let trying = || format!("cannot connect to the database at {}", self.config.place());
        let limit = self.config.connect_max();
        let connected = timeout(limit, self.config.server.connect(self.config.connector())).await;
        connected.map_err(|_| error::silent(&trying(), limit))?.map_err(|cause| error::of(&trying(), cause))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client, and the task that moves what it says and hears.
struct Line {
    client: Client,
    task: AbortHandle,
}

/// A place in the pool with the connection that stands in it.
pub(crate) struct Connection {
    line: Option<Line>,
    is_clean: AtomicBool,
    pool: Arc<Pool>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// From here on the connection may be inside a transaction.
    pub(crate) fn soil(&self) {
        self.is_clean.store(false, Ordering::Relaxed);
    }

    /// The transaction is over.
    pub(crate) fn clean(&self) {
        self.is_clean.store(true, Ordering::Relaxed);
    }

    /// What comes of calls to the server. Where no answer comes for longer than the server itself would let them take, the connection is
    /// given up, and they end as by one that was cut.
    pub(crate) async fn answer<T>(&self, trying: &str, calls: impl Future<Output = T>) -> T {
        let mut calls = pin!(calls);
        let limit = self.pool.config.silence_max();
        match timeout(limit, &mut calls).await {
            Ok(answer) => answer,
            Err(_) => {
                self.give_up(&error::silent(trying, limit));
                calls.await
            }
        }
    }

    /// Cuts the connection to a server that stands still, and those that idle with it.
    fn give_up(&self, error: &Error) {
        self.soil();
        self.open().task.abort();
        self.pool.idle().clear();
        self.pool.watch.failed(error);
    }

    /// The rows of one statement outside of a transaction. A statement that takes too long is cancelled.
    async fn rows(&self, trying: &str, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>, Error> {
        let limit = self.pool.config.statement_timeout;
        let mut query = pin!(self.query_typed(sql, parameters));
        if let Ok(rows) = timeout(limit, &mut query).await {
            return rows.map_err(|cause| error::of(trying, cause));
        }
        let patience = self.pool.config.connect_max();
        let ended = async {
            let cancelled = self.cancel_token().cancel_query(self.pool.config.connector()).await;
            let _rows_or_refusal = query.await;
            cancelled
        };
        let Ok(cancelled) = timeout(patience, ended).await else {
            let error = error::silent(trying, limit.saturating_add(patience));
            self.give_up(&error);
            return Err(error);
        };
        // The server may act on the request to cancel later than it answers it, and would end somebody else's statement.
        self.soil();
        let message = format!("{trying}: no answer within {} ms", limit.as_millis());
        let error = Error::new(Code::DATABASE_TIMEOUT, message).with_fix(error::FIX_HELD);
        Err(match cancelled {
            Ok(()) => error,
            Err(cause) => error.with_source(cause),
        })
    }

    fn open(&self) -> &Line {
        self.line.as_ref().expect("a connection keeps its line until it is dropped")
    }
}

/// A parameter that a statement takes along, with its type.
pub(crate) type Parameter = (Box<dyn ToSql + Sync + Send>, Type);

fn borrowed((value, of): &Parameter) -> (&(dyn ToSql + Sync), Type) {
    (&**value, of.clone())
}

/// The parameters of a statement with their types: nothing has to be asked of the server before.
pub(crate) type Parameters<'a> = [(&'a (dyn ToSql + Sync), Type)];

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.open().client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let is_clean = self.is_clean.load(Ordering::Relaxed);
        let line = self.line.take().filter(|line| is_clean && !line.client.is_closed());
        if line.is_some() {
            self.pool.watch.connected();
        }
        self.pool.idle().extend(line);
    }
}
