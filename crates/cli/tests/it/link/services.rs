//! The shop as two services in two processes, each with a store of its own, over a broker that is killed twice while orders are served:
//! every order comes to one end.
//!
//! `cargo xtask test` runs it short. `ENSUE_LINKED_ORDERS` makes it long: by hand `ENSUE_LINKED_ORDERS=10000 cargo test -p ensue-cli
//! --test it two_processes -- --ignored --nocapture --test-threads 1`, with what `cargo xtask services up` prints in the environment.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::passing::{Over, Printing, Side};
use crate::demo::adds_up;

const ORDERS: u64 = 100;
const KILLS: u64 = 2;
/// What an order ends with, where services react to each other.
const ENDS: [&str; 3] = ["CustomerNotified", "PaymentFailed", "PaymentRefunded"];

/// Serves all orders while the broker is killed twice.
pub(super) fn two_processes_serve<O: Over>(over: &O) {
    let orders = orders();
    let taken = |place: &str| format!("{{ from = {} }}", over.from(place));
    let shop = Side::new(&over.link(
        "shop",
        &format!(
            "relay = [{{ topic = \"Order\", to = \"shop.orders\" }}, {{ topic = \"Stock\", to = \"shop.stock\" }}]\n\
             intake = [{}]",
            taken("shop.payments")
        ),
    ));
    let bank = Side::new(&over.link(
        "bank",
        &format!(
            "relay = [{{ topic = \"Payment\", to = \"shop.payments\" }}]\nintake = [{}, {}]",
            taken("shop.orders"),
            taken("shop.stock")
        ),
    ));
    let outside = shop.ensue.around.path().join("outside").display().to_string();
    let count = orders.to_string();
    let started = Instant::now();
    let paying = serve(&bank, "payments", &["--outside", &outside, "-o", "jsonl"]);
    let (paying, _said) = until_said(paying, "the links are up");
    let serving = serve(&shop, "orders", &["--outside", &outside, "--orders", &count, "-o", "json"]);
    let ends = strike(over, &shop, orders);
    let report = report(serving);
    eprintln!(
        "{}: {orders} orders of two processes, {KILLS} kills, {:.1} s",
        O::BACKEND,
        started.elapsed().as_secs_f64()
    );
    eprintln!("{report}");
    adds_up(&report["choreography"], orders);
    assert_eq!(ends.len() as u64, orders);
    let twice: Vec<_> = ends.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let paid = Printing::of(paying).end();
    assert_eq!(paid.last().expect("a report").get("findings"), None, "{paid:?}");
    for side in [&shop, &bank] {
        assert_eq!(side.objects(&["dead", "ls"]), Vec::<Value>::new(), "an outage parks nothing");
    }
    let links = [shop.links("ls"), bank.links("ls")].concat();
    assert!(
        links.iter().any(|link| link["trouble"] != json!(null)),
        "they have missed the broker: {links:?}"
    );
}

fn orders() -> u64 {
    let said = std::env::var("ENSUE_LINKED_ORDERS").ok();
    said.map_or(ORDERS, |text| text.parse().expect("ENSUE_LINKED_ORDERS is a number"))
}

fn serve(side: &Side, service: &str, more: &[&str]) -> Child {
    let common = ["--store", &side.store, "demo", "--service", service, "--config", &side.config];
    let mut command = side.ensue.command(&[&common, more].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

/// Reads what it says until it says this. The rest is kept open, so that it may say more.
fn until_said(mut child: Child, words: &str) -> (Child, impl BufRead) {
    let mut said = BufReader::new(child.stderr.take().expect("it was piped"));
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        assert_ne!(said.read_line(&mut line).expect("it says text"), 0, "it has ended");
    }
    (child, said)
}

/// Kills the broker twice while orders are under way; how often each order has ended, once all have.
fn strike<O: Over>(over: &O, shop: &Side, orders: u64) -> BTreeMap<String, u64> {
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    let mut kills = 0;
    let mut events = tail(shop);
    while (ends.len() as u64) < orders {
        let event = events.next().expect("it follows");
        if !ENDS.iter().any(|end| event["type"] == *end) {
            continue;
        }
        *ends.entry(event["subject"].as_str().expect("an order").to_owned()).or_default() += 1;
        if kills < KILLS && ends.len() as u64 >= (kills + 1) * orders / (KILLS + 2) {
            over.server().keep_topology();
            over.server().kill();
            kills += 1;
            over.server().start();
        }
    }
    assert_eq!(kills, KILLS, "the broker was killed while orders were under way");
    ends
}

/// The events of a store that its service is about to make; the first of them is no end.
fn tail(shop: &Side) -> Printing {
    loop {
        let mut tail = shop.tail();
        if tail.next().is_some() {
            return tail;
        }
    }
}

fn report(serving: Child) -> Value {
    let output = serving.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a report")
}
