//! Tests of the engine from outside: through its port, on real folders and on disks that fail on purpose.

#![expect(clippy::indexing_slicing, reason = "a test that indexes past the end has failed")]

mod basics;
mod contract;
mod damage;
mod faults;
mod given;
mod model;
mod portable;
mod sim;
mod start;
