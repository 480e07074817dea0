//! The service as a program: `DATABASE_URL=postgres://… cargo run -p ensue-orders-axum`, then
//! `curl -X PUT localhost:8080/orders/ORD-1 --json '{"customer_id": "CUST-3", "total_cents": 5998}'`.

use std::env;
use std::error::Error;
use std::time::Duration;

use ensue_orders_axum::{reactions, service};
use sqlx_0_9::PgPool;
use tokio::net::TcpListener;
use tokio::signal;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("DATABASE_URL").map_err(|_| "DATABASE_URL names the database, as postgres://…")?;
    let running = reactions().store(ensue_postgres::connect(&url).await?).start().await?;
    let service = service(PgPool::connect(&url).await?).await?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    let interrupted = async { signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, service).with_graceful_shutdown(interrupted).await?;
    running.stop(Duration::from_secs(10)).await?;
    Ok(())
}
