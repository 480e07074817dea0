//! What a replay answers from the journal is not done again.

use std::time::Duration;

use ensue_runtime::saga::SagaStatus::Completed;
use ensue_runtime::{App, Saga, SagaError, State};

use super::world::{self, Ledger, Refused, end};
use crate::words::{OrderPlaced, placed};

/// Its step gives nothing, which the journal writes as `null`.
async fn greet(saga: Saga<OrderPlaced>, State(ledger): State<Ledger>) -> Result<(), SagaError> {
    let greeting = saga.step("greet", async move |key| ledger.act(&key, "greet") as Result<(), Refused>);
    greeting.nothing_to_undo().await?;
    saga.sleep("rest", Duration::from_mins(1)).await
}

#[tokio::test]
async fn a_step_that_gives_nothing_is_not_made_again_after_a_restart() {
    let ledger = Ledger::default();
    let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", greet));
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    shop.restart().await;
    shop.advance(Duration::from_secs(61)).await;
    assert_eq!((end(&shop).await.0, ledger.calls("greet")), (Completed, 1));
}
