//! A lane that may park no more stops, and goes on by itself when room was made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensue_runtime::dead::{DeadLetters, Which};
use ensue_runtime::{App, Reaction, State, dead};
use ensue_test::{Cluster, Harness};

use crate::words::{Broken, Diary, Tick, tick};

/// Fails for the key `bad` until it is mended.
#[derive(Clone, Default)]
struct Mood {
    diary: Diary,
    is_mended: Arc<AtomicBool>,
}

impl Mood {
    fn mend(&self) {
        self.is_mended.store(true, Ordering::Relaxed);
    }
}

async fn moody(State(mood): State<Mood>, tick: Tick) -> Result<(), Broken> {
    if tick.key == "bad" && !mood.is_mended.load(Ordering::Relaxed) {
        return Err(Broken("bad mood"));
    }
    mood.diary.note(format!("{}{}", tick.key, tick.number));
    Ok(())
}

fn app(mood: &Mood, dead_max: usize) -> impl Fn(App) -> App + use<> {
    let mood = mood.clone();
    move |app| {
        let mounted = moody.retry(1).lanes(1).dead_max(dead_max);
        app.state(mood.clone()).external::<Tick>().react("moody", mounted)
    }
}

async fn publish(harness: &mut Harness, ticks: &[(&str, u32)]) {
    for (key, number) in ticks {
        harness.publish(tick(key, *number)).await;
    }
}

/// Why lanes have stopped, in this process and by the records that operators see.
async fn halts(harness: &mut Harness) -> (Vec<String>, Vec<String>) {
    let here = harness.running().await.halted();
    let here = here.into_iter().map(|(_, error)| error.code().to_string()).collect();
    let stored = dead::halted(&**harness.store()).await.expect("halts can be read");
    (here, stored.into_iter().map(|halt| halt.code).collect())
}

fn full() -> (Vec<String>, Vec<String>) {
    (vec!["E0305".into()], vec!["E0305".into()])
}

#[tokio::test]
async fn a_full_lane_goes_on_after_a_redrive_without_a_restart() {
    let mood = Mood::default();
    let mut harness = Harness::new(app(&mood, 2));
    publish(&mut harness, &[("bad", 0), ("bad", 1), ("bad", 2), ("good", 0)]).await;
    harness.settle().await;
    assert_eq!((halts(&mut harness).await, mood.diary.lines()), (full(), vec![]));
    mood.mend();
    harness.running().await.dead().redrive(&Which::All).await.expect("two are parked");
    harness.settle().await;
    assert_eq!(mood.diary.lines(), ["bad0", "bad1", "bad2", "good0"]);
    assert_eq!((halts(&mut harness).await, harness.dead_letters().await), ((vec![], vec![]), vec![]));
    publish(&mut harness, &[("good", 1)]).await;
    harness.settle().await;
    assert_eq!(mood.diary.count("good1"), 1);
}

#[tokio::test]
async fn a_full_lane_whose_redrive_fails_again_stays_stopped_and_loses_nothing() {
    let mood = Mood::default();
    let mut harness = Harness::new(app(&mood, 1));
    publish(&mut harness, &[("bad", 0), ("bad", 1), ("good", 0)]).await;
    harness.settle().await;
    for _ in 0..3 {
        harness.running().await.dead().redrive(&Which::All).await.expect("one is parked");
        harness.settle().await;
        assert_eq!((halts(&mut harness).await, mood.diary.lines()), (full(), vec![]));
    }
    let attempts: Vec<u32> =
        harness.dead_letters().await.iter().map(|letter| letter.parked.attempts).collect();
    assert_eq!(attempts, [4]);
}

#[tokio::test]
async fn a_full_lane_goes_on_after_a_discard_as_far_as_there_is_room() {
    let mood = Mood::default();
    let mut harness = Harness::new(app(&mood, 1));
    publish(&mut harness, &[("bad", 0), ("good", 0), ("bad", 1), ("good", 1), ("bad", 2)]).await;
    harness.settle().await;
    assert_eq!((halts(&mut harness).await, mood.diary.lines()), (full(), vec!["good0".to_owned()]));
    let dead = harness.running().await.dead();
    assert_eq!(dead.discard(&Which::All, "refunded by hand").await.expect("one is parked"), 1);
    harness.settle().await;
    assert_eq!(mood.diary.lines(), ["good0", "good1"], "the next that fails takes the room that was made");
    assert_eq!(halts(&mut harness).await, full());
}

#[tokio::test]
async fn a_request_that_came_before_the_lane_was_full_makes_room_in_it() {
    let mood = Mood::default();
    let mut harness = Harness::new(app(&mood, 1));
    publish(&mut harness, &[("bad", 0)]).await;
    harness.settle().await;
    // Nobody tells the application of it; the lane finds it when it would have to stop.
    let operator = DeadLetters::new(harness.store().clone(), harness.host().clone(), "ada");
    operator.redrive(&Which::All).await.expect("one is parked");
    mood.mend();
    publish(&mut harness, &[("bad", 1), ("good", 0)]).await;
    harness.settle().await;
    assert_eq!(mood.diary.lines(), ["bad0", "bad1", "good0"]);
    assert_eq!((halts(&mut harness).await, harness.dead_letters().await), ((vec![], vec![]), vec![]));
}

#[tokio::test]
async fn a_full_lane_goes_on_in_whatever_process_it_is() {
    let mood = Mood::default();
    let mut cluster = Cluster::new(app(&mood, 1));
    let members = [cluster.add().await, cluster.add().await];
    cluster.advance(Duration::from_secs(3)).await;
    for (key, number) in [("bad", 0), ("bad", 1), ("good", 0)] {
        cluster.publish(tick(key, number)).await;
    }
    cluster.advance(Duration::from_secs(3)).await;
    let is_full = |member: &usize| !cluster.running(*member).halted().is_empty();
    let asked = *members.iter().find(|member| !is_full(member)).expect("one has not got the lane");
    assert_eq!(members.iter().filter(|member| is_full(member)).count(), 1, "the other has stopped");
    mood.mend();
    let dead = cluster.running(asked).dead();
    cluster.drive(dead.redrive(&Which::All)).await.expect("one is parked");
    cluster.advance(Duration::from_secs(3)).await;
    cluster.settle().await;
    assert_eq!(mood.diary.lines(), ["bad0", "bad1", "good0"]);
    assert!(dead::halted(&**cluster.store()).await.expect("halts can be read").is_empty());
}

#[tokio::test]
async fn a_redrive_at_a_rate_asks_for_one_key_after_the_other() {
    async fn sick(State(mood): State<Mood>, tick: Tick) -> Result<(), Broken> {
        moody(State(mood), Tick { key: "bad".into(), ..tick }).await
    }
    let mood = Mood::default();
    let given = mood.clone();
    let mut harness = Harness::new(move |app: App| {
        app.state(given.clone()).external::<Tick>().react("sick", sick.retry(1))
    });
    publish(&mut harness, &[("a", 0), ("b", 1), ("c", 2)]).await;
    harness.settle().await;
    mood.mend();
    let twice_a_second = std::num::NonZeroU32::new(2).expect("not zero");
    let asked = harness.running().await.dead().redrive_at(&Which::All, twice_a_second).await;
    let asked = asked.expect("three are parked");
    assert_eq!((asked.keys, asked.letters), (3, 3));
    let mut done_after = Vec::new();
    for _ in 0..5 {
        harness.settle().await;
        done_after.push(mood.diary.lines().len());
        // The pace outlives the process that was asked.
        harness.restart().await;
        harness.advance(Duration::from_millis(250)).await;
    }
    assert_eq!(done_after, [1, 1, 2, 2, 3], "each half a second after the one before");
    assert_eq!(harness.dead_letters().await, []);
}

#[tokio::test]
async fn a_turn_that_has_not_come_is_listed_and_is_taken_back_by_its_timer() {
    let mood = Mood::default();
    let given = mood.clone();
    let mut harness = Harness::new(move |app: App| {
        app.state(given.clone()).external::<Tick>().react("moody", moody.retry(1))
    });
    publish(&mut harness, &[("bad", 0)]).await;
    harness.settle().await;
    let slowly = std::num::NonZeroU32::MIN;
    harness.stop().await;
    let store: Arc<dyn ensue_core::Store> = harness.store().clone();
    let operator = dead::DeadLetters::new(Arc::clone(&store), harness.host().clone(), "ada");
    operator.redrive_at(&Which::All, slowly).await.expect("it is parked");
    operator.redrive_at(&Which::All, slowly).await.expect("it is parked");
    let [waiting] = operator.redrives().await.expect("memory can be read").try_into().expect("one turn");
    assert_eq!(
        (waiting.due, waiting.requested_by.as_str()),
        (Some(ensue_core::Clock::now(&**harness.clock())), "ada")
    );
    mood.mend();
    let source = ensue_core::Source::new("test").expect("valid");
    let timers = ensue_runtime::Timers::of(store, harness.host().clone(), source);
    let set = timers.list(&ensue_runtime::timer::Filter::default()).await.expect("memory can be read");
    for timer in set {
        timers.cancel(&timer.id(), "not today").await.expect("nothing waits for it");
    }
    assert_eq!(operator.redrives().await.expect("memory can be read"), []);
    harness.settle().await;
    assert_eq!((harness.dead_letters().await.len(), mood.diary.lines().len()), (1, 0));
}
