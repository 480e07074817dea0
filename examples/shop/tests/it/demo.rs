//! The demonstration, as the command line runs it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ensue::{Code, Error, Store};
use ensue_shop::Style;
use ensue_shop::demo::{self, DemoConfig, Report, Setting, Styles};
use ensue_test::MemoryStore;

use crate::folder::Folder;

/// Stores in memory that outlive a demonstration, by folder.
#[derive(Default)]
struct Stores(Mutex<HashMap<PathBuf, Arc<dyn Store>>>);

impl Stores {
    fn open(&self, folder: &Path) -> Arc<dyn Store> {
        let new = || Arc::new(MemoryStore::new(ensue::runtime::host::system())) as Arc<dyn Store>;
        let mut stores = self.0.lock().expect("no test panics with it");
        Arc::clone(stores.entry(folder.to_owned()).or_insert_with(new))
    }

    async fn run(&self, config: &DemoConfig) -> Result<Vec<Report>, Error> {
        demo::run(config, async |folder: &Path| Ok(self.open(folder)), |_| {}).await
    }
}

fn config(folder: &Folder, orders: u64, styles: Styles) -> DemoConfig {
    let folder = folder.path().to_owned();
    DemoConfig { orders, styles, broken: 0, seed: 7, folder, database: None, resume: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_styles_come_to_the_same_figures() {
    let folder = Folder::new("demo-both");
    let reports = Stores::default().run(&config(&folder, 200, Styles::Both)).await.expect("it runs");
    let [one, other] = reports.as_slice() else { panic!("two styles, but {}", reports.len()) };
    assert_eq!((one.style, other.style), (Style::Choreography, Style::Saga));
    for report in &reports {
        assert_eq!(report.findings, Vec::<String>::new(), "{}", report.style);
        assert_eq!((report.orders, report.outcomes.ended()), (200, 200), "{}", report.style);
        assert_eq!(report.samples.len(), 2, "{}", report.style);
        assert_eq!(report.effects.repeats, 0, "{}", report.style);
        let longest = report.samples.iter().flat_map(|sample| &sample.lines).map(|line| line.micros).max();
        assert!(report.latency_us.max >= longest.unwrap_or_default(), "{}: {longest:?}", report.style);
        assert!(report.latency_us.p50 <= report.latency_us.p99, "{:?}", report.latency_us);
    }
    assert_eq!(one.outcomes, other.outcomes);
    assert_eq!((one.money, one.stock, one.effects), (other.money, other.stock, other.effects));
    let outcomes = one.outcomes;
    let all =
        [outcomes.completed, outcomes.payment_failed, outcomes.inventory_failed, outcomes.shipping_failed];
    assert!(all.iter().all(|count| *count > 0), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_has_the_documented_shape() {
    let folder = Folder::new("demo-shape");
    let reports = Stores::default().run(&config(&folder, 40, Styles::Choreography)).await.expect("it runs");
    let report = reports.first().expect("one style");
    let document = serde_json::to_value(report).expect("plain data");
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    let expected = "broken effects elapsed_s events latency_us money orders orders_per_s outcomes stock";
    assert_eq!(keys(&document).join(" "), expected);
    for (part, members) in [
        ("outcomes", "completed inventory_failed payment_failed shipping_failed"),
        ("money", "charged kept refunded"),
        ("stock", "initial left released reserved"),
        ("latency_us", "max p50 p99"),
        ("effects", "calls repeats"),
    ] {
        assert_eq!(keys(document.get(part).expect(part)).join(" "), members, "{part}");
    }
    let setting = Setting {
        folder: Path::new("./ensue-data"),
        database: None,
        is_default: true,
        durability: "in memory",
    };
    let text = demo::render(report, setting);
    for part in ["└ PaymentCompleted", "40 orders", "adds up", "ensue flow show ORD-"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("NOT ADD UP"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_not_used_twice_by_accident_and_resuming_a_finished_one_adds_nothing() {
    let folder = Folder::new("demo-twice");
    let stores = Stores::default();
    let fresh = config(&folder, 30, Styles::Saga);
    let first = stores.run(&fresh).await.expect("it runs").pop().expect("one style");
    let refused = stores.run(&fresh).await.expect_err("the folder is taken");
    assert_eq!(refused.code(), Code::USAGE);
    assert!(refused.fix().contains("--resume"), "{}", refused.fix());
    // What the command line says now does not matter: the folder knows.
    let resumed = DemoConfig { resume: true, orders: 5, seed: 1, styles: Styles::Choreography, ..fresh };
    let again = stores.run(&resumed).await.expect("it resumes").pop().expect("one style");
    assert_eq!((again.style, again.orders, again.outcomes), (Style::Saga, 30, first.outcomes));
    assert_eq!((again.events, again.money, again.effects), (first.events, first.money, first.effects));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demonstration_that_is_killed_again_and_again_ends_as_if_it_never_had_been() {
    for (styles, broken) in [(Styles::Choreography, 0), (Styles::Saga, 0), (Styles::Choreography, 8)] {
        let folder = Folder::new(&format!("demo-killed-{styles}-{broken}"));
        let stores = Stores::default();
        let mut config = DemoConfig { broken, ..config(&folder, 300, styles) };
        for kill_at in [20, 90, 200] {
            kill(&stores, &config, kill_at).await;
            config.resume = true;
        }
        let report = stores.run(&config).await.expect("it resumes").pop().expect("one style");
        assert_eq!(report.findings, Vec::<String>::new(), "{styles}");
        assert_eq!((report.orders, report.outcomes.ended()), (300, 300 - broken), "{styles}");
        assert_eq!(report.broken.len() as u64, broken, "{styles}");
        let undisturbed = Folder::new(&format!("demo-undisturbed-{styles}-{broken}"));
        let calm = DemoConfig { folder: undisturbed.path().to_owned(), resume: false, ..config };
        let calm = Stores::default().run(&calm).await.expect("it runs").pop().expect("one style");
        assert_eq!(
            (report.outcomes, report.money, report.stock, report.broken),
            (calm.outcomes, calm.money, calm.stock, calm.broken),
            "{styles}"
        );
    }
}

/// Drops the demonstration in the middle, with everything it has in hand.
async fn kill(stores: &Stores, config: &DemoConfig, at: u64) {
    let reached = tokio::sync::Notify::new();
    let run = demo::run(
        config,
        async |folder: &Path| Ok(stores.open(folder)),
        |progress| {
            if progress.ended >= at {
                reached.notify_one();
            }
        },
    );
    tokio::select! {
        biased;
        () = reached.notified() => {}
        ended = run => panic!("it ended before it was killed: {ended:?}"),
    }
}
