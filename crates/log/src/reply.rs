//! A slot for one answer from the writer's thread to one waiting future.
//!
//! Invariant: a sender that is dropped without an answer wakes its receiver with `None`, so nobody waits for ever.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

enum Slot<T> {
    Open(Option<Waker>),
    Sent(T),
    Gone,
}

/// The end that answers.
pub(crate) struct Sender<T>(Option<Arc<Mutex<Slot<T>>>>);

/// The end that waits. Dropping it throws the answer away.
pub(crate) struct Receiver<T>(Arc<Mutex<Slot<T>>>);

pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Mutex::new(Slot::Open(None)));
    (Sender(Some(Arc::clone(&slot))), Receiver(slot))
}

impl<T> Sender<T> {
    pub(crate) fn send(mut self, answer: T) {
        if let Some(slot) = self.0.take() {
            settle(&slot, Slot::Sent(answer));
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            settle(&slot, Slot::Gone);
        }
    }
}

fn settle<T>(slot: &Mutex<Slot<T>>, with: Slot<T>) {
    let before = std::mem::replace(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner), with);
    if let Slot::Open(Some(waker)) = before {
        waker.wake();
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Gone) {
            Slot::Sent(answer) => Poll::Ready(Some(answer)),
            Slot::Gone => Poll::Ready(None),
            Slot::Open(_) => {
                *slot = Slot::Open(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_sender_ends_the_wait() {
        let (sender, receiver) = channel::<u8>();
        drop(sender);
        assert_eq!(futures_lite::future::block_on(receiver), None);
        let (sender, receiver) = channel();
        sender.send(7);
        assert_eq!(futures_lite::future::block_on(receiver), Some(7));
    }
}
