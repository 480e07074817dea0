//! Waiting for the head: nobody misses a commit, and what is announced can be read.

use ensue_core::{Expected, Position, Read};
use futures_util::FutureExt;
use futures_util::future::join_all;

use super::Subject;
use super::words::{append, events, refuse, take};

pub(super) async fn the_head_that_was_passed_is_told_at_once(store: Subject) {
    take(&*store, append("a", Expected::Any, &["a1", "a2", "a3"])).await;
    for after in 0..3 {
        assert_eq!(store.advanced(Position(after)).await.expect("the head has passed"), Position(3));
    }
}

pub(super) async fn everyone_who_waits_wakes(store: Subject) {
    // The waits begin before the commit (each is polled once), and end after it.
    let mut waits: Vec<_> = (0..50).map(|_| store.advanced(Position(1))).collect();
    for wait in &mut waits {
        assert!(wait.now_or_never().is_none(), "an empty store has no head past 1");
    }
    take(&*store, append("a", Expected::Any, &["a1"])).await;
    for wait in &mut waits {
        assert!(wait.now_or_never().is_none(), "position 1 is not past 1");
    }
    take(&*store, append("a", Expected::Any, &["a2"])).await;
    for head in join_all(waits).await {
        assert_eq!(head.expect("the head has passed"), Position(2));
    }
}

pub(super) async fn a_wait_names_only_what_can_be_read(store: Subject) {
    const EVENTS: u64 = 300;
    for number in 0..EVENTS {
        let seen = Position(number);
        // The wait begins before the commit, and reads in the very moment it is woken.
        let waiting = async {
            let head = store.advanced(seen).await.expect("the head advances");
            assert_eq!(head, seen.next(), "the head after one more event");
            let last = events(&*store, Read::all().after(seen)).await;
            assert_eq!(last.len(), 1, "{head} was announced but cannot be read");
        };
        let writing = async {
            let committed = take(&*store, append("a", Expected::Any, &[&format!("a{number}")])).await;
            // What was acknowledged can be read by whoever made the commit.
            let own = events(&*store, Read::all().after(seen)).await;
            assert_eq!(own.len(), 1, "position {} was acknowledged", committed.position());
        };
        tokio::join!(waiting, writing);
    }
}

pub(super) async fn a_refused_commit_and_an_abandoned_wait_are_silent(store: Subject) {
    drop(store.advanced(Position::ZERO));
    let mut wait = store.advanced(Position::ZERO);
    assert!((&mut wait).now_or_never().is_none(), "nothing is stored yet");
    let mut abandoned = store.advanced(Position::ZERO);
    assert!((&mut abandoned).now_or_never().is_none(), "nothing is stored yet");
    drop(abandoned);
    refuse(&*store, append("a", Expected::Exists, &["never"])).await;
    assert!((&mut wait).now_or_never().is_none(), "a refused commit moved the head");
    take(&*store, append("a", Expected::NoStream, &["a1"])).await;
    assert_eq!(wait.await.expect("the head has passed"), Position(1));
}
