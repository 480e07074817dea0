//! `ensue store copy`: what is copied is the same, and goes on in its new place.

use crate::{Ensue, ORDER, answer, on};

/// The address of a store beside the one that the test works on.
fn beside(ensue: &Ensue, name: &str) -> String {
    format!("file:{}", ensue.around.path().join(name).display())
}

fn copy(ensue: &Ensue, to: &str) -> crate::Answer {
    ensue.run(&["store", "copy", &beside(ensue, "data"), to, "-o", "json"])
}

fn read(ensue: &Ensue, store: &str) -> String {
    ensue.run(&["tail", "-e", "-o", "jsonl", "--store", store]).ok().out
}

#[test]
fn a_copied_shop_has_the_same_history_and_goes_on_as_if_nothing_had_happened() {
    let ensue = Ensue::new();
    ensue.run(&["demo", "--orders", "30", "--break", "4", "-q"]).ok();
    let target = beside(&ensue, "copy");
    let copied = copy(&ensue, &target).ok().object();
    assert!(copied["events"].as_u64() > Some(100), "{copied}");
    assert_eq!(copied["events"], copied["compared"]["events"]);
    assert!(copied["compared"]["records"].as_u64() > Some(10), "{copied}");
    assert_eq!(read(&ensue, &beside(&ensue, "data")), read(&ensue, &target), "positions and times, too");
    let stuck =
        |store: &str| ensue.run(&["flow", "stuck", "-o", "jsonl", "--store", store]).ok().objects().len();
    assert_eq!(stuck(&target), 4, "what is parked and what waits for a timer is copied along");
    let again = copy(&ensue, &target).ok().object();
    assert_eq!((&again["events"], &again["records"]), (&0.into(), &0.into()), "it was a copy already");
}

#[test]
fn what_is_no_copy_is_not_written_to() {
    let ensue = Ensue::new();
    ensue.emit(&[], ORDER).ok();
    let target = beside(&ensue, "other");
    let other = ensue.around.path().join("other");
    answer(on(&other, &["emit", "-d", "-"]), &ORDER.replace("evt-a1b2c3", "evt-9")).ok();
    let before = read(&ensue, &target);
    copy(&ensue, &target).refused(6, "E0416");
    assert_eq!(read(&ensue, &target), before);
    copy(&ensue, &beside(&ensue, "data")).refused(2, "E0701");
    ensue.run(&["store", "copy", &beside(&ensue, "nothing"), &target]).refused(3, "E0406");
}
