//! From a broker to the log.

use std::time::Duration;

use ensue_core::bus::Seek;
use ensue_core::{Clock, Code};
use ensue_runtime::link::LinkState;
use ensue_runtime::{App, Intake};
use ensue_test::{Harness, MemoryBus, crash_everywhere};

use super::words::{
    Slot, TICKS, bus, bus_with_clock, logged, numbered, of_key, publish, receiver, seeded_receiver, sender,
    shared, status, take_in,
};
use crate::words::{Diary, Tick};

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn what_goes_out_of_one_log_comes_into_the_other_as_it_was() {
    let bus = bus();
    let (mut from, mut to) = (sender(&bus), receiver(&bus));
    publish(&mut from, &["a", "b"], 4).await;
    from.settle().await;
    take_in(&mut to, &bus).await;
    let came = logged(&to).await;
    for key in ["a", "b"] {
        assert_eq!(of_key(&came, key), numbered(key, 4));
    }
    let (sent, came) = (from.recorded().await, to.recorded().await);
    for one in &came {
        let original = sent.iter().find(|sent| sent.envelope.id == one.envelope.id).expect("it was sent");
        assert_eq!(one.stream, original.stream);
        assert_eq!(
            (&one.envelope.source, one.envelope.time),
            (&original.envelope.source, original.envelope.time)
        );
        assert_eq!(one.envelope.data, original.envelope.data);
    }
    let status = status(&mut to).await;
    assert_eq!((status.passed, status.duplicates, status.state), (8, 0, LinkState::Up));
    assert_eq!(status.window_seconds, Some(7 * 24 * 60 * 60), "the window is shown");
}

#[tokio::test]
async fn what_comes_is_in_the_log_once_and_in_order_whatever_crashes() {
    let slot = Slot::default();
    let crashes = crash_everywhere(
        || receiver(&filled(&slot)),
        async |to: &mut Harness| {
            to.running().await;
            take_in(to, &slot.get()).await;
            let came = logged(to).await;
            for key in ["a", "b"] {
                assert_eq!(of_key(&came, key), numbered(key, 3), "{came:?}");
            }
        },
    )
    .await;
    assert!(crashes >= 4, "{crashes}");
}

/// A broker that holds three ticks of two keys, and delivers each twice.
fn filled(slot: &Slot) -> ensue_test::MemoryBus {
    let bus = slot.renew();
    bus.deliver_times(2);
    for number in 1..=3 {
        for key in ["a", "b"] {
            post(&bus, key, number);
        }
    }
    bus
}

fn post(bus: &ensue_test::MemoryBus, key: &str, number: u32) {
    let id = format!("{key}-{number}");
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", id.as_str()),
        ("ce_source", "elsewhere"),
        ("ce_type", "Tick"),
        ("ce_topic", "Tick"),
        ("content-type", "application/json"),
    ];
    bus.post(TICKS, Some(key), &headers, format!("{{\"key\":\"{key}\",\"number\":{number}}}"));
}

#[tokio::test]
async fn a_message_that_comes_again_is_dropped_and_counted() {
    let (bus, clock) = bus_with_clock();
    bus.deliver_times(3);
    let mut to = receiver(&bus);
    post(&bus, "a", 1);
    to.running().await;
    take_in(&mut to, &bus).await;
    assert_eq!(logged(&to).await, ["a1"]);
    assert_eq!((bus.strikes(), status(&mut to).await.duplicates), (2, 2));
    bus.lose_settlements(1);
    post(&bus, "a", 2);
    to.settle().await;
    assert_eq!(bus.unsettled(), 3, "one is in hand, its copies wait behind it");
    clock.advance(MINUTE);
    take_in(&mut to, &bus).await;
    assert_eq!(logged(&to).await, ["a1", "a2"]);
    assert_eq!(status(&mut to).await.duplicates, 5, "a2 came three times, and once more unsettled");
}

#[tokio::test]
async fn a_channel_that_is_fed_keeps_the_application_from_starting_where_the_broker_feeds_none() {
    let app = |bus: MemoryBus| {
        let intake = Intake::new("ticks", shared(&bus)).from("billing.in").fed_by(TICKS, None);
        App::new("test").store(ensue_test::MemoryStore::new(ensue_test::host(1).0)).intake(intake)
    };
    app(bus()).check().expect("a broker that can");
    let error = app(bus().with(|can| can.can_feed = false)).check().expect_err("one that cannot");
    assert_eq!(error.code(), Code::LINK_INVALID, "{error}");
    assert!(error.message().contains(TICKS) && error.message().contains("memory"), "{error}");
}

#[tokio::test]
async fn an_id_is_forgotten_when_its_window_is_over() {
    let bus = bus();
    let other = bus.clone();
    let mut to = Harness::new(move |app: App| {
        let intake = Intake::new("ticks", shared(&other)).from(TICKS);
        app.intake(intake.window(MINUTE).redelivered_within(MINUTE / 2))
    });
    post(&bus, "a", 1);
    to.running().await;
    take_in(&mut to, &bus).await;
    to.advance(MINUTE * 2).await;
    post(&bus, "a", 1);
    take_in(&mut to, &bus).await;
    assert_eq!(logged(&to).await.len(), 2, "it came after the window");
}

#[tokio::test]
async fn a_window_that_is_not_longer_than_the_redelivery_keeps_the_application_from_starting() {
    let bus = bus();
    let app = |intake: Intake| {
        App::new("test").store(ensue_test::MemoryStore::new(ensue_test::host(1).0)).intake(intake)
    };
    let intake = || Intake::new("ticks", shared(&bus)).from(TICKS);
    let error = app(intake().window(MINUTE)).check().expect_err("a day is longer");
    assert_eq!(error.code(), Code::LINK_INVALID, "{error}");
    let error = app(intake()).window(MINUTE).check().expect_err("that of the application counts too");
    assert_eq!(error.code(), Code::LINK_INVALID);
    app(intake().window(MINUTE).redelivered_within(Duration::from_secs(59))).check().expect("it is longer");
    assert_eq!(app(intake().topic("saga.x")).check().expect_err("ours alone").code(), Code::LINK_INVALID);
    assert_eq!(app(intake()).intake(intake()).check().expect_err("one name").code(), Code::DUPLICATE_HANDLER);
}

#[tokio::test]
async fn a_broker_that_is_absent_at_the_start_or_goes_away_is_found_again() {
    let bus = bus();
    bus.down();
    let mut to = receiver(&bus);
    to.running().await;
    to.advance(MINUTE).await;
    let absent = status(&mut to).await;
    assert_eq!(absent.state, LinkState::Waiting);
    assert_eq!(absent.trouble.expect("it says why").code, Code::BUS_UNREACHABLE.to_string());
    bus.up();
    post(&bus, "a", 1);
    to.advance(MINUTE).await;
    assert_eq!(logged(&to).await, ["a1"]);
    bus.down();
    to.advance(MINUTE).await;
    let since = status(&mut to).await.since;
    assert!(since < to.clock().now(), "it says since when");
    bus.up();
    post(&bus, "a", 2);
    to.advance(MINUTE).await;
    assert_eq!((logged(&to).await, status(&mut to).await.state), (numbered("a", 2), LinkState::Up));
}

#[tokio::test]
async fn a_paused_intake_takes_nothing_until_it_may_go_on_and_can_be_sent_back() {
    let bus = bus();
    let mut to = receiver(&bus);
    post(&bus, "a", 1);
    to.running().await;
    take_in(&mut to, &bus).await;
    to.running().await.pause_link("ticks").expect("there is one");
    post(&bus, "a", 2);
    to.advance(MINUTE).await;
    assert_eq!((bus.unsettled(), status(&mut to).await.state), (1, LinkState::Paused));
    to.running().await.resume_link("ticks").expect("there is one");
    take_in(&mut to, &bus).await;
    to.running().await.seek_link("ticks", Seek::Begin).await.expect("the broker keeps a history");
    take_in(&mut to, &bus).await;
    assert_eq!((logged(&to).await, status(&mut to).await.duplicates), (numbered("a", 2), 2));
}

#[tokio::test]
async fn a_broker_without_a_history_refuses_to_go_back() {
    let bus = bus().with(|can| can.can_seek = false);
    let mut to = receiver(&bus);
    let error = to.running().await.seek_link("ticks", Seek::Begin).await.expect_err("it cannot");
    assert_eq!(error.code(), Code::UNSUPPORTED);
}

#[tokio::test]
async fn each_log_gets_everything_because_each_has_a_group_of_its_own() {
    let bus = bus();
    let (mut one, mut two) = (receiver(&bus), seeded_receiver(3, &bus));
    one.running().await;
    two.running().await;
    post(&bus, "a", 1);
    take_in(&mut one, &bus).await;
    take_in(&mut two, &bus).await;
    assert_eq!((logged(&one).await, logged(&two).await), (numbered("a", 1), numbered("a", 1)));
    assert_eq!(bus.groups().len(), 2, "{:?}", bus.groups());
}

#[tokio::test]
async fn what_comes_in_is_handled_as_if_it_were_our_own() {
    let (bus, diary) = (bus(), Diary::default());
    let (other, notes) = (bus.clone(), diary.clone());
    let mut to = Harness::new(move |app: App| {
        let diary = notes.clone();
        app.external::<Tick>().intake(Intake::new("ticks", shared(&other)).from(TICKS)).react(
            "note",
            move |tick: Tick| {
                diary.note(format!("{}{}", tick.key, tick.number));
                async {}
            },
        )
    });
    post(&bus, "a", 1);
    to.running().await;
    take_in(&mut to, &bus).await;
    to.settle().await;
    assert_eq!(diary.lines(), ["a1"]);
}

#[tokio::test]
async fn an_order_that_the_broker_does_not_keep_across_keys_is_kept_for_each() {
    let bus = bus();
    bus.reorder_across_keys(7);
    let (mut from, mut to) = (sender(&bus), receiver(&bus));
    publish(&mut from, &["a", "b", "c"], 5).await;
    from.settle().await;
    take_in(&mut to, &bus).await;
    let came = logged(&to).await;
    for key in ["a", "b", "c"] {
        assert_eq!(of_key(&came, key), numbered(key, 5));
    }
}
