//! A lane: deliveries of some keys, strictly in order, each settled by the commit that also moves the checkpoint.
//!
//! Invariant: every settlement expects the revision of the checkpoint's record, so a lane that another process took
//! over cannot settle anything.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{Code, CommitError, Error, Failure, Kind, Position, Recorded, Revision, StoreExt};
use futures_util::FutureExt;
use smol_str::SmolStr;
use tokio::sync::{mpsc, watch};

use crate::dead::{self, Parked};
use crate::effects::Effects;
use crate::policy::OnFailure;
use crate::spaces::{self, CHECKPOINT};
use crate::subscription::{Handled, Mark, Subscription, lane_key, mark_of, move_lane};
use crate::tally::Tally;

mod deferral;
mod fair;
mod hand_over;
mod redrive;
mod turns;

pub(crate) use fair::{Ahead, Fair};

/// Pause before a commit is repeated that the store could not take.
pub(crate) const STORE_PAUSE: Duration = Duration::from_millis(100);

/// What a lane is asked to do.
pub(crate) enum Work {
    /// Handle these, in order.
    Events(Vec<Recorded>),
    /// Try the dead letters of this key again, in order.
    Redrive(SmolStr),
    /// Nothing of this lane is left up to here: store that.
    Advance(Position),
    /// Something was taken in, in a lane that takes turns.
    Turns,
}

/// Why a lane ends before its time.
enum Halt {
    /// It was told to end: the application closes, or another process should have the lane.
    Closing,
    /// Another process has the lane.
    Lost,
    /// It cannot go on.
    Broken(Error),
}

/// What became of a settlement.
enum Settlement {
    Done,
    /// The state it was computed from is out of date; work it out again.
    OutOfDate,
    /// The store will never take it.
    Refused(Error),
}

pub(crate) struct Lane {
    subscription: Arc<Subscription>,
    number: u16,
    checkpoint: Bytes,
    revision: Revision,
    mark: Mark,
    /// Keys that are parked, with how many events each.
    parked: HashMap<SmolStr, usize>,
    /// The newest event that was counted there.
    admitted: Position,
    /// Turns true, or ends, when another process should have the lane.
    leaving: watch::Receiver<bool>,
    /// How many lanes there are.
    lanes: u16,
    /// Where it takes turns between the values of a tag.
    fair: Option<Arc<Fair>>,
}

impl Lane {
    /// A lane of so many that stands at a mark, which is ours, and whose record has this revision.
    pub(crate) fn new(
        subscription: Arc<Subscription>,
        (number, lanes): (u16, u16),
        (mark, revision): (Mark, Revision),
        parked: HashMap<SmolStr, usize>,
        leaving: watch::Receiver<bool>,
        fair: Option<Arc<Fair>>,
    ) -> Self {
        let (checkpoint, admitted) = (lane_key(&subscription.name, number), Position::ZERO);
        Self { subscription, number, checkpoint, revision, mark, parked, admitted, leaving, lanes, fair }
    }

    /// Works until it is told to end, loses the lane or cannot go on. Says which lane it was.
    pub(crate) async fn run(mut self, work: mpsc::Receiver<Work>) -> u16 {
        let worked = match self.fair.clone() {
            Some(fair) => self.take_turns(&fair, work).await,
            None => self.work_off_queue(work).await,
        };
        match worked {
            Ok(()) | Err(Halt::Closing) => self.release().await,
            Err(Halt::Lost) => {}
            Err(Halt::Broken(error)) => {
                self.halt(error).await;
                self.release().await;
            }
        }
        self.number
    }

    async fn work_off_queue(&mut self, mut work: mpsc::Receiver<Work>) -> Result<(), Halt> {
        let mut queue = VecDeque::new();
        loop {
            let next = match queue.pop_front() {
                Some(next) => Some(next),
                None => work.recv().await,
            };
            match next {
                None => return Ok(()),
                Some(Work::Events(mut events)) => {
                    // What has queued up meanwhile is settled along: fewer, larger commits under load.
                    while events.len() < self.subscription.settings.batch && queue.is_empty() {
                        match work.try_recv() {
                            Ok(Work::Events(more)) => events.extend(more),
                            Ok(other) => queue.push_back(other),
                            Err(_) => break,
                        }
                    }
                    self.work_through(&events).await?;
                }
                Some(asked) => self.answer(asked).await?,
            }
        }
    }

    /// Stores that nothing is left up to here.
    async fn move_on(&mut self, to: Position) -> Result<(), Halt> {
        loop {
            match self.settle(Effects::default(), to.max(self.mark.position), 1).await? {
                Settlement::Done => return Ok(()),
                // It was computed from no state.
                Settlement::OutOfDate => {}
                Settlement::Refused(error) => return Err(Halt::Broken(error)),
            }
        }
    }

    async fn work_through(&mut self, mut rest: &[Recorded]) -> Result<(), Halt> {
        let mut attempt = 1;
        let mut alone = false;
        // What is counted twice is counted while one settlement is repeated; another turn may be of older events.
        self.admitted = Position::ZERO;
        while let Some(first) = rest.first() {
            if self.is_told_to_end() {
                return Err(Halt::Closing);
            }
            let done = if self.parked.contains_key(self.key(first)) {
                self.queue_behind_parked(first).await?
            } else {
                let run = self.run_length(rest, alone || attempt > 1);
                match self.work(rest.get(..run).unwrap_or(rest), attempt).await {
                    Ok(handled) => handled,
                    // Which of them it was shows one by one.
                    Err(_) if run > 1 => {
                        alone = true;
                        continue;
                    }
                    Err(panic) => Handled { failure: Some(Failure::Failed(panic)), ..Handled::default() },
                }
            };
            let Handled { effects, count: handled, mut failure, wait } = done;
            let joins = effects.transaction.is_some();
            if let Some(last) = handled.checked_sub(1).and_then(|last| rest.get(last)) {
                let effects = self.counted(effects, rest.get(..handled).unwrap_or_default());
                match self.settle(effects, last.position, handled).await? {
                    Settlement::Done => {
                        rest = rest.get(handled..).unwrap_or_default();
                        (attempt, alone) = (1, false);
                    }
                    Settlement::OutOfDate => {
                        // One by one, so that the delivery that is out of date does not hold up the others.
                        alone = true;
                        continue;
                    }
                    Settlement::Refused(_) if handled > 1 => {
                        alone = true;
                        continue;
                    }
                    // A deferred constraint of the handler's own tables may hold the next time.
                    Settlement::Refused(error) if joins => failure = Some(Failure::Failed(error)),
                    Settlement::Refused(error) => failure = Some(Failure::Rejected(error)),
                }
            }
            if let Some(wait) = wait {
                if attempt == 1 && self.gives_way(rest, wait) {
                    return Ok(());
                }
                // Whoever waits for room has not failed: the attempt stays what it is.
                self.pause(wait).await?;
            }
            let (Some(failure), Some(failed)) = (failure, rest.first()) else { continue };
            attempt = self.after_failure(failed, failure, attempt).await?;
            if attempt == 0 {
                rest = rest.get(1..).unwrap_or_default();
                attempt = 1;
            }
        }
        Ok(())
    }

    /// Has the handler work; a panic that it lets out must not take the lane along.
    async fn work(&self, batch: &[Recorded], attempt: u32) -> Result<Handled, Error> {
        let handler = &self.subscription.handler;
        let work = AssertUnwindSafe(async { handler.work(batch, attempt).await }).catch_unwind();
        work.await.map_err(|panic| crate::reaction::panicked(&*panic))
    }

    fn key<'a>(&self, recorded: &'a Recorded) -> &'a str {
        self.subscription.handler.key(recorded)
    }

    /// How many deliveries from the front may be worked on together.
    fn run_length(&self, rest: &[Recorded], alone: bool) -> usize {
        if alone {
            return 1;
        }
        let batch = rest.get(..self.subscription.settings.batch).unwrap_or(rest);
        let mut run = batch.len();
        if !self.parked.is_empty() {
            run =
                batch.iter().position(|recorded| self.parked.contains_key(self.key(recorded))).unwrap_or(run);
        }
        if self.subscription.handler.reads_own_writes() {
            let mut seen = std::collections::HashSet::new();
            run = batch.iter().take(run).position(|recorded| !seen.insert(self.key(recorded))).unwrap_or(run);
        }
        run.max(1)
    }

    /// Waits and says which attempt is next; zero when the delivery was given up.
    async fn after_failure(
        &mut self,
        failed: &Recorded,
        failure: Failure,
        attempt: u32,
    ) -> Result<u32, Halt> {
        let Some((due, next)) = self.again(&failure, attempt) else {
            let error =
                deferral::error_of(&failure).unwrap_or_else(|| Error::new(Code::REJECTED, "given up"));
            self.give_up(failed, &error, attempt).await?;
            return Ok(0);
        };
        let pause = Duration::try_from(due.duration_since(self.now())).unwrap_or_default();
        let is_asked_for = matches!(failure, Failure::Deferred(_));
        if self.may_set_aside() && (is_asked_for || pause > deferral::HELD_MAX) {
            let failed_attempts = next - 1;
            self.set_aside(failed, &failure, failed_attempts, due).await?;
            return Ok(0);
        }
        self.pause(pause).await?;
        Ok(next)
    }

    /// Between half of the pause and all of it, so that lanes that failed together do not return together.
    fn jittered(&self, pause: Duration) -> Duration {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        let host = &self.subscription.shared.press.host;
        Duration::from_micros(micros / 2 + host.below(micros / 2 + 1))
    }

    async fn pause(&self, pause: Duration) -> Result<(), Halt> {
        let shared = &self.subscription.shared;
        self.subscription.standing.pause(usize::from(self.number), true);
        let closed = tokio::select! {
            biased;
            () = self.told_to_end() => true,
            () = shared.press.host.clock.sleep(pause) => false,
        };
        self.subscription.standing.pause(usize::from(self.number), false);
        if closed { Err(Halt::Closing) } else { Ok(()) }
    }

    /// The delivery will not succeed: what the policy says then.
    async fn give_up(&mut self, failed: &Recorded, error: &Error, attempts: u32) -> Result<(), Halt> {
        // It is the read model that cannot go on, whatever the event: that parks and skips nothing.
        if is_of_read_model(error) {
            return Err(Halt::Broken(error.clone()));
        }
        let letter = match self.subscription.settings.on_failure {
            OnFailure::Stop => return Err(Halt::Broken(error.clone())),
            OnFailure::Skip => None,
            OnFailure::Park => {
                self.admit(failed)?;
                let key = self.key(failed);
                Some(Parked::failed(failed, key, error, attempts, &self.subscription.shared))
            }
        };
        loop {
            let mut effects = Effects::default();
            if let Some(letter) = &letter {
                effects.put(letter.write(&self.subscription.name));
                self.hold(letter, &mut effects).await?;
            }
            effects.tally.skipped += u64::from(letter.is_none());
            let effects = self.counted(effects, std::slice::from_ref(failed));
            match self.settle(effects, failed.position, 1).await? {
                Settlement::Done => return Ok(()),
                // Not the checkpoint, which would have ended the lane.
                Settlement::OutOfDate => {}
                Settlement::Refused(error) => return Err(Halt::Broken(error)),
            }
        }
    }

    /// An event of a parked key waits behind those that are parked already.
    async fn queue_behind_parked(&mut self, recorded: &Recorded) -> Result<Handled, Halt> {
        let letter = Parked::waiting(recorded, self.key(recorded), &self.subscription.shared);
        self.admit(recorded)?;
        let mut effects = Effects::default();
        effects.put(letter.write(&self.subscription.name));
        self.hold(&letter, &mut effects).await?;
        Ok(Handled { effects, count: 1, ..Handled::default() })
    }

    /// Counts one more parked event, if there is room. One whose settlement is repeated counts once.
    fn admit(&mut self, recorded: &Recorded) -> Result<(), Halt> {
        if recorded.position <= self.admitted {
            return Ok(());
        }
        let lanes = usize::from(self.subscription.settings.lanes.max(1));
        let bound = (self.subscription.settings.dead_max / lanes).max(1);
        if self.parked.values().sum::<usize>() >= bound {
            return Err(Halt::Broken(Error::new(
                Code::DEAD_FULL,
                format!("lane {} of {} holds {bound} dead letters", self.number, self.subscription.name),
            )));
        }
        *self.parked.entry(self.key(recorded).into()).or_default() += 1;
        self.admitted = recorded.position;
        Ok(())
    }

    /// Adds these events, which are about to be settled, to the tally.
    fn counted(&self, mut effects: Effects, events: &[Recorded]) -> Effects {
        if let Some(tally) = self.subscription.handler.tally(events) {
            effects.tally = effects.tally.and(tally);
        }
        effects
    }

    fn now(&self) -> ensue_core::Timestamp {
        self.subscription.shared.press.host.clock.now()
    }

    /// One commit: everything that was caused, and the checkpoint.
    async fn settle(
        &mut self,
        mut effects: Effects,
        up_to: Position,
        count: usize,
    ) -> Result<Settlement, Halt> {
        let tally = self.tally_with(effects.tally);
        let (position, ahead) = self.low_mark(up_to);
        ahead.into_iter().for_each(|write| effects.put(write));
        let goal = Mark { position, settlements: self.mark.settlements + 1, tally, ..self.mark };
        let settlement = self.commit(effects, goal).await?;
        if matches!(settlement, Settlement::Done) {
            self.mark = goal;
            self.fair.iter().for_each(|fair| fair.settled(up_to));
            self.subscription.standing.settled(usize::from(self.number), position, count);
        }
        Ok(settlement)
    }

    /// The tally of the lane after this; a lane that has none yet counts from where it stands.
    fn tally_with(&self, more: Tally) -> Option<Tally> {
        self.subscription.handler.tally(&[])?;
        let begun = Tally { since: self.mark.position, ..Tally::default() };
        Some(self.mark.tally.unwrap_or(begun).and(more))
    }

    /// Commits until the store has taken or refused it for good.
    async fn commit(&mut self, effects: Effects, goal: Mark) -> Result<Settlement, Halt> {
        let (mut commit, mut transaction, after) = effects.into_commit();
        let joins = transaction.is_some();
        commit.records.push(move_lane(self.checkpoint.clone(), goal, self.revision));
        let mut is_outcome_open = false;
        let settlement = loop {
            let tried = match transaction.take() {
                Some(transaction) => transaction.commit(commit.clone()).await,
                // It is gone, and with it what the handler did in it: unless it took hold, the delivery is worked out anew.
                None if joins && self.took_hold(goal).await? => break Settlement::Done,
                None if joins => return Ok(Settlement::OutOfDate),
                None => self.subscription.shared.store.commit(commit.clone()).await,
            };
            let error = match tried {
                Ok(committed) if !committed.repeated => {
                    self.revision = committed.revision;
                    break Settlement::Done;
                }
                // The events were there: whoever stored them has moved a checkpoint too, ours or another's.
                Ok(_) => break self.recognise(goal).await?,
                Err(error) => error,
            };
            match error {
                CommitError::RecordConflict { ref write, .. }
                    if write.space == *CHECKPOINT && write.key == self.checkpoint =>
                {
                    break self.recognise(goal).await?;
                }
                CommitError::Conflict { .. }
                | CommitError::ConditionFailed { .. }
                | CommitError::RecordConflict { .. } => {
                    self.subscription.shared.inline.forget();
                    // What stands in the way may be what an earlier try has stored.
                    if is_outcome_open && self.took_hold(goal).await? {
                        break Settlement::Done;
                    }
                    return Ok(Settlement::OutOfDate);
                }
                CommitError::Full(ref error) if error.code() == Code::TOO_LARGE => {
                    return Ok(Settlement::Refused(error.clone()));
                }
                CommitError::Poisoned(error) => return Err(Halt::Broken(error)),
                CommitError::Other(error) if error.code() == Code::CLOSED => return Err(Halt::Closing),
                CommitError::Other(error) if !passes(&error) => return Ok(Settlement::Refused(error)),
                _ => {
                    is_outcome_open = true;
                    self.pause(STORE_PAUSE).await?;
                }
            }
        };
        after.into_iter().for_each(|hook| hook());
        Ok(settlement)
    }

    /// The checkpoint is not as expected: either an earlier try took hold without our hearing of it, or another process
    /// has the lane.
    async fn recognise(&mut self, goal: Mark) -> Result<Settlement, Halt> {
        if self.took_hold(goal).await? {
            return Ok(Settlement::Done);
        }
        Err(self.taken_over())
    }

    /// Whether the stored checkpoint is the one we tried to write.
    async fn took_hold(&mut self, goal: Mark) -> Result<bool, Halt> {
        let store = &self.subscription.shared.store;
        let key = &self.checkpoint;
        let record = self.until_read(|| store.record(CHECKPOINT.clone(), key.clone())).await?;
        let Some(record) = record else { return Ok(false) };
        let ours = record.revision > self.revision && mark_of(&record).map_err(Halt::Broken)? == goal;
        if ours {
            self.revision = record.revision;
        }
        Ok(ours)
    }

    /// Reads until the store answers: that it is away for a while stops no lane.
    async fn until_read<T, F>(&self, read: impl Fn() -> F) -> Result<T, Halt>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            match read().await {
                Err(error) if error.is_retryable() => self.pause(STORE_PAUSE).await?,
                answer => return answer.map_err(Halt::Broken),
            }
        }
    }
}

/// Whether it says that a read model is not what the handler takes it for, or that its database takes nothing more.
fn is_of_read_model(error: &Error) -> bool {
    matches!(error.code(), Code::VIEW_NOT_BUILT | Code::TABLES_APART) || error.kind() == Kind::Poisoned
}

/// Whether the store will take the same commit later: it is away, full, or read-only, as while a standby takes over.
pub(crate) fn passes(error: &Error) -> bool {
    error.is_retryable() || error.kind() == Kind::Full || error.code() == Code::DATABASE_READ_ONLY
}
