//! Google Cloud Pub/Sub as a bus.
//!
//! ```no_run
//! # async fn open() -> Result<(), ensue_core::Error> {
//! let bus = ensue_pubsub::Config::new("pubsub://my-project").open().await?;
//! # let _ = bus;
//! # Ok(())
//! # }
//! ```
//!
//! What is published to is a topic; a consumer group is a subscription. The README has the table of what this broker can do and where
//! its limits are.
//!
//! Invariants: a message counts as published when the service has named it; messages of one key go out one behind the other's
//! confirmation, and a member has one message of a key in hand at a time; gRPC shows nowhere.

mod capability;
mod client;
mod codec;
mod config;
mod consume;
mod error;
mod hand;
mod lane;
mod login;
mod publish;
mod pull;
mod topology;
mod wire;

pub use client::PubsubBus;
pub use config::Config;
