//! What is in the log, from every side.

use serde_json::{Value, json};

use crate::{Ensue, members};

fn ids(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["id"].as_str()).collect()
}

fn tail(ensue: &Ensue, arguments: &[&str]) -> Vec<String> {
    let answer = ensue.run(&[&["tail", "-e", "-o", "jsonl"], arguments].concat()).ok();
    ids(&answer.objects()).into_iter().map(str::to_owned).collect()
}

/// A ticket that was paid and seated, each caused by the one before, beside an event of another flow. No type is one that
/// the binary knows, so that bodies and places are free.
fn with_a_flow() -> Ensue {
    let ensue = Ensue::new();
    let event = |id: &str, event_type: &str, topic: &str, flow: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"shop","type":"{event_type}","topic":"{topic}","subject":"O-1"{flow},"data":{{"by":"{id}","{topic}":true}}}}"#
        )
    };
    let caused = |by: &str| format!(r#","correlationid":"o1","causationid":"{by}""#);
    let events = [
        event("o1", "TicketOrdered", "Ticket", ""),
        event("p1", "FarePaid", "Fare", &caused("o1")),
        event("x1", "TicketOrdered", "Ticket", ""),
        event("s1", "SeatAssigned", "Seat", &caused("p1")),
        event("n1", "GuestNotified", "Guest", &caused("o1")),
    ];
    ensue.emit(&[], &format!("[{}]", events.join(","))).ok();
    ensue
}

#[test]
fn tail_takes_a_pattern_and_a_place_to_begin() {
    let ensue = with_a_flow();
    assert_eq!(tail(&ensue, &[]), ["o1", "p1", "x1", "s1", "n1"]);
    assert_eq!(tail(&ensue, &["Ticket*"]), ["o1", "x1"]);
    assert_eq!(tail(&ensue, &["TicketOrdered"]), ["o1", "x1"]);
    assert_eq!(tail(&ensue, &["Fare/*"]), ["p1"]);
    assert_eq!(tail(&ensue, &["Ticket/O-1"]), ["o1", "x1"]);
    assert_eq!(tail(&ensue, &["--from", "4"]), ["s1", "n1"]);
    assert_eq!(tail(&ensue, &["--from", "end"]), Vec::<String>::new());
    assert_eq!(tail(&ensue, &["-n", "2"]), ["s1", "n1"]);
    assert_eq!(tail(&ensue, &["-n", "1", "*Ordered"]), ["x1"]);
    ensue.run(&["tail", "-e", "--from", "soon"]).refused(2, "E0701");
}

#[test]
fn tail_in_words_lines_up() {
    let ensue = with_a_flow();
    let out = ensue.run(&["tail", "-e", "Fare/*"]).ok().out;
    let lines: Vec<&str> = out.lines().collect();
    let [headings, row] = lines.as_slice() else { panic!("two lines: {out}") };
    assert_eq!(
        headings.split_whitespace().collect::<Vec<_>>(),
        ["POSITION", "TIME", "STREAM", "TYPE", "DATA"]
    );
    assert!(row.ends_with(r#"Z  Fare/O-1  FarePaid  {"by":"p1","Fare":true}"#), "{row}");
}

#[test]
fn a_stream_is_read_in_both_directions_and_in_part() {
    let ensue = Ensue::with_counts(5);
    let read = |arguments: &[&str]| {
        let answer = ensue.run(&[&["stream", "read", "Counter/one", "-o", "jsonl"], arguments].concat()).ok();
        answer
            .objects()
            .iter()
            .map(|event| event["streamversion"].as_u64().expect("a number"))
            .collect::<Vec<_>>()
    };
    assert_eq!(read(&[]), [1, 2, 3, 4, 5]);
    assert_eq!(read(&["--from", "2", "--to", "3"]), [2, 3]);
    assert_eq!(read(&["--backward", "--from", "4"]), [5, 4]);
    let refused = |arguments: &[&str]| ensue.run(&[&["stream", "read", "Counter/one"], arguments].concat());
    refused(&["--from", "9"]).refused(3, "E0414").says("is at version 5").says("up to 5");
    refused(&["--from", "3", "--to", "2"]).refused(2, "E0701");
    ensue.run(&["stream", "read", "Counter/two"]).refused(3, "E0414");
    ensue.run(&["stream", "read", "Counter"]).refused(2, "E0101");
}

#[test]
fn streams_are_listed_by_name_and_pattern() {
    let ensue = with_a_flow();
    let listed = |arguments: &[&str]| {
        let answer = ensue.run(&[&["stream", "ls", "-o", "json"], arguments].concat()).ok();
        let streams = answer.object().as_array().expect("an array").clone();
        streams.iter().map(|listed| listed["stream"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]), ["Fare/O-1", "Guest/O-1", "Seat/O-1", "Ticket/O-1"]);
    assert_eq!(listed(&["--limit", "1"]), ["Fare/O-1"]);
    assert_eq!(listed(&["Ticket"]), ["Ticket/O-1"]);
    assert_eq!(listed(&["*/O-2"]), Vec::<String>::new());
}

#[test]
fn the_state_of_a_stream_is_its_merged_data_at_any_version() {
    let ensue = Ensue::with_counts(3);
    ensue.emit(&["--stream", "Counter/one"], r#"{"event_type":"Named","data":{"name":"one"}}"#).ok();
    let state = |at: &[&str]| {
        ensue.run(&[&["stream", "state", "Counter/one", "-o", "json"], at].concat()).ok().object()["state"]
            .clone()
    };
    assert_eq!(state(&[]), json!({"count": 3, "name": "one"}));
    assert_eq!(state(&["--at", "2"]), json!({"count": 2}));
    assert_eq!(state(&["--at", "2999-01-01T00:00:00Z"]), json!({"count": 3, "name": "one"}));
    let refused = |at: &str| ensue.run(&["stream", "state", "Counter/one", "--at", at]);
    refused("5").refused(3, "E0414").says("is at version 4");
    refused("2000-01-01T00:00:00Z").refused(3, "E0414");
    refused("soon").refused(2, "E0701");
}

#[test]
fn a_difference_names_the_event_that_made_it() {
    let ensue = Ensue::with_counts(3);
    let difference = ensue.run(&["stream", "diff", "Counter/one", "1", "3", "-o", "json"]).ok().object();
    assert_eq!(
        difference,
        json!({"stream": "Counter/one", "from": 1, "to": 3,
            "changes": [{"field": "count", "before": 1, "after": 3, "version": 3, "type": "Counted"}]})
    );
    let from_nothing = ensue.run(&["stream", "diff", "Counter/one", "0", "1"]).ok().out;
    assert_eq!(from_nothing, "FIELD  BEFORE  AFTER  VERSION  TYPE\ncount              1        1  Counted\n");
    ensue.run(&["stream", "diff", "Counter/one", "1", "9"]).refused(3, "E0414").says("up to 3");
}

#[test]
fn an_event_is_found_by_id_and_by_position() {
    let ensue = with_a_flow();
    for reference in ["s1", "4"] {
        let event = ensue.run(&["event", "show", reference, "-o", "json"]).ok().object();
        assert_eq!((&event["id"], &event["position"]), (&json!("s1"), &json!(4)));
    }
    let page = ensue.run(&["event", "show", "s1"]).ok().out;
    for line in ["type       SeatAssigned v1\n", "caused by  p1\n", "flow       o1\n", "  \"by\": \"s1\""] {
        assert!(page.contains(line), "{line}: {page}");
    }
    ensue.run(&["event", "show", "s9"]).refused(3, "E0414");
    ensue.run(&["event", "show", "99"]).refused(3, "E0414");
}

#[test]
fn causes_lead_to_the_root_and_effects_form_a_tree() {
    let ensue = with_a_flow();
    let causes = ensue.run(&["event", "causes", "s1", "-o", "jsonl"]).ok().objects();
    assert_eq!(ids(&causes), ["s1", "p1", "o1"]);
    let effects = ensue.run(&["event", "effects", "o1", "-o", "jsonl"]).ok().objects();
    let effects: Vec<_> =
        effects.iter().map(|effect| (effect["depth"].clone(), effect["event"]["id"].clone())).collect();
    let expected = [(0, "o1"), (1, "p1"), (2, "s1"), (1, "n1")];
    assert_eq!(effects, expected.map(|(depth, id)| (json!(depth), json!(id))));
    let tree = ensue.run(&["event", "effects", "o1"]).ok().out;
    assert!(tree.contains("  FarePaid") && tree.contains("    SeatAssigned"), "{tree}");
}

#[test]
fn numbers_and_checks_agree_with_what_was_written() {
    let ensue = with_a_flow();
    let stat = ensue.run(&["stat", "-o", "json"]).ok().object();
    assert_eq!((&stat["head"], &stat["streams"]), (&json!(5), &json!(4)));
    assert!(stat["limits"]["event_bytes_max"].as_u64().is_some_and(|bytes| bytes >= 1 << 20), "{stat}");
    let verified = ensue.run(&["verify", "-o", "json"]).ok().object();
    assert_eq!((&verified["events"], &verified["findings"]), (&json!(5), &json!([])));
}

#[test]
fn every_code_is_explained() {
    let ensue = Ensue::new();
    assert!(ensue.run(&["explain", "E0201"]).ok().out.starts_with("# E0201: the stream has moved on\n"));
    let codes = ensue.run(&["explain", "-o", "jsonl"]).ok().objects();
    assert!(codes.iter().any(|code| code["code"] == "E0107"), "{codes:?}");
    ensue.run(&["explain", "E9999"]).refused(3, "E0414");
}

#[test]
fn a_measurement_prints_its_floor_and_leaves_nothing_behind() {
    let ensue = Ensue::with_counts(1);
    let load = ["bench", "append", "--clients", "2", "--seconds", "1", "--batch", "2", "-q"];
    let measured = ensue.run(&[&load[..], &["-o", "json"]].concat()).ok().object();
    assert_eq!(
        members(&measured),
        ["commits_per_s", "events_per_s", "floor", "mode", "p50_us", "p999_us", "p99_us"]
    );
    assert!(measured["commits_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{measured}");
    assert!(measured["floor"]["sync_write_4k_us_p50"].is_u64(), "{measured}");
    let left: Vec<_> = std::fs::read_dir(ensue.around.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "only the store is left: {left:?}");
    assert_eq!(ensue.ids(), ["c1"]);
}

#[test]
fn a_reader_of_everything_is_measured_and_counts_each_event() {
    let measured = Ensue::with_counts(3).run(&["bench", "drain", "-o", "json"]).ok().object();
    assert_eq!(
        (measured["events"].as_u64(), measured["bytes"].as_u64()),
        (Some(3), Some(3 * 11)),
        "{measured}"
    );
    assert!(measured["events_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{measured}");
    Ensue::new().run(&["bench", "drain"]).refused(3, "E0406");
}

#[test]
fn orders_are_measured_in_both_styles() {
    let ensue = Ensue::new();
    for style in ["choreography", "saga"] {
        let load = ["bench", "orders", "--style", style, "--rate", "20", "--seconds", "1", "-o", "json"];
        let measured = ensue.run(&load).ok().object();
        assert_eq!(
            members(&measured),
            ["cpu_s", "floor", "latency_us", "mode", "orders", "orders_per_s", "rss_mb"]
        );
        assert_eq!(members(&measured["latency_us"]), ["max", "p50", "p95", "p99"]);
        for member in ["orders", "orders_per_s", "cpu_s", "rss_mb"] {
            assert!(measured[member].as_f64().is_some_and(|number| number > 0.0), "{member}: {measured}");
        }
        let latency = |member: &str| measured["latency_us"][member].as_u64().expect("a number");
        assert!(0 < latency("p50") && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
        assert!(measured["floor"]["sync_write_4k_us_p50"].is_u64(), "{measured}");
    }
    assert!(!ensue.data().exists(), "a measurement makes no store of ours");
}

#[test]
fn a_rebuild_is_measured_beside_publications() {
    let ensue = Ensue::new();
    let measured =
        ensue.run(&["bench", "rebuild", "--events", "10000", "--rate", "50", "-o", "json"]).ok().object();
    assert_eq!(
        (measured["events"].as_u64(), measured["documents"].as_u64()),
        (Some(10_000), Some(2_000)),
        "every event is folded, five of each order: {measured}"
    );
    for member in ["alone_events_per_s", "events_per_s", "p99_ratio"] {
        assert!(measured[member].as_f64().is_some_and(|number| number > 0.0), "{member}: {measured}");
    }
    assert!(!ensue.data().exists(), "a measurement makes no store of ours");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let ensue = Ensue::with_counts(3);
    for format in ["table", "json", "jsonl"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output =
            ensue.command(&["tail", "-e", "-o", format]).stdout(writer).output().expect("the binary ends");
        assert_eq!(output.status.code(), Some(0), "{format}");
        assert_eq!(output.stderr, b"", "{format}");
    }
}
