//! The contract of a bus on real brokers. `cargo xtask test` installs the broker and runs them.

mod foreign;
mod given;
mod order;
mod shop;
mod trouble;

mod contract {
    ensue_test::bus_conformance!(
        crate::given::shared,
        struck = crate::given::own,
        ignore = "needs a RabbitMQ broker: cargo xtask test"
    );
}
