//! Folders that cannot be used: each refusal says why, and what was stored is there when the cause is gone.

use std::fs;
use std::io::{BufRead, BufReader};

use crate::{Ensue, answer, on};

#[test]
fn a_folder_that_is_not_there_or_no_store_is_not_found() {
    let ensue = Ensue::new();
    for command in
        [&["stat"][..], &["tail", "-e"], &["stream", "ls"], &["verify"], &["saga", "ls"], &["dead", "ls"]]
    {
        ensue.run(command).refused(3, "E0406");
    }
    assert!(!ensue.data().exists(), "looking makes no folder");
    fs::create_dir(ensue.data()).expect("the folder is ours");
    fs::write(ensue.data().join("notes.txt"), "not a store").expect("the folder is ours");
    ensue.run(&["stat"]).refused(3, "E0406");
    ensue.emit(&["--stream", "A/1"], r#"{"event_type":"A","data":1}"#).refused(3, "E0406");
    let file = ensue.data().join("notes.txt");
    for command in [&["stat"][..], &["verify"]] {
        answer(on(&file, command), "").refused(3, "E0406");
    }
    answer(on(&file, &["emit", "--stream", "A/1", "A", "-d", "1"]), "").refused(3, "E0406");
    assert_eq!(fs::read_to_string(ensue.data().join("notes.txt")).expect("it is still there"), "not a store");
}

#[test]
fn a_folder_in_use_names_its_owner() {
    let ensue = Ensue::with_counts(1);
    let mut owner = ensue.spawn(&["tail", "-o", "jsonl"]);
    let mut line = String::new();
    BufReader::new(owner.stdout.take().expect("it was piped")).read_line(&mut line).expect("its first event");
    assert!(line.contains("\"c1\""), "{line}");
    let event = r#"{"event_type":"Counted","event_id":"c2","data":2}"#;
    ensue
        .emit(&["--stream", "Counter/one"], event)
        .refused(1, "E0401")
        .says(&format!("process {}", owner.id()));
    owner.kill().expect("it runs");
    owner.wait().expect("it was killed");
    ensue.emit(&["--stream", "Counter/one"], event).ok();
    assert_eq!(ensue.ids(), ["c1", "c2"]);
}

#[test]
fn a_newer_format_is_left_alone() {
    let ensue = Ensue::with_counts(2);
    let path = ensue.data().join("superblock");
    let known = fs::read(&path).expect("a superblock");
    let mut newer = known.clone();
    for slot in newer.chunks_mut(4096) {
        let (checked, rest) = slot.split_at_mut(124);
        checked[8..12].copy_from_slice(&9u32.to_le_bytes());
        rest[..4].copy_from_slice(&crc32c::crc32c(checked).to_le_bytes());
    }
    fs::write(&path, &newer).expect("the folder is ours");
    for command in [&["stat"][..], &["tail", "-e"], &["verify"]] {
        ensue.run(command).refused(1, "E0403").says("format 9");
    }
    ensue.emit(&["--stream", "A/1"], r#"{"event_type":"A","data":1}"#).refused(1, "E0403");
    assert_eq!(fs::read(&path).expect("a superblock"), newer, "it is not written to");
    fs::write(&path, &known).expect("the folder is ours");
    assert_eq!(ensue.ids(), ["c1", "c2"]);
}

#[test]
fn a_half_deleted_folder_is_not_guessed_around() {
    let ensue = Ensue::with_counts(2);
    for name in ["journal/00000001.log", "superblock"] {
        let (path, aside) = (ensue.data().join(name), ensue.around.path().join("aside"));
        fs::rename(&path, &aside).expect("it is there");
        ensue.run(&["stat"]).refused(4, "E0405");
        ensue.emit(&["--stream", "A/1"], r#"{"event_type":"A","data":1}"#).refused(4, "E0405");
        assert!(!path.exists(), "{name} is not made anew");
        fs::rename(&aside, &path).expect("the folder is ours");
    }
    assert_eq!(ensue.ids(), ["c1", "c2"]);
}

#[test]
fn damage_is_found_where_it_is() {
    let ensue = Ensue::with_counts(3);
    let path = ensue.data().join("journal/00000001.log");
    let mut journal = fs::read(&path).expect("a journal");
    let at =
        journal.windows(7).position(|window| window == b"\"count\"").expect("the data is stored as it came");
    journal[at] ^= 1;
    fs::write(&path, &journal).expect("the folder is ours");
    let answer = ensue.run(&["verify", "-o", "json"]);
    assert_eq!(answer.exit, 4, "{answer:?}");
    let findings = answer.object()["findings"].clone();
    assert!(findings.to_string().contains("E0412"), "{findings}");
    journal[at] ^= 1;
    fs::write(&path, &journal).expect("the folder is ours");
    ensue.run(&["verify"]).ok();
    assert_eq!(ensue.ids(), ["c1", "c2", "c3"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_that_cannot_be_written_is_read_only() {
    let event = r#"{"event_type":"A","data":1}"#;
    // Nobody, whoever runs this, makes folders in the kernel's own file system.
    let place = std::path::Path::new("/sys/ensue-data");
    answer(on(place, &["emit", "-d", "-", "--stream", "A/1"]), event)
        .refused(1, "E0402")
        .says("/sys/ensue-data");
}
