//! Deliveries that wait for a time, with what is behind them of their key.

use ensue_core::Code;

use super::*;

/// At half past, when every test begins, it asks to be called in an hour.
async fn after_lunch(
    State(diary): State<Diary>,
    ensue_runtime::context::Deadline(_): ensue_runtime::context::Deadline,
    State(clock): State<std::sync::Arc<ensue_test::VirtualClock>>,
    tick: Tick,
) -> Outcome {
    use ensue_core::Clock;
    let lunch: Timestamp = "2024-01-15T11:30:00Z".parse().expect("a time");
    if tick.key == "hungry" && clock.now() < lunch {
        diary.note(format!("{}{} waits", tick.key, tick.number));
        return Outcome::Defer(lunch);
    }
    diary.note(format!("{}{}", tick.key, tick.number));
    Outcome::Ack
}

fn lunching(diary: &Diary) -> Harness {
    let clock = std::sync::Arc::new(std::sync::OnceLock::new());
    let (given, seen) = (diary.clone(), std::sync::Arc::clone(&clock));
    let harness = Harness::new(move |app: App| {
        let clock: &std::sync::Arc<ensue_test::VirtualClock> = seen.get().expect("set below");
        app.state(given.clone())
            .state(std::sync::Arc::clone(clock))
            .external::<Tick>()
            .react("after-lunch", after_lunch.lanes(1))
    });
    clock.set(harness.clock().clone()).expect("set once");
    harness
}

#[tokio::test]
async fn a_deferred_delivery_waits_with_its_key_and_other_keys_go_on() {
    let diary = Diary::default();
    let mut harness = lunching(&diary);
    for (key, number) in [("hungry", 0), ("fed", 0), ("hungry", 1), ("fed", 1)] {
        harness.publish(tick(key, number)).await;
    }
    harness.settle().await;
    assert_eq!(diary.lines(), ["hungry0 waits", "fed0", "fed1"]);
    let deferred = dead::deferred(&**harness.store()).await.expect("they can be read");
    let codes: Vec<&str> = deferred.iter().map(|letter| letter.parked.code.as_str()).collect();
    assert_eq!(codes, ["E0308", "E0304"]);
    assert_eq!(harness.dead_letters().await, [], "nothing is dead");
    harness.restart().await;
    harness.publish(tick("hungry", 2)).await;
    harness.advance(61 * MINUTE).await;
    harness.publish(tick("hungry", 3)).await;
    harness.settle().await;
    let lines = diary.lines();
    assert_eq!(lines.get(3..).unwrap_or_default(), ["hungry0", "hungry1", "hungry2", "hungry3"]);
    assert_eq!(timers(&harness).await, []);
}

#[tokio::test]
async fn a_deferred_delivery_is_made_once_whatever_crashes() {
    let crashes = crash_everywhere(
        || lunching(&Diary::default()),
        async |harness: &mut Harness| {
            harness.publish(tick("hungry", 0)).await;
            harness.publish(tick("hungry", 1)).await;
            harness.advance(61 * MINUTE).await;
            harness.settle().await;
            let deferred = dead::deferred(&**harness.store()).await.expect("they can be read");
            assert_eq!(
                (deferred, timers(harness).await, harness.dead_letters().await),
                (vec![], vec![], vec![])
            );
        },
    )
    .await;
    assert!(crashes >= 10, "{crashes}");
}

#[tokio::test]
async fn an_operator_can_end_the_wait() {
    let diary = Diary::default();
    let mut harness = lunching(&diary);
    harness.publish(tick("hungry", 0)).await;
    harness.settle().await;
    let [timer] = timers(&harness).await.try_into().expect("one timer");
    assert_eq!(
        (timer.owner.as_str(), timer.due),
        ("after-lunch", "2024-01-15T11:30:00Z".parse().expect("a time"))
    );
    // Discarded: the timer finds nothing that waits, and the key is free.
    let which = dead::Which::key("after-lunch", "hungry");
    harness.running().await.dead().discard(&which, "no lunch today").await.expect("it waits");
    harness.advance(61 * MINUTE).await;
    harness.publish(tick("hungry", 1)).await;
    harness.settle().await;
    assert_eq!(diary.lines(), ["hungry0 waits", "hungry1"]);
    assert_eq!((timers(&harness).await, harness.dead_letters().await), (vec![], vec![]));
}

async fn refuses(State(diary): State<Diary>, Attempt(attempt): Attempt, tick: Tick) -> Result<(), Broken> {
    diary.note(format!("{}{}/{attempt}", tick.key, tick.number));
    if tick.key == "bad" && attempt < 4 { Err(Broken("the provider is away")) } else { Ok(()) }
}

/// A minute between two attempts, no growth.
const SLOWLY: Retry = Retry { attempts: 4, first_pause: MINUTE, factor: 1, pause_max: MINUTE };

#[tokio::test]
async fn a_long_pause_between_attempts_does_not_hold_the_lane() {
    let diary = Diary::default();
    let given = diary.clone();
    let mut harness = Harness::new(move |app: App| {
        app.state(given.clone()).external::<Tick>().react("refuses", refuses.lanes(1).retry(SLOWLY))
    });
    for (key, number) in [("bad", 0), ("good", 0), ("bad", 1)] {
        harness.publish(tick(key, number)).await;
    }
    harness.settle().await;
    assert_eq!(diary.lines(), ["bad0/1", "good0/1"], "the lane went on");
    let deferred = dead::deferred(&**harness.store()).await.expect("they can be read");
    let [first, _] = deferred.as_slice() else { panic!("{deferred:?}") };
    assert_eq!((first.parked.code.as_str(), first.parked.attempts), ("E0301", 1));
    harness.advance(4 * MINUTE).await;
    harness.advance(4 * MINUTE).await;
    let rest = ["bad0/2", "bad0/3", "bad0/4", "bad1/1", "bad1/2", "bad1/3", "bad1/4"];
    assert_eq!(
        diary.lines().get(2..).unwrap_or_default(),
        rest,
        "in order, and the second as new as the first was"
    );
    assert_eq!((timers(&harness).await, harness.dead_letters().await), (vec![], vec![]));
}

#[tokio::test]
async fn what_is_deferred_too_often_is_dead() {
    let diary = Diary::default();
    let given = diary.clone();
    let mut harness = Harness::new(move |app: App| {
        let slowly = Retry { attempts: 3, ..SLOWLY };
        app.state(given.clone()).external::<Tick>().react("refuses", refuses.lanes(1).retry(slowly))
    });
    harness.publish(tick("bad", 0)).await;
    harness.publish(tick("bad", 1)).await;
    harness.advance(10 * MINUTE).await;
    assert_eq!(diary.lines(), ["bad0/1", "bad0/2", "bad0/3"]);
    let letters = harness.dead_letters().await;
    let codes: Vec<(&str, u32)> =
        letters.iter().map(|letter| (letter.parked.code.as_str(), letter.parked.attempts)).collect();
    assert_eq!(codes, [("E0301", 3), (&*Code::KEY_PARKED.to_string(), 0)]);
    assert_eq!(timers(&harness).await, []);
}

#[tokio::test]
async fn a_lane_that_must_not_reorder_waits_as_a_whole() {
    let diary = Diary::default();
    let given = diary.clone();
    let mut harness = Harness::new(move |app: App| {
        let strictly = refuses.lanes(1).retry(SLOWLY).on_failure(ensue_runtime::OnFailure::Stop);
        app.state(given.clone()).external::<Tick>().react("refuses", strictly)
    });
    harness.publish(tick("bad", 0)).await;
    harness.publish(tick("good", 0)).await;
    harness.settle().await;
    assert_eq!(diary.lines(), ["bad0/1", "bad0/2", "bad0/3", "bad0/4", "good0/1"]);
}
