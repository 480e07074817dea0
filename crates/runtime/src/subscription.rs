//! A subscription reads the log and spreads events over lanes by key.
//!
//! Within a lane events are handled strictly in order; lanes are independent. A lane settles its deliveries, with
//! everything they cause, in one commit that also moves the lane's checkpoint: there is no second place to get out of
//! step with. What does not match still advances the subscription.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ensue_core::{BoxFuture, Error, EventType, Failure, Position, Query, Read, Recorded, Store, Topic};
use futures_util::TryStreamExt;
use smol_str::SmolStr;
use tokio::sync::{mpsc, watch};

use crate::aggregate::SnapshotLog;
use crate::door::Door;
use crate::effects::Effects;
use crate::fork::FlowRecord;
use crate::lane::{Fair, STORE_PAUSE, Work, passes};
use crate::link::Gauges;
use crate::message::Press;
use crate::policy::{Settings, StartFrom};
use crate::pressure::Pressure;
use crate::progress::{Board, Standing};
use crate::projection::Inline;
use crate::saga::Sagas;
use crate::sharing::{Sharing, View};
use crate::tally::Tally;
use crate::timer::Timers;

mod checkpoint;
mod elsewhere;
mod lanes;

pub(crate) use checkpoint::{Checkpoints, Mark, lane_key, mark_of, move_lane};
use lanes::{Adjusted, Lanes, in_hand_max};

/// Deliveries read from the store before they are handed to the lanes.
const PAGE: usize = 512;

/// What is shared by everything that runs in one application.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) press: Press,
    /// The code version of the application, if it names one.
    pub(crate) version: Option<SmolStr>,
    /// The event types it knows by their Rust types.
    pub(crate) registry: crate::door::Registry,
    /// How long ids are remembered at the door.
    pub(crate) window: Duration,
    /// The ids of commands that are being worked on.
    pub(crate) turns: crate::door::Turns,
    pub(crate) board: Board,
    /// Wakes the timers when one was set.
    pub(crate) timers: Arc<tokio::sync::Notify>,
    /// The timers wait for the store to come back.
    pub(crate) timers_wait: AtomicBool,
    /// What becomes of snapshots.
    pub(crate) snapshots: SnapshotLog,
    /// The inline read models.
    pub(crate) inline: Arc<Inline>,
    /// The sagas that run here.
    pub(crate) sagas: Sagas,
    /// Turns true when the application shuts down.
    pub(crate) closing: watch::Sender<bool>,
    /// Who else is there, and what follows for us.
    pub(crate) view: Arc<watch::Sender<View>>,
    pub(crate) sharing: Sharing,
    /// What handlers ask for before they are called.
    pub(crate) pressure: Pressure,
    /// How the links stand.
    pub(crate) links: Gauges,
    /// In a fork: what handlers and local steps answer from.
    pub(crate) replay: Option<Arc<FlowRecord>>,
}

impl Shared {
    /// The timers of the store.
    pub(crate) fn timers(&self) -> Timers {
        Timers::new(Arc::clone(&self.store), self.press.clone(), Arc::clone(&self.timers))
    }

    /// Whether other processes may work on the same subscriptions.
    pub(crate) fn is_shared(&self) -> bool {
        !self.view.borrow().is_alone
    }

    /// The door of this application.
    pub(crate) fn door(&self) -> Door {
        Door::new(Arc::clone(&self.store), self.press.host.clone())
            .window(self.window)
            .beside(Arc::clone(&self.inline))
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

    /// The topic whose events it is handed, and no others; with it, no types mean all.
    fn topic(&self) -> Option<&Topic> {
        None
    }

    /// What orders deliveries: those of one key go through one lane.
    fn key<'a>(&self, recorded: &'a Recorded) -> &'a str {
        recorded.stream.key.as_str()
    }

    /// Whether two deliveries of one key must not share a batch, because the second reads what the first stores.
    fn reads_own_writes(&self) -> bool {
        false
    }

    /// What these events add to the tally of their lane. `None`: it keeps none.
    fn tally(&self, _events: &[Recorded]) -> Option<Tally> {
        None
    }

    /// Reads what it needs from the store before the first delivery.
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Takes in what other processes have changed of what it reads. Called where processes share the store, when the end of
    /// the log is known and before the log is read up to there.
    fn refresh(&self) -> BoxFuture<'_, Result<(), Error>> {
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
    /// There is no room for the next one: nothing of it was tried, and it should be asked for again in so long.
    pub(crate) wait: Option<Duration>,
}

/// A named place in the log and what is done from there on.
pub(crate) struct Subscription {
    pub(crate) name: SmolStr,
    pub(crate) settings: Settings,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) standing: Arc<Standing>,
    /// Requests of operators, by key.
    pub(crate) requests: tokio::sync::Mutex<mpsc::Receiver<Request>>,
}

/// What an operator asks of a running subscription.
pub(crate) enum Request {
    /// Work off the dead letters of this key.
    Redrive(SmolStr),
}

/// How full the queues of a subscription are, in this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InHand {
    /// Whose.
    pub subscription: SmolStr,
    /// Deliveries that were read from the store and are not settled, over all lanes.
    pub deliveries: usize,
    /// There are never more. Where it is reached, reading waits.
    pub deliveries_max: usize,
}

impl Subscription {
    pub(crate) fn in_hand(&self) -> InHand {
        let (lanes, deliveries) = self.standing.in_hand();
        let deliveries_max = lanes.saturating_mul(in_hand_max(self.settings.batch));
        InHand { subscription: self.name.clone(), deliveries, deliveries_max }
    }

    /// Runs until the application closes or the store fails for good.
    pub(crate) async fn run(self: Arc<Self>) {
        while let Err(error) = self.follow().await {
            if *self.shared.closing.borrow() {
                return;
            }
            if !passes(&error) {
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
        loop {
            let checkpoints = self.checkpoints().await?;
            let at = match self.phase(checkpoints.lane_count()).await? {
                End::Closing => return Ok(()),
                End::Outdated => continue,
                End::Met(at) => at,
            };
            // A lane that stopped on the way has not come to the meeting point; what it left would be lost.
            if *self.shared.closing.borrow() || self.standing.is_halted() {
                return Ok(());
            }
            // Nor has one that was lost on the way; then they meet again.
            if self.standing.floor() < at {
                continue;
            }
            let checkpoints = self.checkpoints().await?;
            let me = self.shared.view.borrow().me;
            if !self.shared.is_shared() || checkpoints.are_all_of(me) {
                checkpoints.restart(&*self.shared.store, self.settings.lanes, at).await?;
            }
        }
    }

    /// Where it stands. The first time, where it begins.
    async fn checkpoints(&self) -> Result<Checkpoints, Error> {
        let store = &*self.shared.store;
        let checkpoints = Checkpoints::load(store, &self.name).await?;
        if checkpoints.has_run() {
            return Ok(checkpoints);
        }
        let start = match self.settings.start {
            StartFrom::Beginning => Position::ZERO,
            StartFrom::Now => ensue_core::StoreExt::head(store).await?,
            StartFrom::After(position) => position,
        };
        checkpoints.restart(store, self.settings.lanes, start).await
    }

    /// Reads and hands out with a fixed number of lanes. Before there is another number, the lanes come to one position: a
    /// key that moves to another lane must not be overtaken.
    async fn phase(self: &Arc<Self>, count: u16) -> Result<End, Error> {
        let mut lanes = Lanes::new(Arc::clone(self), count);
        let end = self.hand_out_all(&mut lanes).await;
        if end.is_ok() {
            // It is the lanes that work now; when all they do is wait for time to pass, so does the reader.
            self.standing.reader_waits(true);
            lanes.close().await;
            self.standing.reader_waits(false);
        } else {
            lanes.abort().await;
            self.standing.begin(0);
        }
        end
    }

    async fn hand_out_all(&self, lanes: &mut Lanes) -> Result<End, Error> {
        let mut requests = self.requests.lock().await;
        let mut view = self.shared.view.subscribe();
        let mut asked = None;
        loop {
            let seen = view.borrow_and_update().clone();
            if lanes.adjust(&seen).await? == Adjusted::Outdated {
                return Ok(End::Outdated);
            }
            self.standing.begun();
            let request = seen.requests.get(&self.name).copied();
            if asked != request {
                asked = request;
                lanes.ask_all().await?;
            }
            if let Some(end) = self.hand_out_until_changed(lanes, &mut view, &mut requests).await? {
                return Ok(end);
            }
        }
    }

    /// Hands out until something has changed about the lanes, or it is the end.
    async fn hand_out_until_changed(
        &self,
        lanes: &mut Lanes,
        view: &mut watch::Receiver<View>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<Option<End>, Error> {
        loop {
            if let Some(at) = lanes.have_met() {
                return Ok(Some(End::Met(at)));
            }
            let (cursor, has_any) = (lanes.cursor(), lanes.has_any());
            let (look_again, move_on) = (lanes.look_again_in(), lanes.move_on_in());
            let head = tokio::select! {
                biased;
                () = self.shared.closed() => return Ok(Some(End::Closing)),
                Ok(()) = view.changed() => return Ok(None),
                () = self.sleep(look_again) => return Ok(None),
                () = lanes.ended() => return Ok(None),
                () = self.standing.is_told() => {
                    let told = self.standing.told();
                    lanes.ask_all().await?;
                    self.standing.looked(told);
                    continue;
                }
                Some(Request::Redrive(key)) = requests.recv() => {
                    lanes.ask_for(key).await?;
                    self.standing.asked(-1);
                    continue;
                }
                head = self.shared.store.advanced(cursor), if has_any => lanes.bound(head?),
                () = self.sleep(move_on) => {
                    lanes.move_on(1);
                    continue;
                }
            };
            match self.hand_out(lanes, view, head).await? {
                Handed::All => lanes.advance(head),
                Handed::Interrupted => return Ok(None),
                Handed::Closing => return Ok(Some(End::Closing)),
            }
        }
    }

    /// Sleeps; for ever where there is nothing to wait for.
    async fn sleep(&self, duration: Option<Duration>) {
        match duration {
            Some(duration) => self.shared.press.host.clock.sleep(duration).await,
            None => std::future::pending().await,
        }
    }

    /// A place in the queue of a lane; waits while it is full. `None`: the lane has ended.
    async fn place_in<'a>(&self, queue: &'a mpsc::Sender<Work>) -> Option<mpsc::Permit<'a, Work>> {
        self.standing.reader_waits(true);
        let place = queue.reserve().await;
        self.standing.reader_waits(false);
        place.ok()
    }

    /// Hands an event to a lane that takes turns; waits while too many values wait there.
    async fn take_in(&self, fair: &Fair, recorded: Recorded, lane: usize, queue: &mpsc::Sender<Work>) {
        while fair.is_full_for(&recorded) {
            // It may not know yet that there is anything to do.
            let _told = queue.try_send(Work::Turns).is_ok();
            self.standing.reader_waits(true);
            tokio::select! {
                biased;
                () = fair.room() => self.standing.reader_waits(false),
                () = queue.closed() => {
                    self.standing.reader_waits(false);
                    // A lane that has stopped takes nothing more; its checkpoint stays where it is.
                    return self.standing.sent(lane, recorded.position, recorded.position, 1);
                }
            }
        }
        fair.take_in(recorded, lane, &self.standing);
    }

    /// Hands everything up to `head` that matches to the lanes.
    async fn hand_out(
        &self,
        lanes: &mut Lanes,
        view: &mut watch::Receiver<View>,
        head: Position,
    ) -> Result<Handed, Error> {
        if self.shared.is_shared() {
            self.handler.refresh().await?;
        }
        let (types, topic) = (self.handler.types(), self.handler.topic());
        let query = match (types.is_empty(), topic) {
            (true, None) => return Ok(Handed::All),
            (true, Some(_)) => Query::all(),
            (false, _) => Query::types(types),
        };
        let read = Read::query(query).after(lanes.cursor()).until(head);
        let mut events = self.shared.store.read(read).try_ready_chunks(PAGE);
        loop {
            let mut page = match events.try_next().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(Handed::All),
                Err(error) => return Err(error.1),
            };
            page.retain(|recorded| topic.is_none_or(|topic| recorded.stream.topic == *topic));
            tokio::select! {
                biased;
                () = self.shared.closed() => return Ok(Handed::Closing),
                Ok(()) = view.changed() => {
                    self.standing.reader_waits(false);
                    return Ok(Handed::Interrupted);
                }
                () = lanes.deliver(page) => {}
            }
        }
    }
}

/// Why reading with a fixed number of lanes has ended.
enum End {
    /// The application closes.
    Closing,
    /// Another process has made another number of lanes.
    Outdated,
    /// All lanes are here and have been handed everything up to this position: there can be another number of them.
    Met(Position),
}

/// How far handing out has come.
enum Handed {
    All,
    /// The lanes may be others now.
    Interrupted,
    Closing,
}
