//! Equal commands in several processes at the same moment: one is done, and all get its answer.

use std::future::IntoFuture;
use std::time::Duration;

use ensue_core::{Clock, Code, EventId, Host, StoreExt};
use ensue_runtime::app::DispatchError;
use ensue_runtime::{App, Dispatch, State};
use ensue_test::Cluster;
use futures_util::FutureExt;

use crate::repetitions::Charge;
use crate::words::{Diary, PaymentCompleted, PaymentFailed};

const SECOND: Duration = Duration::from_secs(1);

/// Calls out to a bank that takes a second by the clock of its process.
async fn charge(
    State(diary): State<Diary>,
    State(host): State<Host>,
    command: Charge,
) -> Result<PaymentCompleted, PaymentFailed> {
    diary.note(format!("charged {}", command.order));
    host.clock.sleep(SECOND).await;
    Ok(PaymentCompleted { order: command.order })
}

fn bank(diary: &Diary) -> Cluster {
    let diary = diary.clone();
    Cluster::new(move |app: App| app.state(diary.clone()).handle(charge))
}

fn pay(cluster: &Cluster, node: usize, cents: u64) -> Dispatch<Charge> {
    let command = Charge { order: "ORD-1".into(), cents };
    cluster.running(node).dispatch(command).id(EventId::new("cmd-1").expect("a valid id"))
}

async fn claims(cluster: &Cluster) -> usize {
    let space = ensue_core::Space::new("claim").expect("a valid name");
    let scan = ensue_core::RecordScan::all(space);
    cluster.store().records(scan).await.expect("memory can be read").len()
}

#[tokio::test]
async fn of_equal_commands_in_three_processes_one_is_done_and_all_get_its_answer() {
    let diary = Diary::default();
    let mut bank = bank(&diary);
    let nodes = [bank.add().await, bank.add().await, bank.add().await];
    let all = nodes.into_iter().chain(nodes).map(|node| pay(&bank, node, 5).into_future());
    for answer in bank.drive(futures_util::future::join_all(all)).await {
        assert_eq!(answer.expect("it is done").output.order, "ORD-1");
    }
    assert_eq!(diary.lines(), ["charged ORD-1"]);
    assert_eq!(bank.events().await, ["PaymentCompleted"]);
    bank.advance(SECOND).await;
    assert_eq!(claims(&bank).await, 0, "whoever waited has let go");
}

#[tokio::test]
async fn a_killed_process_leaves_its_command_to_whoever_waits_for_the_answer() {
    let diary = Diary::default();
    let mut bank = bank(&diary);
    let (killed, other) = (bank.add().await, bank.add().await);
    let mut first = pay(&bank, killed, 5).into_future();
    let mut second = pay(&bank, other, 5).into_future();
    assert!(first.as_mut().now_or_never().is_none(), "the bank takes a second");
    bank.advance(SECOND / 2).await;
    assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
    bank.advance(SECOND / 4).await;
    assert!(second.as_mut().now_or_never().is_none());
    assert_eq!((diary.lines().len(), claims(&bank).await), (1, 1), "the second waits for the first");
    bank.kill(killed).await;
    drop(first);
    let before = bank.clock().monotonic();
    let answer = bank.drive(second).await;
    assert_eq!(answer.expect("it is done").output.order, "ORD-1");
    let took = bank.clock().monotonic().saturating_sub(before);
    assert!(took < 6 * SECOND, "the lease of three seconds, a look, and the bank: {took:?}");
    assert_eq!(diary.lines().len(), 2, "the bank was called twice, as after any crash");
    assert_eq!(bank.events().await, ["PaymentCompleted"]);
}

#[tokio::test]
async fn a_process_that_was_held_for_dead_gives_the_answer_of_the_one_that_took_over() {
    let diary = Diary::default();
    let mut bank = bank(&diary);
    let (frozen, other) = (bank.add().await, bank.add().await);
    let mut first = pay(&bank, frozen, 5).into_future();
    assert!(first.as_mut().now_or_never().is_none(), "the bank takes a second");
    bank.advance(SECOND / 2).await;
    bank.freeze(frozen);
    let second = bank.drive(pay(&bank, other, 5).into_future()).await.expect("it is done");
    assert_eq!(diary.lines().len(), 2, "the other has taken over");
    bank.thaw(frozen).await;
    let first = bank.drive(first).await.expect("it is answered");
    assert_eq!((first.position, first.output), (second.position, second.output));
    assert_eq!((diary.lines().len(), bank.events().await), (2, vec!["PaymentCompleted".to_owned()]));
}

#[tokio::test]
async fn a_caller_that_gives_up_lets_the_next_process_go_on_at_once() {
    let diary = Diary::default();
    let mut bank = bank(&diary);
    let (hasty, other) = (bank.add().await, bank.add().await);
    let gave_up = bank.drive(pay(&bank, hasty, 5).within(SECOND / 2).into_future()).await;
    let Err(DispatchError::Failed(error)) = gave_up else { panic!("{gave_up:?}") };
    assert_eq!(error.code(), Code::HANDLER_TIMED_OUT);
    let before = bank.clock().monotonic();
    bank.drive(pay(&bank, other, 5).into_future()).await.expect("it is done");
    let took = bank.clock().monotonic().saturating_sub(before);
    assert!(took < 2 * SECOND, "the bank alone takes a second: {took:?}");
}

#[tokio::test]
async fn another_command_under_the_same_id_in_another_process_is_refused_when_the_first_is_answered() {
    let diary = Diary::default();
    let mut bank = bank(&diary);
    let (first, other) = (bank.add().await, bank.add().await);
    let both =
        futures_util::future::join(pay(&bank, first, 5).into_future(), pay(&bank, other, 7).into_future());
    let (done, refused) = bank.drive(both).await;
    assert_eq!(done.expect("it is done").output.order, "ORD-1");
    let Err(DispatchError::Failed(error)) = refused else { panic!("{refused:?}") };
    assert_eq!((error.code(), diary.lines().len()), (Code::DUPLICATE_ID, 1));
}
