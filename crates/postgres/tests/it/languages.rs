//! The same append from psql and from Python: a row of the application and its event, in one transaction.

use std::env;
use std::process::{Command, Output};

use crate::given::{Database, log};

/// What a program is started with, and the one that is to be appended to which version with which end.
type Program = fn(&Database, &str, &str, &str) -> Command;

fn program(variable: &str) -> Command {
    let path = env::var(variable).ok().filter(|path| !path.is_empty());
    Command::new(path.unwrap_or_else(|| panic!("{variable} names a program; `cargo xtask test` installs it")))
}

fn file(name: &str) -> String {
    format!("{}/tests/it/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn psql(database: &Database, order: &str, expected: &str, end: &str) -> Command {
    let mut psql = program("ENSUE_TEST_PSQL");
    psql.args(["-X", "-A", "-t", "-q", "-f", &file("append.sql")]);
    for (name, value) in [("order", order), ("expected", expected), ("end", end)] {
        psql.args(["-v", &format!("{name}={value}")]);
    }
    psql.arg(database.as_url());
    psql
}

fn python(database: &Database, order: &str, expected: &str, end: &str) -> Command {
    let mut python = program("ENSUE_TEST_PYTHON");
    python.args([&file("append.py"), &database.as_url(), order, expected, end]);
    python
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat().trim().to_owned()
}

async fn places_orders(program: Program, word: &str) {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    client.batch_execute("CREATE TABLE orders (id text PRIMARY KEY)").await.expect("valid SQL");
    let run = |order: &str, expected: &str, end: &str| {
        program(&database, order, expected, end).output().expect("the program starts")
    };
    for (order, end) in [("ORD-1", "COMMIT"), ("ORD-2", "ROLLBACK"), ("ORD-3", "COMMIT")] {
        let output = run(order, "0", end);
        assert!(output.status.success(), "{word}: {}", said(&output));
        assert_eq!(said(&output), "1", "{word} is told the version");
    }
    let stale = run("ORD-4", "7", "COMMIT");
    assert_eq!(stale.status.code(), Some(3), "{word}: {}", said(&stale));
    assert!(said(&stale).contains("EN001"), "{word}: {}", said(&stale));

    let rows = client.query("SELECT id FROM orders ORDER BY id", &[]).await.expect("valid SQL");
    let orders: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(orders, ["ORD-1", "ORD-3"], "{word}");
    let events: Vec<String> =
        log(&store).await.iter().map(|line| line[.."ORD-1 1".len()].to_owned()).collect();
    assert_eq!(events, ["ORD-1 1", "ORD-3 1"], "{word}: an event for each row, and no other");
    let data = "SELECT data::text, event_type FROM ensue.read(0, 1)";
    let row = client.query_one(data, &[]).await.expect("readable");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("{\"total\": 5.5}", "OrderPlaced"), "{word}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn psql_places_an_order_and_its_event_together_or_not_at_all() {
    places_orders(psql, "psql").await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn python_places_an_order_and_its_event_together_or_not_at_all() {
    places_orders(python, "Python").await;
}
