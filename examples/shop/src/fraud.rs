//! The fraud service: points at orders that are unusually expensive. It stops nothing; people decide.

use ensue::App;

use crate::Money;
use crate::events::{FraudSuspected, OrderPlaced};

/// Orders above this are looked at: of the orders of the shop about one in a hundred.
const UNUSUAL: Money = Money::from_cents(25_000);

/// The service, in either style: it listens.
pub fn choreography(app: App) -> App {
    app.service("fraud").react("screen-order", screen)
}

async fn screen(order: OrderPlaced) -> Option<FraudSuspected> {
    (order.total > UNUSUAL).then(|| FraudSuspected {
        reason: format!("a total of {} is above {UNUSUAL}", order.total),
        order_id: order.order_id,
        customer_id: order.customer_id,
    })
}
