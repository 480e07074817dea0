//! A fork: a flow played again in a scratch store, with another event or other code, without touching the world.
//!
//! Effects are suppressed by construction. A reaction or command handler does not run in a fork unless it is named with
//! [`Fork::run`]: it answers from the record, with the events it caused in the original flow. Where the record has no
//! answer, because the event is another one now, the fork says what would have been called and goes no further there.
//! The code of sagas runs, because it decides and has no effects; their local steps answer from the record too, unless the
//! saga is named.
//!
//! What came from outside (the event that began the flow, timers, replies over a link) is fed in order, each when the
//! flow is at rest after the one before. Ids are derived from causes, so whatever happens as before has the same id as
//! before, and the comparison is exact.
//!
//! Not replayed: events that other flows put into the same streams meanwhile; their number is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{
    Append, Code, Commit, Error, EventId, Expected, Position, Read, Recorded, Store, StoreExt, StreamName,
    Timestamp,
};

use crate::app::{App, Running};
use crate::flow::{FlowSummary, Flows};

mod compare;
mod record;
mod stand_in;

pub use compare::{ForkReport, Moved, Suppressed};
pub(crate) use record::FlowRecord;

/// How long handlers may take to stop when the fork is over.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A flow that is about to be played again.
pub struct Fork {
    original: Arc<dyn Store>,
    key: String,
    events: Vec<Recorded>,
    until: Position,
    changes: BTreeMap<Position, Bytes>,
    runs: Runs,
}

/// Whose code runs.
#[derive(Clone, Debug)]
pub(crate) enum Runs {
    All,
    Named(BTreeSet<String>),
}

impl Runs {
    pub(crate) fn has(&self, handler: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(handler),
        }
    }
}

impl Fork {
    /// Of the flow with this id, or of the newest one that an event with this business key began. `E0414` if there is none.
    pub async fn of(store: Arc<dyn Store>, key_or_flow: &str) -> Result<Self, Error> {
        // Which flow it is does not depend on the time.
        let view = Flows::open(Arc::clone(&store), Timestamp::MIN).await?.show(key_or_flow).await?;
        let events = store.collect(Read::flow(view.summary.flow.clone())).await?;
        Ok(Self {
            original: store,
            key: view.summary.key,
            events,
            until: Position::MAX,
            changes: BTreeMap::new(),
            runs: Runs::Named(BTreeSet::new()),
        })
    }

    /// The record counts only up to this position: what came after it is not fed, and who answered after it has no answer.
    #[must_use]
    pub fn until(mut self, position: Position) -> Self {
        self.until = position;
        self
    }

    /// Gives the event at this position another body. Who reacts to it has no answer on record any more.
    #[must_use]
    pub fn change(mut self, position: Position, body: impl Into<Bytes>) -> Self {
        self.changes.insert(position, body.into());
        self
    }

    /// Lets the code of this handler run. Give the application stand-ins for the world it would touch.
    #[must_use]
    pub fn run(mut self, handler: &str) -> Self {
        if let Runs::Named(names) = &mut self.runs {
            names.insert(handler.to_owned());
        }
        self
    }

    /// Lets the code of every handler run: today's code on a recorded flow. Give the application stand-ins for the world.
    #[must_use]
    pub fn run_all(mut self) -> Self {
        self.runs = Runs::All;
        self
    }

    /// Plays the flow with this application in an empty store, and compares what came out. The original store is only read.
    ///
    /// Errors: `E0414` for a changed position that is not in the flow or a handler that is not mounted, `E0105` for a body
    /// that is no JSON, `E0701` for a scratch store that is not empty. Cancellation leaves the scratch store as it is.
    pub async fn play(self, app: App, scratch: impl Store + 'static) -> Result<ForkReport, Error> {
        let scratch: Arc<dyn Store> = Arc::new(scratch);
        self.check(&app, &*scratch).await?;
        let record = Arc::new(FlowRecord::new(
            &self.events,
            self.until,
            &self.changes,
            self.runs.clone(),
            app.catalogue(),
        ));
        let context = self.copy_context(&*scratch).await?;
        let running =
            app.store(Arc::clone(&scratch)).replaying(Arc::clone(&record), context.copied).start().await?;
        let fed = self.feed(&running, &record).await;
        running.stop(STOP_WITHIN).await?;
        fed?;
        let forked = scratch.collect(Read::flow(self.flow().clone())).await?;
        // As of when the original last moved, so that neither is late for the time that has passed since.
        let now = self.events.last().map(|last| last.recorded_at).unwrap_or_default();
        let before = status(&self.original, self.flow(), now).await?;
        let statuses = (before, status(&scratch, self.flow(), now).await?);
        Ok(compare::compare(self.key, &self.events, &forked, record.suppressed(), statuses, context.foreign))
    }

    fn flow(&self) -> &EventId {
        self.events.first().expect("a flow has an event").envelope.flow()
    }

    async fn check(&self, app: &App, scratch: &dyn Store) -> Result<(), Error> {
        if scratch.head().await? > Position::ZERO {
            return Err(Error::new(Code::USAGE, "the scratch store of a fork is not empty")
                .with_fix("play the fork in a new folder or a new store in memory"));
        }
        for (position, body) in &self.changes {
            if !self.events.iter().any(|event| event.position == *position) {
                return Err(Error::new(
                    Code::NOT_FOUND,
                    format!("the flow of {} has no event at {position}", self.key),
                )
                .with_fix("`ensue flow show` lists the positions"));
            }
            serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(|cause| {
                Error::new(
                    Code::INVALID_BODY,
                    format!("the new body of the event at {position} is not JSON: {cause}"),
                )
            })?;
        }
        let Runs::Named(names) = &self.runs else { return Ok(()) };
        match names.iter().find(|name| app.catalogue().handler(name).is_none()) {
            Some(unknown) => {
                let known = app.catalogue().handlers.iter().map(|handler| handler.name.as_str());
                let known: Vec<&str> = known.collect();
                Err(Error::new(Code::NOT_FOUND, format!("no handler is named {unknown}"))
                    .with_fix(format!("use one of {}, or `all`", known.join(", "))))
            }
            None => Ok(()),
        }
    }

    /// Copies what stood in the streams of the flow before it began, so that decisions are made on the same state.
    async fn copy_context(&self, scratch: &dyn Store) -> Result<Context, Error> {
        let began = self.events.first().map(|first| first.position).unwrap_or_default();
        let ended = self.events.last().map(|last| last.position).unwrap_or_default();
        let streams: BTreeSet<&StreamName> = self.events.iter().map(|event| &event.stream).collect();
        let mut context = Context::default();
        for stream in streams {
            let before = Read::stream(stream.clone()).until(began.previous());
            for recorded in self.original.collect(before).await? {
                append(scratch, stream.clone(), recorded.envelope).await?;
            }
            let meanwhile = Read::stream(stream.clone()).after(began.previous()).until(ended);
            let all = self.original.collect(meanwhile).await?;
            context.foreign += all.iter().filter(|event| event.envelope.flow() != self.flow()).count();
        }
        context.copied = scratch.head().await?;
        Ok(context)
    }

    /// Feeds what came from outside, each when everything before is done.
    async fn feed(&self, running: &Running, record: &FlowRecord) -> Result<(), Error> {
        for input in record.inputs() {
            append(&**running.store(), input.stream.clone(), input.envelope.clone()).await?;
            at_rest(running).await?;
        }
        Ok(())
    }
}

/// What was copied into the scratch store before the flow began.
#[derive(Default)]
struct Context {
    /// Everything up to here is history that nobody reacts to.
    copied: Position,
    /// Events of other flows in the same streams while the flow ran; not replayed.
    foreign: usize,
}

async fn append(store: &dyn Store, stream: StreamName, envelope: ensue_core::Envelope) -> Result<(), Error> {
    let append = Append { stream, expected: Expected::Any, events: vec![envelope] };
    store.commit(Commit { appends: vec![append], ..Commit::default() }).await?;
    Ok(())
}

/// Resolves when every handler has settled everything, and nothing came of it.
async fn at_rest(running: &Running) -> Result<(), Error> {
    loop {
        let head = running.store().head().await?;
        running.settled(head).await;
        if running.store().head().await? == head {
            return Ok(());
        }
    }
}

/// How the flow stands; `None` if nothing of it is there.
async fn status(
    store: &Arc<dyn Store>,
    flow: &EventId,
    now: Timestamp,
) -> Result<Option<FlowSummary>, Error> {
    match Flows::open(Arc::clone(store), now).await?.show(flow.as_str()).await {
        Ok(view) => Ok(Some(view.summary)),
        Err(error) if error.code() == Code::NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}
