//! Applications that react: handlers, subscriptions, projections, sagas and flows over any [`Store`](ensue_core::Store).
//!
//! Invariants: no engine, no driver, no HTTP. The log is reached through the `Store` port alone; time and randomness
//! through [`Host`](ensue_core::Host). Nothing reacts but subscriptions, and each settles a delivery in one commit.

pub mod aggregate;
pub mod app;
pub mod blame;
pub mod cache;
pub mod catalogue;
pub mod collection;
pub mod command;
pub mod context;
pub mod dead;
pub mod door;
pub mod flow;
pub mod fork;
pub mod host;
pub mod link;
pub mod moment;
pub mod mounting;
pub mod policy;
pub mod pressure;
pub mod projection;
pub mod reaction;
pub mod saga;
pub mod schedule;
pub mod sharing;
pub mod timer;
mod transaction;

mod effects;
mod lane;
mod message;
mod progress;
mod spaces;
mod subscription;
mod tally;

pub use aggregate::Aggregates;
pub use app::{App, Receipt, Running};
pub use cache::Cache;
pub use catalogue::Catalogue;
pub use collection::Collection;
pub use command::{CommandHandler, Dispatch};
pub use context::{Attempt, Cause, Context, Flow, FromContext, Meta, State};
pub use ensue_core::{IntoOutcome, Outcome};
pub use fork::{Fork, ForkReport};
pub use link::{Intake, LinkStatus, Pick, Relay};
pub use moment::Moment;
pub use policy::{OnFailure, Retry, StartFrom};
pub use pressure::{Breaker, Rate};
pub use projection::{Projection, ProjectionExt};
pub use reaction::Reaction;
pub use saga::{Saga, SagaError, SagaFn};
pub use schedule::{Missed, Schedule, Tick};
pub use sharing::Sharing;
pub use timer::{TimerId, Timers};
pub use transaction::Tx;
