//! The write side: one stream is the consistency boundary.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::command::CommandSet;
use crate::event::EventSet;

/// State folded from one stream, and the decisions made on it. Both functions are pure: no I/O, no clock, no panic.
///
/// State is serialisable so that it can be kept as a snapshot; [`Aggregate::SNAPSHOT_VERSION`] is raised when its shape changes,
/// and older snapshots are then ignored, or converted by [`Aggregate::upcast_state`].
pub trait Aggregate: Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What happens to it.
    type Event: EventSet;
    /// What can be asked of it.
    type Command: CommandSet;
    /// Why a command is refused; the `Failure` of each of its commands.
    type Error: Serialize + DeserializeOwned + std::fmt::Display + Send + Sync + 'static;
    /// The category of its streams.
    const TOPIC: &'static str;
    /// A snapshot is kept every so many events; zero keeps none.
    const SNAPSHOT_EVERY: u64 = 0;
    /// A snapshot is kept when the events since the last one have so many bytes of data; zero: they do not count.
    const SNAPSHOT_BYTES: u64 = 0;
    /// Shape of the serialised state.
    const SNAPSHOT_VERSION: u32 = 1;

    /// Makes of a snapshot of shape `from` one of shape `from + 1`; `None`, which is what it does unless it is written, if
    /// that cannot be done: the snapshot is ignored then, and the events are folded.
    fn upcast_state(_from: u32, _state: serde_json::Value) -> Option<serde_json::Value> {
        None
    }

    /// What the command causes, or why it is refused.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Self::Error>;

    /// The state after the event. Total: an event that happened cannot be refused.
    fn evolve(&mut self, event: &Self::Event);
}
