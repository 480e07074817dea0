//! Code that changes while instances are running: pinned branches, and the replay of histories before a deployment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ensue_core::Store;
use ensue_runtime::saga::SagaStatus::{Compensated, Completed, NeedsAttention, Waiting};
use ensue_runtime::saga::{Histories, SagaCheck};
use ensue_runtime::{App, Saga, SagaError, State};
use ensue_test::Harness;

use super::world::{self, Charge, Delivered, Ledger, Refund, Reserve, Ship, end, trouble};
use crate::words::{OrderPlaced, placed};

/// Which deployment runs.
#[derive(Clone, Default)]
struct Deployment(Arc<AtomicU32>);

impl Deployment {
    fn number(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Before the first deployment: charge, wait, ship. After it: reserve before the wait. After the second: reserve twice.
async fn grows(saga: Saga<OrderPlaced>, State(deployment): State<Deployment>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() }).nothing_to_undo().await?;
    for _ in 0..saga.version("reserve-first", deployment.number()) {
        saga.send("reserve", Reserve { order: order.clone() }).nothing_to_undo().await?;
    }
    saga.wait_for::<Delivered>(&order).await?;
    saga.send("ship", Ship { order }).pivot().await?;
    Ok(())
}

/// The same change without a pin.
async fn jumps(saga: Saga<OrderPlaced>, State(deployment): State<Deployment>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() }).nothing_to_undo().await?;
    for _ in 0..deployment.number() {
        saga.send("reserve", Reserve { order: order.clone() }).nothing_to_undo().await?;
    }
    saga.wait_for::<Delivered>(&order).await?;
    Ok(())
}

fn deploy(ledger: &Ledger, deployment: &Deployment, mount: impl Fn(App) -> App + 'static) -> Harness {
    let deployment = deployment.clone();
    world::harness(ledger, move |app: App| mount(app.state(deployment.clone())))
}

#[tokio::test]
async fn running_instances_keep_the_branch_they_began_with() {
    let (ledger, deployment) = (Ledger::default(), Deployment::default());
    let mut shop = deploy(&ledger, &deployment, |app| app.saga("fulfil", grows));
    for number in 0..3 {
        deployment.0.store(number, Ordering::Relaxed);
        shop.restart().await;
        shop.publish(placed(&format!("ORD-{number}"))).await;
        shop.settle().await;
    }
    for number in 0..3_u32 {
        let before = ledger.calls("reserve");
        assert_eq!(before, 3, "one for the second order, two for the third");
        shop.publish(Delivered { order: format!("ORD-{number}"), parcel: 1 }).await;
        shop.settle().await;
        assert_eq!(ledger.calls("reserve"), before, "no branch was entered late");
        let head = shop.saga("fulfil", &format!("ORD-{number}")).await.expect("it was started");
        assert_eq!(head.status, Completed, "{head:?}");
    }
}

async fn check(shop: &Harness, deployment: &Deployment, mount: fn(App) -> App) -> SagaCheck {
    let app = mount(App::new("check").state(deployment.clone()).state(Ledger::default()));
    let store: &dyn Store = &**shop.store();
    app.check_sagas(store, Histories::All).await.expect("the journals can be read")
}

#[tokio::test]
async fn a_check_finds_the_instances_that_new_code_does_not_fit_and_changes_nothing() {
    let (ledger, deployment) = (Ledger::default(), Deployment::default());
    let mut shop = deploy(&ledger, &deployment, |app| app.saga("fulfil", jumps));
    for number in 0..3 {
        shop.publish(placed(&format!("ORD-{number}"))).await;
    }
    shop.settle().await;
    let (recorded, calls) = (shop.recorded().await, ledger.effects());
    let same = check(&shop, &deployment, |app| app.saga("fulfil", jumps)).await;
    assert_eq!((same.checked, same.misfits.len(), same.ok().is_ok()), (3, 0, true));
    deployment.0.store(1, Ordering::Relaxed);
    let changed = check(&shop, &deployment, |app| app.saga("fulfil", jumps)).await;
    assert_eq!((changed.checked, changed.misfits.len()), (3, 3));
    let misfit = changed.misfits.first().expect("three");
    let difference = misfit.difference.as_ref().expect("the order of steps differs");
    assert_eq!((misfit.key.as_str(), misfit.status, difference.first), ("ORD-0", Waiting, 1));
    let shown = difference.to_string();
    assert!(
        shown.contains(">  2 wait-Delivered") && shown.contains("reserve (the command Reserve)"),
        "{shown}"
    );
    let said = changed.ok().expect_err("they do not fit").to_string();
    assert!(said.contains("E0601") && said.contains("ORD-0"), "{said}");
    let unmounted = check(&shop, &deployment, |app| app).await;
    assert_eq!((unmounted.checked, unmounted.unknown.get("fulfil")), (0, Some(&3)));
    assert_eq!((shop.recorded().await, ledger.effects()), (recorded, calls));
}

#[tokio::test]
async fn an_instance_that_stopped_at_a_difference_shows_it_and_goes_on_with_code_that_fits() {
    let (ledger, deployment) = (Ledger::default(), Deployment::default());
    let mut shop = deploy(&ledger, &deployment, |app| app.saga("fulfil", jumps));
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    deployment.0.store(1, Ordering::Relaxed);
    shop.publish(Delivered { order: "ORD-1".to_owned(), parcel: 1 }).await;
    shop.settle().await;
    let head = shop.saga("fulfil", "ORD-1").await.expect("it was started");
    assert_eq!((head.status, head.difference.expect("it is shown").first), (NeedsAttention, 1));
    deployment.0.store(0, Ordering::Relaxed);
    let sagas = shop.running().await.sagas();
    let retry = ensue_runtime::saga::Request::Retry;
    sagas.ask("fulfil", "ORD-1", &retry, "the old code is back").await.expect("it fits");
    shop.settle().await;
    assert_eq!(end(&shop).await.0, Completed);
    assert_eq!(ledger.calls("charge"), 1);
}

/// Has an hour in all, and waits for a parcel before and after the point of no return.
async fn within_an_hour(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    saga.deadline(Duration::from_hours(1));
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    saga.wait_for::<Delivered>(&order).await?;
    saga.send("ship", Ship { order: order.clone() }).pivot().await?;
    saga.wait_for::<Delivered>(&order).await?;
    Ok(())
}

#[tokio::test]
async fn a_deadline_of_the_whole_saga_holds_up_to_the_point_of_no_return() {
    for parcels in 0..=2 {
        let ledger = Ledger::default();
        let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", within_an_hour));
        shop.publish(placed("ORD-1")).await;
        shop.settle().await;
        for parcel in 0..parcels {
            shop.publish(Delivered { order: "ORD-1".to_owned(), parcel }).await;
        }
        shop.advance(Duration::from_mins(59)).await;
        let so_far = end(&shop).await.0;
        assert_eq!(so_far, if parcels == 2 { Completed } else { Waiting });
        shop.restart().await;
        shop.advance(Duration::from_mins(2)).await;
        let (status, code, _) = trouble(&shop).await;
        let expected = match parcels {
            0 => (Compensated, "E0603"),
            1 => (Waiting, ""),
            _ => (Completed, ""),
        };
        assert_eq!((status, code.as_str()), expected, "{parcels} parcels");
        assert_eq!(ledger.effects().contains(&"refund".to_owned()), parcels == 0);
        assert_eq!(ensue_runtime::timer::list(&**shop.store()).await.expect("timers can be read"), []);
    }
}
