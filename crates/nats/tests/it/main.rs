//! The contract of a bus on real servers, one for each case. `cargo xtask test` installs the server and runs them.

mod cluster;
mod foreign;
mod given;
mod order;
mod secured;
mod shop;
mod unkept;

mod contract {
    ensue_test::bus_conformance!(crate::given::fresh, ignore = "needs a NATS server: cargo xtask test");
}
