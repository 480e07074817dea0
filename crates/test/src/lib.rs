//! Test kit of Ensue: what users and Ensue itself test with.
//!
//! - [`MemoryStore`]: the store as plain lists, the model that real stores are compared with, with faults on request;
//! - [`VirtualClock`], [`SeededEntropy`] and [`host`]: time that moves when told to, randomness that repeats.
//!
//! Invariants: nothing here reads the real clock or real randomness. The store conformance suite stands on
//! `ensue-core` alone, so that a store can be tested without the rest of Ensue.

pub mod conformance;
pub mod entropy;
pub mod memory;
pub mod time;

pub use entropy::SeededEntropy;
pub use memory::{CommitHook, MemoryStore, Verdict};
pub use time::{VirtualClock, host};
