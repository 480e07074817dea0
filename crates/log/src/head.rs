//! The readable head, and those who wait for it to move.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ensue_core::{Error, Position};

/// Shared by the writer, who moves it, and everyone who waits.
#[derive(Default)]
pub(crate) struct Head {
    position: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next_id: u64,
    wakers: BTreeMap<u64, (u64, Waker)>,
    end: Option<Error>,
}

impl Head {
    pub(crate) fn new(position: u64) -> Self {
        Self { position: AtomicU64::new(position), waiting: Mutex::default() }
    }

    pub(crate) fn get(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Moves the head. The writer does so while it holds the window: whoever sees a commit there can read its events.
    pub(crate) fn advance(&self, position: u64) {
        self.position.store(position, Ordering::Release);
    }

    /// Wakes everyone whom the head has passed.
    pub(crate) fn wake(&self) {
        let mut waiting = self.lock();
        let position = self.get();
        if waiting.wakers.is_empty() {
            return;
        }
        let passed = waiting.wakers.extract_if(.., |_, (after, _)| *after < position);
        let wakers: Vec<Waker> = passed.map(|(_, (_, waker))| waker).collect();
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Nothing more will come: everyone gets this error.
    pub(crate) fn end(&self, error: Error) {
        let mut waiting = self.lock();
        waiting.end.get_or_insert(error);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        wakers.into_values().for_each(|(_, waker)| waker.wake());
    }

    pub(crate) fn wait(self: &Arc<Self>, after: Position) -> Advanced {
        Advanced { head: Arc::clone(self), after: after.0, id: None }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves once the head is past a position. Dropping it ends the wait.
pub(crate) struct Advanced {
    head: Arc<Head>,
    after: u64,
    id: Option<u64>,
}

impl Future for Advanced {
    type Output = Result<Position, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let head = Arc::clone(&self.head);
        let mut waiting = head.lock();
        // Read under the lock: the writer moves the head before it looks for whom to wake.
        let position = head.get();
        if position > self.after {
            return Poll::Ready(Ok(Position(position)));
        }
        if let Some(error) = &waiting.end {
            return Poll::Ready(Err(error.clone()));
        }
        let id = *self.id.get_or_insert_with(|| {
            waiting.next_id += 1;
            waiting.next_id
        });
        waiting.wakers.insert(id, (self.after, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Advanced {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.head.lock().wakers.remove(&id);
        }
    }
}
