//! Rates and quotas: how often handlers are called, and who waits for whom.

use ensue_core::Code;
use ensue_runtime::app::DispatchError;
use ensue_runtime::{App, Breaker, Rate, Reaction};
use ensue_test::Harness;

use super::*;
use crate::words::tick;

fn shop(api: &Api, mount: impl Fn(App) -> App + 'static) -> Harness {
    api.harness(mount)
}

async fn publish(shop: &mut Harness, keys: u32, numbers: u32) {
    for number in 0..numbers {
        for key in 0..keys {
            shop.publish(tick(&format!("k{key}-"), number)).await;
        }
    }
}

#[tokio::test]
async fn all_lanes_together_keep_to_the_rate_and_lose_nothing() {
    let api = Api::default();
    let mut shop = shop(&api, |app| app.react("charge", charge.rate(Rate::per_second(10))));
    publish(&mut shop, 10, 10).await;
    shop.settle().await;
    let by_second = api.by_second();
    assert_eq!(by_second.values().sum::<u32>(), 100);
    assert_eq!(by_second.values().max(), Some(&10), "{by_second:?}");
    assert!(by_second.len() <= 11, "and the rate is used: {by_second:?}");
    for key in 0..10 {
        let prefix = format!("k{key}-");
        let of_key: Vec<_> = api.done().into_iter().filter(|who| who.starts_with(&prefix)).collect();
        let expected: Vec<_> = (0..10).map(|number| format!("{prefix}{number}")).collect();
        assert_eq!(of_key, expected);
    }
}

#[tokio::test]
async fn handlers_that_name_a_rate_share_it() {
    let api = Api::default();
    let rate = || Rate::per_second(10).named("payments-api");
    let mut shop =
        shop(&api, move |app| app.react("charge", charge.rate(rate())).react("again", charge.rate(rate())));
    publish(&mut shop, 5, 5).await;
    shop.settle().await;
    let by_second = api.by_second();
    assert_eq!((by_second.values().sum::<u32>(), by_second.values().max()), (50, Some(&10)), "{by_second:?}");
}

#[tokio::test]
async fn a_rate_counts_attempts_and_waiting_for_it_is_none() {
    let api = Api::default();
    let mut shop = shop(&api, |app| app.react("charge", charge.retry(3).rate(Rate::per_minute(1))));
    api.take_down(true);
    publish(&mut shop, 2, 1).await;
    shop.advance(Duration::from_mins(3)).await;
    assert_eq!((api.calls().len(), shop.dead_letters().await.len()), (4, 0));
    shop.settle().await;
    assert_eq!((api.calls().len(), shop.dead_letters().await.len()), (6, 2));
}

#[tokio::test]
async fn each_tenant_has_a_quota_of_its_own() {
    let api = Api::default();
    let mut shop = shop(&api, |app| app.react("work", work.lanes(1).quota("tenant", Rate::per_second(5))));
    for number in 0..10 {
        shop.publish(job("acme", number)).await;
        shop.publish(job("small", number)).await;
    }
    shop.settle().await;
    let by_second = api.by_second();
    assert_eq!((by_second.values().sum::<u32>(), by_second.values().max()), (20, Some(&10)), "{by_second:?}");
    for tenant in ["acme", "small"] {
        let calls = api.calls();
        let of_tenant =
            |second: u64| calls.iter().filter(|call| call.who == tenant && call.second == second).count();
        assert_eq!((of_tenant(0), of_tenant(1)), (5, 5));
    }
}

#[tokio::test]
async fn a_command_waits_for_its_turn_and_is_refused_where_there_is_none_in_time() {
    let api = Api::default();
    let mut shop =
        shop(&api, |app| app.handle_with(charge_order, |handler| handler.rate(Rate::per_second(1).burst(2))));
    let clock = shop.clock().clone();
    let running = shop.running().await;
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..6 {
        let order = format!("ORD-{number}");
        let dispatch = running.dispatch(Charge { order }).within(Duration::from_millis(2_500));
        waiting.spawn(async move { dispatch.await });
    }
    for _ in 0..40 {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_millis(100));
    }
    let answers = waiting.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 4, "two at once, two in two seconds");
    let codes: Vec<Code> = answers
        .iter()
        .filter_map(|answer| match answer {
            Err(DispatchError::Failed(error)) => Some(error.code()),
            _ => None,
        })
        .collect();
    assert_eq!(codes, [Code::RATE_LIMITED; 2]);
    assert_eq!(api.by_second(), BTreeMap::from([(0, 2), (1, 1), (2, 1)]));
}

#[tokio::test]
async fn handlers_that_disagree_about_a_shared_limit_do_not_start() {
    let app =
        || App::new("shop").store(ensue_test::MemoryStore::new(ensue_test::host(1).0)).external::<Tick>();
    let breaker = Breaker::new("payments-api");
    let two =
        app().react("one", charge.breaker(breaker)).react("two", charge.breaker(breaker.opens_at(1, 1)));
    assert_eq!(two.check().map_err(|error| error.code()), Err(Code::LIMIT_CONTESTED));
    let rate = Rate::per_second(1);
    let two = app()
        .react("one", charge.rate(rate.named("api")))
        .react("two", charge.rate(rate.burst(2).named("api")));
    assert_eq!(two.check().map_err(|error| error.code()), Err(Code::LIMIT_CONTESTED));
    let two = app().react("one", charge.rate(rate)).react("two", charge.rate(rate.burst(2)));
    assert_eq!(two.check().map_err(|error| error.code()), Ok(()));
}
