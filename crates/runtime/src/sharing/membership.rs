//! The part of a process that keeps its own record alive, watches those of the others, and tells the rest what it sees.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ensue_core::{
    Commit, CommitError, Error, Host, Record, RecordScan, RecordWrite, Revision, Store, StoreExt,
};
use smol_str::SmolStr;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::{Member, MemberId, Sharing, View, member_of, records};
use crate::spaces::{self, MEMBER, REDRIVE};

/// What a process needs to take part.
pub(crate) struct Membership {
    store: Arc<dyn Store>,
    host: Host,
    sharing: Sharing,
    me: Member,
    /// Of our own record as we last wrote or saw it; zero before we have joined.
    revision: Revision,
    /// When the heartbeat that was last taken had been sent, by the monotonic clock.
    renewed: Duration,
    /// When the next one is to be sent.
    beat_at: Duration,
    /// What we last saw of each record, and since when.
    seen: HashMap<MemberId, (Revision, Duration)>,
    view: Arc<watch::Sender<View>>,
}

/// The place of a running process among the others. Dropped, it is left without a word, as in a crash.
pub(crate) struct Seat {
    leave: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Seat {
    /// Says goodbye: nothing of ours is in hand any more.
    pub(crate) async fn leave(mut self) {
        // The task ends by itself only if it was told to.
        let _told = self.leave.send(()).is_ok();
        while self.task.join_next().await.is_some() {}
    }
}

impl Membership {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        host: Host,
        sharing: Sharing,
        me: Member,
        view: Arc<watch::Sender<View>>,
    ) -> Self {
        let renewed = host.clock.monotonic();
        Self {
            store,
            host,
            sharing,
            me,
            revision: Revision::ZERO,
            renewed,
            beat_at: renewed,
            seen: HashMap::new(),
            view,
        }
    }

    /// Takes a place among the members, from now on shared, and keeps it until the application has ended. `closing` turns true when it begins
    /// to end.
    pub(crate) async fn join(mut self, closing: watch::Receiver<bool>) -> Result<Seat, Error> {
        self.beat().await?;
        self.look().await?;
        let (leave, left) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(self.run(closing, left));
        Ok(Seat { leave, task })
    }

    async fn run(mut self, mut closing: watch::Receiver<bool>, mut left: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                biased;
                _ = &mut left => break,
                () = self.pause(&mut closing) => {}
            }
            tokio::select! {
                biased;
                _ = &mut left => break,
                () = self.turn() => {}
            }
        }
        self.vanish().await;
    }

    /// Waits until it is time to look again, or the application closes.
    async fn pause(&mut self, closing: &mut watch::Receiver<bool>) {
        let pause = if self.view.borrow().has_others() { self.sharing.look } else { self.sharing.heartbeat };
        tokio::select! {
            biased;
            () = turned_true(closing), if !self.me.is_leaving => {
                // Told to the others at once, so that they ask for our lanes while we let go of them.
                self.me.is_leaving = true;
                self.beat_at = Duration::ZERO;
            }
            () = self.host.clock.sleep(pause) => {}
        }
    }

    /// One heartbeat if it is time, one look around; for no longer than the lease holds.
    async fn turn(&mut self) {
        self.check_lease();
        let left = self.lease_left().max(self.sharing.heartbeat);
        let deadline = self.host.clock.sleep(left);
        // A store that is away for a moment is asked again at the next turn, until the lease is over.
        tokio::select! {
            biased;
            _turned = self.beat_and_look() => {}
            () = deadline => {}
        }
        self.check_lease();
    }

    fn lease_left(&self) -> Duration {
        let end = self.renewed.saturating_add(self.sharing.lease);
        end.saturating_sub(self.host.clock.monotonic())
    }

    /// When the lease is over, others may be at our work: what is in hand is dropped, until the store says how things are.
    fn check_lease(&self) {
        if self.lease_left().is_zero() && self.view.borrow().has_others() {
            self.publish(|view| view.holds_lease = false);
        }
    }

    async fn beat_and_look(&mut self) -> Result<(), Error> {
        if self.host.clock.monotonic() >= self.beat_at {
            self.beat().await?;
            self.look_for_requests().await?;
        }
        self.look().await
    }

    /// Writes our record again. If it is gone, others hold us for dead and may be at our work: we begin anew under another
    /// id.
    async fn beat(&mut self) -> Result<(), Error> {
        let sent = self.host.clock.monotonic();
        let write = RecordWrite::put(MEMBER.clone(), self.me.id.key(), spaces::encode(&self.me));
        let commit = Commit { records: vec![write.expect(self.revision)], ..Commit::default() };
        match self.store.commit(commit).await {
            Ok(committed) => {
                (self.revision, self.renewed) = (committed.revision, sent);
                self.beat_at = sent.saturating_add(self.sharing.heartbeat);
                Ok(())
            }
            Err(CommitError::RecordConflict { .. }) => self.recognise().await,
            Err(error) => Err(error.into()),
        }
    }

    /// Our record is not as we left it: an earlier heartbeat was taken without our hearing of it, or we were removed.
    async fn recognise(&mut self) -> Result<(), Error> {
        match self.store.record(MEMBER.clone(), self.me.id.key()).await? {
            Some(record) => self.revision = record.revision,
            None => {
                self.me.id = MemberId::draw(&self.host);
                self.me.since = self.host.clock.now();
                self.revision = Revision::ZERO;
            }
        }
        Box::pin(self.beat()).await
    }

    /// Looks at the records of all, and removes those whose lease is over.
    async fn look(&mut self) -> Result<(), Error> {
        let now = self.host.clock.monotonic();
        let mut members = Vec::new();
        let mut seen = HashMap::new();
        for record in records(&*self.store).await? {
            let member = member_of(&record)?;
            let earlier = self.seen.get(&member.id).filter(|(revision, _)| *revision == record.revision);
            let (_, since) = earlier.copied().unwrap_or((record.revision, now));
            let is_silent = now.saturating_sub(since) >= self.sharing.lease;
            if is_silent && member.id != self.me.id && self.remove(&record).await? {
                continue;
            }
            seen.insert(member.id, (record.revision, since));
            members.push(member);
        }
        self.seen = seen;
        let me = self.me.id;
        let is_there = members.iter().any(|member| member.id == me);
        self.publish(|view| {
            (view.is_alone, view.me, view.holds_lease) = (false, me, is_there);
            view.members = members;
        });
        Ok(())
    }

    /// Declares a member dead. False: it has given a sign of life at this moment.
    async fn remove(&self, record: &Record) -> Result<bool, Error> {
        let write = RecordWrite::delete(MEMBER.clone(), record.key.clone()).expect(record.revision);
        match self.store.commit(Commit { records: vec![write], ..Commit::default() }).await {
            Ok(_) => Ok(true),
            Err(CommitError::RecordConflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What operators have asked for through the store, in whatever process the lanes are.
    async fn look_for_requests(&mut self) -> Result<(), Error> {
        let mut requests: BTreeMap<SmolStr, Revision> = BTreeMap::new();
        for record in self.store.records(RecordScan::all(REDRIVE.clone())).await? {
            let newest = requests.entry(crate::dead::handler_of(&record.key)).or_default();
            *newest = (*newest).max(record.revision);
        }
        self.publish(|view| view.requests = requests);
        Ok(())
    }

    /// Tells the rest of the process, if there is anything new.
    fn publish(&self, change: impl FnOnce(&mut View)) {
        self.view.send_if_modified(|view| {
            let before = view.clone();
            change(view);
            *view != before
        });
    }

    /// Removes our record: whatever we had is let go of.
    async fn vanish(self) {
        let record = RecordWrite::delete(MEMBER.clone(), self.me.id.key());
        // If the store does not take it, the others find out when the lease is over.
        let _taken = self.store.commit(Commit { records: vec![record], ..Commit::default() }).await.is_ok();
    }
}

async fn turned_true(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is closed as well.
    let _closed = closing.wait_for(|closing| *closing).await.is_ok();
}
