//! What is known of a link while it runs: written by the link, read by whoever asks how it stands.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ensue_core::bus::Seek;
use ensue_core::{Channel, Clock, Code, Error, Revision, Timestamp};
use smol_str::SmolStr;
use tokio::sync::{oneshot, watch};

use super::request::Outbound;
use super::status::{Direction, LinkState, LinkStatus, Trouble};
use super::target::Target;
use super::{log_id::LogId, pause_after};
use crate::progress::lock;

/// The links of one application, and who its log is.
#[derive(Default)]
pub(crate) struct Gauges {
    all: Mutex<Vec<Arc<Gauge>>>,
    /// What the relays among them publish to.
    targets: Mutex<Vec<Arc<Target>>>,
    pub(super) log: OnceLock<LogId>,
    /// Moves whenever one of them stands otherwise than before.
    changes: Arc<watch::Sender<u64>>,
}

/// Tells that a link stands otherwise than before.
pub struct LinkChanges(watch::Receiver<u64>);

impl LinkChanges {
    /// Resolves when there was a change since the last call, or since this was asked for. Never, once the application has ended.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Gauges {
    pub(crate) fn all(&self) -> Vec<Arc<Gauge>> {
        lock(&self.all).clone()
    }

    pub(crate) fn changes(&self) -> LinkChanges {
        LinkChanges(self.changes.subscribe())
    }

    pub(super) fn enter(&self, gauge: Gauge) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge { changes: Arc::clone(&self.changes), ..gauge });
        lock(&self.all).push(Arc::clone(&gauge));
        gauge
    }

    pub(crate) fn targets(&self) -> Vec<Arc<Target>> {
        lock(&self.targets).clone()
    }

    pub(super) fn aim(&self, target: Target) -> Arc<Target> {
        let target = Arc::new(target);
        lock(&self.targets).push(Arc::clone(&target));
        target
    }

    /// Whether messages are in hand that are not yet in the log.
    pub(crate) fn is_busy(&self) -> bool {
        lock(&self.all).iter().any(|gauge| lock(&gauge.inner).in_hand > 0)
    }
}

/// What a process has heard of what operators want.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) revision: Revision,
    pub(super) paused: bool,
}

/// A place to go on from, and who wants to know how that went.
pub(super) type SeekRequest = (Seek, oneshot::Sender<Result<(), Error>>);

/// How one link stands.
pub(crate) struct Gauge {
    pub(crate) name: SmolStr,
    pub(crate) link: SmolStr,
    pub(crate) direction: Direction,
    pub(crate) backend: &'static str,
    pub(crate) channel: Channel,
    pub(crate) can_seek: bool,
    pub(crate) window: Option<Duration>,
    /// What a relay takes.
    pub(crate) takes: Option<Outbound>,
    pub(super) paused: watch::Sender<bool>,
    /// At most one at a time; whoever asks meanwhile takes its place.
    pub(super) seek: Mutex<Option<SeekRequest>>,
    pub(super) asked: tokio::sync::Notify,
    /// What was last heard of what operators want.
    pub(super) heard: Mutex<Heard>,
    changes: Arc<watch::Sender<u64>>,
    inner: Mutex<Inner>,
}

struct Inner {
    state: LinkState,
    since: Timestamp,
    trouble: Option<Trouble>,
    /// In a row.
    failures: u32,
    group: Option<SmolStr>,
    lag: Option<u64>,
    in_hand: usize,
    counts: Counts,
}

/// What has passed since the start.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) duplicates: u64,
    pub(super) looped: u64,
    pub(super) unreadable: u64,
}

impl Gauge {
    pub(super) fn new(
        (name, link): (SmolStr, SmolStr),
        direction: Direction,
        capabilities: &ensue_core::BusCapabilities,
        channel: Channel,
        now: Timestamp,
    ) -> Self {
        let inner = Inner {
            state: LinkState::Starting,
            since: now,
            trouble: None,
            failures: 0,
            group: None,
            lag: None,
            in_hand: 0,
            counts: Counts::default(),
        };
        Self {
            name,
            link,
            direction,
            backend: capabilities.name,
            channel,
            can_seek: capabilities.can_seek,
            window: None,
            takes: None,
            paused: watch::Sender::new(false),
            seek: Mutex::default(),
            asked: tokio::sync::Notify::new(),
            heard: Mutex::default(),
            changes: Arc::default(),
            inner: Mutex::new(inner),
        }
    }

    pub(super) fn window(self, window: Duration) -> Self {
        Self { window: Some(window), ..self }
    }

    pub(super) fn takes(self, takes: Outbound) -> Self {
        Self { takes: Some(takes), ..self }
    }

    pub(super) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    pub(super) fn is_in(&self, state: LinkState, now: Timestamp) {
        let mut inner = lock(&self.inner);
        if inner.state != state {
            (inner.state, inner.since) = (state, now);
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// The broker answers.
    pub(super) fn works(&self, now: Timestamp) {
        lock(&self.inner).failures = 0;
        self.is_in(LinkState::Up, now);
    }

    /// It does not, or refuses everything. Says how long to wait.
    pub(super) fn fails(&self, error: &Error, clock: &dyn Clock) -> Duration {
        let now = clock.now();
        self.is_in(LinkState::Waiting, now);
        self.troubled(error, now);
        let mut inner = lock(&self.inner);
        inner.failures = inner.failures.saturating_add(1);
        pause_after(inner.failures)
    }

    /// Something was refused, and the link goes on.
    pub(super) fn troubled(&self, error: &Error, now: Timestamp) {
        let trouble = Trouble::new(error, now);
        let before = lock(&self.inner).trouble.replace(trouble.clone());
        if before.is_none_or(|before| before.code != trouble.code) {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    pub(super) fn joined(&self, group: &str) {
        lock(&self.inner).group = Some(group.into());
    }

    pub(super) fn lags(&self, lag: Option<u64>) {
        lock(&self.inner).lag = lag;
    }

    pub(super) fn holds(&self, messages: usize) {
        lock(&self.inner).in_hand = messages;
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut lock(&self.inner).counts);
    }

    /// Pauses it, or lets it go on.
    pub(crate) fn pause(&self, pause: Pause, now: Timestamp) {
        let is_news = self.paused.send_replace(pause == Pause::Pause) != (pause == Pause::Pause);
        // An intake says so itself, when nothing is on its way any more.
        if is_news && self.direction == Direction::Relay {
            let state = if pause == Pause::Pause { LinkState::Paused } else { LinkState::Starting };
            self.is_in(state, now);
        }
    }

    /// Asks that the group go on from elsewhere.
    pub(crate) async fn seek(&self, to: Seek) -> Result<(), Error> {
        if self.direction == Direction::Relay || !self.can_seek {
            let message =
                format!("{} cannot go on from elsewhere: {} keeps no place to seek", self.name, self.backend);
            return Err(Error::new(Code::UNSUPPORTED, message)
                .with_fix("move the group with the broker's own tools; what comes again is dropped"));
        }
        let (answer, answered) = oneshot::channel();
        *lock(&self.seek) = Some((to, answer));
        self.asked.notify_one();
        let gone =
            || Error::new(Code::CLOSED, "the link has ended, or was asked for another place meanwhile");
        answered.await.map_err(|_| gone())?
    }

    /// All but what only the store knows.
    pub(crate) fn status(&self, now: Timestamp) -> LinkStatus {
        let inner = lock(&self.inner);
        LinkStatus {
            name: self.name.clone(),
            link: self.link.clone(),
            direction: self.direction,
            backend: self.backend.into(),
            channel: self.channel.clone(),
            group: inner.group.clone(),
            state: inner.state,
            since: inner.since,
            as_of: now,
            trouble: inner.trouble.clone(),
            passed: inner.counts.passed,
            duplicates: inner.counts.duplicates,
            looped: inner.counts.looped,
            unreadable: inner.counts.unreadable,
            lag: inner.lag,
            head_since: None,
            parked: 0,
            paused_because: None,
            window_seconds: self.window.map(|window| window.as_secs()),
        }
    }
}

/// What is asked of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pause {
    Pause,
    Resume,
}
