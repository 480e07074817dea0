//! The contract of a store.

ensue_test::store_conformance!(crate::given::subject);
