//! What operators ask of links through the store: every process follows, also one that starts later.

use std::time::Duration;

use ensue_core::Code;
use ensue_core::bus::Seek;
use ensue_runtime::LinkStatus;
use ensue_runtime::link::{LinkState, SeekOutcome, Wanted, ask, outcome};
use ensue_test::Harness;

use super::words::{bus, logged, numbered, publish, receiver, sender, sent, status, take_in};

const SOON: Duration = Duration::from_secs(3);
const WHY: &str = "the broker is moved";

/// Asks, and lets the process hear of it.
async fn wish(log: &mut Harness, link: &str, wanted: Wanted) -> Vec<String> {
    let names = ask(&**log.store(), link, wanted, WHY).await.expect("such a link has run");
    log.advance(SOON).await;
    names.into_iter().map(String::from).collect()
}

async fn refused(log: &Harness, link: &str, wanted: Wanted) -> Code {
    ask(&**log.store(), link, wanted, WHY).await.expect_err("it cannot be").code()
}

fn stands(status: &LinkStatus) -> (LinkState, Option<&str>) {
    (status.state, status.paused_because.as_deref())
}

#[tokio::test]
async fn a_pause_outlasts_a_restart_and_says_why() {
    let bus = bus();
    let (mut from, mut to) = (sender(&bus), receiver(&bus));
    to.running().await;
    to.advance(SOON).await;
    assert_eq!(wish(&mut to, "ticks", Wanted::Pause).await, ["intake.ticks"]);
    to.restart().await;
    publish(&mut from, &["a"], 2).await;
    from.settle().await;
    to.advance(SOON).await;
    assert_eq!(logged(&to).await, Vec::<String>::new(), "nothing moves");
    assert_eq!(stands(&status(&mut to).await), (LinkState::Paused, Some(WHY)));
    wish(&mut to, "ticks", Wanted::Resume).await;
    take_in(&mut to, &bus).await;
    assert_eq!(logged(&to).await, numbered("a", 2));
    assert_eq!(stands(&status(&mut to).await), (LinkState::Up, None));
}

#[tokio::test]
async fn a_relay_pauses_too_also_when_there_is_nothing_to_send() {
    let bus = bus();
    let mut from = sender(&bus);
    from.running().await;
    from.advance(SOON).await;
    assert_eq!(wish(&mut from, "relay.ticks", Wanted::Pause).await, ["relay.ticks"]);
    assert_eq!(stands(&status(&mut from).await), (LinkState::Paused, Some(WHY)));
    publish(&mut from, &["a"], 1).await;
    from.restart().await;
    from.advance(SOON).await;
    assert_eq!(sent(&bus), Vec::<String>::new(), "nothing moves, also after a restart");
    wish(&mut from, "ticks", Wanted::Resume).await;
    from.advance(SOON).await;
    assert_eq!((sent(&bus), status(&mut from).await.state), (numbered("a", 1), LinkState::Up));
}

#[tokio::test]
async fn an_intake_goes_on_from_elsewhere_once() {
    let bus = bus();
    let (mut from, mut to) = (sender(&bus), receiver(&bus));
    to.running().await;
    publish(&mut from, &["a"], 2).await;
    from.settle().await;
    take_in(&mut to, &bus).await;
    wish(&mut to, "ticks", Wanted::Seek(Seek::Begin)).await;
    take_in(&mut to, &bus).await;
    assert_eq!((logged(&to).await, status(&mut to).await.duplicates), (numbered("a", 2), 2));
    assert_eq!(outcome(&**to.store(), "intake.ticks").await.expect("it can be read"), SeekOutcome::Done);
    to.restart().await;
    to.advance(SOON).await;
    take_in(&mut to, &bus).await;
    assert_eq!(status(&mut to).await.duplicates, 0, "it is not done again");
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_says_why() {
    let bus = bus().with(|can| can.can_seek = false);
    let (mut from, mut to) = (sender(&bus), receiver(&bus));
    for log in [&mut from, &mut to] {
        log.running().await;
        log.advance(SOON).await;
    }
    assert_eq!(refused(&to, "tocks", Wanted::Pause).await, Code::NOT_FOUND);
    assert_eq!(refused(&from, "ticks", Wanted::Seek(Seek::Begin)).await, Code::UNSUPPORTED);
    wish(&mut to, "ticks", Wanted::Seek(Seek::Begin)).await;
    let came_of_it = outcome(&**to.store(), "intake.ticks").await.expect("it can be read");
    let SeekOutcome::Refused(trouble) = came_of_it else { panic!("{came_of_it:?}") };
    assert_eq!(trouble.code, Code::UNSUPPORTED.to_string());
    wish(&mut to, "ticks", Wanted::Pause).await;
    assert_eq!(refused(&to, "ticks", Wanted::Seek(Seek::End)).await, Code::USAGE);
}

#[tokio::test]
async fn a_seek_that_was_given_up_is_not_made_later() {
    let bus = bus();
    let (mut from, mut to) = (sender(&bus), receiver(&bus));
    to.running().await;
    publish(&mut from, &["a"], 2).await;
    from.settle().await;
    take_in(&mut to, &bus).await;
    bus.down();
    to.advance(SOON).await;
    wish(&mut to, "ticks", Wanted::Seek(Seek::Begin)).await;
    to.advance(Duration::from_mins(1)).await;
    let came_of_it = outcome(&**to.store(), "intake.ticks").await.expect("it can be read");
    assert!(matches!(came_of_it, SeekOutcome::Refused(_)), "{came_of_it:?}");
    bus.up();
    to.advance(Duration::from_mins(1)).await;
    assert_eq!(status(&mut to).await.duplicates, 0, "nothing comes again");
}

#[tokio::test]
async fn a_wish_that_says_nothing_of_a_pause_does_not_end_one_of_this_process() {
    let bus = bus();
    let (mut from, mut to) = (sender(&bus), receiver(&bus));
    to.running().await;
    to.advance(SOON).await;
    to.running().await.pause_link("ticks").expect("there is one");
    wish(&mut to, "ticks", Wanted::Seek(Seek::Begin)).await;
    publish(&mut from, &["a"], 1).await;
    from.settle().await;
    to.advance(SOON).await;
    assert_eq!(logged(&to).await, Vec::<String>::new(), "it was paused here, and is");
}
