//! One at a time under one id: of commands that come at the same moment with the same id, the second waits for the first
//! and then finds its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

use crate::progress::lock;

/// The ids that are being worked on in this process.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<Bytes, Arc<Queue<()>>>>);

/// The right to work under an id; ends when it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    id: Bytes,
    place: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until nobody else works under this id. Dropping the future gives up the place in the queue.
    pub(crate) async fn take(&self, id: Bytes) -> Turn<'_> {
        let queue = Arc::clone(lock(&self.0).entry(id.clone()).or_default());
        // Made before the wait, so that a wait that is given up tidies up as well.
        let mut turn = Turn { turns: self, id, place: None };
        turn.place = Some(queue.lock_owned().await);
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.place = None;
        let mut ids = lock(&self.turns.0);
        if ids.get(&self.id).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            ids.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn an_id_is_forgotten_when_nobody_works_under_it_or_waits_for_it() {
        let turns = Turns::default();
        let id = Bytes::from_static(b"cmd-1");
        let first = turns.take(id.clone()).now_or_never().expect("nobody is before it");
        let mut second = Box::pin(turns.take(id.clone()));
        assert!(second.as_mut().now_or_never().is_none(), "it waits");
        drop(first);
        drop(second);
        assert_eq!(lock(&turns.0).len(), 0, "a wait that was given up leaves nothing");
        assert!(turns.take(id).now_or_never().is_some());
        assert_eq!(lock(&turns.0).len(), 0);
    }
}
