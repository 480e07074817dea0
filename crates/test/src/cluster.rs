//! Several processes on one store, in one test: the production application more than once, under virtual time, each with
//! a connection and a clock of its own that can stall or break.
//!
//! ```
//! # use {ensue_macros::Event, ensue_runtime::App, serde::{Deserialize, Serialize}};
//! # #[derive(Event, Serialize, Deserialize)]
//! # #[event(crate = ensue_core, topic = "Order", key = order)]
//! # struct OrderPlaced { order: String }
//! # #[derive(Event, Serialize, Deserialize)]
//! # #[event(crate = ensue_core, topic = "Payment", key = order)]
//! # struct PaymentCompleted { order: String }
//! # async fn take_payment(placed: OrderPlaced) -> PaymentCompleted { PaymentCompleted { order: placed.order } }
//! use ensue_test::Cluster;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut shop = Cluster::new(|app: App| app.external::<OrderPlaced>().react("take-payment", take_payment));
//! let (first, second) = (shop.add().await, shop.add().await);
//! shop.settle().await;
//! shop.kill(first).await;
//! shop.publish(OrderPlaced { order: "ORD-1".into() }).await;
//! shop.settle().await;
//! assert_eq!(shop.running(second).members().len(), 1);
//! assert_eq!(shop.events().await, ["OrderPlaced", "PaymentCompleted"]);
//! # }
//! ```
//!
//! A handler that waits takes the clock of its process as `State<Host>`: where the process is frozen, that clock is too.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Clock, Event, Host, Read, Recorded, StoreExt};
use ensue_runtime::app::Quiescence;
use ensue_runtime::door::Admitted;
use ensue_runtime::{App, Running, Sharing};

use crate::{MemoryStore, SeededEntropy, VirtualClock};

mod line;

use line::{Gate, Line, Pace};

/// Turns of the scheduler without any call to the store after which only the clock can move things on.
const STILL_TURNS: u32 = 25;
/// Steps of the clock that one [`Cluster::settle`] takes at most.
const STEPS_MAX: u32 = 20_000;

/// Processes that share a store.
pub struct Cluster {
    build: Build,
    store: Arc<MemoryStore>,
    clock: Arc<VirtualClock>,
    nodes: Vec<Node>,
}

type Build = Arc<dyn Fn(App) -> App>;

/// One process.
struct Node {
    running: Option<Running>,
    gate: Arc<Gate>,
    line: Arc<Line>,
}

impl Node {
    fn is_awake(&self) -> bool {
        self.running.is_some() && self.gate.is_open()
    }
}

impl Cluster {
    /// No process yet; each that is added runs the application that `build` mounts.
    pub fn new(build: impl Fn(App) -> App + 'static) -> Self {
        let (host, clock) = crate::host(1);
        Self { build: Arc::new(build), store: Arc::new(MemoryStore::new(host)), clock, nodes: Vec::new() }
    }

    /// Starts one more process; says which.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn add(&mut self) -> usize {
        let build = Arc::clone(&self.build);
        self.add_with(move |app| build(app)).await
    }

    /// Starts one more process, of another version of the application.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn add_with(&mut self, build: impl Fn(App) -> App) -> usize {
        let number = self.nodes.len();
        let gate = Arc::new(Gate::default());
        let line = Arc::new(Line::new(Arc::clone(&self.store), Arc::clone(&gate)));
        let host = Host {
            clock: Arc::new(Pace::new(Arc::clone(&self.clock), Arc::clone(&gate))),
            entropy: Arc::new(SeededEntropy::new(1_000 + number as u64)),
        };
        let app = App::new("test").host(host.clone()).state(host).store(Arc::clone(&line));
        let running =
            build(app.share(Sharing::default())).start().await.expect("the application holds together");
        self.nodes.push(Node { running: Some(running), gate, line });
        number
    }

    fn node(&self, number: usize) -> &Node {
        self.nodes.get(number).expect("a process that was added")
    }

    /// A process that is up.
    ///
    /// # Panics
    /// If it is not.
    pub fn running(&self, number: usize) -> &Running {
        self.node(number).running.as_ref().expect("a process that is up")
    }

    /// Ends a process as a crash does: without a word, whatever it has in hand.
    pub async fn kill(&mut self, number: usize) {
        self.node(number).gate.cut();
        if let Some(node) = self.nodes.get_mut(number) {
            drop(node.running.take());
        }
        tokio::task::yield_now().await;
    }

    /// Halts a process where it is: its clock, its handlers that wait for it, and all it has on its way to the store.
    pub fn freeze(&self, number: usize) {
        self.node(number).gate.freeze();
    }

    /// From now on what a process commits with events in it is under way to the store, until it is thawed; all else gets
    /// through.
    pub fn hold_commits(&self, number: usize) {
        self.node(number).gate.hold_commits();
    }

    /// Lets a frozen process go on where it was, as if nothing had been. What was on its way to the store arrives before it hears anything.
    pub async fn thaw(&self, number: usize) {
        let node = self.node(number);
        node.gate.let_arrive();
        while node.line.is_under_way() {
            tokio::task::yield_now().await;
        }
        node.gate.open();
        tokio::task::yield_now().await;
    }

    /// Shuts a process down in good order. Says how long it took, in virtual time.
    ///
    /// # Panics
    /// If it does not end within 30 seconds.
    pub async fn shut_down(&mut self, number: usize) -> Duration {
        let before = self.clock.monotonic();
        let running =
            self.nodes.get_mut(number).and_then(|node| node.running.take()).expect("a process that is up");
        self.drive(running.stop(Duration::from_secs(30))).await.expect("it ends in good order");
        self.clock.monotonic().saturating_sub(before)
    }

    /// How many settlements with events in them a process has tried in vain, because the lane was somebody else's.
    pub fn refused(&self, number: usize) -> u64 {
        self.node(number).line.refused()
    }

    /// How many processes there were, those that are gone included.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The store that all share.
    pub fn store(&self) -> &Arc<MemoryStore> {
        &self.store
    }

    /// The clock that all run by.
    pub fn clock(&self) -> &Arc<VirtualClock> {
        &self.clock
    }

    /// Publishes an event through a process that is up.
    ///
    /// # Panics
    /// If the event is refused, or none is up.
    pub async fn publish<E: Event>(&self, event: E) -> Admitted {
        let running = self.nodes.iter().find(|node| node.is_awake()).and_then(|node| node.running.as_ref());
        running.expect("a process is up").publish(event).await.expect("the event is taken")
    }

    /// Does something while time passes.
    pub async fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.turn() => {}
            }
            self.clock.advance(self.clock.next_wake().unwrap_or_default());
        }
    }

    /// Lets time pass, everything happening at its moment.
    pub async fn advance(&self, duration: Duration) {
        let end = self.clock.monotonic().saturating_add(duration);
        loop {
            self.turn().await;
            let left = end.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return;
            }
            self.clock.advance(self.clock.next_wake().unwrap_or(left).min(left));
        }
    }

    /// Runs until nothing is in flight in any process that is up, and everything is settled by all that they mount. Time
    /// passes where it must, such as until a killed process is given up.
    ///
    /// # Panics
    /// If it does not come to rest; the message says what is busy.
    pub async fn settle(&self) {
        for _ in 0..STEPS_MAX {
            self.turn().await;
            if self.is_at_rest().await {
                return;
            }
            self.clock.advance(self.clock.next_wake().unwrap_or_default());
        }
        let mut busy = Vec::new();
        for running in self.awake() {
            busy.extend(running.in_hand().await.expect("memory can be read"));
        }
        panic!("still not at rest after {STEPS_MAX} steps of the clock: {}", busy.join("; "));
    }

    fn awake(&self) -> impl Iterator<Item = &Running> {
        self.nodes.iter().filter(|node| node.is_awake()).filter_map(|node| node.running.as_ref())
    }

    async fn is_at_rest(&self) -> bool {
        for running in self.awake() {
            if running.quiescence().await.expect("memory can be read") != Quiescence::Idle {
                return false;
            }
        }
        true
    }

    /// Lets everything happen that can happen now.
    async fn turn(&self) {
        let mut still = 0;
        while still < STILL_TURNS {
            let before = self.calls();
            tokio::task::yield_now().await;
            still = if self.calls() == before { still + 1 } else { 0 };
        }
    }

    fn calls(&self) -> u64 {
        self.nodes.iter().map(|node| node.line.calls()).sum()
    }

    /// The whole log.
    pub async fn recorded(&self) -> Vec<Recorded> {
        self.store.collect(Read::all()).await.expect("memory can be read")
    }

    /// The types of all events in order, without the commands and the journals of sagas.
    pub async fn events(&self) -> Vec<String> {
        let recorded = self.recorded().await;
        let own = recorded.iter().filter(|recorded| !recorded.stream.topic.is_reserved());
        own.map(|recorded| recorded.envelope.event_type.to_string()).collect()
    }
}
