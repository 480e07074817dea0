//! What is in hand, and for how long.

use std::time::Duration;

use ensue_core::Code;
use ensue_core::bus::{Bus, Consumer, Declare, Settled, Topology};
use tokio::time::{Instant, timeout};

use crate::given;

const HIDDEN: Duration = Duration::from_secs(6);

async fn two_members(
    within: Duration,
) -> (std::sync::Arc<given::Server>, Box<dyn Consumer>, Box<dyn Consumer>) {
    let server = given::server().await;
    let bus = server.config().hidden_for(HIDDEN).settle_within(within).open().await;
    let bus = bus.expect("the address is understood");
    let source = given::source("orders", "shop", None);
    let topology = Topology { targets: Vec::new(), sources: vec![source.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
    let event = given::event("shop", "ORD-1", "slow", "{\"total\":7}");
    bus.publish(vec![event]).await.remove(0).expect("it is confirmed");
    let one = bus.consume(source.clone()).await.expect("the group can be joined");
    let two = bus.consume(source).await.expect("the group can be joined");
    (server, one, two)
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn a_message_stays_hidden_as_long_as_the_member_that_has_it_lives() {
    let (_server, mut slow, mut other) = two_members(Duration::from_mins(1)).await;
    let in_hand = slow.next(1).await.expect("the fake runs").remove(0);
    let came = timeout(HIDDEN * 3, other.next(1)).await;
    assert!(came.is_err(), "it came to another member although the first one lives: {came:?}");
    slow.settle(vec![Settled::Ack(in_hand.token)]).await.remove(0).expect("it was in hand all the time");
    assert_eq!(slow.lag().await.expect("the fake runs"), Some(0), "it is gone");
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn settling_after_the_time_is_over_is_refused() {
    let (_server, mut slow, mut other) = two_members(HIDDEN).await;
    let asked_at = Instant::now();
    let in_hand = slow.next(1).await.expect("the fake runs").remove(0);
    let again = other.next(1).await.expect("the fake runs").remove(0);
    assert!(asked_at.elapsed() >= HIDDEN / 2, "it was hidden at first");
    let late = slow.settle(vec![Settled::Ack(in_hand.token)]).await.remove(0);
    assert_eq!(late.expect_err("its time was over").code(), Code::BUS_TOO_LATE);
    other.settle(vec![Settled::Ack(again.token)]).await.remove(0).expect("it is in hand");
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn a_delay_that_no_queue_keeps_is_refused_and_the_message_stays_in_hand() {
    let (_server, mut one, _other) = two_members(Duration::from_mins(1)).await;
    let in_hand = one.next(1).await.expect("the fake runs").remove(0);
    let delay = Duration::from_hours(13);
    let refused = one.settle(vec![Settled::Nack(in_hand.token, delay)]).await.remove(0);
    assert_eq!(refused.expect_err("SQS puts nothing off for so long").code(), Code::UNSUPPORTED);
    one.settle(vec![Settled::Ack(in_hand.token)]).await.remove(0).expect("it is still in hand");
}
