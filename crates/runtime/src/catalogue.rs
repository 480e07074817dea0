//! What an application declares: events, commands, who consumes and who causes what. Known before a message flows,
//! stored beside the data so that tools can read it without the application.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ensue_core::{Code, Commit, Error, EventInfo, RecordScan, RecordWrite, Store, StoreExt, Timestamp};
use serde::{Deserialize, Serialize};

use crate::spaces::{self, CATALOGUE};

mod mermaid;
mod warnings;
pub(crate) use warnings::span;

/// The declared topology of one application.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Catalogue {
    /// Its name, the `source` of its events.
    pub application: String,
    /// The version of its code, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How long ids are remembered at its door, in seconds; seven days where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
    /// Every handler, in the order in which they were mounted.
    pub handlers: Vec<HandlerEntry>,
    /// Every event type.
    pub events: BTreeMap<String, EventEntry>,
    /// Types that come from outside.
    pub external: BTreeSet<String>,
    /// Declared kinds of flow.
    pub flows: Vec<FlowEntry>,
}

/// One handler.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandlerEntry {
    /// The name that owns the checkpoints.
    pub name: String,
    /// The service it belongs to; the application where none was named.
    pub service: String,
    /// What it is.
    pub kind: HandlerKind,
    /// Event types, or the command type, it takes.
    pub consumes: Vec<String>,
    /// Event types it can cause.
    pub causes: Vec<String>,
    /// How many lanes it has.
    pub lanes: u16,
    /// How long it can take until its retries have run out, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms_max: Option<u64>,
    /// Who looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// What a handler is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandlerKind {
    /// Event in, events out.
    Reaction,
    /// Command in, answer out.
    Command,
    /// Feeds a read model.
    Projection,
    /// A durable workflow.
    Saga,
    /// Takes events to a broker.
    Relay,
    /// Brings messages of a broker in.
    Intake,
}

impl HandlerKind {
    /// Whether what it takes are commands: it handles them, or takes them to whoever does.
    pub(crate) fn takes_commands(self) -> bool {
        matches!(self, Self::Command | Self::Relay)
    }

    /// Whether it is one end of a link.
    pub(crate) fn is_link(self) -> bool {
        matches!(self, Self::Relay | Self::Intake)
    }
}

/// One event type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventEntry {
    /// Newest schema version.
    pub version: u32,
    /// Category of its streams.
    pub topic: String,
    /// The field that holds the key; empty where it is computed.
    pub key_field: String,
}

/// A declared kind of flow.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FlowEntry {
    /// Its name, such as `order`.
    pub name: String,
    /// What begins one.
    pub starts: Vec<String>,
    /// What completes it: any of these.
    pub ends: Vec<String>,
    /// What makes it a failed one: any of these.
    pub fails: Vec<String>,
    /// For a failure after which things are undone: the event that says they are.
    #[serde(default)]
    pub undone: BTreeMap<String, String>,
    /// What needs a person: it neither ends the flow nor can anybody here go on.
    #[serde(default)]
    pub attention: Vec<String>,
    /// How long one may take, in milliseconds.
    #[serde(default)]
    pub within_ms: Option<u64>,
}

impl FlowEntry {
    /// Whether the declaration says how such a flow ends.
    pub fn has_ends(&self) -> bool {
        !self.ends.is_empty()
    }

    /// When one that began at `start` is late.
    pub fn deadline(&self, start: Timestamp) -> Option<Timestamp> {
        start.checked_add(Duration::from_millis(self.within_ms?)).ok()
    }
}

impl Catalogue {
    pub(crate) fn add_event(&mut self, info: &EventInfo) -> Result<(), Error> {
        let entry = EventEntry {
            version: info.version,
            topic: info.topic.to_owned(),
            key_field: info.key_field.to_owned(),
        };
        match self.events.get(info.event_type) {
            Some(known) if *known != entry => Err(Error::new(
                Code::DUPLICATE_TYPE,
                format!(
                    "event type {} is declared twice, differently: {known:?} and {entry:?}",
                    info.event_type
                ),
            )),
            Some(_) => Ok(()),
            None => {
                self.events.insert(info.event_type.to_owned(), entry);
                Ok(())
            }
        }
    }

    /// How long ids are remembered at its door.
    pub fn window(&self) -> Duration {
        self.window_seconds.map_or(crate::door::WINDOW, Duration::from_secs)
    }

    /// How long a tool remembers ids that it takes in for these applications: as long as the one that remembers longest.
    pub fn longest_window(catalogues: &[Self]) -> Duration {
        catalogues.iter().map(Self::window).max().unwrap_or(crate::door::WINDOW)
    }

    /// The handlers that take this type.
    pub fn consumers<'a>(&'a self, event_type: &'a str) -> impl Iterator<Item = &'a HandlerEntry> {
        self.handlers
            .iter()
            .filter(move |handler| handler.consumes.iter().any(|consumed| consumed == event_type))
    }

    /// The handlers that can cause this type.
    pub fn producers<'a>(&'a self, event_type: &'a str) -> impl Iterator<Item = &'a HandlerEntry> {
        self.handlers.iter().filter(move |handler| handler.causes.iter().any(|caused| caused == event_type))
    }

    /// A handler by its name.
    pub fn handler(&self, name: &str) -> Option<&HandlerEntry> {
        self.handlers.iter().find(|handler| handler.name == name)
    }

    /// Who looks after a handler, if anybody was named.
    pub fn owner_of(&self, handler: &str) -> Option<&str> {
        self.handler(handler)?.owner.as_deref()
    }

    /// The service a handler belongs to.
    pub fn service_of(&self, handler: &str) -> &str {
        self.handler(handler).map_or(self.application.as_str(), |handler| handler.service.as_str())
    }

    /// What does not hold together: errors that keep the application from starting.
    pub(crate) fn lint(&self) -> Result<(), Error> {
        let mut names = BTreeSet::new();
        let mut commands = BTreeSet::new();
        for handler in &self.handlers {
            if handler.kind.takes_commands()
                && let Some(command) = handler.consumes.iter().find(|command| !commands.insert(*command))
            {
                let message =
                    format!("command {command} has two handlers, or has one and goes out over a link");
                return Err(Error::new(Code::COMMAND_CONTESTED, message));
            }
            if !names.insert(&handler.name) {
                return Err(Error::new(
                    Code::DUPLICATE_HANDLER,
                    format!("two handlers are named {}", handler.name),
                ));
            }
        }
        self.handlers.iter().filter(|handler| !handler.kind.takes_commands()).try_for_each(|handler| {
            let orphan = handler.consumes.iter().find(|consumed| !self.is_produced(consumed));
            orphan.map_or(Ok(()), |orphan| {
                Err(Error::new(
                    Code::NEVER_PRODUCED,
                    format!("{} waits for {orphan}, which nothing emits", handler.name),
                ))
            })
        })
    }

    fn is_produced(&self, event_type: &str) -> bool {
        self.external.contains(event_type) || self.producers(event_type).next().is_some()
    }

    /// Stores the catalogue beside the data.
    pub(crate) async fn save(&self, store: &dyn Store) -> Result<(), Error> {
        let stored = store.record(CATALOGUE.clone(), self.application.clone()).await?;
        let value = spaces::encode(self);
        if stored.is_some_and(|stored| stored.value == value) {
            return Ok(());
        }
        let record = RecordWrite::put(CATALOGUE.clone(), self.application.clone(), value);
        store.commit(Commit { records: vec![record], ..Commit::default() }).await?;
        Ok(())
    }

    /// Everything that is declared in this store, by whatever application, as if it were one.
    pub async fn merged(store: &dyn Store) -> Result<Self, Error> {
        let mut all = Self::load(store).await?.into_iter();
        let mut catalogue = all.next().unwrap_or_default();
        for other in all {
            catalogue.handlers.extend(other.handlers);
            catalogue.events.extend(other.events);
            catalogue.external.extend(other.external);
            catalogue.flows.extend(other.flows);
        }
        Ok(catalogue)
    }

    /// The declared kind of flow that this type begins.
    pub fn flow_started_by(&self, event_type: &str) -> Option<&FlowEntry> {
        self.flows.iter().find(|flow| flow.starts.iter().any(|start| start == event_type))
    }

    /// The catalogues of every application that has run on this store.
    pub async fn load(store: &dyn Store) -> Result<Vec<Self>, Error> {
        let records = store.records(RecordScan::all(CATALOGUE.clone())).await?;
        records.iter().map(|record| spaces::decode("catalogue", &record.value)).collect()
    }
}
