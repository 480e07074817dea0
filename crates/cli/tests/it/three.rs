//! The whole shop on PostgreSQL as three processes that are killed again and again: one places orders, two have joined. Every
//! order comes to one end, every effect takes hold once, and the books of everybody agree.
//!
//! `cargo xtask test` runs it short. `ENSUE_THREE_ORDERS` makes it long; `ENSUE_THREE_KILLS` spreads so many kills over the orders, or
//! `ENSUE_THREE_EVERY_S` kills a process every so many seconds. By hand, three processes for each style: `ENSUE_THREE_ORDERS=20000
//! ENSUE_THREE_EVERY_S=5 cargo test --release -p ensue-cli --test it three -- --ignored --nocapture --test-threads 1`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use ensue_postgres::tokio_postgres::{Client, NoTls};
use serde_json::{Value, json};

use crate::demo::adds_up;
use crate::{Answer, Ensue, answer};

const ORDERS: u64 = 300;
const KILLS: u64 = 4;
/// Kills that are a test of anything.
const KILLS_MIN: u64 = 2;

/// When processes are killed.
#[derive(Clone, Copy)]
enum Killing {
    /// So often, spread evenly over the orders.
    Times(u64),
    /// Whenever so much time has passed.
    Every(Duration),
}

impl Killing {
    fn from_environment() -> Self {
        match from_environment("ENSUE_THREE_EVERY_S") {
            Some(seconds) => Self::Every(Duration::from_secs(seconds)),
            None => Self::Times(from_environment("ENSUE_THREE_KILLS").unwrap_or(KILLS)),
        }
    }

    /// How many are due once so many of all orders were charged for.
    fn due(self, done: u64, orders: u64, elapsed: Duration) -> u64 {
        match self {
            Self::Times(kills) => done * (kills + 1) / orders,
            Self::Every(interval) => {
                u64::try_from(elapsed.as_nanos() / interval.as_nanos()).expect("a number")
            }
        }
    }
}

/// A database of its own, and the folder of the world outside.
pub(crate) struct Shop {
    ensue: Ensue,
    server: String,
    database: String,
    pub(crate) store: String,
}

impl Shop {
    pub(crate) fn new(style: &str) -> Self {
        let server = std::env::var("ENSUE_TEST_POSTGRES")
            .expect("ENSUE_TEST_POSTGRES names a server; `cargo xtask test` starts one");
        let database = format!("test_three_{style}_{}", std::process::id());
        execute(&server, &format!("CREATE DATABASE {database}"));
        let (before, after) = server.rsplit_once('/').expect("a URL with a database");
        let parameters = after.split_once('?').map(|(_, parameters)| parameters).unwrap_or_default();
        let store = format!("{before}/{database}?{parameters}");
        let shop = Self { ensue: Ensue::new(), server, database, store };
        shop.run(&["store", "migrate"]).ok();
        shop
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.ensue.command(arguments);
        command.env("ENSUE_STORE", &self.store);
        command
    }

    /// The address of a folder beside it.
    pub(crate) fn folder(&self) -> String {
        format!("file:{}", self.ensue.around.path().join("folder").display())
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        answer(self.command(arguments), "")
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    }

    /// First answers of a ledger by key; a key that was answered twice fails the test.
    fn answers(&self, who: &str) -> BTreeMap<String, Value> {
        let path = self.ensue.data().join("outside").join(who).join("ledger.lines");
        let text = std::fs::read_to_string(path).expect("a ledger that is closed is text");
        let mut answers = BTreeMap::new();
        for line in text.lines() {
            let (_, line) = line.split_at(9);
            let line: Value = serde_json::from_str(line).expect(line);
            let Some(answered) = line.get("answered") else { continue };
            let key = answered["key"].as_str().expect("a key").to_owned();
            let before = answers.insert(key, answered.clone());
            assert_eq!(before, None, "{who} answered one key twice");
        }
        answers
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        execute(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.database));
    }
}

fn execute(server: &str, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, connection): (Client, _) =
            ensue_postgres::tokio_postgres::connect(server, NoTls).await.expect("the server runs");
        tokio::spawn(connection);
        client.batch_execute(sql).await.expect("the user may make databases");
    });
}

/// The processes, the one that places orders first, and what each is started with after a kill.
struct Processes<'a> {
    shop: &'a Shop,
    running: Vec<Child>,
    kills: u64,
    dice: u64,
}

impl Processes<'_> {
    /// Kills one of them and starts it again, as whoever watches over processes would.
    fn kill_one(&mut self) {
        // A linear congruence: the order of victims is the same in every run, the moments are not.
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let index = usize::try_from((self.dice >> 33) % 3).expect("a small number");
        let victim = &mut self.running[index];
        assert_eq!(victim.try_wait().expect("our own child"), None, "process {index} ended by itself");
        victim.kill().expect("it runs");
        assert_eq!(victim.wait().expect("it was killed").signal(), Some(9));
        self.kills += 1;
        let role = if index == 0 { "--resume" } else { "--join" };
        *victim = self.shop.spawn(&["demo", role, "-o", "json"]);
    }
}

/// Serves all orders while processes are killed; the report of the one that places them, and how many were.
fn serve(shop: &Shop, style: &str, orders: u64, killing: Killing) -> (Value, u64) {
    let mut tail = shop.spawn(&["tail", "Payment*", "-o", "jsonl"]);
    let begin = ["demo", "--style", style, "--orders", &orders.to_string(), "-o", "json"];
    let mut processes =
        Processes { shop, running: vec![shop.spawn(&begin)], kills: 0, dice: u64::from(tail.id()) };
    let began = Instant::now();
    let mut charged = BTreeSet::new();
    let lines = BufReader::new(tail.stdout.take().expect("it was piped")).lines();
    for line in lines {
        let event: Value = serde_json::from_str(&line.expect("it tails")).expect("an event");
        if !matches!(event["type"].as_str(), Some("PaymentCompleted" | "PaymentFailed")) {
            continue;
        }
        charged.insert(event["subject"].as_str().expect("an order").to_owned());
        let done = charged.len() as u64;
        if processes.running.len() == 1 {
            // The plan of the demonstration is there when its first event is.
            processes.running.extend([
                shop.spawn(&["demo", "--join", "-o", "json"]),
                shop.spawn(&["demo", "--join", "-o", "json"]),
            ]);
        }
        if done == orders {
            break;
        }
        if killing.due(done, orders, began.elapsed()) > processes.kills {
            processes.kill_one();
        }
    }
    tail.kill().expect("it runs");
    tail.wait().expect("it was killed");
    let kills = processes.kills;
    assert!(kills >= KILLS_MIN, "processes were killed in the middle of their work: {kills}");
    let outputs: Vec<_> =
        processes.running.into_iter().map(|child| child.wait_with_output().expect("it ends")).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    eprintln!("{style}: {orders} orders, {kills} kills, {:.1} s", began.elapsed().as_secs_f64());
    let report: Value = serde_json::from_slice(&outputs[0].stdout).expect("a report");
    eprintln!("{report}");
    (report[style].clone(), kills)
}

/// Every order has exactly one of each event that may happen to it, and exactly one end.
fn one_end_for_each(shop: &Shop, style: &str, orders: u64) {
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    let mut events: BTreeSet<(String, String)> = BTreeSet::new();
    let ending: &[&str] = match style {
        "choreography" => &["CustomerNotified", "PaymentFailed", "PaymentRefunded"],
        _ => &["OrderCompleted", "saga.Compensated"],
    };
    for event in shop.run(&["tail", "-e", "-o", "jsonl"]).ok().objects() {
        let (kind, key) =
            (event["type"].as_str().expect("a type"), event["subject"].as_str().expect("a key"));
        if ending.contains(&kind) {
            *ends.entry(key.to_owned()).or_default() += 1;
        }
        let is_business =
            !kind.contains('.') && event["topic"].as_str().is_some_and(|topic| !topic.contains('.'));
        assert!(!is_business || events.insert((key.to_owned(), kind.to_owned())), "{key} has two {kind}");
    }
    assert_eq!(ends.len() as u64, orders);
    let twice: Vec<_> = ends.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn three_processes_serve(style: &str) {
    let orders = from_environment("ENSUE_THREE_ORDERS").unwrap_or(ORDERS);
    let shop = Shop::new(style);
    let (report, kills) = serve(&shop, style, orders, Killing::from_environment());
    adds_up(&report, orders);
    one_end_for_each(&shop, style, orders);
    let charges = shop.answers("payments");
    let charged: Vec<String> = charges
        .values()
        .filter_map(|answered| answered["request"].get("charge"))
        .map(|charge| charge["order_id"].to_string())
        .collect();
    assert_eq!(charged.len() as u64, orders, "a charge for each order");
    assert_eq!(charged.iter().collect::<BTreeSet<_>>().len() as u64, orders, "no order was charged twice");
    for who in ["warehouse", "carrier"] {
        assert!(!shop.answers(who).is_empty());
    }
    let lanes = shop.run(&["subscription", "ls", "-o", "json"]).ok().object();
    let lanes = lanes.as_array().expect("a list");
    let hand_overs: u64 =
        lanes.iter().map(|lane| lane["epoch"].as_u64().expect("a number").saturating_sub(1)).sum();
    eprintln!("{} lanes changed hands {hand_overs} times", lanes.len());
    assert!(hand_overs > kills, "lanes went from killed processes to others: {hand_overs}");
    for model in ["orders_view", "sales"] {
        shop.run(&["projection", "verify", model]).ok();
    }
    assert_eq!(shop.run(&["dead", "ls", "-o", "json"]).ok().object(), json!([]));
}

#[test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
fn three_processes_that_are_killed_serve_every_order_once_where_services_react() {
    three_processes_serve("choreography");
}

#[test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
fn three_processes_that_are_killed_serve_every_order_once_where_a_saga_conducts() {
    three_processes_serve("saga");
}

#[test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
fn a_demonstration_is_joined_only_where_one_runs() {
    let shop = Shop::new("join");
    shop.run(&["demo", "--join"]).refused(3, "E0406").says("no demo to join");
    shop.run(&["demo", "--join", "--orders", "5"]).refused(2, "--orders");
    shop.run(&["demo", "--orders", "5", "-q"]).ok();
    let joined = shop.run(&["demo", "--join", "-o", "json"]).ok().object();
    assert_eq!(joined["choreography"]["orders"], 5, "one that has ended is joined and left at once");
}
