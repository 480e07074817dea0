//! The door: where events and commands come in from outside, each once.
//!
//! What came in is remembered by (source, id) for a window, [`WINDOW`] unless the application says otherwise, and for as
//! long as it is parked: the same again is a success that adds nothing, the same id with another body is a conflict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{
    Append, Code, Commit, CommitError, Envelope, Error, Event, EventId, EventInfo, Expected, Host, Place,
    Position, Read, RecordWrite, Recorded, Revision, Source, Store, StoreExt, StreamName, Timestamp, event,
};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::command::Answer;
use crate::projection::Inline;
use crate::spaces::{self, INBOX};

mod claim;
mod fingerprint;
mod held;
mod turns;
pub(crate) use claim::Claim;
pub(crate) use fingerprint::Fingerprint;
pub(crate) use held::{hold, let_go};
pub(crate) use turns::Turns;

/// How long an id is remembered where nothing else is said.
pub const WINDOW: Duration = Duration::from_hours(168);

/// Takes in events and commands.
pub struct Door {
    store: Arc<dyn Store>,
    host: Host,
    window: Duration,
    inline: Arc<Inline>,
}

/// What became of an event at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Admitted {
    /// Where it stands in the log.
    pub position: Position,
    /// Whether it had come in before: nothing was added.
    pub repeated: bool,
}

/// What is remembered under an id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Earlier {
    fingerprint: Fingerprint,
    pub(crate) position: Position,
    pub(crate) answer: Option<Answer>,
    /// Handlers that have the event parked; until they let go of it, the id does not lapse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held_by: Vec<SmolStr>,
}

impl Door {
    /// The door of this store.
    pub fn new(store: Arc<dyn Store>, host: Host) -> Self {
        Self { store, host, window: WINDOW, inline: Arc::default() }
    }

    /// Remembers ids for so long.
    #[must_use]
    pub fn window(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// Takes no events that are for the aggregates of an inline read model.
    pub(crate) fn beside(self, inline: Arc<Inline>) -> Self {
        Self { inline, ..self }
    }

    /// Appends an event unless it was appended before.
    ///
    /// Errors: `E0204` if the id was used for another body, `E0107` if it is too large, `E0108` for a topic that only
    /// Ensue writes to, `E0321` for an event that only aggregates may cause. Cancellation leaves the outcome open; calling again with the same event settles it.
    pub async fn admit(&self, stream: StreamName, envelope: Envelope) -> Result<Admitted, Error> {
        refuse_reserved(&stream)?;
        self.inline.refuse(envelope.event_type.as_str())?;
        let fingerprint = Fingerprint::of_event(&stream, &envelope);
        loop {
            if let Some(admitted) = self.known(&stream, &envelope, &fingerprint).await? {
                return Ok(admitted);
            }
            let record = self.remember(&envelope, &fingerprint, None);
            let append =
                Append { stream: stream.clone(), expected: Expected::Any, events: vec![envelope.clone()] };
            let commit = Commit { appends: vec![append], records: vec![record], ..Commit::default() };
            match self.store.commit(commit).await {
                Ok(committed) => {
                    return Ok(Admitted { position: committed.position(), repeated: committed.repeated });
                }
                // Somebody brought the same id at the same moment: look again.
                Err(CommitError::RecordConflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What [`Door::admit`] would find: where the event stands if it came in before, or the same errors. Adds nothing.
    pub async fn look(&self, stream: &StreamName, envelope: &Envelope) -> Result<Option<Admitted>, Error> {
        refuse_reserved(stream)?;
        self.inline.refuse(envelope.event_type.as_str())?;
        self.known(stream, envelope, &Fingerprint::of_event(stream, envelope)).await
    }

    async fn known(
        &self,
        stream: &StreamName,
        envelope: &Envelope,
        fingerprint: &Fingerprint,
    ) -> Result<Option<Admitted>, Error> {
        let Some(earlier) = self.earlier(envelope, fingerprint).await? else { return Ok(None) };
        Ok(Some(Admitted { position: self.find(envelope, stream, &earlier).await?, repeated: true }))
    }

    /// The position under which an event was appended before.
    async fn find(
        &self,
        envelope: &Envelope,
        stream: &StreamName,
        earlier: &Earlier,
    ) -> Result<Position, Error> {
        if earlier.position > Position::ZERO {
            return Ok(earlier.position);
        }
        // What comes in mostly begins its own flow, which is small; its stream may be long.
        for read in [Read::flow(envelope.flow().clone()), Read::stream(stream.clone())] {
            let mut events = self.store.read(read);
            while let Some(Recorded { position, envelope: stored, .. }) = events.try_next().await? {
                if (&stored.id, &stored.source) == (&envelope.id, &envelope.source) {
                    return Ok(position);
                }
            }
        }
        Ok(Position::ZERO)
    }

    /// What came in before under the same source and id; a conflict if it was something else.
    pub(crate) async fn earlier(
        &self,
        envelope: &Envelope,
        fingerprint: &Fingerprint,
    ) -> Result<Option<Earlier>, Error> {
        let Some(record) =
            self.store.record(INBOX.clone(), inbox_key(&envelope.source, &envelope.id)).await?
        else {
            return Ok(None);
        };
        let earlier: Earlier = spaces::decode("inbox", &record.value)?;
        if earlier.fingerprint != *fingerprint {
            return Err(Error::new(
                Code::DUPLICATE_ID,
                format!("id `{}` of source `{}` is taken by something else", envelope.id, envelope.source),
            ));
        }
        Ok(Some(earlier))
    }

    /// The write that remembers an id; it refuses one that is remembered already.
    pub(crate) fn remember(
        &self,
        envelope: &Envelope,
        fingerprint: &Fingerprint,
        answer: Option<&Answer>,
    ) -> RecordWrite {
        self.memory((&envelope.source, &envelope.id), fingerprint, answer).expect(Revision::ZERO)
    }

    /// The write that remembers another id of the same, whoever had it before.
    pub(crate) fn remember_also(
        &self,
        source: &Source,
        id: &EventId,
        fingerprint: &Fingerprint,
    ) -> RecordWrite {
        self.memory((source, id), fingerprint, None)
    }

    fn memory(
        &self,
        (source, id): (&Source, &EventId),
        fingerprint: &Fingerprint,
        answer: Option<&Answer>,
    ) -> RecordWrite {
        let earlier = Earlier {
            fingerprint: fingerprint.clone(),
            position: Position::ZERO,
            answer: answer.cloned(),
            held_by: Vec::new(),
        };
        RecordWrite::put(INBOX.clone(), inbox_key(source, id), spaces::encode(&earlier))
            .expires_at(lapse(self.host.clock.now(), self.window))
    }
}

fn refuse_reserved(stream: &StreamName) -> Result<(), Error> {
    if stream.topic.is_reserved() {
        return Err(Error::new(
            Code::RESERVED,
            format!("topic `{}` is written by Ensue alone", stream.topic),
        ));
    }
    Ok(())
}

/// When an id lapses that is remembered from now on.
pub(crate) fn lapse(now: Timestamp, window: Duration) -> Timestamp {
    now.checked_add(window).unwrap_or(Timestamp::MAX)
}

pub(crate) fn inbox_key(source: &Source, id: &EventId) -> Bytes {
    spaces::join(&[source.as_str(), id.as_str()])
}

/// Event types that are known by their Rust types: where they go, and what makes them valid.
#[derive(Clone, Default)]
pub struct Registry {
    known: BTreeMap<&'static str, Registration>,
}

/// One known event type.
#[derive(Clone, Copy)]
pub struct Registration {
    /// Type, topic and key.
    pub info: EventInfo,
    check: fn(&Envelope) -> Result<Place, Error>,
    upcast: fn(u32, &mut event::Body) -> Result<(), Error>,
}

impl Registry {
    /// Adds a type.
    #[must_use]
    pub fn event<E: Event>(mut self) -> Self {
        self.known.insert(
            E::INFO.event_type,
            Registration { info: E::INFO, check: check::<E>, upcast: event::upcast::<E> },
        );
        self
    }

    /// Adds all types of another registry.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.known.extend(other.known);
        self
    }

    /// The registration of a type.
    pub fn get(&self, event_type: &str) -> Option<&Registration> {
        self.known.get(event_type)
    }

    /// All known types.
    pub fn types(&self) -> impl Iterator<Item = &EventInfo> {
        self.known.values().map(|registration| &registration.info)
    }
}

impl Registration {
    /// Decodes and validates the body, and says where an application would have appended it. `E0105` if the body does not fit the type,
    /// `E0106` if it breaks a rule of the type, `E0110` if its version is newer than this program.
    pub fn check(&self, envelope: &Envelope) -> Result<Place, Error> {
        (self.check)(envelope)
    }

    /// Brings a stored body of a schema version up to the newest. `E0110` if the version is newer than this program.
    pub fn upcast(&self, version: u32, body: &mut event::Body) -> Result<(), Error> {
        (self.upcast)(version, body)
    }
}

fn check<E: Event>(envelope: &Envelope) -> Result<Place, Error> {
    let event: E = event::decode_event(envelope)?;
    check_rules(&event)?;
    Place::of(&event)
}

/// Whether an event keeps the rules of its type (`E0106`).
pub(crate) fn check_rules<E: Event>(event: &E) -> Result<(), Error> {
    event.validate().map_err(|rule| Error::new(Code::RULE_BROKEN, format!("{}: {rule}", E::INFO.event_type)))
}
