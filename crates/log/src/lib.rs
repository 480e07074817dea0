//! The embedded engine of Ensue: one journal, and indexes that are derived from it, behind [`ensue_core::Store`].
//!
//! A commit is encoded and checked on the caller's side, ordered by one sequencer, written as part of one frame with one
//! synced write, published to the window, and only then acknowledged. Everything but the journal can be rebuilt.
//!
//! Invariants: no tokio, no network, no C code; one process owns a folder; readers never see what is not durable, but for
//! commits that asked for less; nothing acknowledged is dropped silently.

pub mod bench;
pub mod config;
pub mod disk;
pub mod floor;
pub mod stat;
pub mod verify;

mod batch;
mod body;
mod commit;
mod engine;
mod errors;
mod frame;
mod frames;
mod head;
mod index;
mod journal;
mod lock;
mod mark;
mod open;
mod partition;
mod portable;
mod queue;
mod read;
mod reading;
mod recovery;
mod reply;
mod scan;
mod sequencer;
mod store;
mod superblock;
mod window;
mod wire;
mod writer;

pub use config::Config;
pub use floor::Floor;
pub use stat::Stat;
pub use store::Log;
pub use verify::{Report, verify};
