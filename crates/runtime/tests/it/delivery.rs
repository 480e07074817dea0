//! What happens to a delivery that fails: retries, parking, redrive, discard, time-outs, panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use ensue_core::{Clock, Code, ContentType, Envelope, EventId, Outcome, Source, StreamName};
use ensue_runtime::dead::{DeadLetters, Which};
use ensue_runtime::{App, Attempt, OnFailure, Reaction, Retry, State, dead};
use ensue_test::Harness;

use crate::words::{Broken, Diary, Tick, tick};

/// A handler that fails for some keys until it is mended.
#[derive(Clone, Default)]
struct Mood {
    diary: Diary,
    is_mended: Arc<AtomicBool>,
    clock: Arc<std::sync::OnceLock<Arc<ensue_test::VirtualClock>>>,
}

impl Mood {
    fn mend(&self, is_mended: bool) {
        self.is_mended.store(is_mended, Ordering::Relaxed);
    }

    fn since_start(&self) -> u128 {
        self.clock.get().map_or(0, |clock| clock.monotonic().as_millis())
    }
}

async fn moody(State(mood): State<Mood>, Attempt(attempt): Attempt, tick: Tick) -> Result<(), Broken> {
    let fails = tick.key == "bad" && tick.number.is_multiple_of(2) && !mood.is_mended.load(Ordering::Relaxed);
    mood.diary.note(format!("{}{}", tick.key, tick.number));
    if fails {
        mood.diary.note(format!("attempt {attempt} at {}", mood.since_start()));
        return Err(Broken("bad mood"));
    }
    Ok(())
}

fn harness<Args: 'static, R: Reaction<Args>>(mood: &Mood, mount: impl Fn() -> R + 'static) -> Harness {
    let given = mood.clone();
    let harness =
        Harness::new(move |app: App| app.state(given.clone()).external::<Tick>().react("moody", mount()));
    let _first = mood.clock.set(harness.clock().clone()).is_ok();
    harness
}

async fn publish(harness: &mut Harness, ticks: &[(&str, u32)]) {
    for (key, number) in ticks {
        harness.publish(tick(key, *number)).await;
    }
}

/// The dead letters as somebody sees them who does not run the application.
fn offline(harness: &Harness) -> DeadLetters<'static> {
    DeadLetters::new(harness.store().clone(), harness.host().clone(), "operator")
}

/// What is parked, as key, code and attempts.
async fn parked(harness: &Harness) -> Vec<(String, String, u32)> {
    let letters = harness.dead_letters().await;
    letters
        .into_iter()
        .map(|letter| (letter.parked.key.to_string(), letter.parked.code, letter.parked.attempts))
        .collect()
}

#[tokio::test]
async fn a_failed_delivery_is_tried_again_after_growing_pauses_and_then_parked() {
    let mood = Mood::default();
    let mut harness = harness(&mood, || moody.retry(4));
    publish(&mut harness, &[("bad", 0)]).await;
    harness.settle().await;
    let lines = mood.diary.lines();
    let at: Vec<u128> = lines.iter().filter_map(|line| line.split(" at ").nth(1)?.parse().ok()).collect();
    let [first, second, third, fourth] = at.as_slice() else { panic!("{lines:?}") };
    // The jitter takes up to half of a pause away.
    assert!((50..=100).contains(&(second - first)), "{at:?}");
    assert!((100..=200).contains(&(third - second)), "{at:?}");
    assert!((200..=400).contains(&(fourth - third)), "{at:?}");
    assert_eq!(parked(&harness).await, [("bad".to_owned(), "E0301".to_owned(), 4)]);
}

#[tokio::test]
async fn later_events_of_a_parked_key_wait_and_other_keys_go_on() {
    let mood = Mood::default();
    let mut harness = harness(&mood, || moody.retry(2).lanes(1));
    publish(&mut harness, &[("bad", 0), ("good", 0), ("bad", 1), ("good", 1)]).await;
    harness.settle().await;
    publish(&mut harness, &[("bad", 3), ("good", 2)]).await;
    harness.settle().await;
    assert_eq!(mood.diary.count("bad1") + mood.diary.count("bad3"), 0, "they wait");
    assert_eq!((mood.diary.count("good0"), mood.diary.count("good1"), mood.diary.count("good2")), (1, 1, 1));
    let codes: Vec<_> =
        parked(&harness).await.into_iter().map(|(_, code, attempts)| (code, attempts)).collect();
    let waiting = ("E0304".to_owned(), 0);
    assert_eq!(codes, [("E0301".to_owned(), 2), waiting.clone(), waiting]);
    // They still wait after a restart.
    harness.restart().await;
    publish(&mut harness, &[("bad", 5)]).await;
    harness.settle().await;
    assert_eq!((mood.diary.count("bad5"), parked(&harness).await.len()), (0, 4));
}

#[tokio::test]
async fn a_redrive_works_the_key_off_in_order_and_frees_it() {
    let mood = Mood::default();
    let mut harness = harness(&mood, || moody.retry(1));
    publish(&mut harness, &[("bad", 0), ("bad", 1), ("bad", 2)]).await;
    harness.settle().await;
    mood.mend(true);
    assert_eq!(
        harness
            .running()
            .await
            .dead()
            .redrive(&Which::key("moody", "bad"))
            .await
            .expect("it is parked")
            .letters,
        3
    );
    harness.settle().await;
    publish(&mut harness, &[("bad", 3)]).await;
    harness.settle().await;
    let order: Vec<String> = mood.diary.lines().into_iter().filter(|line| line.starts_with("bad")).collect();
    assert_eq!(order, ["bad0", "bad0", "bad1", "bad2", "bad3"]);
    assert_eq!(parked(&harness).await, []);
}

#[tokio::test]
async fn a_second_failure_keeps_the_letter_and_those_behind_it() {
    let mood = Mood::default();
    let mut harness = harness(&mood, || moody.retry(1));
    publish(&mut harness, &[("bad", 1), ("bad", 0), ("bad", 3), ("bad", 2)]).await;
    harness.settle().await;
    harness.running().await.dead().redrive(&Which::key("moody", "bad")).await.expect("it is parked");
    harness.settle().await;
    let codes: Vec<_> =
        parked(&harness).await.into_iter().map(|(_, code, attempts)| (code, attempts)).collect();
    assert_eq!(codes, [("E0301".to_owned(), 2), ("E0304".to_owned(), 0), ("E0304".to_owned(), 0)]);
    // The request is answered: a restart does not repeat it.
    let before = mood.diary.count("bad0");
    harness.restart().await;
    harness.settle().await;
    assert_eq!(mood.diary.count("bad0"), before);
}

#[tokio::test]
async fn a_redrive_that_was_asked_for_while_nothing_ran_happens_at_the_next_start() {
    let mood = Mood::default();
    let mut harness = harness(&mood, || moody.retry(1));
    publish(&mut harness, &[("bad", 0), ("bad", 1)]).await;
    harness.settle().await;
    mood.mend(true);
    offline(&harness).redrive(&Which::key("moody", "bad")).await.expect("it is parked");
    harness.restart().await;
    harness.settle().await;
    assert_eq!(parked(&harness).await, []);
    assert_eq!(mood.diary.count("bad1"), 1);
    let nothing = offline(&harness).redrive(&Which::key("moody", "bad")).await;
    assert_eq!(nothing.expect_err("nothing is parked").code(), Code::NOT_FOUND);
}

#[tokio::test]
async fn a_discarded_letter_is_kept_aside_with_the_reason_and_the_key_goes_on() {
    let mood = Mood::default();
    let mut harness = harness(&mood, || moody.retry(1));
    publish(&mut harness, &[("bad", 0), ("bad", 1)]).await;
    harness.settle().await;
    let [first, _] = harness.dead_letters().await.try_into().expect("two letters");
    let at = first.parked.position;
    let dead = harness.running().await.dead();
    dead.discard_one("moody", "bad", at, "refunded by hand").await.expect("it is parked");
    harness.settle().await;
    publish(&mut harness, &[("bad", 3)]).await;
    harness.settle().await;
    assert_eq!((mood.diary.count("bad1"), mood.diary.count("bad3")), (1, 1));
    assert_eq!(parked(&harness).await, []);
    let kept = dead::discarded(&**harness.store()).await.expect("memory can be read");
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((kept.discard_reason.as_str(), kept.discarded_by.as_str()), ("refunded by hand", "test"));
    assert_eq!((kept.parked.reason.as_str(), kept.parked.position), ("bad mood", at));
}

#[tokio::test]
async fn full_dead_letters_stop_the_lane_visibly_and_lose_nothing() {
    let mood = Mood::default();
    let mut harness = harness(&mood, || moody.retry(1).lanes(1).dead_max(2));
    publish(&mut harness, &[("bad", 0), ("bad", 1), ("bad", 2), ("good", 0)]).await;
    harness.settle().await;
    let halted = harness.running().await.halted();
    let [(name, error)] = halted.as_slice() else { panic!("{halted:?}") };
    assert_eq!((name.as_str(), error.code()), ("moody", Code::DEAD_FULL));
    let stored = dead::halted(&**harness.store()).await.expect("halts can be read");
    assert_eq!(stored.first().map(|halt| halt.code.as_str()), Some("E0305"));
    assert_eq!((parked(&harness).await.len(), mood.diary.count("good0")), (2, 0));
    // Mended and redriven, it goes on after a restart where it stopped.
    mood.mend(true);
    offline(&harness).redrive(&Which::key("moody", "bad")).await.expect("it is parked");
    harness.restart().await;
    harness.settle().await;
    assert_eq!(mood.diary.count("bad1") + mood.diary.count("bad2") + mood.diary.count("good0"), 3);
    assert_eq!(dead::halted(&**harness.store()).await.expect("halts can be read"), []);
}

#[tokio::test]
async fn a_lane_told_to_stop_stops_and_one_told_to_skip_skips() {
    let mood = Mood::default();
    let mut stopping = harness(&mood, || moody.retry(1).lanes(1).on_failure(OnFailure::Stop));
    publish(&mut stopping, &[("bad", 0), ("good", 0)]).await;
    stopping.settle().await;
    assert_eq!(stopping.running().await.halted().len(), 1);
    assert_eq!((mood.diary.count("good0"), parked(&stopping).await.len()), (0, 0));
    mood.mend(true);
    stopping.restart().await;
    stopping.settle().await;
    assert_eq!(mood.diary.count("good0"), 1, "what was not settled is delivered again");

    let mood = Mood::default();
    let mut skipping = harness(&mood, || moody.retry(2).lanes(1).on_failure(OnFailure::Skip));
    publish(&mut skipping, &[("bad", 0), ("good", 0), ("bad", 1)]).await;
    skipping.settle().await;
    assert_eq!((mood.diary.count("bad0"), mood.diary.count("good0"), mood.diary.count("bad1")), (2, 1, 1));
    assert_eq!(parked(&skipping).await, []);
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    async fn panics(State(mood): State<Mood>, tick: Tick) {
        mood.diary.note("called");
        assert!(tick.key != "bad", "I cannot stand this key");
    }
    let mood = Mood::default();
    let mut harness = harness(&mood, || panics.retry(3).lanes(1));
    publish(&mut harness, &[("bad", 0), ("good", 0)]).await;
    harness.settle().await;
    let [letter] = harness.dead_letters().await.try_into().expect("one letter");
    assert_eq!((letter.parked.code.as_str(), letter.parked.attempts), ("E0302", 3));
    assert!(letter.parked.reason.contains("I cannot stand this key"), "{}", letter.parked.reason);
    assert_eq!(mood.diary.count("called"), 4);
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_cancelled_and_counts_as_failed() {
    async fn hangs(State(mood): State<Mood>, tick: Tick) {
        mood.diary.note(format!("{}{} at {}", tick.key, tick.number, mood.since_start()));
        if tick.key == "bad" {
            std::future::pending::<()>().await;
        }
    }
    let mood = Mood::default();
    let mut harness = harness(&mood, || hangs.retry(2).timeout(Duration::from_secs(7)));
    publish(&mut harness, &[("bad", 0), ("good", 0)]).await;
    harness.advance(Duration::from_secs(20)).await;
    let [letter] = harness.dead_letters().await.try_into().expect("one letter");
    assert_eq!((letter.parked.code.as_str(), letter.parked.attempts), ("E0303", 2));
    assert_eq!(mood.diary.count("good0 at 0"), 1, "other keys do not wait");
}

#[tokio::test]
async fn a_body_that_does_not_decode_is_parked_at_once() {
    let mood = Mood::default();
    let mut harness = harness(&mood, || moody.retry(5));
    let stream = StreamName::new("Tick", "bad").expect("valid");
    let envelope = Envelope {
        id: EventId::new("evt-1").expect("valid"),
        source: Source::new("elsewhere").expect("valid"),
        event_type: ensue_core::EventType::new("Tick").expect("valid"),
        schema_version: 1,
        time: harness.clock().now(),
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: r#"{"key":"bad","number":"three"}"#.into(),
    };
    harness.running().await.door().admit(stream, envelope).await.expect("the door does not read bodies");
    harness.settle().await;
    let [letter] = harness.dead_letters().await.try_into().expect("one letter");
    assert_eq!((letter.parked.code.as_str(), letter.parked.attempts), ("E0105", 1));
    assert!(
        letter.parked.reason.contains("number") || letter.parked.reason.contains("three"),
        "{}",
        letter.parked.reason
    );
    assert_eq!(harness.clock().monotonic(), Duration::ZERO, "no pause was made");
}

#[tokio::test]
async fn an_outcome_steers_its_own_delivery() {
    async fn steers(State(mood): State<Mood>, tick: Tick) -> Outcome {
        mood.diary.note(format!("{} at {}", tick.key, mood.since_start()));
        match tick.key.as_str() {
            "later" if mood.since_start() == 0 => Outcome::Retry(Duration::from_secs(90)),
            "never" => Outcome::Reject("not for us".to_owned()),
            _ => Outcome::Ack,
        }
    }
    let mood = Mood::default();
    let mut harness = harness(&mood, || steers.retry(1));
    publish(&mut harness, &[("later", 0), ("never", 0)]).await;
    // A pause this long is a timer: it holds up nobody.
    harness.advance(Duration::from_secs(90)).await;
    assert_eq!((mood.diary.count("later at 0"), mood.diary.count("later at 90000")), (1, 1));
    let [letter] = harness.dead_letters().await.try_into().expect("one letter");
    assert_eq!((letter.parked.key.as_str(), letter.parked.code.as_str()), ("never", "E0306"));
}

#[tokio::test]
async fn a_store_that_is_away_or_takes_no_writes_for_a_while_stops_nothing() {
    for code in [Code::BUSY, Code::DATABASE_READ_ONLY, Code::FULL] {
        outlast(code).await;
    }
}

async fn outlast(code: Code) {
    let mood = Mood::default();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let mut harness = harness(&mood, || moody.retry(Retry::attempts(1)));
    harness.running().await;
    publish(&mut harness, &[("good", 0)]).await;
    harness.store().set_hook(Arc::new(move |number: u64, _: &ensue_core::Commit| {
        if counted.fetch_add(1, Ordering::Relaxed) < 30 {
            let away = format!("commit {number} found the store away");
            return ensue_test::Verdict::Refuse(ensue_core::Error::new(code, away));
        }
        ensue_test::Verdict::Proceed
    }));
    harness.settle().await;
    let halted = harness.running().await.halted();
    assert!(calls.load(Ordering::Relaxed) > 30, "{code}: it came back after {calls:?}; {halted:?}");
    assert_eq!((mood.diary.count("good0"), parked(&harness).await.len()), (1, 0));
    assert!(harness.running().await.halted().is_empty());
}

#[tokio::test]
async fn a_lane_that_stops_while_lanes_are_changed_loses_nothing() {
    let mood = Mood::default();
    let lanes = Arc::new(AtomicU32::new(4));
    let wanted = lanes.clone();
    let mut harness = harness(&mood, move || {
        let lanes = u16::try_from(wanted.load(Ordering::Relaxed)).unwrap_or(1);
        moody.retry(1).lanes(lanes).on_failure(OnFailure::Stop)
    });
    publish(&mut harness, &[("bad", 0), ("bad", 1)]).await;
    for key in ["a", "b", "c", "d", "e", "f"] {
        publish(&mut harness, &[(key, 0)]).await;
    }
    harness.settle().await;
    // With other lanes the old ones first come to one position; the stopped lane stops again on the way.
    lanes.store(3, Ordering::Relaxed);
    harness.restart().await;
    harness.settle().await;
    mood.mend(true);
    harness.restart().await;
    harness.settle().await;
    assert_eq!(mood.diary.count("bad1"), 1, "{:?}", mood.diary.lines());
    assert!(harness.running().await.halted().is_empty());
}

#[tokio::test]
async fn a_lane_that_pauses_while_lanes_are_changed_finishes_what_it_has_in_hand() {
    let mood = Mood::default();
    let lanes = Arc::new(AtomicU32::new(4));
    let wanted = lanes.clone();
    let mut harness = harness(&mood, move || {
        moody.retry(3).lanes(u16::try_from(wanted.load(Ordering::Relaxed)).unwrap_or(1))
    });
    publish(&mut harness, &[("bad", 0), ("bad", 1)]).await;
    // Others are further than the lane that will pause, so that the meeting point is beyond what it has in hand.
    for key in ["a", "b", "c", "d", "e", "f"] {
        publish(&mut harness, &[(key, 0)]).await;
    }
    harness.advance(Duration::ZERO).await;
    assert_eq!(mood.diary.count("bad0"), 1, "it failed once, and its lane pauses");
    lanes.store(3, Ordering::Relaxed);
    harness.restart().await;
    harness.settle().await;
    assert_eq!(mood.diary.count("bad0"), 4, "tried on in the old lane: {:?}", mood.diary.lines());
    assert_eq!(parked(&harness).await.len(), 2);
}
