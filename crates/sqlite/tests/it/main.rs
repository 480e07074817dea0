//! Tests of the store on a real file, each in a folder of its own. No service is needed.

#![expect(clippy::indexing_slicing, reason = "a test that panics says where, which is what is asked of it")]

mod bad_luck;
mod child;
mod contract;
mod given;
mod handlers;
mod portable;
mod processes;
mod tables;
mod transactions;
