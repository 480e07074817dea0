//! Events that are caused now and appended later.
//!
//! What is delayed is a timer until then: it can be listed, cancelled and put off, and it is appended once.

use std::time::Duration;

use jiff::Timestamp;
use smol_str::SmolStr;

use crate::emits::Emits;
use crate::error::{Code, Error};
use crate::event::{Draft, EventInfo};

/// The longest name of a timer.
const NAME_BYTES_MAX: usize = 200;

/// When a draft is appended, if not at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Later {
    /// When.
    pub due: Due,
    /// The name under which it is set in the stream it goes to; setting the name again replaces it.
    pub name: Option<SmolStr>,
}

/// A moment, seen from now or for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// So long after it was caused.
    After(Duration),
    /// At this time; at once if that has passed.
    At(Timestamp),
}

impl Due {
    /// The moment, if it is caused now.
    pub fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::After(delay) => now.checked_add(delay).unwrap_or(Timestamp::MAX),
            Self::At(time) => time,
        }
    }
}

/// Events to be appended later. Returned from a handler, they are on record in the commit that settles the delivery.
///
/// ```
/// # use std::time::Duration;
/// # use ensue_core::{Delayed, Event, EventInfo};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct OrderPlaced { order: String }
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct PaymentDue { order: String }
/// # impl Event for PaymentDue {
/// #     const INFO: EventInfo = EventInfo { event_type: "PaymentDue", version: 1, topic: "Order", key_field: "order" };
/// #     fn key(&self) -> String { self.order.clone() }
/// # }
/// async fn remind(placed: OrderPlaced) -> Delayed<PaymentDue> {
///     Delayed::after(Duration::from_hours(48), PaymentDue { order: placed.order }).named("payment")
/// }
/// # fn is_reaction<R: ensue_core::Emits>(_: impl AsyncFn(OrderPlaced) -> R) {}
/// # is_reaction(remind);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "what is delayed happens only if it is returned"]
pub struct Delayed<T> {
    later: Later,
    events: T,
}

impl<T> Delayed<T> {
    /// So long after now.
    pub fn after(delay: Duration, events: T) -> Self {
        Self { later: Later { due: Due::After(delay), name: None }, events }
    }

    /// At a time; at once if that has passed.
    pub fn at(time: Timestamp, events: T) -> Self {
        Self { later: Later { due: Due::At(time), name: None }, events }
    }

    /// Gives it a name in the stream it goes to. Set again under the same name, the earlier one is replaced, and by its
    /// name it can be cancelled. At most 200 bytes, without control characters.
    pub fn named(mut self, name: &str) -> Self {
        self.later.name = Some(name.into());
        self
    }
}

impl<T: Emits> Emits for Delayed<T> {
    fn types() -> Vec<EventInfo> {
        T::types()
    }

    fn emit(self, out: &mut Vec<Draft>) -> Result<(), Error> {
        if let Some(name) = &self.later.name {
            check_name(name)?;
        }
        let first = out.len();
        self.events.emit(out)?;
        for draft in out.iter_mut().skip(first) {
            // Of nested delays the inner one counts: it is nearer to the event.
            draft.later.get_or_insert_with(|| self.later.clone());
        }
        Ok(())
    }
}

/// Whether a timer may have this name.
pub fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
        return Err(Error::new(Code::INVALID_NAME, format!("`{shown}` cannot name a timer"))
            .with_fix(format!("use 1 to {NAME_BYTES_MAX} bytes of text without control characters")));
    }
    Ok(())
}
