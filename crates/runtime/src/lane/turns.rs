//! A lane that takes turns between the values of a tag: one batch of one value, then the next value.

use std::time::Duration;

use ensue_core::{Error, Position, Query, QueryItem, Read, Recorded, Tag};
use futures_util::TryStreamExt;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::fair::{Fair, Next, Skipped};
use super::{Halt, Lane, Work};
use crate::pressure::value_of;
use crate::spaces;

impl Lane {
    /// Works until nothing waits and nothing more will come. What operators ask for goes before the next turn.
    pub(super) async fn take_turns(
        &mut self,
        fair: &Fair,
        mut work: mpsc::Receiver<Work>,
    ) -> Result<(), Halt> {
        loop {
            let is_over = match work.try_recv() {
                Ok(asked) => {
                    self.answer(asked).await?;
                    continue;
                }
                Err(why) => why == TryRecvError::Disconnected,
            };
            let now = self.subscription.shared.press.host.clock.monotonic();
            match fair.next(now, self.subscription.settings.batch) {
                Next::Turn(events) => {
                    self.work_through(&events).await?;
                    fair.end_turn();
                }
                Next::Read(skipped) => self.read_again(fair, &skipped).await?,
                Next::Rest(pause) if is_over => self.pause(pause).await?,
                Next::Rest(pause) => self.rest(pause, &mut work).await?,
                Next::Nothing if is_over => return Ok(()),
                Next::Nothing => match work.recv().await {
                    Some(asked) => self.answer(asked).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    pub(super) async fn answer(&mut self, asked: Work) -> Result<(), Halt> {
        match asked {
            Work::Redrive(key) => self.redrive(&key).await,
            Work::Advance(position) => self.move_on(position).await,
            Work::Events(events) => self.work_through(&events).await,
            Work::Turns => Ok(()),
        }
    }

    /// Waits for the first value that may go on, or for something to come.
    async fn rest(&mut self, pause: Duration, work: &mut mpsc::Receiver<Work>) -> Result<(), Halt> {
        let asked = tokio::select! {
            biased;
            asked = work.recv() => asked,
            rested = self.pause(pause) => return rested,
        };
        self.subscription.standing.pause(usize::from(self.number), false);
        match asked {
            Some(asked) => self.answer(asked).await,
            None => Ok(()),
        }
    }

    /// What remains of a turn that has found no room gives way to other values.
    pub(super) fn gives_way(&self, rest: &[Recorded], wait: Duration) -> bool {
        let Some(fair) = &self.fair else { return false };
        let now = self.subscription.shared.press.host.clock.monotonic();
        fair.put_back(rest, now.saturating_add(wait));
        true
    }

    /// The checkpoint and the record that a settlement up to here moves, and nothing of other values.
    pub(super) fn low_mark(&self, up_to: Position) -> (Position, Option<ensue_core::RecordWrite>) {
        match &self.fair {
            Some(fair) => fair.plan(&self.checkpoint, up_to),
            None => (up_to, None),
        }
    }

    async fn read_again(&self, fair: &Fair, skipped: &Skipped) -> Result<(), Halt> {
        let events = self.until_read(|| self.events_of(skipped)).await?;
        fair.put(skipped, events, usize::from(self.number), &self.subscription.standing);
        Ok(())
    }

    async fn events_of(&self, skipped: &Skipped) -> Result<Vec<Recorded>, Error> {
        let Skipped { tag, value, after, until, limit } = skipped;
        let types = self.subscription.handler.types();
        let tags = if value.is_empty() { Vec::new() } else { vec![Tag::new(tag, value)?] };
        let query = Query { items: vec![QueryItem { types, tags }] };
        let mut events = self.subscription.shared.store.read(Read::query(query).after(*after).until(*until));
        let mut found = Vec::new();
        while found.len() < *limit
            && let Some(recorded) = events.try_next().await?
        {
            let is_of_value = value_of(&recorded.envelope, tag) == value;
            if is_of_value && spaces::spread(self.key(&recorded), self.lanes) == self.number {
                found.push(recorded);
            }
        }
        Ok(found)
    }
}
