//! One member of a group of a broker in memory.

use std::time::Duration;

use ensue_core::bus::{Bus, Consume, Consumer, Delivery, Seek, Settled};
use ensue_core::{BoxFuture, Code, Error};
use smol_str::format_smolstr;

use super::MemoryBus;
use super::group::Handed;

/// How long a member that has nothing to wait for sleeps.
const IDLE: Duration = Duration::from_hours(1);

/// See [`Consumer`].
pub(super) struct Member {
    bus: MemoryBus,
    consume: Consume,
    id: u64,
}

impl Member {
    pub(super) fn new(bus: MemoryBus, consume: Consume, id: u64) -> Self {
        Self { bus, consume, id }
    }

    fn now(&self) -> Duration {
        self.bus.broker.host.clock.monotonic()
    }

    /// What is due, or how long to wait.
    fn look(&self, max: usize) -> Result<Vec<Delivery>, Duration> {
        let (now, mut state) = (self.now(), self.bus.broker.lock());
        if state.luck.is_paused {
            return Err(IDLE);
        }
        let Some((group, stored, luck, last_token)) = state.group(&self.consume) else { return Err(IDLE) };
        let capabilities = &self.bus.capabilities;
        let handed = group.hand_out(stored, (self.id, max), now, capabilities, (luck, last_token));
        if handed.is_empty() {
            return Err(group.next_due(now).unwrap_or(IDLE));
        }
        Ok(handed.into_iter().map(|handed| self.delivery(handed)).collect())
    }

    fn delivery(&self, handed: Handed) -> Delivery {
        let Handed { token, index, attempt, stored } = handed;
        let attempt = if self.bus.capabilities.can_count_attempts { attempt } else { 1 };
        let place =
            self.bus.capabilities.can_replay.then(|| format_smolstr!("{}#{index}", self.consume.from));
        Delivery {
            token,
            from: self.consume.from.clone(),
            key: stored.key,
            attempt,
            published_at: Some(stored.published_at),
            place,
            message: stored.message,
        }
    }

    fn settle_one(&self, settled: &Settled) -> Result<(), Error> {
        let (now, mut state) = (self.now(), self.bus.broker.lock());
        if state.luck.is_down {
            return Err(Error::new(Code::BUS_UNREACHABLE, "the broker in memory is down"));
        }
        let can = &self.bus.capabilities;
        if matches!(settled, Settled::Reject(..)) && !can.can_reject {
            return Err(Error::new(Code::UNSUPPORTED, "the broker in memory has no dead letters"));
        }
        let late = || Error::new(Code::BUS_TOO_LATE, "the delivery is not open any more");
        let (group, _, luck, _) = state.group(&self.consume).ok_or_else(late)?;
        if luck.loses_settlement() {
            return Err(Error::new(Code::BUS_TIMEOUT, "the settlement was lost on request"));
        }
        let done = match settled {
            Settled::Ack(token) | Settled::Reject(token, _) => group.close(*token, self.id),
            Settled::Nack(token, delay) => {
                let due = if can.can_delay { now.saturating_add(*delay) } else { now };
                group.put_back(*token, self.id, due)
            }
        };
        done.ok_or_else(late)
    }
}

impl Consumer for Member {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(async move {
            loop {
                let changed = self.bus.broker.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                self.bus.reach().await?;
                match self.look(max.max(1)) {
                    Ok(deliveries) => return Ok(deliveries),
                    Err(wait) => tokio::select! {
                        () = changed => {}
                        () = self.bus.broker.host.clock.sleep(wait) => {}
                    },
                }
            }
        })
    }

    fn settle(&mut self, settled: Vec<Settled>) -> BoxFuture<'_, Vec<Result<(), Error>>> {
        Box::pin(async move {
            let answers = settled.iter().map(|settled| self.settle_one(settled)).collect();
            self.bus.broker.changed.notify_waiters();
            answers
        })
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.bus.reach().await?;
            if !self.bus.capabilities().can_seek {
                return Err(Error::new(Code::UNSUPPORTED, "the broker in memory keeps no history"));
            }
            if let Some((group, stored, _, _)) = self.bus.broker.lock().group(&self.consume) {
                group.seek(to, stored);
            }
            self.bus.broker.changed.notify_waiters();
            Ok(())
        })
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, Error>> {
        Box::pin(async move {
            self.bus.reach().await?;
            if !self.bus.capabilities.can_count_waiting {
                return Ok(None);
            }
            let mut state = self.bus.broker.lock();
            Ok(state.group(&self.consume).map(|(group, stored, _, _)| group.unsettled(stored) as u64))
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.bus.broker.lock().leave(&self.consume, self.id);
        self.bus.broker.changed.notify_waiters();
    }
}
