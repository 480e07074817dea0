//! What an application leaves in its folder: declared types, dead letters, sagas.

use std::time::Duration;

use ensue::{App, Event, Outcome, Saga, SagaError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Ensue;

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Parcel", key = parcel_id)]
struct ParcelSent {
    parcel_id: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Parcel", key = parcel_id)]
struct ParcelArrived {
    parcel_id: String,
}

async fn refuse(_sent: ParcelSent) -> Outcome {
    Outcome::Reject("the address is blank".to_owned())
}

async fn follow(saga: Saga<ParcelSent>) -> Result<(), SagaError> {
    saga.wait_for::<ParcelArrived>(saga.key()).await?;
    Ok(())
}

/// Runs an application until two parcels are settled, and stops it.
fn with_parcels() -> Ensue {
    let ensue = Ensue::new();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    runtime.block_on(async {
        let log = ensue::open(ensue.data()).await.expect("an empty folder");
        let app = App::new("parcels").store(log).external::<ParcelSent>().external::<ParcelArrived>();
        let running =
            app.react("labels", refuse).saga("tracking", follow).start().await.expect("it holds together");
        for parcel_id in ["P-1", "P-2"] {
            let admitted =
                running.publish(ParcelSent { parcel_id: parcel_id.into() }).await.expect("a new event");
            running.settled(admitted.position).await;
        }
        running.stop(Duration::from_mins(1)).await.expect("nothing is in hand");
    });
    ensue
}

#[test]
fn a_declared_type_finds_its_stream_by_the_catalogue() {
    let ensue = with_parcels();
    let document = r#"{"event_type":"ParcelArrived","event_id":"a1","data":{"parcel_id":"P-1"}}"#;
    assert_eq!(ensue.emit(&["-o", "json"], document).ok().object()["stream"], "Parcel/P-1");
    ensue.emit(&["--stream", "Parcel/P-2"], document).refused(2, "E0701");
    let keyless = r#"{"event_type":"ParcelArrived","data":{"parcel":"P-1"}}"#;
    ensue.emit(&[], keyless).refused(2, "E0105").says("`parcel_id`");
}

#[test]
fn the_time_for_which_each_application_remembers_ids_is_shown() {
    let ensue = with_parcels();
    let stat = ensue.run(&["stat", "-o", "json"]).ok().object();
    assert_eq!(stat["id_windows"], json!([{"application": "parcels", "seconds": 604_800}]));
    let words = ensue.run(&["stat"]).ok().out;
    assert!(words.contains("remembered by parcels for 168 h 0 min 0 s"), "{words}");
}

#[test]
fn dead_letters_are_listed_redriven_and_discarded() {
    let ensue = with_parcels();
    let keys = || {
        let letters = ensue.run(&["dead", "ls", "-o", "jsonl"]).ok().objects();
        letters.iter().map(|letter| letter["key"].as_str().expect("a key").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(), ["P-1", "P-2"]);
    let table = ensue.run(&["dead", "ls", "labels"]).ok().out;
    assert!(table.contains("E0306") && table.contains("the address is blank"), "{table}");
    ensue.run(&["dead", "ls", "others"]).refused(3, "E0414").says("`ensue subscription ls`");
    ensue.run(&["dead", "ls", "others", "--discarded"]).refused(3, "E0414");
    assert_eq!(ensue.run(&["dead", "ls", "saga.tracking"]).ok().out, "", "there is such a handler");
    assert_eq!(ensue.run(&["dead", "ls", "labels", "--discarded"]).ok().out, "");
    let groups = ensue.run(&["dead", "groups", "-o", "jsonl"]).ok().objects();
    let counts: Vec<_> =
        groups.iter().map(|group| (&group["cause"], &group["letters"], &group["keys"])).collect();
    assert_eq!(counts, [(&json!("the address is blank"), &json!(2), &json!(2))]);
    let group = groups[0]["group"].as_str().expect("a group has a name").to_owned();
    let planned =
        ensue.run(&["dead", "redrive", "--group", &group, "--dry-run", "-o", "jsonl"]).ok().objects();
    let letters = |key: &serde_json::Value| key["letters"].as_array().map(Vec::len);
    let planned: Vec<_> = planned.iter().map(|key| (&key["key"], letters(key))).collect();
    assert_eq!(planned, [(&json!("P-1"), Some(1)), (&json!("P-2"), Some(1))]);
    assert_eq!(ensue.run(&["dead", "redrives", "-o", "jsonl"]).ok().out, "", "it was only rehearsed");
    let ask = ["dead", "redrive", "labels", "P-1", "--by", "ada", "-o", "json"];
    let asked = ensue.run(&ask).ok().object();
    assert_eq!((&asked["keys"], &asked["letters"]), (&json!(1), &json!(1)));
    let waiting = ensue.run(&["dead", "redrives", "-o", "jsonl"]).ok().objects();
    let waiting: Vec<_> =
        waiting.iter().map(|one| (&one["key"], &one["state"], &one["requested_by"])).collect();
    assert_eq!(waiting, [(&json!("P-1"), &json!("waiting"), &json!("ada"))]);
    ensue.run(&["dead", "redrive", "others"]).refused(3, "E0414");
    ensue.run(&["dead", "redrive"]).refused(2, "E0701");
    let discard = ["dead", "discard", "labels", "P-2", "--reason", "the parcel is lost", "--by", "ada"];
    ensue.run(&[&discard[..], &["--dry-run"]].concat()).ok();
    assert_eq!(keys(), ["P-1", "P-2"]);
    ensue.run(&[&discard[..], &["--position", "99999"]].concat()).refused(3, "E0414");
    ensue.run(&discard).ok();
    assert_eq!(keys(), ["P-1"]);
    assert_eq!(
        ensue.run(&["dead", "redrives", "-o", "jsonl"]).ok().objects().len(),
        1,
        "a discard is no redrive"
    );
    let paced = ["dead", "redrive", "--all", "--rate", "2/s", "-o", "json"];
    ensue
        .run(&[&paced[..], &["--dry-run"]].concat())
        .ok()
        .says("1 key: the last one has its turn 0.0 s after the first");
    assert_eq!(ensue.run(&paced).ok().object()["keys"], 1);
    let turn = ensue.run(&["dead", "redrives", "-o", "jsonl"]).ok().objects();
    assert!(turn[0]["due"].is_string() && turn[0]["state"] == "waiting", "{turn:?}");
    ensue.run(&["dead", "redrive", "--all", "--rate", "fast"]).refused(2, "10/s");
    let kept = ensue.run(&["dead", "ls", "--discarded", "-o", "json"]).ok().out;
    assert!(kept.contains("the parcel is lost") && kept.contains("ada") && kept.contains("E0306"), "{kept}");
    ensue.run(&discard).refused(3, "E0414");
    ensue.run(&["dead", "discard", "labels", "P-1"]).refused(2, "E0701");
}

#[test]
fn the_lanes_of_a_subscription_show_how_far_they_are_and_who_has_them() {
    let ensue = with_parcels();
    let lanes = ensue.run(&["subscription", "ls", "labels", "-o", "jsonl"]).ok().objects();
    assert_eq!(lanes.len(), 8);
    let worked: Vec<_> = lanes.iter().filter(|lane| lane["settlements"] != 0).collect();
    assert!((1..=2).contains(&worked.len()), "two parcels in one lane or two: {lanes:?}");
    for lane in worked {
        assert_eq!(lane["owner"].as_str().map(str::len), Some(16), "{lane}");
        assert_eq!((&lane["epoch"], &lane["code"]), (&json!(1), &json!(null)), "{lane}");
        assert!(lane["since"].is_string() && lane["position"].as_u64() > Some(0), "{lane}");
    }
    let table = ensue.run(&["subscription", "ls"]).ok().out;
    assert!(table.contains("saga.tracking") && table.contains("labels"), "{table}");
    ensue.run(&["subscription", "ls", "others"]).refused(3, "E0414");
}

#[test]
fn a_saga_shows_where_it_stands_and_how_it_got_there() {
    let ensue = with_parcels();
    let heads = ensue.run(&["saga", "ls", "--open", "-o", "jsonl"]).ok().objects();
    let standing: Vec<_> = heads.iter().map(|head| (head["key"].clone(), head["status"].clone())).collect();
    assert_eq!(standing, [(json!("P-1"), json!("waiting")), (json!("P-2"), json!("waiting"))]);
    let shown = ensue.run(&["saga", "show", "tracking", "P-1", "-o", "json"]).ok().object();
    assert_eq!(shown["head"]["saga"], "tracking");
    assert_eq!(shown["journal"][0]["type"], "saga.Started");
    let words = ensue.run(&["saga", "show", "tracking", "P-1"]).ok().out;
    assert!(words.starts_with("tracking P-1: waiting since "), "{words}");
    assert!(words.contains("WaitStarted"), "{words}");
    ensue.run(&["saga", "show", "tracking", "P-9"]).refused(3, "E0414");
    ensue.run(&["saga", "ls", "nope"]).refused(3, "E0414").says("saga nope");
}

#[test]
fn an_operator_decides_about_a_saga_and_the_reason_is_kept() {
    let ensue = with_parcels();
    let ask = |request: &str, more: &[&str]| {
        ensue.run(&[&["saga", request, "tracking", "P-1", "-o", "json"], more].concat())
    };
    let because = ["--reason", "the parcel is lost"];
    ask("resume", &because).refused(6, "E0606");
    ask("pause", &[]).refused(2, "E0701");
    let would = ask("pause", &[&because[..], &["--dry-run"]].concat()).ok().object();
    assert_eq!((&would["request"], &would["dry_run"]), (&json!("pause"), &json!(true)));
    let status = || ensue.run(&["saga", "show", "tracking", "P-1", "-o", "json"]).ok().object();
    assert_eq!(status()["head"]["status"], "waiting");
    assert_eq!(ask("pause", &because).ok().object()["head"]["status"], "paused");
    assert_eq!(status()["head"]["reason"], "the parcel is lost");
    ask("resume", &because).ok();
    let wait = ["--step", "wait-ParcelArrived", "--done", r#"{"parcel_id":"P-1"}"#];
    ask("resolve", &[&because[..], &wait[..2]].concat()).refused(2, "E0701");
    ask("resolve", &[&because[..], &wait].concat()).ok();
    let restart = ["--at", "wait-ParcelArrived", "--as", "P-1b"];
    assert_eq!(ask("restart", &[&because[..], &restart].concat()).ok().object()["head"]["key"], "P-1b");
    let ended = status();
    assert_eq!(ended["head"]["status"], "terminated");
    let journal = ended["journal"].as_array().expect("entries");
    assert!(
        journal.iter().any(|entry| entry["data"]["Paused"]["reason"] == "the parcel is lost"),
        "{journal:?}"
    );
    ensue.run(&["saga", "terminate", "tracking", "P-9", "--reason", "x"]).refused(3, "E0414");
    // Its code is not in this binary: that is said, and is no misfit.
    let checked = ensue.run(&["saga", "check", "-o", "json"]).ok().object();
    assert_eq!(checked, json!({"checked": 0, "misfits": [], "unknown": {"tracking": 2}}));
}
