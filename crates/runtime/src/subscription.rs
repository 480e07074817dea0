//! A subscription reads the log and spreads events over lanes by key.
//!
//! Within a lane events are handled strictly in order; lanes are independent. A lane settles its deliveries, with
//! everything they cause, in one commit that also moves the lane's checkpoint: there is no second place to get out of
//! step with. What does not match still advances the subscription.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ensue_core::{BoxFuture, Code, Error, EventType, Failure, Position, Query, Read, Recorded, Store};
use futures_util::TryStreamExt;
use smol_str::SmolStr;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::effects::Effects;
use crate::lane::{Lane, STORE_PAUSE, Work};
use crate::message::Press;
use crate::policy::{Settings, StartFrom};
use crate::progress::{Board, Standing};
use crate::spaces;
use crate::timer::Timers;

mod checkpoint;
pub(crate) use checkpoint::{Checkpoints, Mark, lane_key, mark_of, move_lane};

/// Deliveries read from the store before they are handed to the lanes.
const PAGE: usize = 512;
/// Pages that may wait in front of a lane; then reading waits, so memory stays bounded.
const QUEUED_PAGES: usize = 8;
/// The common checkpoint is written when it has moved this far; the lanes' own are exact.
const FLOOR_STRIDE: u64 = 4_096;

/// What is shared by everything that runs in one application.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) press: Press,
    /// The code version of the application, if it names one.
    pub(crate) version: Option<SmolStr>,
    pub(crate) board: Board,
    /// Wakes the timers when one was set.
    pub(crate) timers: Arc<tokio::sync::Notify>,
    /// The timers wait for the store to come back.
    pub(crate) timers_wait: AtomicBool,
    /// Turns true when the application shuts down.
    pub(crate) closing: watch::Sender<bool>,
}

impl Shared {
    /// The timers of the store.
    pub(crate) fn timers(&self) -> Timers {
        Timers::new(Arc::clone(&self.store), self.press.clone(), Arc::clone(&self.timers))
    }

    /// Resolves when the application shuts down.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        // An error means that the sender is gone, which is closed as well.
        let _closed = closing.wait_for(|closing| *closing).await.is_ok();
    }
}

/// What a lane does with its deliveries.
pub(crate) trait Handler: Send + Sync + 'static {
    /// The types it reads. May grow while it runs.
    fn types(&self) -> Vec<EventType>;

    /// What orders deliveries: those of one key go through one lane.
    fn key<'a>(&self, recorded: &'a Recorded) -> &'a str {
        recorded.stream.key.as_str()
    }

    /// Whether two deliveries of one key must not share a batch, because the second reads what the first stores.
    fn reads_own_writes(&self) -> bool {
        false
    }

    /// Reads what it needs from the store before the first delivery.
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Works through `batch` in order until one fails or it is time to settle. Effects are those of the first
    /// `count` deliveries.
    fn work<'a>(&'a self, batch: &'a [Recorded], attempt: u32) -> BoxFuture<'a, Handled>;
}

/// What [`Handler::work`] did.
#[derive(Default)]
pub(crate) struct Handled {
    pub(crate) effects: Effects,
    pub(crate) count: usize,
    pub(crate) failure: Option<Failure>,
}

/// A named place in the log and what is done from there on.
pub(crate) struct Subscription {
    pub(crate) name: SmolStr,
    pub(crate) settings: Settings,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) standing: Arc<Standing>,
}

impl Subscription {
    /// Runs until the application closes or the store fails for good.
    pub(crate) async fn run(self: Arc<Self>) {
        while let Err(error) = self.follow().await {
            if *self.shared.closing.borrow() {
                return;
            }
            if !error.is_retryable() {
                return self.standing.halt(error);
            }
            self.standing.reader_waits(true);
            tokio::select! {
                biased;
                () = self.shared.closed() => return,
                () = self.shared.press.host.clock.sleep(STORE_PAUSE) => {}
            }
            self.standing.reader_waits(false);
        }
        self.standing.end();
    }

    async fn follow(self: &Arc<Self>) -> Result<(), Error> {
        let store = &*self.shared.store;
        let mut checkpoints = Checkpoints::load(store, &self.name).await?;
        if !checkpoints.has_run() {
            let start = match self.settings.start {
                StartFrom::Beginning => Position::ZERO,
                StartFrom::Now => ensue_core::StoreExt::head(store).await?,
                StartFrom::After(position) => position,
            };
            checkpoints = checkpoints.restart(store, self.settings.lanes, start).await?;
        }
        if checkpoints.lane_count() != self.settings.lanes {
            // The old lanes first come to one position: a key that moves to another lane must not be overtaken.
            let meeting_point = checkpoints.furthest();
            self.phase(&mut checkpoints, Some(meeting_point)).await?;
            // A lane that stopped on the way has not come to the meeting point; what it left would be lost.
            if *self.shared.closing.borrow() || self.standing.is_halted() {
                return Ok(());
            }
            checkpoints = Checkpoints::load(store, &self.name).await?;
            checkpoints = checkpoints.restart(store, self.settings.lanes, meeting_point).await?;
        }
        self.phase(&mut checkpoints, None).await
    }

    /// Reads and hands out, with a fixed number of lanes, to the end of time or up to a position.
    async fn phase(self: &Arc<Self>, from: &mut Checkpoints, until: Option<Position>) -> Result<(), Error> {
        self.standing.begin(from.settled(), from.floor());
        let mut lanes = Lanes::open(self, from).await?;
        let followed = self.hand_out_all(&mut lanes, from, until).await;
        if followed.is_err() {
            // What they have in hand is delivered again from the checkpoints, which nobody may move meanwhile.
            lanes.tasks.shutdown().await;
            return followed;
        }
        lanes.close().await;
        from.write_floor(&*self.shared.store, self.standing.floor()).await
    }

    async fn hand_out_all(
        &self,
        lanes: &mut Lanes,
        from: &mut Checkpoints,
        until: Option<Position>,
    ) -> Result<(), Error> {
        let mut cursor = from.floor();
        while until.is_none_or(|until| cursor < until) {
            let head = tokio::select! {
                biased;
                () = self.shared.closed() => break,
                () = self.standing.is_asked() => {
                    lanes.take_requests(self).await?;
                    continue;
                }
                head = self.shared.store.advanced(cursor) => head?,
            };
            let head = until.map_or(head, |until| head.min(until));
            if !self.hand_out(lanes, cursor, head).await? {
                break;
            }
            cursor = head;
            self.standing.advance_cursor(cursor);
            let floor = self.standing.floor();
            if floor.0 >= from.floor().0 + FLOOR_STRIDE {
                from.write_floor(&*self.shared.store, floor).await?;
            }
        }
        Ok(())
    }

    /// Queues work for a lane; waits while its queue is full.
    async fn hand_over(
        &self,
        queue: &mpsc::Sender<Work>,
        work: Work,
    ) -> Result<(), mpsc::error::SendError<Work>> {
        self.standing.reader_waits(true);
        let sent = queue.send(work).await;
        self.standing.reader_waits(false);
        sent
    }

    /// Hands everything in `(cursor, head]` that matches to the lanes. False: the application is closing.
    async fn hand_out(&self, lanes: &mut Lanes, cursor: Position, head: Position) -> Result<bool, Error> {
        let types = self.handler.types();
        if types.is_empty() {
            return Ok(true);
        }
        let read = Read::query(Query::types(types)).after(cursor).until(head);
        let mut events = self.shared.store.read(read).try_ready_chunks(PAGE);
        loop {
            let page = match events.try_next().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(true),
                Err(error) => return Err(error.1),
            };
            tokio::select! {
                biased;
                () = self.shared.closed() => return Ok(false),
                () = lanes.deliver(self, page) => {}
            }
        }
    }
}

/// The lanes of a running subscription.
struct Lanes {
    queues: Vec<mpsc::Sender<Work>>,
    already: Vec<Position>,
    tasks: JoinSet<()>,
}

impl Lanes {
    async fn open(subscription: &Arc<Subscription>, from: &Checkpoints) -> Result<Self, Error> {
        let parked = crate::dead::parked_keys(&*subscription.shared.store, &subscription.name).await?;
        let mut lanes = Self { queues: Vec::new(), already: from.settled(), tasks: JoinSet::new() };
        for number in 0..from.lane_count() {
            let (queue, work) = mpsc::channel(QUEUED_PAGES);
            let mine = parked.iter().filter(|(key, _)| spaces::spread(key, from.lane_count()) == number);
            let lane = Lane::new(
                Arc::clone(subscription),
                number,
                from,
                mine.map(|(key, count)| (key.clone(), *count)).collect(),
            );
            lanes.tasks.spawn(lane.run(work));
            lanes.queues.push(queue);
        }
        lanes.take_requests(subscription).await?;
        Ok(lanes)
    }

    fn lane_of(&self, key: &str) -> usize {
        usize::from(spaces::spread(key, u16::try_from(self.queues.len()).unwrap_or(u16::MAX)))
    }

    /// Hands what the store holds of requests, by operators and by timers, to the lanes of their keys.
    async fn take_requests(&self, subscription: &Subscription) -> Result<(), Error> {
        let asked = subscription.standing.asked();
        for key in crate::dead::requested(&*subscription.shared.store, &subscription.name).await? {
            if let Some(queue) = self.queues.get(self.lane_of(&key)) {
                subscription.standing.requested(self.lane_of(&key));
                // A lane that has stopped takes nothing; the request stays in the store for the next start.
                let _stopped = subscription.hand_over(queue, Work::Redrive(key)).await.is_err();
            }
        }
        subscription.standing.looked(asked);
        Ok(())
    }

    async fn deliver(&self, subscription: &Subscription, page: Vec<Recorded>) {
        let mut shares: Vec<Vec<Recorded>> = self.queues.iter().map(|_| Vec::new()).collect();
        for recorded in page {
            let lane = self.lane_of(subscription.handler.key(&recorded));
            let done = self.already.get(lane).copied().unwrap_or_default();
            if recorded.position > done
                && let Some(share) = shares.get_mut(lane)
            {
                share.push(recorded);
            }
        }
        for (lane, (share, queue)) in shares.into_iter().zip(&self.queues).enumerate() {
            let (Some(first), Some(last)) = (share.first(), share.last()) else { continue };
            subscription.standing.sent(lane, first.position, last.position, share.len());
            // A lane that has stopped takes nothing more; its checkpoint stays where it is.
            let _stopped = subscription.hand_over(queue, Work::Events(share)).await.is_err();
        }
    }

    /// Waits for the lanes to finish what they were handed; when the application closes they stop after the batch in
    /// hand, and the rest is delivered again at the next start.
    async fn close(mut self) {
        self.queues.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The error of a subscription that was taken over by another process.
pub(crate) fn fenced(name: &str, lane: u16) -> Error {
    Error::new(Code::STALE_RECORD, format!("lane {lane} of {name} was taken over by another process"))
        .with_fix("nothing to do: the other process goes on from the checkpoint")
}
