//! The subscription of a saga: starts instances, wakes them, and routes awaited events to them.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{
    Append, BoxFuture, Envelope, Error, EventInfo, EventType, Expected, Failure, Position, Read, RecordScan,
    RecordWrite, Recorded, Store, StoreExt, StreamName, Version,
};
use smol_str::SmolStr;

use super::child;
use super::journal::{Entry, Journal, REPLY_RECEIVED, WAKING, raw};
use super::turn::{Instance, Place, Turn};
use super::{Run, stream_of};
use crate::context::States;
use crate::effects::Effects;
use crate::message::{self, Origin};
use crate::pressure::Gate;
use crate::reaction::{context, one_by_one};
use crate::spaces::{self, AWAITED, WAITING};
use crate::subscription::{Handled, Handler, Shared};

mod parent;

pub(crate) struct SagaHandler {
    name: SmolStr,
    subscription: String,
    topic: String,
    starts: EventType,
    /// The commands by which other sagas start an instance, and send it back.
    by_parents: [EventType; 2],
    run: Run,
    shared: Arc<Shared>,
    states: Arc<States>,
    timeout: Duration,
    /// Types that instances wait for. Grows when an instance first waits for a type, before the wait is on record.
    awaited: RwLock<BTreeSet<EventType>>,
    /// Journals of instances that were awake lately. Only a shortcut: dropping any of them changes nothing.
    recent: moka::sync::Cache<SmolStr, Arc<Folded>>,
}

/// Journals kept at hand; about 4 KiB each.
const RECENT_MAX: u64 = 4_096;

/// A journal up to a version of its stream.
#[derive(Default)]
struct Folded {
    version: Version,
    journal: Journal,
}

impl SagaHandler {
    pub(crate) fn new(
        name: SmolStr,
        starts: EventInfo,
        run: Run,
        shared: Arc<Shared>,
        states: Arc<States>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        Ok(Self {
            subscription: format!("saga.{name}"),
            topic: format!("saga.{name}"),
            starts: EventType::new(starts.event_type)?,
            by_parents: [EventType::new(child::run_type(&name))?, EventType::new(child::undo_type(&name))?],
            name,
            run,
            shared,
            states,
            timeout,
            awaited: RwLock::default(),
            recent: moka::sync::Cache::new(RECENT_MAX),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn subscription(&self) -> &str {
        &self.subscription
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn shared_arc(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The record by which an awaited event finds its instance.
    fn wait_key(&self, event_type: &str, key: &str, instance: &str) -> Bytes {
        spaces::join(&[&self.name, event_type, key, instance])
    }

    pub(super) fn wait(&self, event_type: &str, key: &str, instance: &str) -> RecordWrite {
        let value = spaces::encode(&instance);
        RecordWrite::put(WAITING.clone(), self.wait_key(event_type, key, instance), value)
    }

    pub(super) fn stop_waiting(&self, event_type: &str, key: &str, instance: &str) -> RecordWrite {
        RecordWrite::delete(WAITING.clone(), self.wait_key(event_type, key, instance))
    }

    /// From now on events of this type are read. Returns the record that remembers it, if it is new.
    pub(super) fn learn(&self, event_type: &str) -> Result<Option<RecordWrite>, Error> {
        let event_type = EventType::new(event_type)?;
        let mut awaited = self.awaited.write().unwrap_or_else(PoisonError::into_inner);
        let record =
            RecordWrite::put(AWAITED.clone(), spaces::join(&[&self.name, event_type.as_str()]), Bytes::new());
        // Written even if known: an earlier turn that learned it may not have been committed.
        awaited.insert(event_type);
        Ok(Some(record))
    }

    async fn handle(&self, recorded: &Recorded, attempt: u32) -> Result<Effects, Failure> {
        if self.is_by_a_parent(recorded) {
            return self.serve_parent(recorded, attempt).await;
        }
        if recorded.stream.topic.as_str() == self.topic {
            return self.wake(recorded, attempt).await;
        }
        let mut effects = Effects::default();
        if recorded.envelope.event_type == self.starts && !recorded.stream.topic.is_reserved() {
            effects = self.start(recorded, attempt).await?;
        }
        // Behind the turn: the turn only goes where the journal ended, and this may be news for the same instance.
        effects.absorb(self.route(recorded).await.map_err(Failure::Failed)?);
        Ok(effects)
    }

    /// The turn that the answer to a command leads to, to be stored in the commit that answers it. `None` if there is
    /// nobody to take it now; the answer then goes into the stream alone, and is delivered.
    pub(crate) async fn answered(&self, stream: &StreamName, answer: Envelope) -> Option<Effects> {
        let instance = self.instance(stream.clone()).await.ok()?;
        instance.journal.start.as_ref()?;
        // Where several answers are awaited, they come together: one lane takes them one after the other, so that none has to be
        // worked out again because of another.
        if instance.journal.asked.iter().filter(|asked| asked.outcome.is_none()).count() > 1 {
            return None;
        }
        let entry = ensue_core::event::decode_body(&answer).ok()?;
        let (version, recorded_at) = (instance.version.next(), self.shared.press.host.clock.now());
        let (position, stream) = (Position::ZERO, stream.clone());
        let trigger = Recorded { position, stream, version, recorded_at, envelope: answer };
        let mut turn = Turn::new(self, instance, &trigger, Place::WithAnAnswer);
        turn.take_answer(&entry);
        // What goes wrong here goes wrong again in the saga's own lane, which has retries and a place for its dead.
        self.play(turn, &trigger, 1).await.ok()
    }

    /// The instance as it is stored now. What was folded before is kept for a while, so that an instance which is under
    /// way reads only what is new.
    async fn instance(&self, stream: StreamName) -> Result<Instance, Failure> {
        let key = stream.key.as_str();
        let known = self.recent.get(key).unwrap_or_default();
        let tail = Read::stream(stream.clone()).from_version(known.version.next());
        let events = self.shared.store.collect(tail).await.map_err(Failure::Failed)?;
        let Some(last) = events.last() else {
            return Ok(Instance { stream, journal: known.journal.clone(), version: known.version });
        };
        let mut journal = known.journal.clone();
        journal.extend(&events).map_err(Failure::Rejected)?;
        let folded = Folded { version: last.version, journal: journal.clone() };
        self.recent.insert(key.into(), Arc::new(folded));
        Ok(Instance { stream, journal, version: last.version })
    }

    async fn start(&self, recorded: &Recorded, attempt: u32) -> Result<Effects, Failure> {
        let stream = stream_of(&self.name, recorded.stream.key.as_str()).map_err(Failure::Rejected)?;
        let instance = self.instance(stream).await?;
        let is_running = instance.journal.start.is_some();
        let mut turn = Turn::new(self, instance, recorded, Place::OwnLane);
        let entry = if is_running {
            Entry::StartIgnored { event_id: recorded.envelope.id.clone() }
        } else {
            Entry::Started {
                event_id: recorded.envelope.id.clone(),
                event_type: recorded.envelope.event_type.clone(),
                schema_version: recorded.envelope.schema_version,
                position: recorded.position,
                event: raw(&recorded.envelope.data).map_err(Failure::Rejected)?,
                parent: None,
            }
        };
        turn.write(&entry).map_err(Failure::Rejected)?;
        self.play(turn, recorded, attempt).await
    }

    async fn wake(&self, recorded: &Recorded, attempt: u32) -> Result<Effects, Failure> {
        let is_answer = recorded.envelope.event_type.as_str() == REPLY_RECEIVED;
        let known = self.recent.get(recorded.stream.key.as_str());
        if is_answer && known.is_some_and(|known| known.journal.played > recorded.version) {
            return Ok(Effects::default());
        }
        let instance = self.instance(recorded.stream.clone()).await?;
        // A turn that stands behind the answer has seen it, because a turn only goes where its journal ended.
        if is_answer && instance.journal.played > recorded.version {
            return Ok(Effects::default());
        }
        self.play(Turn::new(self, instance, recorded, Place::OwnLane), recorded, attempt).await
    }

    async fn play(&self, turn: Turn<'_>, recorded: &Recorded, attempt: u32) -> Result<Effects, Failure> {
        let states = Arc::clone(&self.states);
        let context =
            context(states, recorded, &self.subscription, attempt, self.timeout, &self.shared.press);
        turn.play(&context).await
    }

    /// Tells every instance that waits for such an event.
    async fn route(&self, recorded: &Recorded) -> Result<Effects, Error> {
        let mut effects = Effects::default();
        let event_type = &recorded.envelope.event_type;
        if !self.awaited.read().unwrap_or_else(PoisonError::into_inner).contains(event_type) {
            return Ok(effects);
        }
        let key = recorded.stream.key.as_str();
        let scan =
            RecordScan::prefix(WAITING.clone(), spaces::within(&[&self.name, event_type.as_str(), key]));
        let entry = Entry::EventNoticed {
            event_type: event_type.to_string(),
            key: key.to_owned(),
            event_id: recorded.envelope.id.clone(),
        };
        for (index, waiting) in self.shared.store.records(scan).await?.into_iter().enumerate() {
            let instance: String = spaces::decode("waiting", &waiting.value)?;
            let origin = Origin::of(&recorded.envelope, &format!("{}.route", self.subscription));
            let draft = entry.draft(stream_of(&self.name, &instance)?)?;
            let (stream, envelope) = self.shared.press.caused(draft, &origin, index);
            // The wait stays on record until a turn has taken an event for it.
            effects.appends.push(Append { stream, expected: Expected::Any, events: vec![envelope] });
        }
        Ok(effects)
    }
}

/// The key of the instance that a parent means.
fn child_key(recorded: &Recorded) -> &str {
    message::extension(&recorded.envelope, message::COMMAND_KEY).unwrap_or_default()
}

/// An instance, from the beginning of its stream.
pub(super) async fn load(store: &dyn Store, stream: StreamName) -> Result<Instance, Error> {
    let events = store.collect(Read::stream(stream.clone())).await?;
    let mut journal = Journal::default();
    journal.extend(&events)?;
    let version = events.last().map(|last| last.version).unwrap_or_default();
    Ok(Instance { stream, journal, version })
}

impl Handler for SagaHandler {
    fn types(&self) -> Vec<EventType> {
        let awaited = self.awaited.read().unwrap_or_else(PoisonError::into_inner);
        let waking = WAKING.iter().filter_map(|name| EventType::new(name).ok());
        let mut types: Vec<EventType> =
            waking.chain(awaited.iter().cloned()).chain(self.by_parents.iter().cloned()).collect();
        if !awaited.contains(&self.starts) {
            types.push(self.starts.clone());
        }
        types
    }

    fn key<'a>(&self, recorded: &'a Recorded) -> &'a str {
        if self.is_by_a_parent(recorded) { child_key(recorded) } else { recorded.stream.key.as_str() }
    }

    fn reads_own_writes(&self) -> bool {
        true
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.refresh()
    }

    /// Types that instances in other processes wait for. A wait that was stored before an event is found here before that
    /// event is read, so no event is passed over that somebody waits for.
    fn refresh(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let prefix = spaces::within(&[&self.name]);
            for record in
                self.shared.store.records(RecordScan::prefix(AWAITED.clone(), prefix.clone())).await?
            {
                let name =
                    String::from_utf8_lossy(record.key.get(prefix.len()..).unwrap_or_default()).into_owned();
                self.learn(&name)?;
            }
            Ok(())
        })
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], attempt: u32) -> BoxFuture<'a, Handled> {
        Box::pin(one_by_one(&self.shared, Gate::always_open(), batch, move |recorded| {
            let is_foreign = recorded.stream.topic.as_str().starts_with("saga.")
                && recorded.stream.topic.as_str() != self.topic
                && !self.is_by_a_parent(recorded);
            async move { if is_foreign { Ok(Effects::default()) } else { self.handle(recorded, attempt).await } }
        }))
    }
}
