//! Links without Rust: `ensue link`.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use crate::Ensue;
use crate::link::passing::Printing;

mod eventbridge;
mod kafka;
mod nats;
mod passing;
mod pubsub;
mod rabbitmq;
mod services;

/// A file of links beside the store.
fn file(ensue: &Ensue, text: &str) -> PathBuf {
    let path = ensue.around.path().join("links.toml");
    fs::write(&path, text).expect("the folder is ours");
    path
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a folder of text")
}

#[test]
fn what_a_file_says_wrongly_is_named_before_anything_moves() {
    let ensue = Ensue::new();
    let link = |rest: &str| format!("[links.a]\nbackend = \"nats\"\nurl = \"nats://127.0.0.1:1\"\n{rest}\n");
    for (said, wanted) in [
        (link("relay = [{ topic = \"Order\" }]"), "`to`"),
        (link("intake = [{ from = \"q\", type = \"body:x\" }]"), "body:x"),
        (link("relay = [{ topic = \"saga.pay\", to = \"x\" }]"), "saga.pay"),
        (link("pasword_env = \"P\"\nrelay = [{ topic = \"A\", to = \"x\" }]"), "pasword_env"),
        (
            link(
                "user = \"u\"\npassword_env = \"ENSUE_TEST_NOT_SET\"\nrelay = [{ topic = \"A\", to = \"x\" }]",
            ),
            "ENSUE_TEST_NOT_SET",
        ),
        (link("window_seconds = 60\nintake = [{ from = \"q\" }]"), "window"),
        (link("intake = [{ from = \"q\", filter = \"x\" }]"), "does not say what that is fed by"),
        (link("user = \"u\"\nrelay = [{ topic = \"A\", to = \"x\" }]"), "not both"),
        (link("key_file = \"k\"\nrelay = [{ topic = \"A\", to = \"x\" }]"), "not both"),
        (link("intake = [{ from = \"q\", type = \"const:Order Placed\" }]"), "Order Placed"),
        (link("intake = [{ from = \"q\", type = \"field:t\", key = \"const:a\\u0007\" }]"), "from `q`"),
        (link("mode = [\"binary\"]"), "linking-a-broker.md"),
    ] {
        let path = file(&ensue, &said);
        ensue.run(&["link", "run", "--config", text(&path)]).refused(2, "E0510").says(wanted);
    }
    let path = file(&ensue, &link("relay = [{ topic = \"A\", to = \"x\" }]"));
    ensue.run(&["link", "ls", "b", "--config", text(&path)]).refused(3, "E0414").says("it has a");
    let path = file(
        &ensue,
        "[links.a]\nbackend = \"carrier-pigeon\"\nurl = \"x\"\nrelay = [{ topic = \"A\", to = \"x\" }]\n",
    );
    ensue.run(&["link", "run", "--config", text(&path)]).refused(2, "E0510").says("eventbridge");
    ensue.run(&["link", "run", "--config", "/nowhere.toml"]).refused(3, "E0414");
    assert!(!ensue.data().exists(), "nothing was made");
}

/// A file with one link over this broker.
fn one_link(ensue: &Ensue, backend: &str, said: &str) -> PathBuf {
    let relay = "relay = [{ topic = \"A\", to = \"x\" }]";
    file(ensue, &format!("[links.a]\nbackend = \"{backend}\"\nurl = \"x\"\n{said}\n{relay}\n"))
}

#[test]
fn what_one_broker_does_not_know_is_refused_by_name() {
    let ensue = Ensue::new();
    for (backend, said, wanted) in [
        ("eventbridge", "partitions = 4", "partitions"),
        ("eventbridge", "delivery_limit = 1001", "1001 is not from 1 to 1000"),
        ("eventbridge", "hidden_for_seconds = 1", "1 is not from 2 to 43200"),
        ("nats", "partitions = 4", "partitions"),
        ("nats", "in_flight = 0", "in_flight"),
        ("kafka", "in_flight = 1", "in_flight"),
        ("kafka", "partitions = \"four\"", "partitions"),
        ("kafka", "mechanism = \"md5\"", "md5"),
        ("rabbitmq", "partitions = 4", "partitions"),
        ("rabbitmq", "route = \"topic\"", "`topic` is no route"),
        ("rabbitmq", "exchange = \"stream\"", "stream"),
        ("pubsub", "partitions = 4", "partitions"),
        ("pubsub", "order = \"topic\"", "topic"),
        ("pubsub", "delivery = \"twice\"", "twice"),
    ] {
        let path = one_link(&ensue, backend, said);
        ensue.run(&["link", "ls", "--config", text(&path)]).refused(2, "E0510").says(wanted).says(backend);
    }
}

#[test]
fn a_login_that_a_broker_does_not_take_is_refused_by_name() {
    let ensue = Ensue::new();
    let secret = ensue.around.path().join("secret");
    fs::write(&secret, "hush").expect("the folder is ours");
    let login = format!("user = \"u\"\npassword_file = \"{}\"", secret.display());
    let token = format!("token_file = \"{}\"", secret.display());
    let both = format!("{login}\nprofile = \"billing\"");
    for (backend, said, wanted) in [
        ("eventbridge", "credentials_file = \"c\"", "credentials_file"),
        ("eventbridge", "certificate_file = \"c\"\nkey_file = \"k\"", "certificate_file"),
        ("eventbridge", token.as_str(), "token"),
        ("eventbridge", both.as_str(), "a user and a profile"),
        ("kafka", login.as_str(), "how the password is proved"),
        ("kafka", "mechanism = \"plain\"", "no user"),
        ("kafka", "credentials_file = \"c\"", "credentials_file"),
        ("rabbitmq", "credentials_file = \"c\"", "credentials_file"),
        ("pubsub", login.as_str(), "user"),
        ("pubsub", "certificate_file = \"c\"\nkey_file = \"k\"", "certificate_file"),
    ] {
        let path = one_link(&ensue, backend, said);
        let checked = ensue.run(&["link", "check", "--config", text(&path), "-o", "jsonl"]);
        assert_eq!(checked.exit, 4, "{}", checked.err);
        assert!(checked.out.contains("E0510") && checked.out.contains(wanted), "{}", checked.out);
        assert!(!checked.out.contains("hush"), "a secret is not shown");
    }
}

#[test]
fn a_channel_that_is_fed_is_refused_over_a_broker_where_nothing_is() {
    let ensue = Ensue::new();
    for (backend, url) in [("kafka", "kafka://127.0.0.1:1"), ("nats", "nats://127.0.0.1:1")] {
        let intake = "intake = [{ from = \"orders.in\", fed_by = \"orders\", topic = \"Order\" }]";
        let path = file(&ensue, &format!("[links.a]\nbackend = \"{backend}\"\nurl = \"{url}\"\n{intake}\n"));
        let checked = ensue.run(&["link", "check", "--config", text(&path), "-o", "jsonl"]);
        assert_eq!(checked.exit, 4, "{}", checked.err);
        assert!(checked.out.contains("E0510") && checked.out.contains(backend), "{}", checked.out);
        let run = ensue.run(&["link", "run", "--config", text(&path)]).refused(2, "E0510");
        run.says("`orders`").says(backend);
    }
    assert!(!ensue.data().exists(), "nothing was made");
}

#[test]
fn links_are_listed_and_checked_without_a_store_or_a_broker() {
    let ensue = Ensue::new();
    let path = file(
        &ensue,
        "[links.a]\nbackend = \"nats\"\nurl = \"nats://127.0.0.1:1\"\nrelay = [{ topic = \"Order\", to = \"x\" }]\nintake = [{ from = \"y/z\" }]\n",
    );
    let links = ensue.run(&["link", "ls", "--config", text(&path), "-o", "jsonl"]).ok().objects();
    let names: Vec<&str> = links.iter().map(|link| link["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["relay.a.Order", "intake.a.y_z"]);
    assert!(links.iter().all(|link| link["state"] == "stopped"), "{links:?}");
    let checked = ensue.run(&["link", "check", "--config", text(&path), "-o", "jsonl"]);
    // That a broker is away is no mistake of the file.
    assert_eq!(checked.exit, 1, "{}", checked.err);
    assert!(checked.err.contains("E0441"), "{}", checked.err);
    let [line] = <[serde_json::Value; 1]>::try_from(checked.objects()).expect("one line");
    assert_eq!(line["outcome"], "unreachable");
    assert!(line["what"].as_str().expect("words").contains("E0441"), "{line}");
    assert!(!ensue.data().exists(), "nothing was made");
}

#[test]
fn a_line_that_is_not_understood_is_named_by_its_number_and_never_shown() {
    let ensue = Ensue::new();
    let line = |line: &str| format!("[links.a]\nbackend = \"nats\"\n{line}\n");
    for (said, number) in [
        (line("url = \"nats://u:hunter2@h:4222"), 3),
        (line("url = nats://u:hunter2@h"), 3),
        (line("url nats://u:hunter2@h"), 3),
        (line("url = \"nats://h\"\nwindow_seconds = \"hunter2\""), 4),
        ("[links]\na = \"nats://u:hunter2@h\"\n".to_owned(), 2),
    ] {
        let path = file(&ensue, &said);
        for format in ["table", "json"] {
            let refused = ensue.run(&["link", "check", "--config", text(&path), "-o", format]);
            assert!(!refused.err.contains("hunter2") && !refused.out.contains("hunter2"), "{}", refused.err);
            refused.refused(2, "E0510").says(&format!("line {number}"));
        }
    }
    let path = one_link(&ensue, "nats", "replicas = \"hunter2\"");
    let refused = ensue.run(&["link", "check", "--config", text(&path)]).refused(2, "E0510").says("replicas");
    assert!(!refused.err.contains("hunter2"), "{}", refused.err);
}

/// What a check says of one link to this place.
fn checked(ensue: &Ensue, backend: &str, url: &str, said: &str) -> String {
    let link = format!("[links.a]\nbackend = \"{backend}\"\nurl = \"{url}\"\n{said}\n");
    let path = file(ensue, &link);
    let checked = ensue.run(&["link", "check", "--config", text(&path), "-o", "jsonl"]);
    assert_eq!(checked.exit, 4, "{}{}", checked.out, checked.err);
    checked.out
}

#[test]
fn files_for_tls_are_refused_without_tls_and_where_they_are_not_there() {
    let ensue = Ensue::new();
    let relay = "relay = [{ topic = \"A\", to = \"x\" }]";
    let authorities = format!("ca_file = \"/nowhere/ca.pem\"\n{relay}");
    let pair = format!("certificate_file = \"/nowhere/ca.pem\"\nkey_file = \"/nowhere/k.pem\"\n{relay}");
    let (plain, absent) = ("for TLS", "/nowhere/ca.pem");
    for (backend, url, files, wanted) in [
        ("nats", "nats://127.0.0.1:1", &authorities, plain),
        ("nats", "nats://127.0.0.1:1", &pair, plain),
        ("nats", "tls://127.0.0.1:1", &authorities, absent),
        ("nats", "tls://127.0.0.1:1", &pair, absent),
        ("rabbitmq", "amqp://127.0.0.1:1", &authorities, plain),
        ("rabbitmq", "amqp://127.0.0.1:1", &pair, plain),
        ("rabbitmq", "amqps://127.0.0.1:1", &authorities, absent),
        ("kafka", "kafka://127.0.0.1:1", &authorities, absent),
        ("pubsub", "pubsub://shop?emulator=127.0.0.1:1", &authorities, plain),
    ] {
        let said = checked(&ensue, backend, url, files);
        assert!(said.contains("E0440") && said.contains(wanted), "{backend} {url}: {said}");
    }
}

#[test]
fn a_pattern_is_no_place_on_nats_to_publish_to() {
    let ensue = Ensue::new();
    let said = checked(&ensue, "nats", "nats://127.0.0.1:1", "relay = [{ topic = \"A\", to = \"foo.*\" }]");
    assert!(said.contains("E0101") && said.contains("foo.*"), "{said}");
}

#[test]
fn links_that_are_told_to_end_while_they_connect_end_and_make_nothing() {
    let ensue = Ensue::new();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = silent.local_addr().expect("it is bound").port();
    let relay = "relay = [{ topic = \"A\", to = \"x\" }]";
    let links = format!("[links.a]\nbackend = \"nats\"\nurl = \"nats://127.0.0.1:{port}\"\n{relay}\n");
    let path = file(&ensue, &links);
    let running = Printing::of(ensue.spawn(&["link", "run", "--config", text(&path), "-o", "jsonl"]));
    // It is connected and waits for a word, for as long as the driver lets it.
    let _connection = silent.accept().expect("it connects");
    assert_eq!(running.end(), <[serde_json::Value; 0]>::default());
    assert!(!ensue.data().exists(), "nothing was made");
}
