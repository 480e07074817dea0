//! Links without writing Rust: what a file says of them, and the relays and intakes that it makes.

use std::sync::Arc;

use ensue::core::{Bus, Channel, Code, Error, Topic};
use ensue::runtime::{App, Intake, Relay};

mod backend;
mod file;
mod secret;

pub(crate) use file::{File, Link};

impl Link {
    /// A connection to its broker. A broker that is away is no error, unless its driver says so.
    pub(crate) async fn open(&self, name: &str) -> Result<Arc<dyn Bus>, Error> {
        let connection = self.connection(name)?;
        backend::open(name, &self.backend, self.own.clone(), connection).await
    }

    /// Whether what is missing in the broker is made.
    pub(crate) fn declares(&self) -> bool {
        self.declare
    }

    /// What it is made of, without a connection: under which names it stands among the subscriptions.
    pub(crate) fn parts(&self, name: &str) -> Result<Vec<Part>, Error> {
        let relay = |entry: &file::Out| {
            Ok(Part {
                name: format!("relay.{name}.{}", entry.topic),
                channel: Channel::new(&entry.to)?,
                topic: Some(Topic::new(&entry.topic)?),
            })
        };
        let intake = |entry: &file::In| {
            let subscription = format!("intake.{name}.{}", plain(&entry.from));
            Ok(Part { name: subscription, channel: Channel::new(&entry.from)?, topic: None })
        };
        self.relay.iter().map(relay).chain(self.intake.iter().map(intake)).collect()
    }

    /// Mounts all that it is made of.
    pub(crate) fn mount(&self, name: &str, bus: &Arc<dyn Bus>, app: App) -> App {
        let app = self.relays(name, bus).into_iter().fold(app, App::relay);
        self.intakes(name, bus).into_iter().fold(app, App::intake)
    }

    /// Its relays, one for each topic.
    pub(crate) fn relays(&self, name: &str, bus: &Arc<dyn Bus>) -> Vec<Relay> {
        let relay = |entry: &file::Out| {
            let relay = Relay::new(&format!("{name}.{}", entry.topic), Arc::clone(bus));
            let relay = relay.link(name).topic(&entry.topic).to(&entry.to).mode(self.mode.into());
            if self.declare { relay } else { relay.without_declaring() }
        };
        self.relay.iter().map(relay).collect()
    }

    /// Its intakes, one for each channel.
    pub(crate) fn intakes(&self, name: &str, bus: &Arc<dyn Bus>) -> Vec<Intake> {
        self.intake.iter().map(|entry| self.intake(name, entry, bus)).collect()
    }

    fn intake(&self, name: &str, entry: &file::In, bus: &Arc<dyn Bus>) -> Intake {
        let mut intake = Intake::new(&format!("{name}.{}", plain(&entry.from)), Arc::clone(bus));
        intake = intake.link(name).from(&entry.from);
        if let Some(topic) = &entry.topic {
            intake = intake.topic(topic);
        }
        if let Some(pick) = &entry.event_type {
            intake = intake.event_type(pick.clone());
        }
        if let Some(pick) = &entry.key {
            intake = intake.key(pick.clone());
        }
        if let Some(pick) = &entry.id {
            intake = intake.id(pick.clone());
        }
        if let Some(source) = &entry.source {
            intake = intake.source(source);
        }
        if let Some(group) = entry.group.as_ref().or(self.group.as_ref()) {
            intake = intake.group(group);
        }
        if let Some(channel) = &entry.fed_by {
            intake = intake.fed_by(channel, entry.filter.as_deref());
        }
        if let Some(window) = self.window() {
            intake = intake.window(window);
        }
        if let Some(age) = self.redelivered_within() {
            intake = intake.redelivered_within(age);
        }
        if self.declare { intake } else { intake.without_declaring() }
    }
}

/// One relay or intake of a link.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) channel: Channel,
    /// What a relay takes.
    pub(crate) topic: Option<Topic>,
}

/// Channels may hold what names of subscriptions may not.
fn plain(channel: &str) -> String {
    channel
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' })
        .collect()
}

/// The error for something that a file says wrongly.
fn wrong(message: String, fix: &str) -> Error {
    Error::new(Code::LINK_INVALID, message).with_fix(fix)
}
