//! Reading the events of a read model again, decoded and in order, faster than one after the other: ranges of the log are
//! read and decoded side by side, and handed out in the order of the log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use ensue_core::{Code, Error, EventSet, EventType, Position, Query, Read, Recorded, Store};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use super::Projection;
use crate::context::Meta;

/// Positions of the log that are read and decoded together.
const RANGE: u64 = 4_096;
/// Ranges that are read ahead. With their size it bounds the memory that reading takes.
const AHEAD: usize = 4;

/// An event that was read again: what it is, or why it does not decode.
pub(super) struct Replayed<E> {
    pub(super) meta: Meta,
    pub(super) event: Result<E, Error>,
}

/// A range of the log: its last position, and the events in it.
pub(super) type Range<P> = (Position, Vec<Replayed<<P as Projection>::Event>>);

/// That a log loses no events while a read model is built from it, which would have a hole and show it to nobody.
#[derive(Default)]
pub(super) struct Kept {
    /// What had been dropped when it was looked at first.
    dropped: Option<u64>,
}

impl Kept {
    /// What had been dropped before.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.unwrap_or_default()
    }

    /// `E0413` where events were dropped since the first call.
    pub(super) async fn check(&mut self, log: &dyn Store, name: &str) -> Result<(), Error> {
        let dropped = log.dropped(Position::ZERO, Position::MAX).await?;
        if *self.dropped.get_or_insert(dropped) == dropped {
            return Ok(());
        }
        let message = format!("the log has dropped events while {name} was built from it");
        Err(Error::new(Code::BUSY, message)
            .with_fix("build it again: `ensue store trim` waits for a build that it sees"))
    }
}

/// The event types that feed a projection.
pub(super) fn types<P: Projection>() -> Result<Vec<EventType>, Error> {
    P::Event::types().iter().map(|info| EventType::new(info.event_type)).collect()
}

/// The events in `(after, until]` that feed the projection, a range of positions at a time.
pub(super) fn replay<P: Projection>(
    store: &Arc<dyn Store>,
    after: Position,
    until: Position,
) -> impl Stream<Item = Result<Range<P>, Error>> + Send + Unpin + use<P> {
    let store = Arc::clone(store);
    let ranges = (after.0..until.0).step_by(usize::try_from(RANGE).unwrap_or(usize::MAX));
    stream::iter(ranges)
        .map(move |start| {
            let end = Position(start.saturating_add(RANGE).min(until.0));
            let read = decoded::<P>(Arc::clone(&store), Position(start), end);
            // On a task of its own, so that ranges are decoded on as many threads as the executor has.
            let task = tokio::spawn(read);
            async move {
                let events = task.await.unwrap_or_else(|cause| match cause.try_into_panic() {
                    Ok(panic) => Err(crate::reaction::panicked(&*panic)),
                    Err(_) => Err(Error::new(ensue_core::Code::CLOSED, "the process shuts down")),
                })?;
                Ok((end, events))
            }
        })
        .buffered(AHEAD)
        .boxed()
}

/// As [`replay`], but nothing is read or decoded before it is asked for: one page at a time, so that whoever takes it sets the
/// pace.
pub(super) fn stepwise<P: Projection>(
    store: &Arc<dyn Store>,
    after: Position,
    until: Position,
) -> impl Stream<Item = Result<Range<P>, Error>> + Send + Unpin + use<'_, P> {
    let pages = async move {
        let read = Read::query(Query::types(types::<P>()?)).after(after).until(until);
        let pages = store.read(read).try_ready_chunks(READY).map_err(|error| error.1);
        Ok::<_, Error>(pages.map_ok(move |page| {
            let end = page.last().map_or(until, |last| last.position);
            (end, page.into_iter().map(replayed::<P>).collect())
        }))
    };
    stream::once(pages).try_flatten().boxed()
}

fn replayed<P: Projection>(recorded: Recorded) -> Replayed<P::Event> {
    let event = recorded.decode();
    Replayed { event, meta: Meta::from(recorded) }
}

async fn decoded<P: Projection>(
    store: Arc<dyn Store>,
    after: Position,
    until: Position,
) -> Result<Vec<Replayed<P::Event>>, Error> {
    let read = Read::query(Query::types(types::<P>()?)).after(after).until(until);
    let mut pages = store.read(read).try_ready_chunks(READY);
    let mut events = Vec::new();
    while let Some(page) = pages.try_next().await.map_err(|error| error.1)? {
        events.extend(page.into_iter().map(replayed::<P>));
        tokio::task::yield_now().await;
    }
    Ok(events)
}

/// Events decoded before others get a turn.
const READY: usize = 256;

/// Calls the projection's own code; a panic in it is an error.
pub(super) fn guarded<T>(code: impl FnOnce() -> T) -> Result<T, Error> {
    // What the code left half-done is thrown away with the error.
    std::panic::catch_unwind(AssertUnwindSafe(code)).map_err(|panic| crate::reaction::panicked(&*panic))
}
