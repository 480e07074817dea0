//! What every broker is put through: two stores that it links while it is killed twice, and messages of somebody else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ensue_test::server::Server;
use serde_json::{Value, json};

use super::{file, text};
use crate::Ensue;

const KEYS: usize = 20;
/// How many events of each key are emitted at a time: before the first kill, while the broker is gone, and so on.
const EACH: usize = 10;
/// Two kills, with events before, between and behind them.
const PARTS: usize = 3;

/// A broker as links see it.
pub(super) trait Over {
    /// What files call it.
    const BACKEND: &'static str;
    /// What a link says for this broker alone, so that the order of keys holds.
    const ORDERED: &'static str;

    /// The server of the test.
    fn server(&self) -> &Server;

    /// How what is published to a place is taken in, after `from = `.
    fn from(&self, place: &str) -> String {
        format!("\"{place}\"")
    }

    /// What is taken in of somebody else.
    const FOREIGN: &'static str = "legacy.returns";
    /// Bytes that are no event, of those that the broker carries.
    const NO_EVENT: &'static [u8] = b"\xff\x00 no event";

    /// How that is taken in, after `from = `.
    fn foreign(&self) -> String {
        format!("\"{}\"", Self::FOREIGN)
    }

    /// Sends as somebody else does, so that it comes to the channel, once that is there.
    async fn send(&self, body: &'static [u8]);

    /// A link of this broker.
    fn link(&self, name: &str, rest: &str) -> String {
        format!(
            "[links.{name}]\nbackend = \"{}\"\nurl = \"{}\"\n{}\n{rest}\n",
            Self::BACKEND,
            self.server().url(),
            Self::ORDERED
        )
    }
}

/// A store with its file of links.
pub(super) struct Side {
    pub(super) ensue: Ensue,
    pub(super) store: String,
    pub(super) config: String,
}

impl Side {
    pub(super) fn new(links: &str) -> Self {
        let ensue = Ensue::new();
        let store = format!("sqlite:{}", ensue.around.path().join("store.db").display());
        let config = text(&file(&ensue, links)).to_owned();
        Self { ensue, store, config }
    }

    pub(super) fn objects(&self, arguments: &[&str]) -> Vec<Value> {
        self.ensue.run(&[&["--store", &self.store, "-o", "jsonl"], arguments].concat()).ok().objects()
    }

    pub(super) fn links(&self, verb: &str) -> Vec<Value> {
        self.objects(&["link", verb, "--config", &self.config])
    }

    fn events(&self) -> Vec<Value> {
        self.objects(&["tail", "-e"])
    }

    /// Follows the events of the store.
    pub(super) fn tail(&self) -> Printing {
        let arguments = ["--store", &self.store, "tail", "--from", "begin", "-o", "jsonl"];
        Printing::of(self.ensue.spawn(&arguments))
    }

    fn follow(&self) -> Following {
        Following { tail: self.tail(), seen: Vec::new() }
    }

    fn run(&self) -> Running {
        let arguments = ["--store", &self.store, "link", "run", "--config", &self.config, "-o", "jsonl"];
        Running(Printing::of(self.ensue.spawn(&arguments)))
    }
}

/// A process that prints what it sees, line by line.
pub(super) struct Printing {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Printing {
    pub(super) fn of(mut child: Child) -> Self {
        let lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        Self { child, lines }
    }

    /// The next line; none when it has ended.
    pub(super) fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.expect("it prints text");
        Some(serde_json::from_str(&line).expect("a JSON line"))
    }

    /// Tells it to end, and waits until it has: what it still had to print.
    pub(super) fn end(mut self) -> Vec<Value> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        let rest = std::iter::from_fn(|| self.next()).collect();
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status:?}");
        rest
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().expect("it is ours");
            self.child.wait().expect("it has ended");
        }
    }
}

/// The events of a store, as they come.
struct Following {
    tail: Printing,
    seen: Vec<Value>,
}

impl Following {
    /// The events, once there are so many.
    fn until(&mut self, count: usize) -> &[Value] {
        while self.seen.len() < count {
            self.seen.push(self.tail.next().expect("it follows"));
        }
        &self.seen
    }
}

/// Links that run, until they are told to end.
struct Running(Printing);

impl Running {
    /// Waits until one says that it stands like this.
    fn until(&mut self, state: &str) {
        while self.0.next().expect("it runs")["state"] != state {}
    }

    fn end(self) {
        self.0.end();
    }
}

/// So many events of each key, as one document.
fn orders(part: usize) -> String {
    let event = |key: usize, number: usize| {
        json!({
            "specversion": "1.0", "id": format!("o-{key}-{number}"), "source": "shop", "type": "OrderChanged",
            "topic": "Order", "subject": format!("ORD-{key}"), "data": { "number": number },
        })
    };
    let numbers = part * EACH..(part + 1) * EACH;
    let all: Vec<Value> = numbers.flat_map(|number| (0..KEYS).map(move |key| event(key, number))).collect();
    Value::from(all).to_string()
}

/// Events pass a broker that is killed twice while they come: each is in the other store once, and in the order of its key.
pub(super) fn passes_killed_twice<O: Over>(over: &O) {
    for (key, numbers) in passes_once_killed_twice(over) {
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
    }
}

/// Events pass a broker that is killed twice while they come: each is in the other store once. Their numbers, by key and as they came.
pub(super) fn passes_once_killed_twice<O: Over>(over: &O) -> BTreeMap<String, Vec<usize>> {
    let from = Side::new(&over.link("out", "relay = [{ topic = \"Order\", to = \"shop.orders\" }]"));
    let into = Side::new(
        &over.link("in", &format!("intake = [{{ from = {}, topic = \"Order\" }}]", over.from("shop.orders"))),
    );
    from.ensue.emit(&["--store", &from.store, "-q"], &orders(0)).ok();
    let checked = from.links("check");
    assert!(checked.iter().all(|line| line["outcome"] == "missing"), "{checked:?}");
    let mut taking = into.run();
    taking.until("up");
    let mut arrived = into.follow();
    let mut sending = from.run();
    over.server().keep_topology();
    for part in 1..PARTS {
        arrived.until((part - 1) * EACH * KEYS + 1);
        over.server().kill();
        // The stream goes on while the broker is gone, and the relay has missed it, before it is back.
        from.ensue.emit(&["--store", &from.store, "-q"], &orders(part)).ok();
        sending.until("waiting");
        assert!(into.events().len() <= part * EACH * KEYS, "nothing came that the broker never had");
        over.server().start();
    }
    arrived.until(KEYS * EACH * PARTS);
    sending.end();
    taking.end();
    let numbers = arrived_once(&into.events());
    for link in [from.links("ls"), into.links("ls")].concat() {
        assert_eq!((&link["state"], &link["parked"]), (&json!("stopped"), &json!(0)), "{link}");
    }
    let checked = from.links("check");
    assert!(checked.iter().all(|line| line["outcome"] == "found"), "{checked:?}");
    numbers
}

fn arrived_once(events: &[Value]) -> BTreeMap<String, Vec<usize>> {
    assert_eq!(events.len(), KEYS * EACH * PARTS, "each once");
    let mut keys: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for event in events {
        assert_eq!((&event["topic"], &event["source"]), (&json!("Order"), &json!("shop")));
        let number = event["data"]["number"].as_u64().expect("a number");
        let key = event["subject"].as_str().expect("a key");
        keys.entry(key.to_owned()).or_default().push(usize::try_from(number).expect("a small one"));
    }
    assert_eq!(keys.len(), KEYS);
    for (key, numbers) in &keys {
        let different: BTreeSet<usize> = numbers.iter().copied().collect();
        assert!(different.into_iter().eq(0..EACH * PARTS), "{key}: {numbers:?}");
    }
    keys
}

/// A pause outlasts the process that was paused; sent to the beginning, a link takes nothing twice, or says why it cannot be sent there.
pub(super) fn obeys_operators<O: Over>(over: &O, can_seek: bool) {
    let side = Side::new(&over.link(
        "legacy",
        &format!(
            "intake = [{{ from = {}, topic = \"Return\", type = \"const:ReturnAnnounced\", key = \"field:return.number\" }}]",
            over.foreign()
        ),
    ));
    let ask = |arguments: &[&str]| {
        let link = [&["--store", &side.store, "-o", "json", "link"], arguments, &["--reason", "a test"]];
        side.ensue.run(&link.concat())
    };
    let mut running = side.run();
    running.until("up");
    ask(&["pause", "tills"]).refused(3, "E0414");
    ask(&["pause", "legacy"]).ok();
    running.until("paused");
    running.end();
    let mut running = side.run();
    running.until("paused");
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    runtime.block_on(over.send(br#"{"return":{"number":7}}"#));
    let [link] = <[Value; 1]>::try_from(side.links("ls")).expect("one");
    assert_eq!((&link["paused_because"], side.events().len()), (&json!("a test"), 0), "nothing moves");
    ask(&["seek", "legacy", "--to", "begin"]).refused(2, "E0701");
    let mut arrived = side.follow();
    ask(&["resume", "legacy"]).ok();
    arrived.until(1);
    let seek = ask(&["seek", "intake.legacy.legacy.returns", "--to", "begin", "--wait", "40"]);
    if can_seek {
        assert_eq!(seek.ok().object()["outcome"], "done");
        while side.links("ls")[0]["duplicates"] == 0 {}
    } else {
        seek.refused(4, "E0702");
    }
    assert_eq!(side.events().len(), 1, "nothing twice");
    running.end();
}

/// Messages of somebody else become events as the file says; bytes that are none wait until the file is mended.
pub(super) fn maps_foreign_messages<O: Over>(over: &O) {
    let link = |key: &str| {
        over.link(
            "legacy",
            &format!(
                "intake = [{{ from = {}, topic = \"Return\", type = \"const:ReturnAnnounced\", key = \"{key}\" }}]",
                over.foreign()
            ),
        )
    };
    let side = Side::new(&link("field:return.number"));
    let mut running = side.run();
    running.until("up");
    let mut arrived = side.follow();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let bodies: [&'static [u8]; 2] = [O::NO_EVENT, br#"{"return":{"number":7}}"#];
    bodies.into_iter().for_each(|body| runtime.block_on(over.send(body)));
    let events = arrived.until(2);
    let returned = events.iter().find(|event| event["type"] == "ReturnAnnounced").expect("the foreign one");
    assert_eq!((&returned["subject"], &returned["data"]), (&json!("7"), &json!({"return": {"number": 7}})));
    let kept = events.iter().find(|event| event["type"] == "ensue.MessageUnreadable").expect("the other one");
    let as_it_came = json!(STANDARD.encode(O::NO_EVENT));
    assert_eq!(kept["data_base64"], as_it_came, "byte by byte");
    let letter = loop {
        // It is parked by a lane, a moment after it was kept.
        if let Some(letter) = side.objects(&["dead", "ls"]).pop() {
            break letter;
        }
    };
    let handler = format!("intake.legacy.{}", O::FOREIGN);
    assert_eq!((&letter["handler"], &letter["code"]), (&json!(handler), &json!("E0448")));
    running.end();
    // The file is mended, and the message read again.
    fs::write(&side.config, link("const:unnumbered")).expect("the folder is ours");
    side.ensue.run(&["--store", &side.store, "dead", "redrive", &handler]).ok();
    let running = side.run();
    let events = arrived.until(3);
    let mended = events.iter().find(|event| event["subject"] == "unnumbered").expect("it is an event now");
    assert_eq!(mended["data_base64"], as_it_came);
    running.end();
}
