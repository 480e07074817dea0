//! The service on a database of its own, asked as axum would be asked over the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, process, thread};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use ensue::{Read, Store, StoreExt};
use ensue_orders_axum::service;
use serde_json::Value;
use sqlx_0_9::{Connection as _, PgConnection, PgPool, query};
use tower::ServiceExt as _;

/// A database that goes with the test, and the service on it.
pub(crate) struct Shop {
    pub(crate) pool: PgPool,
    pub(crate) store: Arc<dyn Store>,
    service: Router,
    server: String,
    database: String,
}

impl Shop {
    pub(crate) async fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let server = env::var("ENSUE_TEST_POSTGRES")
            .expect("ENSUE_TEST_POSTGRES names a server; `cargo xtask test` starts one");
        let database = format!("test_orders_{}_{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        execute(&server, &format!("CREATE DATABASE {database}")).await;
        let (before, after) = server.rsplit_once('/').expect("a URL with a database");
        let parameters = after.split_once('?').map(|(_, parameters)| parameters).unwrap_or_default();
        let url = format!("{before}/{database}?{parameters}");
        let store = Arc::new(ensue_postgres::connect(&url).await.expect("an empty database becomes a store"));
        let pool = PgPool::connect(&url).await.expect("the server runs");
        let service = service(pool.clone()).await.expect("the table can be made");
        Self { pool, store, service, server, database }
    }

    /// Status and body of the answer to a request without a body.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> (StatusCode, Value) {
        self.send(Request::builder().method(method).uri(path).body(Body::empty()).expect("a request")).await
    }

    /// Status and body of the answer to a `PUT`.
    pub(crate) async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let request =
            Request::builder().method(Method::PUT).uri(path).header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).expect("a request")).await
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.service.clone().oneshot(request).await.expect("the service answers");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 16).await.expect("a short body");
        let text = String::from_utf8_lossy(&body).into_owned();
        (status, serde_json::from_slice(&body).unwrap_or(Value::String(text)))
    }

    /// Type and key of every event, in order.
    pub(crate) async fn log(&self) -> Vec<String> {
        let events = self.store.collect(Read::all()).await.expect("the log can be read");
        let line =
            |event: &ensue::core::Recorded| format!("{} {}", event.envelope.event_type, event.stream.key);
        events.iter().filter(|event| event.stream.topic.as_str() == "Order").map(line).collect()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.database));
        // A thread of its own, because this is dropped inside of a runtime.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(execute(&server, &sql));
        });
        assert!(
            dropped.join().is_ok() || thread::panicking(),
            "the database {} is left behind",
            self.database
        );
    }
}

async fn execute(server: &str, sql: &str) {
    let mut connection = PgConnection::connect(server).await.expect("the server runs");
    query(sqlx_0_9::AssertSqlSafe(sql)).execute(&mut connection).await.expect("the user may make databases");
}
