//! RabbitMQ as a bus.
//!
//! ```no_run
//! # async fn open() -> Result<(), ensue_core::Error> {
//! let bus = ensue_rabbitmq::Config::new("amqp://guest:guest@localhost:5672/%2f").open().await?;
//! # let _ = bus;
//! # Ok(())
//! # }
//! ```
//!
//! What is published to is an exchange, what is consumed is a queue, and a consumer group is a quorum queue that an exchange feeds. The
//! README has the table of what this broker can do and where its limits are.
//!
//! Invariants: a message counts as published when every queue it was routed to has confirmed it, and at least one has; messages of one
//! key go out one behind the other's confirmation; a message is acknowledged only when what becomes of it is safe; the driver shows
//! nowhere.

mod capability;
mod client;
mod codec;
mod config;
mod consume;
mod error;
mod hand;
mod line;
mod post;
mod publish;
mod tls;
mod topology;

pub use client::RabbitmqBus;
pub use config::{Config, Exchange, Route};
