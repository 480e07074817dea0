//! Folders that cannot be used: each refusal says why, and what was stored is there when the cause is gone.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

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

/// The binary, run by somebody who may read everything here and write nothing.
struct Guest {
    binary: std::path::PathBuf,
    is_root: bool,
    store: String,
    temporary: std::path::PathBuf,
}

impl Guest {
    fn of(ensue: &Ensue) -> Self {
        Self::on(ensue, format!("file:{}", ensue.data().display()))
    }

    /// One who looks at this store, which is somewhere in the folder of the data.
    fn on(ensue: &Ensue, store: String) -> Self {
        let (around, data) = (ensue.around.path(), ensue.data());
        let temporary = around.join("tmp");
        fs::create_dir(&temporary).expect("the folder is ours");
        let binary = around.join("ensue");
        fs::copy(env!("CARGO_BIN_EXE_ensue"), &binary).expect("there is room for the binary");
        for path in files_of(&data) {
            let mode = if path.is_dir() { 0o555 } else { 0o444 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the folder is ours");
        }
        fs::set_permissions(around, fs::Permissions::from_mode(0o755)).expect("the folder is ours");
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o777)).expect("the folder is ours");
        // The superuser writes whatever it likes, so for this it becomes somebody else.
        let is_root =
            fs::File::create(data.join("probe")).is_ok_and(|_| fs::remove_file(data.join("probe")).is_ok());
        Self { binary, is_root, store, temporary }
    }

    fn run(&self, arguments: &[&str]) -> crate::Answer {
        let mut command = std::process::Command::new(&self.binary);
        command.args(arguments).env("ENSUE_STORE", &self.store).env("TMPDIR", &self.temporary);
        if self.is_root {
            command.uid(65_534);
        }
        answer(command, "")
    }
}

/// A folder and everything in it.
fn files_of(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(path) = files.get(at).cloned() {
        at += 1;
        if path.is_dir() {
            files.extend(
                fs::read_dir(path).expect("it is ours").map(|entry| entry.expect("it is ours").path()),
            );
        }
    }
    files
}

#[test]
fn a_store_that_cannot_be_written_can_be_looked_at_from_every_side_and_stays_as_it_is() {
    let ensue = Ensue::new();
    ensue.run(&["demo", "--orders", "20", "--break", "5", "-q"]).ok();
    let looks = [
        &["tail", "-e"][..],
        &["flow", "stuck"],
        &["flow", "show", "ORD-0001"],
        &["flow", "fork", "ORD-0001"],
        &["stream", "ls"],
        &["stream", "state", "Order/ORD-0001"],
        &["event", "show", "3"],
        &["dead", "ls"],
        &["timer", "ls"],
        &["subscription", "ls"],
        &["saga", "ls"],
        &["saga", "check"],
        &["projection", "verify", "orders_view"],
        &["projection", "audit", "orders_view"],
        &["projection", "ls"],
        &["verify"],
        &["stat"],
    ];
    let seen: Vec<String> = looks.iter().take(5).map(|look| ensue.run(look).ok().out).collect();
    let guest = Guest::of(&ensue);
    let sizes = || {
        let stat = |path: &std::path::PathBuf| {
            fs::metadata(path).map(|file| (file.len(), file.modified().ok())).ok()
        };
        files_of(&ensue.data()).iter().map(|path| (path.clone(), stat(path))).collect::<Vec<_>>()
    };
    let before = sizes();
    let as_guest: Vec<String> = looks.iter().map(|look| guest.run(look).ok().out).collect();
    assert_eq!(as_guest.iter().take(5).collect::<Vec<_>>(), seen.iter().collect::<Vec<_>>());
    guest.run(&["dead", "redrive", "--all"]).refused(1, "E0402").says("opened to be read only");
    guest.run(&["emit", "A", "--stream", "A/1", "-d", "1"]).refused(1, "E0402");
    assert_eq!(sizes(), before, "nothing was written");
    assert_eq!(fs::read_dir(&guest.temporary).expect("it is ours").count(), 0, "nothing is left behind");
    fs::set_permissions(&guest.temporary, fs::Permissions::from_mode(0o555)).expect("the folder is ours");
    guest.run(&["stat"]).refused(1, "E0402").says("set TMPDIR");
}

#[test]
fn a_database_file_that_cannot_be_written_can_be_looked_at_and_stays_as_it_is() {
    let ensue = Ensue::new();
    fs::create_dir_all(ensue.data()).expect("the folder is ours");
    let file = ensue.data().join("50% of it?.db");
    let store = format!("sqlite:{}", file.display());
    ensue.run(&["demo", "--orders", "10", "-q", "--store", &store]).ok();
    let looks =
        [&["tail", "-e"][..], &["flow", "ls"], &["stream", "ls"], &["dead", "ls"], &["verify"], &["stat"]];
    let on_store = |look: &&[&str]| ensue.run(&[look, &["--store", &store][..]].concat()).ok().out;
    let seen: Vec<String> = looks.iter().take(4).map(on_store).collect();
    let before = fs::read(&file).expect("it is ours");
    let guest = Guest::on(&ensue, store.clone());
    let as_guest: Vec<String> = looks.iter().map(|look| guest.run(look).ok().out).collect();
    assert_eq!(as_guest.iter().take(4).collect::<Vec<_>>(), seen.iter().collect::<Vec<_>>());
    guest.run(&["emit", "A", "--stream", "A/1", "-d", "1"]).refused(1, "E0424");
    assert_eq!(fs::read(&file).expect("it is ours"), before, "nothing was written");
}

#[test]
fn help_for_a_reader_that_has_gone_ends_quietly() {
    let ensue = Ensue::new();
    for arguments in [&["dead", "redrive", "--help"][..], &["help", "link"], &["--version"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = ensue.command(arguments).stdout(writer).output().expect("the binary starts");
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "nothing panics");
    }
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
