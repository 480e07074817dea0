//! The contract of a bus, on a fake of Amazon's services, and what is particular to `EventBridge`.

#[expect(clippy::indexing_slicing, reason = "a test that does not find what it looks for has to end")]
mod foreign;
mod given;
mod hand;
mod order;
#[expect(clippy::indexing_slicing, reason = "a test that does not find what it looks for has to end")]
mod part;
mod shop;
mod tls;
mod topology;

mod contract {
    ensue_test::bus_conformance!(super::given::fresh, ignore = "needs moto: cargo xtask test");
}
