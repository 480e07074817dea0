//! Sixteen writers with slow commits and roll-backs, four tailing readers, and a session that is left idle in its transaction: no
//! gap, no skip, no reorder, and nobody waits for the idle one.
//!
//! `ENSUE_SOAK_SECONDS` says for how long; fifteen where nothing is said. Memory does not grow with the time: readers keep the
//! last version of each key, and a digest of all ids.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ensue_core::{CommitError, Expected, Position, Read, Store, StoreExt, Version};
use ensue_postgres::PostgresStore;
use futures_util::TryStreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::given::{Database, append};

const SQL_WRITERS: u64 = 12;
const PORT_WRITERS: u64 = 4;
/// The application name of the session that is left open.
const IDLE: &str = "left-open";
/// What others commit and everybody reads while it is.
const READ_MEANWHILE: u64 = 150;

/// What the writers know to be in the log.
#[derive(Clone, Copy, Default, Debug)]
struct Written {
    events: u64,
    rolled_back: u64,
    refused: u64,
    /// The sum of the digests of all ids: it does not depend on their order.
    digest: u64,
}

impl Written {
    fn take(&mut self, id: &str) {
        self.events += 1;
        self.digest = self.digest.wrapping_add(digest(id));
    }

    fn and(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            rolled_back: self.rolled_back + other.rolled_back,
            refused: self.refused + other.refused,
            digest: self.digest.wrapping_add(other.digest),
        }
    }
}

/// What a reader has seen.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Seen {
    last: Position,
    versions: BTreeMap<String, u64>,
    digest: u64,
    /// Of the ids in their order.
    order: u64,
}

impl Seen {
    /// Asserts that this is the next event, of the log and of its key.
    #[track_caller]
    fn take(&mut self, position: u64, key: &str, version: u64, id: &str) {
        assert_eq!(position, self.last.0 + 1, "a gap, a skip or a repetition at {id}");
        self.last = Position(position);
        let before = self.versions.entry(key.to_owned()).or_default();
        assert_eq!(version, *before + 1, "{key} out of order at {position}");
        *before = version;
        self.digest = self.digest.wrapping_add(digest(id));
        self.order = digest(&format!("{} {id}", self.order));
    }
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Numbers below `bound`, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn sql(key: &str, id: &str) -> String {
    format!("SELECT ensue.append('Test', '{key}', 'Happened', '{{}}', NULL, '{{\"id\": \"{id}\"}}')")
}

/// Appends to a stream of its own and to one of eight that all share, in transactions that stay open for up to 30 ms between
/// the two; one in four is rolled back.
async fn write_sql(client: Client, writer: u64, until: Instant) -> Written {
    let (mut dice, mut written) = (Dice(writer), Written::default());
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        let (own, shared) = (format!("own{writer}"), format!("shared{}", dice.below(8)));
        let ids = [&own, &shared].map(|key| format!("{key}-{writer}-{number}"));
        let pause = format!("SELECT pg_sleep({} / 1000.0)", dice.below(30));
        let is_rolled_back = dice.below(4) == 0;
        let end = if is_rolled_back { "ROLLBACK" } else { "COMMIT" };
        for step in [
            "BEGIN".to_owned(),
            sql(&own, &ids[0]),
            pause.clone(),
            sql(&shared, &ids[1]),
            pause,
            end.to_owned(),
        ] {
            client.batch_execute(&step).await.expect("valid SQL");
        }
        if is_rolled_back {
            written.rolled_back += 2;
        } else {
            ids.iter().for_each(|id| written.take(id));
        }
    }
    written
}

/// Commits through the port; one in five expects a version that is not there.
async fn write_port(store: Arc<PostgresStore>, writer: u64, until: Instant) -> Written {
    let (mut dice, mut written) = (Dice(writer), Written::default());
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        let key =
            if dice.below(2) == 0 { format!("own{writer}") } else { format!("shared{}", dice.below(8)) };
        let id = format!("{key}-{writer}-{number}");
        let is_refused = dice.below(5) == 0;
        let expected = if is_refused { Expected::Exact(Version(u64::MAX >> 2)) } else { Expected::Any };
        match store.commit(append(&key, expected, &[&id])).await {
            Ok(_) => written.take(&id),
            Err(CommitError::Other(error)) => panic!("{error}"),
            Err(_) => {
                assert!(is_refused, "{id} was refused");
                written.refused += 1;
            }
        }
    }
    written
}

/// Tails through the port until the log ends at the position that `end` comes to say.
async fn read_port(
    store: Arc<PostgresStore>,
    progress: watch::Sender<Position>,
    mut end: watch::Receiver<Option<Position>>,
) -> Seen {
    let mut seen = Seen::default();
    loop {
        let mut events = store.read(Read::all().after(seen.last));
        while let Some(event) = events.try_next().await.expect("readable") {
            seen.take(
                event.position.0,
                event.stream.key.as_str(),
                event.version.0,
                event.envelope.id.as_str(),
            );
        }
        drop(events);
        progress.send_replace(seen.last);
        if end.borrow_and_update().is_some_and(|end| end <= seen.last) {
            return seen;
        }
        tokio::select! {
            head = store.advanced(seen.last) => drop(head.expect("readable")),
            changed = end.changed() => changed.expect("the end comes"),
        }
    }
}

/// Tails with SQL, as any language does.
async fn read_sql(client: Client, end: watch::Receiver<Option<Position>>) -> Seen {
    let mut seen = Seen::default();
    let page = "SELECT position, key, version, metadata->>'id' FROM ensue.read($1, 500)";
    loop {
        let after = i64::try_from(seen.last.0).expect("a position");
        let rows = client.query(page, &[&after]).await.expect("valid SQL");
        for row in &rows {
            let [position, version] = [row.get::<_, i64>(0), row.get(2)].map(i64::cast_unsigned);
            seen.take(position, row.get(1), version, row.get(3));
        }
        if end.borrow().is_some_and(|end| end <= seen.last) {
            return seen;
        }
        if rows.is_empty() {
            client.batch_execute("SELECT pg_sleep(0.01)").await.expect("valid SQL");
        }
    }
}

/// Leaves a transaction open that has appended, until others have committed and read a good deal; again and again. Returns what
/// it wrote, and how often it was left open.
async fn leave_open(
    client: Client,
    store: Arc<PostgresStore>,
    mut progress: watch::Receiver<Position>,
    until: Instant,
) -> (Written, u64) {
    let mut written = Written::default();
    client.batch_execute(&format!("SET application_name = '{IDLE}'")).await.expect("valid SQL");
    for number in 0.. {
        if Instant::now() >= until {
            return (written, number);
        }
        let id = format!("idle-{number}");
        client.batch_execute(&format!("BEGIN; {}", sql("idle", &id))).await.expect("valid SQL");
        let begun = *progress.borrow_and_update();
        let read =
            progress.wait_for(|position| position.0 >= begun.0 + READ_MEANWHILE || Instant::now() >= until);
        let read = *read.await.expect("the reader reads");
        let holds = store.holds().await.expect("readable");
        let hold = holds.iter().find(|hold| hold.application == IDLE);
        let hold = hold.unwrap_or_else(|| panic!("it is not named: {holds:?}"));
        assert_eq!(hold.state, "idle in transaction");
        if number % 3 == 2 {
            client.batch_execute("ROLLBACK").await.expect("it was open");
            written.rolled_back += 1;
            continue;
        }
        client.batch_execute("COMMIT").await.expect("it was open");
        written.take(&id);
        let key = "SELECT count(*) FROM ensue.events WHERE key = 'idle' AND position <= $1 AND metadata->>'id' = $2";
        let head = i64::try_from(read.0).expect("a position");
        let early: i64 = client.query_one(key, &[&head, &id]).await.expect("valid SQL").get(0);
        assert_eq!(early, 0, "what everybody had read before it committed stays as it was");
    }
    unreachable!("the numbers do not end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn slow_commits_roll_backs_and_an_idle_session_leave_no_gap_no_skip_and_no_reorder() {
    let seconds = std::env::var("ENSUE_SOAK_SECONDS").ok();
    let seconds = seconds.map_or(15, |text| text.parse().expect("ENSUE_SOAK_SECONDS is a number"));
    let database = Database::new().await;
    let stores = [Arc::new(database.open().await), Arc::new(database.open().await)];
    let until = Instant::now() + Duration::from_secs(seconds);
    let (end, ended) = watch::channel(None);
    let (progress, progressed) = watch::channel(Position::ZERO);
    let mut readers = JoinSet::new();
    for store in &stores {
        readers.spawn(read_port(Arc::clone(store), progress.clone(), ended.clone()));
        readers.spawn(read_sql(database.session().await, ended.clone()));
    }
    let mut writers = JoinSet::new();
    for writer in 0..SQL_WRITERS {
        writers.spawn(write_sql(database.session().await, writer, until));
    }
    for (writer, store) in (SQL_WRITERS..SQL_WRITERS + PORT_WRITERS).zip(stores.iter().cycle()) {
        writers.spawn(write_port(Arc::clone(store), writer, until));
    }
    let idle = leave_open(database.session().await, Arc::clone(&stores[0]), progressed, until);
    let (of_idle, left_open) = idle.await;
    let written = writers.join_all().await.into_iter().fold(of_idle, Written::and);

    let head = stores[1].head().await.expect("readable");
    assert_eq!(head.0, written.events, "what was committed is there, and nothing else");
    end.send_replace(Some(head));
    let seen = readers.join_all().await;
    eprintln!(
        "{seconds} s: {written:?}; a session was left open {left_open} times; {} keys",
        seen[0].versions.len()
    );
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "all readers saw the same in the same order");
    assert_eq!((seen[0].last, seen[0].digest), (head, written.digest));
    assert!(written.rolled_back > 0 && written.refused > 0 && left_open > 1, "misfortune happened");
}
