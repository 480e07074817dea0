//! Assertions about what a run has left, each with a readable difference.

use std::fmt::Display;
use std::sync::Arc;

use ensue_core::{Clock, Store};
use ensue_runtime::flow::{FlowStatus, Flows};
use ensue_runtime::saga::SagaStatus;

use super::Harness;
use crate::diff;

impl Harness {
    /// These events are in the log, in this order, besides commands and the journals of sagas.
    ///
    /// # Panics
    /// With the difference, if they are not.
    pub async fn assert_events<T: Display>(&self, expected: impl IntoIterator<Item = T>) {
        assert_lines("the events of the log", expected, &self.events().await);
    }

    /// These events are in a stream, such as `Order/ORD-1` or `saga.fulfil/ORD-1`, in this order.
    ///
    /// # Panics
    /// With the difference, if they are not.
    pub async fn assert_events_of<T: Display>(&self, stream: &str, expected: impl IntoIterator<Item = T>) {
        assert_lines(&format!("the events of {stream}"), expected, &self.events_of(stream).await);
    }

    /// This is parked, each as `handler/key: code`, by handler, key and position.
    ///
    /// # Panics
    /// With the difference, if something else is.
    pub async fn assert_parked<T: Display>(&self, expected: impl IntoIterator<Item = T>) {
        let letters = self.dead_letters().await;
        let parked = letters.iter().map(|letter| {
            let parked = &letter.parked;
            format!("{}/{}: {}", letter.handler, parked.key, parked.code)
        });
        assert_lines("what is parked", expected, &parked.collect::<Vec<_>>());
    }

    /// An instance of a saga stands so.
    ///
    /// # Panics
    /// If there is no such instance, or it stands otherwise; the message says where and why.
    pub async fn assert_saga(&self, name: &str, key: &str, expected: SagaStatus) {
        let Some(head) = self.saga(name, key).await else {
            panic!("the saga {name} has no instance {key}; it should be {expected:?}")
        };
        assert_eq!(head.status, expected, "the saga {name}/{key} stands otherwise: {head:#?}");
    }

    /// How a flow stands, found by the key of one of its streams or by its id.
    ///
    /// # Panics
    /// If there is no such flow.
    pub async fn flow_status(&self, key_or_id: &str) -> FlowStatus {
        let store: Arc<dyn Store> = self.store.clone();
        let flows = Flows::open(store, self.clock.now()).await.expect("flows can be read");
        flows.show(key_or_id).await.expect("there is such a flow").summary.status
    }
}

fn assert_lines<T: Display>(what: &str, expected: impl IntoIterator<Item = T>, actual: &[String]) {
    let expected: Vec<String> = expected.into_iter().map(|line| line.to_string()).collect();
    assert!(
        expected == actual,
        "{what} differ (- expected, + there):\n{}",
        diff::lines(&expected.join("\n"), &actual.join("\n"))
    );
}
