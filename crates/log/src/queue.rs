//! The queue in front of the writer: bounded by bytes, so that memory is bounded and waiting is felt where it is caused.
//!
//! Invariant: a request that was taken in is answered, by the writer or by being dropped with its reply.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use ensue_core::{Append, Committed, Durability, Error, RecordWrite, Timestamp};

use crate::body::Blank;
use crate::errors;
use crate::reply::Sender;
use crate::sequencer::{Proposal, Refusal};

/// A commit on its way to the writer, encoded and with its hints.
pub(crate) struct Request {
    pub(crate) proposal: Proposal,
    pub(crate) body: Vec<u8>,
    pub(crate) blanks: Vec<Blank>,
    pub(crate) appends: Vec<Append>,
    pub(crate) records: Vec<RecordWrite>,
    pub(crate) condition: Option<ensue_core::AppendCondition>,
    pub(crate) durability: Durability,
    /// When another store recorded it, where it is imported.
    pub(crate) recorded_at: Option<Timestamp>,
}

/// What the writer says to a request. What was not taken comes back.
pub(crate) enum Answer {
    Taken(Committed),
    Refused(Refusal, Box<Request>),
    LookAgain(Box<Request>),
    Failed(Error),
}

pub(crate) type Queued = (Box<Request>, Sender<Answer>);

/// What the writer finds when it looks.
pub(crate) enum Taken {
    Requests(Vec<Queued>),
    /// Nothing has come for a while.
    Idle,
    Closed,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Queued>,
    bytes: usize,
    blocked: Vec<Waker>,
    is_writer_waiting: bool,
    closed: Option<Error>,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), bytes_max }
    }

    /// Waits for room, then queues.
    pub(crate) async fn push(&self, request: Box<Request>, reply: Sender<Answer>) -> Result<(), Error> {
        let mut queued = Some((request, reply));
        poll_fn(|context| {
            let mut state = self.lock();
            if let Some(error) = &state.closed {
                return Poll::Ready(Err(error.clone()));
            }
            let Some(entry) = queued.take() else { return Poll::Ready(Ok(())) };
            let bytes = entry.0.body.len();
            // One that is larger than the bound alone still passes, when it is alone.
            if state.bytes > 0 && state.bytes + bytes > self.bytes_max {
                queued = Some(entry);
                state.blocked.push(context.waker().clone());
                return Poll::Pending;
            }
            state.bytes += bytes;
            state.requests.push_back(entry);
            if std::mem::take(&mut state.is_writer_waiting) {
                drop(state);
                self.filled.notify_one();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// What has gathered, up to about so many bytes; at least one request. Waits if there is none.
    pub(crate) fn take(&self, bytes_max: usize, patience: Option<Duration>) -> Taken {
        let mut state = self.lock();
        while state.requests.is_empty() {
            if state.closed.is_some() {
                return Taken::Closed;
            }
            state.is_writer_waiting = true;
            match patience {
                None => state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let waited = self.filled.wait_timeout(state, patience);
                    let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    state = guard;
                    if timeout.timed_out() && state.requests.is_empty() && state.closed.is_none() {
                        return Taken::Idle;
                    }
                }
            }
        }
        state.is_writer_waiting = false;
        let taken = state.drain(bytes_max);
        let blocked = std::mem::take(&mut state.blocked);
        drop(state);
        blocked.into_iter().for_each(Waker::wake);
        Taken::Requests(taken)
    }

    /// Takes nothing more in; what is queued is still written.
    pub(crate) fn close(&self, error: Error) {
        let mut state = self.lock();
        state.closed.get_or_insert(error);
        let blocked = std::mem::take(&mut state.blocked);
        drop(state);
        self.filled.notify_all();
        blocked.into_iter().for_each(Waker::wake);
    }

    /// After a failed write: everything that waits gets this error, and so does everything that comes.
    pub(crate) fn poison(&self, error: &Error) {
        let mut state = self.lock();
        state.closed = Some(error.clone());
        let requests = std::mem::take(&mut state.requests);
        let blocked = std::mem::take(&mut state.blocked);
        state.bytes = 0;
        drop(state);
        for (_, reply) in requests {
            reply.send(Answer::Failed(error.clone()));
        }
        blocked.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drain(&mut self, bytes_max: usize) -> Vec<Queued> {
        let mut bytes = 0;
        let fitting = self.requests.iter().take_while(|(request, _)| {
            let is_first = bytes == 0;
            bytes += request.body.len();
            is_first || bytes <= bytes_max
        });
        let count = fitting.count();
        let taken: Vec<Queued> = self.requests.drain(..count).collect();
        self.bytes -= taken.iter().map(|(request, _)| request.body.len()).sum::<usize>();
        taken
    }
}

/// The error of a store whose writer is gone without a word.
pub(crate) fn gone() -> Error {
    errors::closed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use futures_util::stream::{FuturesUnordered, StreamExt};

    use super::*;

    fn request(bytes: usize) -> Box<Request> {
        let proposal = Proposal {
            appends: Vec::new(),
            records: Vec::new(),
            condition: None,
            as_of: 0,
            events: Arc::from([]),
        };
        Box::new(Request {
            proposal,
            recorded_at: None,
            body: vec![0; bytes],
            blanks: Vec::new(),
            appends: Vec::new(),
            records: Vec::new(),
            condition: None,
            durability: Durability::Durable,
        })
    }

    /// How many pushes are done by now.
    fn done(pushes: &mut FuturesUnordered<impl Future<Output = Result<(), Error>>>) -> usize {
        std::iter::from_fn(|| pushes.next().now_or_never().flatten()).flatten().count()
    }

    #[test]
    fn a_full_queue_makes_whoever_commits_wait_and_never_holds_more_than_its_bound() {
        let queue = Queue::new(1_000);
        let mut pushes: FuturesUnordered<_> =
            (0..500).map(|_| queue.push(request(100), crate::reply::channel().0)).collect();
        let mut passed = done(&mut pushes);
        assert_eq!((passed, queue.bytes()), (10, 1_000), "it is full");
        while passed < 500 {
            let Taken::Requests(taken) = queue.take(300, None) else { panic!("there is more") };
            assert_eq!(taken.len(), 3);
            passed += done(&mut pushes);
            assert!(queue.bytes() <= 1_000, "{}", queue.bytes());
        }
        assert_eq!(passed, 500);
    }

    #[test]
    fn one_that_is_larger_than_the_bound_passes_alone() {
        let queue = Queue::new(1_000);
        assert!(queue.push(request(5_000), crate::reply::channel().0).now_or_never().is_some());
        assert!(queue.push(request(1), crate::reply::channel().0).now_or_never().is_none());
    }

    #[test]
    fn whoever_waits_for_room_hears_that_it_closes() {
        let queue = Queue::new(10);
        assert!(queue.push(request(10), crate::reply::channel().0).now_or_never().is_some());
        let mut pushes: FuturesUnordered<_> =
            [queue.push(request(10), crate::reply::channel().0)].into_iter().collect();
        assert!(pushes.next().now_or_never().is_none());
        queue.close(gone());
        assert!(matches!(pushes.next().now_or_never(), Some(Some(Err(_)))));
    }
}
