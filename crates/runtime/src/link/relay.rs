//! From the log to a broker: a subscription that publishes.
//!
//! An outage holds the lanes and counts as no attempt. What the broker refuses because of the event itself parks its key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensue_core::bus::{Bus, Declare, Mode, Outgoing, Topology};
use ensue_core::{
    BoxFuture, Channel, Code, CommandInfo, CommandSet, Error, EventType, Failure, Kind, Position, Recorded,
    SubscriptionName, Topic,
};
use smol_str::SmolStr;

use super::desired;
use super::gauge::Gauge;
use super::log_id::LogId;
use super::request::{End, Outbound};
use super::status::{Direction, LinkState};
use super::target::Target;
use super::{LINK, LOGS};
use crate::message::extension;
use crate::policy::{Settings, StartFrom};
use crate::progress::lock;
use crate::subscription::{Handled, Handler, Shared};

/// How often a paused relay looks whether it may go on.
const LOOK: Duration = Duration::from_secs(1);
/// Events that were confirmed although one before them was not, so many at most are remembered.
const AHEAD_MAX: usize = 65_536;

/// Takes the events of a topic to a broker.
pub struct Relay {
    name: String,
    link: Option<String>,
    bus: Arc<dyn Bus>,
    topic: Option<String>,
    commands: Vec<CommandInfo>,
    answers: bool,
    to: String,
    mode: Mode,
    declare: Declare,
    settings: Settings,
}

impl Relay {
    /// A relay of this name, which owns its checkpoints: it stands under `relay.NAME` among the subscriptions.
    pub fn new(name: &str, bus: Arc<dyn Bus>) -> Self {
        Self {
            name: name.to_owned(),
            link: None,
            bus,
            topic: None,
            commands: Vec::new(),
            answers: false,
            to: String::new(),
            mode: Mode::Binary,
            declare: Declare::Make,
            settings: Settings { batch: 256, ..Settings::HANDLER },
        }
    }

    /// The topic whose events it takes, of whatever type.
    #[must_use]
    pub fn topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.to_owned());
        self
    }

    /// The commands that it takes, where sagas of this application send them: they are handled elsewhere, and the answers come in
    /// by an [intake of answers](super::Intake::answers) of the same link.
    #[must_use]
    pub fn commands<C: CommandSet>(mut self) -> Self {
        self.commands.extend(C::types());
        self
    }

    /// Takes the answers to commands that came in by an [intake of commands](super::Intake::commands) of the same link.
    #[must_use]
    pub fn answers(mut self) -> Self {
        self.answers = true;
        self
    }

    /// Where to: what the broker calls a topic, an exchange, a subject or a bus.
    #[must_use]
    pub fn to(mut self, channel: &str) -> Self {
        channel.clone_into(&mut self.to);
        self
    }

    /// The link it belongs to, where several relays and intakes are one: what came in over a link is not sent back over it. Its
    /// own name where nothing is said.
    #[must_use]
    pub fn link(mut self, link: &str) -> Self {
        self.link = Some(link.to_owned());
        self
    }

    /// Attributes as headers, or all of the event as a document.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How many keys are published side by side, at most.
    #[must_use]
    pub fn lanes(mut self, lanes: u16) -> Self {
        self.settings.lanes = lanes.max(1);
        self
    }

    /// Most events that a lane publishes at once.
    #[must_use]
    pub fn batch(mut self, events: usize) -> Self {
        self.settings.batch = events.max(1);
        self
    }

    /// Where to begin when it has never run before; with the first event of the log where nothing is said.
    #[must_use]
    pub fn starting(mut self, start: StartFrom) -> Self {
        self.settings.start = start;
        self
    }

    /// Makes nothing in the broker: what is missing there is an error, and everything waits.
    #[must_use]
    pub fn without_declaring(mut self) -> Self {
        self.declare = Declare::DryRun;
        self
    }

    /// What it needs of the broker.
    pub fn topology(&self) -> Result<Topology, Error> {
        Ok(Topology { targets: vec![Channel::new(&self.to)?], sources: Vec::new() })
    }

    /// Its subscription.
    pub(crate) fn subscription(&self) -> String {
        format!("relay.{}", self.name)
    }

    /// Checks what was said, and makes of it what can be mounted.
    pub(crate) fn mounted(self) -> Result<Mounted, Error> {
        let name = SubscriptionName::new(self.subscription())?;
        let to = Channel::new(&self.to)?;
        let link = SmolStr::from(self.link.as_deref().unwrap_or(&self.name));
        let takes = self.takes(&name, &link)?;
        let (bus, mode, declare, settings) = (self.bus, self.mode, self.declare, self.settings);
        let end = End::new(name.as_str(), &link, &self.commands, self.answers);
        Ok(Mounted { name: name.as_str().into(), link, bus, takes, end, to, mode, declare, settings })
    }

    fn takes(&self, name: &SubscriptionName, link: &str) -> Result<Outbound, Error> {
        match (&self.topic, &*self.commands, self.answers) {
            (Some(topic), [], false) => {
                let topic = Topic::new(topic)?;
                if topic.is_reserved() {
                    let message = format!("{name} takes topic `{topic}`, which is Ensue's own");
                    return Err(Error::new(Code::LINK_INVALID, message).with_fix(
                        "relay a topic of events; what sagas send goes out by `.commands::<C>()` of a relay",
                    ));
                }
                Ok(Outbound::Topic(topic))
            }
            (None, [_, ..], false) => Outbound::commands(&self.commands),
            (None, [], true) => Outbound::answers(link),
            _ => {
                let message = format!("{name} takes nothing, or several things");
                Err(Error::new(Code::LINK_INVALID, message)
                    .with_fix("give it one of `.topic(\"…\")`, `.commands::<C>()` and `.answers()`"))
            }
        }
    }
}

/// A relay that holds together.
pub(crate) struct Mounted {
    pub(crate) name: SmolStr,
    link: SmolStr,
    bus: Arc<dyn Bus>,
    takes: Outbound,
    pub(crate) end: End,
    to: Channel,
    mode: Mode,
    declare: Declare,
    pub(crate) settings: Settings,
}

impl Mounted {
    /// The relay as the lanes run it.
    pub(crate) fn handler(self, shared: &Arc<Shared>) -> Arc<dyn Handler> {
        let Self { name, link, bus, takes, to, mode, declare, settings, .. } = self;
        let now = shared.press.host.clock.now();
        let gauge = Gauge::new((name, link), Direction::Relay, bus.capabilities(), to, now);
        let gauge = shared.links.enter(gauge.takes(takes.clone()));
        Arc::new(RelayHandler {
            takes,
            mode,
            timeout: settings.timeout,
            target: shared.links.aim(Target::new(bus, declare, Arc::clone(&gauge))),
            gauge,
            shared: Arc::clone(shared),
            ahead: Mutex::default(),
        })
    }
}

struct RelayHandler {
    takes: Outbound,
    mode: Mode,
    timeout: Duration,
    target: Arc<Target>,
    gauge: Arc<Gauge>,
    shared: Arc<Shared>,
    /// Confirmed, although one before them in their lane was not: not to be published again.
    ahead: Mutex<HashSet<Position>>,
}

impl RelayHandler {
    async fn publish(&self, batch: &[Recorded]) -> Handled {
        let mut done = Handled::default();
        let clock = &*self.shared.press.host.clock;
        if let Err(error) = self.target.declare(clock).await {
            // Whatever is wrong with where they go, the events are not to blame.
            done.failure = Some(Failure::Later(self.gauge.fails(&error, clock)));
            return done;
        }
        let log = match LogId::of(&self.shared).await {
            Ok(log) => log,
            Err(error) => {
                done.failure = Some(self.failure_of(error).await);
                return done;
            }
        };
        let is_done = {
            let mut ahead = lock(&self.ahead);
            batch
                .iter()
                .map(|recorded| ahead.remove(&recorded.position) || self.came_this_way(recorded))
                .collect::<Vec<_>>()
        };
        let open = batch.iter().zip(&is_done).filter(|(_, is_done)| !**is_done);
        let outgoing: Vec<Outgoing> = open.map(|(recorded, _)| self.outgoing(recorded, &log)).collect();
        let answers = self.send(outgoing).await;
        self.take_answers(batch, &is_done, answers, &mut done).await;
        done
    }

    /// Counts up to the first that was not confirmed, and remembers those behind it that were.
    async fn take_answers(
        &self,
        batch: &[Recorded],
        is_done: &[bool],
        answers: Vec<Result<(), Error>>,
        done: &mut Handled,
    ) {
        let mut answers = answers.into_iter();
        let mut passed = 0;
        for (recorded, is_done) in batch.iter().zip(is_done) {
            let answer = if *is_done { Ok(()) } else { answers.next().unwrap_or_else(|| Err(unanswered())) };
            passed += u64::from(!*is_done && answer.is_ok());
            match (answer, &done.failure) {
                (Ok(()), None) => done.count += 1,
                (Ok(()), Some(_)) => self.remember(recorded.position),
                (Err(error), None) => done.failure = Some(self.failure_of(error).await),
                (Err(_), Some(_)) => {}
            }
        }
        self.gauge.count(|counts| counts.passed += passed);
        if done.failure.is_none() {
            self.gauge.works(self.shared.press.host.clock.now());
        }
    }

    fn remember(&self, position: Position) {
        let mut ahead = lock(&self.ahead);
        // What is forgotten is published twice, which whoever takes it in recognises.
        if ahead.len() >= AHEAD_MAX {
            ahead.clear();
        }
        ahead.insert(position);
    }

    /// Whether the event came in over the link that this relay belongs to.
    fn came_this_way(&self, recorded: &Recorded) -> bool {
        let came = extension(&recorded.envelope, LINK) == Some(self.gauge.link.as_str());
        if came {
            self.gauge.count(|counts| counts.looped += 1);
        }
        came
    }

    fn outgoing(&self, recorded: &Recorded, log: &LogId) -> Outgoing {
        let mut envelope = recorded.envelope.clone();
        envelope.extensions.retain(|(name, _)| name != LINK);
        log.mark(&mut envelope);
        self.takes.address(&mut envelope, log);
        debug_assert!(extension(&envelope, LOGS).is_some(), "it says where it has been");
        let stream = self.takes.stream(recorded);
        Outgoing { to: self.gauge.channel.clone(), stream, envelope, mode: self.mode }
    }

    /// Publishes, but does not wait for a driver that never answers.
    async fn send(&self, outgoing: Vec<Outgoing>) -> Vec<Result<(), Error>> {
        let count = outgoing.len();
        if count == 0 {
            return Vec::new();
        }
        tokio::select! {
            biased;
            answers = self.target.bus.publish(outgoing) => answers.into_iter().map(|answer| answer.map(drop)).collect(),
            () = self.shared.press.host.clock.sleep(self.timeout) => (0..count).map(|_| Err(unanswered())).collect(),
        }
    }

    /// What a failure means for the delivery: it waits where the broker is what is wrong, and is refused where the event is.
    async fn failure_of(&self, error: Error) -> Failure {
        let clock = &self.shared.press.host.clock;
        let is_of_the_event = match error.code() {
            Code::BUS_UNROUTABLE => self.target.is_there(&**clock).await,
            _ => is_of_the_event(&error),
        };
        if is_of_the_event {
            self.gauge.works(clock.now());
            self.gauge.troubled(&error, clock.now());
            return Failure::Rejected(error);
        }
        if is_unclear(&error) {
            self.gauge.troubled(&error, clock.now());
            return Failure::Failed(error);
        }
        Failure::Later(self.gauge.fails(&error, &**clock))
    }
}

/// Whether another event could be published all the same. What the broker's address says holds for all of them.
fn is_of_the_event(error: &Error) -> bool {
    error.code() == Code::TOO_LARGE
        || error.code() != Code::BUS_ADDRESS && matches!(error.kind(), Kind::Invalid | Kind::Unsupported)
}

/// Whether nobody knows if it is the event or the broker: it is tried as often as a handler that fails.
fn is_unclear(error: &Error) -> bool {
    error.code() == Code::BUS_REFUSED || error.kind() == Kind::Corrupt
}

fn unanswered() -> Error {
    Error::new(Code::BUS_TIMEOUT, "the driver gave no answer for the event")
}

impl Handler for RelayHandler {
    fn types(&self) -> Vec<EventType> {
        match &self.takes {
            Outbound::Topic(_) => Vec::new(),
            Outbound::Commands(types) => types.clone(),
        }
    }

    fn topic(&self) -> Option<&Topic> {
        match &self.takes {
            Outbound::Topic(topic) => Some(topic),
            Outbound::Commands(_) => None,
        }
    }

    fn key<'a>(&self, recorded: &'a Recorded) -> &'a str {
        self.takes.key(recorded)
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            LogId::of(&self.shared).await?;
            desired::heed_first(&self.shared, &self.gauge).await
        })
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], _attempt: u32) -> BoxFuture<'a, Handled> {
        Box::pin(async move {
            if self.gauge.is_paused() {
                self.gauge.is_in(LinkState::Paused, self.shared.press.host.clock.now());
                return Handled { wait: Some(LOOK), ..Handled::default() };
            }
            self.publish(batch).await
        })
    }
}
