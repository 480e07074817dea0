//! The writer: one thread that takes what has queued up into one transaction, so that one sync carries many commits.
//!
//! Invariants: a commit that was queued is answered; one that is refused or cannot be written takes nothing else with it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use ensue_core::{Change, Code, Commit, CommitError, Envelope, Error};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::config::WallClock;
use crate::decide::{Log, Outcome};
use crate::head::Head;
use crate::turn::{Held, Turn};

/// What may be queued at once, in bytes; whoever comes then waits.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What a commit takes in the queue besides its bodies, about.
const COMMIT_BYTES: usize = 512;
/// Commits of one transaction.
const BATCH_COMMITS_MAX: usize = 512;

/// The way to the thread. Dropping it lets the thread finish what is queued, and waits for that.
pub(crate) struct Writer {
    queue: Option<UnboundedSender<Request>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    commit: Commit,
    reply: oneshot::Sender<Outcome>,
    _room: OwnedSemaphorePermit,
}

/// What the thread works with.
pub(crate) struct Desk {
    pub(crate) turn: Arc<Turn>,
    pub(crate) head: Arc<Head>,
    pub(crate) clock: WallClock,
}

impl Writer {
    pub(crate) fn start(desk: Desk) -> Result<Self, Error> {
        let (queue, requests) = mpsc::unbounded_channel();
        let spawned =
            thread::Builder::new().name("ensue-sqlite".to_owned()).spawn(move || desk.run(requests));
        let thread = spawned.map_err(|cause| {
            Error::new(Code::IO, "cannot start the thread that writes").with_source(cause)
        })?;
        Ok(Self { queue: Some(queue), room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)), thread: Some(thread) })
    }

    /// Queues the commit, as soon as there is room, and waits for its outcome.
    pub(crate) async fn commit(&self, commit: Commit) -> Outcome {
        let bytes = u32::try_from(weight(&commit).min(QUEUE_BYTES_MAX)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| closed())?;
        let (reply, outcome) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(Request { commit, reply, _room: room }).map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic was printed already.
            drop(thread.join());
        }
    }
}

impl Desk {
    fn run(self, mut requests: UnboundedReceiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let begun = self.turn.begin();
            // What has queued up while the turn was awaited shares it.
            let mut batch = vec![first];
            while batch.len() < BATCH_COMMITS_MAX
                && let Ok(next) = requests.try_recv()
            {
                batch.push(next);
            }
            match begun {
                Err(error) => batch.into_iter().for_each(|request| request.answer(Err(error.clone().into()))),
                Ok(held) => self.take(held, batch),
            }
        }
    }

    fn take(&self, held: Held, batch: Vec<Request>) {
        match self.write(held, batch.iter().map(|request| &request.commit)) {
            Ok(outcomes) => {
                batch.into_iter().zip(outcomes).for_each(|(request, outcome)| request.answer(outcome));
            }
            Err(error) if batch.len() > 1 && error.code() != Code::POISONED => {
                // Nothing of the batch was stored. One of them cannot be written; which, they find out alone.
                batch.into_iter().for_each(|request| match self.turn.begin() {
                    Ok(held) => self.take(held, vec![request]),
                    Err(error) => request.answer(Err(error.into())),
                });
            }
            Err(error) => batch.into_iter().for_each(|request| request.answer(Err(error.clone().into()))),
        }
    }

    /// The outcome of each commit, once those that are taken are synced; or nothing of all was stored.
    fn write<'a>(
        &self,
        held: Held,
        commits: impl Iterator<Item = &'a Commit>,
    ) -> Result<Vec<Outcome>, Error> {
        let mut log = Log::open(&held, self.clock.now())?;
        let outcomes = commits.map(|commit| log.take(commit)).collect::<Result<_, _>>()?;
        let head = log.close()?;
        held.commit()?;
        self.head.tell(head);
        Ok(outcomes)
    }
}

impl Request {
    fn answer(self, outcome: Outcome) {
        // Whoever has gone does not want to know.
        drop(self.reply.send(outcome));
    }
}

fn weight(commit: &Commit) -> usize {
    let events = commit.appends.iter().flat_map(|append| &append.events).map(Envelope::size).sum::<usize>();
    let records = commit.records.iter().map(|write| match &write.change {
        Change::Put { value, .. } => value.len(),
        Change::Delete => 0,
    });
    COMMIT_BYTES + events + records.sum::<usize>()
}

fn closed() -> CommitError {
    Error::new(Code::CLOSED, "the store is closed").into()
}
