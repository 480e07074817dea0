//! The conductor: the same services, served in the order that one function says.
//!
//! The ends: `PAYMENT_FAILED` with nothing to undo, `INVENTORY_FAILED` refunded, `SHIPPING_FAILED` released and then
//! refunded, or `COMPLETED`.

use ensue::{App, Saga, SagaError};

use crate::commands::{
    CreateShipment, NotifyCustomer, ProcessPayment, RefundPayment, ReleaseStock, ReserveStock,
};
use crate::events::{OrderCompleted, OrderPlaced};

/// The saga's name; its instances have the keys of their orders.
pub const FULFIL_ORDER: &str = "fulfil-order";

/// Mounts the saga.
pub fn mount(app: App) -> App {
    app.service("order").saga(FULFIL_ORDER, fulfil_order)
}

async fn fulfil_order(saga: Saga<OrderPlaced>) -> Result<OrderCompleted, SagaError> {
    let order = saga.input();
    saga.send("charge", ProcessPayment::of(&order))
        .undo(|paid| RefundPayment { order_id: paid.order_id.clone() })
        .await?;
    saga.send("reserve", ReserveStock::of(&order))
        .undo(|held| ReleaseStock { order_id: held.order_id.clone() })
        .await?;
    let shipment = saga.send("ship", CreateShipment::of(&order)).pivot().await?;
    saga.send("notify", NotifyCustomer::of(&shipment)).until_done().await?;
    Ok(OrderCompleted { order_id: shipment.order_id, shipment_id: shipment.shipment_id })
}
