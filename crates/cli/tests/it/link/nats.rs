//! Two stores that are linked by a real NATS server, which is killed twice in mid-stream.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{file, text};
use crate::Ensue;

const KEYS: usize = 20;
const EACH: usize = 100;
const SUBJECT: &str = "shop.orders";

/// A server of the test's own.
struct Server {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self { folder, port: free.expect("a free port").port(), child: None };
        server.run();
        server
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn run(&mut self) {
        let configuration = self.folder.path().join("nats.conf");
        let store = self.folder.path().join("store").display().to_string();
        let said = format!("listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{store}\" }}\n", self.port);
        fs::write(&configuration, said).expect("the folder is ours");
        let program = env::var("ENSUE_TEST_NATS_SERVER").expect("ENSUE_TEST_NATS_SERVER names the server");
        let mut command = Command::new(program);
        command.arg("-c").arg(configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("the server starts"));
    }

    fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is ours");
        let status = child.wait().expect("it has ended");
        assert!(!status.success(), "it was killed");
    }

    /// A client of somebody else.
    async fn foreign(&self) -> async_nats::jetstream::Context {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        async_nats::jetstream::new(options.connect(self.url()).await.expect("the address is understood"))
    }

    /// How many messages the stream of the orders holds, once the server answers.
    async fn messages(&self) -> u64 {
        let foreign = self.foreign().await;
        loop {
            if let Ok(mut stream) = foreign.get_stream("shop_orders").await
                && let Ok(info) = stream.info().await
            {
                return info.state.messages;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// Links that run, until they are told to end.
struct Running(Option<Child>);

impl Running {
    fn of(ensue: &Ensue, store: &str, config: &str) -> Self {
        Self(Some(ensue.spawn(&["--store", store, "link", "run", "--config", config, "-o", "jsonl"])))
    }

    /// Tells them to end, and says what they have printed.
    fn end(mut self) -> Vec<Value> {
        let child = self.0.take().expect("it runs");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{:?}", output.status);
        let text = String::from_utf8(output.stdout).expect("it prints text");
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it has ended");
        }
    }
}

/// The orders, as one document.
fn orders() -> String {
    let event = |key: usize, number: usize| {
        json!({
            "specversion": "1.0", "id": format!("o-{key}-{number}"), "source": "shop", "type": "OrderChanged",
            "topic": "Order", "subject": format!("ORD-{key}"), "data": { "number": number },
        })
    };
    let all: Vec<Value> = (0..EACH).flat_map(|number| (0..KEYS).map(move |key| event(key, number))).collect();
    Value::from(all).to_string()
}

fn tail(ensue: &Ensue, store: &str) -> Vec<Value> {
    ensue.run(&["--store", store, "tail", "-e", "-o", "jsonl"]).ok().objects()
}

/// The events of a store, once there are so many.
fn wait_for(ensue: &Ensue, store: &str, count: usize) -> Vec<Value> {
    loop {
        let events = tail(ensue, store);
        if events.len() >= count {
            return events;
        }
        thread::yield_now();
    }
}

#[test]
#[ignore = "needs a NATS server: cargo xtask test"]
fn events_pass_a_broker_that_is_killed_twice_and_are_in_the_other_store_once_and_in_order() {
    let mut server = Server::start();
    let (from, to) = (Ensue::new(), Ensue::new());
    let source = format!("sqlite:{}", from.around.path().join("from.db").display());
    let target = format!("sqlite:{}", to.around.path().join("to.db").display());
    from.emit(&["--store", &source, "-q"], &orders()).ok();
    let out = file(
        &from,
        &format!(
            "[links.out]\nbackend = \"nats\"\nurl = \"{}\"\nrelay = [{{ topic = \"Order\", to = \"{SUBJECT}\" }}]\n",
            server.url()
        ),
    );
    let into = file(
        &to,
        &format!(
            "[links.in]\nbackend = \"nats\"\nurl = \"{}\"\nin_flight = 1\nintake = [{{ from = \"{SUBJECT}\", topic = \"Order\" }}]\n",
            server.url()
        ),
    );
    let checked = from
        .run(&["--store", &source, "link", "check", "--config", text(&out), "-o", "jsonl"])
        .ok()
        .objects();
    assert!(checked.iter().all(|line| line["outcome"] == "missing"), "{checked:?}");
    let sending = Running::of(&from, &source, text(&out));
    let taking = Running::of(&to, &target, text(&into));
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let total = (KEYS * EACH) as u64;
    for part in [1, 2] {
        let at_kill = loop {
            let messages = runtime.block_on(server.messages());
            if messages >= part * total / 4 {
                break messages;
            }
        };
        server.kill();
        assert!(at_kill < total, "it was killed too late to be in mid-stream");
        server.run();
    }
    let events = wait_for(&to, &target, KEYS * EACH);
    assert_eq!(events.len(), KEYS * EACH, "each once");
    let mut keys: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in &events {
        assert_eq!((&event["topic"], &event["source"]), (&json!("Order"), &json!("shop")));
        let key = event["subject"].as_str().expect("a key");
        keys.entry(key).or_default().push(event["data"]["number"].as_u64().expect("a number"));
    }
    assert_eq!(keys.len(), KEYS);
    for (key, numbers) in keys {
        assert!(numbers.iter().copied().eq(0..EACH as u64), "{key}: {numbers:?}");
    }
    let (sent, taken) = (sending.end(), taking.end());
    let has = |states: &[Value], state: &str| states.iter().any(|status| status["state"] == state);
    assert!(has(&sent, "up") && has(&sent, "waiting"), "that the broker was away is shown: {sent:?}");
    // The driver of an intake may be back before anybody has missed it.
    assert!(has(&taken, "up"), "{taken:?}");
    let links = to.run(&["--store", &target, "link", "ls", "--config", text(&into), "-o", "json"]).ok();
    let listed: Vec<Value> = serde_json::from_str(&links.out).expect("a list");
    assert_eq!((&listed[0]["state"], &listed[0]["parked"]), (&json!("stopped"), &json!(0)));
}

#[test]
#[ignore = "needs a NATS server: cargo xtask test"]
fn foreign_messages_are_mapped_and_bytes_that_are_no_event_wait_until_the_file_is_mended() {
    let server = Server::start();
    let ensue = Ensue::new();
    let store = format!("sqlite:{}", ensue.around.path().join("store.db").display());
    let link = |key: &str| {
        format!(
            "[links.legacy]\nbackend = \"nats\"\nurl = \"{}\"\nintake = [{{ from = \"legacy.returns\", topic = \"Return\", type = \"const:ReturnAnnounced\", key = \"{key}\" }}]\n",
            server.url()
        )
    };
    let config = file(&ensue, &link("field:return.number"));
    let running = Running::of(&ensue, &store, text(&config));
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    runtime.block_on(async {
        let foreign = server.foreign().await;
        let bodies: [&'static [u8]; 2] = [b"\xff\x00 no event", br#"{"return":{"number":7}}"#];
        for body in bodies {
            // The stream is made by the link, which may still be starting.
            loop {
                let sent = foreign.publish("legacy.returns", body.into()).await;
                if let Ok(sent) = sent
                    && sent.await.is_ok()
                {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let events = wait_for(&ensue, &store, 2);
    let returned = events.iter().find(|event| event["type"] == "ReturnAnnounced").expect("the foreign one");
    assert_eq!((&returned["subject"], &returned["data"]), (&json!("7"), &json!({"return": {"number": 7}})));
    let kept = events.iter().find(|event| event["type"] == "ensue.MessageUnreadable").expect("the other one");
    assert_eq!(kept["data_base64"], "/wAgbm8gZXZlbnQ=", "byte by byte");
    let letter = loop {
        let letters = ensue.run(&["--store", &store, "dead", "ls", "-o", "jsonl"]).ok().objects();
        if let Some(letter) = letters.into_iter().next() {
            break letter;
        }
    };
    assert_eq!(
        (&letter["handler"], &letter["code"]),
        (&json!("intake.legacy.legacy.returns"), &json!("E0448"))
    );
    running.end();
    // The file is mended, and the message read again.
    let config = file(&ensue, &link("const:unnumbered"));
    ensue.run(&["--store", &store, "dead", "redrive", "intake.legacy.legacy.returns"]).ok();
    let running = Running::of(&ensue, &store, text(&config));
    let events = wait_for(&ensue, &store, 3);
    let mended = events.iter().find(|event| event["subject"] == "unnumbered").expect("it is an event now");
    assert_eq!(mended["data_base64"], "/wAgbm8gZXZlbnQ=");
    running.end();
}
