//! Event-driven architecture in a box: the event store, the event bus and the saga engine are one log.
//!
//! This crate is the front door. It re-exports the vocabulary ([`core`]), the derives, and the runtime, and opens the
//! embedded log.

pub use ensue_core as core;
pub use ensue_core::{
    Aggregate, Code, Emits, Error, EventId, Host, Kind, Outcome, Position, Read, Store, StoreExt, Timestamp,
    Version,
};
pub use ensue_core::{Command, CommandSet, Event, EventSet, Unknown};
pub use ensue_macros::{Command, Emits, Event};
pub use ensue_runtime as runtime;
pub use ensue_runtime::{
    Aggregates, App, Attempt, Cache, Cause, Collection, Dispatch, Flow, FromContext, Meta, OnFailure,
    Projection, Reaction, Receipt, Retry, Running, Saga, SagaError, StartFrom, State,
};
