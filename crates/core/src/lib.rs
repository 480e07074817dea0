//! Vocabulary and ports of Ensue.
//!
//! Everything the crates of the workspace say to each other is said in these types: names, the envelope of an event,
//! queries and conditions, the one atomic [`Commit`], and the ports [`Store`] and [`Bus`].
//!
//! Invariants: no tokio, no threads, no files, no clocks, no drivers. Time and randomness come in through [`Host`].

pub mod aggregate;
pub mod bus;
pub mod capability;
pub mod cloudevents;
pub mod command;
pub mod commit;
pub mod emits;
pub mod envelope;
pub mod error;
pub mod event;
pub mod host;
pub mod later;
pub mod name;
pub mod outcome;
pub mod portable;
pub mod query;
pub mod record;
pub mod sql;
pub mod store;
pub mod transaction;

pub use aggregate::Aggregate;
pub use bus::{Bus, Consumer};
pub use capability::{BusCapabilities, StoreCapabilities};
pub use command::{Command, CommandInfo, CommandSet};
pub use commit::{Append, AppendCondition, Appended, Commit, CommitError, Committed, Durability, Expected};
pub use emits::Emits;
pub use envelope::{Envelope, Recorded, Trace};
pub use error::{Code, Error, Kind};
pub use event::{Draft, Event, EventInfo, EventSet, Place, Unknown};
pub use futures_util::future::BoxFuture;
pub use futures_util::stream::BoxStream;
pub use host::{Clock, Entropy, Host};
pub use jiff::Timestamp;
pub use later::{Delayed, Due, Later};
pub use name::{
    Channel, ContentType, EventId, EventType, Key, Position, Revision, Source, Space, StreamName,
    SubscriptionName, Tag, Topic, Version,
};
pub use outcome::{Failure, IntoOutcome, Outcome};
pub use portable::Portable;
pub use query::{Query, QueryItem};
pub use record::{Change, Record, RecordPage, RecordScan, RecordWrite};
pub use sql::{Replacement, RowDifference, SqlSession};
pub use store::{Direction, Read, Select, Store, StoreExt};
pub use transaction::Transaction;
