//! The task that works for a member: takes messages in, extends their leases, and hands back what is due.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::Error;
use ensue_core::name::Channel;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tonic::Streaming;

use crate::client::Link;
use crate::error::{self, Failure};
use crate::hand::Hand;
use crate::wire::{Pulled, Received, STREAMING_PULL, StreamingPull};

/// How far apart two streams are opened at least.
const OPENED_EVERY: Duration = Duration::from_millis(250);
/// How often a lease is extended before it ends: two tries may fail.
const EXTENSIONS: u32 = 3;
/// How long a stream may take to end once it is asked to.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// The longest lease that the service gives.
const LEASE_MAX: Duration = Duration::from_mins(10);

/// See the module.
pub(crate) struct Puller {
    pub(crate) link: Arc<Link>,
    pub(crate) from: Channel,
    pub(crate) subscription: String,
    pub(crate) hand: Arc<Hand>,
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The service ends each of them after a while, and so does a connection that breaks.
    ByService,
    /// The member is gone.
    ByMember,
}

impl Puller {
    /// Until the member is dropped.
    pub(crate) async fn run(self, left: oneshot::Receiver<()>) {
        tokio::select! {
            () = self.watch() => {}
            () = self.pull(left) => {}
        }
        let left = self.hand.lock().leave();
        // Where this fails, their leases end by themselves.
        self.lease(left.now, Duration::ZERO).await;
        for (time, received) in left.later {
            self.lease(vec![received], time.min(LEASE_MAX)).await;
        }
    }

    async fn lease(&self, received: Vec<Received>, time: Duration) {
        if !received.is_empty() {
            drop(self.link.lease(&self.subscription, received, time).await);
        }
    }

    async fn watch(&self) {
        let extend_every = self.link.config.lease / EXTENSIONS;
        let mut extend_at = Instant::now() + extend_every;
        loop {
            let due = self.hand.lock().next_due().map_or(extend_at, |due| due.min(extend_at));
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.hand.change.notified() => continue,
            }
            let now = Instant::now();
            let back = self.hand.due(now);
            self.lease(back, Duration::ZERO).await;
            if now >= extend_at {
                extend_at = now + extend_every;
                let all = self.hand.lock().ack_ids();
                let lease = self.link.config.lease;
                if self.link.lease_ids(&self.subscription, &all, lease).await.is_ok() {
                    self.hand.lock().extended(&all, now);
                }
            }
        }
    }

    async fn pull(&self, mut left: oneshot::Receiver<()>) {
        let mut pace = interval(OPENED_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut left => return,
                _ = pace.tick() => {}
            }
            match self.stream(&mut left).await {
                Ok(End::ByMember) => return,
                Ok(End::ByService) => {}
                Err(error) => self.hand.fail(error),
            }
        }
    }

    /// Opens a stream and takes from it until it ends. Fails where nothing came of it.
    async fn stream(&self, left: &mut oneshot::Receiver<()>) -> Result<End, Error> {
        let trying = || format!("cannot consume `{}`", self.from);
        let (stay, ended) = oneshot::channel();
        let mut opening = pin!(self.open(ended));
        let mut stream = tokio::select! {
            opened = &mut opening => opened.map_err(|failure| error::failed(&trying(), failure))?,
            _ = &mut *left => {
                self.leave(stay, opening).await;
                return Ok(End::ByMember);
            }
        };
        let mut has_come = false;
        loop {
            let came = tokio::select! {
                came = self.next(&mut stream) => came,
                _ = &mut *left => {
                    self.leave(stay, async { Ok(stream) }).await;
                    return Ok(End::ByMember);
                }
            };
            match came {
                Ok(Some(pulled)) => {
                    has_come = true;
                    self.hand.arrive(pulled);
                }
                Ok(None) => return Ok(End::ByService),
                Err(_) if has_come => return Ok(End::ByService),
                Err(status) => return Err(error::failed(&trying(), status.into())),
            }
        }
    }

    /// The service answers when there is a first message.
    fn open(
        &self,
        ended: oneshot::Receiver<()>,
    ) -> impl Future<Output = Result<Streaming<Pulled>, Failure>> + use<> {
        let config = &self.link.config;
        let asked = StreamingPull {
            subscription: self.subscription.clone(),
            stream_ack_deadline_seconds: config.lease_seconds(),
            max_outstanding_messages: i64::try_from(config.in_flight_max).unwrap_or(i64::MAX),
            ..StreamingPull::default()
        };
        Arc::clone(&self.link).pull(&STREAMING_PULL, self.subscription.clone(), asked, ended)
    }

    async fn next(&self, stream: &mut Streaming<Pulled>) -> Result<Option<Pulled>, tonic::Status> {
        self.hand.has_room().await;
        stream.message().await
    }

    /// Ends the stream and takes in what was on its way: what is lost on it comes again only when its lease is over.
    async fn leave(
        &self,
        stay: oneshot::Sender<()>,
        opening: impl Future<Output = Result<Streaming<Pulled>, Failure>>,
    ) {
        drop(stay);
        let ending = async {
            let Ok(mut stream) = opening.await else { return };
            while let Ok(Some(pulled)) = stream.message().await {
                self.hand.arrive(pulled);
            }
        };
        // One that does not end in time is reset.
        drop(timeout(LEAVE_WITHIN, ending).await);
    }
}
