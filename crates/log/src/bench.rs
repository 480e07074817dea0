//! Load on a store, measured from outside: how many commits per second, and how long each took.
//!
//! Works on any [`Store`]; the caller brings the executor by running the clients' futures.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ensue_core::{
    Append, Clock, Commit, ContentType, Envelope, Error, EventType, Expected, Host, Key, Source, Store,
    StreamName, Topic, Version,
};

/// What load to put on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Commits under way at once.
    pub clients: usize,
    /// For how long.
    pub duration: Duration,
    /// Bytes of data in an event.
    pub event_bytes: usize,
    /// Events in a commit.
    pub batch: usize,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figures {
    /// Commits that were acknowledged.
    pub commits: u64,
    /// How long it really took.
    pub elapsed: Duration,
    /// Acknowledged commits per second.
    pub commits_per_s: f64,
    /// Events in them per second.
    pub events_per_s: f64,
    /// Half of the commits took at most so long, in microseconds.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1,000.
    pub p999_us: f64,
    /// All of them.
    pub max_us: f64,
}

/// One run: hand each of [`Appending::clients`] to an executor, wait for all, then ask for the figures.
pub struct Appending {
    load: Load,
    host: Host,
    started: Duration,
    latencies: Mutex<Vec<u32>>,
}

impl Appending {
    /// Begins now.
    pub fn new(load: Load, host: Host) -> Arc<Self> {
        let started = host.clock.monotonic();
        Arc::new(Self { load, host, started, latencies: Mutex::default() })
    }

    /// What each client does: append to a stream of its own with the version it expects, one commit after the other.
    pub fn clients<S: Store + 'static>(
        self: &Arc<Self>,
        store: &Arc<S>,
    ) -> Vec<impl Future<Output = Result<(), Error>> + Send + use<S>> {
        (0..self.load.clients)
            .map(|client| {
                let (run, store) = (Arc::clone(self), Arc::clone(store));
                async move { run.client(&*store, client).await }
            })
            .collect()
    }

    async fn client<S: Store>(&self, store: &S, client: usize) -> Result<(), Error> {
        let name = format!("{}-{client}", self.host.event_id());
        let stream = StreamName { topic: Topic::new("Bench")?, key: Key::new(name)? };
        let template = self.template()?;
        let clock: &dyn Clock = &*self.host.clock;
        let mut latencies = Vec::with_capacity(1 << 16);
        let mut version = Version::ZERO;
        loop {
            let start = clock.monotonic();
            if start.saturating_sub(self.started) >= self.load.duration {
                break;
            }
            let events =
                (0..self.load.batch).map(|_| Envelope { id: self.host.event_id(), ..template.clone() });
            let append = Append {
                stream: stream.clone(),
                expected: Expected::Exact(version),
                events: events.collect(),
            };
            let committed = store.commit(Commit { appends: vec![append], ..Commit::default() }).await?;
            version = committed.appended.last().map_or(version, |appended| appended.last_version);
            let latency = clock.monotonic().saturating_sub(start).as_nanos() / 100;
            latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
        }
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).append(&mut latencies);
        Ok(())
    }

    fn template(&self) -> Result<Envelope, Error> {
        let text = format!("{{\"text\":\"{}\"}}", "x".repeat(self.load.event_bytes.saturating_sub(11)));
        Ok(Envelope {
            id: self.host.event_id(),
            source: Source::new("bench")?,
            event_type: EventType::new("Measured")?,
            schema_version: 1,
            time: self.host.clock.now(),
            correlation: None,
            causation: None,
            trace: None,
            tags: Vec::new(),
            extensions: Vec::new(),
            content_type: ContentType::json(),
            data: text.into(),
        })
    }

    /// The figures, once every client is done.
    #[expect(clippy::cast_precision_loss, reason = "figures are for reading")]
    pub fn figures(&self) -> Figures {
        let elapsed = self.host.clock.monotonic().saturating_sub(self.started);
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        latencies.sort_unstable();
        let commits = latencies.len() as u64;
        let at = |per_mille: usize| {
            let index = (latencies.len() * per_mille / 1_000).min(latencies.len().saturating_sub(1));
            f64::from(latencies.get(index).copied().unwrap_or_default()) / 10.0
        };
        let commits_per_s = commits as f64 / elapsed.as_secs_f64();
        Figures {
            commits,
            elapsed,
            commits_per_s,
            events_per_s: commits_per_s * self.load.batch as f64,
            p50_us: at(500),
            p99_us: at(990),
            p999_us: at(999),
            max_us: at(1_000),
        }
    }
}
