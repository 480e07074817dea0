//! The shipping service: hands parcels to the carrier. What the carrier has taken is not called back.

use std::sync::Arc;

use ensue::{App, Cause, Emits, Reaction, State};

use crate::commands::CreateShipment;
use crate::events::{ShipmentCreated, ShipmentFailed, StockReserved};
use crate::outside::{Carrier, Trouble, answer};
use crate::{CustomerId, OrderId};

/// Calls to the carrier that may be under way at the same time.
const LANES: u16 = 32;

/// The service as one that listens to events.
pub fn choreography(app: App) -> App {
    app.service("shipping").react("create-shipment", ship_reserved.lanes(LANES))
}

/// The service as one that takes commands.
pub fn handlers(app: App) -> App {
    app.service("shipping").handle(create_shipment)
}

/// What becomes of a parcel.
#[derive(Emits)]
pub enum Parcel {
    /// See [`ShipmentCreated`].
    Created(ShipmentCreated),
    /// See [`ShipmentFailed`].
    Failed(ShipmentFailed),
}

async fn ship_reserved(
    State(carrier): State<Arc<Carrier>>,
    cause: Cause,
    reserved: StockReserved,
) -> Result<Parcel, Trouble> {
    let StockReserved { order_id, customer_id, .. } = reserved;
    let Some(customer_id) = customer_id else {
        let reason = "nobody said who receives it".to_owned();
        return Ok(Parcel::Failed(ShipmentFailed { order_id, reason }));
    };
    Ok(match ship(&carrier, &cause, order_id, customer_id).await? {
        Ok(created) => Parcel::Created(created),
        Err(failed) => Parcel::Failed(failed),
    })
}

async fn create_shipment(
    State(carrier): State<Arc<Carrier>>,
    cause: Cause,
    command: CreateShipment,
) -> Result<Result<ShipmentCreated, ShipmentFailed>, Trouble> {
    ship(&carrier, &cause, command.order_id, command.customer_id).await
}

async fn ship(
    carrier: &Carrier,
    cause: &Cause,
    order_id: OrderId,
    customer_id: CustomerId,
) -> Result<Result<ShipmentCreated, ShipmentFailed>, Trouble> {
    let shipped = carrier.ship(&cause.idempotency_key(), &order_id, &customer_id).await;
    Ok(match answer(shipped)? {
        Ok(shipment) => Ok(ShipmentCreated { order_id, shipment_id: shipment.shipment_id, customer_id }),
        Err(reason) => Err(ShipmentFailed { order_id, reason }),
    })
}
