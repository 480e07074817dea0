//! Asking the server for messages ahead of need: while those of one request are worked on, those of the next are on their way.

use std::error::Error as StdError;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::context::Context;
use async_nats::{StatusCode, Subject, Subscriber};
use futures_util::StreamExt;

use crate::client::{Durable, Link};

/// How long the server keeps a request open. It is lost when the connection breaks, so it is short.
pub(crate) const OPEN_FOR: Duration = Duration::from_secs(1);

/// How many messages a request has left that has ended.
const LEFT: &str = "Nats-Pending-Messages";

type Cause = Box<dyn StdError + Send + Sync>;

/// Requests to one consumer, and what comes of them.
///
/// All is sent to one inbox, where it comes in order. The server serves open requests in turn, so that with an inbox for each the order
/// would be lost.
pub(crate) struct Pulls {
    context: Context,
    consumer: Durable,
    inbox: Subject,
    came: Subscriber,
    /// Messages that were asked for, have not come, and may still do so.
    due: usize,
}

impl Pulls {
    pub(crate) async fn of(link: &Link, consumer: Durable) -> Result<Self, Cause> {
        let inbox = Subject::from(link.client.new_inbox());
        let came = link.client.subscribe(inbox.clone()).await?;
        Ok(Self { context: link.context.clone(), consumer, inbox, came, due: 0 })
    }

    /// Has as many under way as are wanted at once, and as many again behind them. Who wants one at a time gets one at a time.
    pub(crate) async fn ask(&mut self, wanted: usize) -> Result<(), Cause> {
        let due_max = if wanted == 1 { 1 } else { wanted.saturating_mul(2) };
        while self.due.saturating_add(wanted) <= due_max {
            let request = BatchConfig { batch: wanted, expires: Some(OPEN_FOR), ..BatchConfig::default() };
            self.consumer.request_batch(request, self.inbox.clone()).await?;
            self.due += wanted;
        }
        Ok(())
    }

    /// Waits for the next message; `None` where there will be none before something is asked for. Loses nothing when dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, Cause> {
        while self.due > 0 {
            let Some(message) = self.came.next().await else { return Err("the connection is closed".into()) };
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.due -= 1;
                    return Ok(Some(Message { context: self.context.clone(), message }));
                }
                Some(StatusCode::TIMEOUT) => {
                    let left = message.headers.as_ref().and_then(|headers| headers.get(LEFT));
                    let left = left.and_then(|left| left.as_str().parse().ok());
                    self.due = self.due.saturating_sub(left.unwrap_or(self.due));
                }
                Some(status) => {
                    let why = message.description.as_deref().unwrap_or("without a reason");
                    return Err(format!("the server ended a request: {status} {why}").into());
                }
            }
        }
        Ok(None)
    }
}
