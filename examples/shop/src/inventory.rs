//! The inventory service: sets stock aside for a paid order, and puts it back when the order cannot be shipped.

use std::sync::Arc;

use ensue::{App, Cause, Emits, Reaction, State};

use crate::OrderId;
use crate::commands::{ReleaseStock, ReserveStock};
use crate::events::{
    InventoryFailed, Item, PaymentCompleted, ReleaseFailed, ShipmentFailed, StockBackordered, StockReleased,
    StockReserved,
};
use crate::outside::{Slip, Trouble, Warehouse, answer};

/// Calls to the warehouse that may be under way at the same time.
const LANES: u16 = 32;

/// The service as one that listens to events.
pub fn choreography(app: App) -> App {
    app.service("inventory")
        .react("reserve-stock", reserve_paid.lanes(LANES))
        .react("release-stock", release_unshipped.lanes(LANES))
}

/// The service as one that takes commands.
pub fn handlers(app: App) -> App {
    app.service("inventory").handle(reserve_stock).handle(release_stock)
}

/// What becomes of a reservation.
#[derive(Emits)]
pub enum Reservation {
    /// See [`StockReserved`].
    Reserved(StockReserved),
    /// See [`InventoryFailed`].
    Failed(InventoryFailed),
    /// See [`StockBackordered`].
    Backordered(StockBackordered),
}

/// What becomes of a release.
#[derive(Emits)]
pub enum Release {
    /// See [`StockReleased`].
    Released(StockReleased),
    /// See [`ReleaseFailed`].
    Failed(ReleaseFailed),
}

async fn reserve_paid(
    State(warehouse): State<Arc<Warehouse>>,
    cause: Cause,
    paid: PaymentCompleted,
) -> Result<Reservation, Trouble> {
    let PaymentCompleted { order_id, items, customer_id, .. } = paid;
    let reserved = match reserve(&warehouse, &cause, &order_id, &items).await {
        Err(Trouble::Later { who }) => {
            let reason = format!("{who} orders the items from elsewhere");
            return Ok(Reservation::Backordered(StockBackordered { order_id, reason }));
        }
        reserved => reserved?,
    };
    Ok(match reserved {
        Ok(slip) => Reservation::Reserved(StockReserved {
            order_id,
            reservation_id: slip.reservation_id(),
            items,
            customer_id,
        }),
        Err(reason) => Reservation::Failed(InventoryFailed { order_id, reason }),
    })
}

async fn release_unshipped(
    State(warehouse): State<Arc<Warehouse>>,
    cause: Cause,
    failed: ShipmentFailed,
) -> Result<Release, Trouble> {
    Ok(match release(&warehouse, &cause, failed.order_id).await? {
        Ok(released) => Release::Released(released),
        Err(failed) => Release::Failed(failed),
    })
}

async fn reserve_stock(
    State(warehouse): State<Arc<Warehouse>>,
    cause: Cause,
    command: ReserveStock,
) -> Result<Result<StockReserved, InventoryFailed>, Trouble> {
    let ReserveStock { order_id, items } = command;
    Ok(match reserve(&warehouse, &cause, &order_id, &items).await? {
        Ok(slip) => {
            Ok(StockReserved { order_id, reservation_id: slip.reservation_id(), items, customer_id: None })
        }
        Err(reason) => Err(InventoryFailed { order_id, reason }),
    })
}

async fn release_stock(
    State(warehouse): State<Arc<Warehouse>>,
    cause: Cause,
    command: ReleaseStock,
) -> Result<Result<StockReleased, ReleaseFailed>, Trouble> {
    release(&warehouse, &cause, command.order_id).await
}

async fn reserve(
    warehouse: &Warehouse,
    cause: &Cause,
    order_id: &OrderId,
    items: &[Item],
) -> Result<Result<Slip, String>, Trouble> {
    answer(warehouse.reserve(&cause.idempotency_key(), order_id, items).await)
}

async fn release(
    warehouse: &Warehouse,
    cause: &Cause,
    order_id: OrderId,
) -> Result<Result<StockReleased, ReleaseFailed>, Trouble> {
    let released = warehouse.release(&cause.idempotency_key(), &order_id).await;
    Ok(match answer(released)? {
        Ok(slip) => Ok(StockReleased { order_id, reservation_id: slip.reservation_id() }),
        Err(reason) => Err(ReleaseFailed { order_id, reason }),
    })
}
