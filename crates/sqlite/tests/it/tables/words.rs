//! The events and the read model of these tests, and what should be in its tables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ensue_core::{Error, Position, Store};
use ensue_macros::Event;
use ensue_runtime::projection::{Page, Tables};
use ensue_runtime::{App, Running, TableProjection};
use ensue_sqlite::Session;
use ensue_sqlite::rusqlite::{self, Connection, params};
use serde::{Deserialize, Serialize};

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

/// Orders, and a total for each customer. An order that is written twice, and one below zero, are refused by the tables.
#[derive(Clone, Default)]
pub(crate) struct Totals {
    /// Takes what is below zero as its opposite.
    pub(crate) is_lenient: Arc<AtomicBool>,
    /// Pages that were handed in, and the events in them.
    pub(crate) pages: Arc<AtomicU32>,
    pub(crate) events: Arc<AtomicU32>,
}

/// What it makes and writes.
fn tables(more: &str) -> Tables {
    Tables::new()
        .table(
            "totals",
            &format!("CREATE TABLE {{totals}} (customer TEXT PRIMARY KEY, orders INTEGER NOT NULL, cents INTEGER NOT NULL{more})"),
        )
        .table(
            "orders",
            "CREATE TABLE {orders} (number TEXT PRIMARY KEY, customer TEXT NOT NULL REFERENCES {totals}, cents INTEGER NOT NULL CHECK (cents >= 0));
             CREATE INDEX {orders}_by_customer ON {orders} (customer)",
        )
}

fn write(connection: &Connection, total: &str, order: &str, placed: &Placed) -> rusqlite::Result<()> {
    connection.prepare_cached(total)?.execute(params![placed.customer, placed.cents])?;
    connection.prepare_cached(order)?.execute(params![placed.number, placed.customer, placed.cents])?;
    Ok(())
}

const TOTAL: &str = "INSERT INTO {totals} (customer, orders, cents) VALUES (?1, 1, ?2)
    ON CONFLICT (customer) DO UPDATE SET orders = orders + 1, cents = cents + ?2";
const ORDER: &str = "INSERT INTO {orders} VALUES (?1, ?2, ?3)";

impl TableProjection for Totals {
    const NAME: &'static str = "totals";
    type Event = Placed;
    type Session = Session;

    fn tables(&self) -> Tables {
        tables("")
    }

    async fn apply(&self, page: Page<Placed>, session: &Session) -> Result<(), Error> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(u32::try_from(page.events.len()).expect("a page is small"), Ordering::Relaxed);
        let (total, order) = (page.sql(TOTAL), page.sql(ORDER));
        let is_lenient = self.is_lenient.load(Ordering::Relaxed);
        let work = move |connection: &Connection| {
            page.events.into_iter().try_for_each(|(mut placed, _)| {
                placed.cents = if is_lenient { placed.cents.abs() } else { placed.cents };
                write(connection, &total, &order, &placed)
            })
        };
        session.run(work).await
    }
}

/// The same read model with cents in place of orders that are counted twice over, so that the two cannot be confused.
pub(crate) struct Doubled;

impl TableProjection for Doubled {
    const NAME: &'static str = Totals::NAME;
    const VERSION: u32 = 2;
    type Event = Placed;
    type Session = Session;

    fn tables(&self) -> Tables {
        tables(", version INTEGER NOT NULL DEFAULT 2")
    }

    async fn apply(&self, page: Page<Placed>, session: &Session) -> Result<(), Error> {
        let (total, order) = (page.sql(TOTAL), page.sql(ORDER));
        let work = move |connection: &Connection| {
            page.events.into_iter().try_for_each(|(mut placed, _)| {
                placed.cents *= 2;
                write(connection, &total, &order, &placed)
            })
        };
        session.run(work).await
    }
}

/// The rows of both tables in one transaction, and the version of the table.
#[derive(PartialEq, Eq, Debug, Clone)]
pub(crate) struct Rows {
    pub(crate) version: u32,
    pub(crate) totals: BTreeMap<String, (i64, i64)>,
    pub(crate) orders: BTreeMap<String, i64>,
}

/// What should be in the tables after these orders.
pub(crate) fn expected(version: u32, numbers: impl IntoIterator<Item = i64>) -> Rows {
    let mut rows = Rows { version, totals: BTreeMap::new(), orders: BTreeMap::new() };
    for placed in numbers.into_iter().map(order) {
        let cents = placed.cents * i64::from(version);
        let total = rows.totals.entry(placed.customer).or_default();
        *total = (total.0 + 1, total.1 + cents);
        rows.orders.insert(placed.number, cents);
    }
    rows
}

/// What is in the tables of the file, as another program reads them.
pub(crate) fn rows(file: &Path) -> Rows {
    let mut connection = Connection::open(file).expect("the file is a database");
    read(&mut connection).expect("the tables are there")
}

pub(crate) fn read(connection: &mut Connection) -> rusqlite::Result<Rows> {
    let transaction = connection.transaction()?;
    let version = transaction.query_row(
        "SELECT 1 + count(*) FROM pragma_table_info('totals') WHERE name = 'version'",
        (),
        |row| row.get(0),
    )?;
    let totals = transaction
        .prepare("SELECT customer, orders, cents FROM totals")?
        .query_map((), |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
        .collect::<rusqlite::Result<_>>()?;
    let orders = transaction
        .prepare("SELECT number, cents FROM orders")?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Rows { version, totals, orders })
}

/// The tables of the application in the file.
pub(crate) fn tables_in(file: &Path) -> Vec<String> {
    let connection = Connection::open(file).expect("the file is a database");
    let mut statement = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'ensue_%' AND name NOT LIKE 'sqlite_%' ORDER BY name")
        .expect("it has a schema");
    statement.query_map((), |row| row.get(0)).and_then(Iterator::collect).expect("names are text")
}

/// An application with the read model, started.
pub(crate) async fn start(store: impl Store + 'static, mount: impl FnOnce(App) -> App) -> Running {
    let app = App::new("shop").store(store).external::<Placed>().without_flow_index();
    mount(app).start().await.expect("it starts")
}

/// Places these orders; the position of the last one.
pub(crate) async fn place(running: &Running, numbers: impl IntoIterator<Item = i64>) -> Position {
    let mut last = Position::ZERO;
    for number in numbers {
        last = running.publish(order(number)).await.expect("it is taken").position;
    }
    last
}
