//! Apache Kafka as a bus.
//!
//! ```no_run
//! # async fn open() -> Result<(), ensue_core::Error> {
//! let bus = ensue_kafka::Config::new("kafka://localhost:9092").open().await?;
//! # let _ = bus;
//! # Ok(())
//! # }
//! ```
//!
//! A channel is a topic and a consumer group is a consumer group of Kafka. The README has the table of what this broker can do and where
//! its limits are.
//!
//! Invariants: what one call publishes to a partition goes out as one batch of records, which Kafka takes or refuses as a whole; a message
//! that was handed back is not passed by a later one of its key; nothing is committed above a message that is not settled; the driver
//! shows nowhere.

mod capability;
mod client;
mod codec;
mod config;
mod consume;
mod error;
mod gather;
mod publish;
mod seek;
mod stall;
mod topology;
mod work;

pub use client::KafkaBus;
pub use config::{Config, Mechanism};
