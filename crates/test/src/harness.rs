//! The production application in process: the same pipeline on a store in memory, with time that a test moves.
//!
//! ```
//! # use ensue_macros::Event;
//! # use ensue_runtime::App;
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Event, Serialize, Deserialize)]
//! # #[event(crate = ensue_core, topic = "Order", key = order)]
//! # struct OrderPlaced { order: String }
//! # #[derive(Event, Serialize, Deserialize)]
//! # #[event(crate = ensue_core, topic = "Payment", key = order)]
//! # struct PaymentCompleted { order: String }
//! use ensue_test::Harness;
//!
//! async fn take_payment(placed: OrderPlaced) -> PaymentCompleted {
//!     PaymentCompleted { order: placed.order }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut shop = Harness::new(|app: App| app.external::<OrderPlaced>().react("take-payment", take_payment));
//! shop.publish(OrderPlaced { order: "ORD-1".into() }).await;
//! shop.settle().await;
//! assert_eq!(shop.events().await, ["OrderPlaced", "PaymentCompleted"]);
//! # }
//! ```
//!
//! It runs in a tokio runtime of one thread, which is what `#[tokio::test]` gives. Handlers take their time from the
//! application's host; one that waits for the real clock or a real network never settles here.
//!
//! Invariant: whatever happens, happens in the same order again when the test is run again.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::{
    BoxFuture, Clock, Code, Command, Error, Event, EventId, Host, Read, Recorded, Store, StoreExt,
    StreamName, Timestamp,
};
use ensue_runtime::app::{DispatchError, Quiescence};
use ensue_runtime::dead::{self, DeadLetter};
use ensue_runtime::door::Admitted;
use ensue_runtime::saga::{SagaHead, head};
use ensue_runtime::{App, Collection, Projection, Receipt, Running, timer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{MemoryStore, SeededEntropy, VirtualClock};

mod assert;
mod calls;
mod connection;
mod crash;
mod misfortune;
mod topology;

use connection::{Connection, Luck};
pub use crash::{Crash, crash_everywhere};
pub use misfortune::Misfortune;

/// Rounds without a commit after which what is still busy counts as stuck where a test asks for rest.
const ROUNDS_TO_REST: u32 = 10_000;
/// The same where a test lets time pass: what is busy then mostly waits for the clock.
const ROUNDS_TO_NEXT_MOMENT: u32 = 100;
/// Pauses between attempts that one [`Harness::settle`] waits out.
const PAUSES_MAX: u32 = 10_000;

/// An application under test, with its store and its clock.
pub struct Harness {
    build: Box<dyn Fn(App) -> App>,
    store: Arc<MemoryStore>,
    host: Host,
    clock: Arc<VirtualClock>,
    luck: Arc<Luck>,
    process: Option<Process>,
    /// How often handlers were called in earlier lives.
    calls: calls::Calls,
}

/// One life of the application, from a start to a crash.
struct Process {
    running: Running,
    connection: Arc<Connection>,
}

/// What a run led to.
#[derive(PartialEq, Eq)]
enum Still {
    Idle,
    /// Pauses between attempts, or of the store, are all that goes on.
    Pausing,
    /// Something is in hand, and does not move on.
    Stuck,
}

impl Harness {
    /// The application that `build` mounts. It is built anew at each restart, so what must outlive a crash is made
    /// outside the closure and cloned into it.
    pub fn new(build: impl Fn(App) -> App + 'static) -> Self {
        Self::seeded(1, build)
    }

    /// With other random numbers: ids, and the jitter of pauses.
    pub fn seeded(seed: u64, build: impl Fn(App) -> App + 'static) -> Self {
        let (host, clock) = crate::host(seed);
        let store = Arc::new(MemoryStore::new(host.clone()));
        let luck = Arc::new(Luck::new(host.clone()));
        Self { build: Box::new(build), store, host, clock, luck, process: None, calls: calls::Calls::new() }
    }

    /// Works out every delivery twice: the first result is thrown away, as if the state it was computed from had been
    /// out of date. Every reply to a saga comes twice as well. What a handler does outside the store happens twice,
    /// under the same idempotency key.
    ///
    /// ```
    /// # use {ensue_macros::Event, ensue_runtime::App, ensue_test::Harness, serde::{Deserialize, Serialize}};
    /// # use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
    /// # #[derive(Event, Serialize, Deserialize)]
    /// # #[event(crate = ensue_core, topic = "Order", key = order)]
    /// # struct OrderPlaced { order: String }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let calls = Arc::new(AtomicU32::new(0));
    /// let counter = calls.clone();
    /// let mut shop = Harness::new(move |app: App| {
    ///     let calls = counter.clone();
    ///     app.external::<OrderPlaced>().react("count", move |_: OrderPlaced| {
    ///         calls.fetch_add(1, Ordering::Relaxed);
    ///         async {}
    ///     })
    /// })
    /// .deliver_twice();
    /// shop.publish(OrderPlaced { order: "ORD-1".into() }).await;
    /// shop.settle().await;
    /// assert_eq!(calls.load(Ordering::Relaxed), 2);
    /// # }
    /// ```
    #[must_use]
    pub fn deliver_twice(self) -> Self {
        self.suffer([Misfortune::DeliverTwice])
    }

    /// Lets handlers and lanes overtake each other: before every read and commit the store hesitates for as long as the
    /// seed says. The order of each key is kept, as it is in production; the order across keys is another for each
    /// seed.
    #[must_use]
    pub fn reorder_across_keys(self, seed: u64) -> Self {
        self.suffer([Misfortune::ReorderAcrossKeys(seed)])
    }

    /// Ends the process at a commit; the application is then started again on what the store holds. Commits are
    /// counted over all lives of the application, from 1. Called again, it crashes again.
    ///
    /// ```
    /// # use {ensue_macros::Event, ensue_runtime::App, serde::{Deserialize, Serialize}};
    /// # #[derive(Event, Serialize, Deserialize)]
    /// # #[event(crate = ensue_core, topic = "Order", key = order)]
    /// # struct OrderPlaced { order: String }
    /// use ensue_test::{Crash, Harness};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut shop = Harness::new(|app: App| app.external::<OrderPlaced>()).crash_at(Crash::After(2));
    /// shop.publish(OrderPlaced { order: "ORD-1".into() }).await;
    /// shop.settle().await;
    /// assert_eq!((shop.crashes(), shop.events().await), (1, vec!["OrderPlaced".to_owned()]));
    /// # }
    /// ```
    #[must_use]
    pub fn crash_at(self, crash: Crash) -> Self {
        self.suffer([Misfortune::Crash(crash)])
    }

    /// Takes the commit of this number, but loses the reply: whoever committed does not know what became of it. Commits
    /// are counted as in [`Harness::crash_at`].
    #[must_use]
    pub fn lose_reply_at(self, number: u64) -> Self {
        self.suffer([Misfortune::LoseReply(number)])
    }

    /// Loses about one reply in six, chosen by the seed.
    #[must_use]
    pub fn lose_replies(self, seed: u64) -> Self {
        self.luck.lose_at_random(SeededEntropy::new(seed));
        self
    }

    /// Lets every commit take so long.
    #[must_use]
    pub fn slow(self, by: Duration) -> Self {
        self.suffer([Misfortune::Slow(by)])
    }

    /// Several misfortunes at once.
    #[must_use]
    pub fn suffer(self, misfortunes: impl IntoIterator<Item = Misfortune>) -> Self {
        misfortunes.into_iter().for_each(|misfortune| self.luck.add(misfortune));
        self
    }

    /// How often the process has crashed.
    pub fn crashes(&self) -> u32 {
        self.luck.crashes()
    }

    /// How many replies were lost.
    pub fn replies_lost(&self) -> u32 {
        self.luck.replies_lost()
    }

    /// How many commits there were, over all lives of the application.
    pub fn commits(&self) -> u64 {
        self.luck.commits()
    }

    /// The store that outlives crashes. Its hooks are the test's to set.
    pub fn store(&self) -> &Arc<MemoryStore> {
        &self.store
    }

    /// The clock that everything runs by.
    pub fn clock(&self) -> &Arc<VirtualClock> {
        &self.clock
    }

    /// Time and randomness as the application sees them.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The running application; started if it is not.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn running(&mut self) -> &Running {
        loop {
            if self.process.as_ref().is_some_and(|process| process.connection.is_cut()) {
                self.stop_at_once().await;
            }
            if self.process.is_some() {
                break;
            }
            let connection = Arc::new(Connection::new(Arc::clone(&self.store), Arc::clone(&self.luck)));
            let app = (self.build)(App::new("test").host(self.host.clone()).store(Arc::clone(&connection)));
            tokio::select! {
                biased;
                started = app.start() => match started {
                    Ok(running) => self.process = Some(Process { running, connection }),
                    // Whatever watches over processes starts it once more.
                    Err(error) => assert!(error.is_retryable(), "the application does not start: {error}"),
                },
                () = connection.cut() => {}
                () = self.wait_for_store() => {}
            }
        }
        &self.process.as_ref().expect("it was started just now").running
    }

    /// Drops the application as it is, which is what a crash does, and starts it again on the same store.
    pub async fn restart(&mut self) {
        self.stop_at_once().await;
        self.running().await;
    }

    /// Drops the application as it is, and leaves it stopped until something needs it again.
    pub async fn stop(&mut self) {
        self.stop_at_once().await;
    }

    async fn stop_at_once(&mut self) {
        if let Some(Process { running, connection }) = self.process.take() {
            // Whatever of it still runs for a moment reaches the store no more.
            connection.sever();
            self.keep_calls(&running);
            drop(running);
            tokio::task::yield_now().await;
        }
    }

    /// Does something with the running application, again after each crash that comes in between and after each reply
    /// that is lost.
    async fn persist<T, E: Outcome>(
        &mut self,
        work: impl for<'a> Fn(&'a Running) -> BoxFuture<'a, Result<T, E>>,
    ) -> Result<T, E> {
        loop {
            self.running().await;
            let Process { running, connection } = self.process.as_ref().expect("it was started just now");
            tokio::select! {
                biased;
                done = work(running) => match done {
                    Err(error) if error.is_unknown() => {}
                    done => return done,
                },
                () = connection.cut() => {}
                () = self.wait_for_store() => {}
            }
        }
    }

    /// Moves the clock on while a slow store is all that anything waits for. Never ends.
    async fn wait_for_store(&self) {
        let mut rounds = 0;
        loop {
            tokio::task::yield_now().await;
            rounds = if self.luck.is_waited_for() { rounds + 1 } else { 0 };
            if rounds > ROUNDS_TO_NEXT_MOMENT
                && let Some(wake) = self.clock.next_wake()
            {
                self.clock.advance(wake);
                rounds = 0;
            }
        }
    }

    /// Publishes an event under a fresh id, so that a crash meanwhile does not double it.
    ///
    /// # Panics
    /// If the event is refused.
    pub async fn publish<E: Event>(&mut self, event: E) -> Admitted {
        let id = self.host.event_id();
        self.publish_as(id, event).await.expect("the event is taken")
    }

    /// Publishes an event under an id.
    pub async fn publish_as<E: Event>(&mut self, id: EventId, event: E) -> Result<Admitted, Error> {
        let body = Body::of(&event);
        self.persist(move |running| Box::pin(running.publish_as::<E>(id.clone(), body.again()))).await
    }

    /// Sends a command to its handler, under a fresh id, so that a crash meanwhile does not do it twice.
    pub async fn dispatch<C: Command>(
        &mut self,
        command: C,
    ) -> Result<Receipt<C::Reply>, DispatchError<C::Failure>> {
        let (id, body) = (self.host.event_id(), Body::of(&command));
        self.persist(move |running| {
            let dispatch = running.dispatch::<C>(body.again()).id(id.clone());
            Box::pin(async move { dispatch.await })
        })
        .await
    }

    /// Tries the dead letters of a key again, in order, and says how many there were; 0 if nothing is parked there.
    ///
    /// # Panics
    /// If the store refuses it.
    pub async fn redrive(&mut self, handler: &str, key: &str) -> usize {
        let which = dead::Which::key(handler, key);
        let asked = self.persist(move |running| {
            let which = which.clone();
            Box::pin(async move { running.dead().redrive(&which).await })
        });
        match asked.await {
            Ok(requested) => requested.letters,
            Err(error) if error.code() == Code::NOT_FOUND => 0,
            Err(error) => panic!("nothing can be redriven: {error}"),
        }
    }

    /// Runs until nothing is in flight but timers that are not due. Pauses between attempts are waited out: the clock
    /// moves to their end.
    ///
    /// # Panics
    /// If something stays busy; the message says what.
    pub async fn settle(&mut self) {
        for _ in 0..PAUSES_MAX {
            match self.run(ROUNDS_TO_REST).await {
                Still::Idle => return,
                Still::Stuck => panic!("nothing moves on, but it is not at rest: {}", self.in_hand().await),
                Still::Pausing => self.clock.advance(self.clock.next_wake().unwrap_or_default()),
            }
        }
        panic!("still not at rest after {PAUSES_MAX} pauses: {}", self.in_hand().await);
    }

    /// Lets time pass, every timer going off at its moment, and runs until only the clock can move it on. Other than
    /// [`Harness::settle`] it leaves alone what takes longer than that.
    pub async fn advance(&mut self, duration: Duration) {
        let end = self.clock.monotonic().saturating_add(duration);
        loop {
            let still = self.run(ROUNDS_TO_NEXT_MOMENT).await;
            let left = end.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                break;
            }
            let step = match still {
                Still::Idle => self.until_next_timer().await,
                Still::Pausing | Still::Stuck => self.clock.next_wake(),
            };
            self.clock.advance(step.unwrap_or(left).min(left));
        }
    }

    /// Runs until only the clock can move it on.
    async fn run(&mut self, rounds_max: u32) -> Still {
        let (mut rounds, mut commits) = (0, 0);
        loop {
            tokio::task::yield_now().await;
            match self.quiescence().await {
                Quiescence::Idle => return Still::Idle,
                Quiescence::Pausing => return Still::Pausing,
                Quiescence::Busy if self.luck.is_waited_for() && rounds > ROUNDS_TO_NEXT_MOMENT => {
                    return Still::Pausing;
                }
                Quiescence::Busy if rounds > rounds_max => return Still::Stuck,
                Quiescence::Busy if commits == self.luck.commits() => rounds += 1,
                Quiescence::Busy => (rounds, commits) = (0, self.luck.commits()),
            }
        }
    }

    async fn quiescence(&mut self) -> Quiescence {
        let quiescence = self.running().await.quiescence().await.expect("memory can be read");
        let is_cut = self.process.as_ref().is_some_and(|process| process.connection.is_cut());
        if is_cut { Quiescence::Busy } else { quiescence }
    }

    async fn in_hand(&mut self) -> String {
        self.running().await.in_hand().await.expect("memory can be read").join("; ")
    }

    async fn until_next_timer(&self) -> Option<Duration> {
        let next: Timestamp = timer::list(&*self.store).await.expect("memory can be read").first()?.due;
        Some(Duration::try_from(next.duration_since(self.clock.now())).unwrap_or_default())
    }

    /// The types of all events in order, without the commands and the journals of sagas.
    pub async fn events(&self) -> Vec<String> {
        let recorded = self.recorded().await;
        let own = recorded.iter().filter(|recorded| !recorded.stream.topic.is_reserved());
        own.map(|recorded| recorded.envelope.event_type.to_string()).collect()
    }

    /// The types of the events in one stream, such as `Order/ORD-1` or `saga.fulfil/ORD-1`.
    ///
    /// # Panics
    /// If the name breaks the rule of stream names.
    pub async fn events_of(&self, stream: &str) -> Vec<String> {
        let stream: StreamName = stream.parse().expect("a valid stream name");
        let recorded = self.store.collect(Read::stream(stream)).await.expect("memory can be read");
        recorded.iter().map(|recorded| recorded.envelope.event_type.to_string()).collect()
    }

    /// The whole log.
    pub async fn recorded(&self) -> Vec<Recorded> {
        self.store.collect(Read::all()).await.expect("memory can be read")
    }

    /// Everything that is parked.
    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        dead::list(&*self.store).await.expect("dead letters can be read")
    }

    /// The documents of a read model.
    pub fn view<P: Projection>(&self) -> Collection<P::Document> {
        let store: Arc<dyn Store> = self.store.clone();
        ensue_runtime::projection::collection::<P>(store).expect("a valid name")
    }

    /// Where an instance of a saga stands; `None` if there is none.
    pub async fn saga(&self, name: &str, key: &str) -> Option<SagaHead> {
        head::get(&*self.store, name, key).await.expect("heads can be read")
    }
}

/// An error that may mean that it was done.
trait Outcome {
    /// Whether it was lost what became of it.
    fn is_unknown(&self) -> bool;
}

impl Outcome for Error {
    fn is_unknown(&self) -> bool {
        self.code() == Code::OUTCOME_UNKNOWN
    }
}

impl<F> Outcome for DispatchError<F> {
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_unknown())
    }
}

/// A value that can be had again, by way of its stored form.
struct Body(Vec<u8>);

impl Body {
    fn of<T: Serialize>(value: &T) -> Self {
        Self(serde_json::to_vec(value).expect("it encodes"))
    }

    fn again<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.0).expect("what was stored can be read")
    }
}
