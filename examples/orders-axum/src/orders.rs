//! The orders: a table of the service's own, and who asks for what.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use ensue::core::Expected;
use serde::{Deserialize, Serialize};

use crate::events::{OrderCancelled, OrderPlaced};
use crate::outbox::publish;
use crate::refused::Refused;
use crate::sqlx::{self, PgConnection, PgPool};

pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS orders (
    id text PRIMARY KEY,
    customer_id text NOT NULL,
    total_cents bigint NOT NULL CHECK (total_cents >= 0),
    is_cancelled boolean NOT NULL DEFAULT false
)";

/// What a customer asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    customer_id: String,
    total_cents: i64,
}

/// As the table has it.
#[derive(PartialEq, Serialize)]
pub(crate) struct Order {
    id: String,
    customer_id: String,
    total_cents: i64,
    is_cancelled: bool,
}

/// Places an order: its row and its event are in one transaction. Whoever has no answer asks again.
pub(crate) async fn place(
    State(pool): State<PgPool>,
    Path(id): Path<String>,
    Json(Wanted { customer_id, total_cents }): Json<Wanted>,
) -> Result<(StatusCode, Json<Order>), Refused> {
    let mut transaction = pool.begin().await?;
    let insert =
        "INSERT INTO orders (id, customer_id, total_cents) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let insert = sqlx::query(insert).bind(&id).bind(&customer_id).bind(total_cents);
    if insert.execute(&mut *transaction).await?.rows_affected() == 0 {
        let there = find(&mut transaction, &id).await?;
        return if (&there.customer_id, there.total_cents) == (&customer_id, total_cents) {
            Ok((StatusCode::OK, Json(there)))
        } else {
            Err(Refused::conflict(format!("order {id} is another one")))
        };
    }
    let placed = OrderPlaced { order_id: id.clone(), customer_id: customer_id.clone(), total_cents };
    publish(&mut transaction, Expected::NoStream, &placed).await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(Order { id, customer_id, total_cents, is_cancelled: false })))
}

/// Cancels an order; one that is cancelled stays so, and nobody is told again.
pub(crate) async fn cancel(
    State(pool): State<PgPool>,
    Path(id): Path<String>,
) -> Result<Json<Order>, Refused> {
    let mut transaction = pool.begin().await?;
    let update = sqlx::query("UPDATE orders SET is_cancelled = true WHERE id = $1 AND NOT is_cancelled");
    if update.bind(&id).execute(&mut *transaction).await?.rows_affected() == 1 {
        publish(&mut transaction, Expected::Exists, &OrderCancelled { order_id: id.clone() }).await?;
    }
    let order = find(&mut transaction, &id).await?;
    transaction.commit().await?;
    Ok(Json(order))
}

/// Shows an order.
pub(crate) async fn show(State(pool): State<PgPool>, Path(id): Path<String>) -> Result<Json<Order>, Refused> {
    let mut connection = pool.acquire().await?;
    Ok(Json(find(&mut connection, &id).await?))
}

async fn find(connection: &mut PgConnection, id: &str) -> Result<Order, Refused> {
    let select = "SELECT id, customer_id, total_cents, is_cancelled FROM orders WHERE id = $1";
    let row: Option<(String, String, i64, bool)> =
        sqlx::query_as(select).bind(id).fetch_optional(connection).await?;
    let (id, customer_id, total_cents, is_cancelled) =
        row.ok_or_else(|| Refused::not_found(format!("there is no order {id}")))?;
    Ok(Order { id, customer_id, total_cents, is_cancelled })
}
