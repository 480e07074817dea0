//! Topics that do not keep their events for ever, on a real PostgreSQL.

use std::time::Duration;

use ensue::{App, Event, Outcome, Reaction};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::three::Shop;
use crate::{Answer, answer};

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(topic = "ticks", key = site)]
struct Ticked {
    site: String,
}

async fn refuse_the_first(ticked: Ticked) -> Outcome {
    if ticked.site == "first" { Outcome::Reject("it is the first".to_owned()) } else { Outcome::Ack }
}

fn run(shop: &Shop, arguments: &[&str]) -> Answer {
    answer(shop.command(arguments), "")
}

/// Runs an application that sets the first event aside, until it has seen these.
fn tick(shop: &Shop, sites: &[&str]) {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    runtime.block_on(async {
        let store = ensue_postgres::connect(&shop.store).await.expect("the server runs");
        let app = App::new("meter").store(store).external::<Ticked>();
        let running =
            app.react("readings", refuse_the_first.lanes(1)).start().await.expect("it holds together");
        for site in sites {
            let admitted = running.publish(Ticked { site: (*site).to_owned() }).await.expect("a new event");
            running.settled(admitted.position).await;
        }
        running.stop(Duration::from_mins(1)).await.expect("nothing is in hand");
    });
}

fn trimmed(shop: &Shop, without: &[&str]) -> (Answer, u64) {
    let answer = run(shop, &[&["store", "trim", "-o", "jsonl"], without].concat()).ok();
    let dropped = answer.objects().iter().map(|topic| topic["events"].as_u64().expect("a count")).sum();
    (answer, dropped)
}

/// Trims until so many partitions hold ticks: what came before has one of its own, which takes no more. Nothing is dropped meanwhile.
fn turn(shop: &Shop, partitions: u64) {
    loop {
        assert_eq!(trimmed(shop, &[]).1, 0);
        let retention = run(shop, &["store", "retention", "-o", "jsonl"]).ok().objects();
        if retention[0]["partitions"] == json!(partitions) {
            return;
        }
    }
}

/// Trims until it says why nothing goes.
fn held(shop: &Shop) -> String {
    loop {
        let (answer, dropped) = trimmed(shop, &[]);
        assert_eq!(dropped, 0, "somebody needs them");
        if !answer.err.contains("nothing is past its time") {
            return answer.err;
        }
    }
}

/// Trims until something goes; how much.
fn dropped(shop: &Shop, without: &[&str]) -> u64 {
    loop {
        match trimmed(shop, without).1 {
            0 => {}
            dropped => return dropped,
        }
    }
}

#[test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
fn events_past_their_time_go_when_no_subscription_needs_them_any_more() {
    let shop = Shop::new("retention");
    let retain = |time: &[&str]| run(&shop, &[&["store", "retain", "ticks", "-o", "json"], time].concat());
    assert_eq!(retain(&["--for", "2s"]).ok().object(), json!({"topic": "ticks", "keep_seconds": 2}));
    tick(&shop, &["first", "second", "third"]);
    turn(&shop, 2);
    tick(&shop, &["fourth"]);
    let reason = held(&shop);
    assert!(reason.contains("events of ticks are past their time"), "{reason}");
    assert!(reason.contains("readings has set aside the event at position 1"), "{reason}");
    run(&shop, &["dead", "discard", "readings", "first", "--reason", "it is old", "--by", "ada"]).ok();
    assert_eq!(dropped(&shop, &[]), 3, "the last event of the log stays");

    let verified = run(&shop, &["verify", "-o", "json"]).ok().object();
    assert_eq!(
        (&verified["events"], &verified["dropped"], &verified["head"]),
        (&json!(1), &json!(3), &json!(4))
    );
    run(&shop, &["event", "show", "2"]).refused(3, "E0414").says("position 2 was dropped");
    run(&shop, &["event", "show", "4"]).ok();
    let rebuild =
        |words: &[&str]| run(&shop, &[&["projection", "rebuild", "sales", "-o", "json"], words].concat());
    rebuild(&[]).refused(3, "E0417").says("the log has dropped 3 events").says("--without-dropped");
    assert_eq!(rebuild(&["--without-dropped"]).ok().object()["dropped"], json!(3));
    let tail = run(&shop, &["tail", "-e", "-o", "jsonl"]).ok().objects();
    assert_eq!(tail.iter().map(|event| event["position"].as_u64()).collect::<Vec<_>>(), [Some(4)]);
    let folder = shop.folder();
    run(&shop, &["store", "copy", &shop.store, &folder]).refused(6, "E0416").says("has dropped 3 events");
    let retention = run(&shop, &["store", "retention", "-o", "jsonl"]).ok().objects();
    assert_eq!(retention.len(), 1);
    assert_eq!((&retention[0]["topic"], &retention[0]["keep_seconds"]), (&json!("ticks"), &json!(2)));
    retain(&["--for-ever"]).ok();
    assert_eq!(run(&shop, &["store", "retention", "-o", "jsonl"]).ok().out, "");
}

#[test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
fn a_subscription_that_never_runs_again_can_be_passed_over() {
    let shop = Shop::new("retention_passed");
    run(&shop, &["store", "retain", "ticks", "--for", "2s"]).ok();
    tick(&shop, &["second"]);
    let emit = |id: &str| {
        let document = format!(r#"{{"event_type":"Ticked","event_id":"{id}","data":{{"site":"third"}}}}"#);
        answer(shop.command(&["emit", "-d", "-"]), &document).ok();
    };
    emit("t2");
    turn(&shop, 2);
    emit("t3");
    let reason = held(&shop);
    assert!(reason.contains("readings has not come to position 2 yet"), "{reason}");
    run(&shop, &["store", "trim", "--without", "reading"]).refused(3, "E0414").says("reading");
    assert_eq!(dropped(&shop, &["--without", "readings"]), 2);
    run(&shop, &["verify"]).ok();
    // A state would be made of the half of its events that is left.
    for look in [&["stream", "state", "ticks/third"][..], &["stream", "blame", "ticks/third"]] {
        run(&shop, look).refused(3, "E0417").says("before version 2");
    }
}

#[test]
fn stores_that_keep_everything_and_times_that_are_none_are_refused() {
    let ensue = crate::Ensue::new();
    ensue
        .run(&["store", "retain", "ticks", "--for", "30d"])
        .refused(1, "E0506")
        .says("only PostgreSQL has a retention");
    ensue.run(&["store", "retention"]).refused(1, "E0506");
    ensue.run(&["store", "trim"]).refused(1, "E0506");
    ensue.run(&["store", "retain", "ticks"]).refused(2, "E0701");
    ensue.run(&["store", "retain", "ticks", "--for", "30"]).refused(2, "E0701").says("30d");
    ensue.run(&["store", "retain", "ticks", "--for", "30d", "--for-ever"]).refused(2, "E0701");
    ensue.run(&["store", "retain", "a b", "--for", "30d"]).refused(2, "E0701");
}
