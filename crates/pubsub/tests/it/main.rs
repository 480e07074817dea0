//! The contract of a bus on Google's fake of Pub/Sub, one for each case. `cargo xtask test` builds the fake and runs them.

mod foreign;
mod given;
mod order;
mod shop;
mod trouble;

mod contract {
    ensue_test::bus_conformance!(crate::given::fresh, ignore = "needs the fake of Pub/Sub: cargo xtask test");
}
