//! Stopping the lanes of a read model for a moment, and letting them go on.

use std::sync::Arc;

use ensue_core::{Code, Error};
use tokio::sync::{mpsc, oneshot};

use crate::subscription::Subscription;

/// Lanes are stopped as long as this exists.
pub(super) struct Held(#[expect(dead_code, reason = "dropping it is the message")] oneshot::Sender<()>);

/// A way to ask for the lanes to stop.
pub(super) type Requests = mpsc::Receiver<oneshot::Sender<Held>>;

/// Asks for the lanes of one read model to stop.
#[derive(Clone)]
pub(crate) struct Holder(mpsc::Sender<oneshot::Sender<Held>>);

impl Holder {
    pub(super) fn new() -> (Self, Requests) {
        let (ask, requests) = mpsc::channel(1);
        (Self(ask), requests)
    }

    /// Resolves when the lanes have stopped.
    pub(super) async fn stop(&self) -> Result<Held, Error> {
        let closed = || Error::new(Code::CLOSED, "the application has stopped");
        let (answer, held) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| closed())?;
        held.await.map_err(|_| closed())
    }
}

/// Runs the subscription, but for the times when it is held. Stopped lanes lose nothing: what they had in hand is delivered
/// again from the checkpoints, and a commit that was under way has taken hold or is refused.
pub(super) async fn run(subscription: Arc<Subscription>, mut requests: Requests) {
    loop {
        let request = tokio::select! {
            biased;
            request = requests.recv() => request,
            () = Arc::clone(&subscription).run() => {
                // It has stopped for good, or the application closes; a rebuild can still set it going again.
                tokio::select! {
                    biased;
                    () = subscription.shared.closed() => return,
                    request = requests.recv() => request,
                }
            }
        };
        let Some(answer) = request else { return };
        // At once, so that nobody who waits behind the hold is told why the lanes had stopped before it.
        subscription.standing.revive();
        let (release, released) = oneshot::channel();
        if answer.send(Held(release)).is_ok() {
            // Either way of ending is the end of the hold.
            let _released = released.await.is_err();
        }
    }
}
