//! From a broker to the log: what an intake is told, and what it is made of.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Consume, Declare, Feed, Topology};
use ensue_core::{Channel, Code, CommandInfo, CommandSet, Error, EventType, Source, SubscriptionName, Topic};
use smol_str::SmolStr;

use super::gauge::Gauge;
use super::parked::{self, Rereading};
use super::pick::Pick;
use super::read::Reader;
use super::request::{End, Inbound};
use super::session::Session;
use super::status::Direction;
use crate::policy::Settings;
use crate::subscription::{Handler, Shared};

/// How long a broker may deliver a message again, where nothing is said.
const REDELIVERY: Duration = Duration::from_hours(24);

/// Brings the messages of a channel into the log.
pub struct Intake {
    name: String,
    link: Option<String>,
    bus: Arc<dyn Bus>,
    from: String,
    group: Option<String>,
    fed_by: Option<(String, Option<String>)>,
    topic: Option<String>,
    event_type: Option<Pick>,
    key: Option<Pick>,
    id: Option<Pick>,
    source: Option<String>,
    window: Option<Duration>,
    redelivery: Duration,
    declare: Declare,
    batch: usize,
    commands: Vec<CommandInfo>,
    answers: bool,
}

impl Intake {
    /// An intake of this name: its dead letters stand under `intake.NAME`.
    pub fn new(name: &str, bus: Arc<dyn Bus>) -> Self {
        Self {
            name: name.to_owned(),
            link: None,
            bus,
            from: String::new(),
            group: None,
            fed_by: None,
            topic: None,
            event_type: None,
            key: None,
            id: None,
            source: None,
            window: None,
            redelivery: REDELIVERY,
            declare: Declare::Make,
            batch: 256,
            commands: Vec::new(),
            answers: false,
        }
    }

    /// From where: what the broker calls a topic, a queue, a subject or a subscription.
    #[must_use]
    pub fn from(mut self, channel: &str) -> Self {
        channel.clone_into(&mut self.from);
        self
    }

    /// What feeds the channel, where the broker tells what is published to from what is consumed, and which of it; it is
    /// declared at the start. A broker that does not tell them apart refuses it (`E0510`).
    #[must_use]
    pub fn fed_by(mut self, channel: &str, filter: Option<&str>) -> Self {
        self.fed_by = Some((channel.to_owned(), filter.map(str::to_owned)));
        self
    }

    /// What comes are these commands, which this application handles. The answers go back by a
    /// [relay of answers](super::Relay::answers) of the same link.
    #[must_use]
    pub fn commands<C: CommandSet>(mut self) -> Self {
        self.commands.extend(C::types());
        self
    }

    /// What comes are the answers to commands that went out by a [relay of commands](super::Relay::commands) of the same link. Those
    /// to commands of another log are left to that log.
    #[must_use]
    pub fn answers(mut self) -> Self {
        self.answers = true;
        self
    }

    /// The consumer group. Where nothing is said it is made of the link and who the log is, so that each log gets everything
    /// and the processes that share one share its messages.
    #[must_use]
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// The link it belongs to; see [`Relay::link`](super::Relay::link).
    #[must_use]
    pub fn link(mut self, link: &str) -> Self {
        self.link = Some(link.to_owned());
        self
    }

    /// The topic that everything goes to. Where nothing is said, the event's own, or that of its type.
    #[must_use]
    pub fn topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.to_owned());
        self
    }

    /// Where the type of a foreign message is found.
    #[must_use]
    pub fn event_type(mut self, pick: Pick) -> Self {
        self.event_type = Some(pick);
        self
    }

    /// Where the key is found. Where nothing is said, the event's own, that of its type, or the broker's.
    #[must_use]
    pub fn key(mut self, pick: Pick) -> Self {
        self.key = Some(pick);
        self
    }

    /// Where the id of a foreign message is found. Where nothing is said, it is the id that the sender's framework gave it, or
    /// the place where the broker keeps it, or, where the broker has none, made of its content: then two equal messages count
    /// as one. The attribute `idfrom` of the event says which.
    #[must_use]
    pub fn id(mut self, pick: Pick) -> Self {
        self.id = Some(pick);
        self
    }

    /// Who a message is from that does not say it; the broker and the channel where nothing is said.
    #[must_use]
    pub fn source(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }

    /// For how long ids are remembered; the window of the application where nothing is said.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = Some(window);
        self
    }

    /// For how long the broker may deliver a message again, the time in its dead letters included; a day where nothing is
    /// said. The window must be longer.
    #[must_use]
    pub fn redelivered_within(mut self, age: Duration) -> Self {
        self.redelivery = age;
        self
    }

    /// Makes nothing in the broker: what is missing there is an error, and the intake waits.
    #[must_use]
    pub fn without_declaring(mut self) -> Self {
        self.declare = Declare::DryRun;
        self
    }

    /// Most messages that share one commit.
    #[must_use]
    pub fn batch(mut self, messages: usize) -> Self {
        self.batch = messages.max(1);
        self
    }

    /// What it needs of the broker, for a group of this name.
    pub fn topology(&self, group: &str) -> Result<Topology, Error> {
        let group = SubscriptionName::new(self.group.as_deref().unwrap_or(group))?;
        let consume = Consume { group, from: Channel::new(&self.from)?, fed_by: self.feed()? };
        Ok(Topology { targets: Vec::new(), sources: vec![consume] })
    }

    fn feed(&self) -> Result<Option<Feed>, Error> {
        let Some((from, filter)) = &self.fed_by else { return Ok(None) };
        let capabilities = self.bus.capabilities();
        if !capabilities.can_feed {
            let (name, broker) = (&self.name, capabilities.name);
            let message =
                format!("intake.{name} is fed by `{from}`, and on {broker} no channel is fed by another one");
            let fix = format!("leave `fed_by` out, or take in `{from}` itself if that is what is meant");
            return Err(Error::new(Code::LINK_INVALID, message).with_fix(fix));
        }
        Ok(Some(Feed { from: Channel::new(from)?, filter: filter.as_deref().map(SmolStr::from) }))
    }

    /// Checks what was said, and makes of it what can be mounted.
    pub(crate) fn mounted(self) -> Result<Mounted, Error> {
        let name = SubscriptionName::new(format!("intake.{}", self.name))?;
        let topic = self.topic.as_ref().map(Topic::new).transpose()?;
        if let Some(topic) = topic.as_ref().filter(|topic| topic.is_reserved()) {
            let message = format!("{name} brings messages to topic `{topic}`, which Ensue writes alone");
            return Err(Error::new(Code::LINK_INVALID, message).with_fix("name a topic of your own"));
        }
        let takes = self.takes(&name)?;
        let capabilities = self.bus.capabilities();
        let reader = Reader {
            link: self.link.as_deref().unwrap_or(&self.name).into(),
            takes,
            backend: capabilities.name,
            binding: capabilities.binding,
            topic,
            event_type: self.event_type.clone(),
            key: self.key.clone(),
            id: self.id.clone(),
            source: self.source.as_ref().map(Source::new).transpose()?,
        };
        Ok(Mounted {
            kept_in: parked::topic(name.as_str())?,
            event_type: EventType::new(parked::UNREADABLE)?,
            name: name.as_str().into(),
            from: Channel::new(&self.from)?,
            group: self.group.as_ref().map(SubscriptionName::new).transpose()?,
            fed_by: self.feed()?,
            bus: self.bus,
            declare: self.declare,
            batch: self.batch,
            window: self.window,
            redelivery: self.redelivery,
            end: End::new(name.as_str(), &reader.link, &self.commands, self.answers),
            reader,
        })
    }

    fn takes(&self, name: &SubscriptionName) -> Result<Inbound, Error> {
        match (&*self.commands, self.answers) {
            ([], false) => Ok(Inbound::Events),
            _ if self.topic.is_some() => {
                let message = format!("{name} brings commands or answers in, which have no topic");
                Err(Error::new(Code::LINK_INVALID, message).with_fix("leave `topic` out"))
            }
            ([], true) => Ok(Inbound::Answers),
            (commands, false) => {
                Ok(Inbound::Commands(commands.iter().map(|command| command.command_type.into()).collect()))
            }
            (_, true) => {
                let message = format!("{name} takes commands and answers");
                Err(Error::new(Code::LINK_INVALID, message)
                    .with_fix("mount an intake for each, on a channel of its own"))
            }
        }
    }
}

/// An intake that holds together.
pub(crate) struct Mounted {
    pub(crate) name: SmolStr,
    kept_in: Topic,
    event_type: EventType,
    from: Channel,
    group: Option<SubscriptionName>,
    fed_by: Option<Feed>,
    bus: Arc<dyn Bus>,
    declare: Declare,
    batch: usize,
    window: Option<Duration>,
    redelivery: Duration,
    pub(crate) end: End,
    reader: Reader,
}

impl Mounted {
    pub(crate) const SETTINGS: Settings = Settings { lanes: 1, ..Settings::HANDLER };

    /// Whether ids are remembered for longer than they can come again; `window` is that of the application.
    pub(crate) fn check(&self, window: Duration) -> Result<(), Error> {
        let window = self.window.unwrap_or(window);
        if window > self.redelivery {
            return Ok(());
        }
        let (name, redelivery) = (&self.name, self.redelivery);
        let message = format!(
            "{name} remembers ids for {window:?}, and the broker may deliver a message again for {redelivery:?}"
        );
        Err(Error::new(Code::LINK_INVALID, message).with_fix(
            "make `window` longer, or say with `redelivered_within` for how long the broker really does",
        ))
    }

    /// The subscription that reads again what could not be read.
    pub(crate) fn handler(&self, shared: &Arc<Shared>) -> Arc<dyn Handler> {
        Arc::new(Rereading {
            reader: self.reader.clone(),
            topic: self.kept_in.clone(),
            event_type: self.event_type.clone(),
            door: shared.door().window(self.window_in(shared)),
            shared: Arc::clone(shared),
        })
    }

    fn window_in(&self, shared: &Shared) -> Duration {
        self.window.unwrap_or(shared.window)
    }

    /// What takes in what comes.
    pub(crate) fn session(&self, shared: &Arc<Shared>) -> Session {
        let (now, window) = (shared.press.host.clock.now(), self.window_in(shared));
        let names = (self.name.clone(), self.reader.link.clone());
        let gauge = Gauge::new(names, Direction::Intake, self.bus.capabilities(), self.from.clone(), now);
        Session {
            bus: Arc::clone(&self.bus),
            group: self.group.clone(),
            fed_by: self.fed_by.clone(),
            declare: self.declare,
            batch: self.batch,
            reader: self.reader.clone(),
            door: shared.door().window(window),
            gauge: shared.links.enter(gauge.window(window)),
            shared: Arc::clone(shared),
        }
    }
}
