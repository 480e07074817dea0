//! A schedule as the lanes run it: a reaction that is given the ticks of its own schedule.

use std::sync::Arc;

use ensue_core::{BoxFuture, EventType, Recorded};

use crate::subscription::{Handled, Handler};

/// The name that the checkpoints of a schedule go by.
pub(crate) fn subscription_name(schedule: &str) -> String {
    format!("schedule.{schedule}")
}

/// The reaction of one schedule.
pub(crate) struct TicksOf {
    pub(crate) schedule: String,
    pub(crate) reaction: Arc<dyn Handler>,
}

impl TicksOf {
    fn is_mine(&self, recorded: &Recorded) -> bool {
        recorded.stream.key.as_str() == self.schedule
    }
}

impl Handler for TicksOf {
    fn types(&self) -> Vec<EventType> {
        self.reaction.types()
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], attempt: u32) -> BoxFuture<'a, Handled> {
        let mine = batch.iter().take_while(|recorded| self.is_mine(recorded)).count();
        if let Some((mine, _)) = batch.split_at_checked(mine).filter(|(mine, _)| !mine.is_empty()) {
            return self.reaction.work(mine, attempt);
        }
        let count = batch.iter().take_while(|recorded| !self.is_mine(recorded)).count();
        Box::pin(std::future::ready(Handled { count, ..Handled::default() }))
    }
}
