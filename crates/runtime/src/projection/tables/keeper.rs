//! What a read model in tables is worked on with: its projection, the log, and the store in the database of the tables. Makes
//! the first tables, and takes pages of events into them.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use ensue_core::{
    Code, Commit, CommitError, Error, EventSet, EventType, Failure, Host, Position, Query, Read, Record,
    RecordWrite, Recorded, Revision, SqlSession, Store, StoreExt, Transaction,
};
use futures_util::{FutureExt, TryStreamExt};

use super::guard::Guard;
use super::{Names, Page, TableProjection, TableSetup, Tables, table_setup_of};
use crate::context::Meta;
use crate::lane::STORE_PAUSE;
use crate::policy::StartFrom;
use crate::progress::lock;
use crate::projection::generation::{self, Generation, Live};
use crate::projection::subscription_name;
use crate::spaces::{self, VIEW};
use crate::subscription::Checkpoints;

/// Which tables are there: of the live generation, or of another one.
const TABLES: &str = "tables";

/// What one process knows of whether the tables and the log belong together.
#[derive(Default)]
pub(crate) struct Fit {
    /// Why they do not.
    refused: Mutex<Option<Error>>,
    /// The guard that was found to be in order, or was written by us.
    known: Mutex<Option<Revision>>,
}

impl Fit {
    pub(super) fn refuse(&self, error: &Error) {
        lock(&self.refused).get_or_insert_with(|| error.clone());
    }

    pub(super) fn refused(&self) -> Option<Error> {
        lock(&self.refused).clone()
    }

    pub(super) fn is_known(&self, revision: Revision) -> bool {
        *lock(&self.known) == Some(revision)
    }

    pub(super) fn know(&self, revision: Revision) {
        *lock(&self.known) = Some(revision);
    }

    /// The tables are built from this log.
    pub(super) fn mend(&self) {
        *lock(&self.refused) = None;
        *lock(&self.known) = None;
    }
}

pub(crate) struct Keeper<P> {
    pub(super) projection: Arc<P>,
    pub(super) log: Arc<dyn Store>,
    /// The store in the database of the tables.
    pub(super) target: Arc<dyn Store>,
    /// Whether that is not the database of the log.
    pub(super) is_elsewhere: bool,
    pub(super) host: Host,
    pub(super) setup: TableSetup,
    pub(super) fit: Arc<Fit>,
    pub(super) live_names: Names,
}

/// How much of a page was taken: so many events from the front, in this transaction, or why not even the first.
pub(super) enum Taken {
    Some(usize, Box<dyn Transaction>),
    None(Failure),
}

impl<P: TableProjection> Keeper<P> {
    pub(crate) fn new(projection: Arc<P>, log: Arc<dyn Store>, host: Host, fit: Arc<Fit>) -> Self {
        let setup = table_setup_of(&*projection);
        let target = setup.target.clone();
        Self {
            live_names: Names::live(&projection.tables()),
            is_elsewhere: target.is_some(),
            target: target.unwrap_or_else(|| Arc::clone(&log)),
            projection,
            log,
            host,
            setup,
            fit,
        }
    }

    pub(super) fn tables(&self) -> Tables {
        self.projection.tables()
    }

    pub(super) async fn live(&self) -> Result<Live, Error> {
        generation::live(&*self.target, P::NAME, P::VERSION).await
    }

    /// The position after which a build begins.
    pub(super) fn beginning(&self) -> Position {
        match self.setup.settings.start {
            StartFrom::After(position) => position,
            StartFrom::Beginning | StartFrom::Now => Position::ZERO,
        }
    }

    pub(super) async fn checkpoints(&self) -> Result<Checkpoints, Error> {
        Checkpoints::load(&*self.log, &subscription_name(P::NAME).into()).await
    }

    /// How many events for the tables the log has in `(after, until]`, but for some.
    pub(super) async fn settled_after(
        &self,
        after: Position,
        until: Position,
        left_out: &HashSet<Position>,
    ) -> Result<u64, Error> {
        let mut events = self.log.read(Read::query(Query::types(types::<P>()?)).after(after).until(until));
        let mut count = 0;
        while let Some(recorded) = events.try_next().await? {
            count += u64::from(!left_out.contains(&recorded.position));
        }
        Ok(count)
    }

    /// A transaction of the database of the tables, with its session.
    pub(super) async fn begin(&self) -> Result<(Box<dyn Transaction>, P::Session), Error> {
        let transaction = self.target.begin().await?;
        let session = transaction.session().downcast::<P::Session>().map_err(|_| {
            let message = format!(
                "{} works with {}, which is not what the {} gives",
                P::NAME,
                std::any::type_name::<P::Session>(),
                self.target.capabilities().name
            );
            Error::new(Code::UNSUPPORTED, message)
                .with_fix("use the session of the adapter of the store that the tables are on")
        })?;
        Ok((transaction, *session))
    }

    /// Makes the tables where there are none. Another process may do the same.
    pub(super) async fn make(&self) -> Result<(), Error> {
        let (transaction, session) = self.begin().await?;
        session.run_statements(self.tables().making(&self.live_names)).await?;
        held_by_none::<P>(&session, self.live_names.called()).await?;
        drop(session);
        let generation = Generation::first(P::VERSION);
        let mut records = vec![generation::live_write(P::NAME, generation).expect(Revision::ZERO)];
        records.push(put_tables::<P>(None, &self.live_names));
        if self.is_elsewhere {
            records.push(Guard::default().write(P::NAME));
        }
        transaction.commit(Commit { records, ..Commit::default() }).await?;
        Ok(())
    }

    /// Takes as many of these events as go together, from the front. Of a page that fails the first half is tried, and so on,
    /// until it shows which event it is.
    pub(super) async fn take(&self, names: &Names, events: &[Recorded]) -> Taken {
        let mut page = events;
        loop {
            let failure = match self.take_all(names, page).await {
                Ok((count, transaction)) => return Taken::Some(count, transaction),
                Err(failure) => failure,
            };
            if page.len() <= 1 || matches!(failure, Failure::Later(_)) {
                return Taken::None(failure);
            }
            page = page.get(..page.len() / 2).unwrap_or(page);
        }
    }

    /// Takes all that decode, from the front.
    async fn take_all(
        &self,
        names: &Names,
        events: &[Recorded],
    ) -> Result<(usize, Box<dyn Transaction>), Failure> {
        let mut page = Vec::with_capacity(events.len());
        for recorded in events {
            match recorded.decode::<P::Event>() {
                Ok(event) => page.push((event, Meta::from(recorded))),
                // What cannot be decoded now will not decode on the next attempt either.
                Err(error) if page.is_empty() => return Err(Failure::Rejected(error)),
                Err(_) => break,
            }
        }
        let count = page.len();
        let (transaction, session) = self.begin().await.map_err(later)?;
        self.apply(Page { events: page, names: names.clone() }, &session).await.map_err(later)?;
        Ok((count, transaction))
    }

    async fn apply(&self, page: Page<P::Event>, session: &P::Session) -> Result<(), Error> {
        let timeout = self.setup.settings.timeout;
        // The call itself happens inside of the future, so that a panic in it is caught too.
        let work = async { self.projection.apply(page, session).await };
        let work = std::pin::pin!(AssertUnwindSafe(work).catch_unwind());
        tokio::select! {
            biased;
            done = work => done.unwrap_or_else(|panic| Err(crate::reaction::panicked(&*panic))),
            () = self.host.clock.sleep(timeout) => {
                Err(Error::new(Code::HANDLER_TIMED_OUT, format!("{} took longer than {timeout:?}", P::NAME)))
            }
        }
    }
}

/// The event types that feed it.
pub(super) fn types<P: TableProjection>() -> Result<Vec<EventType>, Error> {
    P::Event::types().iter().map(|info| EventType::new(info.event_type)).collect()
}

/// That a database is away, or locked by somebody, is no failure of an event.
fn later(error: Error) -> Failure {
    let is_ours = error.code() != Code::HANDLER_TIMED_OUT;
    if error.is_retryable() && is_ours { Failure::Later(STORE_PAUSE) } else { Failure::Failed(error) }
}

/// `E0324` if something hangs on these tables that would not move over to others.
pub(super) async fn held_by_none<P: TableProjection>(
    session: &P::Session,
    tables: Vec<String>,
) -> Result<(), Error> {
    let found = session.hangs_on(tables).await?;
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::TABLES_HELD, format!("the tables of {} are held by {}", P::NAME, found.join(", "))))
}

/// Whether the commit was refused because another process was faster.
pub(super) fn is_overtaken(error: &CommitError) -> bool {
    matches!(error, CommitError::RecordConflict { .. })
}

fn tables_key(name: &str, generation: Option<Generation>) -> bytes::Bytes {
    match generation {
        None => spaces::join(&[name, TABLES]),
        Some(Generation { version, number }) => spaces::join(&[name, TABLES, &format!("{version}-{number}")]),
    }
}

/// Puts on record which tables a generation has; `None` is the live one.
pub(super) fn put_tables<P: TableProjection>(generation: Option<Generation>, names: &Names) -> RecordWrite {
    RecordWrite::put(VIEW.clone(), tables_key(P::NAME, generation), spaces::encode(&names.called()))
}

pub(super) fn forget_tables(name: &str, generation: Generation) -> RecordWrite {
    RecordWrite::delete(VIEW.clone(), tables_key(name, Some(generation)))
}

/// The tables of a generation, as they are called; `None` where it has none on record.
pub(super) async fn tables_of(
    store: &dyn Store,
    name: &str,
    generation: Option<Generation>,
) -> Result<Option<Vec<String>>, Error> {
    let record: Option<Record> = store.record(VIEW.clone(), tables_key(name, generation)).await?;
    record.map(|record| spaces::decode("read model", &record.value)).transpose()
}
