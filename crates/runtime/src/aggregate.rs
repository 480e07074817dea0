//! Loading aggregates from their streams, deciding on them, and looking at them as they were.

use std::marker::PhantomData;
use std::sync::Arc;

use ensue_core::{
    Aggregate, Append, Code, Error, EventSet, Expected, Key, Position, Read, RecordWrite, Recorded, Store,
    StoreExt, StreamName, Timestamp, Topic, Version,
};
use futures_util::TryStreamExt;

use crate::blame::{Blame, Blamed, encoded};
use crate::message::{Origin, Press};
use crate::moment::Moment;
use crate::spaces::SNAPSHOT;

mod snapshot;
pub(crate) use snapshot::SnapshotLog;
pub use snapshot::{Kept, SnapshotCounts, SnapshotUse, kept};

/// Aggregates of one sort, read from a store.
pub struct Aggregates<A> {
    store: Arc<dyn Store>,
    of: PhantomData<fn() -> A>,
}

/// An aggregate at a version of its stream.
#[derive(Clone, Debug)]
pub struct Loaded<A> {
    /// The state.
    pub state: A,
    /// The version it stands at; zero if there is no such stream.
    pub version: Version,
    /// How many events were folded; the rest came from a snapshot.
    pub replayed: u64,
    /// Where the rest came from.
    pub snapshot: SnapshotUse,
    /// Of data, in the events since the snapshot.
    bytes: u64,
}

/// What a decision changes: the events, and the snapshot that is due with them.
pub(crate) type Changes = (Option<Append>, Option<RecordWrite>);

impl<A: Aggregate> Aggregates<A> {
    /// Reads from this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, of: PhantomData }
    }

    fn stream(key: &str) -> Result<StreamName, Error> {
        Ok(StreamName { topic: Topic::new(A::TOPIC)?, key: Key::new(key)? })
    }

    /// As it is now, starting from the newest snapshot.
    pub async fn load(&self, key: &str) -> Result<Loaded<A>, Error> {
        let stream = Self::stream(key)?;
        let mut loaded = self.snapshot(&stream).await?;
        let read = Read::stream(stream).from_version(loaded.version.next());
        loaded.fold(self.store.read(read)).await?;
        Ok(loaded)
    }

    /// As it was at a version; a version that is not reached yet gives the newest.
    pub async fn at_version(&self, key: &str, version: Version) -> Result<Loaded<A>, Error> {
        let read = Read::stream(Self::stream(key)?).to_version(version);
        let mut loaded = Loaded::empty();
        loaded.fold(self.store.read(read)).await?;
        Ok(loaded)
    }

    /// As it was when the log had reached a position.
    pub async fn at_position(&self, key: &str, position: Position) -> Result<Loaded<A>, Error> {
        let read = Read::stream(Self::stream(key)?).until(position);
        let mut loaded = Loaded::empty();
        loaded.fold(self.store.read(read)).await?;
        Ok(loaded)
    }

    /// As it was at a time, by when the store recorded the events.
    pub async fn at_time(&self, key: &str, time: Timestamp) -> Result<Loaded<A>, Error> {
        let mut events = self.store.read(Read::stream(Self::stream(key)?));
        let mut loaded = Loaded::empty();
        while let Some(recorded) = events.try_next().await? {
            if recorded.recorded_at > time {
                break;
            }
            loaded.apply(&recorded)?;
        }
        Ok(loaded)
    }

    /// Every field that its state ever had, with the event that changed it last up to a moment.
    pub async fn blame(&self, key: &str, moment: Moment) -> Result<Vec<Blamed>, Error> {
        let until = moment.position(&*self.store).await?;
        let mut events = self.store.read(Read::stream(Self::stream(key)?).until(until));
        let (mut loaded, mut blame) = (Loaded::<A>::empty(), Blame::default());
        while let Some(recorded) = events.try_next().await? {
            loaded.apply(&recorded)?;
            blame.observe(Some(&encoded(&loaded.state)), &recorded)?;
        }
        Ok(blame.into_fields())
    }

    async fn snapshot(&self, stream: &StreamName) -> Result<Loaded<A>, Error> {
        if !keeps_snapshots::<A>() {
            return Ok(Loaded::empty());
        }
        let record = self.store.record(SNAPSHOT.clone(), stream.to_string()).await?;
        Ok(match record.map(|record| snapshot::read::<A>(&record.value)) {
            None => Loaded::empty(),
            Some(Ok((state, version))) => {
                Loaded { state, version, snapshot: SnapshotUse::From(version), ..Loaded::empty() }
            }
            Some(Err(reason)) => Loaded { snapshot: SnapshotUse::Ignored(reason), ..Loaded::empty() },
        })
    }
}

fn keeps_snapshots<A: Aggregate>() -> bool {
    A::SNAPSHOT_EVERY > 0 || A::SNAPSHOT_BYTES > 0
}

impl<A: Aggregate> Loaded<A> {
    fn empty() -> Self {
        let (state, version) = (A::default(), Version::ZERO);
        Self { state, version, replayed: 0, snapshot: SnapshotUse::Absent, bytes: 0 }
    }

    /// `E0417` where events before it are gone.
    fn apply(&mut self, recorded: &Recorded) -> Result<(), Error> {
        if recorded.version != self.version.next() {
            let (stream, first, next) = (&recorded.stream, recorded.version, self.version.next());
            let message = format!("{stream} goes on at version {first}, and no longer holds version {next}");
            return Err(Error::new(Code::EVENTS_DROPPED, message));
        }
        self.state.evolve(&recorded.decode::<A::Event>()?);
        self.version = recorded.version;
        self.replayed += 1;
        self.bytes += recorded.envelope.data.len() as u64;
        Ok(())
    }

    async fn fold(
        &mut self,
        mut events: ensue_core::BoxStream<'_, Result<Recorded, Error>>,
    ) -> Result<(), Error> {
        while let Some(recorded) = events.try_next().await? {
            self.apply(&recorded)?;
        }
        Ok(())
    }

    /// Counts what became of the snapshot, where any are kept.
    pub(crate) fn note_snapshot(&self, key: &str, log: &SnapshotLog) -> Result<(), Error> {
        if keeps_snapshots::<A>() {
            log.note(&Aggregates::<A>::stream(key)?, &self.snapshot);
        }
        Ok(())
    }

    /// Decides, and says what to commit: nothing of it has happened yet. The inner error is the aggregate's refusal.
    pub(crate) fn decide(
        mut self,
        key: &str,
        command: A::Command,
        press: &Press,
        origin: &Origin,
    ) -> Result<Result<Changes, A::Error>, Error> {
        let events = match self.state.decide(command) {
            Ok(events) => events,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let before = self.version;
        let stream = Aggregates::<A>::stream(key)?;
        let mut envelopes = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            let (event_stream, envelope) = press.caused(event.draft()?, origin, index);
            if event_stream != stream {
                return Err(Error::new(
                    Code::RULE_BROKEN,
                    format!("{} of {stream} names another stream: {event_stream}", envelope.event_type),
                )
                .with_fix("an aggregate's events carry the aggregate's own topic and key"));
            }
            self.bytes += envelope.data.len() as u64;
            envelopes.push(envelope);
            self.state.evolve(event);
            self.version = self.version.next();
        }
        if envelopes.is_empty() {
            return Ok(Ok((None, None)));
        }
        let snapshot = self.due_snapshot(before, &stream);
        Ok(Ok((Some(Append { stream, expected: Expected::Exact(before), events: envelopes }), snapshot)))
    }

    /// The snapshot to keep with these events, if one is due.
    fn due_snapshot(&self, before: Version, stream: &StreamName) -> Option<RecordWrite> {
        let crossed = |version: Version| version.0.checked_div(A::SNAPSHOT_EVERY).unwrap_or_default();
        let is_long = crossed(self.version) != crossed(before);
        let is_heavy = A::SNAPSHOT_BYTES > 0 && self.bytes >= A::SNAPSHOT_BYTES;
        // One that was ignored is replaced at once: it would be ignored at every load.
        let is_useless = matches!(self.snapshot, SnapshotUse::Ignored(_));
        (is_long || is_heavy || is_useless).then(|| snapshot::write(stream, self.version, &self.state))
    }
}
