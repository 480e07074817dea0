//! The lanes of a running subscription that this process has: taken, handed events, let go of.
//!
//! Invariant: a lane is handed each of its events once and in order. `handed` says how far, for each lane by itself, so
//! that the log can be read again from further back when a lane comes that is behind the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Error, Position, Recorded, Revision, StoreExt};
use smol_str::SmolStr;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::{Checkpoints, Mark, PAGE, Subscription, lane_key};
use crate::lane::{Ahead, Fair, Lane, Work};
use crate::sharing::{MemberId, View};
use crate::spaces::{self, REDRIVE};

/// Pages that may wait in front of a lane; then reading waits, so memory stays bounded.
const QUEUED_PAGES: usize = 8;
/// Most events that a lane has in hand: those it works on, which may have grown by a page, and those that wait in front of it.
pub(crate) fn in_hand_max(batch: usize) -> usize {
    QUEUED_PAGES * PAGE + batch + PAGE
}

/// A lane without events is moved on when it is so far behind, so that little is read again at the next start.
const STRIDE: u64 = 8_192;
/// Or when the log has been quiet for so long, so that it can be seen that nobody needs its events any more.
const QUIET: Duration = Duration::from_mins(1);

/// The lanes of a subscription, as far as this process has them.
pub(super) struct Lanes {
    subscription: Arc<Subscription>,
    held: Vec<Option<Held>>,
    tasks: JoinSet<u16>,
    /// Under which name they were taken.
    me: MemberId,
    /// Everything up to here has been handed to the lanes that we have.
    cursor: Position,
    /// Where all lanes meet before there is another number of them.
    meeting_point: Option<Position>,
    /// When to look again for lanes that should be ours, by the monotonic clock.
    look_at: Option<Duration>,
    /// For which lanes we wait, since when, while their owner is at work.
    patience: HashMap<u16, (u64, Duration)>,
    /// Requests of operators that were handed to their lanes.
    asked: HashMap<SmolStr, Revision>,
}

/// A lane that this process has.
struct Held {
    /// Gone when the lane has been told to leave.
    queue: Option<mpsc::Sender<Work>>,
    handed: Position,
    leave: watch::Sender<bool>,
    /// Where it takes turns: what it is handed goes there.
    fair: Option<Arc<Fair>>,
    task: AbortHandle,
}

/// Whether the lanes are what they were.
#[derive(PartialEq, Eq)]
pub(super) enum Adjusted {
    InPlace,
    /// Another process has made another number of lanes.
    Outdated,
}

impl Lanes {
    pub(super) fn new(subscription: Arc<Subscription>, count: u16) -> Self {
        subscription.standing.begin(usize::from(count));
        Self {
            subscription,
            held: (0..count).map(|_| None).collect(),
            tasks: JoinSet::new(),
            me: MemberId::NOBODY,
            cursor: Position::ZERO,
            meeting_point: None,
            look_at: None,
            patience: HashMap::new(),
            asked: HashMap::new(),
        }
    }

    fn count(&self) -> u16 {
        u16::try_from(self.held.len()).unwrap_or(u16::MAX)
    }

    fn now(&self) -> Duration {
        self.subscription.shared.press.host.clock.monotonic()
    }

    /// Everything up to here has been handed out.
    pub(super) fn cursor(&self) -> Position {
        self.cursor
    }

    pub(super) fn has_any(&self) -> bool {
        self.held.iter().flatten().any(|held| held.queue.is_some())
    }

    /// Whether all lanes are ours and have been handed everything up to the point at which they meet.
    pub(super) fn have_met(&self) -> Option<Position> {
        self.meeting_point.filter(|at| *at <= self.cursor)
    }

    /// No reading beyond this.
    pub(super) fn bound(&self, head: Position) -> Position {
        self.meeting_point.map_or(head, |at| at.min(head))
    }

    /// How long until somebody should look for lanes again; `None` if none is missing.
    pub(super) fn look_again_in(&self) -> Option<Duration> {
        self.look_at.map(|at| at.saturating_sub(self.now()))
    }

    /// Lets go of lanes that others should have, and takes those that should be ours.
    pub(super) async fn adjust(&mut self, view: &View) -> Result<Adjusted, Error> {
        if !view.holds_lease || view.me != self.me {
            // Others may be at our work: whatever is in hand is dropped. Nothing of it can be settled any more.
            self.abort().await;
            self.me = view.me;
        }
        self.look_at = None;
        if !view.holds_lease {
            return Ok(Adjusted::InPlace);
        }
        let share = view.share(&self.subscription.name, self.count());
        self.leave_all_but(&share);
        let is_missing = |lane: &u16| self.held.get(usize::from(*lane)).is_some_and(Option::is_none);
        let missing: Vec<u16> = share.into_iter().filter(is_missing).collect();
        let is_change_due = self.is_change_due(view);
        if missing.is_empty() && !is_change_due {
            return Ok(Adjusted::InPlace);
        }
        let store = &*self.subscription.shared.store;
        let checkpoints = Checkpoints::load(store, &self.subscription.name).await?;
        if checkpoints.lane_count() != self.count() {
            return Ok(Adjusted::Outdated);
        }
        let free = self.free_of(&checkpoints, &missing, view).await?;
        self.take(&checkpoints, &free, view).await?;
        if self.held.iter().all(|held| held.as_ref().is_some_and(|held| held.queue.is_some())) {
            let all = self.held.iter().flatten().map(|held| held.handed);
            self.meeting_point = if is_change_due { all.max() } else { None };
        } else if is_change_due || missing.iter().any(is_missing_now(&self.held)) {
            self.look_at = Some(self.now().saturating_add(self.subscription.shared.sharing.look));
        }
        Ok(Adjusted::InPlace)
    }

    fn is_change_due(&self, view: &View) -> bool {
        let (name, count) = (&self.subscription.name, self.count());
        if view.is_alone {
            self.subscription.settings.lanes != count
        } else {
            view.is_change_due(name, count)
        }
    }

    /// Those of the missing lanes that can be taken now: nobody has them, or whoever had them is gone. Who is at work gets
    /// the time of one delivery to let go.
    async fn free_of(
        &mut self,
        checkpoints: &Checkpoints,
        missing: &[u16],
        view: &View,
    ) -> Result<Vec<u16>, Error> {
        if view.is_alone {
            return Ok(missing.to_vec());
        }
        let owned = |lane: &u16| (*lane, checkpoints.lane(*lane).0);
        let mut members = None;
        let mut free = Vec::new();
        for (lane, mark) in missing.iter().map(owned) {
            let is_ours = mark.owner == self.me || mark.owner == MemberId::NOBODY;
            if !is_ours && !view.knows(mark.owner) && members.is_none() {
                // Whoever has joined since we last looked is in no view yet.
                members = Some(crate::sharing::members(&*self.subscription.shared.store).await?);
            }
            let is_known =
                view.knows(mark.owner) || members.iter().flatten().any(|member| member.id == mark.owner);
            if is_ours || !is_known || self.is_patience_over(lane, mark) {
                free.push(lane);
            }
        }
        Ok(free)
    }

    /// Whether we have waited long enough for a member to let go of this lane.
    fn is_patience_over(&mut self, lane: u16, mark: Mark) -> bool {
        let now = self.now();
        let waits = self.patience.entry(lane).or_insert((mark.epoch, now));
        if waits.0 != mark.epoch {
            *waits = (mark.epoch, now);
        }
        let enough = self.subscription.settings.timeout + self.subscription.shared.sharing.lease;
        now.saturating_sub(waits.1) >= enough
    }

    /// Makes these lanes ours. Where processes share the store it is written down first; otherwise the first settlement
    /// does it along.
    async fn take(&mut self, checkpoints: &Checkpoints, lanes: &[u16], view: &View) -> Result<(), Error> {
        if lanes.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.subscription.shared);
        let (store, now) = (&*shared.store, shared.press.host.clock.now());
        let taken = if view.is_alone {
            crate::dead::clear_halts_of(store, &self.subscription.name, lanes).await?;
            let marks = lanes.iter().map(|lane| (*lane, checkpoints.lane(*lane)));
            marks.map(|(lane, (mark, revision))| (lane, mark.taken_by(self.me, now), revision)).collect()
        } else {
            checkpoints.take(store, lanes, self.me, now).await?
        };
        if taken.is_empty() {
            return Ok(());
        }
        // Only now: until this moment the old owner could park more.
        let parked = crate::dead::parked_keys(store, &self.subscription.name).await?;
        let mut ahead = Ahead::load(store, &self.subscription.name).await?;
        let had_any = self.has_any();
        for (lane, mark, revision) in taken {
            let is_mine = |(key, _): &(&SmolStr, &usize)| spaces::spread(key, self.count()) == lane;
            let mine = parked.iter().filter(is_mine).map(|(key, count)| (key.clone(), *count)).collect();
            let ahead = ahead.remove(&lane_key(&self.subscription.name, lane));
            self.start(lane, (mark, revision), mine, ahead.filter(|ahead| ahead.is_of(mark.position)));
        }
        let behind = self.held.iter().flatten().map(|held| held.handed).min().unwrap_or_default();
        self.cursor = if had_any { self.cursor.min(behind) } else { behind };
        self.subscription.standing.advance_cursor(self.cursor);
        self.ask_all().await
    }

    fn start(
        &mut self,
        lane: u16,
        (mark, revision): (Mark, Revision),
        parked: HashMap<SmolStr, usize>,
        ahead: Option<Ahead>,
    ) {
        let (queue, work) = mpsc::channel(QUEUED_PAGES);
        let (leave, leaving) = watch::channel(false);
        let standing = &self.subscription.standing;
        standing.hold(usize::from(lane), mark.position);
        let fair = self.fair(mark.position, ahead).map(Arc::new);
        let (handed, waiting) = fair.as_ref().map_or((mark.position, 0), |fair| fair.front());
        if waiting > 0 {
            standing.sent(usize::from(lane), mark.position.next(), handed, waiting);
        }
        let (subscription, place) = (Arc::clone(&self.subscription), (lane, self.count()));
        let running = Lane::new(subscription, place, (mark, revision), parked, leaving, fair.clone());
        let task = self.tasks.spawn(running.run(work));
        self.patience.remove(&lane);
        if let Some(place) = self.held.get_mut(usize::from(lane)) {
            *place = Some(Held { queue: Some(queue), handed, leave, fair, task });
        }
    }

    /// How a lane takes turns, if it does. One that has gone ahead for some values goes on so until its next start, whatever
    /// the settings say now.
    fn fair(&self, checkpoint: Position, ahead: Option<Ahead>) -> Option<Fair> {
        match (ahead, self.subscription.settings.fair_by) {
            (Some(ahead), _) => Some(Fair::resume(&ahead)),
            (None, tag) => tag.map(|tag| Fair::new(tag, checkpoint)),
        }
    }

    /// Has the lanes that are not in our share end after the delivery in hand, and set themselves free.
    fn leave_all_but(&mut self, share: &[u16]) {
        for (lane, held) in (0..).zip(&mut self.held) {
            let Some(held) = held.as_mut().filter(|_| !share.contains(&lane)) else { continue };
            held.queue = None;
            held.leave.send_replace(true);
        }
    }

    /// Resolves when a lane has ended that may be taken now, by others or by us. One that has stopped has not ended.
    pub(super) async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(lane)) => self.forget(lane),
            // What was meant to be impossible ends one lane, which is taken anew.
            Some(Err(broken)) => self.forget_task(broken.id()),
            None => return std::future::pending().await,
        }
        self.subscription.standing.looks_again();
    }

    fn forget_task(&mut self, task: tokio::task::Id) {
        let is_it = |held: &Option<Held>| held.as_ref().is_some_and(|held| held.task.id() == task);
        let lane = (0..).zip(&self.held).find(|(_, held)| is_it(held));
        if let Some((lane, _)) = lane {
            self.forget(lane);
        }
    }

    fn forget(&mut self, lane: u16) {
        if let Some(held) = self.held.get_mut(usize::from(lane)) {
            *held = None;
        }
        // What it was asked for and has not come to is for whoever takes the lane next.
        let count = self.count();
        self.asked.retain(|key, _| spaces::spread(key, count) != lane);
        self.subscription.standing.drop_lane(usize::from(lane));
    }

    fn lane_of(&self, key: &str) -> u16 {
        spaces::spread(key, self.count())
    }

    /// Hands every request that is in the store to its lane, if the lane is here and does not have it yet.
    pub(super) async fn ask_all(&mut self) -> Result<(), Error> {
        let store = Arc::clone(&self.subscription.shared.store);
        let requested = crate::dead::requested(&*store, &self.subscription.name).await?;
        self.asked.retain(|key, _| requested.iter().any(|(known, _)| known == key));
        for (key, revision) in requested {
            self.ask(key, revision).await;
        }
        Ok(())
    }

    /// Hands the request for this key to its lane.
    pub(super) async fn ask_for(&mut self, key: SmolStr) -> Result<(), Error> {
        let store = &self.subscription.shared.store;
        let place = spaces::join(&[&self.subscription.name, &key]);
        if let Some(record) = store.record(REDRIVE.clone(), place).await? {
            self.ask(key, record.revision).await;
        }
        Ok(())
    }

    async fn ask(&mut self, key: SmolStr, revision: Revision) {
        let lane = self.lane_of(&key);
        if self.subscription.standing.is_full(usize::from(lane)) {
            return self.take_again(lane);
        }
        let queue = self.held.get(usize::from(lane)).and_then(|held| held.as_ref()?.queue.as_ref());
        let Some(queue) = queue.filter(|_| self.asked.get(&key) != Some(&revision)) else { return };
        // A lane that has stopped takes nothing; the request stays in the store for the next start.
        let Some(place) = self.subscription.place_in(queue).await else { return };
        self.subscription.standing.requested(usize::from(lane));
        place.send(Work::Redrive(key.clone()));
        self.asked.insert(key, revision);
    }

    /// Has a lane end that has stopped, so that it is taken again and comes to its requests before it comes to events.
    fn take_again(&mut self, lane: u16) {
        if let Some(held) = self.held.get_mut(usize::from(lane)).and_then(Option::as_mut) {
            held.queue = None;
            held.leave.send_replace(true);
            self.subscription.standing.resume_lane(usize::from(lane));
        }
    }

    /// Hands a page to the lanes that we have. May be cancelled: what was handed over is not handed over again.
    pub(super) async fn deliver(&mut self, page: Vec<Recorded>) {
        let end = page.last().map(|last| last.position).unwrap_or_default();
        let mut shares: Vec<Vec<Recorded>> = self.held.iter().map(|_| Vec::new()).collect();
        for recorded in page {
            let lane = usize::from(self.lane_of(self.subscription.handler.key(&recorded)));
            let is_new = |held: &Held| held.queue.is_some() && recorded.position > held.handed;
            if self.held.get(lane).is_some_and(|held| held.as_ref().is_some_and(is_new))
                && let Some(share) = shares.get_mut(lane)
            {
                share.push(recorded);
            }
        }
        let standing = &self.subscription.standing;
        for (lane, (share, held)) in shares.into_iter().zip(&mut self.held).enumerate() {
            let (Some(first), Some(last), Some(held)) = (share.first(), share.last(), held) else { continue };
            let (first, last) = (first.position, last.position);
            let Some(queue) = &held.queue else { continue };
            if let Some(fair) = held.fair.as_ref().filter(|_| !queue.is_closed()) {
                for recorded in share {
                    let position = recorded.position;
                    self.subscription.take_in(fair, recorded, lane, queue).await;
                    held.handed = position;
                }
                // A queue that is full says as much.
                let _told = queue.try_send(Work::Turns).is_ok();
                continue;
            }
            // A lane that has stopped takes nothing more; its checkpoint stays where it is.
            let place = self.subscription.place_in(queue).await;
            standing.sent(lane, first, last, share.len());
            held.handed = last;
            if let Some(place) = place {
                place.send(Work::Events(share));
            }
        }
        self.handed_up_to(end);
    }

    /// Everything of every lane up to here has been handed out.
    fn handed_up_to(&mut self, end: Position) {
        self.held.iter_mut().flatten().for_each(|held| held.handed = held.handed.max(end));
    }

    /// Everything up to here has been read.
    pub(super) fn advance(&mut self, to: Position) {
        self.handed_up_to(to);
        self.cursor = to;
        self.subscription.standing.advance_cursor(to);
        self.move_on(STRIDE);
    }

    /// How long the log has to be quiet until lanes without events are moved on; `None` where none is behind.
    pub(super) fn move_on_in(&self) -> Option<Duration> {
        let is_behind = !self.subscription.standing.lagging(1).is_empty();
        is_behind.then_some(QUIET)
    }

    /// Moves lanes on that have nothing to do and are so far behind what has been read.
    pub(super) fn move_on(&self, behind: u64) {
        let to = self.cursor;
        for lane in self.subscription.standing.lagging(behind) {
            let queue = self.held.get(lane).and_then(|held| held.as_ref()?.queue.as_ref());
            // A lane whose queue is full has other things to do.
            if let Some(place) = queue.and_then(|queue| queue.try_reserve().ok()) {
                self.subscription.standing.requested(lane);
                place.send(Work::Advance(to));
            }
        }
    }

    /// Waits for the lanes to finish what they were handed; when the application closes they end after the delivery in hand,
    /// and the rest is delivered again where the lane goes on.
    pub(super) async fn close(mut self) {
        self.held.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Drops whatever is in hand: it is delivered again from the checkpoints, which nobody may move meanwhile.
    pub(super) async fn abort(&mut self) {
        self.held.iter().flatten().for_each(|held| held.task.abort());
        while self.tasks.join_next().await.is_some() {}
        for lane in 0..self.count() {
            self.forget(lane);
        }
    }
}

fn is_missing_now(held: &[Option<Held>]) -> impl Fn(&u16) -> bool {
    |lane| held.get(usize::from(*lane)).is_some_and(Option::is_none)
}
