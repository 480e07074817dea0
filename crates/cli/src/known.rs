//! The event types that this binary knows by their Rust types, so that it can check a body before it goes into the log.

use ensue::runtime::door::Registry;

/// Every known type. The types of other programs are found in the catalogues that they leave in the store.
pub(crate) fn registry() -> Registry {
    ensue_shop::registry().and(ensue_bank::registry())
}
