//! A handler that takes the session of its transaction, in the runtime as it ships.

use std::sync::atomic::{AtomicU32, Ordering};

use ensue_core::{Error, Event as _, EventType, Query, Read, Store as _, StoreExt};
use ensue_macros::Event;
use ensue_runtime::{App, Tx};
use ensue_sqlite::rusqlite::Connection;
use ensue_sqlite::{Session, SqliteStore};
use serde::{Deserialize, Serialize};

use crate::given::Folder;

const ORDERS: usize = 20;

#[derive(Event, Serialize, Deserialize, Clone)]
#[event(crate = ensue_core, topic = "Order", key = number)]
struct Placed {
    number: String,
}

#[derive(Event, Serialize, Deserialize, Clone)]
#[event(crate = ensue_core, topic = "Order", key = number)]
struct WrittenDown {
    number: String,
}

static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

/// Fails the first time, after it has written.
async fn write_down(Tx(session): Tx<Session>, placed: Placed) -> Result<WrittenDown, Error> {
    let number = placed.number.clone();
    session.run(move |connection| connection.execute("INSERT INTO orders VALUES (?1)", [number])).await?;
    if ATTEMPTS.fetch_add(1, Ordering::Relaxed) == 0 {
        // The same row once more: the table refuses it.
        let number = placed.number.clone();
        session.run(move |connection| connection.execute("INSERT INTO orders VALUES (?1)", [number])).await?;
    }
    Ok(WrittenDown { number: placed.number })
}

/// Waits until so many orders were written down.
async fn written_down(store: &SqliteStore) {
    loop {
        let head = store.head().await.expect("the head can be read");
        let query = Query::types([EventType::new(WrittenDown::INFO.event_type).expect("a valid type")]);
        if store.collect(Read::query(query)).await.expect("it can be read").len() == ORDERS {
            return;
        }
        store.advanced(head).await.expect("the head advances");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_events_of_a_handler_are_there_once_each() {
    let folder = Folder::new();
    let store = folder.open().await;
    let application = Connection::open(folder.file()).expect("the file is a database");
    application.execute_batch("CREATE TABLE orders (number TEXT PRIMARY KEY)").expect("a table is made");
    let app = App::new("shop").store(store.clone()).external::<Placed>().react("write-down", write_down);
    let running = app.start().await.expect("the store has transactions");
    for number in 0..ORDERS {
        running.publish(Placed { number: format!("ORD-{number:02}") }).await.expect("it is taken");
    }
    written_down(&store).await;
    let rows: usize = application
        .query_row("SELECT count(*) FROM orders", (), |row| row.get::<_, i64>(0))
        .map(|rows| usize::try_from(rows).expect("a count"))
        .expect("the table is there");
    assert_eq!(rows, ORDERS);
    assert_eq!(ATTEMPTS.load(Ordering::Relaxed) as usize, ORDERS + 1, "one attempt has failed");
}
