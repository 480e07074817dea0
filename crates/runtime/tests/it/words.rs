//! Events, and what handlers leave behind, that the tests share.

use std::sync::{Arc, Mutex, PoisonError};

use ensue_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Order", key = order, validate = OrderPlaced::rules)]
pub(crate) struct OrderPlaced {
    pub(crate) order: String,
    pub(crate) cents: u64,
}

impl OrderPlaced {
    fn rules(&self) -> Result<(), String> {
        if self.cents == 0 { Err("cents: an order costs something".to_owned()) } else { Ok(()) }
    }
}

#[derive(Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Payment", key = order)]
pub(crate) struct PaymentCompleted {
    pub(crate) order: String,
}

#[derive(Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Payment", key = order)]
pub(crate) struct PaymentFailed {
    pub(crate) order: String,
}

#[derive(Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Stock", key = order)]
pub(crate) struct StockReserved {
    pub(crate) order: String,
}

/// Something small that happens often: the `number`-th of its key.
#[derive(Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Tick", key = key)]
pub(crate) struct Tick {
    pub(crate) key: String,
    pub(crate) number: u32,
}

pub(crate) fn placed(order: &str) -> OrderPlaced {
    OrderPlaced { order: order.to_owned(), cents: 5_998 }
}

pub(crate) fn tick(key: &str, number: u32) -> Tick {
    Tick { key: key.to_owned(), number }
}

/// What handlers did, outlasting crashes.
#[derive(Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a line back.
    pub(crate) fn forget(&self, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known != line);
    }

    /// Begins anew.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How often a line was written.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|known| *known == line).count()
    }
}

/// A reason to fail.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) &'static str);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}
