//! A broker in memory, to test links with: honest about what it declares, and unlucky on request.
//!
//! ```
//! use ensue_test::MemoryBus;
//!
//! let (host, _clock) = ensue_test::host(1);
//! let bus = MemoryBus::new(host);
//! bus.down(); // … and publishing fails as unreachable, until `bus.up()`.
//! assert!(bus.messages("shop.orders").is_empty());
//! ```
//!
//! A clone is another connection to the same broker. What was confirmed stays, whatever happens to the broker.
//!
//! Invariants: time is that of the host, so under a virtual clock nothing happens by itself; the order of keys holds because one
//! message of a key is delivered at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ensue_core::bus::{Bus, Consume, Consumer, Declare, Declared, Message, Outgoing, Receipt, Topology};
use ensue_core::cloudevents::Binding;
use ensue_core::{BoxFuture, BusCapabilities, Channel, Code, Error, Host};
use smol_str::SmolStr;
use tokio::sync::Notify;

mod group;
mod luck;
mod member;
mod publish;
mod state;

use luck::Luck;
use member::Member;
use state::State;

/// How long a call waits for a broker that stands still.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// A connection to a broker in memory.
#[derive(Clone)]
pub struct MemoryBus {
    broker: Arc<Broker>,
    capabilities: BusCapabilities,
    is_denied: bool,
}

/// What all connections share.
struct Broker {
    host: Host,
    state: Mutex<State>,
    changed: Notify,
}

impl Broker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryBus {
    /// A broker that can do everything that the port knows.
    pub fn new(host: Host) -> Self {
        let capabilities = BusCapabilities {
            name: "memory",
            binding: Binding::Kafka,
            can_feed: true,
            can_order_by_key: true,
            can_order_alone: true,
            can_replay: true,
            can_seek: true,
            can_delay: true,
            can_reject: true,
            has_dead_letters: false,
            redelivers_after: Some(Duration::from_secs(30)),
            can_count_waiting: true,
            can_detect_unroutable: true,
            can_deduplicate: true,
            can_count_attempts: true,
            can_refuse_late: true,
            message_bytes_max: 1024 * 1024,
        };
        let broker = Broker { host, state: Mutex::default(), changed: Notify::new() };
        Self { broker: Arc::new(broker), capabilities, is_denied: false }
    }

    /// The same broker, which can do less, or more. What is not declared it does not do.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut BusCapabilities)) -> Self {
        change(&mut self.capabilities);
        self
    }

    /// A connection with wrong credentials.
    #[must_use]
    pub fn denied(&self) -> Self {
        Self { is_denied: true, ..self.clone() }
    }

    /// A message of somebody who has never heard of us. The channel is made if it is not there.
    pub fn post(&self, channel: &str, key: Option<&str>, headers: &[(&str, &str)], body: impl Into<Bytes>) {
        let headers =
            headers.iter().map(|(name, value)| (SmolStr::from(*name), Bytes::from(value.to_string())));
        let message = Message { headers: headers.collect(), content_type: None, body: body.into() };
        self.post_message(channel, key, message);
    }

    /// The same, with the message as a whole.
    ///
    /// # Panics
    /// If it is no name of a channel.
    pub fn post_message(&self, channel: &str, key: Option<&str>, message: Message) {
        let channel = Channel::new(channel).expect("a valid channel");
        let now = self.broker.host.clock.now();
        self.broker.lock().keep(&channel, key.map(SmolStr::from), message, now);
        self.broker.changed.notify_waiters();
    }

    /// What a channel holds, oldest first, delivered or not.
    pub fn messages(&self, channel: &str) -> Vec<Message> {
        self.broker.lock().messages(channel)
    }

    /// How many messages wait for a group, or are in the hands of one that has not settled them.
    pub fn unsettled(&self) -> usize {
        self.broker.lock().unsettled()
    }

    /// The groups that have been joined or declared.
    pub fn groups(&self) -> Vec<String> {
        self.broker.lock().group_names()
    }

    /// Whether it can be reached.
    pub fn is_up(&self) -> bool {
        !self.broker.lock().luck.is_down
    }

    /// What was in hand comes again, calls fail as unreachable.
    pub fn down(&self) {
        let mut state = self.broker.lock();
        state.luck.is_down = true;
        state.cut();
        drop(state);
        self.broker.changed.notify_waiters();
    }

    /// Every connection breaks, and is made anew: what was in hand comes again, calls under way fail. Says how many members there
    /// are.
    pub fn cut(&self) -> usize {
        let members = self.broker.lock().cut();
        self.broker.changed.notify_waiters();
        members
    }

    /// It is back, with everything that it had confirmed.
    pub fn up(&self) {
        self.change(|luck| luck.is_down = false);
    }

    /// It stands still: calls are not answered, and time out.
    pub fn pause(&self) {
        self.change(|luck| luck.is_paused = true);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.change(|luck| luck.is_paused = false);
    }

    /// Publishing to this channel fails with this error.
    pub fn refuse(&self, channel: &str, error: Error) {
        self.change(|luck| drop(luck.refused.insert(channel.to_owned(), error)));
    }

    /// Declaring fails with this error; without one, it succeeds again.
    pub fn refuse_to_declare(&self, error: Option<Error>) {
        self.change(|luck| luck.undeclarable = error);
    }

    /// Publishing to this channel succeeds again.
    pub fn accept(&self, channel: &str) {
        self.change(|luck| drop(luck.refused.remove(channel)));
    }

    /// So many of the next messages are kept, and whoever publishes them does not hear of it.
    pub fn lose_confirmations(&self, messages: usize) {
        self.change(|luck| luck.lose_confirmations = messages);
    }

    /// So many of the next settlements get lost on the way: the messages come again when their time is over, or the member is
    /// gone.
    pub fn lose_settlements(&self, settlements: usize) {
        self.change(|luck| luck.lose_settlements = settlements);
    }

    /// Delivers each message so many times, from the next on.
    pub fn deliver_times(&self, times: u32) {
        self.change(|luck| luck.deliver_times = times.max(1));
    }

    /// Delivers messages of different keys in an order that the seed chooses.
    pub fn reorder_across_keys(&self, seed: u64) {
        self.change(|luck| luck.reorder = Some(crate::SeededEntropy::new(seed)));
    }

    /// Lets every call take so long.
    pub fn slow(&self, by: Duration) {
        self.change(|luck| luck.slow = by);
    }

    /// How often what was asked for has struck: confirmations and settlements that were lost, deliveries that were repeated,
    /// refusals.
    pub fn strikes(&self) -> usize {
        self.broker.lock().luck.strikes
    }

    fn change(&self, change: impl FnOnce(&mut Luck)) {
        change(&mut self.broker.lock().luck);
        self.broker.changed.notify_waiters();
    }

    /// Waits as a network does, and says why there is no answer.
    async fn reach(&self) -> Result<(), Error> {
        let (slow, connection) = {
            let state = self.broker.lock();
            (state.luck.slow, state.connection)
        };
        if !slow.is_zero() {
            self.broker.host.clock.sleep(slow).await;
        }
        if self.broker.lock().luck.is_paused {
            self.broker.host.clock.sleep(ANSWER_WITHIN).await;
        }
        let state = self.broker.lock();
        let is_gone = state.luck.is_down || state.connection != connection;
        match (self.is_denied, is_gone, state.luck.is_paused) {
            (true, _, _) => Err(Error::new(Code::BUS_DENIED, "the broker in memory does not let us in")),
            (_, true, _) => Err(Error::new(Code::BUS_UNREACHABLE, "the broker in memory is down")),
            (_, _, true) => Err(Error::new(Code::BUS_TIMEOUT, "the broker in memory stands still")),
            _ => Ok(()),
        }
    }
}

impl Bus for MemoryBus {
    fn capabilities(&self) -> &BusCapabilities {
        &self.capabilities
    }

    fn declare(&self, topology: &Topology, declare: Declare) -> BoxFuture<'_, Result<Declared, Error>> {
        let topology = topology.clone();
        Box::pin(async move {
            self.reach().await?;
            let mut state = self.broker.lock();
            match state.luck.undeclarable.clone() {
                Some(error) => {
                    state.luck.strikes += 1;
                    Err(error)
                }
                None => Ok(state.declare(&topology, declare, &self.capabilities)),
            }
        })
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Receipt, Error>>> {
        Box::pin(async move {
            if let Err(error) = self.reach().await {
                return batch.iter().map(|_| Err(error.clone())).collect();
            }
            let now = self.broker.host.clock.now();
            let answers = publish::publish(&mut self.broker.lock(), &self.capabilities, batch, now);
            self.broker.changed.notify_waiters();
            answers
        })
    }

    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, Error>> {
        Box::pin(async move {
            self.reach().await?;
            let id = self.broker.lock().join(&consume, &self.capabilities)?;
            Ok(Box::new(Member::new(self.clone(), consume, id)) as Box<dyn Consumer>)
        })
    }
}
