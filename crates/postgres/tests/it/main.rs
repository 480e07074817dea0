//! Tests of the store on a real PostgreSQL, each in a database of its own. `cargo xtask test` starts the server and runs them.

#![expect(clippy::indexing_slicing, reason = "a test that indexes past the end has failed")]

mod backlog;
mod by_hand;
mod clock;
mod commit_in;
mod contract;
mod frozen;
mod given;
mod held;
mod killed;
mod languages;
mod lost;
mod migration;
mod misfortune;
mod pooled;
mod portable;
mod retention;
mod schema;
mod server;
mod soak;
mod sql;
mod tables;
mod tls;
mod transaction;
mod unwilling;
mod wire;
