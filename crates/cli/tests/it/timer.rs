//! What is set for later, from the command line.

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
