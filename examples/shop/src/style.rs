//! The two ways to serve an order with the same services: everybody listens, or one conducts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ensue::runtime::door::Registry;
use ensue::{App, Store};
use serde::{Deserialize, Serialize};

use crate::events::{
    CustomerNotified, FraudSuspected, InventoryFailed, NotificationFailed, OrderCompleted, OrderPlaced,
    PaymentCompleted, PaymentDue, PaymentFailed, PaymentRefunded, RefundFailed, ReleaseFailed,
    ShipmentCreated, ShipmentFailed, StockBackordered, StockReleased, StockReserved,
};
use crate::outside::Outside;
use crate::{analytics, fraud, fulfilment, inventory, notification, order, payment, shipping};

/// The name of the application: the `source` of its events.
pub const APPLICATION: &str = "shop";

/// How long an order may take to be served.
const SERVED_WITHIN: Duration = Duration::from_hours(24);

/// How an order is served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// Services react to each other's events.
    #[default]
    Choreography,
    /// A saga sends commands to the services.
    Saga,
}

impl Style {
    /// Both, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::Choreography, Self::Saga];

    /// As documents and folders write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Choreography => "choreography",
            Self::Saga => "saga",
        }
    }

    /// The shop in this style.
    pub fn app(self, store: Arc<dyn Store>, outside: &Outside) -> App {
        match self {
            Self::Choreography => choreography(store, outside),
            Self::Saga => saga(store, outside),
        }
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Style {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|style| style.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is not a style: choreography or saga"))
    }
}

/// The shop as services that know only events.
pub fn choreography(store: Arc<dyn Store>, outside: &Outside) -> App {
    listeners(store, outside)
        .with(payment::choreography)
        .with(inventory::choreography)
        .with(shipping::choreography)
        .with(notification::choreography)
        .flow("order", |flow| {
            flow.starts::<OrderPlaced>()
                .ends::<CustomerNotified>()
                .fails::<PaymentFailed>()
                .fails_until::<InventoryFailed, PaymentRefunded>()
                .fails_until::<ShipmentFailed, PaymentRefunded>()
                .needs_attention::<RefundFailed>()
                .needs_attention::<ReleaseFailed>()
                .within(SERVED_WITHIN)
        })
}

/// The shop as services that a saga conducts.
pub fn saga(store: Arc<dyn Store>, outside: &Outside) -> App {
    listeners(store, outside)
        .with(payment::handlers)
        .with(inventory::handlers)
        .with(shipping::handlers)
        .with(notification::handlers)
        .with(fulfilment::mount)
        .flow("order", |flow| {
            flow.starts::<OrderPlaced>()
                .ends::<OrderCompleted>()
                .fails::<PaymentFailed>()
                .fails::<InventoryFailed>()
                .fails::<ShipmentFailed>()
                .within(SERVED_WITHIN)
        })
}

/// What only listens is the same in both styles.
fn listeners(store: Arc<dyn Store>, outside: &Outside) -> App {
    outside
        .connect(App::new(APPLICATION).store(store))
        .with(order::choreography)
        .with(fraud::choreography)
        .with(analytics::choreography)
}

/// Every event of the shop, with the rules that are checked at the door.
pub fn registry() -> Registry {
    Registry::default()
        .event::<OrderPlaced>()
        .event::<PaymentCompleted>()
        .event::<PaymentDue>()
        .event::<PaymentFailed>()
        .event::<PaymentRefunded>()
        .event::<RefundFailed>()
        .event::<StockReserved>()
        .event::<InventoryFailed>()
        .event::<StockBackordered>()
        .event::<StockReleased>()
        .event::<ReleaseFailed>()
        .event::<ShipmentCreated>()
        .event::<ShipmentFailed>()
        .event::<CustomerNotified>()
        .event::<NotificationFailed>()
        .event::<OrderCompleted>()
        .event::<FraudSuspected>()
}

#[cfg(test)]
mod tests {
    use ensue::EventSet;

    use super::*;
    use crate::events::ShopEvent;

    #[test]
    fn the_door_knows_every_event_of_the_shop() {
        let registry = registry();
        let known: Vec<&str> = registry.types().map(|info| info.event_type).collect();
        let mut all: Vec<&str> = ShopEvent::types().iter().map(|info| info.event_type).collect();
        all.sort_unstable();
        assert_eq!(known, all);
    }

    #[test]
    fn a_style_is_read_as_it_is_written() {
        for style in Style::ALL {
            assert_eq!(style.to_string().parse(), Ok(style));
        }
        assert_eq!("both".parse::<Style>(), Err("`both` is not a style: choreography or saga".to_owned()));
    }
}
