//! SQLite as the store: the application's own database file is the log.
//!
//! ```no_run
//! # async fn open() -> Result<(), ensue_core::Error> {
//! let store = ensue_sqlite::open("shop.db").await?;
//! # let _ = store;
//! # Ok(())
//! # }
//! ```
//!
//! Everything lives in tables whose names begin with `ensue_`, beside those of the application. [`commit_in`] appends in a
//! transaction of the application's own: that is the transactional outbox. A [`Session`] is the other way round: what a
//! handler changes in its tables is in the transaction that settles its delivery.
//!
//! Invariants: one connection of a store writes, and whoever has its turn has it; positions are given in the write
//! transaction, of which SQLite allows one at a time, in whatever process; a reader holds no transaction between two pages.
//!

mod attributes;
mod commit_in;
mod config;
mod decide;
mod error;
mod file;
mod head;
mod holder;
mod migrate;
mod pool;
mod portable;
mod read;
mod scan;
mod select;
mod sql;
mod stat;
mod store;
mod transaction;
mod turn;
mod writer;

pub use commit_in::commit_in;
pub use config::Config;
/// The driver, in the version whose types stand in signatures here.
pub use rusqlite;
pub use stat::{Stat, Tail};
pub use store::SqliteStore;
pub use transaction::Session;

/// Opens the file, or makes it, and brings the tables up to date, as [`Config`] has it where nothing is said.
///
/// Fails if the file is no database (`E0406`) or damaged (`E0412`), cannot be written (`E0424`), or holds tables that this
/// program does not know (`E0425`).
pub async fn open(path: impl AsRef<std::path::Path>) -> Result<SqliteStore, ensue_core::Error> {
    Config::new(path).open().await
}
