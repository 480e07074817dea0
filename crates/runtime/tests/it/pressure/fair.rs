//! Fair lanes: one tenant floods, the others are not held up, and nothing is lost, repeated or out of order for it.

use std::ops::Range;

use ensue_core::{
    Append, Commit, Envelope, EventId, Expected, Host, Source, Store, StreamName, Tag, Timestamp,
};
use ensue_core::{ContentType, EventType};
use ensue_runtime::flow::FlowStatus;
use ensue_runtime::{Rate, Reaction};
use ensue_test::{Cluster, MemoryStore, crash_everywhere};

use super::*;

/// What [`finish`] makes of a [`Job`].
#[derive(Event, Serialize, Deserialize, Clone)]
#[event(crate = ensue_core, topic = "Finished", key = job)]
struct Finished {
    job: String,
    tenant: String,
}

async fn finish(job: Job) -> Finished {
    Finished { job: job.job, tenant: job.tenant }
}

/// Like [`work`], but each call takes ten milliseconds.
async fn slow_work(State(api): State<Api>, job: Job) -> Result<(), Broken> {
    api.call(job.tenant, Duration::from_millis(10)).await
}

/// Like [`finish`], but each call takes ten milliseconds.
async fn slow_finish(State(host): State<Host>, job: Job) -> Finished {
    host.clock.sleep(Duration::from_millis(10)).await;
    finish(job).await
}

/// Each job has a number of its own and one of five keys of its tenant.
fn stored(tenant: &str, number: u32) -> Append {
    let key = format!("{tenant}-{}", number % 5);
    let tags = if tenant.is_empty() { Vec::new() } else { vec![Tag::new("tenant", tenant).expect("valid")] };
    let envelope = Envelope {
        id: EventId::new(format!("{tenant}#{number}")).expect("valid"),
        source: Source::new("elsewhere").expect("valid"),
        event_type: EventType::new("Job").expect("valid"),
        schema_version: 1,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags,
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: format!(r#"{{"job":"{key}#{number}","tenant":"{tenant}"}}"#).into(),
    };
    let stream = StreamName::new("Job", &key).expect("valid");
    Append { stream, expected: Expected::Any, events: vec![envelope] }
}

/// Stores jobs of a tenant in few commits, which nobody crashes at.
async fn store(store: &MemoryStore, tenant: &str, numbers: Range<u32>) {
    let numbers: Vec<u32> = numbers.collect();
    for some in numbers.chunks(2_000) {
        let appends = some.iter().map(|number| stored(tenant, *number)).collect();
        store.commit(Commit { appends, ..Commit::default() }).await.expect("a store takes every event");
    }
}

/// What is finished, in the order of the log: tenant, key and number.
fn finished(recorded: &[ensue_core::Recorded]) -> Vec<(String, String, u32)> {
    let finished = recorded.iter().filter_map(|recorded| recorded.decode::<Finished>().ok());
    let parts = finished.map(|finished| {
        let (key, number) = finished.job.split_once('#').expect("a key and a number");
        (finished.tenant, key.to_owned(), number.parse().expect("a number"))
    });
    parts.collect()
}

/// Every job of each tenant is finished once, those of a key in order.
fn assert_each_once_in_order(finished: &[(String, String, u32)], tenants: &[(&str, u32)]) {
    let mut numbers: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
    for (tenant, key, number) in finished {
        numbers.entry((tenant.clone(), key.clone())).or_default().push(*number);
    }
    let mut expected: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
    for (tenant, count) in tenants {
        for number in 0..*count {
            let key = format!("{tenant}-{}", number % 5);
            expected.entry(((*tenant).to_owned(), key)).or_default().push(number);
        }
    }
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn one_event_waits_for_one_turn_of_a_tenant_with_a_hundred_thousand() {
    let api = Api::default();
    let mut shop = api.harness(|app| app.react("work", slow_work.lanes(1).batch(16).fair_by("tenant")));
    store(shop.store(), "acme", 0..100_000).await;
    store(shop.store(), "small", 0..1).await;
    shop.advance(Duration::from_secs(1)).await;
    let done = api.done();
    let before = done.iter().position(|who| who == "small").expect("it is not held up");
    assert!(before <= 16, "one batch of one tenant went before: {before}");
    assert!(done.len() >= 90, "and the flood goes on: {}", done.len());
    let in_hand = shop.running().await.queues().into_iter().next().expect("one handler");
    assert!(in_hand.deliveries <= in_hand.deliveries_max, "{in_hand:?}");
    // Later ones neither, in the midst of the flood.
    store(shop.store(), "small", 1..2).await;
    let done = api.done().len();
    shop.advance(Duration::from_secs(1)).await;
    let later = api.done().split_off(done);
    assert!(later.iter().take(32).any(|who| who == "small"), "{later:?}");
}

#[tokio::test]
async fn of_many_tenants_each_gets_a_turn_before_any_gets_two() {
    let api = Api::default();
    let mut shop = api.harness(|app| app.react("work", work.lanes(1).batch(8).fair_by("tenant")));
    let tenants = ["acme", "", "small", "third"];
    for tenant in tenants {
        store(shop.store(), tenant, 0..800).await;
    }
    shop.settle().await;
    let done = api.done();
    assert_eq!(done.len(), 3_200);
    for round in done.get(32..).expect("more than one round").chunks(32) {
        for tenant in tenants {
            assert_eq!(round.iter().filter(|who| *who == tenant).count(), 8, "{round:?}");
        }
    }
}

#[tokio::test]
async fn what_was_skipped_is_read_again_once_and_in_order() {
    let api = Api::default();
    let mut shop = api.harness(|app| app.react("finish", finish.lanes(3).batch(32).fair_by("tenant")));
    store(shop.store(), "acme", 0..6_000).await;
    store(shop.store(), "small", 0..10).await;
    shop.settle().await;
    let finished = finished(&shop.recorded().await);
    assert_each_once_in_order(&finished, &[("acme", 6_000), ("small", 10)]);
    let in_hand = shop.running().await.queues().into_iter().next().expect("one handler");
    assert_eq!(in_hand.deliveries, 0);
    // A restart finds everything settled.
    shop.restart().await;
    shop.settle().await;
    assert_eq!(self::finished(&shop.recorded().await).len(), 6_010);
}

#[tokio::test]
async fn a_crash_at_whatever_commit_neither_loses_nor_repeats_anything() {
    let shop = || {
        let api = Api::default();
        api.harness(|app| app.react("finish", finish.lanes(2).batch(100).fair_by("tenant")))
    };
    let crashes = crash_everywhere(shop, async |shop: &mut Harness| {
        store(shop.store(), "acme", 0..1_600).await;
        store(shop.store(), "small", 0..10).await;
        store(shop.store(), "third", 0..300).await;
        shop.settle().await;
        let finished = finished(&shop.recorded().await);
        assert_each_once_in_order(&finished, &[("acme", 1_600), ("small", 10), ("third", 300)]);
    });
    let crashes = crashes.await;
    assert!(crashes >= 40, "{crashes}");
}

#[tokio::test]
async fn a_lost_reply_neither_loses_nor_repeats_anything() {
    for seed in 0..8 {
        let api = Api::default();
        let mut shop = api
            .harness(|app| app.react("finish", finish.lanes(2).batch(50).fair_by("tenant")))
            .lose_replies(seed)
            .reorder_across_keys(seed);
        store(shop.store(), "acme", 0..1_300).await;
        store(shop.store(), "small", 0..10).await;
        shop.settle().await;
        assert!(shop.replies_lost() > 0);
        let finished = finished(&shop.recorded().await);
        assert_each_once_in_order(&finished, &[("acme", 1_300), ("small", 10)]);
    }
}

#[tokio::test]
async fn lanes_that_change_hands_in_the_midst_of_a_flood_settle_each_event_once_in_order() {
    let mut cluster = Cluster::new(|app: App| {
        app.external::<Job>().react("finish", slow_finish.lanes(4).batch(8).fair_by("tenant"))
    });
    cluster.add().await;
    store(cluster.store(), "acme", 0..4_000).await;
    store(cluster.store(), "small", 0..20).await;
    let going = cluster.add().await;
    cluster.advance(Duration::from_secs(3)).await;
    let so_far = finished(&cluster.recorded().await);
    assert_eq!(so_far.iter().filter(|(tenant, ..)| tenant == "small").count(), 20, "gone ahead");
    assert!(so_far.len() < 2_000, "in the midst of it: {}", so_far.len());
    store(cluster.store(), "small", 20..40).await;
    cluster.kill(going).await;
    store(cluster.store(), "small", 40..60).await;
    cluster.add().await;
    cluster.advance(Duration::from_mins(2)).await;
    cluster.settle().await;
    let finished = finished(&cluster.recorded().await);
    assert_each_once_in_order(&finished, &[("acme", 4_000), ("small", 60)]);
}

#[tokio::test]
async fn more_tenants_than_can_wait_are_all_served() {
    let api = Api::default();
    let mut shop = api.harness(|app| app.react("finish", finish.lanes(1).batch(4).fair_by("tenant")));
    let tenants: Vec<String> = (0..200).map(|number| format!("t{number}")).collect();
    for tenant in &tenants {
        store(shop.store(), tenant, 0..7).await;
    }
    shop.settle().await;
    let expected: Vec<(&str, u32)> = tenants.iter().map(|tenant| (tenant.as_str(), 7)).collect();
    assert_each_once_in_order(&finished(&shop.recorded().await), &expected);
}

#[tokio::test]
async fn a_tenant_over_its_quota_lets_the_others_go_on_in_the_same_lane() {
    let api = Api::default();
    let mut shop = api.harness(|app| {
        app.react("work", work.lanes(1).fair_by("tenant").quota("tenant", Rate::per_second(1)))
    });
    store(shop.store(), "acme", 0..600).await;
    store(shop.store(), "small", 0..1).await;
    shop.advance(Duration::from_millis(1)).await;
    let mut done = api.done();
    done.sort();
    assert_eq!(done, ["acme", "small"]);
    store(shop.store(), "third", 0..1).await;
    shop.advance(Duration::from_millis(1)).await;
    assert_eq!(api.done().last().map(String::as_str), Some("third"), "while acme and small wait");
    shop.settle().await;
    assert_eq!(api.done().len(), 602);
}

#[tokio::test]
async fn what_has_gone_ahead_is_not_repeated_when_lanes_are_fair_no_longer() {
    let is_fair = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&is_fair);
    let api = Api::default();
    let mut shop = api.harness(move |app| {
        let finish = finish.lanes(1).batch(10);
        if asked.load(Ordering::Relaxed) {
            app.react("finish", finish.fair_by("tenant").rate(Rate::per_second(10)))
        } else {
            app.react("finish", finish)
        }
    });
    store(shop.store(), "acme", 0..2_000).await;
    store(shop.store(), "small", 0..10).await;
    shop.advance(Duration::from_secs(5)).await;
    let so_far = finished(&shop.recorded().await);
    assert!(so_far.iter().any(|(tenant, ..)| tenant == "small"), "{so_far:?}");
    assert!(so_far.len() < 100, "in the midst of it: {}", so_far.len());
    is_fair.store(false, Ordering::Relaxed);
    shop.restart().await;
    shop.settle().await;
    let finished = finished(&shop.recorded().await);
    assert_each_once_in_order(&finished, &[("acme", 2_000), ("small", 10)]);
}

#[tokio::test]
async fn another_number_of_lanes_in_the_midst_of_a_flood_repeats_nothing() {
    let lanes = Arc::new(AtomicU32::new(1));
    let asked = Arc::clone(&lanes);
    let api = Api::default();
    let mut shop = api.harness(move |app| {
        let lanes = u16::try_from(asked.load(Ordering::Relaxed)).expect("few");
        let rate = Rate::per_second(if lanes == 1 { 10 } else { 1_000 });
        app.react("finish", finish.lanes(lanes).batch(10).fair_by("tenant").rate(rate))
    });
    store(shop.store(), "acme", 0..2_000).await;
    store(shop.store(), "small", 0..10).await;
    shop.advance(Duration::from_secs(5)).await;
    lanes.store(3, Ordering::Relaxed);
    shop.restart().await;
    shop.settle().await;
    let finished = finished(&shop.recorded().await);
    assert_each_once_in_order(&finished, &[("acme", 2_000), ("small", 10)]);
}

#[tokio::test]
async fn a_flow_that_has_gone_ahead_is_over_though_the_flood_is_not() {
    let api = Api::default();
    let mut shop = api.harness(|app| {
        app.react("finish", finish.lanes(1).batch(10).fair_by("tenant").rate(Rate::per_second(10)))
    });
    store(shop.store(), "acme", 0..2_000).await;
    store(shop.store(), "small", 0..1).await;
    shop.advance(Duration::from_secs(5)).await;
    let (ahead, behind) = (shop.flow_status("small#0").await, shop.flow_status("acme#1999").await);
    assert_eq!(ahead, FlowStatus::Done);
    assert!(!behind.is_over(), "{behind:?}");
}

#[tokio::test]
async fn an_older_event_that_is_parked_after_a_newer_one_still_parks_its_key() {
    let api = Api::default();
    let mut shop = api.harness(|app| app.react("work", work.lanes(1).batch(1).retry(1).fair_by("tenant")));
    api.take_down(true);
    store(shop.store(), "acme", 0..6).await;
    store(shop.store(), "small", 0..1).await;
    shop.settle().await;
    assert_eq!(shop.dead_letters().await.len(), 7, "one of small, and five keys of acme with six events");
    api.take_down(false);
    store(shop.store(), "acme", 6..11).await;
    shop.settle().await;
    assert_eq!((api.done().len(), shop.dead_letters().await.len()), (0, 12), "they wait behind them");
}
