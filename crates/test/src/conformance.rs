//! Conformance suites: the contract of a port as tests, for everyone who writes an adapter.
//!
//! A suite is part of the product: its cases are named once in a table, need nothing but `ensue-core`, and never
//! skip. What a backend does not declare, it must refuse, and the case then asserts the refusal.

pub mod bus;
pub mod store;
