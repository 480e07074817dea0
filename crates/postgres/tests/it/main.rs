//! Tests of the store on a real PostgreSQL, each in a database of its own. `cargo xtask test` starts the server and runs them.

mod contract;
mod given;
mod held;
mod misfortune;
mod schema;
mod sql;
mod transaction;
