//! What the tests begin with: a host that is the same in every run, envelopes, commits, small stores.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ensue_core::{
    Append, BoxFuture, Clock, Commit, ContentType, Entropy, Envelope, EventId, EventType, Expected, Host,
    Source, StreamName, Tag, Timestamp,
};
use ensue_log::{Config, Log};

/// Moves a microsecond with every look, or as told.
pub(crate) struct Steps(pub(crate) AtomicU64);

impl Clock for Steps {
    fn now(&self) -> Timestamp {
        let micros = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_microsecond(1_700_000_000_000_000 + i64::try_from(micros).expect("a short test"))
            .expect("a time in range")
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn sleep(&self, _duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Counted(AtomicU64);

impl Entropy for Counted {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.fetch_add(1, Ordering::Relaxed).to_le_bytes()[0];
        }
    }
}

pub(crate) fn host() -> Host {
    Host { clock: Arc::new(Steps(AtomicU64::new(0))), entropy: Arc::new(Counted(AtomicU64::new(1))) }
}

/// Small files and a small window, so that tests cross their borders.
pub(crate) fn config() -> Config {
    Config {
        window_bytes: 64 << 10,
        journal_file_bytes: 1 << 20,
        cache_bytes: 1 << 20,
        memory_commits: 64,
        ..Config::new(host())
    }
}

pub(crate) fn open(folder: &Path) -> Log {
    Log::open(folder, config()).expect("a folder of its own")
}

pub(crate) fn stream(name: &str) -> StreamName {
    name.parse().expect("a stream name")
}

pub(crate) fn event(id: &str, event_type: &str) -> Envelope {
    Envelope {
        id: EventId::new(id).expect("a plain id"),
        source: Source::new("test").expect("a plain source"),
        event_type: EventType::new(event_type).expect("a plain type"),
        schema_version: 1,
        time: Timestamp::from_microsecond(1_600_000_000_123_456).expect("a time in range"),
        correlation: None,
        causation: None,
        trace: None,
        tags: vec![Tag::new("n", id).expect("a plain tag")],
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: format!("{{\"id\":\"{id}\"}}").into(),
    }
}

pub(crate) fn append(name: &str, expected: Expected, ids: &[&str]) -> Append {
    let events = ids.iter().map(|id| event(id, "Happened")).collect();
    Append { stream: stream(name), expected, events }
}

pub(crate) fn commit(name: &str, expected: Expected, ids: &[&str]) -> Commit {
    Commit { appends: vec![append(name, expected, ids)], ..Commit::default() }
}

pub(crate) use futures_lite::future::block_on;
