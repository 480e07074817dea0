//! Bad luck: a full file, a lock that is held, a file that is replaced, damaged, foreign or changed by hand.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use ensue_core::{Code, Expected, Read, Store, StoreExt, Version};
use ensue_sqlite::rusqlite::{Connection, TransactionBehavior};
use ensue_sqlite::{Config, SqliteStore};
use futures_util::future::join_all;

use crate::child::{self, Process};
use crate::given::{Folder, append, event, ids, refuse, stream, take};

fn by_hand(folder: &Folder, sql: &str) {
    let connection = Connection::open(folder.file()).expect("the file is a database");
    connection.execute_batch(sql).expect("it is done");
}

#[tokio::test]
async fn a_full_file_refuses_what_is_too_much_and_takes_what_fits() {
    let folder = Folder::new();
    let bounded = folder.config().file_bytes_max(200 << 10);
    let store = bounded.open().await.expect("an empty store has room");
    let large = |number: usize| {
        let mut commit = append("large", Expected::Any, &[&format!("large-{number}")]);
        commit.appends[0].events[0].data = vec![b'x'; 300 << 10].into();
        commit
    };
    // One transaction carries all of them at first: the large ones must not take the small ones with them.
    let small =
        (0..20).map(|number| store.commit(append("small", Expected::Any, &[&format!("small-{number}")])));
    let too_large = (0..3).map(|number| store.commit(large(number)));
    let (small, too_large) = futures_util::join!(join_all(small), join_all(too_large));
    assert!(small.iter().all(Result::is_ok), "{small:?}");
    for refused in too_large {
        let error = ensue_core::Error::from(refused.expect_err("there is no room for it"));
        assert_eq!(error.code(), Code::FULL, "{error}");
    }
    assert_eq!(ids(&store).await.len(), 20, "what was acknowledged is there");
    let mut taken = 20;
    let error = loop {
        match store.commit(append("small", Expected::Any, &[&format!("more-{taken}")])).await {
            Ok(_) => taken += 1,
            Err(error) => break ensue_core::Error::from(error),
        }
    };
    assert_eq!(error.code(), Code::FULL);
    assert_eq!(ids(&store).await.len(), taken);
    drop(store);
    let store = folder.open().await;
    take(&store, large(0)).await;
    assert_eq!(ids(&store).await.len(), taken + 1);
}

#[tokio::test]
async fn a_lock_that_is_held_too_long_is_an_error_that_names_who() {
    let folder = Folder::new();
    let store = folder.config().patience(Duration::from_millis(50)).open().await.expect("it opens");
    let mut connection = Connection::open(folder.file()).expect("the file is a database");
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).expect("it begins");
    let error = refuse(&store, append("a", Expected::Any, &["never"])).await;
    assert_eq!(error.code(), Code::DATABASE_LOCKED);
    assert!(error.is_retryable());
    if cfg!(target_os = "linux") {
        assert!(error.message().starts_with("another connection of this process"), "{error}");
    }
    assert_eq!(ids(&store).await, [""; 0], "reading goes on");
    drop(transaction);
    take(&store, append("a", Expected::NoStream, &["a1"])).await;

    let mut command = child::command("holds_the_lock", &folder.file());
    command.stdin(Stdio::piped());
    let mut other = Process::start(command);
    assert_eq!(other.hear().as_deref(), Some("it is held"));
    let error = refuse(&store, append("a", Expected::Any, &["never"])).await;
    assert_eq!(error.code(), Code::DATABASE_LOCKED);
    if cfg!(target_os = "linux") {
        assert!(error.message().starts_with(&format!("process {} (", other.id())), "{error}");
    }
    drop(other);
    take(&store, append("a", Expected::Exact(Version(1)), &["a2"])).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_replaced_or_deleted_takes_nothing_more() {
    let folder = Folder::new();
    let store = folder.open().await;
    take(&store, append("a", Expected::NoStream, &["a1"])).await;
    let aside = folder.file().with_extension("aside");
    fs::rename(folder.file(), &aside).expect("it is moved");
    let error = refuse(&store, append("a", Expected::Any, &["never"])).await;
    assert_eq!(error.code(), Code::DATABASE_MOVED);
    assert!(error.message().contains("is gone"), "{error}");

    fs::write(folder.file(), b"").expect("another file takes its place");
    let error = refuse(&store, append("a", Expected::Any, &["never"])).await;
    assert!(error.code() == Code::DATABASE_MOVED && error.message().contains("another file"), "{error}");
    let waiting = store.advanced(ensue_core::Position(1)).await.expect_err("nothing can come");
    assert_eq!(waiting.code(), Code::DATABASE_MOVED);

    fs::rename(&aside, folder.file()).expect("it is put back");
    take(&store, append("a", Expected::Exact(Version(1)), &["a2"])).await;
    assert_eq!(ids(&store).await, ["a1", "a2"]);
}

async fn refused(config: Config) -> ensue_core::Error {
    config.open().await.expect_err("it cannot be a store")
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_alone() {
    let folder = Folder::new();
    assert_eq!(refused(folder.config().existing()).await.code(), Code::NOT_A_STORE);
    assert!(!folder.file().exists(), "nothing is made");

    by_hand(&folder, "CREATE TABLE orders (number TEXT)");
    let before = fs::read(folder.file()).expect("the file is there");
    assert_eq!(refused(folder.config().existing()).await.code(), Code::NOT_A_STORE);
    assert_eq!(fs::read(folder.file()).expect("the file is there"), before);

    let text = folder.file().with_extension("txt");
    let words = "not a database, ".repeat(100);
    fs::write(&text, &words).expect("a file is written");
    assert_eq!(refused(Config::new(&text)).await.code(), Code::NOT_A_STORE);
    assert_eq!(fs::read_to_string(&text).expect("the file is there"), words);

    assert_eq!(refused(Config::new(":memory:")).await.code(), Code::UNSUPPORTED);
    let wide = Folder::new();
    by_hand(&wide, "PRAGMA encoding = 'UTF-16'; CREATE TABLE orders (number TEXT)");
    assert_eq!(refused(wide.config()).await.code(), Code::UNSUPPORTED);
}

#[tokio::test]
async fn tables_of_another_make_are_refused() {
    let folder = Folder::new();
    drop(folder.open().await);
    by_hand(&folder, "INSERT INTO ensue_migrations (number, name, text) VALUES (99, 'later', 'CREATE …')");
    let newer = refused(folder.config()).await;
    assert_eq!(newer.code(), Code::DATABASE_SCHEMA);
    assert!(newer.message().contains("migration 99 (later)"), "{newer}");
    by_hand(
        &folder,
        "DELETE FROM ensue_migrations WHERE number = 99; UPDATE ensue_migrations SET text = text || ' '",
    );
    let other = refused(folder.config()).await;
    assert!(other.code() == Code::DATABASE_SCHEMA && other.message().contains("another text"), "{other}");
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_written_is_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    let folder = Folder::new();
    by_hand(&folder, "CREATE TABLE orders (number TEXT)");
    let above = folder.file().parent().expect("a folder").to_owned();
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o444)).expect("it is ours");
    fs::set_permissions(&above, fs::Permissions::from_mode(0o555)).expect("it is ours");
    let mut command = child::command("opens", &folder.file());
    if fs::metadata(&above).expect("it is there").uid() == 0 {
        // Nothing keeps the super-user from writing, so another user tries.
        command.uid(65_534);
    }
    assert_eq!(Process::start(command).hear().as_deref(), Some("E0424"));
    fs::set_permissions(&above, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

async fn filled(folder: &Folder, events: usize) -> SqliteStore {
    let store = folder.open().await;
    for number in 0..events {
        take(&store, append("a", Expected::Any, &[&format!("a{number}")])).await;
    }
    store
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_no_panic() {
    let folder = Folder::new();
    drop(filled(&folder, 200).await);
    let whole = fs::read(folder.file()).expect("the file is there");
    let pages = whole.len() / 4096;
    let mut noticed = 0;
    for page in 0..pages {
        let mut damaged = whole.clone();
        damaged[page * 4096 + 100..(page + 1) * 4096].fill(0xa5);
        fs::write(folder.file(), &damaged).expect("it is damaged");
        let outcome = async {
            let store = folder.config().open().await?;
            let all = store.collect(Read::all()).await?;
            let of_stream = store.collect(Read::stream(stream("a"))).await?;
            assert_eq!(
                (all.len(), of_stream.len()),
                (200, 200),
                "page {page}: a part was given for the whole"
            );
            Ok::<_, ensue_core::Error>(())
        };
        if let Err(error) = outcome.await {
            let is_told = matches!(error.code(), Code::CORRUPT | Code::DATABASE_REFUSED | Code::NOT_A_STORE);
            assert!(is_told, "page {page}: {error:?}");
            noticed += 1;
        }
    }
    assert!(noticed * 2 > pages, "{noticed} of {pages} were noticed; the others hold other indexes");
}

#[tokio::test]
async fn rows_that_were_added_or_removed_by_hand_are_found_out() {
    let folder = Folder::new();
    let store = filled(&folder, 9).await;
    let copy = "INSERT INTO ensue_events SELECT position + 10, version + 10, recorded_at, topic, key, event_type, flow, \
                metadata, data FROM ensue_events WHERE position = 1";
    by_hand(&folder, copy);
    let error = refuse(&store, append("a", Expected::Any, &["never"])).await;
    assert_eq!(error.code(), Code::CORRUPT);
    assert!(
        error.message().contains("ends at position 9, but the last row of ensue_events has 11"),
        "{error}"
    );
    assert_eq!(ids(&store).await.len(), 9, "nobody reads what the log has not taken");

    let guarded = Connection::open(folder.file()).expect("a database");
    for change in ["DELETE FROM ensue_events", "UPDATE ensue_events SET key = 'b'"] {
        let refused = guarded.execute_batch(change).expect_err("events are for ever");
        assert!(refused.to_string().starts_with("events "), "{refused}");
    }
    by_hand(&folder, "DROP TRIGGER ensue_events_never_go; DELETE FROM ensue_events WHERE position = 11");
    take(&store, append("a", Expected::Exact(Version(9)), &["a9"])).await;

    by_hand(&folder, "DELETE FROM ensue_events WHERE position IN (4, 5)");
    for read in
        [Read::all(), Read::all().backward(), Read::stream(stream("a")), Read::stream(stream("a")).backward()]
    {
        let error = store.collect(read.clone()).await.expect_err("two are missing");
        assert!(
            error.code() == Code::CORRUPT && error.message().contains("between 3 and 6"),
            "{read:?}: {error}"
        );
    }
    let rest = store.collect(Read::all().after(ensue_core::Position(5))).await.expect("the rest is whole");
    assert_eq!(rest.len(), 5);
}

#[tokio::test]
async fn a_row_that_holds_no_event_is_named_and_hides_no_other() {
    let folder = Folder::new();
    let store = filled(&folder, 3).await;
    by_hand(
        &folder,
        "DROP TRIGGER ensue_events_never_change; UPDATE ensue_events SET metadata = '{' WHERE position = 2",
    );
    let error = store.collect(Read::all()).await.expect_err("it holds no event");
    assert!(error.code() == Code::CORRUPT && error.message().contains("position 2"), "{error}");
    let rest = store.collect(Read::all().after(ensue_core::Position(2))).await.expect("the rest is whole");
    assert_eq!(rest.len(), 1);
    take(&store, append("b", Expected::NoStream, &["b1"])).await;
    assert_eq!(event("b1").id, store.collect(Read::stream(stream("b"))).await.expect("read")[0].envelope.id);
}

#[tokio::test]
async fn a_transaction_that_is_open_for_reading_holds_up_nobody() {
    let folder = Folder::new();
    let store = filled(&folder, 3).await;
    let idle = Connection::open(folder.file()).expect("a database");
    idle.execute_batch("BEGIN; SELECT count(*) FROM ensue_events").expect("it reads");
    take(&store, append("a", Expected::Exact(Version(3)), &["a3"])).await;
    assert_eq!(ids(&store).await.len(), 4);
}
