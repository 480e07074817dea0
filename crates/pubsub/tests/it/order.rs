//! The order of a key, and leases.

use std::time::Duration;

use ensue_core::bus::{Bus, Consumer, Outgoing, Settled};
use ensue_core::{Code, Error};
use ensue_pubsub::Config;
use tokio::time::Instant;

use crate::foreign::{declare, event, fed};
use crate::given::{self, TOKEN};

async fn next_id(consumer: &mut Box<dyn Consumer>) -> (String, u64, u32) {
    let came = consumer.next(1).await.expect("the service runs").remove(0);
    let found = came.message.headers.iter().find(|(name, _)| name == "ce-id").expect("an id");
    (String::from_utf8_lossy(&found.1).into_owned(), came.token, came.attempt)
}

async fn settle(consumer: &mut Box<dyn Consumer>, settled: Settled) -> Result<(), Error> {
    consumer.settle(vec![settled]).await.remove(0)
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn what_is_handed_back_comes_before_what_is_behind_it() {
    let server = given::server().await;
    let bus = server.config(TOKEN).open().await.expect("an address");
    let source = fed("mine", "orders", None);
    declare(&bus, &source).await;
    let batch = ["first", "second", "third"].map(|id| event("orders", "A", id, "OrderPlaced"));
    for answer in bus.publish(batch.to_vec()).await {
        answer.expect("it is confirmed");
    }
    let mut consumer = bus.consume(source).await.expect("the group can be joined");
    let mut came = Vec::new();
    for delay_ms in [300, 0] {
        let (id, token, attempt) = next_id(&mut consumer).await;
        came.push((id, attempt));
        settle(&mut consumer, Settled::Nack(token, Duration::from_millis(delay_ms)))
            .await
            .expect("it goes back");
    }
    for _ in 0..3 {
        let (id, token, attempt) = next_id(&mut consumer).await;
        came.push((id, attempt));
        settle(&mut consumer, Settled::Ack(token)).await.expect("it can be settled");
    }
    let wanted = [("first", 1), ("first", 2), ("first", 3), ("second", 1), ("third", 1)];
    assert_eq!(came, wanted.map(|(id, attempt)| (id.to_owned(), attempt)));
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn one_that_was_put_off_keeps_its_rest_when_its_member_leaves() {
    const DELAY: Duration = Duration::from_secs(4);
    const LEASE: Duration = Duration::from_mins(1);
    let server = given::server().await;
    let bus = server.config(TOKEN).lease(LEASE).open().await.expect("an address");
    let source = fed("mine", "orders", None);
    declare(&bus, &source).await;
    bus.publish(vec![event("orders", "A", "e1", "OrderPlaced")]).await.remove(0).expect("it is confirmed");
    let mut leaves = bus.consume(source.clone()).await.expect("the group can be joined");
    let (_, token, _) = next_id(&mut leaves).await;
    let since = Instant::now();
    settle(&mut leaves, Settled::Nack(token, DELAY)).await.expect("it goes back");
    drop(leaves);
    let mut stays = bus.consume(source).await.expect("the group can be joined");
    let (id, _, attempt) = next_id(&mut stays).await;
    assert_eq!((id.as_str(), attempt), ("e1", 2));
    assert!((DELAY..LEASE).contains(&since.elapsed()), "it came after {:?}", since.elapsed());
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn a_lease_is_extended_while_a_delivery_is_in_hand_and_no_longer() {
    const LEASE: Duration = Duration::from_secs(10);
    const SETTLE_WITHIN: Duration = Duration::from_secs(16);
    let server = given::server().await;
    let config = server.config(TOKEN).lease(LEASE).settle_within(SETTLE_WITHIN);
    let bus = config.open().await.expect("an address");
    let source = fed("mine", "orders", None);
    declare(&bus, &source).await;
    let mut slow = bus.consume(source.clone()).await.expect("the group can be joined");
    bus.publish(vec![event("orders", "A", "e1", "OrderPlaced")]).await.remove(0).expect("it is confirmed");
    let since = Instant::now();
    let (_, token, _) = next_id(&mut slow).await;
    let mut other = bus.consume(source).await.expect("the group can be joined");
    let (id, again, attempt) = tokio::select! {
        came = next_id(&mut other) => came,
        _ = next_id(&mut slow) => panic!("it came again to the one who has it in hand"),
        () = tokio::time::sleep_until(since + 2 * SETTLE_WITHIN) => panic!("it did not come again"),
    };
    assert!(since.elapsed() >= SETTLE_WITHIN, "it came after {:?}", since.elapsed());
    assert_eq!((id.as_str(), attempt), ("e1", 2));
    let late = settle(&mut slow, Settled::Ack(token)).await.expect_err("its time was over");
    assert_eq!(late.code(), Code::BUS_TOO_LATE, "{late:?}");
    settle(&mut other, Settled::Ack(again)).await.expect("it is in hand");
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn messages_of_a_key_that_fill_several_requests_go_in_order() {
    const MESSAGES: usize = 2_100;
    let server = given::server().await;
    let bus = server.config(TOKEN).open().await.expect("an address");
    declare(&bus, &fed("mine", "orders", None)).await;
    let message = |number| event("orders", "A", &format!("e{number}"), "OrderPlaced");
    // As many as take three requests, and then four that are too large for one together.
    let mut batch: Vec<Outgoing> = (0..MESSAGES).map(message).collect();
    let mut large = message(MESSAGES);
    large.envelope.data = vec![b'1'; 4 * 1024 * 1024].into();
    batch.extend(std::iter::repeat_n(large, 4));
    let mut places = Vec::new();
    for answer in bus.publish(batch).await {
        places.push(answer.expect("it is confirmed").place.to_string());
    }
    // The fake numbers what it takes.
    let wanted: Vec<String> = (0..MESSAGES + 4).map(|number| format!("orders/m{number}")).collect();
    assert_eq!(places, wanted);
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn with_exactly_once_delivery_whoever_stood_still_is_told_that_it_acknowledges_too_late() {
    let server = given::server().await;
    let own = server.other_front();
    let with = |config: Config| config.settle_within(Duration::from_mins(5)).exactly_once();
    let frozen_bus = with(given::config(&own.address, TOKEN)).open().await.expect("an address");
    let bus = with(server.config(TOKEN)).open().await.expect("an address");
    assert!(bus.capabilities().can_refuse_late);
    let source = fed("mine", "orders", None);
    declare(&bus, &source).await;
    bus.publish(vec![event("orders", "A", "e1", "OrderPlaced")]).await.remove(0).expect("it is confirmed");
    let mut frozen = frozen_bus.consume(source.clone()).await.expect("the group can be joined");
    let (_, token, _) = next_id(&mut frozen).await;
    own.process.freeze();
    let mut other = bus.consume(source).await.expect("the group can be joined");
    let (id, again, attempt) = next_id(&mut other).await;
    assert_eq!((id.as_str(), attempt), ("e1", 2), "its lease could not be extended");
    own.process.thaw();
    let late = settle(&mut frozen, Settled::Ack(token)).await.expect_err("it is in hand elsewhere");
    assert_eq!(late.code(), Code::BUS_TOO_LATE, "{late:?}");
    settle(&mut other, Settled::Ack(again)).await.expect("it is in hand");
}
