//! What is set for later, from the command line.

use std::time::Duration;

use ensue::core::{Read, Store, StoreExt};
use ensue::{App, Missed, Schedule, Tick};

use crate::Ensue;

#[test]
fn a_timer_is_found_put_off_and_cancelled_and_then_it_is_gone() {
    let ensue = Ensue::new();
    let report = ensue.run(&["demo", "--orders", "60", "--break", "5", "-o", "json", "-q"]).ok().object();
    let broken = report["choreography"]["broken"].as_array().expect("an array").clone();
    let waiting = broken.iter().find(|order| order["kind"] == "timer").expect("one waits for a day far away");
    let timers = ensue.run(&["timer", "ls", "-o", "jsonl"]).ok().objects();
    let [timer] = timers.as_slice() else { panic!("one timer: {timers:?}") };
    let owner = timer["owner"].as_str().expect("an owner");
    let name = timer["name"].as_str().expect("a name");
    assert!(owner.ends_with(waiting["key"].as_str().expect("a key")), "{timer}");
    assert!(timer["action"]["append"].is_object(), "{timer}");
    let one = |arguments: &[&str]| ensue.run(&[&["timer"], arguments, &["-o", "json"]].concat()).ok();
    assert_eq!(one(&["show", owner, name]).object()["due"], timer["due"]);
    assert_eq!(ensue.run(&["timer", "ls", "--owner", "Order/nobody", "-o", "json"]).ok().out, "[]\n");

    let later = ["reschedule", owner, name, "--to", "2099-01-01T00:00:00Z", "--reason", "the bank said so"];
    let moved = one(&later).object();
    assert_eq!(
        (&moved["done"], &moved["timer"]["due"]),
        (&"rescheduled".into(), &"2099-01-01T00:00:00Z".into())
    );
    let plan = one(&["cancel", owner, name, "--reason", "paid in cash", "--dry-run"]).object();
    assert_eq!(plan["dry_run"], true);
    one(&["cancel", owner, name, "--reason", "paid in cash"]);
    ensue.run(&["timer", "cancel", owner, name, "--reason", "again"]).refused(3, "E0414");
    assert_eq!(ensue.run(&["timer", "ls", "-o", "json"]).ok().out, "[]\n");
    let changes = ensue.run(&["tail", "-e", "ensue.timer/*", "-o", "jsonl"]).ok().objects();
    let reasons: Vec<&str> =
        changes.iter().map(|event| event["data"]["reason"].as_str().expect("a reason")).collect();
    assert_eq!(reasons, ["the bank said so", "paid in cash"]);
    ensue.run(&["timer", "cancel", owner, name]).refused(2, "");
    ensue.run(&["timer", "ls", "--due-by", "soon"]).refused(2, "E0701");
}

async fn wind(_: Tick) {}

#[test]
fn schedules_are_listed_with_when_they_are_due_next_and_an_operator_brings_a_tick() {
    let ensue = Ensue::new();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let run = || async {
        let log = ensue::open(ensue.data()).await.expect("a folder that nobody has open");
        let nightly = Schedule::cron("0 3 * jan *").zone("Europe/Zurich").missed(Missed::Skip);
        let clocks = App::new("clocks").store(log).schedule("wind", nightly, wind);
        clocks.start().await.expect("it holds together")
    };
    let stop = |running: ensue::Running| running.stop(Duration::from_mins(1));
    runtime.block_on(async { stop(run().await).await }).expect("nothing is in hand");
    let schedules = ensue.run(&["schedule", "ls", "-o", "jsonl"]).ok().objects();
    let [wind] = schedules.as_slice() else { panic!("one schedule: {schedules:?}") };
    let members = ["schedule", "application", "cron", "zone", "missed"].map(|member| wind[member].as_str());
    assert_eq!(members, ["wind", "clocks", "0 3 * jan *", "Europe/Zurich", "skip"].map(Some));
    assert!(
        wind["next"].as_str().is_some_and(|next| next.contains("-01-") && next.ends_with("T02:00:00Z")),
        "{wind}"
    );

    let timer = ["ensue.schedule/wind", "next"];
    ensue.run(&["timer", "cancel", timer[0], timer[1], "--reason", "enough"]).refused(1, "E0309");
    let rehearse = ["timer", "cancel", timer[0], timer[1], "--reason", "enough", "--dry-run"];
    ensue.run(&rehearse).refused(1, "E0309");
    ensue.run(&["timer", "fire", timer[0], timer[1], "--reason", "for the visitors"]).ok();
    runtime
        .block_on(async {
            let running = run().await;
            let (store, ticks) =
                (running.store(), Read::stream("ensue.schedule/wind".parse().expect("a stream")));
            loop {
                let head = store.head().await.expect("it can be read");
                if !store.collect(ticks.clone()).await.expect("it can be read").is_empty() {
                    break;
                }
                store.advanced(head).await.expect("it can be read");
            }
            stop(running).await
        })
        .expect("nothing is in hand");
    assert_eq!(
        ensue.run(&["schedule", "ls", "-o", "jsonl"]).ok().objects(),
        schedules,
        "the next is as it was"
    );
}
