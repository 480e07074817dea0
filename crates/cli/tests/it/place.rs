//! `--store`: one argument names the store for every command.

use crate::{Ensue, ORDER, answer, on};

#[test]
fn a_store_is_named_by_its_address_and_wins_over_the_folder() {
    let ensue = Ensue::new();
    let address = format!("file:{}", ensue.data().display());
    let elsewhere = ensue.around.path().join("elsewhere");
    answer(on(&elsewhere, &["emit", "-d", "-", "--store", &address]), ORDER).ok();
    assert!(!elsewhere.exists(), "nothing is made in the folder that was not meant");
    let read = answer(on(&elsewhere, &["tail", "-e", "-o", "jsonl", "--store", &address]), "");
    assert_eq!(read.ok().objects()[0]["id"], "evt-a1b2c3");
}

#[test]
fn an_address_of_no_known_store_is_refused_with_those_that_are() {
    for address in ["mysql://localhost", "file:", "data"] {
        let refused = Ensue::new().run(&["stat", "--store", address]);
        refused.refused(2, "E0701").says("file:DIR");
    }
}

#[test]
fn the_password_of_an_address_with_a_slip_in_it_is_shown_nowhere() {
    for address in [
        "postgress://postgres:secret@127.0.0.1/shop",
        "postgres:/postgres:secret@127.0.0.1/shop",
        "host=127.0.0.1  user=postgres password=secret",
        "sqlite://shop.db?password=secret",
    ] {
        let ensue = Ensue::new();
        let mut by_environment = ensue.command(&["stat"]);
        by_environment.env("ENSUE_STORE", address);
        for refused in [
            ensue.run(&["stat", "--store", address]),
            ensue.run(&["stat", &format!("--store={address}"), "-o", "json"]),
            ensue.run(&["store", "copy", address, "file:copy"]),
            ensue.run(&["stat", address]),
            ensue.run(&[address]),
            answer(by_environment, ""),
        ] {
            let refused = refused.refused(2, "E0701");
            assert!(!refused.err.contains("secret"), "{}", refused.err);
        }
    }
}

#[test]
fn the_help_does_not_show_the_store_that_the_environment_names() {
    let ensue = Ensue::new();
    let mut help = ensue.command(&["stat", "--help"]);
    help.env("ENSUE_STORE", "postgres://app:secret@127.0.0.1/shop");
    let help = answer(help, "").ok();
    assert!(help.out.contains("ENSUE_STORE"), "{}", help.out);
    assert!(!help.out.contains("secret"), "{}", help.out);
}

#[test]
fn a_server_that_is_not_there_is_named_without_the_password() {
    let ensue = Ensue::new();
    let refused = ensue.run(&["tail", "-e", "--store", "postgres://app:se?cret@127.0.0.1:1/shop"]);
    let refused = refused.refused(1, "E0421").says("127.0.0.1:1");
    assert!(!refused.err.contains("cret"), "{}", refused.err);
}

#[test]
fn two_slashes_before_a_path_lead_nowhere_else() {
    let ensue = Ensue::new();
    let here = ensue.around.path();
    for (address, name) in [("sqlite://shop.db", "shop.db"), ("file://shop", "shop")] {
        let mut emit = ensue.command(&["emit", "-d", "-", "--store", address]);
        emit.current_dir(here);
        answer(emit, ORDER).ok();
        assert!(here.join(name).exists(), "{address} is in the current folder");
        let (scheme, _) = address.split_once(':').expect("a scheme");
        let absolute = format!("{scheme}://{}", here.join(name).display());
        let read = ensue.run(&["tail", "-e", "-o", "jsonl", "--store", &absolute]).ok();
        assert_eq!(read.objects()[0]["id"], "evt-a1b2c3");
    }
    ensue.run(&["tail", "-e", "--store", "sqlite://shop.db?mode=ro"]).refused(2, "E0701");
    assert!(!here.join("shop.db?mode=ro").exists());
}

#[test]
fn a_database_file_is_a_store_and_can_be_copied_there_and_back() {
    let ensue = Ensue::new();
    let path = |name: &str| ensue.around.path().join(name).display().to_string();
    let (log, database, back) = (
        format!("file:{}", path("log")),
        format!("sqlite:{}", path("shop.db")),
        format!("file:{}", path("back")),
    );
    let absent = ensue.run(&["tail", "-e", "--store", &database]).refused(3, "E0406");
    absent.says("ensue store migrate");
    std::fs::write(
        ensue.around.path().join("text"),
        "a text is no database of SQLite, however long it may be",
    )
    .expect("a file");
    let foreign = ensue.run(&["tail", "-e", "--store", &format!("sqlite:{}", path("text"))]);
    foreign.refused(3, "E0406").says("is no database of SQLite");
    for number in 0..3 {
        let order = ORDER.replace("evt-a1b2c3", &format!("evt-{number}"));
        answer(on(&ensue.data(), &["emit", "-d", "-", "--store", &log]), &order).ok();
    }
    ensue.run(&["store", "copy", &log, &database]).ok();
    answer(on(&ensue.data(), &["emit", "-d", "-", "--store", &database]), ORDER).ok();
    let copied = ensue.run(&["store", "copy", &database, &back, "-o", "json"]).ok();
    assert_eq!(copied.objects()[0]["compared"]["events"], 4);
    let tail = |store: &str| ensue.run(&["tail", "-e", "-o", "jsonl", "--store", store]).ok().objects();
    let ids: Vec<_> = tail(&back).iter().map(|event| event["id"].clone()).collect();
    assert_eq!(ids, ["evt-0", "evt-1", "evt-2", "evt-a1b2c3"]);
    assert_eq!(tail(&database), tail(&back));
    let bench = ["bench", "append", "--seconds", "1", "--clients", "4", "-o", "json", "--store", &database];
    assert!(ensue.run(&bench).ok().objects()[0]["commits_per_s"].as_f64().is_some_and(|rate| rate > 0.0));
}

#[test]
fn a_database_file_says_how_it_is_doing_and_what_somebody_took_out_of_it() {
    let ensue = Ensue::new();
    let file = ensue.around.path().join("shop.db");
    let database = format!("sqlite:{}", file.display());
    for number in 0..3 {
        let order = ORDER.replace("evt-a1b2c3", &format!("evt-{number}"));
        ensue.emit(&["--store", &database], &order).ok();
    }
    let run = |command: &str| ensue.run(&[command, "-o", "json", "--store", &database]);
    let stat = run("stat").ok().object();
    assert_eq!((&stat["head"], &stat["streams"], &stat["waiting"]), (&3.into(), &1.into(), &0.into()));
    assert!(stat["bytes"].as_u64() > Some(3 * 4096), "{stat}");
    let verified = run("verify").ok().object();
    assert_eq!((&verified["events"], &verified["streams"]), (&3.into(), &1.into()));
    assert_eq!(verified["findings"], serde_json::json!([]));

    let by_hand = ensue_sqlite::rusqlite::Connection::open(&file).expect("a database file");
    let take_out = "DROP TRIGGER ensue_events_never_go; DELETE FROM ensue_events WHERE position = 2";
    by_hand.execute_batch(take_out).expect("valid SQL");
    let damaged = run("verify");
    assert_eq!(damaged.object()["findings"][0]["code"], "E0412", "{}", damaged.out);
    assert_eq!(damaged.exit, 4, "{}", damaged.err);
    damaged.says("E0702").says("does not hold in 1 place");
}

#[test]
fn rows_beyond_the_end_of_the_log_and_an_end_without_rows_are_found() {
    for (change, named) in [
        (
            "INSERT INTO ensue_events SELECT position + 1, version + 1, recorded_at, topic, key, event_type, flow, metadata, data \
                FROM ensue_events",
            "position 2 was added by hand: the log ends at position 1",
        ),
        ("DROP TRIGGER ensue_events_never_go; DELETE FROM ensue_events", "between 0 and 2"),
    ] {
        let ensue = Ensue::new();
        let file = ensue.around.path().join("shop.db");
        let store = format!("sqlite:{}", file.display());
        ensue.emit(&["--store", &store], ORDER).ok();
        ensue.run(&["verify", "--store", &store]).ok();
        let by_hand = ensue_sqlite::rusqlite::Connection::open(&file).expect("a database file");
        by_hand.execute_batch(change).expect("valid SQL");
        let damaged = ensue.run(&["verify", "--store", &store, "-o", "json"]);
        assert_eq!(damaged.exit, 4, "{}", damaged.err);
        let finding = damaged.object()["findings"][0].clone();
        assert_eq!(finding["code"], "E0412", "{finding}");
        assert!(finding["message"].as_str().is_some_and(|message| message.contains(named)), "{finding}");
        damaged.says("does not hold in 1 place");
    }
}

#[test]
fn a_demo_on_a_used_database_names_the_database() {
    let ensue = Ensue::new();
    let database = format!("sqlite:{}", ensue.around.path().join("shop.db").display());
    ensue.emit(&["--store", &database], ORDER).ok();
    let refused = ensue.run(&["demo", "--store", &database]).refused(2, "E0701");
    refused.says(&format!("{database} holds events")).says("--store ADDRESS");
}

/// The shop on a database, stopped and taken up again; the world outside keeps its books in the folder.
#[test]
fn the_shop_runs_on_a_database_file_in_both_styles() {
    for style in ["choreography", "saga"] {
        let ensue = Ensue::new();
        let database = format!("sqlite:{}", ensue.around.path().join("shop.db").display());
        let demo = |arguments: &[&str]| {
            ensue.run(&[&["demo", "--store", &database, "-o", "json"], arguments].concat())
        };
        let shown = demo(&["--orders", "25", "--style", style]).ok().object();
        assert_eq!(shown[style]["orders"], 25, "{shown}");
        assert_eq!(demo(&["--resume"]).ok().object()[style]["outcomes"], shown[style]["outcomes"]);
        demo(&["--orders", "25"]).refused(2, "E0701").says(&format!("{database} holds a demo already"));
        demo(&["--style", "both"]).refused(2, "E0701").says("one style at a time");
    }
}
