//! What `ensue bench` runs on a store to measure it.

pub(crate) mod orders;
