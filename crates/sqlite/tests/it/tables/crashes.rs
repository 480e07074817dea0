//! The process dies at a commit: before it is taken, or after it was and before anybody heard of it. Each commit in turn.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ensue_core::{
    BoxFuture, BoxStream, Code, Commit, CommitError, Committed, Error, Position, Read, RecordPage,
    RecordScan, Recorded, Store, StoreCapabilities, Transaction,
};
use ensue_runtime::projection::Load;
use ensue_runtime::{App, TableProjectionExt};
use ensue_sqlite::SqliteStore;
use tokio::sync::watch;

use super::words::{Doubled, Totals, expected, place, rows, start, tables_in};
use crate::given::Folder;

/// On which side of the commit it dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Before,
    After,
}

/// A store of a process that dies at one of its commits.
#[derive(Clone)]
pub(super) struct Mortal {
    inner: SqliteStore,
    capabilities: StoreCapabilities,
    life: Arc<Life>,
}

/// How long the process lives; shared by all of its stores.
pub(super) struct Life {
    left: AtomicU64,
    side: Side,
    dead: watch::Sender<bool>,
}

impl Life {
    /// Dies at this commit, counted from 1.
    pub(super) fn until(commit: u64, side: Side) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(commit), side, dead: watch::Sender::new(false) })
    }

    pub(super) fn endless() -> Arc<Self> {
        Self::until(u64::MAX, Side::Before)
    }

    pub(super) fn is_over(&self) -> bool {
        *self.dead.borrow()
    }

    pub(super) async fn over(&self) {
        self.dead.subscribe().wait_for(|dead| *dead).await.expect("the sender is here");
    }

    /// What becomes of the next commit.
    fn step(&self) -> Step {
        if self.is_over() {
            return Step::Dead;
        }
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left.unwrap_or_default() {
            0 => Step::Dead,
            1 => Step::Last,
            _ => Step::Alive,
        }
    }

    async fn commit<F>(&self, commit: F) -> Result<Committed, CommitError>
    where
        F: Future<Output = Result<Committed, CommitError>>,
    {
        match self.step() {
            Step::Alive => return commit.await,
            Step::Last => {
                if self.side == Side::After {
                    // Whatever the answer is, nobody hears it.
                    drop(commit.await);
                }
                self.dead.send_replace(true);
            }
            Step::Dead => {}
        }
        Err(dead().into())
    }
}

enum Step {
    Alive,
    /// The process dies at this one.
    Last,
    Dead,
}

fn dead() -> Error {
    Error::new(Code::CLOSED, "the process has died")
}

impl Mortal {
    pub(super) async fn open(folder: &Folder, life: &Arc<Life>) -> Self {
        let inner = folder.open().await;
        // Alone, so that nobody waits for the lease of the dead.
        let capabilities = StoreCapabilities { can_share: false, ..inner.capabilities().clone() };
        Self { inner, capabilities, life: Arc::clone(life) }
    }
}

struct Open(Box<dyn Transaction>, Arc<Life>);

impl Transaction for Open {
    fn session(&self) -> Box<dyn Any + Send + Sync> {
        self.0.session()
    }

    fn commit(self: Box<Self>, commit: Commit) -> BoxFuture<'static, Result<Committed, CommitError>> {
        Box::pin(async move {
            let Self(open, life) = *self;
            life.commit(open.commit(commit)).await
        })
    }
}

impl Store for Mortal {
    fn capabilities(&self) -> &StoreCapabilities {
        &self.capabilities
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.life.commit(self.inner.commit(commit)))
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        self.inner.read(read)
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        self.inner.scan(scan)
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        self.inner.advanced(after)
    }

    fn dropped(&self, after: Position, until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        self.inner.dropped(after, until)
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, Error>> {
        Box::pin(async {
            if self.life.is_over() {
                return Err(dead());
            }
            let open = self.inner.begin().await?;
            Ok(Box::new(Open(open, Arc::clone(&self.life))) as Box<dyn Transaction>)
        })
    }
}

/// Where the tables are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Where {
    WithTheLog,
    Elsewhere,
}

/// The folders of the log and of the tables.
struct Files {
    log: Folder,
    tables: Option<Folder>,
}

impl Files {
    fn new(place: Where) -> Self {
        Self { log: Folder::new(), tables: (place == Where::Elsewhere).then(Folder::new) }
    }

    fn of_tables(&self) -> &Folder {
        self.tables.as_ref().unwrap_or(&self.log)
    }

    /// One life of the process with the first version of the read model, or with the second one.
    async fn live(&self, version: u32, life: &Arc<Life>) -> Option<ensue_runtime::Running> {
        let store = Mortal::open(&self.log, life).await;
        let target = match &self.tables {
            Some(folder) => Some(Mortal::open(folder, life).await),
            None => None,
        };
        let app = App::new("shop").store(store).external::<super::words::Placed>().without_flow_index();
        let app = match (version, target) {
            (1, None) => app.project_tables(Totals::default().page(3)),
            (1, Some(target)) => app.project_tables(Totals::default().page(3).on(target)),
            (_, None) => app.project_tables(Doubled.page(3).build_load(Load::Full)),
            (_, Some(target)) => app.project_tables(Doubled.page(3).build_load(Load::Full).on(target)),
        };
        match app.start().await {
            Ok(running) => Some(running),
            Err(error) => {
                assert!(life.is_over(), "{error:?}");
                None
            }
        }
    }

    /// Lives until everything is in the tables, or until its end.
    async fn live_out(&self, version: u32, life: &Arc<Life>) {
        let Some(running) = self.live(version, life).await else { return };
        let head = ensue_core::StoreExt::head(&**running.store()).await.expect("it can be read");
        tokio::select! {
            biased;
            () = life.over() => {}
            shown = running.wait(head) => {
                if !life.is_over() {
                    shown.expect("it has not stopped");
                }
            }
        }
    }
}

const ORDERS: i64 = 8;

async fn dies_at_every_commit(place_of: Where, side: Side) {
    let mut deaths = 0;
    for commit in 1.. {
        let files = Files::new(place_of);
        let log = Mortal::open(&files.log, &Life::endless()).await;
        place(&start(log, |app| app).await, 1..=ORDERS).await;
        let life = Life::until(commit, side);
        files.live_out(1, &life).await;
        if !life.is_over() {
            break;
        }
        deaths += 1;
        files.live_out(1, &Life::endless()).await;
        let file = files.of_tables().file();
        assert_eq!(
            rows(&file),
            expected(1, 1..=ORDERS),
            "died {side:?} commit {commit}, tables {place_of:?}"
        );
    }
    // At least the tables, the checkpoint and three pages.
    assert!(deaths >= 5, "{deaths} deaths");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_commit_the_process_dies_at_each_event_is_in_the_tables_once() {
    for side in [Side::Before, Side::After] {
        dies_at_every_commit(Where::WithTheLog, side).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_with_tables_in_another_database() {
    for side in [Side::Before, Side::After] {
        dies_at_every_commit(Where::Elsewhere, side).await;
    }
}

async fn dies_at_every_commit_of_a_build(place_of: Where, side: Side) {
    let (mut deaths, mut old, mut new) = (0, 0, 0);
    for commit in 1.. {
        let files = Files::new(place_of);
        let file = files.of_tables().file();
        let log = Mortal::open(&files.log, &Life::endless()).await;
        place(&start(log, |app| app).await, 1..=ORDERS).await;
        files.live_out(1, &Life::endless()).await;
        let life = Life::until(commit, side);
        files.live_out(2, &life).await;
        if !life.is_over() {
            break;
        }
        deaths += 1;
        let left = rows(&file);
        assert_eq!(left, expected(left.version, 1..=ORDERS), "died {side:?} commit {commit}, {place_of:?}");
        *if left.version == 1 { &mut old } else { &mut new } += 1;
        files.live_out(2, &Life::endless()).await;
        assert_eq!(rows(&file), expected(2, 1..=ORDERS), "died {side:?} commit {commit}, {place_of:?}");
        cleared(&files, &file).await;
    }
    // A site, its tables, three pages and the switch; where that is not taken, nobody has seen the new ones.
    let has_switched = side == Side::After || place_of == Where::Elsewhere;
    assert!(deaths >= 6 && old >= 5, "{deaths} deaths, {old} of them before the switch");
    assert_eq!(new > 0, has_switched, "{new} deaths after the switch, {side:?}, {place_of:?}");
}

/// What interrupted builds leave is dropped at the latest by the next rebuild.
async fn cleared(files: &Files, file: &std::path::Path) {
    let running = files.live(2, &Life::endless()).await.expect("it starts");
    running.projections().rebuild("totals", Load::Full).await.expect("it is built");
    assert_eq!(tables_in(file), ["orders", "totals"]);
    assert_eq!(rows(file), expected(2, 1..=ORDERS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_commit_a_build_dies_at_readers_have_the_whole_old_tables_or_the_whole_new_ones() {
    for side in [Side::Before, Side::After] {
        dies_at_every_commit_of_a_build(Where::WithTheLog, side).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_build_with_tables_in_another_database() {
    for side in [Side::Before, Side::After] {
        dies_at_every_commit_of_a_build(Where::Elsewhere, side).await;
    }
}
