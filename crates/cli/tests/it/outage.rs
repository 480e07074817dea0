//! A database that is away for longer than any call waits: whoever follows it is told once, told again when it is back, and goes on.

use std::io::{BufRead, BufReader, Lines, Read};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use ensue_test::server::free_port;
use serde_json::Value;

use crate::answer;
use crate::demo::adds_up;
use crate::three::Shop;

/// A way to the server that can be closed: then nobody listens there, and what was connected is cut.
struct Gate {
    server: u16,
    port: u16,
    is_closed: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    listening: Option<JoinHandle<()>>,
}

impl Gate {
    fn before(server: u16) -> Self {
        // None that the system or this process gives to others while the gate is closed.
        let port = free_port();
        let (is_closed, connections) = (Arc::default(), Arc::default());
        let mut gate = Self { server, port, is_closed, connections, listening: None };
        gate.open();
        gate
    }

    fn open(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("nobody else took it");
        self.is_closed.store(false, Ordering::SeqCst);
        let (server, is_closed) = (self.server, Arc::clone(&self.is_closed));
        let connections = Arc::clone(&self.connections);
        self.listening = Some(thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_closed.load(Ordering::SeqCst) {
                    return;
                }
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).expect("the server runs");
                let both = [&client, &server].map(|end| end.try_clone().expect("a handle"));
                connections.lock().unwrap_or_else(PoisonError::into_inner).extend(both);
                carry(&client, &server);
                carry(&server, &client);
            }
        }));
    }

    fn close(&mut self) {
        self.is_closed.store(true, Ordering::SeqCst);
        // The listener looks up when somebody comes.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        self.listening.take().expect("it was open").join().expect("it ends");
        let cut: Vec<_> = self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        let was_up = cut.iter().filter(|end| end.shutdown(Shutdown::Both).is_ok()).count();
        assert!(was_up > 0, "nobody was connected");
    }
}

fn carry(from: &TcpStream, to: &TcpStream) {
    let [mut from, mut to] = [from, to].map(|end| end.try_clone().expect("a handle"));
    thread::spawn(move || {
        let _cut = std::io::copy(&mut from, &mut to).is_err();
        let _gone = to.shutdown(Shutdown::Both).is_err();
    });
}

/// The shop, and the store as it is seen through the gate.
fn gated(name: &str) -> (Shop, Gate, String) {
    let shop = Shop::new(name);
    let (before, after) = shop.store.rsplit_once(':').expect("a URL with a port");
    let (port, rest) = after.split_once('/').expect("a URL with a database");
    let gate = Gate::before(port.parse().expect("a port"));
    let store = format!("{before}:{}/{rest}", gate.port);
    (shop, gate, store)
}

fn start(mut command: Command, store: &str) -> (Child, Lines<BufReader<ChildStderr>>) {
    command.env("ENSUE_STORE", store).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let talk = BufReader::new(child.stderr.take().expect("it was piped")).lines();
    (child, talk)
}

fn next(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> String {
    lines.next().expect("it goes on").expect("text")
}

/// Waits until a call that began after the gate was closed has given up: then those before it have, too.
fn outlast(shop: &Shop, store: &str) {
    let mut command = shop.command(&["tail", "-e"]);
    command.env("ENSUE_STORE", store);
    let given_up = answer(command, "").refused(1, "E0421");
    assert_eq!(given_up.err.matches("it is tried again").count(), 1, "{}", given_up.err);
}

fn count(shop: &Shop, number: u32) {
    let document =
        format!(r#"{{"event_type":"Counted","event_id":"c{number}","data":{{"count":{number}}}}}"#);
    answer(shop.command(&["emit", "-d", "-", "--stream", "Counter/one"]), &document).ok();
}

#[test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
fn tail_says_when_the_database_is_away_and_back_and_prints_each_event_once() {
    let (shop, mut gate, store) = gated("outage_tail");
    let (mut tail, mut talk) = start(shop.command(&["tail", "-o", "jsonl"]), &store);
    let mut events = BufReader::new(tail.stdout.take().expect("it was piped")).lines();
    for number in 1..=3 {
        count(&shop, number);
        assert!(next(&mut events).contains(&format!(r#""id":"c{number}""#)));
    }
    gate.close();
    assert!(next(&mut talk).starts_with("E0421: cannot connect to the database at "));
    count(&shop, 4);
    outlast(&shop, &store);
    gate.open();
    assert!(next(&mut talk).starts_with("the database is reached again, after "));
    assert!(next(&mut events).contains(r#""id":"c4""#));
    count(&shop, 5);
    assert!(next(&mut events).contains(r#""id":"c5""#), "each once, in order");
    tail.kill().expect("it follows for ever");
    tail.wait().expect("it was killed");
    assert_eq!(talk.map_while(Result::ok).collect::<Vec<_>>(), Vec::<String>::new(), "each was told once");
}

#[test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
fn a_demo_outlasts_a_database_that_is_away_and_its_books_agree() {
    const ORDERS: u64 = 300;
    let (shop, mut gate, store) = gated("outage_demo");
    let orders = ORDERS.to_string();
    let (mut demo, mut talk) = start(shop.command(&["demo", "--orders", &orders, "-o", "json"]), &store);
    let mut tail = shop.spawn(&["tail", "OrderPlaced", "-o", "jsonl"]);
    let mut placed = BufReader::new(tail.stdout.take().expect("it was piped")).lines();
    for _ in 0..40 {
        next(&mut placed);
    }
    gate.close();
    assert!(next(&mut talk).starts_with("E0421: "));
    outlast(&shop, &store);
    assert_eq!(demo.try_wait().expect("our own child"), None, "it waits");
    gate.open();
    assert!(next(&mut talk).starts_with("the database is reached again, after "));
    let mut report = String::new();
    demo.stdout.take().expect("it was piped").read_to_string(&mut report).expect("text");
    let status = demo.wait().expect("our own child");
    assert!(status.success(), "{:?}", talk.map_while(Result::ok).collect::<Vec<_>>());
    tail.kill().expect("it follows for ever");
    tail.wait().expect("it was killed");
    let report: Value = serde_json::from_str(&report).expect(&report);
    adds_up(&report["choreography"], ORDERS);
}
