//! PostgreSQL as the store: the application's own database is the log.
//!
//! ```no_run
//! # async fn open() -> Result<(), ensue_core::Error> {
//! let store = ensue_postgres::connect("postgres://app@localhost/shop").await?;
//! # let _ = store;
//! # Ok(())
//! # }
//! ```
//!
//! Everything lives in the schema `ensue` of that database. Any program can append inside its own transaction with
//! `SELECT ensue.append(..)`, and a program in Rust with [`commit_in`]; that is the transactional outbox. The README of this crate says how positions come about and
//! why nobody waits for a transaction that somebody left open.
//!
//! Invariants: no session state outlives a transaction and no statement is prepared by name, so a pooler in transaction mode
//! may stand in between; the driver shows in [`Session::client`] and nowhere else.

mod address;
mod attributes;
mod batch;
mod commit_in;
mod config;
mod decide;
mod dropped;
mod error;
mod foreign;
mod head;
mod holds;
mod migrate;
mod outage;
mod partitions;
#[cfg(not(feature = "tls"))]
mod plain;
mod pool;
mod portable;
mod read;
mod retention;
mod scan;
mod select;
mod sql;
mod stat;
mod store;
#[cfg(feature = "tls")]
mod tls;
mod transaction;
mod writer;

pub use commit_in::{Staged, commit_in};
pub use config::Config;
pub use foreign::{InTransaction, Refusal};
pub use holds::Hold;
pub use outage::Outage;
pub use retention::{Retention, Trimmed};
pub use stat::{Stat, Tail};
pub use store::PostgresStore;
/// The driver, whose client a [`Session`] gives.
pub use tokio_postgres;
pub use transaction::Session;

/// Connects, brings the schema up to date and opens the store, as [`Config`] has it where nothing is said.
///
/// Fails if the URL is no URL (`E0420`), the server cannot be reached (`E0421`), refuses the login (`E0422`), is too old
/// (`E0423`) or takes no writes (`E0424`), or holds a schema that this program does not know (`E0425`).
pub async fn connect(url: &str) -> Result<PostgresStore, ensue_core::Error> {
    Config::new(url)?.open().await
}
