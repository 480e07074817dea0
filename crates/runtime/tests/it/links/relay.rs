//! From the log to a broker.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Channel, Clock, Code, Error, Topic};
use ensue_runtime::App;
use ensue_runtime::Relay;
use ensue_runtime::link::{self, Asked, LinkState};
use ensue_test::{Harness, crash_everywhere};

use super::words::{Slot, TICKS, bus, numbered, of_key, publish, sender, sent, shared, status};
use crate::words::{Tick, placed, tick};

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_topic_goes_out_in_the_order_of_each_key_and_no_other_does() {
    let bus = bus();
    let mut log = sender(&bus);
    publish(&mut log, &["a", "b", "c"], 5).await;
    log.publish(placed("ORD-1")).await;
    log.settle().await;
    let sent = sent(&bus);
    assert_eq!(sent.len(), 15, "{sent:?}");
    for key in ["a", "b", "c"] {
        assert_eq!(of_key(&sent, key), numbered(key, 5));
    }
    let status = status(&mut log).await;
    assert_eq!((status.passed, status.state, status.head_since, status.parked), (15, LinkState::Up, None, 0));
}

#[tokio::test]
async fn a_crash_at_any_commit_loses_nothing_and_keeps_the_order_of_each_key() {
    let slot = Slot::default();
    let crashes = crash_everywhere(
        || sender(&slot.renew()),
        async |log: &mut Harness| {
            publish(log, &["a", "b"], 3).await;
            log.settle().await;
            let sent = sent(&slot.get());
            for key in ["a", "b"] {
                assert_eq!(of_key(&sent, key), numbered(key, 3), "{sent:?}");
            }
        },
    )
    .await;
    assert!(crashes > 10, "{crashes}");
}

#[tokio::test]
async fn an_outage_parks_nothing_and_shows_since_when_and_why() {
    let bus = bus();
    let mut log = sender(&bus);
    log.publish(tick("a", 1)).await;
    log.settle().await;
    bus.down();
    let began = log.clock().now();
    log.publish(tick("a", 2)).await;
    log.publish(tick("b", 1)).await;
    log.advance(MINUTE * 10).await;
    let during = status(&mut log).await;
    assert_eq!((during.state, during.parked, during.head_since), (LinkState::Waiting, 0, Some(began)));
    assert_eq!(during.trouble.expect("it says why").code, Code::BUS_UNREACHABLE.to_string());
    assert!(log.dead_letters().await.is_empty());
    assert_eq!(sent(&bus), ["a1"], "the broker was down");
    bus.up();
    log.settle().await;
    assert_eq!(of_key(&sent(&bus), "a"), numbered("a", 2));
    assert_eq!(status(&mut log).await.state, LinkState::Up);
}

#[tokio::test]
async fn a_relay_with_nothing_to_send_says_how_it_stands_too() {
    let bus = bus();
    bus.down();
    let mut log = sender(&bus);
    log.running().await;
    log.advance(MINUTE).await;
    let absent = status(&mut log).await;
    assert_eq!(absent.state, LinkState::Waiting);
    assert_eq!(absent.trouble.expect("it says why").code, Code::BUS_UNREACHABLE.to_string());
    bus.up();
    log.advance(MINUTE).await;
    assert_eq!(status(&mut log).await.state, LinkState::Up);
    log.running().await.pause_link("ticks").expect("it is there");
    assert_eq!(status(&mut log).await.state, LinkState::Paused);
    log.running().await.resume_link("ticks").expect("it is there");
    log.advance(MINUTE).await;
    assert_eq!((status(&mut log).await.state, sent(&bus).len()), (LinkState::Up, 0));
    bus.down();
    log.advance(MINUTE).await;
    assert_eq!(status(&mut log).await.state, LinkState::Waiting, "it looks again and again");
    bus.up();
    log.advance(MINUTE).await;
    assert_eq!(status(&mut log).await.state, LinkState::Up);
}

#[tokio::test]
async fn a_broker_that_lets_nobody_in_or_stands_still_parks_nothing() {
    for code in [Code::BUS_DENIED, Code::BUS_TIMEOUT, Code::BUS_ADDRESS] {
        let bus = bus();
        let mut log = sender(&bus);
        bus.refuse(TICKS, Error::new(code, "on request"));
        publish(&mut log, &["a", "b"], 2).await;
        log.advance(MINUTE).await;
        assert!(bus.strikes() > 2, "it was tried again");
        assert!(log.dead_letters().await.is_empty(), "{code}");
        bus.accept(TICKS);
        log.settle().await;
        assert_eq!(of_key(&sent(&bus), "a"), numbered("a", 2), "{code}");
    }
}

#[tokio::test]
async fn a_channel_that_can_never_be_made_parks_nothing() {
    let bus = bus();
    bus.refuse_to_declare(Some(Error::new(Code::INVALID_NAME, "on request")));
    let mut log = sender(&bus);
    publish(&mut log, &["a", "b"], 2).await;
    log.advance(MINUTE).await;
    assert!(bus.strikes() > 2, "it was tried again");
    assert!(log.dead_letters().await.is_empty());
    let waiting = status(&mut log).await;
    let trouble = waiting.trouble.expect("it says why").code;
    assert_eq!((waiting.state, trouble), (LinkState::Waiting, Code::INVALID_NAME.to_string()));
    bus.refuse_to_declare(None);
    log.settle().await;
    assert_eq!(of_key(&sent(&bus), "a"), numbered("a", 2));
}

#[tokio::test]
async fn what_the_broker_refuses_for_good_parks_its_key_and_other_keys_go_on() {
    let bus = bus().with(|can| can.message_bytes_max = 600);
    let mut log = sender(&bus);
    let long = "a".repeat(300);
    publish(&mut log, &[&long, "b"], 2).await;
    log.advance(Duration::from_secs(7)).await;
    log.publish(tick("b", 3)).await;
    log.settle().await;
    assert_eq!(sent(&bus), numbered("b", 3));
    let letters = log.dead_letters().await;
    let codes: Vec<&str> = letters.iter().map(|letter| letter.parked.code.as_str()).collect();
    assert_eq!(codes, [Code::TOO_LARGE.to_string(), Code::KEY_PARKED.to_string()]);
    assert!(letters.iter().all(|letter| letter.handler == "relay.ticks"));
    let status = status(&mut log).await;
    assert_eq!((status.state, status.parked), (LinkState::Up, 2));
    let age = status.head_age(log.clock().now()).expect("a parked event counts as one that waits");
    assert_eq!(age, Duration::from_secs(7));
}

#[tokio::test]
async fn a_place_that_has_gone_is_looked_for_again_before_anything_is_parked() {
    let bus = bus();
    let mut log = sender(&bus);
    publish(&mut log, &["a"], 1).await;
    log.advance(MINUTE).await;
    bus.refuse(TICKS, Error::new(Code::BUS_UNROUTABLE, "its leader was lost"));
    log.publish(tick("a", 2)).await;
    log.advance(Duration::from_millis(1)).await;
    assert!(bus.strikes() > 0, "it was refused");
    assert!(log.dead_letters().await.is_empty());
    assert_eq!(status(&mut log).await.state, LinkState::Waiting);
    bus.accept(TICKS);
    log.advance(Duration::from_secs(5)).await;
    assert_eq!(sent(&bus), numbered("a", 2));
    assert_eq!(status(&mut log).await.state, LinkState::Up);
}

#[tokio::test]
async fn what_the_store_says_of_a_link_is_of_now_and_tells_that_its_process_was_killed() {
    let bus = bus();
    let mut log = sender(&bus);
    publish(&mut log, &["a"], 3).await;
    for _ in 0..12 {
        log.advance(Duration::from_secs(5)).await;
    }
    let now = log.clock().now();
    let stored = |now| {
        let (store, asked) = (
            Arc::clone(log.store()),
            Asked {
                name: "relay.ticks".into(),
                link: "ticks".into(),
                backend: "memory".into(),
                channel: Channel::new(TICKS).expect("a valid name"),
                topic: Some(Topic::new("Tick").expect("a valid name")),
            },
        );
        async move { link::stored(Some(&*store), asked, now).await.expect("the store can be read") }
    };
    let status = stored(now).await;
    assert_eq!((status.state, status.passed), (LinkState::Up, 3), "it went up before the three had passed");
    let later = stored(now + MINUTE).await;
    assert_eq!((later.state, later.since), (LinkState::Silent, status.as_of));
}

#[tokio::test]
async fn a_parked_event_goes_out_when_it_is_redriven_and_those_behind_it_follow() {
    let bus = bus();
    let mut log = sender(&bus);
    bus.refuse(TICKS, Error::new(Code::BUS_UNROUTABLE, "on request"));
    publish(&mut log, &["a"], 3).await;
    log.settle().await;
    assert_eq!((sent(&bus).len(), log.dead_letters().await.len()), (0, 3));
    bus.accept(TICKS);
    assert_eq!(log.redrive("relay.ticks", "a").await, 3);
    log.settle().await;
    assert_eq!(sent(&bus), numbered("a", 3));
    assert!(log.dead_letters().await.is_empty());
}

#[tokio::test]
async fn what_was_kept_without_a_confirmation_is_published_again_under_its_id() {
    for can_deduplicate in [true, false] {
        let bus = bus().with(|can| can.can_deduplicate = can_deduplicate);
        let mut log = sender(&bus);
        bus.lose_confirmations(2);
        publish(&mut log, &["a"], 3).await;
        log.settle().await;
        assert_eq!(bus.strikes(), 2, "two confirmations were lost");
        assert_eq!(sent(&bus), numbered("a", 3));
        assert_eq!(bus.messages(TICKS).len() > 3, !can_deduplicate);
    }
}

#[tokio::test]
async fn a_failure_of_one_key_does_not_publish_the_others_twice() {
    let bus = bus().with(|can| can.can_deduplicate = false);
    let other = bus.clone();
    let mut log = Harness::new(move |app: App| {
        let relay = Relay::new("ticks", shared(&other)).topic("Tick").to(TICKS).lanes(1);
        app.external::<Tick>().relay(relay)
    });
    bus.down();
    publish(&mut log, &["a", "b", "c", "d"], 1).await;
    log.advance(Duration::from_secs(1)).await;
    bus.lose_confirmations(1);
    bus.up();
    log.settle().await;
    assert_eq!((sent(&bus).len(), bus.strikes()), (4, 1));
    assert_eq!(bus.messages(TICKS).len(), 5, "four events, and the one that was not confirmed");
}

#[tokio::test]
async fn a_paused_relay_sends_nothing_until_it_may_go_on() {
    let bus = bus();
    let mut log = sender(&bus);
    log.running().await.pause_link("ticks").expect("there is one");
    log.publish(tick("a", 1)).await;
    log.advance(MINUTE).await;
    assert_eq!((sent(&bus).len(), status(&mut log).await.state), (0, LinkState::Paused));
    log.running().await.resume_link("ticks").expect("there is one");
    log.settle().await;
    assert_eq!(sent(&bus), ["a1"]);
    let error = log.running().await.pause_link("tocks").expect_err("there is none");
    assert_eq!(error.code(), Code::NOT_FOUND);
}

#[tokio::test]
async fn a_relay_that_cannot_work_keeps_the_application_from_starting() {
    let bus = bus();
    let named = |relay: Relay| {
        App::new("test").store(ensue_test::MemoryStore::new(ensue_test::host(1).0)).relay(relay)
    };
    let to = |topic: &str, to: &str| Relay::new("out", shared(&bus)).topic(topic).to(to);
    for (relay, code) in [
        (to("saga.pay", "x"), Code::LINK_INVALID),
        (to("", "x"), Code::INVALID_NAME),
        (to("Order", ""), Code::INVALID_NAME),
    ] {
        let error = named(relay).check().expect_err("it cannot work");
        assert_eq!(error.code(), code, "{error}");
    }
    let twice = named(to("Order", "x")).relay(to("Payment", "y"));
    assert_eq!(twice.check().expect_err("one name").code(), Code::DUPLICATE_HANDLER);
    named(to("Order", "x")).external::<Tick>().check().expect("this one works");
}
