//! Event-driven architecture in a box: the event store, the event bus and the saga engine are one log.
//!
//! This crate is the front door. It re-exports the vocabulary ([`core`]), the derives and the runtime, and opens the
//! embedded log. It adds nothing of its own but [`open`].

use std::path::Path;

pub use ensue_core as core;
pub use ensue_core::{
    Aggregate, Code, Emits, Error, EventId, Host, Kind, Outcome, Position, Read, Store, StoreExt, Timestamp,
    Version,
};
pub use ensue_core::{Command, CommandSet, Event, EventSet, Unknown};
pub use ensue_log as log;
pub use ensue_log::Log;
pub use ensue_macros::{Command, Emits, Event};
pub use ensue_runtime as runtime;
pub use ensue_runtime::{
    Aggregates, App, Attempt, Breaker, Cache, Cause, Collection, Dispatch, Flow, Fork, FromContext, Intake,
    LinkStatus, Meta, Missed, Moment, OnFailure, Pick, Projection, ProjectionExt, Rate, Reaction, Receipt,
    Relay, Retry, Running, Saga, SagaError, Schedule, Sharing, StartFrom, State, TableProjection,
    TableProjectionExt, Tick, Tx,
};

/// Opens the store in a folder with the defaults, and makes it if there is none.
///
/// One process owns a folder at a time (`E0401` for the next one). Recovery runs here, off the async threads; its time
/// grows with what was written since the last index flush, not with the store. Needs a tokio runtime.
pub async fn open(folder: impl AsRef<Path>) -> Result<Log, Error> {
    let folder = folder.as_ref().to_owned();
    let opening =
        tokio::task::spawn_blocking(move || Log::open(folder, log::Config::new(runtime::host::system())));
    opening
        .await
        .map_err(|cause| Error::new(Code::CLOSED, "opening the store was cancelled").with_source(cause))?
}

/// The README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The guides, compiled and run.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../../docs/guides/choreography-or-saga.md")]
    struct ChoreographyOrSaga;

    #[doc = include_str!("../../../docs/guides/test-your-first-saga.md")]
    struct TestYourFirstSaga;

    #[doc = include_str!("../../../docs/guides/errors-and-dead-letters.md")]
    struct ErrorsAndDeadLetters;

    #[doc = include_str!("../../../docs/guides/dependencies-that-fail.md")]
    struct DependenciesThatFail;

    #[doc = include_str!("../../../docs/guides/linking-a-broker.md")]
    struct LinkingABroker;

    #[doc = include_str!("../../../docs/guides/changing-a-saga.md")]
    struct ChangingASaga;

    #[doc = include_str!("../../../docs/guides/rebuilding-a-read-model.md")]
    struct RebuildingAReadModel;

    #[doc = include_str!("../../../docs/guides/read-models-in-sql.md")]
    struct ReadModelsInSql;
}
