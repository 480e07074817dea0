//! Amazon `EventBridge` as a bus, with the queues of SQS behind it.
//!
//! ```no_run
//! # async fn open() -> Result<(), ensue_core::Error> {
//! let bus = ensue_eventbridge::Config::new("aws://eu-central-1").open().await?;
//! # let _ = bus;
//! # Ok(())
//! # }
//! ```
//!
//! A target is an event bus; a source is a queue of SQS, which a rule of an event bus feeds. The README has the table of what this broker
//! can do and where its limits are.
//!
//! Invariants: a message counts as published when `EventBridge` has answered for its own entry; two messages of one key are never in one
//! request; what is refused is safe in the dead letters before it is taken out of its queue; the driver shows nowhere.

mod capability;
mod client;
mod codec;
mod compact;
mod config;
mod consume;
mod error;
mod hand;
mod publish;
mod topology;

pub use client::EventbridgeBus;
pub use config::Config;
