//! Group commit: what arrives while a transaction is under way is decided together in the next one.
//!
//! A commit that has to wait for a stream or record that others hold, or whose batch failed, is tried alone, so it delays
//! nobody else. Invariant: a commit is answered exactly once, and only with what is true of it.

use std::sync::Arc;

use ensue_core::{Code, Commit, CommitError, Error, Kind};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, timeout_at};

use crate::batch::{self, Failure, Waits};
use crate::decide::Outcome;
use crate::head::Head;
use crate::pool::Pool;

/// Commits that may wait for the batch under way.
const QUEUE_MAX: usize = 1_024;
/// Commits of one batch.
const BATCH_COMMITS_MAX: usize = 256;
/// What a batch holds, about.
const BATCH_BYTES: usize = 8 << 20;
/// How long to wait before a commit that could not be taken is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

struct Request {
    commit: Commit,
    reply: oneshot::Sender<Outcome>,
}

/// The way into the task that writes. The task ends when this is dropped and what was queued is done.
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
}

impl Writer {
    pub(crate) fn start(pool: Arc<Pool>, head: Arc<Head>) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(Task { pool, head }.run(requests));
        Self { queue }
    }

    pub(crate) async fn commit(&self, commit: Commit) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        self.queue.send(Request { commit, reply }).await.map_err(|_| {
            let message = "the runtime that the store was opened on has ended";
            CommitError::Other(Error::new(Code::CLOSED, message))
        })?;
        outcome.await.map_err(|_| {
            let message = "the runtime that the store was opened on has ended during the commit";
            CommitError::Other(Error::new(Code::OUTCOME_UNKNOWN, message))
        })?
    }
}

#[derive(Clone)]
struct Task {
    pool: Arc<Pool>,
    head: Arc<Head>,
}

impl Task {
    async fn run(self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.recv().await {
            self.write(gather(first, &mut requests)).await;
        }
    }

    async fn write(&self, batch: Vec<Request>) {
        let commits: Vec<&Commit> = batch.iter().map(|request| &request.commit).collect();
        match batch::write(&self.pool, &self.head, &commits, Waits::Never).await {
            Ok((outcomes, head)) => {
                for (request, outcome) in batch.into_iter().zip(outcomes) {
                    match outcome {
                        Some(outcome) => answer(request.reply, outcome),
                        None => self.try_alone(request),
                    }
                }
                self.head.tell(head);
            }
            Err(Failure::Behind(_) | Failure::Nothing(_)) => {
                batch.into_iter().for_each(|request| self.try_alone(request));
            }
            Err(Failure::Unknown(error)) => {
                batch.into_iter().for_each(|request| answer(request.reply, Err(error.clone().into())));
            }
        }
    }

    fn try_alone(&self, request: Request) {
        let task = self.clone();
        tokio::spawn(async move {
            let outcome = task.alone(&request.commit).await;
            answer(request.reply, outcome.map_err(CommitError::from).and_then(|outcome| outcome));
        });
    }

    /// Tries again until it is decided, or patience ends.
    async fn alone(&self, commit: &Commit) -> Result<Outcome, Error> {
        let _place = self.pool.long_place().await?;
        let until = Instant::now() + self.pool.config().patience;
        let mut pace = interval(RETRY_INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let error = match batch::write(&self.pool, &self.head, &[commit], Waits::ForOthers).await {
                Ok((outcomes, head)) => match outcomes.into_iter().next().flatten() {
                    Some(outcome) => {
                        self.head.tell(head);
                        return Ok(outcome);
                    }
                    None => batch::held_elsewhere(),
                },
                Err(Failure::Behind(error)) => {
                    // Steps that were done stay, also where patience ends before the last one.
                    if let Ok(worked_off) = timeout_at(until, self.head.look_up(&self.pool)).await {
                        worked_off?;
                    }
                    error
                }
                Err(Failure::Nothing(error)) => error,
                Err(Failure::Unknown(error)) => return Err(error),
            };
            let may_pass = matches!(error.kind(), Kind::Unavailable | Kind::Timeout);
            if !may_pass || Instant::now() >= until {
                return Err(error);
            }
        }
    }
}

/// The first request and what has queued up behind it, as far as it fits.
fn gather(first: Request, requests: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = size(&first.commit);
    let mut batch = vec![first];
    while batch.len() < BATCH_COMMITS_MAX && bytes < BATCH_BYTES {
        let Ok(next) = requests.try_recv() else { break };
        bytes += size(&next.commit);
        batch.push(next);
    }
    batch
}

fn size(commit: &Commit) -> usize {
    commit.appends.iter().flat_map(|append| &append.events).map(ensue_core::Envelope::size).sum()
}

/// Whoever has gone away in the meantime does not want to know.
fn answer(reply: oneshot::Sender<Outcome>, outcome: Outcome) {
    let _gone = reply.send(outcome).is_err();
}
