//! The life of an intake: it joins its group, takes in what comes, and joins anew whenever that ends.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Consume, Consumer, Declare, Delivery, Feed, Settled, Topology};
use ensue_core::{Code, Error, SubscriptionName};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::sync::watch;

use super::batch::{Admission, Entry, Taking};
use super::came::Came;
use super::gauge::Gauge;
use super::log_id::LogId;
use super::parked;
use super::read::Reader;
use super::status::LinkState;
use crate::door::Door;
use crate::progress::lock;
use crate::subscription::Shared;

/// How often the broker is asked how much waits.
const LAG_EVERY: Duration = Duration::from_secs(5);
/// When a message comes again that could neither be taken in nor kept nor refused.
const STUCK_PAUSE: Duration = Duration::from_secs(30);

/// An intake that runs.
pub(crate) struct Session {
    pub(super) bus: Arc<dyn Bus>,
    /// `None`: made of the name and who the log is.
    pub(super) group: Option<SubscriptionName>,
    pub(super) fed_by: Option<Feed>,
    pub(super) declare: Declare,
    pub(super) batch: usize,
    pub(super) reader: Reader,
    pub(super) door: Door,
    pub(super) gauge: Arc<Gauge>,
    pub(super) shared: Arc<Shared>,
}

/// Why a session with the broker has ended without an error.
#[derive(PartialEq, Eq)]
enum End {
    Closing,
    Paused,
}

/// What a session goes on with.
enum Next {
    End(End),
    Came(Vec<Delivery>),
}

/// What became of one delivery.
enum Fate {
    Event(Entry),
    /// It has been in this log before.
    Looped,
    /// It cannot be taken in: kept as it came.
    Unreadable(Entry),
    /// It cannot even be kept.
    Refused(Error),
}

/// Resolves when it is so. A sender that is gone changes nothing any more.
async fn becomes(paused: &mut watch::Receiver<bool>, wanted: bool) {
    if paused.wait_for(|paused| *paused == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Session {
    /// Runs until the application closes.
    pub(crate) async fn run(self) {
        loop {
            let ended = match self.until_resumed().await {
                End::Closing => return,
                End::Paused => self.follow().await,
            };
            let error = match ended {
                Ok(End::Closing) => return,
                Ok(End::Paused) => continue,
                Err(error) => error,
            };
            self.gauge.holds(0);
            self.pause_after(&error).await;
        }
    }

    /// Waits for longer the more often in a row something failed, but not for whoever wants to end it.
    async fn pause_after(&self, error: &Error) {
        let clock = &self.shared.press.host.clock;
        let pause = self.gauge.fails(error, &**clock);
        let mut paused = self.gauge.paused.subscribe();
        tokio::select! {
            biased;
            () = self.shared.closed() => {}
            () = becomes(&mut paused, true) => {}
            () = clock.sleep(pause) => {}
        }
    }

    /// Waits until the broker answers again, or there is another reason to end. The member stays: it reconnects by itself, and a member
    /// that leaves while it cannot say so is waited for by its group.
    async fn outlast(&self, mut error: Error, consume: &Consume) -> Result<Option<End>, Error> {
        loop {
            self.pause_after(&error).await;
            if self.shared.closed().now_or_never().is_some() {
                return Ok(Some(End::Closing));
            }
            if self.gauge.is_paused() {
                return Ok(Some(End::Paused));
            }
            match self.declare(consume).await {
                Ok(()) => {
                    self.gauge.works(self.shared.press.host.clock.now());
                    return Ok(None);
                }
                Err(again) if again.is_retryable() => error = again,
                Err(other) => return Err(other),
            }
        }
    }

    /// That the broker cannot say it now stops nobody.
    async fn look_at_lag(&self, consumer: &mut dyn Consumer) {
        match consumer.lag().await {
            Ok(lag) => self.gauge.lags(lag),
            Err(error) => self.gauge.troubled(&error, self.shared.press.host.clock.now()),
        }
    }

    /// Waits while it is paused. `Paused` says that it is over.
    async fn until_resumed(&self) -> End {
        let mut paused = self.gauge.paused.subscribe();
        if *paused.borrow() {
            self.gauge.is_in(LinkState::Paused, self.shared.press.host.clock.now());
        }
        tokio::select! {
            biased;
            () = self.shared.closed() => End::Closing,
            () = becomes(&mut paused, false) => End::Paused,
        }
    }

    async fn follow(&self) -> Result<End, Error> {
        let log = LogId::of(&self.shared).await?;
        let consume = self.consume(&log)?;
        self.gauge.joined(consume.group.as_str());
        self.declare(&consume).await?;
        let mut consumer = self.bus.consume(consume.clone()).await?;
        let clock = &self.shared.press.host.clock;
        self.gauge.works(clock.now());
        let (mut came, mut taken) = (Vec::new(), Vec::new());
        let mut lag_due = clock.now();
        loop {
            if came.is_empty() {
                self.settle(&mut *consumer, std::mem::take(&mut taken)).await;
                self.gauge.holds(0);
                self.check_room()?;
                if clock.now() >= lag_due {
                    self.look_at_lag(&mut *consumer).await;
                    lag_due = clock.now() + LAG_EVERY;
                }
                match self.next(&mut *consumer).await {
                    Ok(Next::End(end)) => return Ok(end),
                    Ok(Next::Came(deliveries)) => came = deliveries,
                    Err(error) if error.is_retryable() => {
                        if let Some(end) = self.outlast(error, &consume).await? {
                            return Ok(end);
                        }
                    }
                    Err(error) => return Err(error),
                }
                if came.is_empty() {
                    continue;
                }
            }
            self.gauge.works(clock.now());
            self.gauge.holds(came.len());
            // Whoever wants something else of this session is heard when nothing is on its way.
            let ahead = if self.is_wanted() || clock.now() >= lag_due { 0 } else { self.batch };
            (taken, came) = self.pass(&mut *consumer, taken, came, ahead, &log).await?;
        }
    }

    /// Waits for what comes next. Empty where something else had to be done.
    async fn next(&self, consumer: &mut dyn Consumer) -> Result<Next, Error> {
        let mut paused = self.gauge.paused.subscribe();
        tokio::select! {
            biased;
            () = self.shared.closed() => Ok(Next::End(End::Closing)),
            () = becomes(&mut paused, true) => Ok(Next::End(End::Paused)),
            () = self.gauge.asked.notified() => {
                self.seek(consumer).await;
                Ok(Next::Came(Vec::new()))
            }
            deliveries = consumer.next(self.batch) => deliveries.map(Next::Came),
            () = self.shared.press.host.clock.sleep(LAG_EVERY) => Ok(Next::Came(Vec::new())),
        }
    }

    /// Whether the application closes, or somebody asked for a pause or another place.
    fn is_wanted(&self) -> bool {
        self.shared.closed().now_or_never().is_some()
            || self.gauge.is_paused()
            || lock(&self.gauge.seek).is_some()
    }

    /// Takes in what came, and beside it settles what was taken in before and then waits for as many more, so that log and broker work at
    /// the same time. Gives what is to be settled, and what came meanwhile.
    async fn pass(
        &self,
        consumer: &mut dyn Consumer,
        taken_before: Vec<Settled>,
        came: Vec<Delivery>,
        ahead: usize,
        log: &LogId,
    ) -> Result<(Vec<Settled>, Vec<Delivery>), Error> {
        let mut taking = pin!(self.take_in(came, log));
        let taken = {
            let mut settling = pin!(self.settle(consumer, taken_before));
            match select(&mut taking, &mut settling).await {
                // What is being settled is not left in the middle.
                Either::Left((taken, _)) => {
                    settling.await;
                    Some(taken?)
                }
                Either::Right(((), _)) => None,
            }
        };
        if let Some(taken) = taken {
            return Ok((taken, Vec::new()));
        }
        let more = async { if ahead == 0 { pending().await } else { consumer.next(ahead).await } };
        match select(&mut taking, pin!(more)).await {
            Either::Left((taken, _)) => Ok((taken?, Vec::new())),
            Either::Right((Ok(more), _)) => Ok((taking.await?, more)),
            Either::Right((Err(error), _)) if error.is_retryable() => {
                self.gauge.troubled(&error, self.shared.press.host.clock.now());
                Ok((taking.await?, Vec::new()))
            }
            Either::Right((Err(error), _)) => Err(error),
        }
    }

    /// What could not be settled comes again, and is then recognised.
    async fn settle(&self, consumer: &mut dyn Consumer, taken: Vec<Settled>) {
        if taken.is_empty() {
            return;
        }
        let refused = consumer.settle(taken).await.into_iter().find_map(Result::err);
        if let Some(error) = refused {
            self.gauge.troubled(&error, self.shared.press.host.clock.now());
        }
    }

    fn consume(&self, log: &LogId) -> Result<Consume, Error> {
        let group = self.group.clone().map_or_else(|| log.group(&self.gauge.link), Ok)?;
        Ok(Consume { group, from: self.gauge.channel.clone(), fed_by: self.fed_by.clone() })
    }

    async fn declare(&self, consume: &Consume) -> Result<(), Error> {
        let topology = Topology { targets: Vec::new(), sources: vec![consume.clone()] };
        let declared = self.bus.declare(&topology, self.declare).await?;
        match (self.declare, declared.missing.first()) {
            (Declare::DryRun, Some(missing)) => {
                Err(Error::new(Code::BUS_UNROUTABLE, format!("the broker has no {missing}")))
            }
            _ => Ok(()),
        }
    }

    /// Takes nothing more while there is no room for what cannot be read.
    fn check_room(&self) -> Result<(), Error> {
        let all = self.shared.board.all();
        let full = all
            .iter()
            .filter(|standing| standing.name == self.gauge.name)
            .find_map(|standing| standing.halted());
        full.map_or(Ok(()), Err)
    }

    async fn seek(&self, consumer: &mut dyn Consumer) {
        let Some((to, answer)) = lock(&self.gauge.seek).take() else { return };
        // Whoever asked may not wait any more.
        let _heard = answer.send(consumer.seek(to).await).is_ok();
    }

    async fn take_in(&self, deliveries: Vec<Delivery>, log: &LogId) -> Result<Vec<Settled>, Error> {
        let tokens: Vec<u64> = deliveries.iter().map(|delivery| delivery.token).collect();
        let came: Vec<Came> = deliveries.into_iter().map(Came::of).collect();
        let mut fates: Vec<Fate> =
            came.iter().enumerate().map(|(index, came)| self.fate_of(index, came, log)).collect();
        let admission = self.admit(&fates).await?;
        let mut again = Vec::new();
        for (index, error) in &admission.refused {
            if let (Some(fate), Some(came)) = (fates.get_mut(*index), came.get(*index)) {
                *fate = match fate {
                    // It was the message as it came that was too large.
                    Fate::Unreadable(_) => Fate::Refused(error.clone()),
                    _ => self.unreadable(*index, came, error),
                };
                again.push(*index);
            }
        }
        let kept: Vec<Entry> = again
            .iter()
            .filter_map(|index| match fates.get(*index) {
                Some(Fate::Unreadable(entry)) => Some(entry.clone()),
                _ => None,
            })
            .collect();
        let second = self.taking().take(&kept).await?;
        for (index, error) in &second.refused {
            if let Some(fate) = fates.get_mut(*index) {
                *fate = Fate::Refused(error.clone());
            }
        }
        let new: Vec<usize> = [admission.taken, second.taken].concat();
        self.count(&fates, &new, admission.duplicates + second.duplicates);
        Ok(fates.iter().zip(tokens).map(|(fate, token)| self.settled(fate, token)).collect())
    }

    fn taking(&self) -> Taking<'_> {
        Taking { shared: &self.shared, door: &self.door }
    }

    async fn admit(&self, fates: &[Fate]) -> Result<Admission, Error> {
        let entries: Vec<Entry> = fates
            .iter()
            .filter_map(|fate| match fate {
                Fate::Event(entry) | Fate::Unreadable(entry) => Some(entry.clone()),
                Fate::Looped | Fate::Refused(_) => None,
            })
            .collect();
        self.taking().take(&entries).await
    }

    fn fate_of(&self, index: usize, came: &Came, log: &LogId) -> Fate {
        let read = self.reader.read(came, &self.shared.registry, self.shared.press.host.clock.now());
        let read = read.and_then(|(stream, envelope)| {
            self.shared.inline.refuse(envelope.event_type.as_str())?;
            Ok((stream, envelope))
        });
        match read {
            Ok((_, envelope)) if log.has_had(&envelope) => Fate::Looped,
            Ok((stream, envelope)) => Fate::Event(Entry::new(index, stream, envelope)),
            Err(error) => self.unreadable(index, came, &error),
        }
    }

    fn unreadable(&self, index: usize, came: &Came, error: &Error) -> Fate {
        let now = self.shared.press.host.clock.now();
        self.gauge.troubled(error, now);
        match parked::keep(came, &self.gauge.name, error, now) {
            Ok((stream, envelope)) => Fate::Unreadable(Entry::new(index, stream, envelope)),
            Err(error) => Fate::Refused(error),
        }
    }

    fn settled(&self, fate: &Fate, token: u64) -> Settled {
        match fate {
            Fate::Event(_) | Fate::Looped | Fate::Unreadable(_) => Settled::Ack(token),
            Fate::Refused(error) => {
                self.gauge.troubled(error, self.shared.press.host.clock.now());
                // Where there are no dead letters, what is refused would be gone.
                if self.bus.capabilities().has_dead_letters {
                    Settled::Reject(token, error.to_string())
                } else {
                    Settled::Nack(token, STUCK_PAUSE)
                }
            }
        }
    }

    fn count(&self, fates: &[Fate], new: &[usize], duplicates: u64) {
        let of = |wanted: fn(&Fate) -> bool| {
            new.iter().filter_map(|index| fates.get(*index)).filter(|fate| wanted(fate)).count() as u64
        };
        let looped = fates.iter().filter(|fate| matches!(fate, Fate::Looped)).count() as u64;
        self.gauge.count(|counts| {
            counts.passed += of(|fate| matches!(fate, Fate::Event(_)));
            counts.unreadable += of(|fate| matches!(fate, Fate::Unreadable(_)));
            counts.duplicates += duplicates;
            counts.looped += looped;
        });
    }
}
