//! The events and the read model of these tests, and what should be in its tables.

use std::collections::BTreeMap;

use ensue_core::{Error, Position, Store};
use ensue_macros::Event;
use ensue_postgres::Session;
use ensue_runtime::projection::{Page, Tables};
use ensue_runtime::{App, Running, TableProjection};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

#[derive(Event, Serialize, Deserialize, Clone)]
#[event(crate = ensue_core, topic = "Order", key = customer)]
pub(crate) struct Placed {
    pub(crate) number: String,
    pub(crate) customer: String,
    pub(crate) cents: i64,
}

/// The order of this number, of one of three customers.
pub(crate) fn order(number: i64) -> Placed {
    let customer = format!("CUST-{}", number % 3);
    Placed { number: format!("ORD-{number:04}"), customer, cents: number }
}

/// Orders, and a total for each customer. An order that is written twice is refused by the tables.
pub(crate) struct Totals;

impl TableProjection for Totals {
    const NAME: &'static str = "totals";
    type Event = Placed;
    type Session = Session;

    fn tables(&self) -> Tables {
        tables("")
    }

    async fn apply(&self, page: Page<Placed>, session: &Session) -> Result<(), Error> {
        write(&page, session, 1).await
    }
}

/// The same read model, with twice the cents and a table of another shape.
pub(crate) struct Doubled;

impl TableProjection for Doubled {
    const NAME: &'static str = Totals::NAME;
    const VERSION: u32 = 2;
    type Event = Placed;
    type Session = Session;

    fn tables(&self) -> Tables {
        tables(", version integer NOT NULL DEFAULT 2")
    }

    async fn apply(&self, page: Page<Placed>, session: &Session) -> Result<(), Error> {
        write(&page, session, 2).await
    }
}

fn tables(more: &str) -> Tables {
    Tables::new()
        .table(
            "totals",
            &format!("CREATE TABLE {{totals}} (customer text PRIMARY KEY, orders bigint NOT NULL, cents bigint NOT NULL{more})"),
        )
        .table(
            "orders",
            "CREATE TABLE {orders} (number text PRIMARY KEY, customer text NOT NULL REFERENCES {totals}, cents bigint NOT NULL CHECK (cents >= 0));
             CREATE INDEX {orders}_by_customer ON {orders} (customer)",
        )
}

async fn write(page: &Page<Placed>, session: &Session, factor: i64) -> Result<(), Error> {
    let total = page.sql(
        "INSERT INTO {totals} AS t (customer, orders, cents) VALUES ($1, 1, $2)
         ON CONFLICT (customer) DO UPDATE SET orders = t.orders + 1, cents = t.cents + $2",
    );
    let order = page.sql("INSERT INTO {orders} VALUES ($1, $2, $3)");
    let client = session.client()?;
    let failed = |cause| Session::refused("cannot write down an order", cause);
    let (total, order) =
        (client.prepare(&total).await.map_err(failed)?, client.prepare(&order).await.map_err(failed)?);
    for (placed, _) in &page.events {
        let cents = placed.cents * factor;
        client.execute(&total, &[&placed.customer, &cents]).await.map_err(failed)?;
        client.execute(&order, &[&placed.number, &placed.customer, &cents]).await.map_err(failed)?;
    }
    Ok(())
}

/// The rows of both tables.
#[derive(PartialEq, Eq, Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) totals: BTreeMap<String, (i64, i64)>,
    pub(crate) orders: BTreeMap<String, i64>,
}

/// What should be in the tables after these orders.
pub(crate) fn expected(factor: i64, numbers: impl IntoIterator<Item = i64>) -> Rows {
    let mut rows = Rows::default();
    for placed in numbers.into_iter().map(order) {
        let cents = placed.cents * factor;
        let total = rows.totals.entry(placed.customer).or_default();
        *total = (total.0 + 1, total.1 + cents);
        rows.orders.insert(placed.number, cents);
    }
    rows
}

/// What is in the tables, in one look of another program.
pub(crate) async fn rows(client: &Client) -> Rows {
    let sql = "SELECT 'total', customer, orders, cents FROM totals
               UNION ALL SELECT 'order', number, 1, cents FROM orders";
    let mut rows = Rows::default();
    for row in client.query(sql, &[]).await.expect("the tables are there at every moment") {
        let (key, count, cents) = (row.get(1), row.get(2), row.get(3));
        match row.get(0) {
            "total" => drop(rows.totals.insert(key, (count, cents))),
            _ => drop(rows.orders.insert(key, cents)),
        }
    }
    rows
}

/// The tables of the application.
pub(crate) async fn tables_in(client: &Client) -> Vec<String> {
    let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    client.query(sql, &[]).await.expect("valid SQL").iter().map(|row| row.get(0)).collect()
}

/// An application with the read model, started.
pub(crate) async fn start(store: impl Store + 'static, mount: impl FnOnce(App) -> App) -> Running {
    let app = App::new("shop").store(store).external::<Placed>().without_flow_index();
    mount(app).start().await.expect("it starts")
}

/// Places these orders, each again until it is taken; the position of the last one.
pub(crate) async fn place(running: &Running, numbers: impl IntoIterator<Item = i64>) -> Position {
    let mut last = Position::ZERO;
    for number in numbers {
        let placed = order(number);
        let id = ensue_core::EventId::new(placed.number.clone()).expect("a valid id");
        last = loop {
            match running.publish_as(id.clone(), placed.clone()).await {
                Ok(admitted) => break admitted.position,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        };
    }
    last
}
