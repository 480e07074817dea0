//! Stands in for a handler in a fork: answers from the record, runs the code only where that was asked for.

use std::sync::Arc;

use ensue_core::{BoxFuture, Error, EventType, Recorded, Topic};

use super::FlowRecord;
use crate::catalogue::HandlerKind;
use crate::effects::Effects;
use crate::subscription::{Handled, Handler};

struct StandIn {
    name: String,
    inner: Arc<dyn Handler>,
    record: Arc<FlowRecord>,
}

impl FlowRecord {
    /// The handler as it is mounted in a fork. The code of sagas runs: it decides and makes no effects.
    pub(crate) fn stand_in(
        self: &Arc<Self>,
        name: &str,
        kind: HandlerKind,
        inner: Arc<dyn Handler>,
    ) -> Arc<dyn Handler> {
        if kind == HandlerKind::Saga || self.runs(name) {
            return inner;
        }
        Arc::new(StandIn { name: name.to_owned(), inner, record: Arc::clone(self) })
    }
}

impl Handler for StandIn {
    fn types(&self) -> Vec<EventType> {
        self.inner.types()
    }

    fn topic(&self) -> Option<&Topic> {
        self.inner.topic()
    }

    fn key<'a>(&self, recorded: &'a Recorded) -> &'a str {
        self.inner.key(recorded)
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.prepare()
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], _attempt: u32) -> BoxFuture<'a, Handled> {
        let mut handled = Handled { count: batch.len(), ..Handled::default() };
        for recorded in batch {
            match self.record.answer(&self.name, recorded) {
                Some(appends) => handled.effects.absorb(Effects { appends, ..Effects::default() }),
                None => self.record.suppress(&self.name, recorded),
            }
        }
        Box::pin(std::future::ready(handled))
    }
}
