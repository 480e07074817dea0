//! Tests of the engine from outside: through its port, on real folders and on disks that fail on purpose.

mod basics;
mod contract;
mod given;
