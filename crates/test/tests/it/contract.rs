//! The conformance suite, run on the model itself: on the full one and on one without conditions.

use std::sync::Arc;

use ensue_core::{Store, StoreCapabilities};
use ensue_test::conformance::store::{CASES, Finding, run};
use ensue_test::memory::CAPABILITIES;
use ensue_test::{MemoryStore, host};

async fn fresh() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(host(1).0))
}

mod memory {
    ensue_test::store_conformance!(super::fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_declared_is_asserted_to_be_refused() {
    let plain = || async {
        let capabilities = StoreCapabilities { can_condition: false, ..CAPABILITIES };
        Arc::new(MemoryStore::with_capabilities(host(1).0, capabilities)) as Arc<dyn Store>
    };
    let outcomes = run(plain).await;
    assert_eq!(outcomes.len(), CASES.len());
    let broken: Vec<_> =
        outcomes.iter().filter(|outcome| matches!(outcome.finding, Finding::Broken(_))).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let refused = outcomes.iter().filter(|outcome| outcome.finding == Finding::Refused).count();
    assert_eq!(refused, 10, "{outcomes:#?}");
}
