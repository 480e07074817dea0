//! A running application: what callers ask of it, and how it stops.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensue_core::{Code, Command, Draft, Error, Event, EventId, Position, Store, StoreExt};
use smol_str::SmolStr;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::aggregate::SnapshotCounts;
use crate::catalogue::Catalogue;
use crate::collection::Collection;
use crate::command::{Dispatch, Route, route_of};
use crate::context::{States, lookup};
use crate::dead::DeadLetters;
use crate::door::{Admitted, Door, check_rules};
use crate::flow::Flows;
use crate::pressure::BreakerStatus;
use crate::projection::{self, Model, Mount, Projection, Projections};
use crate::sharing::{Member, MemberId, Membership, Seat};
use crate::subscription::{InHand, Request, Shared, Subscription};
use crate::timer::{Publish, Timers};

/// A running application. Dropping it stops it at once, which loses nothing: what was in hand is delivered again.
pub struct Running {
    pub(super) shared: Arc<Shared>,
    states: Arc<States>,
    routes: Vec<Route>,
    catalogue: Catalogue,
    subscriptions: Vec<Arc<Subscription>>,
    asks: HashMap<String, mpsc::Sender<Request>>,
    models: Vec<Mount>,
    tasks: JoinSet<()>,
    seat: Option<Seat>,
}

/// Whether anything is going on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quiescence {
    /// Deliveries are in hand.
    Busy,
    /// All that goes on is pauses between attempts: it will go on when the clock does.
    Pausing,
    /// Nothing is in flight; only timers and new events can change anything.
    Idle,
}

impl Running {
    pub(super) fn new(
        shared: Arc<Shared>,
        states: Arc<States>,
        routes: Vec<Route>,
        catalogue: Catalogue,
    ) -> Self {
        Self {
            shared,
            states,
            routes,
            catalogue,
            subscriptions: Vec::new(),
            asks: HashMap::new(),
            models: Vec::new(),
            tasks: JoinSet::new(),
            seat: None,
        }
    }

    /// Takes a place among those who share the store.
    pub(super) async fn join(&mut self, subscriptions: BTreeMap<SmolStr, u16>) -> Result<(), Error> {
        let Shared { store, press, view, sharing, closing, .. } = &*self.shared;
        let me = Member {
            id: view.borrow().me,
            application: press.source.to_string().into(),
            since: press.host.clock.now(),
            is_leaving: false,
            subscriptions,
        };
        let membership =
            Membership::new(Arc::clone(store), press.host.clone(), *sharing, me, Arc::clone(view));
        self.seat = Some(membership.join(closing.subscribe()).await?);
        Ok(())
    }

    pub(super) fn spawn(
        &mut self,
        subscription: Arc<Subscription>,
        ask: mpsc::Sender<Request>,
        model: Option<Arc<dyn Model>>,
    ) {
        self.asks.insert(subscription.name.to_string(), ask);
        match model {
            Some(model) => {
                let (mount, lanes) = projection::drive(model, Arc::clone(&subscription));
                self.models.push(mount);
                self.tasks.spawn(lanes);
            }
            None => drop(self.tasks.spawn(Arc::clone(&subscription).run())),
        }
        self.subscriptions.push(subscription);
    }

    pub(super) fn spawn_timers(&mut self, timers: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(timers);
    }

    pub(super) fn spawn_flow_index(&mut self, index: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(index);
    }

    pub(super) fn spawn_link(&mut self, session: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(session);
    }

    /// The store it runs on.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The declared topology.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// A state value, as given to [`App::state`](crate::App::state).
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Result<T, Error> {
        lookup(&self.states)
    }

    /// Sends a command to its handler and gives the answer.
    pub fn dispatch<C: Command>(&self, command: C) -> Dispatch<C> {
        Dispatch {
            command,
            route: route_of::<C>(&self.routes),
            shared: Arc::clone(&self.shared),
            states: Arc::clone(&self.states),
            id: None,
            within: None,
        }
    }

    /// Appends an event that begins a flow of its own, when it is awaited, or later: [`Publish::after`]. Its rules are
    /// checked first (`E0106`).
    #[expect(clippy::needless_pass_by_value, reason = "what is published belongs to the log")]
    pub fn publish<E: Event>(&self, event: E) -> Publish {
        Publish::new(Arc::clone(&self.shared), &event)
    }

    /// Like [`Running::publish`], under an id of the caller's: published again with the same id and body within seven days, it is a
    /// success that adds nothing; with another body it is `E0204`.
    pub async fn publish_as<E: Event>(&self, id: EventId, event: E) -> Result<Admitted, Error> {
        check_rules(&event)?;
        let (stream, envelope) = self.shared.press.first(Draft::of(&event)?, Some(id));
        self.door().admit(stream, envelope).await
    }

    /// What commands have made of snapshots since the start: how many loads used one, and how many had to ignore one, and why.
    pub fn snapshots(&self) -> SnapshotCounts {
        self.shared.snapshots.counts()
    }

    /// What is set for later: listed, cancelled, put off.
    pub fn timers(&self) -> Timers {
        self.shared.timers()
    }

    /// How full the queue in front of each handler is, with its bound.
    pub fn queues(&self) -> Vec<InHand> {
        self.subscriptions.iter().map(|subscription| subscription.in_hand()).collect()
    }

    /// How often each reaction and each handler of commands has been called in this process, repeated attempts included.
    /// Steps that sagas take themselves are no calls of a handler.
    pub fn calls(&self) -> BTreeMap<SmolStr, u64> {
        self.shared.pressure.calls()
    }

    /// The circuit breakers around what handlers depend on, as they are in this process.
    pub fn breakers(&self) -> Vec<BreakerStatus> {
        self.shared.pressure.breakers(self.shared.press.host.clock.monotonic())
    }

    /// Where events of others come in, each once.
    pub fn door(&self) -> Door {
        self.shared.door()
    }

    /// The flows of the store as they stand now.
    pub async fn flows(&self) -> Result<Flows, Error> {
        Flows::open(Arc::clone(&self.shared.store), self.shared.press.host.clock.now()).await
    }

    /// The documents of a read model.
    pub fn view<P: Projection>(&self) -> Result<Collection<P::Document>, Error> {
        crate::projection::collection::<P>(Arc::clone(&self.shared.store))
    }

    /// The read models: how they stand, rebuilding and checking them.
    pub fn projections(&self) -> Projections<'_> {
        Projections { mounts: &self.models }
    }

    /// Resolves when every read model shows everything up to this position: read your writes. An error if one of them has
    /// stopped.
    pub async fn wait(&self, position: Position) -> Result<(), Error> {
        if self.shared.is_shared() {
            for subscription in self.subscriptions.iter().filter(|one| one.standing.is_projection) {
                subscription.until_settled(position).await?;
            }
            return Ok(());
        }
        let reached =
            |standing: &crate::progress::Standing| standing.is_halted() || standing.floor() >= position;
        self.shared
            .board
            .until(|all| {
                all.iter().filter(|standing| standing.is_projection).all(|standing| reached(standing))
            })
            .await;
        let all = self.shared.board.all();
        let halted =
            all.iter().filter(|standing| standing.is_projection).find_map(|standing| standing.halted());
        halted.map_or(Ok(()), Err)
    }

    /// The dead letters: what handlers could not process, and what to do about it.
    pub fn dead(&self) -> DeadLetters<'_> {
        DeadLetters::of(self, self.shared.press.host.clone(), self.shared.press.source.as_str())
            .registry(self.shared.registry.clone())
    }

    /// Tells who fires timers that some were set.
    pub(crate) fn wake_timers(&self) {
        self.shared.timers.notify_one();
    }

    /// Tells a handler that the store holds a request for this key. One that has stopped, or does not run here, finds it
    /// when it starts.
    pub(crate) async fn ask_redrive(&self, handler: &str, key: &str) {
        let standing = self.shared.board.all().into_iter().find(|standing| standing.name == handler);
        let (Some(ask), Some(standing)) = (self.asks.get(handler), standing) else { return };
        let Ok(place) = ask.reserve().await else { return };
        // Counted before it is sent, so that at no moment it is nowhere.
        standing.asked(1);
        place.send(Request::Redrive(SmolStr::from(key)));
    }

    /// What the others know this process by. Another after it was held for dead.
    pub fn member(&self) -> MemberId {
        self.shared.view.borrow().me
    }

    /// The processes that share the store, this one included, as it sees them; none if it shares with nobody.
    pub fn members(&self) -> Vec<Member> {
        self.shared.view.borrow().members.clone()
    }

    /// What operators may ask of saga instances.
    pub fn sagas(&self) -> crate::saga::Operations {
        crate::saga::Operations::of(Arc::clone(&self.shared.store), self.shared.press.clone())
    }

    /// The handlers that have stopped, with why.
    pub fn halted(&self) -> Vec<(String, Error)> {
        let all = self.shared.board.all();
        all.iter().filter_map(|standing| Some((standing.name.clone(), standing.halted()?))).collect()
    }

    /// Whether anything is in flight: every subscription has seen everything, every delivery is settled, no request is
    /// open and no timer is due. Where processes share the store, what others have in hand counts as a pause: it goes on
    /// there, or here when they are gone.
    pub async fn quiescence(&self) -> Result<Quiescence, Error> {
        let store = &*self.shared.store;
        let head = store.head().await?;
        let all = self.shared.board.all();
        let standings: Vec<Quiescence> = all.iter().map(|standing| standing.quiescence_at(head)).collect();
        if standings.contains(&Quiescence::Busy) || self.shared.links.is_busy() {
            return Ok(Quiescence::Busy);
        }
        let now = self.shared.press.host.clock.now();
        let is_due = crate::timer::next_due(store).await?.is_some_and(|due| due <= now);
        let is_firing =
            crate::timer::is_ours(&self.shared) && !self.shared.timers_wait.load(Ordering::Acquire);
        if is_due && is_firing {
            return Ok(Quiescence::Busy);
        }
        if is_due || standings.contains(&Quiescence::Pausing) || self.is_open_elsewhere(head).await? {
            return Ok(Quiescence::Pausing);
        }
        // What was settled after the first look at the head may have moved it.
        Ok(if store.head().await? == head { Quiescence::Idle } else { Quiescence::Busy })
    }

    /// Whether another process has something in hand, or nobody has yet what should be.
    async fn is_open_elsewhere(&self, head: Position) -> Result<bool, Error> {
        if !self.shared.is_shared() {
            return Ok(false);
        }
        for subscription in self.subscriptions.iter().filter(|one| !one.standing.is_halted()) {
            let requested = crate::dead::requested(&*self.shared.store, &subscription.name).await?;
            if !requested.is_empty() || !subscription.is_settled(head).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is not at rest, in words: for the message of a test that waits in vain.
    pub async fn in_hand(&self) -> Result<Vec<String>, Error> {
        let head = self.shared.store.head().await?;
        let all = self.shared.board.all();
        let busy = all.iter().filter(|standing| standing.quiescence_at(head) != Quiescence::Idle);
        Ok(busy.map(|standing| standing.describe()).collect())
    }

    /// Resolves when everything up to this position is settled by every handler, or the handler has stopped.
    pub async fn settled(&self, position: Position) {
        if self.shared.is_shared() {
            for subscription in &self.subscriptions {
                // Whether it is settled or has stopped: it does not go on by itself.
                let _stopped = subscription.until_settled(position).await.is_err();
            }
            return;
        }
        let reached =
            |standing: &crate::progress::Standing| standing.is_halted() || standing.floor() >= position;
        self.shared.board.until(|all| all.iter().all(|standing| reached(standing))).await;
    }

    /// Stops: no new deliveries, those in hand are finished, checkpoints are stored. After `within` it stops anyway, which
    /// loses nothing but the work in hand.
    pub async fn stop(mut self, within: Duration) -> Result<(), Error> {
        // A receiver is gone when its task has ended already.
        let _told = self.shared.closing.send_replace(true);
        let deadline = self.shared.press.host.clock.sleep(within);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                ended = self.tasks.join_next() => match ended {
                    Some(_) => {}
                    None => break,
                },
                () = &mut deadline => {
                    let left = self.tasks.len();
                    return Err(Error::new(Code::HANDLER_TIMED_OUT, format!("{left} handlers did not stop within {within:?}"))
                        .with_fix("nothing is lost: what they had in hand is delivered again at the next start"));
                }
            }
        }
        if let Some(seat) = self.seat.take() {
            tokio::select! {
                biased;
                () = seat.leave() => {}
                // Whoever does not get the goodbye waits until the lease is over.
                () = &mut deadline => {}
            }
        }
        Ok(())
    }
}
