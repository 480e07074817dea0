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

use super::desired;
use super::fate::Sorted;
use super::gauge::Gauge;
use super::log_id::LogId;
use super::read::Reader;
use super::status::LinkState;
use crate::door::Door;
use crate::progress::lock;
use crate::subscription::Shared;

/// How often the broker is asked how much waits.
const LAG_EVERY: Duration = Duration::from_secs(5);
/// When a message comes again that could neither be taken in nor kept nor refused.
pub(super) const STUCK_PAUSE: Duration = Duration::from_secs(30);

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

/// Resolves when it is so. A sender that is gone changes nothing any more.
pub(super) async fn becomes(paused: &mut watch::Receiver<bool>, wanted: bool) {
    if paused.wait_for(|paused| *paused == wanted).await.is_err() {
        pending::<()>().await;
    }
}

/// Resolves when it was set again. A sender that is gone sets nothing any more.
pub(super) async fn changes(paused: &mut watch::Receiver<bool>) {
    if paused.changed().await.is_err() {
        pending::<()>().await;
    }
}

impl Session {
    /// Runs until the application closes.
    pub(crate) async fn run(self) {
        self.heed_first().await;
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

    /// Nothing moves before it is known whether anything is to.
    async fn heed_first(&self) {
        while let Err(error) = desired::heed_first(&self.shared, &self.gauge).await {
            self.pause_after(&error).await;
            if self.shared.closed().now_or_never().is_some() {
                return;
            }
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

    /// That the broker cannot say it now stops nobody, but one that is away is not waited for in silence.
    async fn look_at_lag(&self, consumer: &mut dyn Consumer) {
        let clock = &self.shared.press.host.clock;
        match consumer.lag().await {
            Ok(lag) => {
                self.gauge.lags(lag);
                self.gauge.works(clock.now());
            }
            Err(error) if error.code() == Code::BUS_UNREACHABLE => {
                self.gauge.fails(&error, &**clock);
            }
            Err(error) => self.gauge.troubled(&error, clock.now()),
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
        let (mut sorted, mut taken) = (Sorted::default(), Vec::new());
        let mut lag_due = clock.now();
        loop {
            if sorted.is_empty() {
                self.settle(&mut *consumer, std::mem::take(&mut taken)).await;
                self.gauge.holds(0);
                self.check_room()?;
                if clock.now() >= lag_due {
                    self.look_at_lag(&mut *consumer).await;
                    lag_due = clock.now() + LAG_EVERY;
                }
                match self.next(&mut *consumer).await {
                    Ok(Next::End(end)) => return Ok(end),
                    Ok(Next::Came(deliveries)) => sorted = self.sort(deliveries, &log),
                    Err(error) if error.is_retryable() => {
                        if let Some(end) = self.outlast(error, &consume).await? {
                            return Ok(end);
                        }
                    }
                    Err(error) => return Err(error),
                }
                if sorted.is_empty() {
                    continue;
                }
            }
            self.gauge.works(clock.now());
            self.gauge.holds(sorted.len());
            // Whoever wants something else of this session is heard when nothing is on its way.
            let is_wanted = self.is_wanted() || clock.now() >= lag_due || self.check_room().is_err();
            let ahead = if is_wanted { 0 } else { self.batch };
            (taken, sorted) = self.pass(&mut *consumer, taken, sorted, ahead, &log).await?;
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

    /// Takes in what came, and beside it settles what was taken in before, waits for as many more and reads those, so that log, broker and
    /// this process work at the same time. Gives what is to be settled, and what came meanwhile.
    async fn pass(
        &self,
        consumer: &mut dyn Consumer,
        taken_before: Vec<Settled>,
        sorted: Sorted,
        ahead: usize,
        log: &LogId,
    ) -> Result<(Vec<Settled>, Sorted), Error> {
        let mut taking = pin!(self.take_in(sorted));
        let (taken, mut more) = {
            let beside = pin!(self.settle_and_read(consumer, taken_before, ahead, log));
            match select(&mut taking, beside).await {
                // What is being settled is not left in the middle.
                Either::Left((taken, beside)) => (Some(taken), beside.await?),
                Either::Right((more, _)) => (None, more?),
            }
        };
        let taken = match taken {
            Some(taken) => taken?,
            None if ahead > 0 && more.is_empty() => match select(&mut taking, consumer.next(ahead)).await {
                // Nothing is waited for any more.
                Either::Left((taken, _)) => taken?,
                Either::Right((came, _)) => {
                    more = self.ahead_of(Some(came), log)?;
                    taking.await?
                }
            },
            None => taking.await?,
        };
        Ok((taken, more))
    }

    /// Settles what was taken in. What has come already is read while the broker settles.
    async fn settle_and_read(
        &self,
        consumer: &mut dyn Consumer,
        taken: Vec<Settled>,
        ahead: usize,
        log: &LogId,
    ) -> Result<Sorted, Error> {
        let came = if ahead == 0 { None } else { consumer.next(ahead).now_or_never() };
        let mut settling = pin!(self.settle(consumer, taken));
        let settled = (&mut settling).now_or_never();
        let more = self.ahead_of(came, log);
        if settled.is_none() {
            settling.await;
        }
        more
    }

    /// Reads what came ahead. That the broker is away at the moment is seen when nothing else is left to do.
    fn ahead_of(&self, came: Option<Result<Vec<Delivery>, Error>>, log: &LogId) -> Result<Sorted, Error> {
        match came {
            Some(Ok(deliveries)) => Ok(self.sort(deliveries, log)),
            Some(Err(error)) if error.is_retryable() => {
                self.gauge.troubled(&error, self.shared.press.host.clock.now());
                Ok(Sorted::default())
            }
            Some(Err(error)) => Err(error),
            None => Ok(Sorted::default()),
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
}
