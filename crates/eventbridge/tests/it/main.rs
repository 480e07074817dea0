//! The contract of a bus, on a fake of Amazon's services, and what is particular to `EventBridge`.

mod given;

mod contract {
    ensue_test::bus_conformance!(super::given::fresh, ignore = "needs moto: cargo xtask test");
}
