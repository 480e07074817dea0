//! An order service as it is usually written, with axum, sqlx and tables of its own, that tells others what happens in the same
//! transaction: `outbox` is all that it takes.
//!
//! `PUT /orders/{id}` places an order, `DELETE /orders/{id}` cancels it, `GET /orders/{id}` shows it. Each of the first two may be
//! repeated: what was done is not done again, and told once. The database is also the log, so [`reactions`] need nothing but its address,
//! here or in another process.

use axum::Router;
use axum::routing::put;
use ensue::App;
use sqlx_0_9 as sqlx;

pub mod events;
mod orders;
mod outbox;
mod refused;

use events::{ConfirmationSent, OrderCancelled, OrderPlaced};

/// The service, on a database that is an Ensue store already. Makes its own table where it is missing.
pub async fn service(pool: sqlx::PgPool) -> Result<Router, sqlx::Error> {
    sqlx::query(orders::TABLE).execute(&pool).await?;
    let of_one = put(orders::place).delete(orders::cancel).get(orders::show);
    Ok(Router::new().route("/orders/{id}", of_one).with_state(pool))
}

/// What follows from an order. It is behind the service's back: a confirmation that fails fails no order, and is tried again.
pub fn reactions() -> App {
    App::new("orders").external::<OrderPlaced>().external::<OrderCancelled>().react("confirm", confirm)
}

async fn confirm(placed: OrderPlaced) -> ConfirmationSent {
    ConfirmationSent { order_id: placed.order_id, customer_id: placed.customer_id }
}
