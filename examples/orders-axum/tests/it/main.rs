//! The order service on a real PostgreSQL: what it tells others is what is in its table, whatever goes wrong.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use ensue::StoreExt;
use ensue_orders_axum::reactions;
use futures_util::future::join_all;
use serde_json::{Value, json};

mod given;

use given::Shop;

fn order() -> Value {
    json!({ "customer_id": "CUST-3", "total_cents": 5998 })
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_order_and_its_event_are_there_together_and_once() {
    let shop = Shop::new().await;
    let shown = json!({ "id": "ORD-1", "customer_id": "CUST-3", "total_cents": 5998, "is_cancelled": false });
    assert_eq!(shop.ask(Method::GET, "/orders/ORD-1").await.0, StatusCode::NOT_FOUND);
    assert_eq!(shop.put("/orders/ORD-1", order()).await, (StatusCode::CREATED, shown.clone()));
    assert_eq!(shop.put("/orders/ORD-1", order()).await, (StatusCode::OK, shown.clone()));
    let other = json!({ "customer_id": "CUST-4", "total_cents": 1 });
    assert_eq!(shop.put("/orders/ORD-1", other).await.0, StatusCode::CONFLICT);
    assert_eq!(shop.ask(Method::GET, "/orders/ORD-1").await, (StatusCode::OK, shown));
    assert_eq!(shop.log().await, ["OrderPlaced ORD-1"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_order_is_cancelled_once_and_told_once() {
    let shop = Shop::new().await;
    shop.put("/orders/ORD-1", order()).await;
    for _ in 0..2 {
        let (status, shown) = shop.ask(Method::DELETE, "/orders/ORD-1").await;
        assert_eq!((status, shown.get("is_cancelled")), (StatusCode::OK, Some(&json!(true))));
    }
    assert_eq!(shop.ask(Method::DELETE, "/orders/ORD-2").await.0, StatusCode::NOT_FOUND);
    assert_eq!(shop.log().await, ["OrderPlaced ORD-1", "OrderCancelled ORD-1"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_order_whose_event_is_refused_is_not_there() {
    let shop = Shop::new().await;
    let (status, body) = shop.put("/orders/a%2Fb", order()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "no key holds a slash: {body}");
    // Somebody else has written to the stream of an order that the table does not know.
    let stray = "SELECT ensue.append('Order', 'ORD-9', 'OrderImported', '{}')";
    sqlx_0_9::query(stray).execute(&shop.pool).await.expect("valid SQL");
    let (status, body) = shop.put("/orders/ORD-9", order()).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    let free = json!({ "customer_id": "CUST-3", "total_cents": -1 });
    assert_eq!(shop.put("/orders/ORD-8", free).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    for path in ["/orders/a%2Fb", "/orders/ORD-9", "/orders/ORD-8"] {
        assert_eq!(shop.ask(Method::GET, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(shop.log().await, ["OrderImported ORD-9"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn of_equal_requests_at_the_same_moment_one_places_the_order_and_all_get_it() {
    let shop = Shop::new().await;
    for number in 0..10 {
        let path = format!("/orders/ORD-{number}");
        let answers = join_all((0..6).map(|_| shop.put(&path, order()))).await;
        let placed = answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count();
        let repeated = answers.iter().filter(|(status, _)| *status == StatusCode::OK).count();
        assert_eq!((placed, repeated), (1, 5), "{answers:?}");
    }
    assert_eq!(shop.log().await.len(), 10);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_reaction_hears_of_each_order_that_was_placed_before_or_while_it_runs() {
    let shop = Shop::new().await;
    shop.put("/orders/ORD-1", order()).await;
    let running = reactions().store(shop.store.clone()).start().await.expect("it holds together");
    shop.put("/orders/ORD-2", order()).await;
    let head = shop.store.head().await.expect("readable");
    running.settled(head).await;
    running.stop(Duration::from_secs(10)).await.expect("it stops");
    let mut log = shop.log().await;
    log.sort();
    let expected =
        ["ConfirmationSent ORD-1", "ConfirmationSent ORD-2", "OrderPlaced ORD-1", "OrderPlaced ORD-2"];
    assert_eq!(log, expected);
}
