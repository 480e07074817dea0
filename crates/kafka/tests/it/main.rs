//! The contract of a bus on real brokers: one that all cases share, each under names of its own, and one for each case that strikes it.
//! `cargo xtask test` installs Kafka and runs them.

mod cluster;
mod foreign;
mod given;
mod group;
mod order;
mod own;
mod shop;
mod topology;
mod trouble;

mod contract {
    ensue_test::bus_conformance!(
        crate::given::fresh,
        struck = crate::own::fresh,
        ignore = "needs Apache Kafka: cargo xtask test"
    );
}
