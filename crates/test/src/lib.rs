//! Test kit of Ensue: what users and Ensue itself test with.
//!
//! - [`given()`] … `when` … `then`: decisions as sentences, with a readable difference where they are broken;
//! - [`Harness`]: the production application in process, with virtual time and misfortune on request;
//! - [`explore`]: a scenario under many combinations of misfortunes, and the smallest that breaks it as a test;
//! - [`Cluster`]: several processes on one store, to kill, freeze, shut down and add;
//! - [`MemoryStore`]: the store as plain lists, the model that real stores are compared with, with faults on request;
//! - [`MemoryBus`]: a broker in memory, to test links with;
//! - [`VirtualClock`], [`SeededEntropy`] and [`host`]: time that moves when told to, randomness that repeats;
//! - [`server`]: real brokers of a test's own, to kill and start again;
//! - [`certificates`]: an authority and what it has signed, to test TLS with;
//! - [`conformance`]: the contracts of the ports as suites, for everyone who writes an adapter;
//! - [`verifier`]: random programs on the runtime, compared with a plain model;
//! - [`checker`]: a recorded history of clients compared with the log that they left.
//!
//! Invariants: nothing here reads the real clock or real randomness. The store conformance suite and the checker
//! stand on `ensue-core` alone, so that a store can be tested without the rest of Ensue.

pub mod bus;
pub mod certificates;
pub mod checker;
pub mod cluster;
pub mod conformance;
mod diff;
pub mod entropy;
mod explore;
pub mod given;
pub mod harness;
pub mod memory;
pub mod server;
pub mod time;
pub mod verifier;

pub use bus::MemoryBus;
pub use cluster::Cluster;
pub use entropy::SeededEntropy;
pub use explore::{Explored, explore};
pub use given::{given, given_folded};
pub use harness::{Crash, Harness, Misfortune, crash_everywhere};
pub use memory::{CommitHook, MemoryStore, Verdict};
pub use time::{VirtualClock, host};
