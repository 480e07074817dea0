//! NATS `JetStream` as a bus.
//!
//! ```no_run
//! # async fn open() -> Result<(), ensue_core::Error> {
//! let bus = ensue_nats::Config::new("nats://localhost:4222").open().await?;
//! # let _ = bus;
//! # Ok(())
//! # }
//! ```
//!
//! A channel is a subject; a stream of `JetStream` keeps what is published to it, and a consumer group is a durable pull consumer of
//! that stream. The README has the table of what this broker can do and where its limits are.
//!
//! Invariants: a message counts as published when a stream has confirmed it; messages of one key go out one behind the other's
//! confirmation; the driver shows nowhere.

mod capability;
mod client;
mod codec;
mod config;
mod consume;
mod error;
mod publish;
mod pulls;

pub use client::NatsBus;
pub use config::Config;
