//! What is made of a log that has dropped events: read models, and looks into the past.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use ensue_core::{Code, Error, Position, Store, StoreExt, Timestamp};
use ensue_postgres::{PostgresStore, Session};
use ensue_runtime::projection::{LaneAudit, Load, Page, Projection, Tables, audit, rebuild};
use ensue_runtime::sharing::{Need, Reason, needs};
use ensue_runtime::{App, Meta, Moment, TableProjection, host};

use super::Ticked;
use super::history::{DAY, EVERYTHING, History, imported, ticks, trimmed};
use crate::given::Database;

/// How often a site has ticked. A build of it can be stopped at its first event.
#[derive(Default)]
struct Ticks {
    stop: Option<Mutex<(Sender<()>, Receiver<()>)>>,
}

impl Projection for Ticks {
    const NAME: &'static str = "ticks";
    const VERSION: u32 = 1;
    type Event = Ticked;
    type Document = u64;

    fn key(&self, ticked: &Ticked) -> Option<String> {
        Some(ticked.site.clone())
    }

    fn apply(&self, count: &mut Option<u64>, _: &Ticked, meta: &Meta) {
        *count = Some(count.unwrap_or_default() + 1);
        if let Some(stop) = self.stop.as_ref().filter(|_| meta.position == Position(1)) {
            let (stopped, go_on) = &*stop.lock().expect("nobody has panicked");
            stopped.send(()).expect("the test waits");
            go_on.recv().expect("the test says so");
        }
    }
}

/// 200 ticks of two days ago, which are past their time, and 20 of an hour ago.
async fn given(database: &Database) -> (Arc<PostgresStore>, History) {
    let (store, mut history) = (Arc::new(database.open().await), History::default());
    store.retain(&ticks(), Some(DAY)).await.expect("it is ours");
    imported(&store, history.more_of_sites(300, 48)).await;
    assert_eq!(trimmed(&store, EVERYTHING).await, 0);
    imported(&store, history.more_of_sites(30, 1)).await;
    (store, history)
}

/// How many events it was built from, and how many were gone.
async fn counted(store: &Arc<dyn Store>, projection: Ticks) -> Result<(u64, u64), Error> {
    let rebuilt = rebuild(projection, Arc::clone(store), host::system(), Load::Full).await?;
    Ok((rebuilt.events, rebuilt.dropped))
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_moment_is_found_in_a_log_that_has_dropped_events() {
    let database = Database::new().await;
    let (store, history) = given(&database).await;
    assert_eq!(trimmed(&store, EVERYTHING).await, 200);
    let left = history.without_ticks(300);
    for event in left.iter().step_by(7) {
        let position = Moment::Time(event.recorded_at).position(&*store).await.expect("nothing is missing");
        assert_eq!(position, event.position);
    }
    let before = Moment::Time(Timestamp::UNIX_EPOCH).position(&*store).await.expect("nothing is missing");
    assert_eq!(before, Position::ZERO);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_read_model_whose_events_were_dropped_is_not_said_to_be_wrong() {
    let database = Database::new().await;
    let (store, _) = given(&database).await;
    let log: Arc<dyn Store> = Arc::clone(&store) as _;
    assert_eq!(counted(&log, Ticks::default()).await.expect("it is built"), (220, 0));
    let looked = async || audit::<Ticks>(Arc::clone(&log), Timestamp::now()).await.expect("it is live");
    let before = looked().await;
    assert!(before.is_clean() && before.lanes.iter().all(|lane| lane.dropped == 0), "{before:?}");
    assert_eq!(trimmed(&store, EVERYTHING).await, 200);
    let after = looked().await;
    assert!(after.is_clean(), "{:?}", after.findings());
    let counts = |count: fn(&LaneAudit) -> u64| after.lanes.iter().map(count).sum::<u64>();
    assert_eq!((counts(|lane| lane.taken), counts(|lane| lane.logged)), (220, 20));
    assert!(after.lanes.iter().all(|lane| lane.dropped == 200), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_read_model_that_is_being_built_needs_the_log_and_has_no_hole_if_it_does_not_get_it() {
    let database = Database::new().await;
    let (store, _) = given(&database).await;
    let log: Arc<dyn Store> = Arc::clone(&store) as _;
    assert_eq!(counted(&log, Ticks::default()).await.expect("it is built"), (220, 0));
    let (stopped, has_stopped) = channel();
    let (go_on, goes_on) = channel();
    let building = tokio::spawn({
        let (log, stop) = (Arc::clone(&log), Some(Mutex::new((stopped, goes_on))));
        async move { counted(&log, Ticks { stop }).await }
    });
    tokio::task::spawn_blocking(move || has_stopped.recv()).await.expect("it waits").expect("it builds");
    let need = Need { subscription: "view.ticks".into(), after: Position::ZERO, reason: Reason::Build };
    assert_eq!(needs(&*store).await.expect("readable").first(), Some(&need));
    assert_eq!(trimmed(&store, EVERYTHING).await, 200, "told that nobody needs them");
    go_on.send(()).expect("it waits");
    let refused = building.await.expect("it ends").expect_err("it has a hole");
    assert!(refused.code() == Code::BUSY && refused.is_retryable(), "{refused}");
    let audit = audit::<Ticks>(Arc::clone(&log), Timestamp::now()).await.expect("the old one is live");
    assert!(audit.is_clean() && audit.documents_found == 2, "{audit:?}");
    assert!(needs(&*store).await.expect("readable").iter().all(|need| need.reason != Reason::Build));
    assert_eq!(counted(&log, Ticks::default()).await.expect("what is left is read whole"), (20, 200));
}

/// How often a site has ticked, in a table. When it is told to, it has the log trimmed while it is filled.
struct Sites {
    log: Arc<PostgresStore>,
    trims: Arc<AtomicBool>,
}

impl TableProjection for Sites {
    const NAME: &'static str = "sites";
    type Event = Ticked;
    type Session = Session;

    fn tables(&self) -> Tables {
        Tables::new()
            .table("sites", "CREATE TABLE {sites} (site text PRIMARY KEY, ticks bigint NOT NULL DEFAULT 1)")
    }

    async fn apply(&self, page: Page<Ticked>, session: &Session) -> Result<(), Error> {
        if self.trims.swap(false, Ordering::SeqCst) {
            assert_eq!(trimmed(&self.log, EVERYTHING).await, 200);
        }
        let write = page.sql("INSERT INTO {sites} AS s (site) VALUES ($1) ON CONFLICT (site) DO UPDATE SET ticks = s.ticks + 1");
        let failed = |cause| Session::refused("cannot count a tick", cause);
        for (ticked, _) in &page.events {
            session.client()?.execute(&write, &[&ticked.site]).await.map_err(failed)?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn tables_that_are_built_while_events_are_dropped_do_not_replace_those_that_are_whole() {
    let database = Database::new().await;
    let (log, _) = given(&database).await;
    let trims = Arc::new(AtomicBool::new(false));
    let sites = Sites { log: Arc::clone(&log), trims: Arc::clone(&trims) };
    let app = App::new("meter").store(Arc::clone(&log) as Arc<dyn Store>).external::<Ticked>();
    let running = app.project_tables(sites).start().await.expect("it holds together");
    running.wait(log.head().await.expect("readable")).await.expect("it goes on");
    let client = database.session().await;
    let ticks = async || {
        let sum =
            client.query_one("SELECT sum(ticks)::bigint FROM sites", &[]).await.expect("there is a table");
        sum.get::<_, i64>(0)
    };
    assert_eq!(ticks().await, 220);
    trims.store(true, Ordering::SeqCst);
    let refused = running.projections().rebuild("sites", Load::Full).await.expect_err("they have a hole");
    assert!(refused.code() == Code::BUSY && !trims.load(Ordering::SeqCst), "{refused}");
    assert_eq!(ticks().await, 220, "the old table is in its place");
    running.projections().rebuild("sites", Load::Full).await.expect("what is left is read whole");
    assert_eq!(ticks().await, 20);
}
